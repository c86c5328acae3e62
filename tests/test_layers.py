"""Layers in one shape: gradients of examples are autograd's, moments are plain products, factors
are the Fisher where theory says so.
"""

import itertools

import pytest
import torch
from conftest import blobs
from torch import nn
from torch.nn.functional import cross_entropy

from datablame import InputError, Recipe, RunError
from datablame.base import methods
from datablame.influence.fisher import Fisher
from datablame.layers import kronecker, moments
from datablame.layers.taps import Layer, Layers, Tap
from datablame.layers.thinned import thin
from datablame.network.classifier import build

CONVOLUTIONS = [
    nn.Conv2d(4, 6, 3, padding=1),
    nn.Conv2d(4, 6, 3, 2, 1, bias=False),
    nn.Conv2d(4, 6, (3, 2), padding="same", dilation=(1, 2)),
    nn.Conv2d(4, 6, 5, 2, 2, groups=2),
    nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
    nn.Conv2d(4, 6, 3, padding=(2, 0), padding_mode="circular"),
    nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    nn.Conv2d(4, 6, 1),
    nn.Conv1d(4, 6, 3, 2, 1),
    nn.Conv1d(4, 6, 3, padding=2, dilation=2, groups=2, padding_mode="replicate"),
]


class Flat(nn.Sequential):
    """A convolution under a nonlinearity in place and a linear head."""

    def __init__(self, conv, spread):
        width = conv(torch.zeros(1, 4, *spread)).numel()
        super().__init__(conv, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(width, 3))


class Tokens(nn.Module):
    """A linear layer that is applied at every position of a sequence."""

    def __init__(self):
        super().__init__()
        self.each, self.head = nn.Linear(5, 4), nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return self.head(self.each(x).tanh().mean(1))


def tapped(model, x, y):
    """Every layer's tap, of the summed cross-entropy."""
    found = []
    Layers(model).tap(x, lambda z: iter([cross_entropy(z, y, reduction="sum")]), found.append)
    return found


def as_rows(layer, module):
    """The gradient that autograd left in a module, in the layer's order: row, column, channel,
    then the bias.
    """
    g = module.weight.grad.flatten(0, 0)
    g = g.movedim(1, -1) if layer.conv else g
    g = g.reshape(layer.groups, layer.outputs, -1)
    return torch.cat([g, module.bias.grad.view(layer.groups, -1, 1)], -1) if layer.bias else g


@pytest.mark.parametrize("conv", CONVOLUTIONS, ids=str)
def test_gradients_of_examples_are_autograds(conv):
    torch.manual_seed(0)
    spread = (9, 8) if isinstance(conv, nn.Conv2d) else (9,)
    model, x, y = Flat(conv, spread), torch.randn(3, 4, *spread), torch.tensor([0, 1, 2])
    check_against_autograd(model, x, y)


def test_gradients_of_a_layer_over_positions_are_autograds():
    torch.manual_seed(0)
    check_against_autograd(Tokens(), torch.randn(3, 7, 5), torch.tensor([2, 0, 1]))


def check_against_autograd(model, x, y):
    taps = tapped(model, x, y)
    assert len(taps) == 2
    assert [tap.layer.module for tap in taps] == [
        m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))
    ][::-1]
    for tap in taps:
        layer, gradient = tap.layer, tap.gradient()
        for b in range(len(x)):
            model.zero_grad()
            cross_entropy(model(x[b : b + 1]), y[b : b + 1]).backward()
            assert torch.allclose(gradient[:, b], as_rows(layer, layer.module), atol=1e-5)
        left, right = (
            torch.randn(layer.groups, layer.outputs, 2),
            torch.randn(layer.groups, layer.inputs, 3),
        )
        assert torch.allclose(layer.project(tap.x, right), tap.rows @ right[:, None], atol=1e-4)
        rotated = left.mT[:, None] @ gradient @ right[:, None]
        assert torch.allclose(tap.rotated(left, right), rotated, atol=1e-4)
        top, energy = tap.energies(left, right)
        assert torch.allclose(top, rotated, atol=1e-4)
        assert torch.allclose(
            energy, (left.mT[:, None] @ gradient).square().sum(3), rtol=1e-3, atol=1e-5
        )
        assert torch.allclose(tap.norm(), gradient.square().sum((0, 2, 3)), rtol=1e-4)
        assert torch.equal(torch.cat([part.x for part in tap.split()]), tap.x)


