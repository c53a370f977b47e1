"""What each strategy makes of a mean of updates, against its formula."""

import pytest
import torch
from torch import nn

from pysmpc.federated import FedAdam, FedAvg, FedBN, FedProx, FedYogi

NAMES = {"w"}


def steps(strategy, changes):
    state = {"w": torch.zeros(3, dtype=torch.float64), "buffer": torch.zeros(2, dtype=torch.float64)}
    for change in changes:
        state |= strategy.step(state, {"w": change, "buffer": torch.ones(2, dtype=torch.float64)}, NAMES)
    return state


@pytest.fixture
def changes():
    return [torch.randn(3, dtype=torch.float64) for _ in range(3)]


def test_the_mean(changes):
    torch.testing.assert_close(steps(FedAvg(), changes)["w"], sum(changes))
    torch.testing.assert_close(steps(FedAvg(lr=0.5), changes)["w"], sum(changes) / 2)


def test_momentum(changes):
    velocity, where = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for change in changes:
        velocity = 0.9 * velocity + change
        where = where + velocity
    torch.testing.assert_close(steps(FedAvg(momentum=0.9), changes)["w"], where)


@pytest.mark.parametrize("kind", [FedAdam, FedYogi])
def test_adaptive(kind, changes):
    lr, (b1, b2), tau = 0.1, (0.9, 0.99), 1e-2
    m, where = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    v = torch.full((3,), tau**2, dtype=torch.float64)
    for change in changes:
        m = b1 * m + (1 - b1) * change
        square = change**2
        v = b2 * v + (1 - b2) * square if kind is FedAdam else v - (1 - b2) * square * torch.sign(v - square)
        where = where + lr * m / (v.sqrt() + tau)
    found = steps(kind(lr=lr, betas=(b1, b2), tau=tau), changes)
    torch.testing.assert_close(found["w"], where)


@pytest.mark.parametrize("kind", [FedAvg, FedAdam, FedYogi])
def test_buffers_are_averaged_and_not_stepped(kind, changes):
    torch.testing.assert_close(steps(kind(lr=0.5), changes)["buffer"], torch.full((2,), 3.0, dtype=torch.float64))


@pytest.mark.parametrize("make", [lambda: FedAvg(momentum=0.9), FedAdam, FedYogi])
def test_saved_and_loaded(make, changes):
    whole, first, second = make(), make(), make()
    expected = steps(whole, changes)["w"]
    start = steps(first, changes[:2])
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second.step(start, {"w": changes[2]}, NAMES)["w"], expected)


def test_what_stays_at_home():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2)), nn.LayerNorm(2))
    stays = FedBN().stays(model)
    assert stays == {f"1.0.{name}" for name in model[1][0].state_dict()}
    assert FedAvg().stays(model) == set()


def test_who_is_asked():
    names = [f"w{i}" for i in range(10)]
    assert FedAvg().choose(names) == names
    seen = set()
    for _ in range(60):
        some = FedAvg(fraction=0.3).choose(names)
        assert len(some) == len(set(some)) == 3
        seen |= set(some)
    assert seen == set(names)
    assert len(FedAvg(fraction=0.01, min_workers=4).choose(names)) == 4


@pytest.mark.parametrize(
    "bad",
    [
        lambda: FedAvg(fraction=0.0), lambda: FedAvg(min_workers=1), lambda: FedAvg(lr=0.0),
        lambda: FedAvg(momentum=1.0), lambda: FedProx(-1.0),
        lambda: FedAdam(tau=0.0), lambda: FedYogi(betas=(1.0, 0.9)),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(bad):
    with pytest.raises(ValueError, match=r"not|fewer|or more|from 0"):
        bad()
