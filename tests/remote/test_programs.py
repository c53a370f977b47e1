"""The same program on remote parties and in one process: equal results, rounds and bytes."""

import copy
import gc
import operator

import pytest
import torch
from remotes import without_consent
from torch import nn
from torch.nn import functional as F
from twins import mlp, task

import pysmpc as sy
from pysmpc.api import steps
from pysmpc.errors import EncodingError, PartyError, SessionMismatchError

ULP = 2.0**-16


def everywhere(parties, program, *, atol=2 * ULP):
    """program(parties) there and here: equal in what it opens and in what it cost, but for the rounds of consent."""
    here = sy.virtual(*parties.names)
    before = parties.stats.copy()
    found, expected = program(parties), program(here)
    cost = (parties.stats - before).cost
    assert cost == here.stats.cost or without_consent(cost, here.stats.cost, len(parties.names))
    found = found if isinstance(found, tuple) else (found,)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        assert torch.allclose(mine.double(), theirs.double(), atol=atol, rtol=0)
    return found


def check_agreement(workers, parties):
    """Every process counted the same and used the same streams."""
    parties.wait()
    states = dict.fromkeys(workers.workers)
    for name, worker in workers.workers.items():
        [session] = [a.replay.session for a in worker.attendances.values() if a.replay is not None]
        states[name] = (session.stats, session.party.dealer.next_stream)
    assert all(state == (parties.stats, parties.session.party.dealer.next_stream) for state in states.values()), states


def trained(parties, model, x, y, **options):
    a, b, net = sy.encrypt(x, parties), sy.encrypt(y, parties), sy.encrypt(model, parties)
    optimizer = torch.optim.SGD(net.parameters(), **options)
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.mse_loss(net(a), b)
        loss.backward()
        optimizer.step()
    return (sy.decrypt(loss), *(sy.decrypt(p) for p in net.parameters()))


@pytest.mark.parametrize("options", [{"lr": 0.05}, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}])
def test_training(workers, parties, options):
    model, x, y = task(16, 12, 16, 8, 4, steps=3, **options)
    everywhere(parties, lambda p: trained(p, model, x, y, **options), atol=32 * ULP)
    check_agreement(workers, parties)


def test_training_with_three_holders(three):
    model, x, y = task(8, 6, 5, 3)
    with three.connect() as parties:
        everywhere(parties, lambda p: trained(p, model, x, y, lr=0.1), atol=32 * ULP)
        check_agreement(three, parties)


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.fc = nn.Linear(3 * 4 * 4, 5)

    def forward(self, x):
        return self.fc(F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1))


def test_a_convolutional_network(workers, parties):
    model, x = Convolutional(), torch.randn(3, 1, 8, 8)

    def program(p):
        net, images = sy.encrypt(model, p), sy.encrypt(x, p)
        out = net(images)
        (out * out).mean().backward()
        return sy.decrypt(out), sy.decrypt(net.conv.weight.grad), sy.decrypt(out.argmax(1))

    everywhere(parties, program, atol=64 * ULP)
    check_agreement(workers, parties)


def test_results_in_tensors_of_the_callers(workers, parties):
    """Workers write what the driver writes, also where the target is the only secret."""
    a, b = torch.randn(4, 3), torch.randn(4, 3)

    def program(p):
        x, y, out = (sy.encrypt(v, p) for v in (a, b, torch.zeros(4, 3)))
        torch.mul(x, y, out=out)
        product = sy.decrypt(out)
        torch.add(torch.ones(3), 1, out=out[1])
        largest, place = sy.encrypt(torch.zeros(3), p), sy.encrypt(torch.zeros(3, dtype=torch.int64), p)
        torch.max(x, 0, out=(largest, place))
        y.lt_(0)
        return product, *(sy.decrypt(v) for v in (out, largest, place, y))

    found = everywhere(parties, program)
    assert torch.equal(found[1][1], torch.full((3,), 2.0))
    assert torch.equal(found[3], a.argmax(0))
    check_agreement(workers, parties)


def test_functions_and_their_derivatives(workers, parties):
    """A derivative finds the opening of the value at the workers as at the driver."""
    layers = [nn.Sigmoid(), nn.Tanh(), nn.GELU(), nn.SiLU(), nn.Mish(), nn.Softplus(2), nn.LogSigmoid()]
    model = nn.Sequential(*(each for layer in layers for each in (nn.Linear(4, 4), layer)))
    x = torch.randn(5, 4)

    def program(p):
        net, given = sy.encrypt(model, p), sy.encrypt(x, p).requires_grad_(True)
        (torch.erf(net(given)) ** 2).sum().backward()
        return sy.decrypt(given.grad), *(sy.decrypt(each.grad) for each in net.parameters())

    everywhere(parties, program, atol=256 * ULP)
    check_agreement(workers, parties)


