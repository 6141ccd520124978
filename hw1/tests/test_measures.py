"""Each measure against a dense, closed-form or brute-force answer on networks that allow one."""

import copy
import io
import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from lab import ascent, curvature

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, parametrizations, prune, vector_to_parameters
from tqdm import tqdm

import measures
import symmetries

MEASURES = {
    "input_gradient_norm": measures.input_gradient_norm,
    "jacobian_norm": lambda model, x, y, **options: measures.jacobian_norm(model, x, **options),
    "parameter_gradient_norm": measures.parameter_gradient_norm,
    "hessian_norm": lambda *data, **options: measures.hessian_norm(*data, **options)[0],
    "block_hessian_norm": measures.block_hessian_norm,
    "ball_sharpness": lambda *data, **options: measures.ball_sharpness(*data, 1e-2, **options),
    "adaptive_sharpness": lambda *data, **o: measures.adaptive_sharpness(*data, 1e-2, **o),
    "box_sharpness": lambda *data, **options: measures.box_sharpness(*data, 1e-3, **options),
}
every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES.keys())


def batch(n, shape=(1, 4, 4), classes=3, seed=0):
    """Class means plus noise: x (n, *shape) float32, y (n,)."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    means = torch.randn(classes, *shape, generator=rng)
    return means[y] + torch.randn(n, *shape, generator=rng), y


def build(layers, seed=0):
    rng = torch.Generator().manual_seed(seed)
    net = nn.Sequential(*layers)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=rng) / math.sqrt(p[0].numel()))
    return net


def mlp(sizes=(16, 6, 5, 3), seed=0, dropout=None):
    layers = [nn.Flatten()]
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else [])
    return build(layers[: -2 if dropout else -1], seed)


def cnn(seed=0):
    conv = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.ReLU()]
    return build([*conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)], seed)


def train(net, x, y, steps, lr=0.3):
    """Full-batch gradient descent; returns the same net."""
    for _ in range(steps):
        slopes = torch.autograd.grad(cross_entropy(net(x), y), list(net.parameters()))
        with torch.no_grad():
            for p, slope in zip(net.parameters(), slopes, strict=True):
                p -= lr * slope
    return net


def dense_hessian(net, x, y):
    """(parameters, parameters) float64, by torch.func."""
    net, x = copy.deepcopy(net).double(), x.double()
    shapes = {name: p.shape for name, p in net.named_parameters()}

    def loss(flat):
        pieces = flat.split([s.numel() for s in shapes.values()])
        named = {n: t.view(s) for (n, s), t in zip(shapes.items(), pieces, strict=True)}
        return cross_entropy(functional_call(net, named, (x,)), y)

    return hessian(loss)(parameters_to_vector(net.parameters()).detach())


def rise(net, x, y, steps):
    """(L(theta + d) - L(theta)) / (1 + L(theta)) in float64 for each row d of steps."""
    net, x = copy.deepcopy(net).double(), x.double()
    theta, heights = parameters_to_vector(net.parameters()).detach().clone(), []
    with torch.no_grad():
        loss = float(cross_entropy(net(x), y))
        for step in torch.as_tensor(steps):
            vector_to_parameters(theta + step, net.parameters())
            heights.append((float(cross_entropy(net(x), y)) - loss) / (1 + loss))
    return np.array(heights)


def bound(net, x, y, epsilon):
    """What the gradient alone promises in the ball: epsilon ||g|| / (1 + L)."""
    loss = float(cross_entropy(net(x), y).detach())
    return epsilon * measures.parameter_gradient_norm(net, x, y) / (1 + loss)


def two_parameters(seed=0):
    """Two weights only, so that a grid finds every maximum; labels that do not follow x."""
    x = torch.linspace(-2, 2, 9).view(-1, 1)
    y = torch.tensor([0, 1, 0, 0, 1, 1, 0, 1, 1])
    return build([nn.Linear(1, 2, bias=False)], seed), x, y


def top(matrix):
    return float(torch.linalg.eigvalsh(matrix).abs().max())


@pytest.mark.parametrize("net", [mlp(), cnn()], ids=["mlp", "cnn"])
def test_input_gradient_norm_equals_central_differences(net):
    x, y = batch(6)
    double, x64, h = copy.deepcopy(net).double(), x.double(), 1e-6
    norms = []
    for xi, yi in zip(x64, y, strict=True):
        steps = h * torch.eye(xi.numel(), dtype=torch.float64).view(-1, *xi.shape)
        labels = yi.expand(len(steps))
        up = cross_entropy(double(xi + steps), labels, reduction="none")
        down = cross_entropy(double(xi - steps), labels, reduction="none")
        norms.append(float(((up - down) / (2 * h)).detach().norm()))
    assert measures.input_gradient_norm(net, x, y) == pytest.approx(np.mean(norms), rel=1e-5)
    # The gradient with respect to the parameters is another number altogether.
    assert measures.parameter_gradient_norm(net, x, y) != pytest.approx(np.mean(norms), rel=0.05)


@pytest.mark.parametrize("net", [mlp(), cnn()], ids=["mlp", "cnn"])
def test_input_norms_do_not_depend_on_the_evaluation_batch(net):
    x, y = batch(4100)
    for measure in (MEASURES["input_gradient_norm"], MEASURES["jacobian_norm"]):
        values = [measure(net, x, y, batch_size=b) for b in (8, 64, 512, 4096)]
        assert values == pytest.approx([values[0]] * 4, rel=1e-5)
    # Differentiating the batch mean, as published solutions do, fails the same test.
    leaf = x[:64].clone().requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(net(leaf), y[:64]), leaf)
    mistaken = float(slope.flatten(1).norm(dim=1).mean())
    assert mistaken < 0.1 * measures.input_gradient_norm(net, x[:64], y[:64])


@every_measure
def test_no_measure_depends_on_the_memory_format(measure):
    x, y = batch(30, shape=(2, 6, 6))
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten()]
    net = build([*layers, nn.Linear(16, 3)])
    expected, last = measure(net, x, y), {"memory_format": torch.channels_last}
    assert measure(net.to(**last), x.contiguous(**last), y) == pytest.approx(expected, rel=1e-4)


@every_measure
@pytest.mark.parametrize("net", [mlp(), cnn()], ids=["mlp", "cnn"])
def test_no_measure_depends_on_chunks_or_on_the_order_of_examples(measure, net):
    x, y = batch(50)
    whole, order = (
        measure(net, x, y),
        torch.randperm(50, generator=torch.Generator().manual_seed(3)),
    )
    assert measure(net, x, y, batch_size=7) == pytest.approx(whole, rel=1e-4)
    assert measure(net, x[order], y[order]) == pytest.approx(whole, rel=1e-4)


def test_jacobian_norm_of_softmax_regression_in_closed_form():
    x, _ = batch(40)
    net = mlp((16, 3))
    weight, p = net[1].weight.detach().double(), net(x).softmax(1).detach().double()
    jacobians = (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]) @ weight
    expected = jacobians.flatten(1).norm(dim=1).mean()
    assert measures.jacobian_norm(net, x) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("net", [mlp(), mlp((16, 20, 3)), cnn()], ids=["narrow", "wide", "cnn"])
def test_jacobian_norm_equals_jacrev(net):
    x, _ = batch(12)
    double = copy.deepcopy(net).double()
    each = vmap(jacrev(lambda xi: double(xi[None])[0].softmax(0)))(x.double())
    expected = each.detach().flatten(1).norm(dim=1).mean()
    assert measures.jacobian_norm(net, x) == pytest.approx(float(expected), rel=1e-5)


def twice():
    """The first layer comes again behind the activation: its output tells half of the Hessian."""
    layer = nn.Linear(16, 16)
    return build([nn.Flatten(), layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(16, 3)])


NETS = {"mlp": mlp(), "softmax": mlp((16, 3)), "cnn": cnn(), "twice": twice()}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS.keys())
def test_hessian_norm_is_the_largest_dense_eigenvalue(net):
    x, y = batch(60)
    dense = dense_hessian(net, x, y)
    value, residual = measures.hessian_norm(net, x, y)
    assert value == pytest.approx(top(dense), rel=1e-4)
    assert value < 0.95 * float(dense.norm())  # not the Frobenius norm
    assert 0 <= residual <= 1e-3


def test_hessian_norm_takes_the_magnitude_of_a_negative_eigenvalue():
    # With f = s w1 w2 at equal factors and a falling loss, the cross terms are alike and negative.
    layers = [nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(1, 2, bias=False))
    vector_to_parameters(torch.tensor([0.5, 0.5, 0.35, -0.35]), net.parameters())
    x, y = torch.ones(1, 1), torch.zeros(1, dtype=torch.int64)
    spectrum = torch.linalg.eigvalsh(dense_hessian(net, x, y))
    assert -spectrum.min() > 1.2 * spectrum.max()
    assert measures.hessian_norm(net, x, y)[0] == pytest.approx(-float(spectrum.min()), rel=1e-4)


def test_hessian_norm_of_many_examples_that_start_from_a_subset():
    x, y = batch(16_000)
    net = mlp()
    value, residual = measures.hessian_norm(net, x, y)
    assert value == pytest.approx(top(dense_hessian(net, x, y)), rel=1e-4)
    assert residual <= 1e-3


@pytest.mark.parametrize("net", [mlp(), mlp(seed=4), cnn()], ids=["mlp", "mlp-4", "cnn"])
def test_block_hessian_norm_is_the_largest_dense_block(net):
    x, y = batch(60)
    dense, end, blocks = dense_hessian(net, x, y), 0, []
    for p in net.parameters():
        start, end = end, end + p.numel()
        blocks.append(top(dense[start:end, start:end]))
    value = measures.block_hessian_norm(net, x, y)
    assert value == pytest.approx(max(blocks), rel=1e-4)
    assert value < measures.hessian_norm(net, x, y)[0]


class Token:
    """Lives as long as the part of an autograd graph that holds it."""

    alive, most = 0, 0

    def __init__(self):
        Token.alive += 1
        Token.most = max(Token.most, Token.alive)

    def __del__(self):
        Token.alive -= 1


class Mark(torch.autograd.Function):
    """The identity, leaving a token in the graph."""

    @staticmethod
    def forward(ctx, x):
        ctx.token = Token()
        return x.view_as(x)

    @staticmethod
    def backward(ctx, slope):
        return slope


class Marked(nn.Sequential):
    def forward(self, x):
        return super().forward(Mark.apply(x))


@every_measure
def test_memory_does_not_grow_with_the_examples(measure):
    """Graphs of past chunks are let go: of 40, never more than the last and the next are alive."""
    Token.alive = Token.most = 0
    measure(Marked(*mlp()), *batch(400), batch_size=10)
    assert 1 <= Token.most <= 2
    assert Token.alive == 0


def test_lanczos_that_does_not_converge_is_an_error():
    with pytest.raises(measures.MeasureError, match="converge"):
        measures.hessian_norm(mlp(), *batch(60), tolerance=1e-16, restarts=1)


def test_parameter_gradient_norm_equals_backward_in_double():
    net, (x, y) = mlp().double(), batch(60)
    cross_entropy(net(x.double()), y).backward()
    expected = float(torch.cat([p.grad.flatten() for p in net.parameters()]).norm())
    assert measures.parameter_gradient_norm(mlp(), x, y) == pytest.approx(expected, rel=1e-6)


def test_sharpness_by_hand():
    assert measures.sharpness(1.0, 8.0, 0.5) == pytest.approx(0.5)
    assert measures.sharpness(0.0, 12.0, 1e-2) == pytest.approx(6e-4)
    with pytest.raises(measures.MeasureError):
        measures.sharpness(float("nan"), 1.0, 1e-3)


@pytest.mark.parametrize("epsilon", [1e-4, 0.3, 3.0])
def test_ball_and_box_find_the_maximum_of_a_fine_grid(epsilon):
    net, x, y = two_parameters()
    angle = torch.linspace(0, 2 * math.pi, 2001, dtype=torch.float64)
    circle = epsilon * torch.stack([angle.cos(), angle.sin()], dim=1)
    radii = torch.linspace(0.05, 1, 4, dtype=torch.float64)
    disc = rise(net, x, y, (radii[:, None, None] * circle[::4]).view(-1, 2))
    expected = max(disc.max(), rise(net, x, y, circle).max())
    assert measures.ball_sharpness(net, x, y, epsilon) == pytest.approx(expected, rel=1e-3)
    side = torch.linspace(-epsilon, epsilon, 41, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side) * (
        parameters_to_vector(net.parameters()).detach().abs() + 1
    )
    assert measures.box_sharpness(net, x, y, epsilon) == pytest.approx(
        rise(net, x, y, grid).max(), rel=1e-3
    )


class Ring(nn.Module):
    """Two parameters whose loss is highest on a ring, |weight|^2 = pi / 4, and lower outside."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.2, 0.1]))

    def forward(self, x):
        height = x[:, 0] * (2 * self.weight.square().sum()).sin()
        return torch.stack([-height, height], dim=1)


