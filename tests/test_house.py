"""The law of the house: imports go down, rooms hold one kind of thing, one file each knows
ranks, files and the truth.
"""

import ast
import re

import pytest
import torch
from conftest import TINY, blobs
from house import ROOT, floors, home

from datablame import Dataset, InputError, Scores, verbs
from datablame.base import arrays, methods
from datablame.inference.features import features
from datablame.label_quality.out_of_sample import heldout
from datablame.run import Run
from datablame.verdict import Verdict

FLOOR = floors()
ALLOWED = {
    (
        "methods/sources",
        "methods/sources",
    ): "a preset is read by the folder or hub source, found by name",
    ("methods/models", "methods/models"): "wide_resnet is built of resnet's blocks",
}
BLIND = {
    "methods/models",
    "methods/heads",
    "methods/trainers",
    "methods/curvature",
    "methods/signals",
}
BLIND |= {
    "methods/attributors",
    "methods/judges",
    "network",
    "attention",
    "layers",
    "inference",
    "influence",
}
BLIND |= {"linear_probe", "dynamics", "label_quality", "optimization", "training"}
"""What finds wrong labels, and what that stands on: it never sees the truth."""
WRITERS = {
    "write_text",
    "write_bytes",
    "save",
    "savez",
    "savetxt",
    "tofile",
    "dump",
    "savefig",
    "to_csv",
    "to_parquet",
}
WRITERS |= {
    "write_table",
    "write_csv",
    "unlink",
    "rename",
    "rmtree",
    "copyfile",
    "copytree",
    "mkdir",
    "symlink_to",
    "touch",
}
WRITERS |= {"memmap", "open_memmap", "save_file", "makedirs", "rmdir", "move"}
OURS = {
    "files",
    "arrays",
    "tables",
    "data",
    "test",
    "queries",
    "noisy",
    "verdict",
    "found",
    "result",
    "each",
    "detector",
    "self",
}
"""Objects whose `save` goes through base/files, and the modules that write."""


def files():
    return [path for path in ROOT.rglob("*.py") if path.name != "__init__.py"]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def place(module):
    return home(module.split(".")[1:]) if module.startswith("datablame.") else None


def own(path):
    return home(path.relative_to(ROOT).with_suffix("").parts)


def calls(tree):
    """(name of the function, its object as text, the call)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Attribute):
                yield function.attr, ast.unparse(function.value), node
            elif isinstance(function, ast.Name):
                yield function.id, "", node


def upward(path, source):
    """Imports of a file, and methods that it finds by name, that are not on a lower floor."""
    tree, mine = ast.parse(source), own(path)
    for module in imports_of(tree):
        to = place(module)
        if to in FLOOR:
            rooms = to.startswith("methods/") and mine.startswith("methods/") and to != mine
            if FLOOR[to] > FLOOR[mine] or (rooms and FLOOR[to] == FLOOR[mine]):
                yield module
    for name, _, call in calls(tree):
        if name in ("find", "within") and call.args and isinstance(call.args[0], ast.Constant):
            room = f"methods/{call.args[0].value}"
            if FLOOR[room] >= FLOOR[mine] and (room, mine) not in ALLOWED:
                yield f"find({call.args[0].value!r})"


def imports_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def peeks(source):
    """Where a file reads the truth: the attributes `truth` and `wrong`, plain or by getattr."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in ("truth", "wrong"):
            yield ast.unparse(node)
        if isinstance(node, ast.Constant) and node.value in ("truth", "wrong"):
            yield repr(node.value)


