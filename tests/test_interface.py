"""The Python interface: natural calls work or end in a sentence, results are objects, types are
visible.
"""

import ast
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, blobs

import datablame as db
from datablame import InputError, Recipe, Run, verbs
from datablame.base import progress
from datablame.base.results import Result
from datablame.verdict import Act

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run of this file's own, which its tests may judge."""
    return verbs.train(
        blobs(), recipe=TINY, out=tmp_path_factory.mktemp("own"), test=blobs(30, 1, ())
    )


def low_margin(run):
    return -run.trace.reduce("margin", lambda m: m.mean(0))


def test_signals_may_be_a_list_or_a_function(own):
    assert db.score(own, ["aum", "knn"]).name == "blend(aum+knn)"
    mine = db.score(own, low_margin)
    assert mine.name == "test_interface.low_margin"
    assert torch.equal(mine.values, db.score(own, "aum").values)
    with pytest.raises(InputError, match=r"one number per example, \[90\]; .* returned \[2\]"):
        db.score(own, lambda run: torch.zeros(2))


def test_an_edited_function_is_asked_again(own, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mylab.py").write_text(
        "import torch\ndef mine(run): return torch.zeros(len(run.data))\n"
    )
    assert db.score(own, "mylab.mine").values.sum() == 0
    (tmp_path / "mylab.py").write_text(
        "import torch\ndef mine(run): return torch.ones(len(run.data)) \n"
    )
    del sys.modules["mylab"]
    assert db.score(own, "mylab.mine").values.sum() == 90


def test_blend_is_the_default_blend_alone(own):
    """Judging by `blend` after scoring by others uses the default blend, not theirs."""
    whole = db.score(own).values
    assert db.score(own, "aum", "loss").name == "blend(aum+loss)"
    assert torch.equal(db.judge(own, judge="mixture").suspicion, whole)
    assert db.judge(own, "blend(aum+loss)").scores == "blend(aum+loss)"
    with pytest.raises(InputError, match="'blend' is the default blend"):
        db.score(own, "aum", "loss", name="blend")


def test_judging_by_a_judge_by_scores_and_by_numbers(own):
    assert db.judge(own, "mixture").by == "mixture"
    scores = db.score(own, "aum")
    assert torch.equal(db.judge(own, scores, judge="mixture").suspicion, scores.values)
    assert torch.equal(db.judge(own, scores.values, judge="mixture").suspicion, scores.values)
    assert torch.equal(
        db.judge(own, scores.values.numpy().tolist(), judge="mixture").suspicion, scores.values
    )
    with pytest.raises(
        InputError, match=r"a run of 90 examples needs one score per example; got \[3\]"
    ):
        db.judge(own, [1, 2, 3])
    with pytest.raises(InputError, match="no scores 'mixtur'"):
        db.judge(own, "mixtur")


def test_queries_may_be_a_dataset(own):
    found = db.explain(own, queries=own.data.take([7, 8]), method="similarity")
    assert found.values.shape == (2, 90)


def test_the_second_argument_of_corrupt_is_the_noise():
    assert db.corrupt("digits", "pair", amount=0.1).noise == "pair"


def test_fields_of_the_recipe_are_keywords(tmp_path):
    run = db.audit(
        blobs(), epochs=3, model="mlp,hidden=16", folds=2, holdout=0.3, retrain=False, out=tmp_path
    )
    assert isinstance(run, Run)
    assert (run.recipe.epochs, run.recipe.folds, len(run.test)) == (3, 2, 27)
    with pytest.raises(InputError, match="no option of audit 'epoch'; did you mean epochs"):
        db.audit("digits", epoch=3)


def test_arrays_are_a_source(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype="uint8")
    run = db.train(
        (images, np.arange(40) % 2), epochs=1, model="mlp,hidden=8", folds=0, out=tmp_path
    )
    assert run.data.shape == (3, 8, 8)
    with pytest.raises(InputError, match="an array of images needs its labels"):
        db.audit(images)
    with pytest.raises(
        InputError,
        match=r"a source is a path, a name, a Dataset, \(images, labels\), a torchvision",
    ):
        db.train(3)