@pytest.mark.parametrize("epsilon", [1.2, 1.3])
def test_ball_finds_a_maximum_in_its_interior(epsilon):
    net, x, y = Ring(), torch.ones(1, 1), torch.tensor([0])
    loss = math.log1p(math.exp(2 * math.sin(0.1)))
    expected = (math.log1p(math.exp(2)) - loss) / (1 + loss)
    angle = torch.linspace(0, 2 * math.pi, 500)
    surface = epsilon * torch.stack([angle.cos(), angle.sin()], dim=1)
    assert rise(net, x, y, surface).max() < 0.99 * expected
    assert measures.ball_sharpness(net, x, y, epsilon) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("epsilon", [1e-4, 1e-2, 0.1])
def test_ball_is_no_lower_than_both_lower_bounds_and_than_random_points(epsilon):
    x, y = batch(200)
    net = train(mlp((16, 30, 30, 3)), x, y, 60)
    found = measures.ball_sharpness(net, x, y, epsilon)
    loss = float(cross_entropy(net(x), y).detach())
    formula = measures.sharpness(loss, measures.hessian_norm(net, x, y)[0], epsilon)
    assert found >= 0.99 * max(bound(net, x, y, epsilon), formula)
    size = sum(p.numel() for p in net.parameters())
    points = np.random.default_rng(1).standard_normal((200, size))
    points *= epsilon / np.linalg.norm(points, axis=1, keepdims=True)
    assert rise(net, x, y, points).max() < 0.5 * found