@pytest.mark.parametrize(
    ("conv", "side", "structured"),
    [
        (nn.Conv2d(64, 8, 3, padding=1), 9, True),
        (nn.Conv2d(64, 8, 5, 2, 2, bias=False), 16, True),
        (nn.Conv2d(64, 8, (3, 5)), 12, False),
        (nn.Conv2d(64, 8, (3, 5), padding=(1, 2)), 12, True),
        (nn.Conv2d(64, 8, 3, padding=(2, 0), padding_mode="circular"), 7, False),
        (nn.Conv2d(64, 8, 4, 2, 1), 13, True),
        (nn.Conv2d(64, 8, 3, padding="same"), 5, True),
        (nn.Conv1d(256, 8, 3, padding=1), 9, True),
        (nn.Conv2d(64, 8, 3, padding=1), 1, False),
        (nn.Conv2d(64, 8, 3, dilation=2), 9, False),
        (nn.Conv2d(128, 8, 3, groups=2), 9, False),
        (nn.Conv2d(8, 8, 3), 9, False),
    ],
    ids=str,
)
def test_second_moments_are_plain_products(conv, side, structured):
    torch.manual_seed(0)
    shape = (
        (side, side + 1)
        if isinstance(conv, nn.Conv2d) and side > 1
        else (side,) * (len(conv.kernel_size))
    )
    layer = Layer("conv", conv)
    taps = [
        Tap(layer, x, layer.returned(conv(x).detach()))
        for x in torch.randn(2, 3, conv.in_channels, *shape)
    ]
    assert moments.Autocorrelation.fits(taps[0]) == structured
    exact = sum(
        tap.rows.flatten(1, 2).double().mT @ tap.rows.flatten(1, 2).double() for tap in taps
    )
    moment, triangle = moments.Moment(layer), moments.Triangle(layer)
    for tap in taps:
        moment.update(tap)
        triangle.update(tap)
    for found in (moment.finish(), triangle.finish()):
        assert (found - exact).abs().max() < 2e-6 * exact.abs().max()


def made(a, g):
    """A tap of a linear layer with these inputs `[B,S,I]` and output gradients `[B,S,O]`."""
    return Tap(Layer("made", nn.Linear(a.shape[-1], g.shape[-1], bias=False)), a, g[None])


def fitted(kind, taps, damping=1e-3):
    curvature = methods.find("curvature", kind)(taps[0].layer)
    for _ in curvature.passes:
        for tap in taps:
            curvature.update(tap)
        curvature.meet(0)
        curvature.finish()
    curvature.damp(damping)
    return curvature


def fisher(taps):
    """The exact Fisher of the taps, `[OI, OI]`."""
    flat = torch.cat([tap.gradient()[0].flatten(1) for tap in taps])
    return flat.mT @ flat / len(flat)


def matrix(curvature, like, damping):
    """What a curvature stands for, from what it does: the inverse of `solve`, less the damping."""
    o, i = like.layer.outputs, like.layer.inputs
    unit = torch.eye(o * i).view(-1, o, i)
    probe = Tap(like.layer, unit, torch.eye(o).expand(1, o * i, o, o))
    back = curvature.turn(torch.eye(o)[None, None])[
        0, 0
    ]  # solved gradients are in the coordinates of turned ones
    return torch.linalg.inv(
        (back @ curvature.solve(probe)[0]).flatten(1).double()
    ) - damping * torch.eye(o * i)


@pytest.mark.parametrize("kind", ["kfac", "ekfac", "ekfac,rank=none"])
def test_one_example_gives_the_exact_fisher(kind):
    torch.manual_seed(0)
    tap = made(torch.randn(1, 1, 4), torch.randn(1, 1, 3))
    assert torch.allclose(
        matrix(fitted(kind, [tap], 0.1), tap, 0.1).float(), fisher([tap]), atol=1e-4
    )


@pytest.mark.parametrize("kind", ["kfac", "ekfac,rank=none"])
def test_one_shared_input_gives_the_exact_fisher(kind):
    torch.manual_seed(0)
    tap = made(torch.randn(4).expand(6, 1, 4).contiguous(), torch.randn(6, 1, 3))
    assert torch.allclose(
        matrix(fitted(kind, [tap], 0.1), tap, 0.1).float(), fisher([tap]), atol=1e-4
    )


