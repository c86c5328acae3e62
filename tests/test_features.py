"""Sets of features in the place of images: of texts, sounds, tables, or any encoder."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import TINY
from pyarrow import parquet

import datablame as db
from datablame import Dataset, InputError, Recipe, Run, verbs
from datablame.cli import main
from datablame.training.auto import settle

WORDS = ("calm", "glad", "sad")


def cloud(n=150, seed=0, wrong=9):
    """(features [n,6], wrong labels among them, right labels) of three classes."""
    generator = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    x = generator.normal(0, 1, (n, 6))
    x[np.arange(n), truth] += 6
    labels = truth.copy()
    labels[:wrong] = (labels[:wrong] + 1) % 3
    return x, labels, truth


@pytest.fixture
def table(tmp_path):
    x, labels, truth = cloud()
    columns = {
        "embedding": pa.array(x.tolist(), pa.list_(pa.float64())),
        "label": [WORDS[k] for k in labels],
        "right": [WORDS[k] for k in truth],
        "text": [f"a {WORDS[k]} person writes <b>{row}</b>" for row, k in enumerate(truth)],
        "id": [f"letter {row}" for row in range(len(x))],
    }
    path = tmp_path / "letters.parquet"
    parquet.write_table(pa.table(columns), path)
    return path


def test_features_are_judged_shown_cleaned_and_retrained(table, tmp_path, capsys):
    run = verbs.audit(table, truth="right", out=tmp_path / "runs")
    assert run.recipe.model == "frozen:features"
    assert run.recipe.trainer == "linear_probe"
    assert repr(run.data).startswith("letters (train): 150 rows of 6 features in 3 classes")
    assert set(run.verdict.suspects.tolist()) == set(range(9))
    assert run.verdict.proposed[:9].tolist() == [k % 3 for k in range(9)]
    assert run.comparison["conclusion"] in ("helped", "no difference shown")
    page = (run.path / "report.html").read_text()
    assert "a calm person writes &lt;b&gt;0&lt;/b&gt;" in page
    assert "writes <b>" not in page
    assert not (run.path / "figures" / "suspects.png").exists()
    verbs.clean(run, out=tmp_path / "cleaned.parquet")
    again = db.load(tmp_path / "cleaned.parquet", truth="truth")
    assert len(again) >= 141
    assert int(again.wrong.sum()) == 0
    assert again.texts[0].as_py().startswith("a ")
    assert set(parquet.read_table(tmp_path / "cleaned.parquet").column_names) == {
        "name", "features", "label", "truth", "text",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"write it as a \.parquet file"):
        verbs.clean(run, out=tmp_path / "cleaned")
    with pytest.raises(InputError, match="needs images, and letters has none"):
        verbs.memorization(run)
    found = verbs.explain(run)
    assert not found.pictures()
    assert "picture" not in str(found)
    sheet = verbs.certify(run, draw=4, out=tmp_path / "ask.parquet")
    assert "text" in parquet.read_table(sheet).column_names
    with pytest.raises(InputError, match="needs images"):
        verbs.certify(run, draw=4, out=tmp_path / "ask")
    assert main(["audit", str(table), "--no-retrain", "--out", str(tmp_path / "more")]) == 0
    assert "rows of 6 features" in capsys.readouterr().out


def test_a_kept_run_of_features_opens_as_it_was(table, tmp_path):
    run = verbs.train(table, recipe=Recipe(epochs=3, folds=3), out=tmp_path / "runs")
    again = Run(run.path)
    rows = torch.tensor([4, 2])
    assert torch.equal(again.data.batch(rows)[0], run.data.batch(rows)[0])
    assert again.data.batch(rows)[0].dtype == torch.float32
    assert again.data.texts.to_pylist() == run.data.texts.to_pylist()
    assert again.test.texts is not None
    some = run.data.take([5, 3])
    assert some.texts.to_pylist() == [run.data.texts[5].as_py(), run.data.texts[3].as_py()]


def test_the_same_features_from_every_kind_of_file(table, tmp_path):
    x, labels, _ = cloud()
    np.savez(tmp_path / "a.npz", features=x, labels=labels)
    np.savez(tmp_path / "w.npz", embeddings=x, label=[WORDS[k] for k in labels])
    np.save(tmp_path / "b.npy", x)
    np.save(tmp_path / "b.labels.npy", labels)
    wanted = Dataset.from_features(x, labels)
    for name in ("a.npz", "w.npz", "b.npy", "letters.parquet"):
        data = db.load(tmp_path / name)
        assert torch.equal(data.labels, wanted.labels), name
        assert np.array_equal(data.images.array, wanted.images.array), name
    assert db.load(tmp_path / "w.npz").classes == WORDS
    assert len(db.load(tmp_path / "a.npz", limit=10)) == 10
    scaled = Dataset.from_features(1000 * x, labels)
    assert np.allclose(scaled.images.array, wanted.images.array, atol=2e-2), "one scale for all"


def test_words_gaps_and_classes_of_files(tmp_path):
    x, labels, truth = cloud(30)
    words = np.array(["dog", "cat", "ant"])[labels]
    np.savez(tmp_path / "c.npz", features=x, labels=words, classes=["dog", "cat", "ant"])
    data = db.load(tmp_path / "c.npz")
    assert [data.classes[k] for k in data.labels.tolist()] == words.tolist()
    np.savez(tmp_path / "d.npz", features=x, labels=words, classes=["dog", "cat"])
    with pytest.raises(InputError, match="no class 'ant'"):
        db.load(tmp_path / "d.npz")
    columns = {
        "features": pa.array(x.tolist(), pa.list_(pa.float64())),
        "label": [None, *words[1:]],
    }
    parquet.write_table(pa.table(columns), tmp_path / "e.parquet")
    with pytest.raises(InputError, match="label -1 of"):
        db.load(tmp_path / "e.parquet")
    np.savez(tmp_path / "o.npz", features=x, labels=words.astype(object))
    with pytest.raises(InputError, match=r"cannot be read as features .*astype\(str\)"):
        db.load(tmp_path / "o.npz")
    right = [None, *np.array(["dog", "cat", "ant"])[truth][1:]]
    parquet.write_table(
        pa.table(columns | {"label": words, "truth": right}), tmp_path / "t.parquet"
    )
    data = db.load(tmp_path / "t.parquet", truth="truth")
    assert data.truth[0] == -1
    run = verbs.train(data, recipe=Recipe(epochs=2, folds=2), out=tmp_path / "runs")
    verbs.judge(run)
    verbs.clean(run, out=tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    place = {name: row for row, name in enumerate(table["name"].to_pylist())}
    if (row := place.get(data.name(0))) is not None:
        assert table["truth"][row].as_py() is None


def test_a_held_out_part_keeps_its_texts(table, tmp_path):
    run = verbs.train(table, recipe=Recipe(epochs=2, folds=2), out=tmp_path / "runs")
    assert run.test is not None
    verbs.judge(run)
    assert "--out cleaned.parquet" in run.card
    verbs.clean(run, out=tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet")["text"].null_count == 0
    assert run.data.take([-1]).texts[0] == run.data.texts[-1]


def test_a_net_may_learn_from_features(tmp_path):
    x, labels, truth = cloud()
    data = Dataset.from_features(x, labels, WORDS, truth=truth)
    assert settle(Recipe(head="mlp,hidden=8"), data).model == "mlp"
    run = verbs.train(data, recipe=TINY.but(model="mlp,hidden=16"), out=tmp_path)
    verbs.judge(run)
    assert run.recipe.augment == "none"
    assert verbs.measure(run)["blend"]["average_precision"] > 0.9


def test_bad_features_are_sentences(tmp_path):
    x, labels, _ = cloud(30)
    bad = x.copy()
    bad[4, 2] = np.nan

    def refused(words, call):
        with pytest.raises(InputError, match=words):
            call()

    refused("those of row 4 are not", lambda: Dataset.from_features(bad, labels))
    refused("30 labels, but 29 rows of features", lambda: Dataset.from_features(x[1:], labels))
    refused("and 2 texts", lambda: Dataset.from_features(x, labels, texts=["a", "b"]))
    refused(r"numbers \[N,D\]; these are", lambda: Dataset.from_features(x[:, 0], labels))
    np.save(tmp_path / "b.npy", x)
    refused(r"put them beside it: .*b\.labels\.npy", lambda: db.load(tmp_path / "b.npy"))
    np.savez(tmp_path / "a.npz", x=x, labels=labels)
    refused(
        "is the features. there is: x, labels; say --image NAME",
        lambda: db.load(tmp_path / "a.npz"),
    )
    rows = [each.tolist() for each in x]
    rows[3] = rows[3][:2]
    columns = {"features": pa.array(rows, pa.list_(pa.float64())), "label": labels}
    parquet.write_table(pa.table(columns), tmp_path / "c.parquet")
    refused("the rows of features are of 2 lengths", lambda: db.load(tmp_path / "c.parquet"))
    refused(
        "no column for the label in .* 'lable'",
        lambda: db.load(tmp_path / "c.parquet", label="lable"),
    )
    data = Dataset.from_features(x, labels)
    refused("features have no pixels", lambda: db.corrupt(data, noise="pixel_normal", amount=0.1))
    refused("leave out --augment crop",
            lambda: db.train(data, recipe=Recipe(model="mlp", augment="crop"), out=tmp_path))  # fmt: skip
    refused("resnet9.* cannot be used on images of 6x1x1",
            lambda: db.train(data, recipe=Recipe(model="resnet9", augment="none"), out=tmp_path))  # fmt: skip