@pytest.mark.parametrize("epsilon", [1e-3, 1.0])
def test_ball_chooses_its_ascent_on_a_subset_and_loses_nothing(monkeypatch, epsilon):
    x, y = batch(2 * ascent.SUBSET)
    net = train(mlp(), x, y, 30)
    found = measures.ball_sharpness(net, x, y, epsilon)
    monkeypatch.setattr(ascent, "SUBSET", len(x))
    assert found == pytest.approx(measures.ball_sharpness(net, x, y, epsilon), rel=0.01)
    assert found >= 0.99 * bound(net, x, y, epsilon)


SHARPNESS = [measures.ball_sharpness, measures.adaptive_sharpness, measures.box_sharpness]


@pytest.mark.parametrize("measure", SHARPNESS)
def test_several_radii_give_what_each_gives_alone(measure):
    net, x, y = two_parameters()
    radii = [1e-3, 0.3]
    assert measure(net, x, y, radii) == [measure(net, x, y, radius) for radius in radii]


def test_a_loss_and_gradient_that_are_known_are_not_computed_again(monkeypatch):
    net, (x, y) = mlp(), batch(60)
    loss, gradient = known = measures.loss_and_gradient(net, x, y)
    assert loss == pytest.approx(cross_entropy(net(x), y).item(), rel=1e-6)
    slopes = torch.autograd.grad(cross_entropy(net(x), y), list(net.parameters()))
    assert gradient.allclose(parameters_to_vector(slopes).double(), rtol=1e-4, atol=1e-7)
    found = [measure(net, x, y, [1e-3, 1e-2]) for measure in SHARPNESS]
    monkeypatch.setattr(measures, "landscape", None)
    assert found == [measure(net, x, y, [1e-3, 1e-2], known=known) for measure in SHARPNESS]


@pytest.mark.parametrize("measure", SHARPNESS)
def test_a_known_loss_that_is_nan_is_an_error(measure):
    """It is what or_nan gives where the loss could not be computed."""
    with pytest.raises(measures.MeasureError):
        measure(mlp(), *batch(60), 1e-2, known=(math.nan, math.nan))


def test_box_does_not_look_twice_at_the_corner_from_which_it_climbs(monkeypatch):
    net, (x, y) = mlp(), batch(60)
    at, looks = ascent.landscape(net, x, y, 60, 1e-2), []
    loss, gradient = at(0.0)
    look = lambda u: looks.append(tuple(u.tolist())) or at(u)
    ascent._climb_box(look, loss, gradient.sign(), gradient)
    assert looks[0] == tuple(gradient.sign().tolist()) and len({*looks}) == len(looks) > 1


@pytest.mark.parametrize("measure", SHARPNESS)
def test_a_search_in_float32_finds_what_one_in_float64_finds(monkeypatch, measure):
    """Over many examples it is made in float32, unless the rise is too small for it."""
    x, y = batch(ascent.SUBSET)
    net, seen = train(mlp(), x, y, 30), []
    height = ascent.landscape

    def watched(*arguments, precise=True, **options):
        seen.append(precise)
        return height(*arguments, precise=precise, **options)

    monkeypatch.setattr(ascent, "landscape", watched)
    for radius, fine in ((1e-8, True), (1e-3, False), (1e-2, False)):
        seen.clear()
        found = measure(net, x, y, radius)
        assert all(seen) == fine
        monkeypatch.setattr(ascent, "FINE", math.inf)
        assert found == pytest.approx(measure(net, x, y, radius), rel=1e-4)
        monkeypatch.undo()
        monkeypatch.setattr(ascent, "landscape", watched)


def test_ball_climbs_from_the_subset_where_all_examples_have_no_gradient(monkeypatch):
    monkeypatch.setattr(ascent, "SUBSET", 50)
    net, x, y = nn.Linear(1, 2, bias=False), torch.ones(100, 1), torch.arange(100) % 2
    nn.init.zeros_(net.weight)
    rise = math.log(math.cosh(0.5 / math.sqrt(2)))  # of the mean of both classes' losses
    expected = pytest.approx(rise / (1 + math.log(2)), rel=1e-3)
    assert measures.ball_sharpness(net, x, y, 0.5) == expected


@pytest.mark.parametrize("seed", range(4))
def test_ball_equals_the_formula_at_a_minimum(seed):
    """Softmax regression on noise has a minimum inside, where the gradient term vanishes.

    The second eigenvalue is only a few percent below the first.
    """
    x, y = torch.randn(300, 3, generator=torch.Generator().manual_seed(seed)), torch.arange(300) % 3
    net = train(mlp((3, 3)).double(), x.double(), y, 600, lr=1.0)
    loss, epsilon = float(cross_entropy(net(x.double()), y).detach()), 1e-2
    assert bound(net, x.double(), y, epsilon) < 1e-9
    formula = measures.sharpness(loss, measures.hessian_norm(net, x, y)[0], epsilon)
    assert measures.ball_sharpness(net, x, y, epsilon) == pytest.approx(formula, rel=0.005)


def test_box_reaches_the_linear_bound_where_the_box_is_tiny():
    x, y = batch(200)
    net = train(mlp(), x, y, 20)
    double = copy.deepcopy(net).double()
    loss = cross_entropy(double(x.double()), y)
    slope = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(double.parameters()))])
    theta = parameters_to_vector(double.parameters()).detach()
    linear = float((slope.abs() * (theta.abs() + 1)).sum() / (1 + loss.detach()))
    found = measures.box_sharpness(net, x, y, 1e-7)
    assert found == pytest.approx(1e-7 * linear, rel=1e-3)
    assert measures.box_sharpness(net, x, y, 1e-3) > 0.99e-3 * linear


@pytest.mark.parametrize("measure", [measures.ball_sharpness, measures.box_sharpness])
def test_radius_must_be_positive(measure):
    for epsilon in (0.0, -1e-3, float("nan")):
        with pytest.raises(ValueError, match="epsilon"):
            measure(mlp(), *batch(6), epsilon)


@every_measure
def test_dropout_is_off_while_measuring(measure):
    x, y = batch(30)
    plain, dropped = mlp(), mlp(dropout=0.5)
    dropped.train()
    assert measure(dropped, x, y) == pytest.approx(measure(plain, x, y), rel=1e-9)


