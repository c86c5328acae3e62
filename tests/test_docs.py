"""The documents are true: their commands and snippets run, and the run folder is what its page
says.
"""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml

import datablame as db
from datablame import verbs
from datablame.base import methods
from datablame.cli import main

ROOT = Path(__file__).parents[1]


PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def blocks(name, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


@pytest.fixture
def workplace(tmp_path, monkeypatch, png):
    """A folder with photos/ of two classes, labels.csv of them, and train.parquet, test.parquet
    with a wrong label.
    """
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name, red in (("cat", 220), ("dog", 40)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(15):
            (tmp_path / "photos" / name / f"{i}.png").write_bytes(
                png((red, int(generator.integers(90)), 9), (24, 24))
            )
    rows = [f"photos/{name}/{i}.png,{name}" for name in ("cat", "dog") for i in range(15)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    for split in ("train", "test"):
        labels = np.arange(30) % 2
        images = [
            {"bytes": png((200 * int(k), int(generator.integers(60)), 50), (24, 24)), "path": None}
            for k in labels
        ]
        table = {"img": images, "label": labels}
        if split == "train":
            table["worse_label"] = np.where(np.arange(30) == 4, 1 - labels, labels)
        parquet.write_table(pa.table(table), tmp_path / f"{split}.parquet")
    return tmp_path


def commands(name):
    return [
        line
        for block in blocks(name, "sh")
        for line in block.splitlines()
        if line.startswith("datablame")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_the_commands_of_every_page_run(workplace, capsys, page):
    for line in commands(page):
        code = main(shlex.split(line)[1:])
        out = capsys.readouterr()
        assert code == 0, f"{line}\n{out.err}"
        assert out.out
    if page == "README.md":
        _the_readmes_card_is_the_demos()


def _the_readmes_card_is_the_demos():
    """The same folder, lines and words, and numbers within the intervals that it tells."""
    command = "datablame audit digits --noise pair --amount 0.2"
    assert command in (ROOT / "Makefile").read_text()
    assert command in commands("README.md")
    shown = re.search(r"```\n(table .*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    run = db.Run(Path(shown.split()[1]).parent)
    then, now = ([line[:11].strip() for line in card.splitlines()] for card in (shown, run.card))
    assert then == now
    told = dict(zip(then, (line[11:] for line in shown.splitlines()), strict=True))
    facts = run.to_json()
    low, high = map(int, re.search(r"interval (\d+) to (\d+)", told["estimate"]).groups())
    assert low <= facts["wrong_estimate"] <= high
    assert low <= facts["suspects"] <= high
    low, high = map(
        float, re.search(r"interval ([+-][\d.]+) to ([+-][\d.]+)", told["cleaning"]).groups()
    )
    _, least, most = facts["comparison"]["gain"]
    assert low <= 100 * most, "the intervals meet: machines differ in their last bits"
    assert 100 * least <= high
    assert told["cleaning"].startswith(facts["comparison"]["conclusion"] + ":")
    assert told["data"] == facts["data"]
    roc = float(re.search(r"ROC-AUC ([\d.]+)", told["ranking"])[1])
    assert facts["roc_auc"] == pytest.approx(roc, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "number"),
    [(page, i) for page in PAGES for i in range(len(blocks(page, "python")))],
)
def test_the_snippets_run(workplace, capsys, page, number):
    exec(compile(blocks(page, "python")[number], f"{page} snippet {number}", "exec"), {})
    assert capsys.readouterr().out


def test_the_predictions_snippet_finds_its_nine(workplace, capsys):
    snippet = next(block for block in blocks("docs/own-model.md", "python") if "db.find(" in block)
    exec(compile(snippet, "guide", "exec"), {})
    assert capsys.readouterr().out.splitlines()[0] == str(list(range(9)))


def _inside(path):
    return r"folds/\d/.*" if path[0].startswith("folds") else "proof/.*"


def test_the_run_folder_is_what_its_page_says(audited):
    verbs.explain(audited, queries=2)
    verbs.explain(audited, queries=2, keep=3)
    verbs.index(audited, block=4)
    page = (ROOT / "docs" / "run-folder.md").read_text()
    said = {
        path
        for row in re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
        for path in row.replace("|", "").split("`")[1::2]
    }
    patterns = {
        re.sub(r"folds/\d/$|proof/.*/$", _inside, re.sub("<.*?>", ".+", re.escape(path)))
        for path in said
    }
    there = {
        str(path.relative_to(audited.path)) for path in audited.path.rglob("*") if path.is_file()
    }
    fold = audited.with_model.path
    there |= {str(path.relative_to(fold)) for path in fold.rglob("*") if path.is_file()}
    unsaid = {
        path for path in there if not any(re.fullmatch(pattern, path) for pattern in patterns)
    }
    assert not unsaid, f"docs/run-folder.md does not tell of {unsaid}"
    missing = {
        pattern for pattern in patterns if not any(re.fullmatch(pattern, path) for path in there)
    }
    unfinished = {
        "progress\\.safetensors",
        "attributions/.+\\-.+/progress\\.safetensors",
        "attributions/.+,parts\\-.+/blocks\\.json",
        "attributions/.+,parts\\-.+/.+\\.npy",
    }
    asked = {
        "annotators\\.csv",
        "annotators\\.json",
        "another_label\\.csv",
        "review\\.sqlite",
        "compared\\.html",
        "certificate\\.safetensors",
        "certificate\\.json",
        "test_labels\\.json",
        "test/",
        "unreadable\\.csv",
        "checkpoints/.+\\.safetensors",
        "trace/top\\.npy",
        "trace/top_class\\.npy",
        "trace/clean\\.npy",
        "trace/temperature\\.npy",
        "class_temperature\\.npy",
        "memory\\.npy",
        "test_features\\.npy",
        "evaluation\\-.+\\.json",
    }
    taught = {"scores/.+\\.json"}
    swept = {
        "ablation\\.parquet",
        "ablation\\.csv",
        "ablation\\-left\\-out\\.parquet",
        "ablation/.+\\.npy",
        "memorization\\-.+\\.npz",
        "probabilities\\.npy",
        "probabilities\\-.+\\.npy",
        "classes/.+\\.parquet",
        "class_medians\\.npy",
        "left_out\\-.+\\.npy",
    }
    assert missing == unfinished | asked | swept | taught, (
        "only unfinished work has progress, only a recipe that asks has more"
    )
    keys = re.search(r"`run.json`: (.*)\.", page)
    assert re.findall(r"`(\w+)`", keys[1]) == list(
        json.loads((audited.path / "run.json").read_text())
    )


def test_the_package_says_what_it_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    import datablame

    assert "version" in project["dynamic"]
    newest = re.search(
        r"^## \[(\d.*?)\] - (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert newest[1] == datablame.__version__
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["version"], str(cited["date-released"])) == newest.groups()
    assert {each["year"] for each in cited["references"]} == {2019, 2021, 2022, 2023, 2025}
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    for target in ("install:", "test:", "demo:"):
        assert target in (ROOT / "Makefile").read_text()
    assert "make test" in (ROOT / ".ci" / "run").read_text()


ROOMS_OF_PAGES = ("signals", "judges", "attributors", "curvature", "trainers", "heads", "noises")


@pytest.mark.parametrize("room", ROOMS_OF_PAGES)
def test_each_method_says_where_it_is_from_and_when_to_use_it(room):
    for name in methods.names(room):
        opened = methods.opening(room, name)
        assert opened["source"], name
        assert opened["when"].endswith("."), name


@pytest.mark.slow
def test_the_site_is_made_without_network(tmp_path):
    """With all pages, methods and names; a warning is an error."""
    away = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https")}
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | away | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert made.returncode == 0, made.stderr
    for room in ROOMS_OF_PAGES:
        whole = (tmp_path / "methods" / f"{room}.html").read_text()
        for name in methods.names(room):
            page = (tmp_path / "methods" / room / f"{name}.html").read_text()
            assert "<strong>When:</strong>" in page
            assert '<h2 id="how-well-it-does' in page or '<h2 id="what-it-does' in page
            assert f'href="{room}/{name}.html"' in whole
    names = (tmp_path / "api.html").read_text()
    assert "verbs.auditing.audit" in names
    assert "RESULTS.md" not in (tmp_path / "influence.html").read_text(), (
        "a link to a page of the site"
    )


def test_the_source_distribution_holds_what_lies_at_the_top():
    """Its tests read these files."""
    unasked = {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}
    told = {*(ROOT / "MANIFEST.in").read_text().split(), *unasked, "setup.py", ".gitignore", ".git"}
    kinds = ("", ".cff", ".cfg", ".in", ".md", ".py", ".toml", ".yaml", ".yml")
    there = {path.name for path in ROOT.iterdir() if path.is_file() and path.suffix in kinds}
    assert {"Dockerfile", "action.yml"} <= there <= told


def test_the_page_of_the_package_leads_somewhere(monkeypatch):
    """A registry shows the README, without the files beside it."""
    import setuptools

    told = {}
    monkeypatch.setattr(setuptools, "setup", lambda **words: told.update(words))
    runpy.run_path(ROOT / "setup.py")
    there = re.findall(r"\]\((.+?)\)", told["long_description"])
    here = re.findall(r"\]\((.+?)\)", (ROOT / "README.md").read_text())
    assert len(there) == len(here) > 10
    for full, short in zip(there, here, strict=True):
        assert full.startswith("https://")
        assert full.endswith(short)
        assert ("raw." in full) == short.endswith(".png")


def test_each_promise_of_security_has_its_test():
    page = (ROOT / "SECURITY.md").read_text()
    names = set(re.findall(r"`(test_\w+)`", page))
    there = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert len(names) > 25
    assert {name for name in names if f"def {name}(" not in there} == set()
