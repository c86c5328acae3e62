"""The first look: measures by hand, what is called odd, copies and leaks, and the page."""

import io
import json

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from conftest import TINY, blobs
from PIL import Image, ImageFilter

import datablame as db
from datablame import InputError, verbs
from datablame.analyses.look import Look
from datablame.base import decode
from datablame.cli import main
from datablame.data import quality
from datablame.data.quality import Quality
from datablame.dataset import Dataset


def picture(seed: int, side: int = 48) -> Image.Image:
    """A picture with edges and shades, another one for each seed."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(20, 235, (6, 6, 3)).astype("uint8")
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.NEAREST)


def written(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def dimmed(image: Image.Image, factor: float, up: float = 0.0) -> Image.Image:
    return Image.fromarray((np.asarray(image) * factor + up).clip(0, 255).astype("uint8"))


def two_greys(seed: int) -> Image.Image:
    image = Image.new("RGB", (48, 48), (90, 90, 90))
    box = [(4, 0, 16, 48), (0, 20, 48, 40), (26, 2, 46, 20)][seed % 3]
    image.paste((200, 200, 200), box)
    return image


ODD = {
    "dark": lambda i: dimmed(picture(i), 0.15),
    "bright": lambda i: dimmed(picture(i), 0.04, 244),
    "blank": lambda i: Image.new("RGB", (48, 48), (30 * (i % 7), 90, 120)),
    "blurred": lambda i: picture(i).filter(ImageFilter.GaussianBlur(12)),
    "odd_shape": lambda i: picture(i).resize((200, 50)),
    "odd_size": lambda i: picture(i, 144),
    "low_information": lambda i: two_greys(i),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """photos/train and photos/test of two classes; planted among 120 images: three of each of ODD,
    copies with the same and with another label, a leak, and a broken file.
    """
    home = tmp_path_factory.mktemp("set") / "photos"
    for split, count in (("train", 120), ("test", 20)):
        for i in range(count):
            folder = home / split / "ab"[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i:03d}.png").write_bytes(written(picture(1000 * (split == "test") + i)))
    for number, (name, make) in enumerate(ODD.items()):
        for i in range(3):
            (home / "train" / "a" / f"{name}-{i}.png").write_bytes(
                written(make(500 + 10 * number + i))
            )
    (home / "train" / "a" / "same.png").write_bytes(written(picture(2)))  # a: as 002.png
    (home / "train" / "b" / "other.png").write_bytes(written(picture(4)))  # b, but 004.png is in a
    (home / "test" / "a" / "leak.png").write_bytes(
        written(picture(6).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    )
    (home / "train" / "b" / "broken.png").write_bytes(b"no picture")
    return home


@pytest.fixture(scope="module")
def found(photos, tmp_path_factory):
    return verbs.look(photos, encoder="none", out=tmp_path_factory.mktemp("looks"))


def names(found: Look, kind: str) -> set[str]:
    every = found.columns()["name"]
    return {every[row].split("/", 1)[1] for row in found.issues.get(kind, ())}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_is_found_and_nothing_else(found, kind):
    assert names(found, kind) == {f"a/{kind}-{i}.png" for i in range(3)}


def test_copies_conflicts_and_leaks(found):
    assert names(found, "copy") == {"a/same.png"}
    assert names(found, "conflict") == {"a/004.png", "b/other.png"}
    assert names(found, "leak") == {"a/leak.png"}
    table = parquet.read_table(found.path / "look.parquet").to_pylist()
    by = {row["name"]: row for row in table}
    same = by["train/a/same.png"]
    assert table[same["copy_of"]]["name"] == "train/a/002.png"
    assert same["issues"] == "copy"
    assert by["test/a/leak.png"]["issues"] == "leak"
    assert by["test/a/leak.png"]["split"] == "test"
    assert by["train/a/010.png"]["copy_of"] == -1
    assert by["train/a/010.png"]["issues"] == ""
    assert (by["train/a/odd_shape-0.png"]["width"], by["train/a/odd_shape-0.png"]["height"]) == (
        200,
        50,
    )


def test_what_cannot_be_read_is_told(found):
    assert "train/b/broken.png" in (found.path / "unreadable.csv").read_text()
    assert found.to_json()["unreadable"] == 1


def test_the_facts_are_counts(found):
    facts = json.loads((found.path / "look.json").read_text())
    assert facts == json.loads(json.dumps(found.to_json()))
    assert facts["images"] == 142 + 1
    assert facts["test_images"] == 21
    assert facts["classes"] == 2
    assert facts["imbalance"] == round(82 / 61, 2)
    assert facts["small_classes"] == []
    assert (
        "copies with different labels: 2; test images that are training images: 1;"
        in facts["sentence"]
    )


def test_the_page_shows_them(found):
    page = (found.path / "look.html").read_text()
    for said in ("Blurred: 3", "Of an odd size: 3", "Copies with different labels", "broken.png"):
        assert said in page
    assert "Content-Security-Policy" in page
    assert page.count("<script") == 0
    assert page.index("a/dark-") < page.index("a/bright-")
    shapes = [
        part for part in page.split("<figure>") if "odd_shape-" in part and "200 x 50" in part
    ]
    assert len(shapes) == 3
    assert "datablame review" not in page, "there is no run yet"


def test_the_measures_by_hand():
    black, white = np.zeros((3, 8, 8), "uint8"), np.full((3, 8, 8), 255, "uint8")
    stripes = white.copy()
    stripes[:, :, ::2] = 0
    red = black.copy()
    red[0] = 255
    data = Dataset.from_arrays(np.stack([black, white, stripes, red]), [0, 1, 0, 1])
    seen = Quality.of(data)
    assert seen.light.tolist() == pytest.approx([0, 1, 1, 0.299], abs=1e-5)
    assert seen.shade.tolist() == pytest.approx([0, 1, 0, 0.299], abs=1e-5)
    assert seen.colour.tolist() == [0, 0, 0, 1]
    assert seen.entropy.tolist() == pytest.approx([0, 0, 1, 0], abs=1e-5)
    deviation = float(np.std(stripes[0] / 255, ddof=1))
    assert seen.contrast.tolist() == pytest.approx([0, 0, deviation, 0], abs=1e-5)
    edges = np.std(np.where(np.arange(1, 7) % 2, -2.0, 2.0).repeat(6), ddof=1)
    assert seen.sharpness[2] == pytest.approx(edges / deviation, rel=1e-4)
    assert seen.sharpness[0] == 0
    flags = seen.defects()
    assert not any(each.any() for each in flags.values()), "what most of a set is, is no defect"


def test_a_share_of_a_set_is_no_defect(monkeypatch):
    plain = np.stack([np.asarray(picture(i)).transpose(2, 0, 1) for i in range(20)])
    plain[:2] = 7
    data = Dataset.from_arrays(plain, np.arange(20) % 2)
    assert np.flatnonzero(Quality.of(data).defects()["blank"]).tolist() == [0, 1]
    monkeypatch.setattr(quality, "USUAL", 0.09)
    assert not Quality.of(data).defects()["blank"].any()


def test_sizes_are_kept_beside_what_is_packed(tmp_path):
    for i in range(8):
        (tmp_path / "set" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        image = picture(i, 144 if i == 3 else 48)
        (tmp_path / "set" / "ab"[i % 2] / f"{i}.png").write_bytes(written(image))
    data = db.load(tmp_path / "set")
    row = data.names.to_pylist().index("b/3.png")
    assert data.pixels.sizes[int(data.rows[row])].tolist() == [144, 144]
    assert Quality.of(data.take([row, 0])).width.tolist() == [144, 48]
    data.pixels.path.with_name(decode.SIZES).unlink()
    unknown = Quality.of(db.load(tmp_path / "set"))
    assert unknown.width.tolist() == [0] * 8, "a cache from before"
    assert not unknown.defects()["odd_size"].any()


def test_outliers_of_features_are_the_far_ones(tmp_path):
    generator = np.random.default_rng(0)
    middle = np.eye(16)[np.arange(300) % 3] * 5
    features = middle + generator.normal(0, 0.3, (300, 16))
    features[[5, 77]] = generator.normal(0, 3, (2, 16))
    np.savez(tmp_path / "f.npz", features=features.astype("float32"), labels=np.arange(300) % 3)
    found = verbs.look(tmp_path / "f.npz", out=tmp_path / "looks")
    assert set(found.issues) == {"outlier"}
    assert set(found.issues["outlier"].tolist()) == {5, 77}
    assert "distance" in (found.path / "look.html").read_text()


def test_twins_are_far_nearer_than_the_next():
    from datablame.analyses.look import twins

    space = np.random.default_rng(0).normal(size=(200, 16)).astype("float32")
    space[40] = space[7] + 0.01
    space[41] = space[8] + 0.9  # near, and not that near
    twin, share = twins(space)
    assert {k: int(twin[k]) for k in np.flatnonzero(twin >= 0)} == {7: 40, 40: 7}
    assert share[7] < 0.01 < share[8]
    assert (twins(space[:5])[0] == -1).all(), "too few to tell"
    turned, scaled = twins(space * 7)[0], twins(np.flip(space, 1).copy())[0]
    assert (turned == twin).all()
    assert (scaled == twin).all()


def test_pictures_that_show_nearly_the_same_are_shown_in_pairs(found, photos, monkeypatch):
    import dataclasses

    from datablame.pages import look as page

    total = len(found.data) + len(found.test)
    twin, share = np.full(total, -1), np.ones(total, "float32")
    pair = [3, total - 2]
    twin[pair], share[pair] = pair[::-1], 0.1
    more = dataclasses.replace(found, twin=twin, closeness=share)
    first = found.known.first.numpy()
    same = first[pair[0]] == first[pair[1]]
    assert ("similar" in more.issues) != same
    assert sorted(more.issues["similar"].tolist()) == pair
    assert more.columns()["similar_to"][pair].tolist() == pair[::-1]
    page.draw(more)
    text = (found.path / "look.html").read_text()
    assert text.count("pair 1<") == 2
    assert "Nearly the same as another: 2" in text
    page.draw(found)


def test_an_encoder_tells_outliers_of_pictures(photos, tmp_path, monkeypatch):
    from safetensors.torch import save_file
    from torchvision import models

    torch.manual_seed(0)
    save_file(
        models.get_model("squeezenet1_1", weights=None).state_dict(), tmp_path / "w.safetensors"
    )
    spec = f"squeezenet1_1,weights={tmp_path / 'w.safetensors'},size=64"
    found = verbs.look(photos, encoder=spec, out=tmp_path / "looks")
    assert [len(each) for each in found.distance] == [len(found.data), len(found.test)]
    assert "distance" in found.columns()
    assert names(found, "outlier") >= {"a/blank-0.png"} or "outlier" not in found.issues


def test_looking_twice_says_the_same_and_alone(found, photos, capsys):
    again = verbs.look(photos, encoder="none", out=found.path.parent)
    assert again.path == found.path
    assert again.to_json() == found.to_json()


def test_looking_from_the_command_line(tmp_path, capsys, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    assert main(["look", "digits", "--limit", "200", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["images"] == 200
    assert (tmp_path / facts["page"]).is_file()
    assert main(["look", str(photos), "--out", str(photos / "x")]) == 2
    assert "lies in the source folder" in capsys.readouterr().err
    assert main(["look", "nowhere"]) == 2
    assert "there is no path nowhere" in capsys.readouterr().err
    assert main(["look", "digits", "--encoder", "nobody"]) == 2
    assert not list((tmp_path / "looks").rglob("*nobody*"))


def test_labels_without_images_cannot_be_looked_at(tmp_path):
    data = blobs(30)
    import dataclasses

    with pytest.raises(InputError, match="labels but no images"):
        verbs.look(dataclasses.replace(data, images=None), out=tmp_path)


def test_an_audit_looks_first(photos, tmp_path):
    run = verbs.audit(photos, recipe=TINY.but(epochs=1, folds=2), retrain=False, out=tmp_path)
    table = parquet.read_table(run.path / "look.parquet").to_pylist()
    by = {row["name"]: row["issues"] for row in table}
    assert by["train/a/dark-0.png"] == "dark"
    assert by["train/a/same.png"] == "copy"
    page = (run.path / "report.html").read_text()
    assert "Odd by themselves" in page
    assert "Of an odd shape: 3" in page
    (run.path / "look.parquet").unlink()
    assert "Odd by themselves" not in verbs.report(run).read_text()
