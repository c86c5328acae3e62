"""Sets of boxes: read from COCO, YOLO and Pascal VOC, and written back as they were but for what was
found.
"""

import io
import json

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

import datablame as db
from datablame import InputError, Run, Verdict, verbs
from datablame.base import decode
from datablame.base.decode import View
from datablame.boxes.formats import holds
from datablame.cli import main
from datablame.verbs.reading import splits
from datablame.verdict import DROP, FIX, KEEP

COLOURS = {"amber": (230, 160, 20), "blue": (20, 40, 220), "cyan": (30, 210, 210)}
CLASSES = tuple(COLOURS)
PLACES = ((10, 8, 40, 30), (80, 20, 30, 44), (30, 70, 60, 40))
WIDE, HIGH, SCENES = 160, 120, 14


def label(scene, box):
    """What the files say: one box of the first scene is called by another name."""
    return (scene + box + (scene == 0 and box == 1)) % 3


@pytest.fixture
def scenes(tmp_path):
    """The same boxes in three formats, over images of their own."""
    images, annotations = [], []
    for home in ("coco/pictures", "yolo/images/train", "yolo/labels/train", "voc/JPEGImages",
                 "voc/Annotations"):  # fmt: skip
        (tmp_path / home).mkdir(parents=True)
    for scene in range(SCENES):
        canvas = Image.new("RGB", (WIDE, HIGH), (120, 120, 120))
        lines, objects, file = [], [], f"{scene:02d}.png"
        for box, (x, y, w, h) in enumerate(PLACES):
            canvas.paste(COLOURS[CLASSES[(scene + box) % 3]], (x, y, x + w, y + h))
            given = label(scene, box)
            annotations.append(
                {
                    "id": 100 + 3 * scene + box,
                    "image_id": 7 * scene,
                    "category_id": 5 * given + 2,
                    "bbox": [x, y, w, h],
                    "iscrowd": 0,
                    "note": "ours",
                }
            )
            sides = (x + w / 2) / WIDE, (y + h / 2) / HIGH, w / WIDE, h / HIGH
            lines.append(" ".join([str(given), *(f"{side:.6f}" for side in sides)]))
            objects.append(
                f"<object><name>{CLASSES[given]}</name><part><name>p</name></part><bndbox>"
                f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
                "</bndbox></object>"
            )
        for home in ("coco/pictures", "yolo/images/train", "voc/JPEGImages"):
            canvas.save(tmp_path / home / file)
        images.append({"id": 7 * scene, "file_name": file, "width": WIDE, "height": HIGH})
        (tmp_path / f"yolo/labels/train/{scene:02d}.txt").write_text("\n".join(lines) + "\n")
        (tmp_path / f"voc/Annotations/{scene:02d}.xml").write_text(
            f"<annotation><!-- by hand -->\n<filename>{file}</filename><size><width>{WIDE}</width>"
            f"<height>{HIGH}</height></size>\n{''.join(objects)}</annotation>\n"
        )
    categories = [{"id": 5 * k + 2, "name": name} for k, name in enumerate(CLASSES)]
    everything = {"info": {"by": "us"}, "images": images, "annotations": annotations}
    (tmp_path / "coco/boxes.json").write_text(json.dumps(everything | {"categories": categories}))
    names = "".join(f"  {k}: {name}\n" for k, name in enumerate(CLASSES))
    (tmp_path / "yolo/data.yaml").write_text(f"path: .\ntrain: images/train\nnames:\n{names}")
    return tmp_path


def coco(scenes, **changes):
    """The COCO set, read; parts of the file changed before."""
    path = scenes / "coco/boxes.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return db.load(path, image=str(scenes / "coco/pictures"))


def annotations(scenes):
    return json.loads((scenes / "coco/boxes.json").read_text())["annotations"]


def judged(data, out, **found):
    """A run with a verdict of ours: `fix` and `drop` are rows."""
    run = verbs.train(data, recipe=TINY, out=out, holdout=0)
    act, proposed = torch.full((len(data),), int(KEEP)), torch.full((len(data),), -1)
    act[found["fix"]], act[found["drop"]] = int(FIX), int(DROP)
    proposed[found["fix"]] = (data.labels[found["fix"]] + 2) % 3
    some = torch.full((len(data),), 0.5)
    Verdict(act, proposed, some, some, "us", 0.5, (2.0, 1.0, 3.0)).save(
        run.path / "verdict.csv", run.data
    )
    return run