def writes(source):
    """Where a file writes to disk by itself."""
    tree = ast.parse(source)
    inside = {
        id(call)
        for name, of, outer in calls(tree)
        if of == "files" and name == "write"
        for argument in outer.args
        for _, _, call in calls(argument)
    }
    for node in ast.walk(
        tree
    ):  # functions that are handed to files.write make a part that it puts in place
        if isinstance(node, ast.FunctionDef) and any(
            of == "files"
            and name == "write"
            and any(isinstance(a, ast.Name) and a.id == node.name for a in call.args)
            for name, of, call in calls(tree)
        ):
            inside |= {id(call) for _, _, call in calls(node)}
    for name, of, call in calls(tree):
        modes = [
            a.value
            for a in [*call.args, *(k.value for k in call.keywords)]
            if isinstance(a, ast.Constant)
        ]
        opened = name == "open" and any(
            isinstance(m, str) and m.strip("b+t") in ("w", "a", "x", "r+") for m in modes
        )
        opened = opened or (name == "open" and any(isinstance(m, str) and "+" in m for m in modes))
        bare = not of and name in ("dump", "to_parquet")  # of exchange/sets
        if (opened or (name in WRITERS and of not in OURS and not bare)) and id(call) not in inside:
            yield f"{of}.{name}"


MEMORY = {("pages/figures.py", "page.savefig")}
MEMORY |= {("base/decode.py", "image.save")}
"""Writing to memory, not to disk."""


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_and_calls_by_name_go_down(path):
    assert not list(upward(path, path.read_text()))


def test_every_file_has_a_floor():
    assert {own(path) for path in files()} <= set(FLOOR)


def test_one_file_knows_ranks():
    assert [p.name for p in files() if "torch.distributed" in p.read_text()] == ["processes.py"]


def test_only_three_files_write_to_disk():
    found = {
        (str(p.relative_to(ROOT)), what)
        for p in files()
        if str(p.relative_to(ROOT)) not in ("base/files.py", "base/arrays.py", "base/tables.py")
        for what in writes(p.read_text())
    }
    assert found - MEMORY == set()


def test_text_is_utf_8_on_every_system():
    found = []
    for path in files():
        for call in [x for x in ast.walk(ast.parse(path.read_text())) if isinstance(x, ast.Call)]:
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            owner = getattr(getattr(call.func, "value", None), "id", "")
            words = [x.value for x in call.args if isinstance(x, ast.Constant)]
            binary = any(isinstance(word, str) and "b" in word for word in words)
            said = any(word.arg == "encoding" for word in call.keywords)
            text = isinstance(call.func, ast.Attribute) and name in ("read_text", "write_text")
            text = text and owner not in ("files", "readers", "disk")
            if not said and (text or (name == "open" and not owner and not binary)):
                found.append(f"{path.name}:{call.lineno}")
    assert found == []


def test_what_some_systems_lack_is_known_in_one_place():
    """Locks of Unix; eigenvectors, which Apple's GPU has not; memory by sysconf."""
    known = (("fcntl", []), ("linalg.eigh(", []), ("os.sysconf", ["devices.py"]))
    for words, where in known:
        assert [p.name for p in files() if words in p.read_text()] == where, words


READERS = {
    "load": ("np", "numpy", "torch", "pickle", "yaml", "json"),
    "loads": ("json", "pickle"),
    "open_memmap": ("format",),
    "read_table": ("parquet",),
    "load_file": ("", "torch", "safetensors"),
    "safe_open": ("", "safetensors"),
}
"""Names that read, and what they are called on; our own door has methods of some of these names."""


def reads(text: str) -> list[str]:
    """Calls that open a file of numbers, tables, weights or JSON."""
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        name = call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")
        owner = (
            getattr(call.value, "attr", getattr(call.value, "id", "?"))
            if isinstance(call, ast.Attribute)
            else ""
        )
        if owner in READERS.get(name, ()):
            found.append(f"{owner}.{name}")
    return found


def test_one_door_reads():
    """Whatever a run, a cache or a stranger left is read by base/readers, which never unpickles."""
    doors = {
        "readers.py",
        "files.py",
        "arrays.py",
        "processes.py",
    }  # the last: messages between ranks
    found = {
        (p.name, what) for p in files() if p.name not in doors for what in reads(p.read_text())
    }
    assert found == set()
    text = (ROOT / "base" / "readers.py").read_text()
    assert len(re.findall(r"np\.load\(", text)) == text.count("allow_pickle=False)") == 2
    assert len(re.findall(r"torch\.load\(", text)) == text.count("weights_only=True)") == 1


