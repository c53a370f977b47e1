"""Batches that owners draw: which rows, in slots that tell nothing, what is counted, and what is refused."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import pysmpc as sy
from pysmpc.errors import BudgetSpentError, PrivacyError
from pysmpc.privacy import draws
from pysmpc.privacy import engine as engines
from pysmpc.privacy.draws import FAILURE, draw, slots_for

BUDGET = {"target_epsilon": 8.0, "target_delta": 1e-3, "accountant": "rdp", "sampling": "poisson"}


@pytest.fixture
def parties():
    return sy.virtual("alice", "bob")


def owner(n, features=6):
    x = torch.randn(n, features)
    return x, (x[:, 0] > 0).long()


def network():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def made(parties, loader, *, norm=1.0, epochs=1, noise_multiplier=None, lr=0.1, **how):
    model = sy.encrypt(network(), parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    engine = sy.privacy.Engine(**(BUDGET | how))
    return engine, *engine.make_private(
        model, optimizer, loader, max_grad_norm=norm, epochs=epochs, noise_multiplier=noise_multiplier
    )


def train(model, optimizer, loader, passes):
    for _ in range(passes):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()


def test_rows_are_drawn_one_by_one_into_slots():
    n, rate, times = 400, 0.1, 80
    slots = slots_for(n, rate)
    counts = torch.zeros(n)
    sizes = []
    for _ in range(times):
        index, present = draw(n, rate, slots)
        assert index.shape == present.shape == (slots,)
        rows = index[present]
        assert len(rows.unique()) == len(rows)
        assert int(index[~present].abs().sum()) == 0
        counts[rows] += 1
        sizes.append(len(rows))
    spread = math.sqrt(n * rate * (1 - rate))
    assert abs(sum(sizes) / times - n * rate) < 6 * spread / math.sqrt(times)
    assert 0.4 < float(torch.tensor(sizes).double().var()) / spread**2 < 2.2
    # the first rows have no better chance than the last
    for half in counts.split(n // 2):
        assert abs(float(half.sum()) - times * n * rate / 2) < 6 * spread * math.sqrt(times / 2)


class Noted(TorchDispatchMode):
    """Operations and shapes of what runs within."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        shapes = [tuple(x.shape) for x in (*args, out) if isinstance(x, torch.Tensor)]
        self.seen.append((str(func), shapes))
        return out


def test_the_same_operations_whatever_is_drawn(monkeypatch):
    found = []
    for taken in (torch.zeros(50).bool(), torch.ones(50).bool(), torch.arange(50) % 7 == 0):
        monkeypatch.setattr(draws, "takes_part", lambda n, rate, taken=taken: taken)
        with Noted() as noted:
            draw(50, 0.2, 20)
        found.append(noted.seen)
    assert len(found[0]) > 5
    assert found[0] == found[1] == found[2]


def test_slots_are_enough():
    for n, rate in ((60000, 256 / 60000), (1000, 0.5), (100, 0.01), (10, 0.9), (24, 1.0)):
        slots = slots_for(n, rate)
        assert slots <= n
        # the exact probability of more, by logarithms
        tail = sum(
            math.exp(
                math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
                + k * math.log(rate) + (n - k) * math.log1p(-rate)
            )
            for k in range(slots + 1, n + 1)
        ) if rate < 1 else 0.0  # fmt: skip
        assert tail < FAILURE
    assert slots_for(60000, 256 / 60000) < 410
    assert slots_for(30, 0.0) == 1


def test_a_row_too_many_is_left_out(monkeypatch):
    monkeypatch.setattr(draws, "takes_part", lambda n, rate: torch.ones(n, dtype=torch.bool))
    index, present = draw(9, 0.5, 4)
    assert index.tolist() == [0, 1, 2, 3]
    assert present.all()


def test_a_batch_is_what_was_drawn_and_shapes_tell_nothing(parties):
    sources = [owner(30), owner(20)]
    loader = sy.privacy.OwnersLoader(sources, 10, parties)
    assert len(loader) == 5
    shapes, sums = set(), []
    rows = {tuple(row.tolist()): int(y) for xs, ys in sources for row, y in zip(xs, ys, strict=True)}
    for _ in range(12):
        (x, y), weights = loader.draw()
        shapes.add((tuple(x.shape), tuple(y.shape), tuple(weights.shape)))
        x, y, weights = sy.decrypt(x), sy.decrypt(y), sy.decrypt(weights)
        assert set(weights.tolist()) <= {0.0, 1.0}
        sums.append(int(weights.sum()))
        nearest = torch.cdist(x[weights == 1].double(), torch.tensor(list(rows)).double()).min(1)
        assert float(nearest.values.max() if len(nearest.values) else 0) < 1e-3
        assert [list(rows.values())[i] for i in nearest.indices] == y[weights == 1].tolist()
        assert float(x[weights == 0].abs().max() if (weights == 0).any() else 0) == 0
    assert shapes == {((loader.slots, 6), (loader.slots,), (loader.slots,))}
    assert len(set(sums)) > 1


