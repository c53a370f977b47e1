"""Operations without a handler at workers of other machines: what they are made of is sent, and nothing else."""

import copy

import pytest
import torch
from remotes import without_consent
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.remote.program_messages import Call
from pysmpc.tensor.secret import HANDLERS

NAMES = {str(func) for func in HANDLERS}


@pytest.fixture
def sent(parties, monkeypatch):
    """Names of the operations that the driver sends."""
    recorder = parties.session.recorder
    found, queue = [], recorder.queue

    def noted(operation, *rest):
        if isinstance(operation, Call):
            found.append(operation.name)
        return queue(operation, *rest)

    monkeypatch.setattr(recorder, "queue", noted)
    return found


def both(parties, program, atol=2**-14):
    """program(parties) at the workers and in this process: equal in results, rounds and bytes."""
    here = sy.virtual(*parties.names)
    before = parties.stats.copy()
    found, expected = program(parties), program(here)
    cost = (parties.stats - before).cost
    assert cost == here.stats.cost or without_consent(cost, here.stats.cost, len(parties.names))
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, atol=atol)
    return found


X = torch.tensor([[-4.0, -1.5, 0.25], [1.0, 2.5, 5.0]])
STATES = [torch.zeros(1, 1, 2)] * 2
WEIGHTS = [torch.randn(8, 3), torch.randn(8, 2), torch.randn(8), torch.randn(8)]
CELLS = [torch.nn.GRUCell(3, 2).requires_grad_(False), torch.nn.LSTMCell(3, 2).requires_grad_(False)]
SAMPLES = torch.tensor([[[0.9, 0.3]]])
RESPONSE = torch.tensor([1.0, 0.5 - 0.25j, 0.25j])
REFLECTIONS, TAU = torch.geqrf(torch.tensor([[1.0, 0.5, 0.25], [-0.5, 1.0, 0.5], [0.25, -1.0, 2.0]]))


def square(x):
    """A well-conditioned matrix of what x has."""
    return x.mT @ x / 64 + torch.tensor([[1.0, 0.5, 0.0], [-0.5, 1.5, 0.25], [0.25, 0.0, 1.0]])


