"""Labels of several annotators: consensus, belief, the quality of each, who is asked next."""

import dataclasses
import json

import numpy as np
import pandas
import pyarrow as pa
import pytest
import torch
from conftest import blobs
from pyarrow import csv, parquet

import datablame as db
from datablame import InputError, cli
from datablame.analyses.annotators import _worth
from datablame.analyses.scoring import wanted
from datablame.data.annotators import annotated, consensus
from datablame.data.matching import matched, together
from datablame.data.noise_transition import (
    FEW,
    PULL,
    SHARED,
    effective,
    likelihood,
    transition,
)
from datablame.dataset import Dataset
from datablame.label_quality.posterior import posterior

CLASSES = 4


def crowd(rows=1200, wrong=(0.1, 0.25, 0.4), gaps=0.0, seed=0):
    """(labels [N,M] of annotators who err by themselves, right labels, a model's probabilities)."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, CLASSES, rows)
    votes = np.stack(
        [
            np.where(
                generator.random(rows) < share,
                (truth + generator.integers(1, CLASSES, rows)) % CLASSES,
                truth,
            )
            for share in wrong
        ],
        1,
    )
    votes[generator.random(votes.shape) < gaps] = -1
    nobody = (votes < 0).all(1)
    votes[nobody, 0] = truth[nobody]
    evidence = generator.normal(size=(rows, CLASSES)) + 1.5 * np.eye(CLASSES)[truth]
    p = torch.from_numpy(1.5 * evidence).softmax(1)
    return torch.from_numpy(votes), torch.from_numpy(truth), p


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    votes, truth, p = crowd(gaps=0.2)
    return db.find(votes, p, out=tmp_path_factory.mktemp("crowd")), truth


def reference(votes, rounds=200):
    """Dawid and Skene's algorithm as it is told, an example and an annotator at a time."""
    count, many = votes.shape
    wide = CLASSES
    even = lambda share: np.where(np.eye(wide) > 0, 1 - share, share / (wide - 1))  # noqa: E731
    matrices, prior = [even(0.1)] * many, np.full(wide, 1 / wide)
    for _ in range(rounds):
        belief = np.zeros((count, wide))
        for i in range(count):
            given = [m for m in range(many) if votes[i, m] >= 0]
            shrink = 1 + SHARED * (len(given) - 1)
            for k in range(wide):
                logs = [np.log(matrices[m][k, votes[i, m]]) for m in given]
                belief[i, k] = np.exp(np.log(prior[k]) + sum(logs) / shrink)
            belief[i] /= belief[i].sum()
        counts = np.zeros((many, wide, wide))
        for m in range(many):
            for i in range(count):
                if votes[i, m] >= 0:
                    counts[m, :, votes[i, m]] += belief[i]
        wrong = [counts[m].sum() - np.trace(counts[m]) for m in range(many)]
        rate = sum(wrong) / counts.sum()
        for m in range(many):
            share = (wrong[m] + FEW * rate) / (counts[m].sum() + FEW)
            pulled = counts[m] + PULL * wide * even(share)
            matrices[m] = pulled / pulled.sum(1, keepdims=True)
        prior = belief.mean(0)
    return belief, np.stack(matrices)


def test_without_a_model_it_is_dawid_and_skene():
    votes, _, _ = crowd(150, gaps=0.2)
    ours = transition(votes, [torch.zeros(150, CLASSES)])
    belief, matrices = reference(votes.numpy(), 60)
    assert np.abs(ours.belief.numpy() - belief).mean() < 0.01
    assert np.abs(ours.matrices.numpy() - matrices).max() < 0.03


def test_the_likelihood_of_a_table_by_hand():
    one = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    two = torch.tensor([[0.6, 0.4], [0.5, 0.5]])
    votes = torch.tensor([[0, 1], [1, -1], [-1, 0], [-1, -1]])
    log = likelihood(torch.stack([one, two]), votes, SHARED)
    both = torch.tensor([0.9 * 0.4, 0.2 * 0.5]).log() / (1 + SHARED)
    rows = [both, torch.tensor([0.1, 0.8]).log(), torch.tensor([0.6, 0.5]).log(), torch.zeros(2)]
    assert torch.allclose(log.float(), torch.stack(rows), atol=1e-6)
    counts = effective(torch.arange(6.0))
    assert counts[:2].tolist() == [0.0, 1.0]
    assert (counts.diff() > 0).all(), "another label is always something new"
    assert (counts.diff().diff() < 0).all(), "and ever less"