@every_measure
def test_no_measure_changes_its_arguments(measure):
    x, y = batch(30)
    net = mlp(dropout=0.5)
    cross_entropy(net(x), y).backward()
    net[1].eval()
    net[1].bias.requires_grad_(False)

    def everything():
        modes = [m.training for m in net.modules()]
        flags = [(p.requires_grad, p.data_ptr()) for p in net.parameters()]
        tensors = [x, y, *net.state_dict().values(), *(p.grad for p in net.parameters())]
        rng = np.random.get_state()
        rng = (torch.get_rng_state().tolist(), rng[1].tolist(), rng[2:])
        return modes, flags, [t.tolist() for t in tensors], rng, torch.is_grad_enabled()

    before = everything()
    with torch.no_grad():  # must not matter
        quiet = measure(net, x, y)
    assert everything() == before
    assert not x.requires_grad
    assert measure(net, x, y) == quiet  # deterministic, too


@every_measure
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_an_error(measure, value):
    x, y = batch(12)
    broken = mlp()
    with torch.no_grad():
        broken[1].weight[0, 0] = value
    with pytest.raises(measures.MeasureError):
        measure(broken, x, y)
    x[3, 0, 0, 0] = value
    with pytest.raises(measures.MeasureError):
        measure(mlp(), x, y)
    with pytest.raises(measures.MeasureError):
        measure(mlp(), x[:0], y[:0])


class Skip(nn.Sequential):
    """A forward method that does more than its layers tell."""

    def forward(self, x):
        return super().forward(x) + x.flatten(1)[:, :3] ** 2


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(16, 3)

    def forward(self, x):
        x = x + self.inner(x).tanh()
        return self.head((x + self.inner(x).tanh()).flatten(1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        x = x.flatten(1, 2)
        return self.head(self.mix(x, x, x, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.cell(x.flatten(1, 2))[0][:, -1])


class Unused(nn.Module):
    """The last tensor, and the whole spare layer, take no part."""

    def __init__(self):
        super().__init__()
        self.net, self.spare = mlp((16, 4, 3)), nn.Linear(2, 2)
        self.last = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.net(x)


def flat(*layers):
    return lambda: build([nn.Flatten(), *(layer() for layer in layers)])


def linear(inputs=6, outputs=6, wrap=lambda layer: layer):
    return lambda: wrap(nn.Linear(inputs, outputs))


def tied():
    net = build([nn.Flatten(), *linears(16, 6, 6, 6), nn.Linear(6, 3)])
    net[3].weight = net[5].weight
    return net


def linears(*sizes):
    return [layer for i, o in pairwise(sizes) for layer in (nn.Linear(i, o), nn.Tanh())]


def repeated():
    layer = nn.Linear(6, 6)
    layers = [*linears(16, 6), layer, nn.Tanh(), layer, nn.ReLU(), nn.Linear(6, 3)]
    return build([nn.Flatten(), *layers])


def repeated_first():
    layer = nn.Linear(16, 16, bias=False)
    return build([nn.Flatten(), layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(16, 3, bias=False)])


def with_pre_hook():
    net = mlp()
    net[1].register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],))
    return net


def with_hook():
    net = mlp()
    net[1].register_forward_hook(lambda _, inputs, out: out.sin())
    return net


def conv(*middle):
    def make():
        layers = [nn.Conv2d(1, 4, 3), *(layer() for layer in middle), nn.AdaptiveAvgPool2d(1)]
        return build([*layers, nn.Flatten(), nn.Linear(4, 3)])

    return make


def batch_norm():
    net = build([nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)])
    net(batch(60)[0])  # moves the running statistics
    return net


def pruned():
    net = mlp()
    prune.random_unstructured(net[1], "weight", 0.4)
    return net


utils = nn.utils
ANY = {
    "mlp": mlp,
    "softmax regression": lambda: mlp((16, 3)),
    "cnn": cnn,
    "in place": flat(linear(16, 6), lambda: nn.ReLU(inplace=True), linear(6, 3)),
    "in place first": flat(lambda: nn.ELU(inplace=True), linear(16, 4), nn.Tanh, linear(4, 3)),
    "in place conv": conv(lambda: nn.ReLU(inplace=True)),
    "repeated": repeated,
    "repeated first": repeated_first,
    "tied": tied,
    "pre-hook": with_pre_hook,
    "hook": with_hook,
    "old spectral norm": flat(linear(16, 6, utils.spectral_norm), nn.ReLU, linear(6, 3)),
    "old weight norm": flat(linear(16, 6, utils.weight_norm), nn.ReLU, linear(6, 3)),
    "spectral norm": flat(linear(16, 6, parametrizations.spectral_norm), nn.ReLU, linear(6, 3)),
    "weight norm": flat(linear(16, 6, parametrizations.weight_norm), nn.ReLU, linear(6, 3)),
    "orthogonal": flat(linear(16, 6), nn.ReLU, linear(6, 3, parametrizations.orthogonal)),
    "pruned": pruned,
    "forward of its own": lambda: Skip(*mlp()),
    "flatten the end": lambda: build(
        [nn.Flatten(2), nn.Linear(16, 5), nn.ReLU(), nn.Flatten(), nn.Linear(5, 3)]
    ),
    "batch norm": batch_norm,
    "layer norm": flat(linear(16, 6), lambda: nn.LayerNorm(6), nn.GELU, linear(6, 3)),
    "group norm": conv(lambda: nn.GroupNorm(2, 4), nn.SiLU),
    "depthwise": conv(nn.ReLU, lambda: nn.Conv2d(4, 4, 2, groups=4), nn.Tanh),
    "residual": lambda: seeded(Residual),
    "attention": lambda: seeded(Attention),
    "recurrent": lambda: seeded(Recurrent),
    "unused": Unused,
    "dropout": lambda: mlp(dropout=0.5),
    "double": lambda: mlp().double(),
    "half": lambda: mlp().half(),
}
any_net = pytest.mark.parametrize("make", ANY.values(), ids=ANY.keys())


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