@pytest.mark.parametrize("kind", ["kfac", "ekfac,rank=none"])
def test_independent_positions_give_the_exact_fisher(kind):
    """All combinations of inputs and gradients of mean zero at two positions: independence that
    is exact, not only expected.
    """
    u = torch.tensor([[1.0, 0.5, 0.2], [-0.3, 1.0, 0.4]])
    p = torch.tensor([[0.7, 0.1], [0.2, -0.9]])
    inputs, gradients = torch.cat([u, -u]), torch.cat([p, -p])
    every = list(itertools.product(range(4), repeat=4))
    a = torch.stack([torch.stack([inputs[i], inputs[j]]) for i, j, _, _ in every])
    g = torch.stack([torch.stack([gradients[k], gradients[m]]) for _, _, k, m in every])
    tap = made(a, g)
    assert torch.allclose(
        matrix(fitted(kind, [tap], 0.1), tap, 0.1).float(), fisher([tap]), atol=1e-4
    )


def test_kfac_on_the_scale_of_kronfluence_is_smaller_by_the_positions():
    torch.manual_seed(0)
    taps = [made(torch.randn(6, 5, 4), torch.randn(6, 5, 3)) for _ in range(2)]
    a, g = torch.cat([tap.rows[0] for tap in taps]), torch.cat([tap.g[0] for tap in taps])
    right, left = (torch.einsum("nsi,nsj->ij", x, x) / 60 for x in (a, g))
    both = torch.linalg.eigvalsh(left)[:, None] * torch.linalg.eigvalsh(right)
    found = fitted("kfac,scale=kronfluence", taps)
    assert torch.allclose(found.values[0], both, rtol=1e-4, atol=1e-6)
    assert torch.allclose(5 * found.values, fitted("kfac", taps).values, rtol=1e-4)
    with pytest.raises(InputError, match="no scale of kfac 'other'"):
        methods.find("curvature", "kfac,scale=other")(taps[0].layer)
    with pytest.raises(InputError, match="scale=kronfluence is of kind=kfac"):
        Fisher(scale="kronfluence")
    assert Fisher(kind="kfac").method == "kfac"
    assert Fisher(kind="kfac", scale="kronfluence").method == "kfac,scale=kronfluence"


def test_ekfac_is_never_farther_from_the_fisher_than_kfac():
    for seed in range(8):
        torch.manual_seed(seed)
        a, g = torch.randn(20, 3, 4), torch.randn(20, 3, 3)
        tap = made(a * g.norm(dim=2, keepdim=True), g)
        exact = fisher([tap]).double()
        far = {
            kind: (matrix(fitted(kind, [tap], 0.1), tap, 0.1) - exact).norm()
            for kind in ("kfac", "ekfac,rank=none")
        }
        assert far["ekfac,rank=none"] <= far["kfac"] * (1 + 1e-6)


def test_ekfacs_low_rank_keeps_the_energy_and_becomes_exact():
    torch.manual_seed(0)
    tap = made(torch.randn(30, 2, 8) @ torch.diag(torch.linspace(2, 0.1, 8)), torch.randn(30, 2, 3))
    full = fitted("ekfac,rank=none", [tap])
    for rank in (2, 5, 8, 20):
        low = fitted(f"ekfac,rank={rank}", [tap])
        assert low.mean == pytest.approx(full.mean, rel=1e-4)
        assert low.exact == (rank >= 8)
        r = min(rank, 8)
        assert torch.allclose(low.kept["values"], full.kept["values"][:, :, -r:], rtol=1e-3)
    assert torch.allclose(fitted("ekfac,rank=20", [tap]).square(tap), full.square(tap), rtol=1e-4)


def test_ekfac_of_few_outputs_is_its_restriction():
    torch.manual_seed(0)
    tap = made(torch.randn(30, 2, 4), torch.randn(30, 2, 5) @ torch.diag(torch.linspace(2, 0.1, 5)))
    full, few = fitted("ekfac,rank=none", [tap]), fitted("ekfac,rank=none,outputs=2", [tap])
    assert torch.allclose(few.kept["values"], full.kept["values"][:, -2:], rtol=1e-3)
    within = full.turn(tap.g)[..., -2:].mT @ tap.rows
    assert torch.allclose(few.square(tap), (few.solve(tap) * within).sum((0, 2, 3)), rtol=1e-3)
    assert few.width == 8


def test_grouped_convolutions_are_blocks():
    """Each group of a convolution is a layer of its own: K-FAC of the whole is K-FAC of each."""
    torch.manual_seed(0)
    whole, x = nn.Conv2d(4, 6, 3, groups=2, bias=False), torch.randn(5, 4, 6, 6)
    g = torch.randn(5, 6, 4, 4)
    layer = Layer("whole", whole)
    together = fitted("ekfac,rank=none", [Tap(layer, x, layer.returned(g))])
    for group in range(2):
        part = Layer("part", nn.Conv2d(2, 3, 3, bias=False))
        tap = Tap(
            part, x[:, 2 * group : 2 * group + 2], part.returned(g[:, 3 * group : 3 * group + 3])
        )
        assert torch.allclose(
            fitted("ekfac,rank=none", [tap]).kept["values"][0],
            together.kept["values"][group],
            rtol=1e-3,
            atol=1e-4,
        )


