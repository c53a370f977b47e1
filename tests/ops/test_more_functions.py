"""Derivatives from what a function has opened, normalisations and attention: values, gradients, rounds, every suite."""

import copy

import pytest
import torch
from op_checks import RUNS, SUITES, THREE, check_run, encrypted, parties, plain
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

EVERYWHERE = [*RUNS, THREE, *SUITES]


def positive(shape):
    return 0.25 + 3 * torch.rand(shape, dtype=torch.float64)


def mixed(shape):
    return torch.randn(shape, dtype=torch.float64) * 2


def spent(function, x):
    """(rounds of the function, rounds of its gradients), of a secret x."""
    stats = x.session.stats
    before = stats.copy()
    out = function(x)
    forward = (stats - before).rounds
    before = stats.copy()
    out.sum().backward()
    return forward, (stats - before).rounds


# --- quotients by what a root or a logarithm has opened ---------------------------------


def inner(shape):
    return 0.1 + 0.8 * torch.rand(shape, dtype=torch.float64)


#: name: (function, operands, rounds forward, rounds backward, steps, steps of gradients)
INVERSES = {
    "log": (torch.log, positive, 7, 4, 2, 8),
    "log2": (torch.log2, positive, 8, 5, 2, 12),
    "log1p": (torch.log1p, positive, 7, 4, 2, 8),
    "sqrt": (torch.sqrt, positive, 9, 4, 2, 4),
    "softsign": (F.softsign, mixed, 14, 12, 2, 6),
    "logaddexp": (lambda x: torch.logaddexp(x, x.flip(0)), mixed, 5, 20, 3, 8),
    "logit": (torch.logit, inner, 15, 24, 30, 120),
    "xlogy": (lambda x: torch.xlogy(x - 1, x), positive, 9, 26, 3, 12),
    "sinh": (torch.sinh, mixed, 10, 12, 12, 12),
    "cosh": (torch.cosh, mixed, 10, 12, 12, 12),
    "norm": (lambda x: torch.linalg.vector_norm(x, 2, -1), mixed, 10, 10, 2, 4),
    "std": (lambda x: x.std(-1), mixed, 11, 11, 3, 6),
    "normalize": (lambda x: F.normalize(x, dim=-1), mixed, 14, 19, 4, 16),
    "cosine_similarity": (lambda x: F.cosine_similarity(x, x.flip(0) + 1, dim=-1), mixed, 34, 40, 4, 24),
    "corrcoef": (torch.corrcoef, mixed, 30, 32, 4, 16),
    "cdist": (lambda x: torch.cdist(x, x.flip(0) + 3), mixed, 12, 12, 3, 12),
}


@pytest.mark.parametrize("run", EVERYWHERE, ids=lambda run: run.name)
@pytest.mark.parametrize("name", INVERSES)
def test_values_and_gradients(name, run):
    function, values, _, _, steps, grad_steps = INVERSES[name]
    check_run(function, (4, 5), run, values=values, steps=steps, grad_steps=grad_steps, rtol=2**-12)


@pytest.mark.parametrize("name", INVERSES)
def test_rounds(name):
    function, values, forward, backward, _, _ = INVERSES[name]
    found = spent(function, encrypted(values((4, 5))).requires_grad_())
    assert found[0] <= forward, found
    assert found[1] <= backward, found


def test_a_quotient_by_what_nothing_is_known_of_stays_exact():
    x, y = encrypted(torch.tensor([1.0, -2.0])), encrypted(torch.tensor([3.0, 7.0]))
    before = x.session.stats.copy()
    found = sy.decrypt(x / y)
    assert (x.session.stats - before).rounds >= 35
    assert torch.allclose(found, torch.tensor([1 / 3, -2 / 7]), rtol=0, atol=2**-16)


@pytest.mark.parametrize("factor", [1, 2, 0.75, -3])
def test_an_inverse_serves_multiples_and_copies(factor):
    values = positive((3, 4))
    y = encrypted(values).sqrt()
    for divisor, twin in (
        (y * factor, values.sqrt() * factor),
        ((y * factor).t(), (values.sqrt() * factor).t()),
        (y.t().contiguous(), values.sqrt().t()),
        (y.unsqueeze(0).expand(2, 3, 4), values.sqrt().expand(2, 3, 4)),
    ):
        before = y.session.stats.copy()
        found = encrypted(torch.ones(twin.shape)) / divisor
        assert (y.session.stats - before).rounds < 10
        assert torch.allclose(sy.decrypt(found).double(), 1 / twin, atol=2**-14, rtol=2**-14)