def test_who_errs_less_counts_for_more():
    votes, truth, p = crowd(wrong=(0.05, 0.5, 0.5))
    agreed, most = consensus(votes, CLASSES), votes.mode(1).values
    assert (agreed != truth).sum() < 0.8 * (most != truth).sum()
    with_model = transition(votes, [p.log()]).belief.argmax(1)
    assert (with_model != truth).sum() < (agreed != truth).sum()


def test_the_consensus_is_a_label_that_somebody_gave():
    votes, _, _ = crowd(400, gaps=0.6)
    agreed = consensus(votes, CLASSES)
    assert (votes == agreed[:, None]).any(1).all()
    alone = (votes >= 0).sum(1) == 1
    assert torch.equal(agreed[alone], votes.amax(1)[alone])


def set_of(votes, truth=None):
    data = dataclasses.replace(
        blobs(len(votes)), classes=tuple("abcd"), labels=votes.amax(1), truth=truth
    )
    return annotated(data, votes, ["ann", "bob", "cy"][: votes.shape[1]])


def test_labels_of_annotators_go_where_the_images_go(tmp_path):
    votes, truth, _ = crowd(90, gaps=0.3)
    data = set_of(votes, truth)
    some = data.take([5, 2, 80])
    assert torch.equal(some.votes, votes[[5, 2, 80]])
    train, test = data.holdout(0.2)
    whole = together(train, test)
    assert torch.equal(whole.votes, torch.cat([train.votes, test.votes]))
    data.save(tmp_path / "set")
    back = Dataset.restore(tmp_path / "set")
    assert torch.equal(back.votes, votes)
    assert back.annotators == ("ann", "bob", "cy")
    assert back.fingerprint == data.fingerprint
    other = votes.clone()
    other[0, 0] = -1 if votes[0, 0] >= 0 else 0
    assert dataclasses.replace(data, votes=other).fingerprint != data.fingerprint
    assert "90 images 1x8x8 in 4 classes by 3 annotators" in repr(data)
    assert data.to_json()["annotators"] == ["ann", "bob", "cy"]


def test_classes_in_another_order_are_numbered_anew():
    votes, truth, _ = crowd(60, gaps=0.3)
    test = set_of(votes, truth)
    turned = dataclasses.replace(test, classes=tuple("dcba"))
    found = matched(turned, test)
    assert torch.equal(found.labels, 3 - test.labels)
    assert torch.equal(found.truth, 3 - truth)
    assert torch.equal(found.votes, torch.where(votes < 0, -1, 3 - votes))


def test_a_set_that_lost_an_annotator_is_damaged(tmp_path):
    set_of(crowd(90)[0]).save(tmp_path / "set")
    path = tmp_path / "set.parquet"
    parquet.write_table(parquet.read_table(path).drop_columns(["by 1"]), path)
    with pytest.raises(InputError, match=r"damaged \(there is no column 'by 1'"):
        Dataset.restore(tmp_path / "set")


def with_columns(path, png, **columns):
    pictures = [png((20 * row, 0, 0)) for row in range(9)]
    table = pa.table({"image": pa.array(pictures)} | columns)
    parquet.write_table(table, path)
    return path


WORDS = {
    "ann": ["ant", "owl", None, "owl", "ant", "owl", "ant", "owl", "ant"],
    "bob": ["ant", "owl", "bee", "owl", "ant", "owl", "ant", "owl", None],
    "cy": ["ant", "owl", "bee", "ant", "ant", "owl", "ant", "owl", "ant"],
}