def test_a_dataset_has_examples():
    data = blobs()
    image, label = data[7]
    assert (image.shape, image.dtype, label) == ((1, 8, 8), torch.uint8, int(data.labels[7]))
    assert data.take([0, 1]).names.to_pylist() == ["train/000000", "train/000001"]
    assert len(data.take(data.wrong)) == 1
    with pytest.raises(IndexError, match="row 90 of 90 examples"):
        data[90]
    with pytest.raises(InputError, match="rows go from 0 to 89; got 3 to 90"):
        data.take([3, 90])


def test_export_takes_its_path(own, tmp_path):
    db.score(own, "aum")
    db.judge(own, judge="top,share=0.1", by="aum")
    assert db.export(own, tmp_path / "x.csv").read_text().startswith('"name"')


def test_a_split_that_is_not_there_is_an_error():
    with pytest.raises(InputError, match="digits has no test split; ask for --split train"):
        db.load("digits", split="test")


def test_a_recipe_has_the_fields_words():
    assert (
        Recipe(lr=0.1, weight_decay=0, batch_size=8, top_k=2, record="eval").to_json()["lr"] == 0.1
    )


def test_acts_are_named():
    assert [act.name for act in Act] == ["KEEP", "ASK", "DROP", "FIX"]


def test_every_result_is_shown(own, tmp_path, monkeypatch):
    """A repr, JSON, a table, and a view for notebooks with the pictures that were drawn."""
    db.score(own, "aum")
    results = [
        own,
        own.data,
        db.score(own),
        db.judge(own, judge="top,share=0.1"),
        db.measure(own),
        db.explain(own, queries=2, method="similarity"),
        db.index(own, block=4),
        db.agree(own, "aum", "loss"),
        db.compare(own, own),
        db.audit(blobs(), dry_run=True, epochs=1, model="mlp,hidden=8"),
        db.ablate(own, "aum", shares=(0.0, 0.1), seeds=(0,)),
        db.memory.test(own),
    ]
    for result in results:
        assert isinstance(result, Result)
        assert json.loads(json.dumps(result.to_json()))
        assert repr(result)
        assert str(result)
        assert len(result.to_pandas().columns)
        assert ("<img" in result._repr_html_()) == any(path.exists() for path in result.pictures())
    assert results[5].pictures()[0].exists()
    assert list(results[2].to_pandas().columns) == ["blend"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="to_pandas needs pandas: pip install pandas"):
        results[0].to_pandas()