class Wrapper(nn.Module):
    """What a user writes around a network."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


@any_net
@every_measure
@pytest.mark.filterwarnings("ignore")  # the old forms of the norms are deprecated
def test_every_measure_is_the_same_inside_a_plain_wrapper(measure, make):
    x, y = batch(30)
    before = x.clone()
    assert measure(seeded(make), x, y) == pytest.approx(measure(Wrapper(seeded(make)), x, y), 1e-6)
    assert torch.equal(x, before)


@any_net
@pytest.mark.filterwarnings("ignore")
def test_every_network_has_the_values_of_finite_differences_and_single_examples(make):
    """The reference needs nothing but loss.backward() of the network as it is, in float64."""
    x, y = batch(30)
    net = seeded(make).double().eval()
    params = list(net.parameters())
    with sdpa_kernel(SDPBackend.MATH):
        dense = differences(lambda: cross_entropy(net(x.double()), y), params)
        losses, jacobians = [], []
        for xi, yi in zip(x.double().split(1), y.split(1), strict=True):
            xi = xi.clone().requires_grad_()
            out = net(xi.clone())
            losses.append(
                float(torch.autograd.grad(cross_entropy(out, yi), xi, retain_graph=True)[0].norm())
            )
            rows = [torch.autograd.grad(p, xi, retain_graph=True)[0] for p in out.softmax(1)[0]]
            jacobians.append(float(torch.stack(rows).norm()))
    assert measures.input_gradient_norm(seeded(make), x, y) == pytest.approx(np.mean(losses), 1e-4)
    assert measures.jacobian_norm(seeded(make), x) == pytest.approx(np.mean(jacobians), 1e-4)
    spectrum = torch.linalg.eigvalsh(dense)
    value, residual = measures.top_eigenpair(*measures.prepare(seeded(make), x, y), 1e-4, 300, 100)
    assert value == pytest.approx(float(spectrum[spectrum.abs().argmax()]), rel=1e-3)
    norm = measures.hessian_norm(seeded(make), x, y, tolerance=1e-4)
    assert norm == (abs(value), residual)
    assert residual <= 1e-4
    ends = np.cumsum([0] + [p.numel() for p in params])
    blocks = max(top(dense[i:j, i:j]) for i, j in pairwise(ends))
    norm = measures.block_hessian_norm(seeded(make), x, y, tolerance=1e-4)
    assert norm == pytest.approx(blocks, rel=1e-3)


def differences(loss, params, h=1e-6):
    """The Hessian by central differences of the gradient; zero where a parameter is not used."""

    def gradient():
        slopes = torch.autograd.grad(loss(), params, materialize_grads=True)
        return torch.cat([slope.flatten() for slope in slopes])

    rows = []
    for p in params:
        for i in range(p.numel()):
            with torch.no_grad():
                entry = p.view(-1)[i : i + 1]
                entry += h
                up = gradient_of(gradient)
                entry -= 2 * h
                down = gradient_of(gradient)
                entry += h
            rows.append((up - down) / (2 * h))
    dense = torch.stack(rows)
    return (dense + dense.T) / 2


def gradient_of(gradient):
    with torch.enable_grad():
        return gradient()


class Wrong(torch.autograd.Function):
    """a * b with a first derivative that is right and a second one that forgets half of it."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, slope):
        a, b = ctx.saved_tensors
        return slope * b.detach(), slope * a


@pytest.mark.parametrize("measure", [measures.hessian_norm, measures.block_hessian_norm])
def test_a_wrong_second_derivative_is_an_error(measure):
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = mlp((16, 3)), mlp((16, 3), seed=1)

        def forward(self, x):
            return Wrong.apply(self.first(x), self.second(x))

    with pytest.raises(measures.MeasureError, match="not symmetric"):
        measure(Product(), *batch(30))


def saturated(gap):
    """Every example is certain: its own class lies `gap` above the others."""
    net = nn.Linear(3, 3)
    with torch.no_grad():
        net.weight.copy_(gap * torch.eye(3))
        net.bias.zero_()
    return net, torch.eye(3).repeat(4, 1), torch.arange(12) % 3


def dead():
    net = build([nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3, bias=False)])
    with torch.no_grad():
        net[1].bias.fill_(-1e3)
    return net, *batch(30)


@pytest.mark.parametrize("blocks", [False, True])
def test_a_graph_that_is_kept_gives_the_same_products(monkeypatch, blocks):
    """A small one is kept from one product to the next; then the network runs forward once."""
    x, y = batch(90)
    net = train(mlp(), x, y, 10)
    passes, images = {}, {}
    for limit in (0, 1e9):
        monkeypatch.setattr(curvature, "KEPT", limit)
        product, count = curvature.hessian_product(net, x, y, 40, blocks=blocks), []
        hook = net.register_forward_hook(lambda *_, count=count: count.append(1))
        size = sum(p.numel() for p in net.parameters())
        vectors = np.random.default_rng(0).standard_normal((3, size))
        images[limit] = [product(vector) for vector in vectors]
        hook.remove()
        passes[limit] = len(count)
    assert passes == {0: 9, 1e9: 3}  # of three chunks
    assert np.array_equal(images[0], images[1e9])


def test_what_a_graph_keeps_grows_with_the_examples_and_not_with_the_weights():
    """784-256-10: its graph keeps the inputs and a few times the units, in float32."""
    x, y = torch.randn(100, 1, 28, 28), torch.arange(100) % 10
    net = mlp((784, 256, 10))
    size = curvature._graph_bytes(net, list(net.parameters()), x, y) / len(x) / 4
    assert 784 + 256 < size < 2 * 784 + 20 * 256


@pytest.mark.parametrize(
    "case", [saturated(1e4), saturated(40.0), dead()], ids=["loss 0", "loss 1e-17", "dead"]
)
def test_a_hessian_of_zero_is_zero(case):
    assert measures.hessian_norm(*case) == (0, 0)
    assert measures.top_eigenpair(*measures.prepare(*case), 1e-3, 300, 100) == (0, 0)
    assert measures.block_hessian_norm(*case) == 0
    for sharpness in (measures.ball_sharpness, measures.adaptive_sharpness, measures.box_sharpness):
        assert sharpness(*case, 1e-3) == 0


@pytest.mark.parametrize("gap", [12.0, 25.0, 31.0])
def test_a_tiny_loss_has_the_norm_of_the_closed_form(gap):
    """In float32 1 - p is 0 there, and ARPACK takes eigenvalues under 4e-11 for zero."""
    net, x, y = saturated(gap)
    p = torch.softmax(gap * torch.eye(3, dtype=torch.float64), 1)
    curvature_of = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    curvature_of[range(3), range(3), range(3)] = (
        2 * p[0, 1]  # p (1 - p)
    )
    data = torch.cat([torch.eye(3), torch.ones(3, 1)], 1).double()
    dense = sum(torch.kron(c, d[:, None] * d) for c, d in zip(curvature_of, data, strict=True)) / 3
    value, residual = measures.hessian_norm(net, x, y)
    assert value == pytest.approx(top(dense), rel=1e-2, abs=0)
    assert residual <= 1e-3


@pytest.mark.parametrize("name", ["input_gradient_norm", "jacobian_norm"])
@pytest.mark.parametrize("gap", [12.0, 17.0, 25.0])
def test_a_tiny_loss_has_the_input_norms_of_the_closed_form(name, gap):
    """In float32, in which 1 - p is lost, they were 42% too low."""
    net, x, y = saturated(gap)
    q = math.exp(-gap) / (1 + 2 * math.exp(-gap))  # of each other class: 1 - p = 2 q
    jacobian = torch.tensor([[2 - 4 * q, -1 + 2 * q, -1 + 2 * q],
                             [-1 + 2 * q, 1 - q, -q],
                             [-1 + 2 * q, -q, 1 - q]])  # fmt: skip
    expected = gap * q * (math.sqrt(6) if name == "input_gradient_norm" else jacobian.norm())
    assert MEASURES[name](net, x, y) == pytest.approx(float(expected), rel=1e-5, abs=0)


def test_a_fine_tolerance_is_kept():
    x, y = batch(60)
    value, residual = measures.hessian_norm(mlp(), x, y, tolerance=1e-9)
    assert residual <= 1e-9
    assert value == pytest.approx(top(dense_hessian(mlp(), x, y)), rel=1e-9)


