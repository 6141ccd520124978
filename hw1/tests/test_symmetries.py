"""match_weights and rescale leave the function as it is, find what they should, refuse the rest."""

import copy
from itertools import pairwise, permutations

import pytest
import torch
from test_measures import MEASURES, batch, build, cnn, dense_hessian, mlp, top
from torch import nn
from torch.nn.utils import parameters_to_vector, parametrizations, prune

import measures
import models
import symmetries


def permuted(net, seed=5):
    """The same function with its hidden units, or channels, in another order."""
    net, rng = copy.deepcopy(net), torch.Generator().manual_seed(seed)
    layers = [m for m in net if isinstance(m, (nn.Linear, nn.Conv2d))]
    with torch.no_grad():
        for layer, following in pairwise(layers):
            order = torch.randperm(len(layer.weight), generator=rng)
            layer.weight.copy_(layer.weight[order])
            layer.bias.copy_(layer.bias[order])
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.Linear):
                positions = following.in_features // len(order)  # flattened channel by channel
                order = torch.cat([torch.arange(c * positions, (c + 1) * positions) for c in order])
            following.weight.copy_(following.weight[:, order])
    return net


def flat_cnn():
    """No pooling at the end: each channel has four columns of the linear layer; only 6 x 6 fits."""
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten()]
    return build([*layers, nn.Linear(20, 7), nn.ReLU(inplace=True), nn.Linear(7, 3)])


PERMUTABLE = {
    "mlp": (mlp((16, 24, 20, 12, 3)), (16,)),
    "cnn": (models.cnn(6, generator=torch.Generator().manual_seed(0)), (3, 32, 32)),
    "one channel": (models.cnn(3, 1, generator=torch.Generator().manual_seed(0)), (1, 28, 28)),
    "flat cnn": (flat_cnn(), (2, 6, 6)),
}


