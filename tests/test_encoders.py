"""Photographs at their own size, and encoders that others have trained."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import timm
import torch
from conftest import TINY
from PIL import Image
from pyarrow import parquet

import datablame as db
from datablame import InputError, Recipe, Run, verbs
from datablame.base import decode, images
from datablame.base.decode import View
from datablame.cli import main
from datablame.inference import features as featuring
from datablame.inference.features import features
from datablame.network import encoders
from datablame.network.classifier import encoder_of, view_of
from datablame.training.auto import settle

VIT = "timm/test_vit.r160_in1k"
PROBE = Recipe(model=f"frozen:{VIT}", trainer="linear_probe", epochs=4, folds=3)


def photograph(seed: int, size=(200, 150)) -> Image.Image:
    generator = np.random.default_rng(seed)
    rough = generator.integers(0, 255, (size[1] // 10, size[0] // 10, 3), dtype="uint8")
    smooth = np.asarray(Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC), "float32")
    fine = generator.normal(0, 20, smooth.shape)
    return Image.fromarray((smooth + fine).clip(0, 255).astype("uint8"))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 photographs of 200x150 in two classes: brighter ones, and darker ones."""
    root = tmp_path_factory.mktemp("album") / "photos"
    for number in range(24):
        kind = ("bright", "dark")[number % 2]
        (root / kind).mkdir(parents=True, exist_ok=True)
        image = photograph(number).point(lambda x, k=number % 2: x // 2 + 120 * (1 - k))
        image.save(root / kind / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with the weights of a small net of timm's, as `fetch` would have filled it."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    state = timm.create_model("test_vit", pretrained=False).state_dict()
    safetensors.torch.save_file(state, folder / "test_vit.r160_in1k.safetensors")
    return folder


@pytest.fixture(autouse=True)
def at_hand(weights, monkeypatch):
    monkeypatch.setenv("DATABLAME_WEIGHTS", str(weights))


@pytest.mark.parametrize("size", [(200, 150), (150, 201), (97, 333), (50, 40)])
@pytest.mark.parametrize("name", [VIT, "resnet50", "timm/vit_base_patch16_siglip_224.v2_webli"])
def test_an_encoder_looks_as_its_own_transforms_do(name, size):
    image = photograph(1, size)
    if name == "resnet50":
        from torchvision.models import ResNet50_Weights

        ours, theirs = (
            view_of(f"frozen:{name}"),
            ResNet50_Weights.DEFAULT.transforms(antialias=True),
        )
        pixels = torch.from_numpy(decode.look(encoded(image), ours).copy()) / 255
        mean, std = (torch.tensor(each)[:, None, None] for each in (theirs.mean, theirs.std))
        close = (theirs(image) * std + mean - pixels).abs()
        assert close.max() < 1e-5
        return
    facts = timm.data.resolve_data_config(encoders.about(name))
    theirs = timm.data.create_transform(**facts, is_training=False)
    mean, std = (torch.tensor(facts[each])[:, None, None] for each in ("mean", "std"))
    pixels = torch.from_numpy(decode.look(encoded(image), encoders.view(name)).copy()) / 255
    assert (theirs(image) * std + mean - pixels).abs().max() < 1e-5


def test_pictures_of_all_kinds_are_looked_at_as_people_expect():
    view = View(64, 64)
    image = photograph(2, (64, 64))
    plain = decode.look(encoded(image), view).astype(int)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter
    assert np.array_equal(decode.look(encoded(turned, exif=exif), view), plain)
    alpha = image.copy()
    alpha.putalpha(Image.fromarray(np.repeat([[0, 255]], 32, 1).repeat(64, 0).astype("uint8")))
    seen = decode.look(encoded(alpha), view).astype(int)
    assert (seen[:, :, :32] == 255).all(), "what is see-through is white"
    assert np.array_equal(seen[:, :, 32:], plain[:, :, 32:])
    grey = np.asarray(image.convert("L"))
    deep = Image.fromarray(grey.astype("uint16") * 257)
    assert np.abs(decode.look(encoded(deep), view).astype(int) - grey).max() <= 1
    ink = decode.look(encoded(image.convert("CMYK"), "JPEG", quality=95), view).astype(int)
    assert np.abs(ink - plain).mean() < 12
    assert decode.look(b"no picture", view) is None
    wide = decode.look(encoded(photograph(3, (90, 30))), View(20))
    assert wide.shape == (3, 20, 20)
    with pytest.raises(InputError, match="no interpolation"):
        View(20, 20, "smooth")


def test_photographs_are_looked_at_at_the_encoders_size(photos, tmp_path):
    data = db.load(photos)
    assert data.shape == (3, 64, 64)
    assert data.images.photographs
    assert data.images.native == (200, 150)
    run = verbs.train(photos, recipe=PROBE, reading=db.Reading(holdout=0.0), out=tmp_path)
    assert run.data.shape == (3, 160, 160)
    assert run.data.fingerprint == data.fingerprint, "what it learns from is the same"
    facts = timm.data.resolve_data_config(encoders.about(VIT))
    theirs = timm.data.create_transform(**facts, is_training=False)
    net = encoder_of(f"frozen:{VIT}", (3, 160, 160)).net
    first = run.with_model
    rows = range(0, len(first.data), 5)
    each = [Image.open(photos / first.data.name(row)) for row in rows]
    with torch.inference_mode():
        wanted = net(torch.stack([theirs(image.convert("RGB")) for image in each]))
    assert np.allclose(features(first)[list(rows)], wanted, atol=2e-2, rtol=2e-2)
    again = Run(run.path)
    assert torch.equal(again.data.batch(torch.tensor([3]))[0], run.data.batch(torch.tensor([3]))[0])
    small = verbs.train(photos, recipe=TINY.but(folds=0), out=tmp_path)
    assert small.data.shape == (3, 64, 64), "a net that trains sees them as they are packed"


def test_a_photograph_that_is_gone_is_a_sentence_and_a_thumbnail(photos, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(photos, mine)
    run = verbs.train(mine, recipe=PROBE, reading=db.Reading(holdout=0.0), out=tmp_path / "runs")
    name = run.data.name(0)
    (mine / name).unlink()
    run = Run(run.path)
    with pytest.raises(InputError, match="can no longer be read"):
        run.data.batch(torch.tensor([0]))
    assert run.data.images.one(0).shape == (3, 64, 64)
    (mine / name).write_bytes(b"no picture")
    with pytest.raises(InputError, match="can no longer be read as a picture"):
        run.data.batch(torch.tensor([0]))
    verbs.judge(run)
    verbs.report(run)


def test_a_photograph_that_is_another_one_now_is_never_shown(photos, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(photos, mine)
    run = verbs.train(mine, recipe=PROBE, reading=db.Reading(holdout=0.0), out=tmp_path / "runs")
    bright, dark = (run.data.name(row) for row in (0, 23))
    thumbnail = run.data.images.array[0].copy()
    shutil.copy(mine / dark, mine / bright)
    run = Run(run.path)
    with pytest.raises(InputError, match="or is another one now"):
        run.data.batch(torch.tensor([0]))
    assert np.array_equal(run.data.images.one(0), thumbnail)
    verbs.judge(run)
    verbs.clean(run, out=tmp_path / "cleaned")
    written = next((tmp_path / "cleaned").rglob(Path(bright).name), None)
    assert written is None or np.array_equal(np.asarray(Image.open(written)), thumbnail.transpose(1, 2, 0))  # fmt: skip


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
    album(tmp_path / "a.parquet", count=4, groups=1)
    first = db.load(tmp_path / "a.parquet").images.array.copy()
    each = [encoded(photograph(90 + number), "JPEG") for number in range(4)]
    cells = pa.array([{"bytes": one, "path": ""} for one in each])
    table = pa.table({"image": cells, "label": ["k0", "k1", "k0", "k1"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert not np.array_equal(db.load(tmp_path / "a.parquet").images.array, first)


def test_a_cleaned_set_does_not_take_the_place_of_its_images(tmp_path, monkeypatch):
    album(tmp_path / "album.parquet")
    monkeypatch.chdir(tmp_path)
    run = verbs.train(
        "album.parquet", recipe=PROBE.but(folds=2), reading=db.Reading(holdout=0.0), out="runs"
    )
    verbs.judge(run)
    with pytest.raises(InputError, match="holds the images of this set"):
        verbs.clean(run, out=tmp_path / "album.parquet")
    monkeypatch.chdir(tmp_path / "runs")
    assert Run(tmp_path / run.path).data.images.content(2) is not None


def test_thumbnails_are_told(photos, tmp_path, capsys):
    mine = tmp_path / "mine"
    shutil.copytree(photos, mine)
    run = verbs.train(mine, recipe=PROBE, reading=db.Reading(holdout=0.0), out=tmp_path / "runs")
    verbs.judge(run)
    mine.rename(tmp_path / "moved")
    verbs.clean(Run(run.path), out=tmp_path / "cleaned")
    assert "photographs are no longer where they were read" in capsys.readouterr().err


def test_a_frozen_encoder_is_in_eval_mode(tmp_path):
    """Its normalisation is what it learned, not that of a batch; another side is another encoder."""
    data = db.load("digits", limit=80)
    torch.manual_seed(0)
    from torchvision import models

    state = models.get_model("resnet18", weights=None).state_dict()
    safetensors.torch.save_file(state, tmp_path / "r.safetensors")
    seen = []
    for size in (32, 40):
        name = f"frozen:resnet18,weights={tmp_path / 'r.safetensors'},size={size}"
        recipe = PROBE.but(model=name, folds=0, augment="none")
        run = verbs.train(
            data, recipe=recipe, reading=db.Reading(holdout=0.0), out=tmp_path / "runs"
        )
        assert not any(part.training for part in encoder_of(name, (1, 8, 8)).modules())
        with torch.inference_mode():
            wanted = run.model.eval().features(run.data.batch(torch.arange(20))[0])
        seen.append(features(run)[:20].copy())
        assert np.allclose(seen[-1], wanted, atol=1e-2, rtol=1e-2)
    assert not np.allclose(*seen, atol=1e-2)


def test_thin_pictures_and_odd_sides(photos):
    thin = decode.look(encoded(photograph(1, (10, 4000)), "PNG"), View(32, 36))
    assert thin.shape == (3, 32, 32)
    with pytest.raises(InputError, match="cannot look at 100 pixels"):
        encoder_of(f"frozen:{VIT},weights=none,size=100", (3, 64, 64))
    with pytest.raises(InputError, match="looks at 1 to 4096 pixels"):
        view_of(f"frozen:{VIT},size=5000")
    seen = db.load(photos).looked_at(View(96, 96))
    assert seen.shape == (3, 96, 96)
    assert seen.looked_at(None).shape == (3, 64, 64)


def test_a_stranger_s_run_reads_nothing_outside_its_root(photos, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(photos, mine)
    photograph(9).save(tmp_path / "secret.png")
    run = verbs.train(mine, recipe=PROBE, reading=db.Reading(holdout=0.0), out=tmp_path / "runs")
    path = run.path / "data" / "train.parquet"
    table = parquet.read_table(path)
    names = ["../secret.png", *table["name"].to_pylist()[1:]]
    parquet.write_table(table.set_column(table.column_names.index("name"), "name", [names]), path)
    (run.path / "manifest.json").unlink()
    with pytest.raises(InputError, match="can no longer be read"):
        Run(run.path).data.batch(torch.tensor([0]))


def album(path: Path, count: int = 12, groups: int = 4) -> list[bytes]:
    each = [encoded(photograph(number), "JPEG", quality=90) for number in range(count)]
    cells = pa.array([{"bytes": one, "path": ""} for one in each])
    table = pa.table({"image": cells, "label": pa.array([f"k{n % 2}" for n in range(count)])})
    parquet.write_table(table, path, row_group_size=-(-count // groups))
    return each


def test_photographs_in_parquet_keep_their_bytes(tmp_path):
    each = album(tmp_path / "album.parquet")
    data = db.load(tmp_path / "album.parquet")
    assert [data.images.content(row) for row in range(12)] == each
    run = verbs.train(
        tmp_path / "album.parquet",
        recipe=PROBE.but(folds=2),
        reading=db.Reading(holdout=0.0),
        out=tmp_path / "runs",
    )
    assert run.data.shape == (3, 160, 160)
    verbs.judge(run)
    verbs.clean(run, out=tmp_path / "cleaned.parquet")
    table = parquet.read_table(tmp_path / "cleaned.parquet")
    kept = [cell["bytes"] for cell in table["image"].to_pylist()]
    assert kept
    assert set(kept) <= set(each), "not the thumbnails"
    verbs.clean(run, out=tmp_path / "cleaned")
    files = list((tmp_path / "cleaned").rglob("*.jpg"))
    assert len(files) == len(kept)
    assert {file.read_bytes() for file in files} <= set(each)
    (tmp_path / "album.parquet").unlink()
    assert Run(run.path).data.images.content(0) is None
    with pytest.raises(InputError, match="there is no file"):
        Run(run.path).data.batch(torch.tensor([0]))


def test_row_groups_are_read_as_they_are_needed(tmp_path, monkeypatch):
    from datablame.base import originals

    album(tmp_path / "a.parquet")
    album(tmp_path / "b.parquet", count=7, groups=3)
    cells = originals.Cells((str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")), "image")
    read = []
    group = originals._group.__wrapped__
    monkeypatch.setattr(originals, "_group", lambda *asked: read.append(asked[1]) or group(*asked))
    assert cells.read(13) == encoded(photograph(1), "JPEG", quality=90)
    assert read == [0]
    with pytest.raises(InputError, match="it ends before row 19"):
        cells.read(19)


def test_weights_that_are_not_there_are_a_sentence(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABLAME_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"apache-2\.0.*datablame fetch timm/test_vit\.r160_in1k"):
        verbs.audit(photos, recipe=PROBE, out=tmp_path)
    with pytest.raises(InputError, match="frozen:dinov2,weights=path/to/vit_small"):
        encoder_of("frozen:dinov2", (3, 64, 64))
    with pytest.raises(InputError, match="datablame fetch resnet50"):
        encoder_of("frozen:resnet50", (3, 64, 64))
    assert settle(Recipe(), db.load(photos)).model.startswith("resnet9")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["another", "cut", "header", "suffix", "gone"])
def test_bad_weights_are_sentences(tmp_path, weights, damage):
    good = next(weights.glob("*.safetensors")).read_bytes()
    path = tmp_path / "w.safetensors"
    if damage == "another":
        safetensors.torch.save_file({"fc.weight": torch.zeros(3, 3)}, path)
    elif damage == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif damage == "header":
        path.write_bytes((1 << 50).to_bytes(8, "little") + good[8:])
    elif damage == "suffix":
        path = path.with_suffix(".bin")
        path.write_bytes(good)
    with pytest.raises(InputError, match=r"does not hold weights of|there is no file of weights"):
        encoder_of(f"frozen:{VIT},weights={path}", (3, 64, 64))


def test_an_encoder_that_gives_no_numbers_is_a_sentence(photos, tmp_path, weights):
    state = safetensors.torch.load_file(next(weights.glob("*.safetensors")))
    state["norm.weight"] = torch.full_like(state["norm.weight"], torch.nan)
    path = tmp_path / "nan.safetensors"
    safetensors.torch.save_file(state, path)
    with pytest.raises(InputError, match="that are not finite"):
        verbs.train(photos, recipe=PROBE.but(model=f"frozen:{VIT},weights={path}"), out=tmp_path)


def test_features_are_made_in_parts(photos, tmp_path, monkeypatch):
    """What jobs have made is not made again, and is the same; what one has not done is."""
    monkeypatch.setenv("DATABLAME_CACHE", str(tmp_path / "cache"))
    whole = verbs.train(photos, recipe=PROBE, out=tmp_path / "one")
    monkeypatch.setenv("DATABLAME_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(featuring, "BLOCK", 5)
    found = [
        verbs.train(photos, recipe=PROBE, out=tmp_path, part=f"{number}/3") for number in (1, 3)
    ]
    assert [(each["done"], each["of"]) for each in found] == [(2, 5), (1, 5)]
    paths = [path for each in found for path in each["written"]]
    made = sum(len(safetensors.torch.load_file(path)["rows"]) for path in paths)
    assert not (tmp_path / "runs").exists()
    swept = []
    sweep = featuring.sweep
    monkeypatch.setattr(
        featuring,
        "sweep",
        lambda model, data, *more: swept.append(len(data)) or sweep(model, data, *more),
    )
    again = verbs.train(photos, recipe=PROBE, out=tmp_path)
    assert sum(swept) == 24 - made > 0
    assert torch.equal(torch.tensor(features(again)), torch.tensor(features(whole)))
    assert not list((tmp_path / "other").rglob("parts"))
    done = verbs.train(photos, recipe=PROBE, out=tmp_path, part="1/3")
    assert done["done"] == 0, "nothing is left"


def test_a_damaged_part_of_features_is_told(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABLAME_CACHE", str(tmp_path / "cache"))
    path, _ = verbs.train(photos, recipe=PROBE, out=tmp_path, part="1/1")["written"]
    for name, value in (("rows", torch.tensor([99])), ("features", torch.zeros(1, 2))):
        block = safetensors.torch.load_file(path)
        safetensors.torch.save_file(
            {"rows": torch.arange(1), "features": block["features"][:1], name: value}, path
        )
        with pytest.raises(InputError, match="is damaged"):
            verbs.train(photos, recipe=PROBE, out=tmp_path)


def test_a_part_of_a_net_that_trains_is_refused(photos, tmp_path):
    for recipe in (TINY, PROBE.but(trainer="plain", augment="flip")):
        with pytest.raises(InputError, match=r"has nothing to share; say --seeds"):
            verbs.train(photos, recipe=recipe, out=tmp_path, part="1/2")
    assert not list(tmp_path.iterdir())


def test_names_of_encoders(capsys):
    with pytest.raises(InputError, match="did you mean test_vit"):
        view_of("frozen:timm/test_vit.r161")
    assert view_of(f"frozen:{VIT},size=96") == View(96, 101, "bicubic")
    assert view_of("resnet9") is None
    listed = verbs.encoders()
    assert listed["dinov2"]["licence"] == "apache-2.0"
    assert all("not on this machine" in each["weights"] for each in listed.values())
    assert main(["encoders"]) == 0
    assert "vit_small_patch14_reg4_dinov2" in capsys.readouterr().out
    assert set(encoders.BEST) == set(encoders.ALIASES)


def test_photographs_go_to_an_encoder_that_is_at_hand(photos, tmp_path, weights, monkeypatch):
    monkeypatch.setitem(encoders.ALIASES, "mobilenet", encoders.Alias("test_vit.r160_in1k", 160, 1))
    monkeypatch.delenv("DATABLAME_WEIGHTS")
    data = db.load(photos)
    assert settle(Recipe(), data).trainer == "plain"
    words = [
        "train",
        photos,
        "--weights",
        weights,
        "--holdout",
        0,
        "--out",
        tmp_path,
        "--epochs",
        2,
    ]
    assert main([*map(str, words), "--json"]) == 0
    monkeypatch.setenv("DATABLAME_WEIGHTS", str(weights))
    settled = settle(Recipe(), data)
    assert (settled.model, settled.trainer) == ("frozen:mobilenet", "linear_probe")
    run = Run(tmp_path / next(tmp_path.iterdir()).name)
    assert run.recipe.model == "frozen:mobilenet"
    assert not run.to_json()["small_photographs"]
    assert settle(Recipe(head="scaled"), data).model.startswith("resnet9")
    assert settle(Recipe(), db.load("digits")).model == "mlp", "small pictures are no photographs"
    assert main(["train", str(photos), "--weights", str(tmp_path / "none")]) == 2


def test_the_card_tells_of_photographs_in_small(photos, tmp_path):
    run = verbs.train(photos, recipe=TINY, reading=db.Reading(holdout=0.0), out=tmp_path)
    verbs.judge(run)
    assert "photographs were seen in 64 pixels" in run.card


def test_fetch_puts_weights_where_they_are_found(tmp_path, weights, monkeypatch):
    import huggingface_hub

    asked = []

    def download(repository, file):
        asked.append((repository, file))
        return str(next(weights.glob("*.safetensors")))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    path = verbs.fetch(VIT, to=tmp_path)
    assert asked == [("timm/test_vit.r160_in1k", "model.safetensors")]
    assert path == tmp_path / "test_vit.r160_in1k.safetensors"
    assert verbs.fetch(VIT, to=tmp_path) == path
    assert len(asked) == 1, "what is there is not fetched again"
    verbs.fetch("named", to=tmp_path / "more")
    assert asked[1] == ("timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors")
    shutil.rmtree(tmp_path / "more")
    monkeypatch.setenv("DATABLAME_WEIGHTS", str(tmp_path))
    assert encoders.weights_of(VIT) == path

    def refused(repository, file):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refused)
    with pytest.raises(InputError, match=r"cannot be fetched from timm/vit_small.*no network"):
        verbs.fetch("dinov2", to=tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="--offline forbids"):
        verbs.fetch("dinov2", to=tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name]


def test_torchvision_s_weights_are_fetched_as_safetensors(tmp_path, monkeypatch):
    from torchvision import models

    from datablame.methods.models import torchvision

    net = models.get_model("squeezenet1_1", weights=None)
    monkeypatch.setattr(torchvision, "classifier", lambda name, weights: net)
    path = verbs.fetch("squeezenet1_1", to=tmp_path)
    monkeypatch.setenv("DATABLAME_WEIGHTS", str(tmp_path))
    frozen = encoder_of("frozen:squeezenet1_1", (3, 64, 64))
    kept = safetensors.torch.load_file(path)
    assert torch.equal(frozen.net.net.state_dict()["features.0.weight"], kept["features.0.weight"])
    with pytest.raises(InputError, match="no torchvision classifier 'squeezenet'"):
        verbs.fetch("squeezenet", to=tmp_path)


def test_pixel_noise_is_on_what_is_packed(photos):
    noisy = db.corrupt(photos, noise="pixel_normal", amount=0.5, seed=1)
    assert images.looked_at(noisy.images, View(160)) is noisy.images


def test_a_run_kept_before_photographs_had_originals_opens(photos, tmp_path):
    run = verbs.train(photos, recipe=TINY.but(folds=0), out=tmp_path)
    path = run.path / "data" / "train.json"
    about = json.loads(path.read_text())
    del about["images"]["originals"], about["images"]["native"]
    path.write_text(json.dumps(about))
    (run.path / "manifest.json").unlink()
    again = Run(run.path).data
    assert again.images.originals is None
    assert again.images.content(0) is None


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny model of open_clip's, by name, and the weights of one like it."""
    import open_clip

    home = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }  # fmt: skip
    (home / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(home / "tiny-clip.json")
    torch.manual_seed(1)
    state = open_clip.create_model("tiny-clip").state_dict()
    safetensors.torch.save_file(
        {k: v.contiguous() for k, v in state.items()}, home / "w.safetensors"
    )
    return home / "w.safetensors"


def test_names_of_classes_judge_photographs(photos, tmp_path, clip):
    import open_clip

    run = verbs.train(photos, recipe=PROBE, reading=db.Reading(holdout=0.0), out=tmp_path)
    found = verbs.score(run, f"named,model=tiny-clip,weights={clip}").values
    model = open_clip.create_model("tiny-clip", pretrained=str(clip)).eval()
    look = open_clip.image_transform(32, is_train=False)
    names = [run.data.name(row) for row in range(24)]
    pictures = torch.stack([look(Image.open(photos / name)) for name in names])
    words = open_clip.get_tokenizer("tiny-clip")(["a photo of a bright.", "a photo of a dark."])
    with torch.inference_mode():
        seen = model.encode_image(pictures, normalize=True)
        said = model.encode_text(words, normalize=True)
        p = (model.logit_scale.exp() * seen @ said.T).softmax(1)
    wanted = 1 - p[torch.arange(24), run.data.labels]
    assert torch.allclose(found, wanted, atol=5e-3)
    blended = verbs.score(run, ["aum", f"named,model=tiny-clip,weights={clip}"])
    assert len(blended.values) == 24


def test_names_that_say_nothing_are_a_sentence(photos, tmp_path, clip):
    run = verbs.train("digits", recipe=TINY.but(folds=0), out=tmp_path)
    with pytest.raises(InputError, match="'0' is no word"):
        verbs.score(run, "named")
    run = verbs.train(photos, recipe=TINY.but(folds=0), out=tmp_path)
    with pytest.raises(InputError, match="datablame fetch named"):
        verbs.score(run, "named")
    with pytest.raises(InputError, match="no model of open_clip 'tiny-clop'"):
        verbs.score(run, "named,model=tiny-clop")
    with pytest.raises(InputError, match="does not hold weights of RN50"):
        verbs.score(run, f"named,model=RN50,weights={clip}")
    with pytest.raises(InputError, match="there is no file of weights"):
        verbs.score(run, f"named,model=tiny-clip,weights={clip.with_name('none.safetensors')}")
