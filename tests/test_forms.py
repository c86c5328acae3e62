"""A run in the form of other tools, each read by the tool itself."""

import json
import warnings

import numpy as np
import pytest
from conftest import TINY, blobs
from pyarrow import csv, parquet

import datablame as db
from datablame import verbs
from datablame.base.errors import InputError
from datablame.exchange.huggingface import COLUMNS


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    out = tmp_path_factory.mktemp("judged")
    run = verbs.train(blobs(120, wrong=(7, 20, 33)), recipe=TINY, out=out, test=blobs(30, 1, ()))
    verbs.judge(run, verbs.score(run, "aum"))
    return run


def test_cleanlabs_columns(judged, tmp_path):
    path = verbs.export(judged, tmp_path / "issues.csv", form="cleanlab")
    table = csv.read_csv(path).to_pydict()
    verdict = judged.judged
    assert [k for k, bad in enumerate(table["is_label_issue"]) if bad] == sorted(
        verdict.suspects.tolist()
    )
    low = np.argsort(table["label_score"])[:3]
    assert set(low.tolist()) == {7, 20, 33}
    assert table["given_label"][7] == judged.data.classes[int(judged.data.labels[7])]
    assert table["predicted_label"][7] == judged.data.classes[int(verdict.proposed[7])]
    assert all(0 <= score <= 1 for score in table["label_score"])
    whole = parquet.read_table(verbs.export(judged, tmp_path / "x.parquet", form="cleanlab"))
    assert whole["is_label_issue"].to_pylist() == table["is_label_issue"]


def test_cleanlabs_columns_are_those_of_datalab(judged, tmp_path):
    """Where cleanlab is installed (the extra `bench`)."""
    datalab = pytest.importorskip("cleanlab.datalab.datalab")
    verbs.look(judged.data, out=tmp_path / "look")
    table = parquet.read_table(verbs.export(judged, tmp_path / "x.parquet", form="cleanlab"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lab = datalab.Datalab(
            {"y": [str(k) for k in judged.data.labels.tolist()]}, label_name="y", verbosity=0
        )
        p = np.full((120, 3), 0.1)
        p[np.arange(120), judged.data.labels.numpy()] = 0.8
        lab.find_issues(pred_probs=p, issue_types={"label": {}})
        theirs = {*lab.get_issues("label").columns}
    assert {"is_label_issue", "label_score", "given_label", "predicted_label"} <= theirs
    assert {n for n in table.column_names if "label" in n} == theirs & set(table.column_names)


def test_what_a_look_found_is_in_cleanlabs_columns(tmp_path, png):
    for k, (name, colour) in enumerate((("a", 200), ("b", 30))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            picture = png((colour, 9 * i, 5 * i + 50 * k))
            (tmp_path / "photos" / name / f"{i}.png").write_bytes(picture)
    copy = (tmp_path / "photos" / "a" / "3.png").read_bytes()
    (tmp_path / "photos" / "a" / "copy.png").write_bytes(copy)
    run = verbs.audit(
        tmp_path / "photos", recipe=TINY.but(folds=2), retrain=False, out=tmp_path / "runs"
    )
    table = parquet.read_table(
        verbs.export(run, tmp_path / "x.parquet", form="cleanlab")
    ).to_pydict()
    names = table["name"]
    doubles = [k for k, bad in enumerate(table["is_near_duplicate_issue"]) if bad]
    assert sorted(names[k] for k in doubles) == ["a/3.png", "a/copy.png"]
    assert [table["near_duplicate_sets"][k] for k in doubles] == [str(k) for k in reversed(doubles)]
    assert {n for n in table if n.startswith("is_")} == {
        f"is_{word}_issue"
        for word in ("label", "near_duplicate", "outlier", "dark", "light", "blurry",
                     "low_information", "odd_size", "odd_aspect_ratio")
    }  # fmt: skip


def test_a_set_of_the_hub_is_read_by_datasets(judged, tmp_path):
    import datasets
    from huggingface_hub import DatasetCard

    home = verbs.export(judged, tmp_path / "published", form="huggingface")
    found = datasets.load_dataset(str(home), cache_dir=str(tmp_path / "hf"))
    train, data, verdict = found["train"], judged.data, judged.judged
    assert (len(train), len(found["test"])) == (120, 30)
    assert train.features["label"].names == list(data.classes)
    assert train["label"] == data.labels.tolist()
    assert train["truth"] == data.truth.tolist()
    assert train["proposed"] == verdict.proposed.tolist()
    assert [k for k, act in enumerate(train["act"]) if act in ("fix", "drop")] == sorted(
        verdict.suspects.tolist()
    )
    assert np.array_equal(np.asarray(train[5]["image"]), data.pixels.one(5)[0])
    card = DatasetCard.load(home / "README.md")
    assert card.data.task_categories == ["image-classification"]
    assert card.data.size_categories == ["n<1K"]
    estimate, low, high = verdict.estimate
    assert f"About {estimate:,.0f} of 120" in card.text
    assert f"interval {low:,.0f} to {high:,.0f}" in card.text
    columns = {line.split("`")[1] for line in card.text.splitlines() if line.startswith("| `")}
    assert columns == set(train.column_names) <= set(COLUMNS)
    again = db.load(home)
    assert again.pixels.digest == data.pixels.digest
    assert again.truth.tolist() == data.truth.tolist()


def test_croissant_is_read_by_mlcroissant(judged, tmp_path, monkeypatch):
    mlcroissant = pytest.importorskip("mlcroissant")
    home = verbs.export(judged, tmp_path / "published", form="huggingface")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = mlcroissant.Dataset(jsonld=str(home / "croissant.json"))
        assert not found.metadata.ctx.issues.errors
        train = list(found.records("train"))
        labels = list(found.records("labels"))
    assert [row["labels/name"] for row in labels] == list(judged.data.classes)
    assert [row["train/label"] for row in train] == judged.data.labels.tolist()
    assert np.array_equal(np.asarray(train[9]["train/image"]), judged.data.pixels.one(9)[0])
    about = json.loads((home / "croissant.json").read_text())
    assert "http" not in json.dumps(about["distribution"])


def test_a_run_that_was_not_judged_says_so(run, tmp_path):
    home = verbs.export(run, tmp_path / "published", form="huggingface")
    assert "The labels were not judged." in (home / "README.md").read_text()
    assert (
        "p_wrong" not in parquet.read_schema(home / "data" / "train-00000-of-00001.parquet").names
    )


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        ("x.csv", "cleanlabs", "no form 'cleanlabs'; did you mean cleanlab"),
        ("x.json", "cleanlab", "name a .csv or .parquet"),
        ("x.parquet", "huggingface", "name a folder"),
    ],
)
def test_bad_forms_are_told(judged, tmp_path, name, form, message):
    with pytest.raises(InputError, match=message):
        verbs.export(judged, tmp_path / name, form=form)
    assert list(tmp_path.iterdir()) == []