def test_the_law_of_reading_catches_a_cheat():
    cheat = """
import numpy as np
def cheat(run):
    from safetensors import safe_open
    safe_open(run.path)
    json.loads("1"), parquet.read_table("x"), torch.load("x"), np.lib.format.open_memmap("x")
    return np.load(run.path / "x.npy")
"""
    assert sorted(reads(cheat)) == [
        ".safe_open",
        "format.open_memmap",
        "json.loads",
        "np.load",
        "parquet.read_table",
        "torch.load",
    ]


def test_what_finds_wrong_labels_never_reads_the_truth():
    assert not [(p.name, what) for p in files() if own(p) in BLIND for what in peeks(p.read_text())]


def test_the_laws_catch_a_cheat():
    """A signal that returns the truth, writes by itself and finds a judge."""
    cheat = """
import numpy as np
from datablame.verbs import audit
def cheat(run):
    path = run.path / "x"
    with path.open("w") as file:
        np.save(file, 1)
    methods.find("judges", "top")
    return run.data.wrong.float() + getattr(run.data, "truth")
"""
    path = ROOT / "methods" / "signals" / "cheat.py"
    assert list(upward(path, cheat)) == [
        "datablame.verbs",
        "datablame.verbs.audit",
        "find('judges')",
    ]
    assert list(peeks(cheat)) == ["run.data.wrong", "'truth'"] or set(peeks(cheat)) == {
        "run.data.wrong",
        "'truth'",
    }
    assert set(writes(cheat)) == {"path.open", "np.save"}


@pytest.mark.parametrize(
    ("room", "name"), [(room, name) for room in methods.ROOMS for name in methods.names(room)]
)
def test_a_method_is_its_file_and_says_what_it_is(room, name):
    assert methods.find(room, name).func.__name__ == name
    assert methods.first_line(room, name)
    assert ast.get_docstring(ast.parse((ROOT / "methods" / room / f"{name}.py").read_text()))


@pytest.mark.parametrize(
    "name", methods.names("models")
)  # which does not train: tests/test_memorization.py
def test_models(name):
    torch.manual_seed(0)
    size = 32 if name in ("torchvision", "resnet") else 8
    model = methods.find("models", name)((3, size, size))
    head = torch.nn.Linear(model.dim, 2)
    x, y = torch.rand(8, 3, size, size), torch.arange(8) % 2
    assert model(x).shape == (8, model.dim)
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], 0.001)
    before = torch.nn.functional.cross_entropy(head(model(x)), y)
    before.backward()
    optimizer.step()
    assert torch.nn.functional.cross_entropy(head(model(x)), y) < before
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", methods.names("heads"))
def test_heads(name):
    head, features = methods.find("heads", name)(6, 4), torch.rand(5, 6, requires_grad=True)
    head(features).sum().backward()
    assert head(features).shape == (5, 4)
    assert features.grad is not None


PIXELS = [name for name in methods.names("noises") if name.startswith("pixel_")]


