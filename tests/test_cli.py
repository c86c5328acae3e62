"""The command line: exit codes, JSON, one-sentence errors, and an answer at once."""

import html
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from conftest import TINY, blobs

from datablame import Recipe, Run, verbs
from datablame.analyses.scoring import DEFAULT
from datablame.cli import main


def call(capsys, *arguments):
    """(exit code, standard output, standard error) of one command."""
    code = main([str(argument) for argument in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def shell(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "datablame", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.parametrize("words", [["--help"], ["audit", "--help"], ["--version"], ["methods"]])
def test_help_does_not_wait_for_torch(words):
    code = f"import sys\nfrom datablame.cli import main\nmain({words!r})\nassert {words == ['methods']} or 'torch' not in sys.modules, 'torch'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 4


@pytest.mark.parametrize("command", ["audit", "train"])
def test_a_dozen_options_come_first(command):
    words = [sys.executable, "-m", "datablame", command, "--help"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    first = shown.split("╭─")[1]
    assert first.startswith(" Parameters")
    assert "--seed" in first
    assert len(re.findall(r"^│ \s+--", first, re.MULTILINE)) <= 12
    assert "╭─ How it is trained" in shown


def test_every_option_says_what_it_does():
    from datablame.cli import app

    def commands(parent):
        for name in parent:
            if not name.startswith("-"):
                each = parent[name]
                yield from [each] if each.default_command else commands(each)

    bare = [
        f"{' '.join(each.name)} {argument.name}"
        for each in commands(app)
        for argument in each.assemble_argument_collection(parse_docstring=True)
        if argument.show and not argument.parameter.help
    ]
    assert not bare


def test_an_audit_prints_a_card_of_ten_lines(audited, capsys):
    code, out, _ = call(
        capsys,
        "audit",
        "digits",
        "--epochs",
        15,
        "--noise",
        "uniform",
        "--amount",
        0.1,
        "--out",
        audited.path.parent,
    )
    assert code == 0
    lines = out.strip().splitlines()
    assert len(lines) == 10
    assert lines[-1] == f"           datablame clean {audited.path} --out cleaned"
    assert lines[0] == f"table      {audited.path / 'examples.parquet'}"
    assert "suspects" in lines[4]
    assert audited._repr_html_().startswith("<pre>table")


def test_an_audit_finds_planted_noise(audited):
    measures = json.loads((audited.path / "measures.json").read_text())
    assert measures["blend"]["roc_auc"] > 0.99
    assert set(measures) == {*DEFAULT, "blend", "p_wrong"}
    assert audited.test is None
    assert json.loads((audited.path / "comparison.json").read_text())["test_images"] == 899


def test_the_table_holds_every_example(audited, tmp_path):
    table = parquet.read_table(audited.path / "examples.parquet")
    assert table.num_rows == 1797
    assert {
        "name",
        "split",
        "given",
        "given_name",
        "proposed",
        "proposed_name",
        "act",
        "by",
        "rank",
        "truth",
        "suspicion.blend",
    } <= set(table.column_names)
    assert sorted(table["rank"].to_pylist()) == list(range(1, 1798))
    worst = table["suspicion.blend"].to_numpy()[table["rank"].to_numpy() == 1]
    assert worst == table["suspicion.blend"].to_numpy().max()
    csv = verbs.export(audited, to=tmp_path / "e.csv")
    assert csv.read_text().count("\n") == 1798
    assert parquet.read_table(verbs.export(audited, to=tmp_path / "e.parquet")).num_rows == 1797


def test_json_is_one_object_and_nothing_else(audited, capsys):
    code, out, err = call(
        capsys,
        "audit",
        "digits",
        "--epochs",
        15,
        "--noise",
        "uniform",
        "--amount",
        0.1,
        "--out",
        audited.path.parent,
        "--json",
    )
    facts = json.loads(out)
    assert code == 0
    assert facts["roc_auc"] == facts["signals"]["p_wrong"]["roc_auc"]
    assert facts["average_precision"] > 0.9
    assert facts["acts"]["fix"] > 80
    assert not err.startswith("{")


@pytest.mark.parametrize(("limit", "code"), [("50%", 0), ("0.02", 3)])
def test_fail_over(audited, capsys, limit, code):
    done, _, err = call(capsys, "judge", audited.path, "--fail-over", limit)
    assert done == code
    assert ("more than 2.00%" in err) == (code == 3)


@pytest.mark.parametrize(("limit", "code"), [("40%", 0), ("30%", 3)])
def test_a_look_fails_over_what_is_at_fault(tmp_path, capsys, png, limit, code):
    """Of eight files one is no picture, and two are one picture with two labels."""
    for row in range(6):
        folder = tmp_path / "photos" / ("a", "b")[row % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.png").write_bytes(png((40 * row, 255 - 40 * row, 9), (24, 24)))
    (tmp_path / "photos" / "a" / "lost.png").write_bytes(b"no picture")
    (tmp_path / "photos" / "b" / "copy.png").write_bytes(
        (tmp_path / "photos" / "a" / "0.png").read_bytes()
    )
    words = ["look", tmp_path / "photos", "--out", tmp_path / "looks", "--fail-over"]
    done, out, err = call(capsys, *words, limit, "--json")
    assert json.loads(out)["faulty_share"] == 0.375
    assert done == code
    assert ("37.50% of the examples are at fault, more than 30.00%" in err) == (code == 3)


def test_only_new_suspects_count_beside_a_baseline(tmp_path, capsys):
    """Those that were suspects before, with the same label, do not fail the check."""
    words = ["audit", "digits", "--limit", "300", "--epochs", "4", "--folds", "2", "--model", "mlp"]
    words += ["--no-retrain", "--noise", "pair", "--amount", "0.2", "--out", tmp_path]
    code, out, _ = call(capsys, *words, "--json", "--fail-over", "1%")
    assert code == 3
    facts = json.loads(out)
    assert facts["suspects"] > 20
    before = tmp_path / "before.parquet"
    shutil.copy(facts["table"], before)
    code, out, _ = call(capsys, *words, "--fail-over", "0%", "--baseline", before)
    assert code == 0
    assert "new        0 suspects that the baseline has not" in out
    table = parquet.read_table(before)
    kept, acts, given = table["name"].to_pylist(), table["act"].to_pylist(), table["given_name"]
    suspects = [row for row, act in enumerate(acts) if act in ("fix", "drop")]
    acts[suspects[0]] = "keep"
    other = given.to_pylist()
    other[suspects[1]] = "another"
    table = table.set_column(table.column_names.index("act"), "act", pa.array(acts))
    table = table.set_column(table.column_names.index("given_name"), "given_name", pa.array(other))
    parquet.write_table(table, before)
    code, out, err = call(capsys, *words, "--fail-over", "0.5%", "--baseline", before, "--json")
    assert json.loads(out)["new_suspects"] == sorted(kept[row] for row in suspects[:2])
    assert code == 3
    assert "0.67% of the examples are suspect and new, more than 0.50%" in err
    assert call(capsys, *words, "--fail-over", "0.7%", "--baseline", before)[0] == 0


def test_a_baseline_that_is_none_is_told(tmp_path, capsys, audited):
    for words, said in (
        (["audit", "digits", "--baseline", tmp_path / "x.parquet"], "of an earlier audit"),
        (["judge", audited.path, "--baseline", audited.path], "--baseline goes with audit"),
    ):
        code, _, err = call(capsys, *words)
        assert code == 2
        assert said in err
    (tmp_path / "x.parquet").write_bytes(b"no table")
    code, _, err = call(capsys, "audit", "digits", "--baseline", tmp_path / "x.parquet")
    assert code == 2
    assert "cannot be read" in err


def test_every_command_works_on_a_run(audited, capsys, tmp_path):
    path = audited.path
    for words, expected in (
        (["load", "digits"], "1797"),
        (["score", path, "aum", "loss", "--name", "pair"], "pair"),
        (["judge", path, "--judge", "top,share=0.1", "--by", "pair"], "suspects"),
        (["judge", path], "posterior"),
        (["measure", path], "roc_auc"),
        (["compare", path, path], "no difference shown"),
        (["report", path], "report.html"),
        (["export", path, "--to", tmp_path / "t.csv"], "t.csv"),
        (
            [
                "corrupt",
                "digits",
                "--noise",
                "pair",
                "--amount",
                0.1,
                "--out",
                tmp_path / "n.parquet",
            ],
            "wrong_labels         180",
        ),
        (["train", "digits", "--epochs", 1, "--folds", 0, "--out", tmp_path], "digits-mlp"),
        (["methods"], "aum"),
        (["methods", "confident"], "judges: confident"),
        (["methods", "uniform"], "when"),
        (["doctor"], "torchvision"),
    ):
        code, out, err = call(capsys, *words)
        assert code == 0, err
        assert expected in out, words
    (path / "scores" / "pair.npy").unlink()
    verbs.judge(path)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["audit", "digits", "--model", "resnett"], "did you mean resnet"),
        (["methods", "aumm"], "no method 'aumm'; did you mean aum"),
        (["audit", "digits", "--signals", "aumm"], "no signal 'aumm'; did you mean aum?"),
        (["audit", "digits", "--judge", "mixtures"], "did you mean mixture"),
        (["audit", "digits", "--noise", "unifrom"], "did you mean uniform"),
        (["audit", "digits", "--epochz", "3"], "--epochz"),
        (["audit", "digits", "--epochs", "many"], "many"),
        (["audit", "digits", "--seeds", "0"], "seeds must be at least 1"),
        (["train", "digits", "--epoch", "3"], "for the length of training: --epochs"),
        (["train", "digits", "--amount", "0.3"], "how much of a --noise is planted"),
        (["train", "digits", "--model", "resnet9,width=0"], "width must be above 0"),
        (["train", "digits", "--model", "frozen:"], "name the encoder"),
        (["train", "digits", "--model", "frozen:runs/none"], "there is no run at runs/none"),
        (["train", "digits", "--momentum", "1"], "momentum is a share below 1"),
        (["train", "digits", "--trainer", "dividemix,alpha=0"], "above 0"),
        (["audit", "digits", "--amount", "2", "--noise", "uniform"], "between 0 and 1"),
        (["audit", "digits", "--label", "x"], "which cannot choose this"),
        (["audit", "no/such/folder"], "there is no path no/such/folder"),
        (["audit", "photos/"], "there is no path photos/"),
        (["audit", "digits", "--minutes", "0.0001"], "minutes are too few"),
        (["audit", "digits", "--recipe", "none.yaml"], "cannot read the recipe"),
        (["audit"], "source"),
        (["adit", "digits"], "adit"),
        (["judge", "nowhere"], "is not a run"),
        (["load", "digits", "--fail-over", "5%"], "--fail-over goes with audit, judge and look"),
        (["load", "digits", "--fail-over", "lots"], "takes a share such as 5%"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(capsys, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *words)
    assert code == 2
    assert out == ""
    assert sentence.lower() in err.lower()
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("run.json")), "nothing half-written"


def test_a_failure_is_exit_code_1(capsys, monkeypatch, tmp_path):
    from datablame import RunError

    def fail(*_):
        raise RunError("the disk is full")

    monkeypatch.setattr("datablame.training.fit.fit", fail)
    code, _, err = call(capsys, "train", "digits", "--out", tmp_path)
    assert (code, err.strip().splitlines()[-1]) == (1, "datablame: the disk is full")


def test_a_dry_run_only_estimates(capsys, tmp_path):
    code, out, _ = call(capsys, "audit", "digits", "--dry-run", "--out", tmp_path)
    assert code == 0
    assert re.match(
        r"4 trainings of 25 epochs, then 4 to prove: about .*(s|min).* of memory, .* of disk", out
    )
    assert not list(tmp_path.iterdir())


def test_a_recipe_file_goes_under_the_options_beside_it(capsys, tmp_path):
    (tmp_path / "r.yaml").write_text(Recipe(epochs=2, batch_size=50, folds=0).to_yaml())
    code, out, _ = call(
        capsys,
        "train",
        "digits",
        "--recipe",
        tmp_path / "r.yaml",
        "--epochs",
        1,
        "--out",
        tmp_path,
        "--json",
    )
    assert code == 0
    recipe = Run(json.loads(out)["run"]).recipe
    assert (recipe.epochs, recipe.batch_size, recipe.model) == (1, 50, "mlp")


@pytest.mark.slow
def test_an_interrupted_command_says_how_to_resume(tmp_path):
    import signal

    arguments = ["audit", "digits", "--epochs", "60", "--no-retrain", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "datablame", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread; a shell starts background jobs with the signal ignored
    )
    wait_for(lambda: list(tmp_path.glob("digits-*/folds/1/trace")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        f"Resume with:\n  datablame audit digits --epochs 60 --no-retrain --out {tmp_path}" in err
    )
    again = shell(*arguments)
    assert again.returncode == 0
    assert "model 1 of 4" not in again.stderr, "what is done is kept"
    assert "model 3 of 4" in again.stderr


def wait_for(ready, seconds=60):
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_bytes(tmp_path):
    """SIGKILL in training, in the folds, and while scoring; the whole at 20 moments is
    benchmarks/resume.py.
    """
    arguments = ["audit", "digits", "--epochs", "8", "--no-retrain"]
    assert shell(*arguments, "--out", tmp_path / "whole").returncode == 0
    moments = ("digits-*/folds/0/trace", "digits-*/folds/1/trace", "digits-*/scores")
    for number, moment in enumerate(moments):
        out = tmp_path / str(number)
        process = subprocess.Popen(
            [sys.executable, "-m", "datablame", *arguments, "--out", str(out)],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        wait_for(
            lambda out=out, moment=moment, process=process: (
                list(out.glob(moment)) or process.poll() is not None
            )
        )
        process.kill()
        process.wait()
        assert shell(*arguments, "--out", out).returncode == 0
        one, two = (next((tmp_path / name).glob("digits-*")) for name in ("whole", str(number)))
        for path in sorted((one / "scores").glob("*.npy")):
            assert path.read_bytes() == (two / "scores" / path.name).read_bytes(), (
                moment,
                path.name,
            )
        assert (one / "verdict.csv").read_bytes() == (two / "verdict.csv").read_bytes()


def test_the_users_files_are_never_touched(tmp_path, png, capsys):
    for name, colour in (("a", (200, 0, 0)), ("b", (0, 0, 200))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            (tmp_path / "photos" / name / f"{i}.png").write_bytes(png(colour, (20, 20)))
    before = {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in (tmp_path / "photos").rglob("*")
    }
    code, out, err = call(
        capsys,
        "audit",
        tmp_path / "photos",
        "--epochs",
        2,
        "--model",
        "mlp",
        "--folds",
        2,
        "--out",
        tmp_path / "runs",
    )
    assert code == 0, err
    assert "24 images" in out.splitlines()[2], "every image is judged"
    after = {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in (tmp_path / "photos").rglob("*")
    }
    assert before == after


def test_the_report_is_self_contained_and_looks_safe(audited):
    page = (audited.path / "report.html").read_text()
    assert "default-src 'none'" in html.unescape(page)
    assert page.count("<script>") == 1, "its own"
    assert not re.findall(r'(?:src|href)="(?!data:|#|gallery/1.html")', page)
    for title in (
        "Summary",
        "Worst suspects",
        "Scores",
        "Training",
        "Did cleaning help?",
        "Signals against the truth",
        "Seconds",
    ):
        assert f"<h2>{title}" in page
    drawn = {path.stem for path in (audited.path / "figures").iterdir()}
    assert drawn >= {"distribution", "training", "retraining", "suspects", "found"}


def test_names_are_escaped_in_the_report(tmp_path):
    data = blobs()
    import dataclasses

    import pyarrow as pa

    evil = dataclasses.replace(
        data,
        names=pa.array([f"<script>{i}</script>" for i in range(90)]),
        classes=("<b>a", "b", "c"),
        source="<i>set",
    )
    run = verbs.audit(evil, recipe=TINY, retrain=False, out=tmp_path)
    page = (run.path / "report.html").read_text()
    assert page.count("<script>") == 1, "its own"
    assert "<b>a" not in page
    assert "<i>set" not in page


def test_the_module_can_be_run_and_offers_its_names():
    import datablame

    assert set(dir(datablame)) >= {"audit", "Dataset", "Run", "InputError"}
    assert callable(datablame.audit)
    assert Path(datablame.__file__).exists()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = datablame.nothing