@pytest.mark.parametrize("measure", [measures.hessian_norm, measures.block_hessian_norm])
def test_a_residual_above_the_tolerance_is_an_error_never_a_number(monkeypatch, measure):
    def off(*arguments, **options):
        value, vector, product = lanczos(*arguments, **options)
        return 1.01 * value, vector, product

    lanczos = curvature.lanczos
    monkeypatch.setattr(curvature, "lanczos", off)
    with pytest.raises(measures.MeasureError, match="residual"):
        measure(mlp(), *batch(60))


def test_a_model_with_one_parameter_has_a_hessian():
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.3))

        def forward(self, x):
            return torch.cat([-x * self.weight, x * self.weight], 1)

    x, y = torch.linspace(-1, 2, 9).view(-1, 1), torch.arange(9) % 2
    expected = float((4 * x**2 * (0.6 * x).sigmoid() * (-0.6 * x).sigmoid()).mean())
    value, _ = measures.top_eigenpair(*measures.prepare(One(), x, y), 1e-3, 300, 100)
    assert value == pytest.approx(expected, rel=1e-5)


def test_box_leaves_a_point_where_the_gradient_is_zero():
    net = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(net.weight)
    x, y = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 0])
    loss = math.log(2)
    peak = (math.log1p(math.exp(1)) + math.log1p(math.exp(-1))) / 2  # at (-1/2, 1/2)
    found = measures.box_sharpness(net, x, y, 0.5)
    assert found == pytest.approx((peak - loss) / (1 + loss), rel=1e-6)
    assert found == pytest.approx(0.0709, rel=1e-3)


class Saddle(nn.Module):
    """Ten parameters, which are 0; for y = 1 the loss is log(1 + exp(2 x (t_2^2 - 10 t_1^2)))."""

    def __init__(self):
        super().__init__()
        self.t = nn.Parameter(torch.zeros(10))

    def forward(self, x):
        height = x[:, 0] * (self.t[1] ** 2 - 10 * self.t[0] ** 2)
        return torch.stack([height, -height], dim=1)


def test_box_finds_the_rise_from_a_saddle_whose_largest_eigenvalue_is_negative():
    """There the corners are lower than the point, at which L-BFGS-B has no direction."""
    net, x, y = Saddle(), torch.ones(10, 1), torch.ones(10, dtype=torch.int64)
    for epsilon in (1e-2, 0.1):
        loss, peak = math.log(2), math.log1p(math.exp(2 * epsilon**2))
        expected = (peak - loss) / (1 + loss)
        assert measures.box_sharpness(net, x, y, epsilon) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_box_at_a_critical_point_is_the_best_of_all_corners(epsilon):
    """Balanced labels, each image also negated: zero weights are a minimum of a convex loss."""
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    x, y = torch.cat([x, -x]).repeat_interleave(3, 0), torch.arange(30) % 3
    net = nn.Linear(3, 3, bias=False)
    nn.init.zeros_(net.weight)
    corners = epsilon * torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 9).double()
    best = rise(net, x, y, corners).max()
    assert measures.box_sharpness(net, x, y, epsilon) == pytest.approx(best, rel=0.1)


@pytest.mark.parametrize("epsilon", [1e-2, 0.3, 2.0])
def test_adaptive_sharpness_is_the_maximum_of_a_fine_grid(epsilon):
    net, x, y = two_parameters()
    angle = torch.linspace(0, 2 * math.pi, 2001, dtype=torch.float64)
    circle = epsilon * torch.stack([angle.cos(), angle.sin()], dim=1)
    radii = torch.linspace(0.05, 1, 20, dtype=torch.float64)
    theta = parameters_to_vector(net.parameters()).detach().double()
    disc = theta.abs() * (radii[:, None, None] * circle[::4]).view(-1, 2)
    expected = max(rise(net, x, y, disc).max(), rise(net, x, y, theta.abs() * circle).max())
    found = measures.adaptive_sharpness(net, x, y, epsilon)
    assert found == pytest.approx(expected, rel=1e-3)
    assert abs(found / measures.ball_sharpness(net, x, y, epsilon) - 1) > 0.1


@pytest.mark.parametrize("alpha", [0.01, 5.0, 100.0])
def test_adaptive_sharpness_does_not_see_a_rescaling_of_weights(alpha):
    x, y = batch(60)
    net = train(mlp(), x, y, 30)
    scaled = symmetries.rescale(net, alpha)
    value = measures.adaptive_sharpness(net, x, y, 0.05)
    assert measures.adaptive_sharpness(scaled, x, y, 0.05) == pytest.approx(value, rel=1e-4)
    ball = measures.ball_sharpness(net, x, y, 0.05)
    assert abs(measures.ball_sharpness(scaled, x, y, 0.05) / ball - 1) > 0.1


@pytest.mark.parametrize("measure", [measures.hessian_norm, measures.block_hessian_norm])
def test_a_missing_second_derivative_is_an_error_of_one_sentence(measure):
    x, y = batch(30)
    net = build([nn.Flatten(), nn.Linear(16, 5), nn.Hardsigmoid(), nn.Linear(5, 3)])
    with pytest.raises(measures.MeasureError, match="derivative") as caught:
        measure(net, x, y)
    assert "\n" not in str(caught.value)
    assert measures.ball_sharpness(net, x, y, 1e-2) >= 0.99 * bound(net, x, y, 1e-2)


@every_measure
def test_inference_mode_does_not_matter(measure):
    x, y = batch(30)
    expected = measure(mlp(), x, y)
    with torch.inference_mode():
        made_there = mlp(), x + 0, y + 0
        assert measure(mlp(), x, y) == expected
        assert measure(*made_there) == expected
        assert torch.is_inference_mode_enabled()
    assert measure(*made_there) == expected


@every_measure
def test_autocast_of_the_caller_does_not_matter(measure):
    net, data = mlp(), batch(30)
    nn.init.constant_(net[-1].bias, 7e4)  # float16 goes up to 65,504
    expected = measure(net, *data)
    with torch.autocast("cpu", torch.float16):
        assert measure(net, *data) == expected
        assert torch.is_autocast_enabled("cpu")


class Keeps(nn.Module):
    """Keeps its last output, which PyTorch then refuses to copy."""

    def __init__(self, keep=lambda self, out: setattr(self, "last", out)):
        super().__init__()
        self.net, self.keep, self.last = mlp(), keep, []

    def forward(self, x):
        out = self.net(x)
        self.keep(self, out)
        return out


class Reuses(Keeps):
    """Computes a weight once and uses it ever after: a copy cannot follow its parameters."""

    def forward(self, x):
        if not isinstance(self.last, torch.Tensor):
            self.last = self.net[1].weight * 2
        return self.net(x) + x.flatten(1) @ self.last[:3].T


@every_measure
def test_a_model_that_keeps_tensors_from_its_forward_pass(measure):
    x, y = batch(30)
    net = Keeps()
    expected = measure(mlp(), x, y)
    net(x)
    with pytest.raises(RuntimeError):
        copy.deepcopy(net)
    assert measure(net, x, y) == expected
    for refused in (Keeps(lambda self, out: self.last.append(out)), Reuses()):
        refused(x)
        with pytest.raises(measures.MeasureError):
            measure(refused, x, y)