class Doubled(nn.Module):
    def __init__(self, tied):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        if tied:
            self.two.weight = self.one.weight
        self.tied = tied

    def forward(self, x):
        return self.two(self.one(x)) if self.tied else self.two(self.one(self.one(x)))


def test_shared_weights_are_refused_by_name():
    with pytest.raises(InputError, match="layers one and two share one weight"):
        Layers(Doubled(tied=True))
    with pytest.raises(InputError, match="layer one is used twice"):
        tapped(Doubled(tied=False), torch.randn(2, 4), torch.tensor([0, 1]))
    assert [layer.name for layer in Layers(Doubled(tied=False), "two").every] == ["two"]
    with pytest.raises(InputError, match=r"no layer matches 'three'; there is: one, two"):
        Layers(Doubled(tied=False), "three")


def test_the_module_is_left_as_it_was():
    model = Flat(nn.Conv2d(4, 6, 3), (9, 8)).train()
    model[0].weight.requires_grad_(False)
    tapped(model, torch.randn(2, 4, 9, 8), torch.tensor([0, 1]))
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]
    assert not model[0]._forward_hooks


def test_an_input_that_is_changed_in_place_later_is_copied():
    class Adds(nn.Module):
        in_place = True

        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)

        def forward(self, x):
            x = x.clone()
            y = self.one(x)
            return self.two(y + (x.add_(1) if self.in_place else x + 1))

    torch.manual_seed(0)
    model, x, y = Adds(), torch.randn(2, 4), torch.tensor([0, 2])
    gradients = [tap.gradient() for tap in tapped(model, x, y)]
    model.in_place = False  # autograd itself refuses the other
    for one, two in zip(gradients, [tap.gradient() for tap in tapped(model, x, y)], strict=True):
        assert torch.equal(one, two)
    check_against_autograd(model, x, y)


def test_rows_without_a_finite_gradient_are_named():
    from datablame.layers.taps import finite

    with pytest.raises(RunError, match="gradient of 1 queries is not finite, rows 7"):
        finite(torch.tensor([[1.0, torch.nan], [1.0, 0.0]]), torch.tensor([3, 7]), "queries")


def test_the_basis_counts_the_inputs_of_enumerated_labels_once():
    torch.manual_seed(0)
    a, g = torch.randn(6, 1, 4), torch.randn(2, 6, 1, 3)
    first = made(a, g[0])
    second = Tap(first.layer, a, g[1][None], first=False)
    basis = kronecker.Basis(first.layer)
    basis.update(first)
    basis.update(second)
    basis.meet(0)
    found = basis.finish()
    inputs = found["right"][0] @ torch.diag(found["right_values"][0]) @ found["right"][0].T
    outputs = found["left"][0] @ torch.diag(found["left_values"][0]) @ found["left"][0].T
    assert torch.allclose(inputs, a[:, 0].T @ a[:, 0] / 6, atol=1e-5)
    assert torch.allclose(
        outputs, torch.einsum("kbo,kbp->op", g[:, :, 0], g[:, :, 0]) / 6, atol=1e-5
    )


@pytest.mark.parametrize(("inputs", "thinned"), [(2, True), (15, True), (16, False)])
def test_strided_1x1_convolutions_of_few_inputs_step_by_one(inputs, thinned):
    """Their gradient by oneDNN writes past its memory otherwise, in channels-last order."""
    conv = nn.Conv2d(inputs, 8, 1, (2, 3), bias=False).double()
    net = nn.Sequential(conv, nn.Conv2d(8, 4, 3, 2)).double()
    x = torch.randn(3, inputs, 9, 8, dtype=torch.double, generator=torch.manual_seed(0))
    before = net(x)
    assert torch.equal(thin(net)(x), before)
    assert (conv.stride == (1, 1)) == thinned
    assert net[1].stride == (2, 2)


def test_a_narrow_residual_nets_gradient_is_that_in_double_precision():
    net = build(Recipe(model="resnet,depth=20,width=0.25"), blobs()).train()
    x, labels = blobs().batch(torch.arange(12))
    gradients = []
    for kind in (torch.float, torch.double):
        net.to(kind).zero_grad()
        features = net.encoder((x.to(kind) / 255).to(memory_format=torch.channels_last))
        cross_entropy(net.head(features), labels).backward()
        gradients.append([p.grad.double() for p in net.encoder.parameters()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
