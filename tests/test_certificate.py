"""The certificate: bounds by a few answers, valid whatever the model believes, and its sheets."""

import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch
from pyarrow import csv, parquet
from scipy.special import betaln
from test_posterior import pretend

from datablame import InputError, Run, verbs
from datablame.analyses.certificate import Answer, Drawing, certificate
from datablame.base import arrays, readers
from datablame.label_quality import stratified
from datablame.label_quality.stratified import bounds, shares, strata
from datablame.verdict import DROP, FIX


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    labels, truth, log = pretend(rows=2000, classes=5, wrong=0.15)
    images = np.zeros((2000, 1, 2, 2), "uint8")
    out = tmp_path_factory.mktemp("certified")
    run = Run.from_predictions(labels, log.exp(), images=images, classes="abcde", out=out)
    verbs.judge(run)
    return run, truth


def knowing(run, truth):
    return lambda facts: run.data.classes[int(truth[facts["row"]])]


def mixed(hits, draws, expected):
    """Log evidence of the mixture, from its definition: the mean of products of Beta integrals."""
    total = 0.0
    for odds, weight in [*stratified.DOUBTS.items(), (None, 0.2)]:
        product = 1.0
        for hit, drawn, share in zip(hits, draws, expected, strict=True):
            ratio = 0 if odds is None else odds * share / (1 - share)
            mean = 0.5 if odds is None else min(max(ratio / (1 + ratio), 0.002), 0.998)
            trust = 1.0 if odds is None else stratified.TRUST
            yes, no = trust * mean, trust * (1 - mean)
            product *= math.exp(betaln(yes + hit, no + drawn - hit) - betaln(yes, no))
        total += weight * product
    return math.log(total)


def test_bounds_are_those_of_a_search_over_all_shares():
    generator = np.random.default_rng(0)
    grid = np.linspace(0, 1, 801)
    for turn in range(24):
        sizes = generator.integers(20, 2000, 2).astype(float)
        draws = generator.integers(0, 40, 2).astype(float)
        hits = np.floor(generator.random(2) ** 3 * (draws + 1)).clip(0, draws)
        hits[0] = draws[0] if turn % 2 else hits[0]  # all of a stratum are hits
        expected = generator.random(2)
        log = mixed(hits, draws, expected)
        shares = np.meshgrid(grid, grid)
        with np.errstate(divide="ignore", invalid="ignore"):
            for k, share in enumerate(shares):
                log = log - np.where(hits[k] > 0, hits[k] * np.log(share), 0)
                missed = draws[k] - hits[k]
                log = log - np.where(missed > 0, missed * np.log1p(-share), 0)
        among = (sizes[0] * shares[0] + sizes[1] * shares[1])[log < np.log(20)]
        low, high = bounds(hits, draws, sizes, expected)
        assert low == pytest.approx(among.min(), abs=2e-3 * sizes.sum())
        assert high == pytest.approx(among.max(), abs=2e-3 * sizes.sum())


def test_after_no_answer_nothing_is_known():
    nothing = np.zeros(2)
    assert bounds(nothing, nothing, np.array([30.0, 70.0]), np.array([0.1, 0.5])) == (0.0, 100.0)


@pytest.mark.parametrize("world", ["as foretold", "all where none is expected", "none", "all"])
def test_the_interval_holds_at_all_moments_whatever_the_model_believes(world):
    """60 sequences of 120 answers, looked at after each twentieth: in hardly any does the interval
    ever miss.
    """
    generator = np.random.default_rng(1)
    q = np.sort(generator.beta(0.3, 2.0, 1000))
    wrong = {
        "as foretold": generator.random(1000) < q,
        "all where none is expected": np.arange(1000) < 100,
        "none": np.zeros(1000, bool),
        "all": np.ones(1000, bool),
    }[world]
    where = strata(q)
    sizes = np.bincount(where).astype(float)
    expected = np.bincount(where, q) / sizes
    rate = np.bincount(where, wrong) / sizes
    missed = 0
    for _ in range(60):
        stratum = generator.choice(len(sizes), 120, p=shares(sizes, expected))
        hit = generator.random(120) < rate[stratum]
        for count in range(20, 121, 20):
            some = stratum[:count]
            draws = np.bincount(some, minlength=len(sizes)).astype(float)
            hits = np.bincount(some, hit[:count], minlength=len(sizes))
            low, high = bounds(hits, draws, sizes, expected)
            if not low - 1e-6 <= wrong.sum() <= high + 1e-6:
                missed += 1
                break
    assert missed <= 5