def test_quotients_by_one_and_a_power_of_e_are_sigmoids():
    x = encrypted(torch.tensor([-40.0, -3.0, 0.0, 3.0, 40.0]))
    before = x.session.stats.copy()
    found = 1 / (1 + torch.exp(-x))
    assert (x.session.stats - before).rounds < 16
    assert (sy.decrypt(found) - torch.sigmoid(sy.decrypt(x))).abs().max() < 2**-14


def test_other_elements_of_a_root_are_divided_by_exactly():
    values = positive((3, 4))
    y = encrypted(values).sqrt()
    found = encrypted(torch.ones(3)) / y[:, 1]
    assert torch.allclose(sy.decrypt(found).double(), 1 / values.sqrt()[:, 1], atol=2**-13, rtol=2**-13)


def test_a_root_of_zero_is_zero():
    x = encrypted(torch.tensor([0.0, 4.0, -1.0]))
    assert torch.allclose(sy.decrypt(x.sqrt()), torch.tensor([0.0, 2.0, 0.0]), atol=2**-15)
    zero = encrypted(torch.zeros(2, 3)).requires_grad_()
    torch.linalg.vector_norm(zero, 2, -1).sum().backward()
    assert sy.decrypt(zero.grad).abs().max() == 0


# --- normalisations --------------------------------------------------------------------

LAYERS = {
    "layer": (lambda: nn.LayerNorm(5), (3, 5)),
    "layer over two": (lambda: nn.LayerNorm((3, 4)), (2, 3, 4)),
    "batch": (lambda: nn.BatchNorm1d(3), (6, 3)),
    "batch 2d": (lambda: nn.BatchNorm2d(2), (3, 2, 3, 3)),
    "batch without weights": (lambda: nn.BatchNorm1d(3, affine=False), (6, 3)),
    "batch of its own": (lambda: nn.BatchNorm1d(3, track_running_stats=False), (6, 3)),
    "group": (lambda: nn.GroupNorm(2, 4), (2, 4, 3)),
    "instance": (lambda: nn.InstanceNorm2d(2, affine=True, track_running_stats=True), (2, 2, 3, 3)),
    "rms": (lambda: nn.RMSNorm(6), (3, 6)),
}


def twins_of(make, run):
    """(secret module, its twin in float64)."""
    twin = make().double()
    for p in twin.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    for name, b in twin.named_buffers():
        if name != "num_batches_tracked":
            b.uniform_(0.5, 1.5)
    options = dict(run.options or {})
    if run.encoding == "decimal":
        options |= {"base": 10, "precision_fractional": 4}
    return sy.encrypt(copy.deepcopy(twin).float(), parties(run.holders), **options), twin


def close(found, expected, atol=2**-8):
    found = sy.decrypt(found.detach()).double()
    assert torch.allclose(found, expected.detach(), atol=atol, rtol=2**-8), (found - expected).abs().max()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("run", EVERYWHERE, ids=lambda run: run.name)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, run, training):
    make, shape = LAYERS[name]
    secret, twin = twins_of(make, run)
    secret.train(training), twin.train(training)
    [x], [given] = run.operands([mixed(shape).float()])
    x, given = x.detach().requires_grad_(), given.detach().requires_grad_()
    weights = torch.rand(shape).double()
    atol = 2**-8 if run.encoding != "decimal" else 0.02
    out, expected = secret(x), twin(given)
    close(out, expected, atol)
    (out * weights.float()).sum().backward()
    (expected * weights).sum().backward()
    close(x.grad, given.grad, atol)
    for p, q in zip(secret.parameters(), twin.parameters(), strict=True):
        close(p.grad, q.grad, atol)
    for (key, b), c in zip(secret.named_buffers(), twin.buffers(), strict=True):
        if key != "num_batches_tracked":
            close(b, c, atol)


@pytest.mark.parametrize(
    ("name", "forward", "backward"), [("layer", 12, 10), ("batch", 12, 10), ("group", 12, 10), ("rms", 15, 20)]
)
def test_rounds_of_layers(name, forward, backward):
    make, shape = LAYERS[name]
    secret, _ = twins_of(make, RUNS[0])
    found = spent(secret, encrypted(mixed(shape).float()).requires_grad_())
    assert found[0] <= forward, found
    assert found[1] <= backward, found


