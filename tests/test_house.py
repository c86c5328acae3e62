"""The law of the house: imports go down, rooms hold one kind of thing, one file each knows ranks, files and the truth."""

import ast
from pathlib import Path

import pytest
import torch
from conftest import TINY, blobs

from datablame import Dataset, InputError, Scores
from datablame.evidence.encoded import features
from datablame.ground import plug
from datablame.run import Run
from datablame.verdict import Verdict

ROOT = Path(__file__).parents[1] / "src" / "datablame"
FLOORS = {
    0: "ground",
    1: "dataset perturbation trace pairs scores verdict recipe lesson subset classifier run packing corruption recording exporting reading sources noises models heads attention wrap",
    2: "evidence",
    3: "trainers curvature signals links judges scoring linking locating recalling asking agreeing enriching",
    4: "faces proof doctor",
    5: "verbs",
    6: "cli __main__ __init__",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}
ALLOWED = {
    ("sources", "sources"): "a preset is read by the folder or hub source, found by name",
    ("models", "models"): "wide_resnet is built of resnet's blocks; frozen holds a net of torchvision's",
}


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
    return module.split(".")[1] if module.startswith("datablame.") else None


def own(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    for module in imports(path):
        to = place(module)
        if to in FLOOR:
            assert FLOOR[to] <= FLOOR[own(path)], f"{path.name} imports upward: {module}"
            rooms = to in plug.ROOMS and own(path) in plug.ROOMS and (to, own(path)) not in ALLOWED
            assert not rooms, f"rooms do not know each other: {path.name} imports {module}"


def test_every_file_has_a_floor():
    assert {own(path) for path in files()} <= set(FLOOR)


def test_one_file_knows_ranks():
    assert [p.name for p in files() if "torch.distributed" in p.read_text()] == ["world.py"]


def test_only_the_store_opens_files_for_writing():
    writers = []
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                mode = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)] if name == "open" else []
                if (name.endswith(("write_text", "write_bytes")) and not name.startswith("store.")) or any(
                    "w" in m for m in mode
                ):
                    writers.append(path.name)
    assert set(writers) == {"store.py"}


@pytest.mark.parametrize("room", ["signals", "judges", "models", "heads", "trainers", "evidence"])
def test_what_finds_wrong_labels_never_reads_the_truth(room):
    assert not [p.name for p in (ROOT / room).glob("*.py") if ".truth" in p.read_text()]


@pytest.mark.parametrize(("room", "name"), [(room, name) for room in plug.ROOMS for name in plug.names(room)])
def test_a_method_is_its_file_and_says_what_it_is(room, name):
    assert plug.find(room, name).func.__name__ == name
    assert plug.first_line(room, name)
    assert ast.get_docstring(ast.parse((ROOT / room / f"{name}.py").read_text()))


@pytest.mark.parametrize(
    "name", sorted({*plug.names("models")} - {"frozen"})
)  # which does not train: tests/test_memorization.py
def test_models(name):
    torch.manual_seed(0)
    size = 32 if name in ("torchvision", "resnet") else 8
    model = plug.find("models", name)((3, size, size))
    head = torch.nn.Linear(model.dim, 2)
    x, y = torch.rand(8, 3, size, size), torch.arange(8) % 2
    assert model(x).shape == (8, model.dim)
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], 0.001)
    before = torch.nn.functional.cross_entropy(head(model(x)), y)
    before.backward()
    optimizer.step()
    assert torch.nn.functional.cross_entropy(head(model(x)), y) < before
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", plug.names("heads"))
def test_heads(name):
    head, features = plug.find("heads", name)(6, 4), torch.rand(5, 6, requires_grad=True)
    head(features).sum().backward()
    assert head(features).shape == (5, 4)
    assert features.grad is not None


PIXELS = [name for name in plug.names("noises") if name.startswith("pixel_")]


@pytest.mark.parametrize("name", PIXELS)
def test_noises_of_pixels(name, tmp_path):
    data, every = blobs(40, grey=False), torch.arange(40)
    noise = plug.find("noises", name)
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
    first = plug.find("noises", f"{name},original=yes")(data, 1.0, 1).batch(every)[0].float() - data.batch(every)[0]
    assert first.min() >= 0
    assert float((first - first[:1]).abs().median()) == 0, "one pattern for all"
    with pytest.raises(InputError, match="have noise on them already"):
        noise(noisy, 0.5)
    with pytest.raises(InputError, match="strength of noise on pixels"):
        noise(data, -0.5)