def test_drawing_by_doubt_is_narrower_than_drawing_evenly():
    generator = np.random.default_rng(2)
    q = np.where(generator.random(4000) < 0.12, generator.beta(6, 1.5, 4000), 0.01)
    wrong = generator.random(4000) < q
    width = {}
    for name, belief in (("doubt", q), ("even", np.full(4000, 0.5))):
        where = strata(belief)
        sizes = np.bincount(where).astype(float)
        expected = np.bincount(where, belief) / sizes
        rate = np.bincount(where, wrong) / sizes
        draws = np.round(200 * shares(sizes, expected))
        low, high = bounds(np.round(draws * rate), draws, sizes, expected)
        width[name] = high - low
    assert width["doubt"] < 0.8 * width["even"]


def test_a_clean_set_costs_no_width_for_what_the_model_believes():
    """200 answers, none of them wrong: about as narrow as if nothing had been believed."""
    q = np.sort(np.random.default_rng(3).beta(0.5, 8.0, 3000))
    where = strata(q)
    sizes = np.bincount(where).astype(float)
    expected = np.bincount(where, q) / sizes
    draws = np.round(200 * shares(sizes, expected))
    _, high = bounds(np.zeros(len(sizes)), draws, sizes, expected)
    evidence = betaln(0.5, 200.5) - betaln(0.5, 0.5)
    evenly = 3000 * -math.expm1((evidence - math.log(20)) / 200)
    assert high < 1.4 * evenly


def test_draws_are_by_seed_and_go_on(judged):
    run, _ = judged
    drawing = Drawing.of(run)
    assert np.array_equal(drawing.rows(50), drawing.rows(200)[:50])
    assert np.array_equal(drawing.images(50), drawing.images(150)[:50])
    assert len(np.unique(drawing.images(150))) == 150
    assert len(drawing.images(10_000)) == 2000, "all images, where more are asked for"
    share = np.bincount(drawing.stratum[drawing.rows(20_000)]) / 20_000
    assert np.allclose(share, drawing.share, atol=0.02)
    assert not np.array_equal(dataclasses.replace(drawing, seed=1).rows(50), drawing.rows(50))


def test_answers_bound_the_wrong_labels(judged):
    run, truth = judged
    real = int((run.data.labels != truth).sum())
    before = 2000
    for count in (50, 200, 600):
        found = verbs.certify(run, draw=count, ask=knowing(run, truth))
        low, high = found.interval
        assert low <= real <= high
        assert high - low < before
        before = high - low
        assert found.answers == count <= found.draws
        assert found.asked_twice == (count - 1) // 10
        assert found.disagreed == 0
    assert before < 0.5 * real
    cleaned = run.verdict.apply(run.data)
    kept = run.verdict.act != DROP
    left = int((cleaned.labels != truth[kept]).sum())
    assert left / len(cleaned) <= found.left < 0.2
    fix = run.verdict.act == FIX
    right = float((run.verdict.proposed == truth)[fix].float().mean())
    assert found.fix_right[0] <= right <= found.fix_right[1]
    assert abs(found.normal[0] - real) < 0.25 * real
    assert found.normal[2] - found.normal[1] < high - low
    assert run.to_json()["certificate"]["interval"] == list(found.interval)
    assert f"certified  between {low:,.0f} and {high:,.0f} of 2,000 labels" in run.card


def test_more_answers_are_foretold(judged):
    run, truth = judged
    first = verbs.certify(run, draw=100, ask=knowing(run, truth))
    later = verbs.certify(run, draw=100 + first.more, ask=knowing(run, truth))
    assert later.left == pytest.approx(first.left / 2, rel=0.5)