def test_what_is_rounded_for_a_whole_channel_does_not_add_up():
    """The gradients of a channel sum to zero, but for the rounding of each, of which half a step is no part."""
    secret, twin = twins_of(lambda: nn.BatchNorm2d(2), RUNS[0])
    x = encrypted(mixed((16, 2, 24, 24)).float()).requires_grad_()
    given = sy.decrypt(x.detach()).double().requires_grad_()
    weights = 2.0**-12 * torch.rand(x.shape).double()
    for model, operand in ((secret, x), (twin, given)):
        (model(operand) * (weights.float() if model is secret else weights)).sum().backward()
    off = (sy.decrypt(x.grad).double() - given.grad).sum(dim=(0, 2, 3)).abs()
    assert off.max() < 6 * 2**-16 * (16 * 24 * 24) ** 0.5


def test_evaluation_takes_the_inverse_of_the_variances_once():
    secret, _ = twins_of(LAYERS["batch"][0], RUNS[0])
    secret.eval()
    first, second = (spent(secret, encrypted(mixed((6, 3)).float()).requires_grad_())[0] for _ in range(2))
    assert second < first - 5


@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_small_and_large_variances(scale):
    x = encrypted(mixed((4, 64)) * scale)
    expected = F.layer_norm(sy.decrypt(x).double(), (64,))
    assert (sy.decrypt(F.layer_norm(x, (64,))).double() - expected).abs().max() < 2**-10


def test_running_statistics_that_are_public_are_left_as_they_were():
    layer = nn.BatchNorm1d(3)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(TypeError, match="running statistics"):
        layer(encrypted(mixed((6, 3))))
    assert torch.equal(before["running_mean"], layer.running_mean)
    assert torch.equal(before["running_var"], layer.running_var)


def test_running_statistics_follow_in_repeated_steps():
    secret, twin = twins_of(LAYERS["batch"][0], RUNS[0])
    step = sy.TrainStep(secret, torch.optim.SGD(secret.parameters(), lr=0.1), lambda out, y: (out - y).square().mean())
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(4):
        x, y = mixed((6, 3)).float(), mixed((6, 3)).float()
        step(encrypted(x), encrypted(y))
        optimizer.zero_grad()
        (twin(x.double()) - y).square().mean().backward()
        optimizer.step()
        close(secret.running_mean, twin.running_mean)
        close(secret.running_var, twin.running_var)
        close(secret.weight, twin.weight)


# --- attention -----------------------------------------------------------------------------

ATTENTION = {
    "plain": {},
    "causal": {"is_causal": True},
    "mask": {"attn_mask": torch.rand(4, 4) < 0.6},
    "nothing": {"attn_mask": torch.tensor([[True] * 4, [False] * 4, [True, False] * 2, [True] * 4])},
    "added": {"attn_mask": torch.randn(4, 4)},
    "scale": {"scale": 0.3},
}


@pytest.mark.parametrize("run", EVERYWHERE, ids=lambda run: run.name)
@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name, run):
    given = ATTENTION[name]

    def attention(q, k, v):
        same = {key: m.to(q.dtype) if getattr(m, "is_floating_point", bool)() else m for key, m in given.items()}
        return F.scaled_dot_product_attention(*(x.contiguous() for x in (q, k, v)), **same)

    check_run(attention, [(1, 2, 4, 3)] * 3, run, steps=6, grad_steps=12, rtol=2**-10)


def test_rounds_of_attention():
    q = encrypted(torch.randn(1, 1, 4, 4)).requires_grad_()
    found = spent(lambda x: F.scaled_dot_product_attention(x, x, x), q)
    assert found[0] <= 28, found
    assert found[1] <= 16, found


def test_a_transformer_layer_learns():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    twin = copy.deepcopy(layer).double()
    secret = sy.encrypt(layer, parties(2))
    x = torch.randn(2, 4, 8)
    out, expected = secret(encrypted(x)), twin(x.double())
    close(out, expected)
    out.square().mean().backward()
    expected.square().mean().backward()
    for p, q in zip(secret.parameters(), twin.parameters(), strict=True):
        close(p.grad, q.grad)


# --- sinc ----------------------------------------------------------------------------------


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("size", [0.002, 0.3, 5.0, 300.0])
def test_sinc_and_its_derivative_near_zero_and_far_from_it(size, holders):
    """Where x is small, neither the quotient nor its derivative divides what was rounded by x."""
    x = encrypted(torch.cat([size * torch.randn(2000), torch.zeros(1)]), holders).requires_grad_()
    twin = plain(x.detach()).requires_grad_()
    weights = torch.rand(2001, dtype=torch.float64)
    for fn in (torch.sinc, torch.special.sinc, lambda v: v.sinc()):
        out, expected = fn(x), fn(twin)
        assert torch.allclose(plain(out.detach()), expected.detach(), atol=3 * 2.0**-16, rtol=0)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(plain(x.grad), twin.grad, atol=32 * 2.0**-16, rtol=0)