@pytest.mark.parametrize("secret", [False, True], ids=["public classes", "secret classes"])
def test_a_classifier(workers, parties, secret):
    """The derivative of log-softmax finds at the workers what the forward pass found, as at the driver."""
    model, x, classes = nn.Linear(5, 4), torch.randn(6, 5), torch.randint(0, 4, (6,))

    def program(p):
        net, given = sy.encrypt(model, p), sy.encrypt(x, p)
        target = sy.encrypt(F.one_hot(classes, 4).float(), p) if secret else classes
        loss = F.cross_entropy(net(given), target)
        loss.backward()
        return sy.decrypt(loss), *(sy.decrypt(each.grad) for each in net.parameters())

    everywhere(parties, program, atol=16 * ULP)
    check_agreement(workers, parties)


LOSSES = {
    "the largest": lambda out: (out * out).max(),
    "the smallest of all": lambda out: torch.stack([out, out]).min(),
    "the largest of all but rows": lambda out: torch.cat([out, out]).amax((0,)).sum() - out.amin(1, keepdim=True).sum(),
    "the largest of each row": lambda out: out.max(1).values.sum(),
    "a norm": lambda out: torch.norm(out, 3, -1).sum() + torch.cdist(out, out + 1, p=1.5).sum() * 0.1,
    "angles": lambda out: (torch.atan(out) + torch.asinh(out) + torch.tan(out * 0.1) + torch.atanh(out * 0.1)).sum(),
    "a row once more": lambda out: (out * out).mean() + ((out[:1] - 1) ** 2).mean(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses(workers, parties, name):
    """A worker runs the operations of a backward pass without autograd, and comes to what the driver comes to."""
    model, x = nn.Linear(5, 3), torch.randn(8, 5)

    def program(p):
        net = sy.encrypt(model, p)
        loss = LOSSES[name](net(sy.encrypt(x, p)))
        loss.backward()
        return sy.decrypt(loss), sy.decrypt(net.weight.grad)

    everywhere(parties, program, atol=64 * ULP)
    check_agreement(workers, parties)


X = torch.linspace(-3, 3, 24).reshape(4, 6)
LARGE = torch.randint(0, 4, (1000,))  # too long to travel inside an operation
PROGRAMS = {
    "sums": lambda x: x + x.t().reshape(4, 6) - 1.5,
    "public operands": lambda x: (x * torch.arange(6.0) + torch.ones(4, 1)) / 4,
    "products": lambda x: (x * x, x @ x.t(), x.square()),
    "views": lambda x: (x[1:3, ::2], x.t()[2], x.unsqueeze(0).expand(2, 4, 6), x.reshape(-1)[5:]),
    "rows by number": lambda x: x[torch.tensor([3, 0, 0])],
    "many rows by number": lambda x: x[LARGE],
    "masks": lambda x: x[X > 0],
    "comparisons": lambda x: (x > 0.5, x.abs(), x.relu(), x.clamp(-1, 1), (x > 0) & (x < 1)),
    "where": lambda x: torch.where(x > 0, x, -x),
    "extrema": lambda x: (x.max(1).values, x.argmax(1), x.amax(0)),
    "sorted": lambda x: (*x.sort(1), x.t().argsort(1, descending=True), x.topk(2).values, x.median(), x.quantile(0.4)),
    "secret positions": lambda x: (x.gather(0, x.argsort(0)), x[x.argmax(1)], x[:, x.argmin(1)], x.cummax(0).values),
    "a secret mask": lambda x: x.clone().masked_fill_(x < 0, 0.0).index_put_((x > 1,), torch.tensor(1.0)),
    "division": lambda x: 1 / (x + 4),
    "joined": lambda x: (torch.cat([x, x * 2]), torch.stack([x, x.neg()]), torch.cat([x, torch.ones(1, 6)])),
    "in place": lambda x: x.clone().mul_(2).add_(x).t_().sub_(1),
    "updates that wait": lambda x: x.clone().add_(x, alpha=0.3),
    "filled": lambda x: (torch.zeros_like(x) + x, torch.ones_like(x) * x, torch.full_like(x, 0.5) + x),
    "reductions": lambda x: (x.sum(), x.mean(1), x.var(0), x.cumsum(1)),
    "powers": lambda x: x**3,
    "functions": lambda x: (torch.sigmoid(x), x.t().tanh(), F.silu(x) + F.gelu(x), F.softplus(x, 2), F.logsigmoid(x)),
    "functions of a product": lambda x: (F.mish(x * x), torch.erf(x * x), torch.sin(x), torch.cos(x)),
    "exponentials": lambda x: (torch.exp(x), torch.exp2(x), 0.5**x, torch.log(x * x + 1), (x * x + 1) ** 1.5),
    "powers of tensors": lambda x: ((x * x + 1) ** (X / 3), (X * X + 1) ** (x / 3)),
    "roots": lambda x: (torch.sqrt(x * x), torch.rsqrt(x + 4), torch.reciprocal(x + 4), torch.log10(x + 4)),
    "softmax": lambda x: (torch.softmax(x, 1), torch.log_softmax(x.t(), 1), torch.logsumexp(x, (0, 1))),
    "angles": lambda x: (torch.atan(x), torch.asin(x / 4), torch.acos(x), torch.tan(x), torch.atan2(x, x.flip(0) + 1)),
    "hyperbolic functions": lambda x: (torch.asinh(x), torch.acosh(x + 5), torch.atanh(x / 4)),
    "norms": lambda x: (torch.norm(x, 3, 1), torch.linalg.vector_norm(x, 5), torch.cdist(x, x + 1, p=4.0)),
    "dtypes": lambda x: (x > 0).to(torch.float32) * x,
    "conversion": lambda x: x.double() * 2,
    "scatter": lambda x: torch.zeros_like(x).index_add(0, torch.tensor([0, 0, 1, 3]), x),
    "splits": lambda x: [part * 2 for part in x.split(3, 1)],
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("inference", [False, True])
def test_operations(workers, parties, name, inference):
    def program(p):
        with torch.inference_mode(inference):
            out = PROGRAMS[name](sy.encrypt(X, p))
            return tuple(sy.decrypt(each) for each in (out if isinstance(out, tuple | list) else (out,)))

    everywhere(parties, program, atol=2**-10)
    check_agreement(workers, parties)


def test_integers_and_booleans_are_exact(parties):
    values = torch.randint(-(1 << 40), 1 << 40, (50,))
    x = sy.encrypt(values, parties)
    assert torch.equal(sy.decrypt(x * 3 - x), 2 * values)
    assert torch.equal(sy.decrypt(sy.encrypt(values > 0, parties)), values > 0)


def test_thresholds_are_exact(workers, parties):
    """Public numbers and tensors arrive as they are, and are no step of any scale."""
    values = torch.tensor([0.0, 0.125, -0.125, 2.0])
    beside = torch.tensor([1e-6, 0.125 + 2.0**-24, -float("inf"), float("nan")])
    numbers = [1e-6, -1e-6, 0.125001, 0.125, float("inf"), -float("inf"), float("nan")]

    def program(p):
        x, whole = sy.encrypt(values, p), sy.encrypt(torch.tensor([(1 << 60) + 1, -3, 4, 5]), p)
        product = x * sy.encrypt(torch.full((4,), 2.0**-16), p)
        found = [fn(x, t) for fn in (operator.lt, operator.ge, operator.eq, operator.ne) for t in [*numbers, beside]]
        found += [beside.double() > x, product > 2.0**-20, whole > float(1 << 60), whole <= 4.5, whole == 4.5]
        found += [whole > torch.tensor([255, 3, 4, 200], dtype=torch.uint8), x.clamp(0.0, float("inf")) > 0]
        return tuple(sy.decrypt(each) for each in found)

    found = everywhere(parties, program)
    exact = values.double()
    expected = [fn(exact, t) for fn in (operator.lt, operator.ge, operator.eq, operator.ne) for t in [*numbers, beside]]
    expected += [beside.double() > exact, exact > 0, torch.tensor([True, False, False, False])]
    expected += [torch.tensor([False, True, True, False]), torch.zeros(4, dtype=torch.bool)]
    expected += [torch.tensor([True, False, False, False]), exact > 0]
    assert all(map(torch.equal, found, expected))
    check_agreement(workers, parties)


def test_thresholds_that_are_out_of_range(workers, parties):
    """Refused here, and by every worker alike: the session goes on."""
    x = sy.encrypt(torch.tensor([1.0, -1.0]), parties)
    for t in (2.0**46, torch.tensor([0.0, -1e30])):
        with pytest.raises(EncodingError, match="public value that a secret is compared with is out of range"):
            torch.lt(x, t)
    cubes = x * x * x
    assert sy.decrypt(cubes < 2.0**40).all()  # beyond the scale that it has, and within its nominal one
    assert sy.decrypt(x < 2.0**45).all()
    check_agreement(workers, parties)


def test_public_fixed_precision(parties):
    fixed = steps.fix_precision(torch.tensor([1.25, -0.5]), 2)
    x = sy.encrypt(fixed, parties)
    assert torch.allclose(sy.decrypt(x + fixed), torch.tensor([2.5, -1.0]))
    assert torch.allclose(sy.decrypt(x * steps.fix_precision(torch.tensor([2.0, 2.0]), 2)), torch.tensor([2.5, -1.0]))


def test_other_protocols_of_a_session(parties):
    x = sy.encrypt(torch.tensor([0.5, -0.25]), parties, rounding="nearest")
    assert torch.equal(sy.decrypt(x * 0.5 * x), torch.tensor([0.125, 0.03125]))
    with pytest.raises(SessionMismatchError):
        x + sy.encrypt(torch.ones(2), parties)
    assert torch.equal(sy.decrypt(x), torch.tensor([0.5, -0.25]))


@pytest.mark.parametrize("protocol", ["snn", "fss"])
def test_protocols_that_need_more_of_the_provider(workers, parties, protocol):
    """SecureNN asks it over connections of their own; keys of function secret sharing go to every holder."""
    model, x, y = task(16, 12, 8, 4)

    def program(p):
        options = {"protocol": protocol}
        net, a, b = sy.encrypt(model, p, **options), sy.encrypt(x, p, **options), sy.encrypt(y, p, **options)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        loss = F.mse_loss(net(a), b)
        loss.backward()
        optimizer.step()
        above, count = a > 0.5, (b > 0).sum()  # bits that nobody has read yet, and read ones
        where = sy.decrypt(torch.where(a == 0, a, a + above))
        return sy.decrypt(loss), *(sy.decrypt(q) for q in net.parameters()), sy.decrypt(above), sy.decrypt(count), where

    before = parties.stats.copy()
    everywhere(parties, program, atol=32 * ULP)
    assert ((parties.stats - before).asked > 0) == (protocol == "snn")
    check_agreement(workers, parties)


def test_a_module_comes_back(parties):
    model = mlp(4, 3, 2)
    back = sy.decrypt(sy.encrypt(model, parties))
    for mine, theirs in zip(back.parameters(), model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=ULP)


def test_fresh_shares(workers, parties):
    x = sy.encrypt(torch.arange(6.0), parties)
    parties.wait()
    before = kept(workers, "alice", x)
    steps.refresh(x)
    parties.wait()
    assert not torch.equal(kept(workers, "alice", x), before)
    assert torch.equal(sy.decrypt(x), torch.arange(6.0))
    check_agreement(workers, parties)


def kept(workers, name, x):
    """A holder's shares of a secret."""
    [attendance] = [a for a in workers.workers[name].attendances.values() if a.replay is not None]
    return attendance.replay.cell(x.cell.slot).body.words.clone()


def test_each_holder_has_a_share_of_its_own_and_the_provider_none(workers, parties):
    values = torch.arange(100)
    x = sy.encrypt(values, parties)
    parties.wait()
    alice, bob = kept(workers, "alice", x), kept(workers, "bob", x)
    assert alice.shape == bob.shape == (1, 100)
    assert kept(workers, "crypto_provider", x).shape == (0, 100)
    assert torch.equal((alice + bob)[0], values)
    assert x.cell.body.words.shape == (0, 100)


def test_what_is_dropped_is_dropped_everywhere(workers, parties):
    x = sy.encrypt(torch.ones(4), parties)
    for _ in range(50):
        x = x + 1
    gc.collect()
    sy.decrypt(x)
    parties.wait()
    for worker in workers.workers.values():
        [attendance] = [a for a in worker.attendances.values() if a.replay is not None]
        assert len(attendance.replay) <= 4


def test_an_operation_that_fails_leaves_everybody_together(workers, parties):
    """It may fail half-way, after the first rounds: all go as far, and go on together."""
    x = sy.encrypt(X, parties)
    with pytest.raises(EncodingError):
        (x * x) * 1e30
    with pytest.raises((ValueError, RuntimeError)):
        x @ x
    with pytest.raises(EncodingError):
        x + float("nan")
    with pytest.raises(ZeroDivisionError):
        x / 0
    with pytest.raises(NotImplementedError, match="digamma"):
        torch.digamma(x)
    assert torch.allclose(sy.decrypt(x * x), X * X, atol=2**-10)
    check_agreement(workers, parties)


def test_secrets_of_two_connections_do_not_mix(workers, parties):
    with workers.connect() as other:
        x, y = sy.encrypt(X, parties), sy.encrypt(X, other)
        with pytest.raises(SessionMismatchError):
            x + y
        assert torch.allclose(sy.decrypt(x + 1), X + 1, atol=ULP)
        assert torch.allclose(sy.decrypt(y + 1), X + 1, atol=ULP)


def test_a_deep_copy(parties):
    model = sy.encrypt(mlp(3, 2), parties)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin[0].weight.zero_()
    assert sy.decrypt(model)[0].weight.abs().sum() > 0
    assert sy.decrypt(twin)[0].weight.abs().sum() == 0


def test_repr_shows_no_value_and_costs_nothing(parties):
    x = sy.encrypt(torch.tensor([12345.0]), parties)
    text = repr(x)
    assert "alice" in text
    assert "12345" not in text


def test_a_holder_must_share_what_she_owns(parties):
    with pytest.raises(PartyError, match="search"):
        sy.encrypt(torch.ones(2), parties, owner="alice")