FUNCTIONS = {
    "hardswish": F.hardswish,
    "smooth_l1": lambda x: F.smooth_l1_loss(x, torch.zeros(2, 3)),
    "embedding": lambda x: F.embedding(torch.tensor([1, 0, 1]), x),
    "interpolate": lambda x: F.interpolate(x.reshape(1, 2, 3), scale_factor=2.0, mode="linear"),
    "pool": lambda x: F.adaptive_max_pool2d(x.reshape(1, 2, 3), (1, 2)),
    "lstm": lambda x: torch.lstm(x.unsqueeze(1), STATES, WEIGHTS, True, 1, 0.0, False, False, False)[0],
    "gru cell": lambda x: CELLS[0](x, CELLS[0](x)),
    "lstm cell": lambda x: CELLS[1](x, CELLS[1](x))[0],
    "attention": lambda x: F.scaled_dot_product_attention(*[x.reshape(1, 1, 2, 3)] * 3),
    "filter": lambda x: torch.fft.irfft(torch.fft.rfft(x, n=4) * RESPONSE, n=4),
    "spectra": lambda x: torch.view_as_real(torch.fft.fft2(x, norm="forward") * (1 - 0.5j)),
    "correlation": lambda x: (torch.fft.rfft(x / 8) * torch.fft.rfft(x.flip(0) / 8).conj()).real,
    "magnitudes": lambda x: (torch.fft.rfft(x, norm="ortho") + (8 - 6j)).abs(),
    "norm": lambda x: x.norm(dim=1),
    "lu": lambda x: torch.cat([each.flatten() for each in torch.linalg.lu(square(x))[1:]]),
    "lu_solve": lambda x: torch.linalg.lu_solve(*torch.linalg.lu_factor(square(x)), x.mT),
    "ormqr": lambda x: torch.ormqr(REFLECTIONS, TAU, x.mT),
    "eigenvalues": lambda x: torch.linalg.eigvalsh(x @ x.mT / 8),
    "singular values": lambda x: torch.linalg.svdvals(x / 4),
    "random windows": lambda x: F.fractional_max_pool2d(x.reshape(1, 2, 3), 2, (1, 2), _random_samples=SAMPLES),
    "masked scores": lambda x: x.masked_fill(torch.tensor([[True, False, False]]), float("-inf")).softmax(-1),
    "distances": lambda x: torch.cdist(x, x.flip(0), p=1.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(parties, sent, name):
    function = FUNCTIONS[name]

    def program(p):
        x = sy.encrypt(X, p).requires_grad_(True)
        out = function(x)
        (out * 0.5).sum().backward()
        return sy.decrypt(out.detach()), sy.decrypt(x.grad)

    found = both(parties, program, 2**-12)  # each rounds by itself: the weights of a cell are drawn, and enlarge it
    twin = X.clone().requires_grad_(True)
    expected = function(twin)
    (expected * 0.5).sum().backward()
    assert torch.allclose(found[0], expected.detach(), atol=2**-12)
    assert torch.allclose(found[1], twin.grad, atol=2**-12)
    assert sent
    assert set(sent) <= NAMES


@pytest.mark.parametrize("call", [torch.erfinv, torch.special.i0, torch.rand_like])
def test_a_refusal_sends_nothing(parties, sent, call):
    x = sy.encrypt(X, parties)
    del sent[:]
    before = parties.stats.copy()
    with pytest.raises(NotImplementedError):
        call(x)
    assert (parties.stats - before).cost.rounds == 0
    assert sent == []
    assert torch.equal(sy.decrypt(x), X)


def test_recorded_steps(parties):
    model = nn.Sequential(nn.Linear(3, 4), nn.Hardswish(), nn.Linear(4, 2))
    x, y = torch.randn(5, 3), torch.randn(5, 2)

    def program(p):
        mine = sy.encrypt(copy.deepcopy(model), p)
        optimizer = torch.optim.SGD(mine.parameters(), lr=0.05)
        step = sy.TrainStep(mine, optimizer, F.huber_loss)
        a, b = sy.encrypt(x, p), sy.encrypt(y, p)
        losses = [step(a, b) for _ in range(6)]
        assert step.repeats
        return [sy.decrypt(each) for each in losses]

    losses = both(parties, program)
    assert losses[-1] < losses[0]


# --- dropout -------------------------------------------------------------------------------


def masked(p, model, x):
    mine = sy.encrypt(copy.deepcopy(model), p)
    secret = sy.encrypt(x, p).requires_grad_(True)
    out = mine(secret)
    out.square().sum().backward()
    return [sy.decrypt(each) for each in (out.detach(), secret.grad, *(w.grad for w in mine.parameters()))]


def test_public_masks_are_the_drivers(parties, sent):
    model = nn.Sequential(
        nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 8), nn.AlphaDropout(0.2), nn.Dropout(0.5, True)
    )
    x, seed = torch.randn(5, 6), int(torch.randint(1 << 40, ()))

    def program(p):
        torch.manual_seed(seed)
        return masked(p, model, x)

    found = both(parties, program, atol=2**-9)
    torch.manual_seed(seed)
    twin = x.clone().requires_grad_(True)
    expected = model(twin)
    expected.square().sum().backward()
    torch.seed()
    assert torch.allclose(found[0], expected.detach(), atol=2**-10)
    assert torch.allclose(found[1], twin.grad, atol=2**-7)
    assert not any("bernoulli" in name or "random" in name for name in sent)


def test_secret_masks_there(parties, sent):
    model = nn.Sequential(nn.Dropout(0.25))
    x = torch.ones(40, 50)
    with sy.secret_masks():
        found = masked(parties, model, x)
        again = masked(parties, model, x)
    kept = found[0] > 0.5
    assert torch.allclose(found[0], kept * (4 / 3), atol=2**-12)
    assert torch.allclose(found[1], kept * (2 * 4 / 3) * (4 / 3), atol=2**-8)
    assert 1350 < int(kept.sum()) < 1650
    assert not torch.equal(kept, again[0] > 0.5)
    assert "pysmpc.random_bits.default" in sent


def test_no_recorded_step_keeps_a_public_mask(parties):
    """Of one element, whose draws are often alike."""
    masks = []

    class Few(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.drop = nn.Linear(3, 2), nn.Dropout(0.5)

        def forward(self, x):
            out = self.inner(x)
            masks.append(self.drop(torch.ones_like(out[:1, :1])))
            return out * masks[-1]

    mine = sy.encrypt(Few(), parties)
    step = sy.TrainStep(mine, torch.optim.SGD(mine.parameters(), lr=0.05), F.mse_loss)
    a, b = sy.encrypt(torch.randn(5, 3), parties), sy.encrypt(torch.randn(5, 2), parties)
    for _ in range(24):
        step(a, b)
        assert not step.repeats
    assert step.reason
    assert len(masks) == 24
    assert {float(sy.decrypt(mask)) for mask in masks} == {0.0, 2.0}


def test_a_recorded_step_draws_secret_masks_anew(parties):
    mine = sy.encrypt(nn.Sequential(nn.Linear(1, 200, bias=False), nn.Dropout(0.5)), parties)
    step = sy.TrainStep(mine, torch.optim.SGD(mine.parameters(), lr=0.01), lambda out, y: (out - y).sum())
    a, b = sy.encrypt(torch.ones(1, 1), parties), sy.encrypt(torch.zeros(1, 200), parties)
    changed = set()
    with sy.secret_masks():
        for _ in range(7):
            before = sy.decrypt(mine[0].weight.detach())
            step(a, b)
            changed.add(tuple((before - sy.decrypt(mine[0].weight.detach()) > 0.01)[:, 0].tolist()))
        assert step.repeats
    assert len(changed) == 7


@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 2.0, 1.0])])
def test_secret_classes(parties, weight):
    x, t = torch.randn(6, 3), torch.tensor([0, 2, 1, 1, -100, 0])

    def program(p):
        mine = sy.encrypt(x, p).requires_grad_(True)
        loss = F.cross_entropy(mine, sy.encrypt(t, p), weight)
        loss.backward()
        return [sy.decrypt(loss.detach()), sy.decrypt(mine.grad)]

    found = both(parties, program, atol=2**-10)
    twin = x.clone().requires_grad_(True)
    expected = F.cross_entropy(twin, t, weight)
    expected.backward()
    assert torch.allclose(found[0], expected.detach(), atol=2**-9)
    assert torch.allclose(found[1], twin.grad, atol=2**-9)