@pytest.mark.parametrize("name", sorted({*plug.names("noises")} - {*PIXELS}))
def test_noises(name):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (500,), generator=generator)
    images = torch.randint(0, 256, (500, 3, 8, 8), dtype=torch.uint8, generator=generator).numpy()
    data = Dataset.from_arrays(images, labels.numpy(), map(str, range(10)))
    noise = plug.find("noises", name)
    noisy, again, other = noise(data, 0.3, 1), noise(data, 0.3, 1), noise(data, 0.3, 2)
    wrong = noisy.labels != labels
    can = noise(data, 1.0, 1).labels != labels
    assert torch.equal(noisy.truth, labels)
    assert int(wrong.sum()) == round(0.3 * int(can.sum()))
    assert torch.equal(noisy.labels, again.labels)
    assert not torch.equal(noisy.labels, other.labels)
    assert torch.equal(noise(noisy, 0.1, 3).truth, labels), "noise on noise keeps the first truth"
    chance = plug.find("noises", f"{name},exact=no")(data, 0.3, 1)
    assert 0.15 < float((chance.labels != labels)[can].float().mean()) < 0.45


TRAINED = {"attention", "dividemix", "heat", "memory_wrap", "sigma", "trajectory"}
"""Signals, links and judges that read what only their own trainer or head leaves; tests of its own try each."""
SPECS = [*sorted({*plug.names("signals")} - TRAINED), "datamap,of=variability", "aum,since=0.5", "knn,k=5"]
MARKS_DOUBT = ("entropy", "forgetting", "datamap,of=variability")


@pytest.mark.parametrize("spec", SPECS)
def test_signals(run, spec):
    values = plug.find("signals", spec)(run)
    assert values.shape == (len(run.data),)
    assert values.isfinite().all()
    assert int(values.argmax()) == 7 if spec not in MARKS_DOUBT else values.std() > 0


@pytest.mark.parametrize("spec", SPECS)
def test_permuting_the_rows_permutes_the_scores(run, tmp_path, spec):
    order = torch.randperm(len(run.data), generator=torch.Generator().manual_seed(5))
    other = Run.create(run.data.take(order), run.recipe, None, tmp_path)
    logits = run.model(run.data.batch(torch.arange(len(run.data)))[0]).detach()
    mine = Run.record(run.data, 2, tmp_path / "mine")
    moved = Run.record(run.data.take(order), 2, tmp_path / "moved")
    for epoch in range(2):
        mine.observe(epoch, torch.arange(len(order)), logits * (epoch + 1), mine.data.labels)
        moved.observe(epoch, torch.arange(len(order)), logits[order] * (epoch + 1), moved.data.labels)
    from datablame.evidence import passes
    from datablame.ground import store

    for each, index in ((mine, torch.arange(len(order))), (moved, order)):
        store.write_array(each.path / "features.npy", features(run)[index.numpy()])
        store.write_array(each.path / "heldout.npy", passes.heldout(run)[index.numpy()])
        each.__dict__["model"] = run.model
        each.finish()
    labels = (
        ",labels=given" if spec == "self_influence" else ""
    )  # labels are sampled by row, so another order draws others
    signal = plug.find("signals", spec + labels)
    assert torch.allclose(signal(mine)[order], signal(moved), rtol=1e-3, atol=1e-5)
    assert other.data.name(0) == run.data.name(int(order[0]))


@pytest.mark.parametrize("name", sorted({*plug.names("links")} - TRAINED))
def test_links(run, name):
    """A training row with a wrong label is its own strongest link when it is asked about."""
    queries = run.data.take(torch.tensor([7, 8, 9]))
    pairs = plug.find("links", name)(run, queries)
    scores = pairs.meet(pairs.hold(torch.arange(3)), torch.arange(len(run.data)))
    assert scores.shape == (3, len(run.data))
    assert scores.isfinite().all()
    assert int(scores[0].argmax()) == 7
    assert pairs.size > 0
    some = pairs.meet(pairs.hold(torch.tensor([1])), torch.tensor([40, 3]))
    assert torch.allclose(some, scores[1:2, [40, 3]], rtol=1e-3, atol=1e-5 * float(scores.abs().max()))


@pytest.mark.parametrize("name", sorted({*plug.names("judges")} - TRAINED))
def test_judges(run, name):
    scores = Scores("aum", plug.find("signals", "aum")(run))
    verdict = plug.find("judges", name)(run, scores)
    assert isinstance(verdict, Verdict)
    assert len(verdict.act) == len(run.data)
    low, middle, high = verdict.wrong[1], verdict.wrong[0], verdict.wrong[2]
    assert low <= middle <= high


def test_asked_to_do_nothing_a_judge_changes_nothing(run):
    scores = Scores("aum", plug.find("signals", "aum")(run))
    cleaned = plug.find("judges", "top,share=0")(run, scores).apply(run.data)
    assert cleaned.fingerprint == run.data.fingerprint


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("aumm", "did you mean aum?"),
        ("knn,q=3", "there is: k"),
        ("knn,k=many", "must be of type int"),
        ("knn,k", "name,option=value"),
        ("mylab.scores.gradnorm", "cannot import"),
    ],
)
def test_bad_specs_are_named(spec, words):
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        plug.find("signals", spec)


def test_a_dotted_name_is_a_function_elsewhere(run):
    assert plug.find("signals", "datablame.signals.aum.aum,since=0.5")(run).shape == (len(run.data),)


def test_blobs_are_what_they_say():
    assert (blobs().labels != blobs().truth).nonzero()[:, 0].tolist() == [7]
    assert TINY.folds == 3
