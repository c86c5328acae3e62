"""Bad sources and options: each must end in a sentence, exit code 2, with nothing written."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

WHOLE = ("nan", "inf", "1.5", "x", "", "99999999999999999999", "-7", "1e400", "0x")
REAL = ("nan", "inf", "-inf", "x", "", "1e400", "-7")
OPTIONS = {
    ("train", "digits"): {
        WHOLE: ("--epochs", "--batch-size", "--top-k", "--validate", "--checkpoints", "--folds",
                "--limit", "--seeds", "--examples"),
        REAL: ("--lr", "--momentum", "--weight-decay", "--amount", "--holdout", "--keep"),
    },
    ("audit", "digits"): {WHOLE: ("--epochs", "--seeds", "--limit"), REAL: ("--minutes", "--amount")},
    ("load", "digits"): {WHOLE: ("--limit",)},
    ("corrupt", "digits"): {WHOLE: ("--limit",), REAL: ("--amount",)},
    ("retrain", "RUN"): {WHOLE: ("--seeds",), REAL: ("--remove",)},
    ("explain", "RUN"): {WHOLE: ("--queries", "--keep", "--rerank")},
    ("index", "RUN"): {WHOLE: ("--block",)},
    ("agree", "RUN", "tracin", "influence"): {WHOLE: ("--queries", "--rows")},
    ("detector", "teach", "RUN"): {
        WHOLE: ("--points", "--hidden", "--layers", "--members", "--epochs"),
        REAL: ("--prior", "--lr"),
    },
    ("memory", "test", "RUN"): {WHOLE: ("--memories",)},
    ("look", "digits"): {WHOLE: ("--limit", "--size"), REAL: ("--holdout",)},
    ("certify", "RUN", "--out", "x.csv"): {WHOLE: ("--draw",)},
    ("certify", "RUN", "--draw", "9", "--out", "x.csv"): {WHOLE: ("--seed",)},
    ("review", "RUN"): {WHOLE: ("--port",)},
}  # fmt: skip
WORDS = (
    "train digits --model nothing", "train digits --head nothing", "train digits --trainer nothing",
    "train digits --model mlp,hidden=x", "train digits --model mlp,nothing=1",
    "train digits --model os.getcwd", "train digits --head math.gcd", "train digits --trainer os.kill",
    "train digits --schedule nothing", "train digits --schedule step,at=2",
    "train digits --optimizer nothing", "train digits --optimizer adam,nesterov=yes",
    "train digits --decays nothing", "train digits --warmup 2", "train digits --label-smoothing -1",
    "train digits --schedule step,at=x", "train digits --augment nothing",
    "train digits --precision fp8", "train digits --record nothing", "train digits --noise nothing",
    "train digits --noise uniform,exact=maybe", "train digits --recipe nowhere.yaml",
    "train digits --test nowhere", "train digits --label x", "train digits --size 12",
    "train digits --nothing", "train", "nothing", "train digits more", "load photos/catz",
    "load nowhere", "load owner/name", "load .", "load /dev/null", "load /dev/zero",
    "load digits --split nope", "load digits --split ../x", "load digits --image x",
    "load hub:nobody/nothing --offline", "load hub: --offline", "load hub:/ --offline",
    "judge RUN --judge nothing", "judge RUN --judge mixture,sure=nan",
    "judge RUN --judge mixture,sure=7", "judge RUN --judge top,share=2",
    "judge RUN --judge top,share=x", "judge RUN --judge os.kill", "judge RUN --by nothing",
    "judge RUN --by ../../x", "judge nowhere", "score RUN nothing", "score RUN aum,since=2",
    "score RUN aum,since=nan", "score RUN knn,k=0", "score RUN knn,k=x", "score RUN loss,epoch=99",
    "score RUN detector,file=/etc/passwd", "score RUN detector,file=nowhere",
    "score RUN os.getcwd", "score RUN nowhere.at.all", "score RUN aum loss --name a/b",
    "score RUN aum loss --name aum", f"score RUN aum loss --name {'n' * 400}",
    "explain RUN --method nothing", "explain RUN --method influence,rank=x",
    "explain RUN --method influence,damping=-1", "explain RUN --index nothing",
    "explain RUN --method influence,measure=os.kill", "explain RUN --method influence,layers=nothing",
    "explain RUN --pick nothing", "export RUN --to x.zip", "export RUN --to nowhere.txt",
    "export nowhere --to x.csv", "clean RUN --out x.zip", "clean nowhere --out x", "report nowhere",
    "report /etc", "measure nowhere", "measure", "compare RUN", "compare RUN nowhere", "agree RUN aum",
    "agree RUN aum nothing", "ablate RUN nothing", "ablate RUN aum --shares 2",
    "ablate RUN aum --shares x", "retrain nowhere", "memorization RUN nothing", "classes RUN",
    "memory show RUN", "memory replace RUN", "memory test nowhere", "detector teach nowhere",
    "detector teach RUN --start nowhere", "detector teach RUN --views nothing", "import nowhere",
    "import /etc", "doctor nowhere", "report RUN --fail-over 5%", "judge RUN --fail-over x",
    "judge RUN --fail-over 500%", "--recipe", "train digits --trust maybe", "index RUN --method nothing",
    "corrupt digits --out /proc/x.parquet", "corrupt digits --out x.zip", "train digits --out /dev/null",
    "train digits --out /proc/x", f"load {'x' * 5000}", f"train digits --out {'x' * 400}",
)  # fmt: skip
"""One line each; RUN is a run that has been judged."""


MEANT = {("--folds", "-7"), ("--points", ""), ("--examples", "99999999999999999999")}
"""Among them those that mean something: as many as there are, say."""


def options() -> list[tuple[str, ...]]:
    """Every command with a number that means nothing."""
    return [
        (*command, option, value)
        for command, kinds in OPTIONS.items()
        for values, names in kinds.items()
        for option in names
        for value in values
        if (option, value) not in MEANT
    ] + [tuple(line.split()) for line in WORDS]


def sources(home: Path) -> list[Path]:
    """Folders, files and recipes that are no sets; made under `home`."""
    from PIL import Image

    generator = np.random.default_rng(0)

    def image(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (9, 9, 3), "uint8")).save(path)
        return path

    made: list[Path] = []

    def folder(name: str) -> Path:
        (home / name).mkdir(parents=True)
        made.append(home / name)
        return home / name

    folder("empty")
    folder("files-only").joinpath("x.png").write_bytes(b"x")
    image(folder("one-class") / "cat" / "1.png")
    image(made[-1] / "cat" / "2.png")
    (folder("no-images") / "cat").mkdir()
    for name in ("cat", "dog"):
        (home / "unreadable" / name).mkdir(parents=True, exist_ok=True)
        (home / "unreadable" / name / "1.png").write_bytes(b"no picture")
    made.append(home / "unreadable")
    for name in ("cat", "dog"):
        (home / "pipes" / name).mkdir(parents=True, exist_ok=True)
        os.mkfifo(home / "pipes" / name / "1.png")
    made.append(home / "pipes")
    for name in ("cat", "dog"):
        (home / "links" / name).mkdir(parents=True, exist_ok=True)
        (home / "links" / name / "1.png").symlink_to("/dev/zero")
        (home / "links" / name / "2.png").symlink_to(home / "links" / name / "2.png")
        (home / "links" / name / "3.png").symlink_to(home / "nowhere")
    made.append(home / "links")
    os.makedirs(os.fsencode(folder("no-text")) + b"/caf\xe9")
    os.mkfifo(home / "pipe.parquet")
    made.append(home / "pipe.parquet")

    picture = image(home / "picture.png").read_bytes()
    table = pa.table({"image": [picture] * 6, "label": [0, 1] * 3})

    def column(name: str, label: pa.Array, metadata: dict | None = None) -> None:
        changed = table.set_column(1, "label", label).replace_schema_metadata(metadata)
        parquet.write_table(changed, home / f"{name}.parquet")
        made.append(home / f"{name}.parquet")

    column("huge", pa.array([0] * 5 + [10**8]))
    column("unsigned", pa.array([0] * 5 + [2**64 - 1], pa.uint64()))
    column("negative", pa.array([0, -5] * 3))
    column("fractions", pa.array([0.5, 1.5] * 3))
    column("infinite", pa.array([0.0, float("inf")] * 3))
    column("nulls", pa.nulls(6))
    column("no-words", pa.array([b"\xff\xfe"] * 6))
    column("lists", pa.array([[0], [1]] * 3))
    column("one-label", pa.array([1] * 6))
    column("names", pa.array([0, 9] * 3), {b"huggingface": json.dumps(
        {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}).encode()})  # fmt: skip
    column("gaps", pa.array([0, None] * 3))
    for name, cells in {
        "no-pictures": [b"x"] * 6, "nothing": [None] * 6, "text": ["x"] * 6, "numbers": [1] * 6
    }.items():  # fmt: skip
        changed = table.set_column(0, "image", pa.array(cells))
        parquet.write_table(changed, home / f"{name}.parquet")
        made.append(home / f"{name}.parquet")
    parquet.write_table(table.slice(0, 0), home / "no-rows.parquet")
    made.append(home / "no-rows.parquet")
    whole = (home / "huge.parquet").read_bytes()
    hostile(home, made, picture)
    for name, content in {
        "cut": whole[:-20],
        "zero": b"",
        "magic": b"PAR1PAR1",
        "csv": b"a,b\n1,2\n",
    }.items():
        (home / f"{name}.parquet").write_bytes(content)
        made.append(home / f"{name}.parquet")
    return made


def hostile(home: Path, made: list[Path], picture: bytes) -> None:
    """Archives, tables, boxes, arrays and shards that mean harm or nothing."""

    def file(name: str, content: bytes | str) -> Path:
        (home / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        made.append(home / name)
        return home / name

    def members(name: str, *infos: tuple[str, bytes, bytes]) -> None:
        with tarfile.open(home / name, "w") as packed:
            for path, kind, content in infos:
                about = tarfile.TarInfo(path)
                about.type, about.size, about.linkname = kind, len(content), "/etc/passwd"
                packed.addfile(about, io.BytesIO(content))
        made.append(home / name)

    members("up.tar", *((f"../{name}/1.png", tarfile.REGTYPE, picture) for name in ("cat", "dog")))
    members("root.tar", *((f"/{name}/1.png", tarfile.REGTYPE, picture) for name in ("cat", "dog")))
    members("links.tar", *((f"{name}/1.png", tarfile.SYMTYPE, b"") for name in ("cat", "dog")))
    members("devices.tar", *((f"{name}/1.png", tarfile.CHRTYPE, b"") for name in ("cat", "dog")))
    members(
        "classless.tar", ("0.png", tarfile.REGTYPE, picture), ("0.cls", tarfile.REGTYPE, b"x" * 99)
    )
    file("cut.tar", (home / "up.tar").read_bytes()[:700])
    file("cut.tar.gz", gzip.compress((home / "root.tar").read_bytes())[:-30])
    with zipfile.ZipFile(home / "huge.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("cat", "dog"):
            packed.writestr(f"{name}/1.png", bytes(2**27))
    made.append(home / "huge.zip")
    file("cut.zip", (home / "huge.zip").read_bytes()[:-9])
    file("none.zip", b"PK\5\6" + bytes(18))
    for name, text in {
        "away.csv": "path,label\n../../etc/passwd,a\n/etc/hostname,b\n",
        "none.csv": "", "head.csv": "path,label\n", "other.csv": "a,b\n1,2\n3,4\n",
        "nul.csv": "path,label\n\0,a\n\0,b\n", "ragged.csv": "path,label\na.png\nb,c,d,e\n",
        "missing.csv": "path,label\nx.png,a\ny.png,b\n", "quote.csv": 'path,label\n"a,b\nc,d\n',
        "none.jsonl": "{}\n", "list.jsonl": "[1,2]\n", "half.jsonl": '{"path": "a.png", "la',
        "deep.jsonl": "[" * 100_000, "deep.json": '{"images": ' + "[" * 100_000,
        "none.json": "{}", "other.json": '{"images": 1, "annotations": {}, "categories": "x"}',
        "boxes.json": json.dumps({
            "images": [{"id": 1, "file_name": "/etc/passwd", "width": 9e99, "height": -1}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1e308] * 4},
                            {"id": 2, "image_id": 1, "category_id": 2, "bbox": "x"}],
            "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}),
    }.items():  # fmt: skip
        file(name, text)
    for name, text in {
        "yolo-none": "", "yolo-away": "path: /etc\ntrain: .\nnames: [a, b]\n", "yolo-words": "train: 7",
        "yolo-tags": "!!python/object/apply:os.system [touch mark]",
    }.items():  # fmt: skip
        (home / name).mkdir()
        (home / name / "data.yaml").write_text(text)
        made.append(home / name)
    entities = "".join(f'<!ENTITY e{k + 1} "{f"&e{k};" * 10}">' for k in range(9))
    for name, text in {
        "voc-bomb": f'<!DOCTYPE x [<!ENTITY e0 "lol">{entities}]><annotation>&e9;</annotation>',
        "voc-file": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation><object>'
                    "<name>&e;</name></object></annotation>",
        "voc-none": "<annotation/>", "voc-cut": "<annotation><object>",
    }.items():  # fmt: skip
        for folder in ("Annotations", "JPEGImages"):
            (home / name / folder).mkdir(parents=True)
        (home / name / "Annotations" / "1.xml").write_text(text)
        (home / name / "JPEGImages" / "1.png").write_bytes(picture)
        made.append(home / name)
    rows = np.arange(60) % 3
    for name, arrays in {
        "pickled": {"features": np.array([{}] * 60), "labels": rows},
        "short": {"features": np.zeros((9, 4), "f4"), "labels": rows},
        "flat": {"features": np.zeros(60, "f4"), "labels": rows},
        "words": {"features": np.array([["a"] * 3] * 60), "labels": rows},
        "far": {"features": np.zeros((60, 4), "f4"), "labels": rows * 10**9},
        "alone": {"labels": rows},
        "guesses": {"pred_probs": np.full((60, 3), -7.0), "labels": rows},
        "unsure": {"pred_probs": np.full((60, 3), np.nan), "labels": rows},
        "wide": {"pred_probs": np.full((60, 2), 0.5), "labels": rows},
    }.items():
        np.savez(home / f"{name}.npz", **arrays)
        made.append(home / f"{name}.npz")
    file("none.arrow", b"")
    file("cut.arrow", b"ARROW1\0\0" + bytes(40))
    file("none.npz", b"PK")
    file(
        "none.npy",
        b"\x93NUMPY\1\0\x76\0{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }",
    )


RECIPES = (
    "model: [a, b]", "epochs: 1.5", "epochs: .nan", "lr: .inf", "lr: words", "nothing: 1", "- a\n- b",
    "model: strangers.lab.net", "head: math.gcd", "trainer: os.kill", "{", "[" * 3000, "\0", "seed: 1e99",
    "&a [*a]", "!!python/object/apply:os.system [touch mark]", "epochs: -1", "momentum: 1", "folds: 1",
    "batch_size: 1", "precision: fp8", "record: x", "epochs: 999999999", "weight_decay: -1",
)  # fmt: skip