def test_people_who_err_make_it_wider(judged):
    run, truth = judged
    turn = iter(range(10_000))
    slips = verbs.certify(
        run,
        draw=200,
        ask=lambda facts: "e" if next(turn) % 7 == 0 else knowing(run, truth)(facts),
    )
    plain = verbs.certify(run, draw=200, ask=knowing(run, truth))
    assert slips.disagreed > 0
    assert slips.interval[1] - slips.interval[0] > plain.interval[1] - plain.interval[0]
    assert "were answered otherwise when asked twice" in str(slips)
    unsure = verbs.certify(
        run,
        draw=200,
        ask=lambda facts: "unsure" if facts["row"] % 9 == 0 else knowing(run, truth)(facts),
    )
    assert unsure.unsure > 0
    assert unsure.interval[0] <= plain.interval[0]
    assert unsure.interval[1] >= plain.interval[1]


def fill(path, run, truth, upto=None):
    table = csv.read_csv(path)
    rows = [int(name.rpartition("/")[2]) for name in table["name"].to_pylist()]
    words = [run.data.classes[int(truth[row])] for row in rows]
    words = [word if upto is None or place < upto else "" for place, word in enumerate(words)]
    return table.set_column(table.column_names.index("answer"), "answer", [words])


def answered_in_folders(run, truth, path):
    """What a person does with a folder: each picture is moved to that of its right class."""
    verbs.certify(run, draw=60, out=path)
    homes = {each.name for each in path.iterdir() if each.is_dir()}
    assert homes == {*"abcde", "right", "wrong", "unsure"}
    names = csv.read_csv(path / "sheet.csv")["name"].to_pylist()
    for number, name in enumerate(names, 1):
        picture = path / f"{number:05d}.png"
        picture.rename(path / "abcde"[int(truth[int(name.rpartition("/")[2])])] / picture.name)
    return verbs.certify(run, answers=path)


def test_bad_folders_are_sentences(judged, tmp_path):
    run, _ = judged
    path = verbs.certify(run, draw=20, out=tmp_path / "ask")
    with pytest.raises(InputError, match="has no answers yet"):
        verbs.certify(run, answers=path)
    first, second = (path / f"{number:05d}.png" for number in (1, 2))
    second.rename(path / "right" / second.name)
    with pytest.raises(InputError, match="has no answer, though later images"):
        verbs.certify(run, answers=path)
    first.rename(path / "unsure" / first.name)
    assert verbs.certify(run, answers=path).unsure == 1
    (path / "a" / first.name).write_bytes((path / "unsure" / first.name).read_bytes())
    with pytest.raises(InputError, match=r"00001\.png is in a and in unsure; leave it in one"):
        verbs.certify(run, answers=path)
    (path / "unsure" / first.name).unlink()
    (path / "a").rename(path / "rihgt")
    with pytest.raises(InputError, match=r"no folder of .* 'rihgt'; did you mean right"):
        verbs.certify(run, answers=path)
    (path / "rihgt" / first.name).unlink()
    with pytest.raises(InputError, match=r"00001\.png is gone"):
        verbs.certify(run, answers=path)
    (path / "sheet.csv").unlink()
    with pytest.raises(InputError, match="there is no sheet of answers"):
        verbs.certify(run, answers=path)


def test_a_sheet_is_filled_and_read(judged, tmp_path):
    run, truth = judged
    path = verbs.certify(run, draw=60, out=tmp_path / "ask.csv")
    csv.write_csv(fill(path, run, truth), path)
    found = verbs.certify(run, answers=path)
    assert found == verbs.certify(run, draw=60, ask=knowing(run, truth))
    csv.write_csv(fill(path, run, truth, upto=30), path)
    assert verbs.certify(run, answers=path).answers < 60, "who stops early has a certificate too"
    assert answered_in_folders(run, truth, tmp_path / "folders") == found
    again = verbs.certify(run, draw=60, out=tmp_path / "ask.parquet")
    table = parquet.read_table(again)
    assert table["image"][0].as_py().startswith(b"\x89PNG")
    assert table["name"].to_pylist() == csv.read_csv(path)["name"].to_pylist()