def test_the_same_boxes_from_every_format(scenes, capsys):
    sets = [coco(scenes), db.load(scenes / "yolo"), db.load(scenes / "voc")]
    told = capsys.readouterr().err
    assert told.count("42 boxes of 3 classes on 14 images; found are wrong classes, not") == 3
    for data in sets:
        assert data.classes == CLASSES
        assert len(data) == 42
        assert data.labels.tolist() == [label(row // 3, row % 3) for row in range(42)]
        assert torch.equal(data.batch(torch.arange(42))[0], sets[0].batch(torch.arange(42))[0])
        middle = data.batch(torch.tensor([0]))[0][0, :, 32, 32]
        assert middle.tolist() == list(COLOURS["amber"])
    assert [data.names[4].as_py() for data in sets] == [
        "01.png#104", "images/train/01.png#2", "JPEGImages/01.png#2"
    ]  # fmt: skip
    assert [data.source for data in sets] == ["boxes", "yolo", "voc"]
    assert [data.ending for data in sets] == [".json", "", ""]


def test_a_crop_is_a_square_about_its_box():
    ramp = np.arange(100)[None, :] + np.zeros((60, 1))
    picture = Image.fromarray(np.stack([ramp, ramp.T[:60, :1] + ramp, ramp], 2).astype("uint8"))

    def cut(*place):
        return np.asarray(Image.open(io.BytesIO(decode.cut(picture, place))))

    whole = np.asarray(picture)
    assert (cut(40, 20, 20, 10, 100, 60) == whole[13:37, 38:62]).all()  # 20 and two margins of 2
    assert (
        cut(80, 40, 40, 20, 200, 120) == whole[13:37, 38:62]
    ).all()  # measured at twice the size
    assert (cut(0, 0, 20, 10, 100, 60) == whole[:24, :24]).all()  # moved inside
    assert (cut(95, 50, 20, 20, 100, 60) == whole[36:, 76:]).all()  # it ends outside
    wide = cut(0, 10, 100, 20, 100, 60)
    assert wide.shape == (100, 100, 3)
    assert (wide[20:80] == whole).all()
    assert not wide[:20].any()
    assert not wide[80:].any()


def test_boxes_drawn_on_a_turned_photograph_are_found(tmp_path):
    picture = Image.new("RGB", (80, 40), (0, 0, 0))
    picture.paste((250, 0, 0), (50, 10, 70, 30))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned by 90 degrees: 40 wide, 80 high
    file = io.BytesIO()
    picture.save(file, "PNG", exif=turned)
    for place in ((50, 10, 20, 20, 80, 40), (10, 50, 20, 20, 40, 80), (10, 50, 20, 20, 1, 1)):
        shares = tuple(x / s for x, s in zip(place[:4], (40, 80) * 2, strict=True))
        place = (*shares, 1, 1) if place[4] == 1 else place
        whole = decode.whole(file.getvalue(), (int(place[4]), int(place[5])))
        crop = np.asarray(Image.open(io.BytesIO(decode.cut(whole, place))))
        assert crop[12, 12].tolist() == [250, 0, 0], place
        assert (crop[2:-2, 2:-2, 0] == 250).all()


def test_coco_is_written_back_with_what_was_found(scenes, tmp_path):
    crowd = annotations(scenes)[0] | {"id": 999, "iscrowd": 1}
    data = coco(scenes, annotations=[*annotations(scenes), crowd])
    assert len(data) == 42  # a crowd is no example
    run = judged(data, tmp_path / "runs", fix=[1], drop=[5])
    assert "clean" in run.card
    assert "--out cleaned.json" in run.card
    with pytest.raises(InputError, match=r"name a \.json file, or a \.parquet file for the pic"):
        verbs.clean(run, out=tmp_path / "cleaned")
    verbs.clean(run, out=tmp_path / "cleaned.json")
    before = json.loads((scenes / "coco/boxes.json").read_text())
    after = json.loads((tmp_path / "cleaned.json").read_text())
    assert after["annotations"][1]["category_id"] == 5 * ((label(0, 1) + 2) % 3) + 2
    before["annotations"][1]["category_id"] = after["annotations"][1]["category_id"]
    del before["annotations"][5]
    assert after == before
    assert len(after["annotations"]) == 42  # 41 and the crowd
    changes = (tmp_path / "cleaned-changes.csv").read_text().splitlines()
    assert len(changes) == 3
    assert changes[1].startswith('"00.png#101","cyan","blue","fix by us"')
    assert changes[2].startswith('"01.png#105","amber","","drop by us"')
    again = db.load(tmp_path / "cleaned.json", image=str(scenes / "coco/pictures"))
    assert len(again) == 41
    assert again.labels[1] == 1
    with pytest.raises(InputError, match="is there and was not written"):
        verbs.clean(run, out=tmp_path / "cleaned.json")


def test_yolo_is_written_back_with_what_was_found(scenes, tmp_path):
    third = scenes / "yolo/labels/train/03.txt"
    third.write_text("\n" + third.read_text() + "0 0.1 0.1 0.2 0.1 0.2 0.3\n")  # a polygon
    data = db.load(scenes / "yolo/data.yaml")
    assert len(data) == 43
    assert data.images.originals.places[12] == pytest.approx((0.1, 0.1, 0.1, 0.2, 1, 1))
    run = judged(data, tmp_path / "runs", fix=[1, 12], drop=[9])
    with pytest.raises(InputError, match=r"name a folder, without an ending"):
        verbs.clean(run, out=tmp_path / "cleaned.json")
    verbs.clean(run, out=tmp_path / "cleaned")
    for old in sorted((scenes / "yolo/labels/train").glob("*.txt")):
        lines = old.read_text().splitlines()
        if old.name == "00.txt":
            lines[1] = "1" + lines[1][1:]
        if old.name == "03.txt":
            assert lines[4].startswith("0 0.1")
            lines[4] = "2" + lines[4][1:]
            del lines[1]
        assert (tmp_path / "cleaned/labels/train" / old.name).read_text().splitlines() == lines
    assert (tmp_path / "cleaned/changes.csv").is_file()


def test_lines_with_tabs_and_heads_of_other_encodings(scenes, tmp_path):
    first = scenes / "yolo/labels/train/00.txt"
    first.write_text(first.read_text().replace(" ", "\t"))
    run = judged(db.load(scenes / "yolo"), tmp_path / "runs", fix=[1], drop=[2])
    verbs.clean(run, out=tmp_path / "cleaned")
    lines = first.read_text().splitlines(keepends=True)
    kept = lines[0] + "1" + lines[1][1:]
    assert (tmp_path / "cleaned/labels/train/00.txt").read_text() == kept
    xml = scenes / "voc/Annotations/00.xml"
    for encoding in ("gb2312", "ISO-8859-1", "nonsense"):
        text = xml.read_text().partition("?>")[2] or xml.read_text()
        text = text.replace("<name>cyan<", "<name>Fußgänger<")
        xml.write_text(f'<?xml version="1.0" encoding="{encoding}"?>{text}')
        assert "Fußgänger" in db.load(scenes / "voc").classes
    latest = scenes / "coco/annotations"
    latest.mkdir()
    (scenes / "coco/boxes.json").rename(latest / "latest.json")
    (scenes / "coco/pictures").rename(scenes / "coco/images")
    assert len(db.load(scenes / "coco")) == 42  # no test split, though it ends in it
    (scenes / "yolo/data.yaml").write_text("names: {cat: 0}\ntrain: images/train\n")
    with pytest.raises(InputError, match="not numbered from 0"):
        db.load(scenes / "yolo")


def test_voc_is_written_back_with_what_was_found(scenes, tmp_path):
    run = judged(db.load(scenes / "voc"), tmp_path / "runs", fix=[1], drop=[2])
    verbs.clean(run, out=tmp_path / "cleaned")
    old, new = (home / "Annotations" for home in (scenes / "voc", tmp_path / "cleaned"))
    for path in old.glob("*.xml"):
        text = path.read_text()
        if path.name == "00.xml":
            objects = text[text.index("<object>") : text.index("</annotation>")].split("</object>")
            assert "cyan" in objects[1]
            kept = objects[0] + "</object>" + objects[1].replace("cyan", "blue") + "</object>"
            text = text[: text.index("<object>")] + kept + "</annotation>\n"
        assert (new / path.name).read_text().strip() == text.strip()
    moved = tmp_path / "again/JPEGImages"
    (tmp_path / "again").mkdir()
    (scenes / "voc/JPEGImages").rename(moved)
    new.rename(tmp_path / "again/Annotations")
    assert len(db.load(tmp_path / "again")) == 41


def test_boxes_that_were_not_read_stay_as_they_are(scenes, tmp_path):
    path = scenes / "coco/boxes.json"
    data = db.load(path, image=str(scenes / "coco/pictures"), limit=30)
    assert len(data) == 30
    run = judged(data, tmp_path / "runs", fix=[0], drop=[1])
    verbs.clean(run, out=tmp_path / "cleaned.json")
    after = json.loads((tmp_path / "cleaned.json").read_text())["annotations"]
    assert len(after) == 41


def test_images_whose_size_is_not_told_are_written_back_too(scenes, tmp_path):
    images = json.loads((scenes / "coco/boxes.json").read_text())["images"]
    for image in images:
        del image["width"], image["height"]
    run = judged(coco(scenes, images=images), tmp_path / "runs", fix=[0], drop=[1])
    verbs.clean(run, out=tmp_path / "cleaned.json")
    assert len(json.loads((tmp_path / "cleaned.json").read_text())["annotations"]) == 41


def test_a_part_that_was_held_out_is_written_back_too(scenes, tmp_path):
    run = verbs.train(db.load(scenes / "yolo"), recipe=TINY, out=tmp_path / "runs", holdout=0.2)
    verbs.judge(run, verbs.score(run))
    count = len(run.data)
    assert count < 42
    for kept, out in ((run, "one"), (Run(run.path), "two")):
        dropped = verbs.clean(kept, out=tmp_path / out)
        lines = [path.read_text() for path in (tmp_path / out / "labels/train").glob("*.txt")]
        assert sum(text.count("\n") for text in lines) == len(dropped) >= 42 - count


def test_annotations_that_changed_since_are_not_written(scenes, tmp_path):
    run = judged(db.load(scenes / "yolo"), tmp_path / "runs", fix=[1], drop=[5])
    first = scenes / "yolo/labels/train/01.txt"
    lines = first.read_text().splitlines(keepends=True)
    first.write_text("".join(lines[::-1]))  # the dropped line is another one now
    with pytest.raises(InputError, match=r"changed since it was read \(2 of its boxes .* audit it"):
        verbs.clean(run, out=tmp_path / "cleaned")
    assert not (tmp_path / "cleaned").exists()


def test_a_kept_run_looks_at_the_boxes_again(scenes, tmp_path):
    data = coco(scenes)
    run = verbs.train(data, recipe=TINY, out=tmp_path / "runs", holdout=0)
    again = Run(run.path)
    assert again.data.fingerprint == data.fingerprint
    view = View(48)
    every = torch.arange(len(data))
    looked = [each.looked_at(view).batch(every)[0] for each in (data, again.data)]
    assert looked[0].shape == (42, 3, 64, 64)  # as small as they are, they were decoded
    assert torch.equal(*looked)
    data.images.native = again.data.images.native = (200, 200)
    looked = [each.looked_at(view).batch(every)[0] for each in (data, again.data)]
    assert looked[0].shape == (42, 3, 48, 48)
    assert torch.equal(*looked)
    (scenes / "coco/pictures/03.png").unlink()
    with pytest.raises(InputError, match="can no longer be read"):
        again.data.looked_at(view).batch(every)
    other = json.loads((run.path / "data/train.json").read_text())
    other["images"]["originals"]["root"] = str(tmp_path / "elsewhere")
    (run.path / "data/train.json").write_text(json.dumps(other))
    (run.path / "manifest.json").unlink()
    moved = Run(run.path).data
    moved.images.native = (200, 200)
    with pytest.raises(InputError, match="can no longer be read"):
        moved.looked_at(view).batch(torch.arange(3))
    link = scenes / "coco/pictures/04.png"
    link.rename(tmp_path / "secret.png")
    link.symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match="leads out of its folder"):
        _kept(run.path, scenes).looked_at(view).batch(torch.tensor([12]))


def _kept(path, scenes):
    """The set of a run, its images where they were."""
    about = json.loads((path / "data/train.json").read_text())
    about["images"]["originals"]["root"] = str(scenes / "coco/pictures")
    (path / "data/train.json").write_text(json.dumps(about))
    data = Run(path).data
    data.images.native = (200, 200)
    return data


def test_the_pictures_of_boxes_are_written_as_folders_and_parquet(scenes, tmp_path):
    run = verbs.train(coco(scenes), recipe=TINY, out=tmp_path / "runs", holdout=0)
    verbs.export(run, tmp_path / "crops")
    names = sorted(path.name for path in (tmp_path / "crops/amber").iterdir())
    assert "00-100.png" in names
    assert len(names) == 14
    assert len(db.load(tmp_path / "crops")) == 42
    noisy = verbs.corrupt(coco(scenes), amount=0.2, out=tmp_path / "noisy.json")
    again = db.load(tmp_path / "noisy.json", image=str(scenes / "coco/pictures"))
    assert torch.equal(again.labels, noisy.labels)
    assert int((again.labels != noisy.truth).sum()) > 0
    verbs.corrupt(coco(scenes), amount=0.2, out=tmp_path / "noisy.parquet")
    assert torch.equal(db.load(tmp_path / "noisy.parquet").labels, noisy.labels)


def test_splits_of_folders(scenes):
    (scenes / "coco/annotations").mkdir()
    (scenes / "coco/train2017").mkdir()
    for picture in (scenes / "coco/pictures").iterdir():
        picture.rename(scenes / "coco/train2017" / picture.name)
    (scenes / "coco/train2017").joinpath("x").mkdir()
    path = scenes / "coco/boxes.json"
    path.rename(scenes / "coco/annotations/instances_train2017.json")
    (scenes / "coco/annotations/captions_train2017.json").write_text("{}")
    train, test = splits(scenes / "coco", db.Reading())
    assert len(train) + len(test) == 42  # held out
    known = json.loads((scenes / "coco/annotations/instances_train2017.json").read_text())
    known["annotations"] = known["annotations"][:12]
    (scenes / "coco/annotations/instances_val2017.json").write_text(json.dumps(known))
    (scenes / "coco/train2017").rename(scenes / "coco/both")
    assert (scenes / "coco/both").rename(scenes / "coco/images")
    assert len(db.load(scenes / "coco", split="test")) == 12

    with (scenes / "yolo/data.yaml").open("a") as file:
        file.write("val: ../images/val.txt\n")
    (scenes / "yolo/images/val.txt").write_text("./images/train/00.png\n./images/train/01.png\n")
    assert len(db.load(scenes / "yolo", split="test")) == 6
    (scenes / "yolo/data.yaml").unlink()
    with pytest.raises(InputError, match=r"no data\.yaml or classes\.txt"):
        db.load(scenes / "yolo")
    (scenes / "yolo/classes.txt").write_text("amber\nblue\ncyan\n")
    assert db.load(scenes / "yolo").classes == CLASSES
    with pytest.raises(InputError, match="has no test split"):
        db.load(scenes / "yolo", split="test")

    lists = scenes / "voc/ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("00\n01 1\n02\n")
    (lists / "val.txt").write_text("03\n")
    assert len(db.load(scenes / "voc")) == 9
    assert db.load(scenes / "voc", split="test").names[0].as_py() == "JPEGImages/03.png#1"


def test_boxes_without_a_place_are_left_and_told(scenes, capsys):
    rows = annotations(scenes)
    rows[0]["bbox"] = [10, 8, 0, 30]
    rows[1]["bbox"] = [170, 8, 10, 30]
    rows[2]["bbox"] = "nowhere"
    rows[3]["bbox"] = [150, 100, 30, 40]  # half outside
    data = coco(scenes, annotations=rows)
    assert len(data) == 39
    assert data.aside == (
        ("00.png#100", "box without size"),
        ("00.png#101", "box outside its image"),
        ("00.png#102", "box without a place"),
    )
    told = capsys.readouterr().err
    assert "1 x box outside its image, left as they are: 00.png#101" in told
    images = json.loads((scenes / "coco/boxes.json").read_text())["images"]
    for image in images:  # no size is told: the image's own
        del image["width"], image["height"]
    assert len(coco(scenes, images=images)) == 39
    rows = [row | {"bbox": [0, 0, 0, 0]} for row in rows]
    with pytest.raises(InputError, match="has no box that could be looked at"):
        coco(scenes, annotations=rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category_id": 4}, r"no category of annotation 100 in .*'4'.* there is: 12, 2, 7"),
        ({"category_id": [4]}, r"no category of annotation 100"),
        ({"image_id": 1}, r"annotation 100 is of image 1, not there"),
        ({"id": 101}, r"two boxes are called 00\.png#101"),
    ],
)
def test_bad_annotations_are_sentences(scenes, changes, message):
    rows = annotations(scenes)
    rows[0] |= changes
    with pytest.raises(InputError, match=message):
        coco(scenes, annotations=rows)