def test_columns_of_several_annotators(tmp_path, png):
    path = with_columns(tmp_path / "a.parquet", png, **WORDS)
    data = db.load(path, label=("ann", "bob", "cy"))
    assert data.classes == ("ant", "bee", "owl"), "of all columns together"
    assert data.annotators == ("ann", "bob", "cy")
    assert data.votes[2].tolist() == [-1, 1, 1]
    assert data.votes[8].tolist() == [0, -1, 0]
    assert data.labels[2] == 1
    numbers = {
        name: pa.array([None if word is None else sorted("abo").index(word[0]) for word in words])
        for name, words in WORDS.items()
    }
    numbers["bob"] = numbers["bob"].cast(pa.float64())  # as pandas writes a column with gaps
    again = db.load(with_columns(tmp_path / "b.parquet", png, **numbers), label=list(WORDS))
    assert torch.equal(again.votes, data.votes)


@pytest.mark.parametrize(
    ("columns", "asked", "words"),
    [
        ({}, ("ann", "ann"), "--label names a column twice: ann ann"),
        ({}, ("ann", "dora"), "no column for the label in .*'dora'"),
        ({"number": [1] * 9}, ("ann", "number"), "some of ann, number hold words and others"),
        ({"half": [0.5] * 9, "n": [1] * 9}, ("half", "n"), "column half holds fractions"),
        ({"none": pa.array([None] * 9, pa.string())}, ("ann", "none"), "none gave no label"),
        ({"bob": pa.array([*WORDS["bob"][:2], None, *WORDS["bob"][3:]])}, ("ann", "bob"),
         r"no annotator labelled train/000002 \(1 such images"),
    ],
)  # fmt: skip
def test_columns_that_do_not_go_together_are_sentences(tmp_path, png, columns, asked, words):
    path = with_columns(tmp_path / "a.parquet", png, **(WORDS | columns))
    with pytest.raises(InputError, match=words):
        db.load(path, label=asked)


def test_numbers_that_stand_for_different_classes_are_refused(tmp_path, png):
    path = with_columns(tmp_path / "a.parquet", png, ann=[0, 1, 2] * 3, bob=[0, 1, 2] * 3)
    features = {
        name: {"_type": "ClassLabel", "names": names}
        for name, names in {"ann": ["x", "y", "z"], "bob": ["z", "y", "x"]}.items()
    }
    facts = json.dumps({"info": {"features": features}})
    table = parquet.read_table(path).replace_schema_metadata({"huggingface": facts})
    parquet.write_table(table, path)
    with pytest.raises(InputError, match=r"ann, bob of .* name different classes"):
        db.load(path, label=("ann", "bob"))
    assert db.load(path, label="bob").classes == ("z", "y", "x")


def test_images_that_cannot_be_read_take_their_labels_along(tmp_path, png):
    path = with_columns(tmp_path / "a.parquet", png, **WORDS)
    table = parquet.read_table(path)
    pictures = [b"none", *table["image"].to_pylist()[1:]]
    parquet.write_table(table.set_column(0, "image", pa.array(pictures)), path)
    data = db.load(path, label=("ann", "bob", "cy"))
    assert len(data) == 8
    assert data.votes[1].tolist() == [-1, 1, 1]


def test_noise_is_planted_in_one_label(tmp_path):
    data = set_of(crowd(90)[0])
    with pytest.raises(InputError, match="noise is planted in one label an image"):
        db.corrupt(data)