def test_bad_sheets_are_sentences(judged, tmp_path):
    run, truth = judged
    path = verbs.certify(run, draw=40, out=tmp_path / "ask.csv")
    whole = path.read_text().splitlines()
    full = tmp_path / "full.csv"
    csv.write_csv(fill(path, run, truth), full)
    lines = full.read_text().splitlines()

    def refused(rows, words):
        bad = tmp_path / "bad.csv"
        bad.write_text("\n".join(rows) + "\n")
        with pytest.raises(InputError, match=words):
            verbs.certify(run, answers=bad)

    refused(whole, "has no answers yet")
    refused([lines[0], lines[2], *lines[2:]], "a line is missing, stands twice or was moved")
    refused([*lines[:3], *lines[4:]], "a line is missing")
    refused([*lines[:3], lines[3].replace("train/", "other/"), *lines[4:]], "was not drawn here")
    refused([*lines[:3], whole[3], *lines[4:]], "has no answer, though later images")
    parts = lines[3].split(",")
    parts[4] = '"zebra"'
    refused([*lines[:3], ",".join(parts), *lines[4:]], r"answer in line 4 of .*'zebra'")
    refused(["a,b", "1,2"], "no column number, name, given, proposed, answer")
    with pytest.raises(InputError, match="there is no sheet of answers"):
        verbs.certify(run, answers=tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"name a \.csv or a \.parquet file, or a folder"):
        verbs.certify(run, draw=5, out=tmp_path / "ask.txt")
    with pytest.raises(InputError, match="another seed would be another certificate"):
        verbs.certify(run, draw=5, out=tmp_path / "seed.csv", seed=3)
    for given in ({}, {"draw": 5}, {"answers": path, "draw": 5}, {"out": tmp_path / "x.csv"}):
        with pytest.raises(InputError, match="draw images into a sheet"):
            verbs.certify(run, **given)


def test_a_sheet_that_cannot_be_written_draws_nothing(judged, tmp_path):
    run, _ = judged
    path = tmp_path / "run"
    shutil.copytree(run.path, path)
    (path / "certificate.safetensors").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"name a \.csv"):
        verbs.certify(path, draw=5, out=tmp_path / "ask.zip")
    assert not (path / "certificate.safetensors").exists()


def test_a_run_without_probabilities_is_judged_first(tmp_path):
    labels, _, log = pretend(rows=100)
    run = Run.from_predictions(labels, log.exp(), out=tmp_path)
    with pytest.raises(InputError, match="datablame judge"):
        verbs.certify(run, draw=5, out=tmp_path / "a.csv")


def test_a_drawing_that_does_not_fit_is_told(judged, tmp_path):
    run, _ = judged
    Drawing.of(run)
    path = tmp_path / "run"
    shutil.copytree(run.path, path)
    file = path / "certificate.safetensors"

    def refused(words, **changed):
        kept, facts = readers.read_tensors(run.path / "certificate.safetensors")
        kept = {name: value for name, value in (kept | changed).items() if value is not None}
        file.unlink()
        arrays.write_tensors(file, kept, facts)
        with pytest.raises(InputError, match=words):
            Drawing.of(Run(path))

    refused("of an older version", share=None)
    refused("not those of its strata", share=torch.tensor([0.5, 0.5], dtype=torch.float64))
    refused("not of 2,000 images", act=torch.zeros(3, dtype=torch.int8))


def test_a_verdict_that_changes_later_changes_no_draw(judged):
    run, truth = judged
    before = verbs.certify(run, draw=80, ask=knowing(run, truth))
    assert "of the cleaned set's at most" in run.to_json()["certificate"]["sentence"]
    verbs.judge(run, at="0.9")
    told = run.to_json()["certificate"]
    assert told["sentence"] == before.counted, "another verdict cleans another set"
    assert (told["left"], told["interval"]) == (None, list(before.interval))
    after = verbs.certify(run, draw=80, ask=knowing(run, truth))
    assert dataclasses.replace(after, standing=True) == before
    assert "nothing is said of the cleaned set" in str(after)
    verbs.judge(run)
    assert verbs.certify(run, draw=80, ask=knowing(run, truth)) == before, "the verdict of then"


def test_one_answer_is_a_certificate(judged):
    run, truth = judged
    drawing = Drawing.of(run)
    row = int(drawing.images(1)[0])
    found = certificate(drawing, [Answer(row, int(truth[row]))])
    assert found.interval[1] > 0.9 * 2000 or found.interval[0] == 0
    with pytest.raises(InputError, match="the first image that was drawn has no answer"):
        certificate(drawing, [Answer(int(drawing.images(2)[1]), 0)])