@pytest.mark.parametrize("name", PIXELS)
def test_noises_of_pixels(name, tmp_path):
    data, every = blobs(40, grey=False), torch.arange(40)
    noise = methods.find("noises", name)
    noisy, again, other = noise(data, 0.5, 1), noise(data, 0.5, 1), noise(data, 0.5, 2)
    assert torch.equal(noisy.labels, data.labels)
    seen = noisy.batch(every)[0]
    assert torch.equal(seen, again.batch(every)[0])
    assert not torch.equal(seen, other.batch(every)[0])
    assert noisy.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(noisy.take(every[7:9]).batch(torch.tensor([1]))[0], seen[8:9]), (
        "the image decides, not its place"
    )
    assert torch.equal(torch.from_numpy(noisy.pixels.one(8)), seen[8])
    drawn = (seen.float() - data.batch(every)[0].float()) / 255
    inside = (seen > 0) & (seen < 255)
    for channel, std in enumerate(data.std):
        mine = drawn[:, channel][inside[:, channel]]
        assert float(mine.std()) == pytest.approx(0.5 * std * 12**-0.5, rel=0.05)
        assert abs(float(mine.mean())) < 0.05 * std
    noisy.save(tmp_path / "set")
    back = Dataset.restore(tmp_path / "set")
    assert torch.equal(back.batch(every)[0], seen)
    assert back.fingerprint == noisy.fingerprint
    first = (
        methods.find("noises", f"{name},original=yes")(data, 1.0, 1).batch(every)[0].float()
        - data.batch(every)[0]
    )
    assert first.min() >= 0
    assert float((first - first[:1]).abs().median()) == 0, "one pattern for all"
    with pytest.raises(InputError, match="have noise on them already"):
        noise(noisy, 0.5)
    with pytest.raises(InputError, match="strength of noise on pixels"):
        noise(data, -0.5)


@pytest.mark.parametrize("name", sorted({*methods.names("noises")} - {*PIXELS}))
def test_noises(name):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (500,), generator=generator)
    images = torch.randint(0, 256, (500, 3, 8, 8), dtype=torch.uint8, generator=generator).numpy()
    data = Dataset.from_arrays(images, labels.numpy(), map(str, range(10)))
    noise = methods.find("noises", name)
    noisy, again, other = noise(data, 0.3, 1), noise(data, 0.3, 1), noise(data, 0.3, 2)
    wrong = noisy.labels != labels
    can = noise(data, 1.0, 1).labels != labels
    assert torch.equal(noisy.truth, labels)
    assert int(wrong.sum()) == round(0.3 * int(can.sum()))
    assert torch.equal(noisy.labels, again.labels)
    assert not torch.equal(noisy.labels, other.labels)
    assert torch.equal(noise(noisy, 0.1, 3).truth, labels), "noise on noise keeps the first truth"
    probability = methods.find("noises", f"{name},exact=no")(data, 0.3, 1)
    assert 0.15 < float((probability.labels != labels)[can].float().mean()) < 0.45


TRAINED = {
    "attention": "remembering",
    "memory_wrap": "remembering",
    "temperature": "remembering",
    "temperature_curve": "remembering",
    "trajectory": "remembering",
    "dividemix": "divided",
}
"""Methods that read what only some trainer or head leaves, and the run that has it."""
OWN = {"named", "copies"}
"""Needs photographs and class names: test_encoders; images that are there twice: test_duplicates."""
SPECS = [
    *sorted(set(methods.names("signals")) - OWN),
    "datamap,statistic=variability",
    "aum,since=0.5",
    "knn,k=5",
    "knn,k=5,trust=2",
]


@pytest.fixture(scope="session")
def remembering(tmp_path_factory):
    """A run whose head looks at a memory, and whose examples have temperatures."""
    recipe = TINY.but(
        head="memory_wrap,size=30",
        trainer="data_parameters,lr=0.1",
        epochs=12,
        folds=0,
        checkpoints=0,
    )
    return verbs.train(
        blobs(), recipe=recipe, out=tmp_path_factory.mktemp("remembering"), test=blobs(30, 1, ())
    )


@pytest.fixture(scope="session")
def divided(tmp_path_factory):
    """A run of two nets that divide the data for each other."""
    recipe = TINY.but(trainer="dividemix,warmup=3", epochs=8, folds=0, checkpoints=0)
    return verbs.train(
        blobs(), recipe=recipe, out=tmp_path_factory.mktemp("divided"), test=blobs(30, 1, ())
    )


@pytest.fixture
def fitting(request, run):
    """The run that has what a method reads."""
    return lambda name: request.getfixturevalue(TRAINED[name]) if name in TRAINED else run


MARKS_DOUBT = ("entropy", "forgetting", "outlier", "datamap,statistic=variability")