@every_measure
def test_a_function_that_holds_on_to_the_parameters_is_an_error(measure):
    net = mlp()
    net[3].register_forward_hook(lambda _, inputs, out: out * net[1].bias[:5])
    for frozen in (False, True):
        net.requires_grad_(not frozen)
        with pytest.raises(measures.MeasureError, match="refers to"):
            measure(net, *batch(30))
        assert all(p.requires_grad is not frozen for p in net.parameters())


@every_measure
def test_examples_that_depend_on_chance_or_on_each_other_are_an_error(measure):
    layers = [nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3, track_running_stats=False)]

    class Random(nn.Module):
        def forward(self, x):
            return x + 1e-3 * torch.randn_like(x)

    class Drops(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.05)  # training=True is the default

    for net in (build(layers), *(nn.Sequential(*layers[:2], part()) for part in (Random, Drops))):
        with pytest.raises(measures.MeasureError, match="chance or on other examples"):
            measure(net, *batch(30))
    with pytest.raises(ValueError, match="chance or on other|more than 1 value"):
        measure(build(layers), *batch(2))
    x, y = batch(30)
    x[:4] = x[:1]
    with pytest.raises(measures.MeasureError, match="chance or on other examples"):
        measure(build(layers), x, y)


class Groups(nn.Module):
    """Subtracts the mean of each group of neighbours."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return torch.cat([group - group.mean(0) for group in x.split(self.size)])


def shifted():
    norm = nn.BatchNorm1d(3, track_running_stats=False)
    nn.init.constant_(norm.bias, 100.0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3), norm)


@pytest.mark.parametrize(
    "net", [shifted(), *(nn.Sequential(*mlp(), Groups(size)) for size in (2, 4, 8, 16))]
)
def test_neither_a_shift_nor_even_groups_hide_that_examples_depend_on_each_other(net):
    with pytest.raises(measures.MeasureError, match="chance or on other examples"):
        measures.parameter_gradient_norm(net, *batch(30))


def test_a_model_that_takes_only_pairs_is_one_sentence():
    pairs = Partly(lambda net, x: net(x.unflatten(0, (-1, 2)).flatten(0, 1)))
    with pytest.raises(measures.MeasureError, match="does not take 7 examples"):
        measures.parameter_gradient_norm(pairs, *batch(30))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 17])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_examples_that_depend_on_nothing_else_are_accepted(count, shift):
    """They may be few, and their logits may share a large shift, be alike, or be of one class."""
    for classes in (3, 1):
        net = nn.Sequential(*mlp((16, 6, classes)))
        with torch.no_grad():
            net[-1].bias += shift
        assert math.isfinite(measures.parameter_gradient_norm(net, *batch(count, classes=classes)))
    with torch.no_grad():
        net = mlp((16, 6, 3))
        net[-1].weight.copy_(net[-1].weight[:1].expand(3, -1))
        net[-1].bias.zero_()
    assert math.isfinite(measures.parameter_gradient_norm(net, *batch(count)))


@every_measure
def test_hooks_that_change_gradients_do_not_matter(measure):
    """Guided backpropagation, say, is no derivative of the loss."""
    net, data = mlp(), batch(30)
    expected = measure(net, *data)
    net[2].register_full_backward_hook(lambda _, into, out: (into[0].clamp(min=0),))
    net[3].register_full_backward_pre_hook(lambda _, out: (3 * out[0],))
    assert measure(net, *data) == expected
    assert net[2]._backward_hooks and net[3]._backward_pre_hooks


class Tokens(nn.Module):
    """Looks up vectors by integers."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.table(x).mean(1).tanh())


@every_measure
def test_integers_are_looked_up_in_tables(measure):
    x, y = torch.arange(40).reshape(20, 2) % 7, torch.arange(20) % 3
    if measure in (MEASURES["input_gradient_norm"], MEASURES["jacobian_norm"]):
        with pytest.raises(measures.MeasureError, match="integers"):
            measure(seeded(Tokens), x, y)
    else:
        expected = measure(OneHot(seeded(Tokens)), nn.functional.one_hot(x, 7).float(), y)
        assert measure(seeded(Tokens), x, y) == pytest.approx(expected, 1e-5)
        assert measure(seeded(Tokens), x.int(), y) == pytest.approx(expected, 1e-5)


class OneHot(nn.Module):
    """The same function as Tokens, by a matrix product."""

    def __init__(self, tokens):
        super().__init__()
        self.table, self.head = tokens.table.weight, tokens.head

    def forward(self, x):
        return self.head((x @ self.table).mean(1).tanh())


class Bags(Tokens):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(7, 4)

    def forward(self, x):
        return self.head(self.table(x).tanh())


@pytest.mark.parametrize("flag", ["scale_grad_by_freq", "sparse"])
@pytest.mark.parametrize("make", [Tokens, Bags])
def test_flags_of_a_table_do_not_change_what_is_measured(make, flag):
    """One made the gradient depend on the chunks, the other cannot be added up with the rest."""
    x, y, net = torch.arange(40).reshape(20, 2) % 7 // 2, torch.arange(20) % 3, seeded(make)
    expected = measures.parameter_gradient_norm(net, x, y)
    setattr(net.table, flag, True)
    for size in (3, 20):
        found = measures.parameter_gradient_norm(net, x, y, batch_size=size)
        assert found == pytest.approx(expected, rel=1e-6)
    assert getattr(net.table, flag)


class FixedBatchNorm(nn.Sequential):
    """The usual way to keep a part in evaluation mode, without the `return self` of PyTorch."""

    def train(self, mode=True):
        super().train(mode)