def test_bad_files_are_sentences(scenes, capsys):
    path = scenes / "coco/boxes.json"
    with pytest.raises(
        InputError, match=r"of .*boxes\.json \(00\.png, \.\.\.\) are not beside it; "
    ):
        db.load(path)
    with pytest.raises(InputError, match="there is no folder of images"):
        db.load(path, image="elsewhere")
    for part in ("images", "annotations", "categories"):
        kept = path.read_text()
        with pytest.raises(InputError, match=f"is no COCO file: it has no list of {part}"):
            coco(scenes, **{part: {}})
        path.write_text(kept)
    path.write_text("[1, 2")
    assert main(["load", str(path)]) == 2
    assert "is no COCO file" in capsys.readouterr().err

    lines = scenes / "yolo/labels/train/02.txt"
    for text, message in (
        (
            "3 0.5 0.5 0.1 0.1",
            r"02\.txt, line 1: no class 3; there is: amber, blue, cyan \(0 to 2\)",
        ),
        ("blue 0.5 0.5 0.1 0.1", r"line 1 is no box: .* it says 'blue 0.5"),
        ("0 0.5 0.5", "line 1 is no box"),
        ("0.5 0.5 0.5 0.1 0.1", "line 1 is no box"),
        ("inf 0.5 0.5 0.1 0.1", "line 1 is no box"),
    ):
        lines.write_text(text)
        with pytest.raises(InputError, match=message):
            db.load(scenes / "yolo")
    for text, message in (
        ("train: images/train\n", "tells of no YOLO set"),
        ("names: {1: a, 3: b}\ntrain: images/train", "not numbered from 0"),
        ("names: [a, b, c]\ntrain: images/other", "where there are none"),
        ("names: [a\n", "cannot be read"),
    ):
        (scenes / "yolo/data.yaml").write_text(text)
        with pytest.raises(InputError, match=message):
            db.load(scenes / "yolo/data.yaml")
    with pytest.raises(InputError, match="says itself where its images are"):
        db.load(scenes / "voc", image=str(scenes))
    first = scenes / "voc/Annotations/00.xml"
    for text, message in (
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", "declares entities"),
        ("<annotation>", "cannot be read as XML"),
        ("<svg/>", "is no Pascal VOC file: it is <svg>"),
        ("<annotation><object/></annotation>", "has no name"),
    ):
        first.write_text(text)
        with pytest.raises(InputError, match=message):
            db.load(scenes / "voc")