def test_arrays_frames_and_words_are_the_same_labels(tmp_path):
    votes, _, p = crowd(200, gaps=0.3)
    gaps = np.where(votes < 0, np.nan, votes.numpy())
    words = np.array([*"abcd", None], dtype=object)[votes.numpy()]
    frame = pandas.DataFrame(words, columns=["ann", "bob", "cy"])
    runs = [
        db.find(labels, p, classes=tuple("abcd"), out=tmp_path / str(turn))
        for turn, labels in enumerate((votes, votes.tolist(), gaps, words, frame))
    ]
    assert len({run.data.fingerprint for run in runs[:4]}) == 1
    assert runs[4].data.annotators == ("ann", "bob", "cy")
    assert torch.equal(runs[4].data.votes, votes)
    pixels = np.zeros((200, 8, 8), "uint8")
    assert torch.equal(db.load((pixels, gaps)).votes, votes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda votes: votes[:, :1], r"labels \[N,1\] are of one annotator"),
        (lambda votes: votes + 0.5, "are whole numbers"),
        (lambda votes: votes + 9, "label 12 of train/.* is outside the 4 classes"),
        (lambda votes: np.where(np.arange(len(votes))[:, None] < 3, -1, votes),
         r"no annotator labelled train/000000 \(3 such"),
        (lambda votes: np.stack([votes[:, 0], -1 + 0 * votes[:, 0]], 1), "annotator 2 gave no"),
        (lambda votes: 0 * votes, "one class only"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_are_sentences(change, words, tmp_path):
    votes, _, p = crowd(60)
    with pytest.raises(InputError, match=words):
        db.find(change(votes.numpy()), p, out=tmp_path)


def test_what_is_believed_uses_annotators_and_model(found):
    run, truth = found
    verdict, wrong = run.verdict, run.data.labels != truth
    estimate, low, high = verdict.estimate
    assert low <= int(wrong.sum()) <= high < 3 * low
    assert float(verdict.p_wrong.sum()) == pytest.approx(estimate, rel=0.02)
    assert verdict.told
    belief = posterior(run, wanted(run, "blend")).belief(run.data.labels)
    assert torch.allclose(belief.sum(1), torch.ones(len(belief)), atol=1e-5)
    assert (belief.argmax(1) != truth).sum() < 0.85 * wrong.sum(), "the model knows more"
    plain = db.find(run.data.labels, np.load(run.path / "heldout.npy"))
    assert precision(run, wrong) > precision(plain, wrong) + 0.05, "than one label an image tells"


def precision(run, wrong):
    from sklearn.metrics import average_precision_score

    return average_precision_score(wrong, run.verdict.p_wrong)


def test_images_of_one_label_each_are_counted_as_ever(tmp_path):
    votes, _, p = crowd(wrong=(0.2, 0.2))
    half = torch.arange(len(votes)) % 2
    apart = votes.clone()
    apart[torch.arange(len(votes)), half] = -1
    two = db.find(apart, p, out=tmp_path / "two")
    one = db.find(apart.amax(1), p, out=tmp_path / "one")
    assert torch.equal(two.data.labels, one.data.labels)
    assert two.verdict.estimate == pytest.approx(one.verdict.estimate, rel=0.1)


def test_each_annotator_is_judged(found):
    run, truth = found
    result = db.annotators(run)
    votes = run.data.votes
    for row, given in zip(result.rows.values(), votes.T, strict=True):
        real = float((given == truth)[given >= 0].float().mean())
        assert row["low"] <= real <= row["high"]
        assert row["right"] == pytest.approx(real, abs=0.06)
        assert row["high"] - row["low"] < 0.25
        assert row["labels"] == int((given >= 0).sum())
        agreement = float((given == run.data.labels)[given >= 0].float().mean())
        assert row["agreement"] == pytest.approx(agreement, abs=1e-4)
    right = [row["right"] for row in result.rows.values()]
    assert right == sorted(right, reverse=True)
    known = [[int(label) for label in row if label >= 0] for row in votes]
    assert result["disputed"] == sum(len(set(row)) > 1 for row in known)
    assert result["labels_per_image"] == pytest.approx(np.mean(list(map(len, known))), abs=1e-3)
    assert "3 annotators" in str(result)
    assert run.to_json()["annotators"]["sentence"] in run.card.replace("\n", " ")


def test_the_most_frequent_mistake_is_named(tmp_path):
    votes, truth, p = crowd(wrong=(0.1, 0.1, 0.1))
    cat = (truth == 2) & (torch.arange(len(truth)) % 2 == 0)
    votes[cat, 1] = 3
    run = db.find(votes, p, classes=["ant", "bee", "cat", "dog"], out=tmp_path)
    row = db.annotators(run).rows["2"]
    assert row["mistake"].startswith("cat as dog, about ")
    assert int(row["mistake"].split()[4]) == pytest.approx(int(cat.sum()), rel=0.2)


def test_another_label_is_worth_what_it_can_change():
    counts = torch.tensor([[80.0, 20.0], [20.0, 80.0]])
    belief = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.99, 0.01]])
    matrix = (counts + PULL / 2) / (counts + PULL / 2).sum(1, keepdim=True)
    hit = float(matrix[0, 0])
    alone = _worth(belief, counts, torch.zeros(3))
    by_hand = [hit - 0.5, 0.6 * hit + 0.4 * hit - 0.6, 0.0]
    assert alone.tolist() == pytest.approx(by_hand, abs=1e-6)
    third = _worth(belief, counts, torch.full((3,), 2.0))
    new = 3 / (1 + 2 * SHARED) - 2 / (1 + SHARED)
    assert third.tolist() == pytest.approx([new * value for value in by_hand], abs=1e-6)