def test_the_names_that_editors_see_are_those_that_are_there():
    tree = ast.parse((ROOT / "src" / "datablame" / "__init__.py").read_text())
    seen = next(node for node in tree.body if isinstance(node, ast.If))
    names = {
        alias.name
        for node in ast.walk(seen)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names == set(db.__all__)
    assert all(getattr(db, name) is not None for name in db.__all__)
    assert set(db.__all__) <= set(dir(db))
    with pytest.raises(AttributeError, match="no attribute 'prove'"):
        db.prove  # noqa: B018 - its absence is what is tried


def test_types_are_visible_from_outside(tmp_path):
    """pyright on a user's script, which sees the installed package and not this repository's
    settings.
    """
    (tmp_path / "script.py").write_text((ROOT / "tests" / "user_script.py").read_text())
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert (ROOT / "src" / "datablame" / "py.typed").exists()


def test_messages_go_through_logging(monkeypatch, capsys):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    log = logging.getLogger("datablame")
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # of some library
    progress.say("hello")
    assert stream.getvalue() == "hello\n"
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(log, "handlers", [])
    progress.say("hello")
    assert capsys.readouterr().err == "hello\n"


def test_quiet_is_quiet(monkeypatch, capsys):
    level = logging.getLogger("datablame").level
    try:
        db.quiet()
        progress.say("hello")
        ticks = iter(range(0, 1000, 5))
        monkeypatch.setattr(progress.time, "perf_counter", lambda: float(next(ticks)))
        assert list(progress.track(range(9), 9, "working")) == list(range(9))
        assert capsys.readouterr().err == ""
    finally:
        logging.getLogger("datablame").setLevel(level)


def test_a_second_run_has_a_profile_of_its_own(tmp_path, monkeypatch):
    first = verbs.train(
        blobs(), recipe=TINY.but(folds=0, epochs=1), out=tmp_path / "a", test=blobs(30, 1, ())
    )
    verbs.score(first, "knn")
    second = verbs.train(
        blobs(40), recipe=TINY.but(folds=0, epochs=1), out=tmp_path / "b", test=blobs(30, 1, ())
    )
    assert "signal knn" in (first.path / "profile.txt").read_text()
    assert "signal knn" not in (second.path / "profile.txt").read_text()
    blocks = (first.path / "profile.txt").read_text()
    verbs.judge(second)
    monkeypatch.setattr(progress.time, "strftime", lambda _: "2099-01-01 00:00:00")
    verbs.score(first, "loss")
    kept = (first.path / "profile.txt").read_text()
    assert kept.startswith(blocks)
    assert kept.count("# ") == blocks.count("# ") + 1


def test_a_run_of_other_data_is_refused_before_anything_is_repaired(tmp_path):
    """Its cached images are gone; the caller's must not take their place."""
    first = Run.create(blobs(40), TINY, None, tmp_path, "mine")
    about = json.loads((first.path / "data" / "train.json").read_text())
    Path(about["images"]["path"]).unlink()
    before = {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="holds a run of other data"):
        Run.create(blobs(40, seed=9), TINY, None, tmp_path, "mine")
    assert {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()} == before


def test_the_folder_of_predictions_goes_with_its_run():
    run = Run.from_predictions([0, 1, 0, 1], np.eye(2)[[0, 1, 0, 1]] * 0.8 + 0.1)
    home = run.path.parent
    assert home.exists()
    del run
    assert not home.exists()


def test_probabilities_belong_to_their_set(own):
    from datablame.inference.predictions import probabilities

    one, two = own.test.take([0, 1, 2]), own.test.take([3, 4, 5])
    assert not np.array_equal(probabilities(own, one), probabilities(own, two))
    assert np.allclose(probabilities(own, own.test)[:3], probabilities(own, one), atol=1e-5)


def test_an_audit_reads_its_verdict_once(tmp_path, monkeypatch):
    from datablame.training import auto
    from datablame.verdict import Verdict

    count = {"read": 0, "settle": 0}
    read, settle = Verdict.read.__func__, auto.try_out

    def counted(cls, path, data):
        count["read"] += 1
        return read(cls, path, data)

    def tried(recipe, data):
        count["settle"] += 1
        return settle(recipe, data)

    monkeypatch.setattr(Verdict, "read", classmethod(counted))
    monkeypatch.setattr(auto, "try_out", tried)
    verbs.audit(blobs(), recipe=TINY, out=tmp_path)
    assert count == {"read": 1, "settle": 1}


def test_the_index_is_used_as_asked(own, tmp_path, png):
    picture = tmp_path / "p.png"
    picture.write_bytes(png((90, 90, 90), (8, 8)))
    fresh = verbs.train(blobs(), recipe=TINY.but(folds=0), out=tmp_path, test=blobs(30, 1, ()))
    assert "index" not in db.explain(fresh, picture).facts
    with pytest.raises(
        InputError, match="has no index for influence; make it with: datablame index"
    ):
        db.explain(fresh, picture, index="only")
    db.index(fresh, block=4)
    assert "index" in db.explain(fresh, picture).facts
    assert "answered by the index" in str(db.explain(fresh, picture))
    assert "index" in db.explain(fresh, queries=2, index="only").facts
    assert "exact; effective dimension" in str(db.explain(fresh, picture, index="never"))
    with pytest.raises(InputError, match="no use of the index 'always'"):
        db.explain(fresh, picture, index="always")


def test_an_index_of_few_images_answers(tmp_path):
    run = verbs.train(blobs(24), recipe=TINY.but(folds=0), out=tmp_path, test=blobs(30, 1, ()))
    assert db.index(run, block=4).to_json()["top10_after"] == 1
    few = verbs.train(blobs(9), recipe=TINY.but(folds=0), out=tmp_path, test=blobs(30, 1, ()))
    assert db.index(few, block=4).to_json()["top10_before"] == 1
