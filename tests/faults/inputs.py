"""Sets and files from outside of every kind that is read, small and sound, to be damaged."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np

Words = tuple[object, ...]


def picture(generator: np.random.Generator, form: str = "png") -> bytes:
    """A file of noise, 20 x 20."""
    from PIL import Image

    kept = io.BytesIO()
    Image.fromarray(generator.integers(0, 255, (20, 20, 3), "uint8")).save(kept, form)
    return kept.getvalue()


def photos(home: Path, generator: np.random.Generator) -> Path:
    """Two class folders."""
    for name in ("cat", "dog"):
        (home / name).mkdir(parents=True)
        for i, form in enumerate(("png", "jpeg", "gif", "webp", "bmp", "tiff")):
            (home / name / f"{i}.{form}").write_bytes(picture(generator, form))
    return home


def shard(path: Path, generator: np.random.Generator) -> Path:
    """WebDataset: examples of a picture and a class number."""
    with tarfile.open(path, "w") as packed:
        for k in range(8):
            contents = {"png": picture(generator), "cls": str(k % 2).encode()}
            for ending, content in contents.items():
                about = tarfile.TarInfo(f"{k:04d}.{ending}")
                about.size = len(content)
                packed.addfile(about, io.BytesIO(content))
    return path


def table(path: Path, pictures: Path) -> Path:
    """Paths and labels, a row a picture."""
    rows = [
        {"path": str(file.relative_to(path.parent)), "label": file.parent.name}
        for file in sorted(pictures.rglob("*.*"))
    ]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("path", "label"))
            writer.writeheader()
            writer.writerows(rows)
    return path


def boxes(home: Path, generator: np.random.Generator) -> dict[Path, Words]:
    """The same boxes as COCO, YOLO and Pascal VOC."""
    for folder in ("images", "labels", "Annotations", "JPEGImages"):
        (home / folder).mkdir(parents=True)
    images, annotations = [], []
    for k in range(4):
        for folder in ("images", "JPEGImages"):
            (home / folder / f"{k}.png").write_bytes(picture(generator))
        images.append({"id": k, "file_name": f"{k}.png", "width": 20, "height": 20})
        for which, left in enumerate((1, 10)):
            annotations.append(
                {"id": 2 * k + which, "image_id": k, "category_id": which, "bbox": [left, 2, 8, 9]}
            )
        (home / "labels" / f"{k}.txt").write_text("0 0.25 0.3 0.4 0.4\n1 0.7 0.3 0.4 0.4\n")
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>2</ymin>"
            f"<xmax>{left + 8}</xmax><ymax>11</ymax></bndbox></object>"
            for name, left in (("cat", 1), ("dog", 10))
        )
        (home / "Annotations" / f"{k}.xml").write_text(
            f"<annotation><filename>{k}.png</filename><size><width>20</width>"
            f"<height>20</height></size>{objects}</annotation>"
        )
    categories = [{"id": k, "name": name} for k, name in enumerate(("cat", "dog"))]
    coco, yolo = home / "coco.json", home / "data.yaml"
    coco.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    yolo.write_text("path: .\ntrain: images\nnames:\n  0: cat\n  1: dog\n")
    return {
        coco: ("load", coco, "--image", home / "images"),
        yolo: ("load", yolo),
        home / "labels" / "1.txt": ("load", yolo),
        home / "Annotations" / "1.xml": ("load", home),
    }


def published(home: Path, generator: np.random.Generator) -> dict[Path, Words]:
    """Binary files of CIFAR-10, MNIST and SVHN."""
    from scipy.io import savemat

    labels = (np.arange(20) % 10).astype("uint8")
    for name in ("cifar", "mnist", "svhn"):
        (home / name).mkdir(parents=True)
    rows = np.concatenate([labels[:, None], generator.integers(0, 256, (20, 3072), "uint8")], 1)
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        rows.tofile(home / "cifar" / f"{name}.bin")
    (home / "cifar" / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    for stem in ("train", "t10k"):
        images = generator.integers(0, 256, (20, 28, 28), "uint8")
        for kind, array, magic in (
            ("images-idx3", images, 0x803),
            ("labels-idx1", labels, 0x801),
        ):
            head = np.array([magic, *array.shape], ">u4").tobytes()
            (home / "mnist" / f"{stem}-{kind}-ubyte").write_bytes(head + array.tobytes())
    for split in ("train", "test"):
        pixels = generator.integers(0, 256, (32, 32, 3, 20), "uint8")
        savemat(home / "svhn" / f"{split}_32x32.mat", {"X": pixels, "y": labels.clip(1)[:, None]})
    return {
        home / "cifar" / "data_batch_2.bin": ("load", home / "cifar"),
        home / "cifar" / "batches.meta.txt": ("load", home / "cifar"),
        home / "mnist" / "train-images-idx3-ubyte": ("load", home / "mnist"),
        home / "mnist" / "train-labels-idx1-ubyte": ("load", home / "mnist"),
        home / "svhn" / "train_32x32.mat": ("load", home / "svhn"),
    }


def arrays(home: Path, generator: np.random.Generator) -> dict[Path, Words]:
    """Features and predictions of one's own."""
    labels = np.arange(60) % 3
    features = generator.normal(size=(60, 5)).astype("float32")
    guesses = generator.dirichlet(np.ones(3), 60).astype("float32")
    np.savez(home / "features.npz", features=features, labels=labels)
    np.savez(home / "predictions.npz", pred_probs=guesses, labels=labels)
    return {
        home / "features.npz": ("load", home / "features.npz"),
        home / "predictions.npz": ("audit", home / "predictions.npz", "--out", home / "out"),
    }


def everything(home: Path, generator: np.random.Generator) -> dict[Path, Words]:
    """Each file and the command that reads it."""
    home.mkdir(parents=True)
    pictures = photos(home / "photos", generator)
    found: dict[Path, Words] = {path: ("load", pictures) for path in pictures.rglob("*.*")}
    packed = photos(home / "packed", generator)
    for form, ending in (("zip", "zip"), ("tar", "tar"), ("gztar", "tar.gz")):
        path = Path(shutil.make_archive(str(home / f"photos-{form}"), form, packed))
        assert path.name.endswith(ending)
        found[path] = ("load", path)
    found[shard(home / "train-0000.tar", generator)] = ("load", home / "train-0000.tar")
    for name in ("set.csv", "set.jsonl"):
        found[table(home / name, pictures)] = ("load", home / name)
    found |= boxes(home / "boxes", generator)
    found |= published(home / "published", generator)
    return found | arrays(home, generator)