def test_those_who_are_asked_again_are_the_right_ones():
    """Another label where it is asked first makes more labels right than at random, about as many
    as foretold."""
    votes, truth, p = crowd(2000, wrong=(0.3, 0.3, 0.3))
    run = db.find(votes[:, :2], p)
    result = db.annotators(run)

    def right(rows):
        asked = torch.full((len(votes),), -1)
        asked[rows] = votes[rows, 2]
        more = torch.cat([votes[:, :2], asked[:, None]], 1)
        return int((transition(more, [p.log()]).belief.argmax(1) == truth).sum())

    before = right([])
    chosen = right(result.order[:200]) - before
    assert chosen > 2 * (right(torch.arange(200)) - before)
    assert 0.4 < result.gains["0.1"] / chosen < 2.5
    assert list(result.gains.values()) == sorted(result.gains.values())


def test_what_is_written_is_ranked(found):
    run, _ = found
    result = db.annotators(run)
    table = csv.read_csv(run.path / "another_label.csv")
    assert len(table) == len(run.data)
    assert table["worth"].to_pylist() == sorted(table["worth"].to_pylist(), reverse=True)
    first = int(result.order[0])
    assert table["name"][0].as_py() == run.data.name(first)
    labels = [run.data.classes[k] if k >= 0 else "" for k in run.data.votes[first].tolist()]
    given = [table[f"by {name}"][0].as_py() for name in run.data.annotators]
    assert ["" if each is None else str(each) for each in given] == labels
    rows = csv.read_csv(run.path / "annotators.csv").to_pylist()
    assert [str(row["annotator"]) for row in rows] == ["1", "2", "3"]
    assert json.loads((run.path / "annotators.json").read_text())["gains"] == result.gains


def test_an_audit_tells_of_the_annotators(tmp_path, capsys, png):
    generator, columns = np.random.default_rng(0), {"image": [], "ann": [], "bob": []}
    for row in range(60):
        right = row % 3
        channel = [0, 0, 0]
        channel[right] = 150 + row
        columns["image"].append(png(tuple(channel)))
        for name in ("ann", "bob"):
            wrong = generator.random() < 0.15
            columns[name].append("rgb"[(right + wrong) % 3])
    columns["bob"][7] = None
    parquet.write_table(pa.table(columns), tmp_path / "set.parquet")
    options = ["--model=mlp,hidden=32", "--epochs=6", "--batch-size=16", "--lr=0.1", "--folds=3"]
    asked = ["audit", str(tmp_path / "set.parquet"), "--label", "ann", "bob", "--no-retrain"]
    assert cli.main([*asked, *options, "--augment=none", f"--out={tmp_path / 'runs'}"]) == 0
    said = capsys.readouterr().out
    assert "in 3 classes by 2 annotators" in said
    assert "labelled   2 annotators" in said
    run = db.Run(tmp_path / "runs")
    page = (run.path / "report.html").read_text()
    assert "<h2>Annotators</h2>" in page
    assert "Images that deserve another label" in page
    assert all(path.exists() for path in db.annotators(run).pictures())
    verdict = db.judge(run, judge="confident")
    assert verdict.by == "confident", "other judges take the consensus as the label"


def test_one_label_an_image_has_no_annotators(run):
    with pytest.raises(InputError, match="has one label an image; name the columns"):
        db.annotators(run)