def test_no_path_leads_out_of_the_images(scenes):
    images = json.loads((scenes / "coco/boxes.json").read_text())["images"]
    images[0]["file_name"] = "../../secret.png"
    with pytest.raises(InputError, match="which lies outside of"):
        coco(scenes, images=images)
    (scenes / "yolo/list.txt").write_text("../coco/pictures/00.png\n")
    (scenes / "coco/pictures/00.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (scenes / "yolo/data.yaml").write_text("names: [a, b, c]\ntrain: list.txt\n")
    with pytest.raises(InputError, match="which lies outside of"):
        db.load(scenes / "yolo")


def test_what_is_a_set_of_boxes(scenes, tmp_path):
    assert all(
        holds(scenes / name) for name in ("yolo", "voc", "coco/boxes.json", "yolo/data.yaml")
    )
    assert not holds(scenes / "yolo/images")
    assert not holds(tmp_path / "nowhere")
    assert not holds(scenes / "yolo/images/train/00.png")


def test_an_audit_finds_the_box_of_another_class(scenes, tmp_path):
    run = verbs.audit(scenes / "yolo", recipe=TINY, out=tmp_path / "runs", retrain=False)
    assert run.suspects["name"].to_list()[0] == "images/train/00.png#2"
    page = (run.path / "report.html").read_text()
    assert "images/train/00.png#2" in page