@pytest.mark.parametrize(("net", "shape"), PERMUTABLE.values(), ids=PERMUTABLE.keys())
def test_match_weights_undoes_a_permutation_exactly(net, shape):
    shuffled = permuted(net)
    x = torch.randn(20, *shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(shuffled(x), net(x), rtol=1e-4, atol=1e-5)
    matched = symmetries.match_weights(net, shuffled)
    for p, q, r in zip(*(n.parameters() for n in (net, matched, shuffled)), strict=True):
        assert torch.equal(p, q)
        assert p is not q and q is not r
    assert not torch.equal(next(shuffled.parameters()), next(net.parameters()))


def test_match_weights_finds_the_best_of_all_orders():
    """With one hidden layer the assignment is exact: no other order comes closer."""
    for seed in range(5):
        reference, net = mlp((3, 5, 4), seed=seed), mlp((3, 5, 4), seed=seed + 10)
        theta = parameters_to_vector(reference.parameters())
        w, b, v, c = (p.detach() for p in net.parameters())
        orders = map(list, permutations(range(5)))
        each = [torch.cat([w[o].flatten(), b[o], v[:, o].flatten(), c]) for o in orders]
        matched = parameters_to_vector(symmetries.match_weights(reference, net).parameters())
        best = min(float((other - theta.detach()).norm()) for other in each)
        assert float((matched - theta).detach().norm()) == pytest.approx(best, rel=1e-6)


def test_match_weights_keeps_the_function_and_comes_closer():
    x, _ = batch(50)
    reference, net = mlp((16, 24, 20, 3), seed=1), mlp((16, 24, 20, 3), seed=2, dropout=0.5).eval()
    reference_before = copy.deepcopy(reference.state_dict())
    net_before = copy.deepcopy(net.state_dict())
    matched = symmetries.match_weights(reference, net)
    torch.testing.assert_close(matched(x), net(x), rtol=1e-5, atol=1e-5)
    theta = parameters_to_vector(reference.parameters())
    before = (parameters_to_vector(net.parameters()) - theta).norm()
    assert (parameters_to_vector(matched.parameters()) - theta).norm() < 0.97 * before
    for module, state in ((reference, reference_before), (net, net_before)):
        assert all(torch.equal(state[k], v) for k, v in module.state_dict().items())


def test_match_weights_brings_a_cnn_closer_and_keeps_its_function():
    first, second = (models.cnn(8, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    x = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    matched = symmetries.match_weights(first, second)
    torch.testing.assert_close(matched(x), second(x), rtol=1e-4, atol=1e-5)
    theta, before, after = (
        torch.cat([p.detach().flatten() for p in net.parameters()])
        for net in (first, second, matched)
    )
    assert (after - theta).norm() < 0.99 * (before - theta).norm()


def three_layers(second=None, last=None):
    first, second = nn.Linear(16, 16), second or nn.Linear(16, 16)
    return [nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), last or nn.Linear(16, 3)]


class Skips(nn.Sequential):
    """An nn.Sequential whose forward does more than its layers tell."""

    def forward(self, x):
        x = x.flatten(1)
        return super().forward(x) + x[:, :3]


class OwnLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x) * torch.arange(1.0, 1 + self.out_features)


def pruned():
    net = build(three_layers())
    prune.random_unstructured(net[3], "weight", 0.5)
    return net


def hooked():
    """The sixteen units are not alike: one of them counts ten times."""
    net = build(three_layers())
    scale = torch.ones(16)
    scale[3] = 10.0
    net[3].register_forward_pre_hook(lambda _, inputs: (inputs[0].abs() * scale.to(inputs[0]),))
    return net


def offset():
    """The unit after the first layer is not homogeneous."""
    net = build(three_layers())
    net[1].register_forward_hook(lambda _, inputs, out: out + 1)
    return net


def tied():
    net = build(three_layers())
    net[3].weight = net[1].weight
    return net


def repeated():
    layer = nn.Linear(16, 16)
    return build([nn.Flatten(), layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(16, 3)])


REFUSED = {
    "tied": tied,
    "repeated": repeated,
    "forward of its own": lambda: Skips(*build(three_layers())),
    "a layer's forward of its own": lambda: build(three_layers(OwnLinear(16, 16))),
    "old weight norm": lambda: build(three_layers(nn.utils.weight_norm(nn.Linear(16, 16)))),
    "old spectral norm": lambda: build(three_layers(nn.utils.spectral_norm(nn.Linear(16, 16)))),
    "weight norm": lambda: build(three_layers(parametrizations.weight_norm(nn.Linear(16, 16)))),
    "spectral norm": lambda: build(three_layers(parametrizations.spectral_norm(nn.Linear(16, 16)))),
    "orthogonal": lambda: build(three_layers(parametrizations.orthogonal(nn.Linear(16, 16)))),
    "pruned": pruned,
    "hook": hooked,
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.filterwarnings("ignore")  # the old forms of the norms are deprecated
def test_what_would_change_the_function_is_refused(make):
    with pytest.raises(ValueError, match="Wanted|outputs would change"):
        symmetries.match_weights(build(three_layers(), seed=3), make())
    if make is not hooked:  # which is homogeneous
        with pytest.raises(ValueError, match="Wanted|outputs would change"):
            symmetries.rescale(make(), 3.0)


def test_rescale_notices_a_hook_that_is_not_homogeneous_and_weights_that_overflow():
    for net, alpha in ((offset(), 3.0), (mlp(), 1e39), (mlp(), 1e-39)):
        with pytest.raises(ValueError, match="outputs would change"):
            symmetries.rescale(net, alpha)


def test_match_weights_keeps_what_another_hook_records():
    """A hook that only looks on is no reason to refuse."""
    net, seen = mlp((16, 24, 20, 3)), []
    shuffled = permuted(net)
    shuffled[1].register_forward_hook(lambda _, inputs, out: seen.append(out.shape))
    matched = symmetries.match_weights(net, shuffled)
    assert torch.equal(matched[1].weight, net[1].weight)
    assert seen


@pytest.mark.parametrize("other", [cnn(), mlp((16, 6, 3)), nn.Linear(16, 3)])
def test_match_weights_refuses_what_it_cannot_align(other):
    with pytest.raises(ValueError, match="needs|Wanted"):
        symmetries.match_weights(mlp(), other)


@pytest.mark.parametrize("alpha", [0.1, 3.0, 100.0])
@pytest.mark.parametrize("net", [mlp(), cnn()], ids=["mlp", "cnn"])
def test_rescale_keeps_the_function_and_moves_the_hessian(net, alpha):
    x, y = batch(60)
    scaled = symmetries.rescale(net, alpha)
    out = net(x).detach()
    assert float((scaled(x).detach() - out).abs().max() / out.abs().max()) < 1e-5
    # Chain rule: theta' = D theta, so that H' = D^-1 H D^-1.
    weights = [p for p in net.parameters() if p.dim() > 1]
    factors = {weights[0]: alpha, list(net.parameters())[1]: alpha, weights[1]: 1 / alpha}
    inverse = torch.cat(
        [torch.full((p.numel(),), 1 / factors.get(p, 1.0)) for p in net.parameters()]
    )
    expected = inverse.double()[:, None] * dense_hessian(net, x, y) * inverse.double()
    assert measures.hessian_norm(scaled, x, y)[0] == pytest.approx(top(expected), rel=1e-3)
    for name in ("input_gradient_norm", "jacobian_norm"):
        value = MEASURES[name](net, x, y)
        assert MEASURES[name](scaled, x, y) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("net", [mlp(), cnn()], ids=["mlp", "cnn"])
def test_rescale_rounds_in_the_precision_of_the_model(net, kind):
    """A weight times three is no longer the same number there; a hook is still noticed."""
    half, (x, _) = copy.deepcopy(net).to(kind), batch(60)
    scaled = symmetries.rescale(half, 3.0)
    assert {p.dtype for p in scaled.parameters()} == {kind}
    old, new = (model.float()(x).detach() for model in (half, scaled))
    assert 0 < float((new - old).abs().max() / old.abs().max()) < 4 * torch.finfo(kind).eps
    with pytest.raises(ValueError, match="outputs would change"):
        symmetries.rescale(offset().to(kind), 3.0)


@pytest.mark.parametrize("alpha", [0.0, -2.0, float("nan"), float("inf")])
def test_rescale_refuses_a_factor_that_is_not_positive(alpha):
    with pytest.raises(ValueError, match="positive"):
        symmetries.rescale(mlp(), alpha)


def test_rescale_refuses_units_that_are_not_homogeneous():
    for layers in ([nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)], [nn.Linear(2, 2)]):
        with pytest.raises(ValueError, match="Wanted|two weight layers"):
            symmetries.rescale(nn.Sequential(*layers), 2.0)


def test_match_weights_leaves_a_diverged_model_as_it_is():
    reference, diverged = models.mlp([6, 5, 3]), models.mlp([6, 5, 3])
    for parameter in diverged.parameters():
        parameter.data.fill_(float("nan"))
    matched = symmetries.match_weights(reference, diverged)
    assert all(parameter.isnan().all() for parameter in matched.parameters())


def test_a_layer_that_keeps_its_last_output_is_no_obstacle():
    net, reference = mlp(), mlp(seed=1)
    net[1].register_forward_hook(lambda layer, _, out: setattr(layer, "last", out))
    expected = symmetries.match_weights(reference, mlp()), symmetries.rescale(mlp(), 3.0)
    net(batch(5)[0])
    with pytest.raises(RuntimeError):
        copy.deepcopy(net)
    found = symmetries.match_weights(reference, net), symmetries.rescale(net, 3.0)
    for ours, theirs in zip(found, expected, strict=True):
        assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_a_model_without_weights_is_one_sentence():
    net = nn.Sequential(nn.Flatten(), nn.ReLU())
    with pytest.raises(ValueError, match="no layer with weights"):
        symmetries.match_weights(net, net)
    with pytest.raises(ValueError, match="no layer with weights"):
        symmetries.rescale(net, 2.0)