def test_padding_counts_for_nothing(parties, monkeypatch):
    """A step is that of the clipped gradients of the rows alone, over the expected size of a batch."""
    monkeypatch.setattr(engines, "gaussian_noise", lambda x, std, dealt: x * 0)
    loader = sy.privacy.OwnersLoader([owner(16), owner(8)], 8, parties)
    kept, drawing = [], loader.draw

    def watched():
        kept.append(drawing())
        return kept[-1]

    monkeypatch.setattr(loader, "draw", watched)
    _, model, optimizer, private = made(parties, loader, lr=1.0, norm=0.3, noise_multiplier=5.0)
    plain = sy.decrypt(model)
    vars(plain[0]).pop("forward"), vars(plain[2]).pop("forward")
    twin = copy.deepcopy(plain)
    x, y = next(iter(private))
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    weights = sy.decrypt(kept[0][1])
    assert weights.sum() < len(weights)
    xs, ys = sy.decrypt(x)[weights == 1], sy.decrypt(y)[weights == 1]
    sums = [torch.zeros_like(p) for p in twin.parameters()]
    for i in range(len(xs)):
        twin.zero_grad()
        F.cross_entropy(twin(xs[i : i + 1]), ys[i : i + 1]).backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in twin.parameters()))
        for total, p in zip(sums, twin.parameters(), strict=True):
            total += p.grad * min(1, 0.3 / norm)
    for p, before, total in zip(model.parameters(), plain.parameters(), sums, strict=True):
        assert torch.allclose(sy.decrypt(p), before - total / 8, atol=2**-10)


def test_what_is_counted(parties):
    loader = sy.privacy.OwnersLoader([owner(16), owner(8)], 8, parties)
    engine, model, optimizer, private = made(parties, loader, epochs=2)
    given, *_ = made(parties, [()] * 3, epochs=2, sampling="given")
    assert engine.noise_multiplier < given.noise_multiplier
    train(model, optimizer, private, passes=2)
    assert engine.accountant.history == {(engine.noise_multiplier, 8 / 24): 6}
    # batches with too few slots cost some of delta
    lost = 6 * 2 * FAILURE * (1 + math.exp(8))
    assert engine._delta(6) == pytest.approx(1e-3 - lost, abs=1e-12)
    assert engine.epsilon() == engine.accountant.epsilon(1e-3 - lost) <= 8
    with pytest.raises(BudgetSpentError):
        train(model, optimizer, private, passes=20)


def test_slots_cost_too_much_of_a_small_delta(parties):
    loader = sy.privacy.OwnersLoader([owner(24)], 8, parties)
    with pytest.raises(PrivacyError, match="delta 1e-13 is too small for 3 steps"):
        made(parties, loader, target_delta=1e-13)


def test_what_is_refused(parties):
    x, y = owner(12)
    loader = sy.privacy.OwnersLoader
    with pytest.raises(PrivacyError, match="for sampling=\"poisson\", not for 'given'"):
        made(parties, loader([(x, y)], 4, parties), sampling="given")
    with pytest.raises(ValueError, match="same number of rows"):
        loader([(x, y[:5])], 4, parties)
    with pytest.raises(ValueError, match="the same kinds of data"):
        loader([(x, y), (x,)], 4, parties)
    with pytest.raises(ValueError, match="the same kinds of data"):
        loader([], 4, parties)
    with pytest.raises(ValueError, match="from 1 to the 12 rows"):
        loader([(x, y)], 13, parties)
    with pytest.raises(PrivacyError, match="plain tensors that are theirs"):
        loader([(sy.encrypt(x, parties), sy.encrypt(y, parties))], 4, parties)
    with pytest.raises(PrivacyError, match="rows that are listed twice"):
        loader([(x, y), (x, y)], 4, parties)
    assert "1 owners, 4 of 12 rows" in repr(loader([(x, y)], 4, parties))