@pytest.mark.parametrize("spec", SPECS)
def test_signals(fitting, spec):
    run = fitting(spec.partition(",")[0])
    values = methods.find("signals", spec)(run)
    assert values.shape == (len(run.data),)
    assert values.isfinite().all()
    assert int(values.argmax()) == 7 if spec not in MARKS_DOUBT else values.std() > 0


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec not in TRAINED])
def test_permuting_the_rows_permutes_the_scores(run, tmp_path, spec):
    order = torch.randperm(len(run.data), generator=torch.Generator().manual_seed(5))
    other = Run.create(run.data.take(order), run.recipe, None, tmp_path)
    logits = run.model(run.data.batch(torch.arange(len(run.data)))[0]).detach()
    mine = Run.record(run.data, 2, tmp_path / "mine")
    moved = Run.record(run.data.take(order), 2, tmp_path / "moved")
    for epoch in range(2):
        mine.observe(epoch, torch.arange(len(order)), logits * (epoch + 1), mine.data.labels)
        moved.observe(
            epoch, torch.arange(len(order)), logits[order] * (epoch + 1), moved.data.labels
        )

    for each, index in ((mine, torch.arange(len(order))), (moved, order)):
        arrays.write(each.path / "features.npy", features(run)[index.numpy()])
        arrays.write(each.path / "heldout.npy", heldout(run)[index.numpy()])
        each.__dict__["model"] = run.model
        each.finish()
    labels = (
        ",labels=given" if spec == "self_influence" else ""
    )  # labels are sampled by row, so another order draws others
    signal = methods.find("signals", spec + labels)
    assert torch.allclose(signal(mine)[order], signal(moved), rtol=1e-3, atol=1e-5)
    assert other.data.name(0) == run.data.name(int(order[0]))


@pytest.mark.parametrize("name", methods.names("attributors"))
def test_attributors(fitting, name):
    """A training row with a wrong label is its own strongest link when it is asked about."""
    run = fitting(name)
    queries = run.data.take(torch.tensor([7, 8, 9]))
    pairs = methods.find("attributors", name)(run, queries)
    scores = pairs.score(pairs.prepare(torch.arange(3)), torch.arange(len(run.data)))
    assert scores.shape == (3, len(run.data))
    assert scores.isfinite().all()
    assert int(scores[0].argmax()) == 7
    assert pairs.size > 0
    some = pairs.score(pairs.prepare(torch.tensor([1])), torch.tensor([40, 3]))
    assert torch.allclose(
        some, scores[1:2, [40, 3]], rtol=1e-3, atol=1e-5 * float(scores.abs().max())
    )


@pytest.mark.parametrize("name", methods.names("judges"))
def test_judges(fitting, name):
    run = fitting(name)
    scores = Scores("aum", methods.find("signals", "aum")(run))
    verdict = methods.find("judges", name)(run, scores)
    assert isinstance(verdict, Verdict)
    assert len(verdict.act) == len(run.data)
    low, middle, high = verdict.estimate[1], verdict.estimate[0], verdict.estimate[2]
    assert low <= middle <= high


def test_asked_to_do_nothing_a_judge_changes_nothing(run):
    scores = Scores("aum", methods.find("signals", "aum")(run))
    cleaned = methods.find("judges", "top,share=0")(run, scores).apply(run.data)
    assert cleaned.fingerprint == run.data.fingerprint


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("aumm", "did you mean aum?"),
        ("knn,q=3", "there is: k"),
        ("knn,k=many", "must be a whole number"),
        ("knn,k", "name,option=value"),
        ("mylab.scores.gradnorm", "cannot import"),
    ],
)
def test_bad_specs_are_named(spec, words):
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        methods.find("signals", spec)


def test_a_dotted_name_is_a_function_elsewhere(run):
    assert methods.find("signals", "datablame.methods.signals.aum.aum,since=0.5")(run).shape == (
        len(run.data),
    )


def test_blobs_are_what_they_say():
    assert (blobs().labels != blobs().truth).nonzero()[:, 0].tolist() == [7]
    assert TINY.folds == 3