class Partly(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.net, self.how = mlp(), forward

    def forward(self, x):
        return self.how(self.net, x)


@torch.no_grad()
def without_gradient(net, x):
    return net(x)


REFUSED = {  # what a model does, and a word of the sentence that says why it cannot be measured
    "no gradient": (without_gradient, "no_grad"),
    "transposed": (lambda net, x: net(x).T[:, :2], "logits"),
}


@every_measure
def test_a_train_method_that_returns_nothing(measure):
    x, y = batch(30)
    assert measure(FixedBatchNorm(*mlp()), x, y) == measure(mlp(), x, y)


@every_measure
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_measure_can_see_is_one_sentence(measure, name):
    forward, word = REFUSED[name]
    with pytest.raises((TypeError, measures.MeasureError), match=word):
        measure(Partly(forward), *batch(30))


class Positions(nn.Module):
    """Adds a vector from a table that has nothing to do with the input."""

    def __init__(self):
        super().__init__()
        self.places, self.net = nn.Embedding(4, 4), mlp()

    def forward(self, x):
        return self.net(x / 255 + self.places(torch.arange(4)))


USUAL = {  # models that are nothing unusual but look so to one of the checks
    "draws and ignores": lambda net, x: net(x) + 0 * torch.rand(1),
    "leaves PyTorch": lambda net, x: net(x) + len(x.numpy()) * 0,
    "cuts the input off": lambda net, x: net(x.requires_grad_(False)),
}


@pytest.mark.parametrize("name", USUAL)
def test_parameter_measures_of_models_that_look_unusual(name):
    x, y = batch(30)
    for measure in ("parameter_gradient_norm", "hessian_norm"):
        expected = MEASURES[measure](mlp(), x, y)
        assert MEASURES[measure](Partly(USUAL[name]), x, y) == pytest.approx(expected, 1e-6)


@every_measure
def test_pixels_are_no_tokens(measure):
    y = torch.arange(30) % 3
    pixels = torch.randint(256, (30, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    expected = measure(seeded(Positions), pixels.float(), y)
    assert measure(seeded(Positions), pixels.to(torch.uint8), y) == expected


def test_threads_may_measure_one_frozen_model_at_once():
    net, x = mlp().requires_grad_(False), batch(30)[0]
    expected = measures.jacobian_norm(net, x)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: measures.jacobian_norm(net, x), range(200)))
    assert found == [expected] * 200


def test_running_out_of_memory_is_no_property_of_the_model():
    def greedy(net, x):
        if x.dtype == torch.float64:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return net(x)

    with pytest.raises(RuntimeError, match="allocate"):
        measures.or_nan(measures.parameter_gradient_norm, Partly(greedy), *batch(30))


@every_measure
def test_parameters_that_are_not_real_are_refused(measure):
    net = mlp()
    net.extra = nn.Parameter(torch.zeros(2, dtype=torch.cfloat))
    with pytest.raises(measures.MeasureError, match="real"):
        measure(net, *batch(30))
    net.extra = nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(measures.MeasureError, match="real"):
        measure(net, *batch(30))


@pytest.mark.parametrize("name", ["parameter_gradient_norm", "hessian_norm", *(
    f"{kind}_sharpness" for kind in ("ball", "box", "adaptive"))])  # fmt: skip
def test_a_model_that_makes_float32_itself_is_one_sentence(name):
    """These measures compute in float64, if only for a fine tolerance."""
    one = torch.eye(16)
    net = Partly(lambda net, x: net(x.flatten(1) @ one))
    options = {"tolerance": 1e-6} if name == "hessian_norm" else {}
    with pytest.raises(measures.MeasureError, match="float64"):
        MEASURES[name](net, *batch(30), **options)


@every_measure
def test_logits_that_a_model_turns_into_float32_lose_nothing(measure):
    """A loss of 4e-9 summed in float32 made a Hessian look like zero, or not symmetric."""
    net, x, y = saturated(20.0)
    single = Partly(lambda net, x: net(x).float())
    single.net = net
    assert measure(single, x, y) == pytest.approx(measure(net, x, y), rel=1e-3, abs=0)


def test_examples_that_are_single_numbers():
    net = Partly(lambda net, x: torch.stack([x, 2 * x.sin()], 1))
    x, y = torch.linspace(-1, 1, 9), torch.arange(9) % 2
    p = torch.stack([x, 2 * x.sin()], 1).softmax(1)
    slope = torch.stack([torch.ones(9), 2 * x.cos()], 1)
    slope_of_loss = ((p - torch.eye(2)[y]) * slope).sum(1)
    wanted = float(slope_of_loss.abs().mean())
    assert measures.input_gradient_norm(net, x, y) == pytest.approx(wanted, 1e-5)
    slope_of_p = p[:, 0] * p[:, 1] * (slope[:, 0] - slope[:, 1])
    wanted = math.sqrt(2) * float(slope_of_p.abs().mean())
    assert measures.jacobian_norm(net, x) == pytest.approx(wanted, 1e-5)


@every_measure
def test_labels_of_other_types(measure):
    x, y = batch(30)
    expected = measure(mlp(), x, y)
    for kind in (torch.int32, torch.uint8, torch.int16):
        assert measure(mlp(), x, y.to(kind)) == expected
    if measure is MEASURES["jacobian_norm"]:
        return
    for wrong in (y.float(), y[:, None], y[0], y[:20], y.bool()[:, None]):
        with pytest.raises(ValueError, match="integers of shape"):
            measure(mlp(), x, wrong)
    with pytest.raises(ValueError, match="5 probabilities"):
        measure(mlp(), x, torch.full((30, 5), 0.2))
    with pytest.raises(ValueError, match="the 3 classes count from 0"):
        measure(mlp(), x, y + 1)


@pytest.mark.parametrize("name", ["input_gradient_norm", "jacobian_norm"])
def test_large_finite_inputs_are_no_error(name):
    """Their sum overflows in float32."""
    x, y = torch.full((20, 1, 4, 4), 1e38), torch.arange(20) % 3
    net = mlp()
    with torch.no_grad():
        net[1].weight.mul_(1e-38)
    expected = 1e-38 * MEASURES[name](mlp(), torch.ones_like(x), y)
    assert MEASURES[name](net, x, y) == pytest.approx(expected, 1e-3)


def test_counts_and_radii_that_make_no_sense_are_refused():
    data = (mlp(), *batch(30))
    for name, measure in MEASURES.items():
        with pytest.raises(ValueError, match="batch_size must be"):
            measure(*data, batch_size=0)
        if name in ("ball_sharpness", "adaptive_sharpness"):
            with pytest.raises(ValueError, match="starts must be"):
                measure(*data, starts=0)
    radii = np.array([1e-4, 1e-3])
    assert measures.sharpness(1.0, 2.0, radii) == pytest.approx(radii**2 / 2)
    for epsilon in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match="epsilon must be"):
            measures.sharpness(1.0, 1.0, epsilon)


def test_wrong_arguments_are_refused_in_one_sentence():
    x, y = batch(30)
    ignored = y.clone()
    ignored[3] = -100
    for name, measure in MEASURES.items():
        with pytest.raises(TypeError, match="torch tensors"):
            measure(mlp(), x.numpy(), y)
        with pytest.raises(TypeError, match="logits"):
            measure(nn.Flatten(0), x, y)
        if name != "jacobian_norm":
            with pytest.raises(ValueError, match="label is negative") as caught:
                measure(mlp(), x, ignored)
            assert not isinstance(caught.value, measures.MeasureError)
            with pytest.raises(TypeError, match="torch tensors"):
                measure(mlp(), x, y.numpy())


@every_measure
def test_a_model_that_ends_in_softmax_is_warned_of_once(measure):
    for net in (nn.Sequential(*mlp(), nn.Softmax(1)), Wrapper(nn.Sequential(mlp(), nn.Softmax(1)))):
        with pytest.warns(UserWarning, match="softmax") as caught:
            measure(net, *batch(30))
        assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(mlp(), *batch(30))


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "wait", "shown"), [
    (Terminal(), 0, True),
    (Terminal(), 4, False),
    (io.StringIO(), 0, False),
])  # fmt: skip
def test_progress_shows_on_a_terminal_and_only_after_a_while(monkeypatch, stream, wait, shown):
    def bar(**options):
        assert options["delay"] >= 3
        return tqdm(**options | {"delay": wait, "mininterval": 0})

    monkeypatch.setattr(curvature, "tqdm", bar)
    monkeypatch.setattr("sys.stderr", stream)
    measures.hessian_norm(mlp(), *batch(60))
    assert ("Hessian: 120 examples" in stream.getvalue()) == shown
    assert shown or stream.getvalue() == ""
