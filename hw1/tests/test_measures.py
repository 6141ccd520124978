"""Each measure against a dense, closed-form or brute-force answer on networks that allow one."""

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev, vmap
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import measures

MEASURES = {
    "input_gradient_norm": measures.input_gradient_norm,
    "jacobian_norm": lambda model, x, y, **options: measures.jacobian_norm(model, x, **options),
    "parameter_gradient_norm": measures.parameter_gradient_norm,
    "hessian_norm": lambda *data, **options: measures.hessian_norm(*data, **options)[0],
    "block_hessian_norm": measures.block_hessian_norm,
    "ball_sharpness": lambda *data, **options: measures.ball_sharpness(*data, 1e-2, **options),
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
    x, y = batch(2 * measures.SUBSET)
    net = train(mlp(), x, y, 30)
    found = measures.ball_sharpness(net, x, y, epsilon)
    monkeypatch.setattr(measures, "SUBSET", len(x))
    assert found == pytest.approx(measures.ball_sharpness(net, x, y, epsilon), rel=0.01)
    assert found >= 0.99 * bound(net, x, y, epsilon)


def test_ball_equals_the_formula_at_a_minimum():
    """Softmax regression on noise has a minimum inside, where the gradient term vanishes."""
    x, y = torch.randn(300, 3, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 3
    net = train(mlp((3, 3)).double(), x.double(), y, 600, lr=1.0)
    loss, epsilon = float(cross_entropy(net(x.double()), y).detach()), 1e-2
    assert bound(net, x.double(), y, epsilon) < 1e-9
    formula = measures.sharpness(loss, measures.hessian_norm(net, x, y)[0], epsilon)
    assert measures.ball_sharpness(net, x, y, epsilon) == pytest.approx(formula, rel=0.01)


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
