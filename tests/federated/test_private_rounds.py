"""Federated rounds with noise that workers share: how much there is, what is counted, and what is refused."""

import copy

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc.errors import BudgetSpentError, CheckpointError, EncodingError, PrivacyError, RoundError
from pysmpc.federated import FedAvg, scatter
from pysmpc.federated.private import private_terms, sensitivity
from pysmpc.federated.updates import BITS, Terms

BUDGET = {"target_epsilon": 8.0, "target_delta": 1e-3, "accountant": "rdp", "unit": "client"}
WORKERS, N = 5, 4000


def engine(**how):
    return sy.privacy.Engine(**(BUDGET | how))


@pytest.fixture
def workers(make):
    found = make(WORKERS)
    scatter(torch.randn(60, 4), torch.randint(3, (60,)), found, alpha=None)
    return found


def push(model, data, targets, *, epochs, by=1.0):
    """An update of known norm, the same whatever the rows."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by)


def federation(workers, privacy, **options):
    options = {"task": push, "max_norm": 2.0, "strategy": FedAvg(min_workers=3)} | options
    return sy.Federation(workers, privacy=privacy, **options)


def moved(model, before):
    return torch.cat(
        [(a - b).detach().reshape(-1) for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    ).double()


@pytest.mark.parametrize("colluding", [0, 1])
def test_the_noise_of_so_few_workers_is_what_was_promised(workers, colluding):
    """Those that may take part without whom nothing is opened have the whole noise, less those that work together."""
    privacy = engine(colluding=colluding)
    privacy.for_rounds(1, noise_multiplier=3.0)
    model = nn.Linear(N - 1, 1)
    before = copy.deepcopy(model)
    [found] = federation(workers, privacy).fit(model, rounds=1)
    # every update is clipped from sqrt(N) to 2, so that each of its numbers is 2 / sqrt(N)
    noise = (moved(model, before) - 2 / N**0.5) * WORKERS
    wanted = 3.0 * sensitivity(2.0, N, BITS) * (WORKERS / (3 - colluding)) ** 0.5
    assert float(noise.square().mean().sqrt()) == pytest.approx(wanted, rel=0.07)
    assert abs(float(noise.mean())) < 6 * wanted / N**0.5
    assert found.rows == found.took_part == WORKERS
    assert found.epsilon == privacy.epsilon() > 0


def test_every_worker_counts_the_same(make):
    workers = make(3)
    for size, worker in zip((1, 50, 9), workers, strict=True):
        worker.load_data([torch.full((size, 2), float(size)).tag("#data"), torch.zeros(size).tag("#targets")])

    def tell(model, data, targets, *, epochs):
        with torch.no_grad():
            model.weight.add_(data[0, 0] / 100)

    privacy = engine(target_epsilon=1e8)
    privacy.for_rounds(1, noise_multiplier=1e-3)
    model = nn.Linear(1, 1, bias=False)
    start = float(model.weight.detach())
    federation(workers, privacy, task=tell, max_norm=10.0).fit(model, 1)
    assert float(model.weight.detach()) - start == pytest.approx((0.01 + 0.5 + 0.09) / 3, abs=0.05)


def test_sensitivity_has_the_rounding():
    assert sensitivity(2.0, 10**6, 10) > 2.0 + 1000 * 2.0**-11 - 1e-9
    terms = private_terms(_planned(engine()), {"w": (10,)}, 6, 4, 1.0, 64.0)
    assert terms.sharers == 3  # one knows her own part
    assert terms.noise >= 3.0
    # as many bits as its rounding is counted with
    crowd = private_terms(_planned(engine()), {"w": (10**6,)}, 10**6, 4, 64.0, 2.0**20)
    assert crowd.noise >= 3.0 * sensitivity(64.0, 10**6, crowd.precision.digits)


def _planned(privacy):
    privacy.for_rounds(1, noise_multiplier=3.0)
    return privacy


def test_the_budget_lasts_for_the_rounds(workers):
    privacy = engine()
    fed, model = federation(workers, privacy), nn.Linear(4, 3)
    found = fed.fit(model, rounds=3)
    assert [each.number for each in found] == [1, 2, 3]
    assert found[0].epsilon < found[1].epsilon < found[2].epsilon <= 8
    assert found[2].epsilon > 0.9 * 8
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(BudgetSpentError, match="another round would exceed epsilon 8"):
        fed.fit(model, rounds=20)
    assert privacy.epsilon() <= 8
    if privacy.accountant.steps == 3:
        assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_a_round_that_failed_before_anything_was_opened_is_not_counted(workers):
    privacy = engine()
    privacy.for_rounds(3)
    with pytest.raises(RoundError):
        federation(workers, privacy).fit(nn.Linear(4, 3), rounds=1, deadline=1e-12)
    assert privacy.accountant.steps == 0
    broken = federation(workers, privacy)
    broken.clients.ask = lambda model, ask: 1 / 0
    with pytest.raises(ZeroDivisionError):
        broken.fit(nn.Linear(4, 3), rounds=1)
    assert privacy.accountant.steps == 1


def test_an_update_that_is_not_finite_takes_part(workers):
    """Leaving the round would tell of her rows."""

    def odd(model, data, targets, *, epochs):
        with torch.no_grad():
            next(model.parameters())[0, 0] = float("nan")

    privacy = engine()
    model = nn.Linear(4, 3)
    [found] = federation(workers, privacy, task=odd).fit(model, rounds=1)
    assert found.took_part == WORKERS
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_checkpoints(workers, tmp_path):
    privacy, model = engine(), nn.Linear(4, 3)
    federation(workers, privacy, checkpoints=tmp_path).fit(model, rounds=2)
    other = engine()
    other.for_rounds(4)
    fed = federation(workers, other, checkpoints=tmp_path)
    fed.fit(nn.Linear(4, 3), rounds=2, resume=True)
    assert other.epsilon() == privacy.epsilon()
    assert other.noise_multiplier == privacy.noise_multiplier
    with pytest.raises(CheckpointError, match="of a training with privacy"):
        sy.Federation(workers, FedAvg(), task=push, checkpoints=tmp_path).fit(model, rounds=3, resume=True)


def test_a_round_that_a_checkpoint_lost_stays_counted(workers, tmp_path, monkeypatch):
    """It was opened; whoever goes on from the file before it opens another one."""
    privacy, model = engine(), nn.Linear(4, 3)
    privacy.for_rounds(4)
    fed = federation(workers, privacy, checkpoints=tmp_path)
    fed.fit(model, rounds=1)
    monkeypatch.setattr(fed, "_save", lambda model: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fed.fit(model, rounds=1)
    other = engine()
    other.for_rounds(4)
    federation(workers, other, checkpoints=tmp_path).fit(nn.Linear(4, 3), rounds=2, resume=True)
    assert other.accountant.steps == 3


def test_what_is_refused(workers):
    with pytest.raises(PrivacyError, match="give max_norm"):
        federation(workers, engine(), max_norm=None)
    with pytest.raises(PrivacyError, match="give max_norm"):
        federation(workers, engine(), max_norm=100.0)
    with pytest.raises(PrivacyError, match="secure=True"):
        federation(workers, engine(), secure=False)
    with pytest.raises(PrivacyError, match='unit="client"'):
        federation(workers, engine(unit="example"))
    with pytest.raises(PrivacyError, match="opened without noise"):
        federation(workers, engine()).evaluate(nn.Linear(4, 3))
    with pytest.raises(PrivacyError, match="opened without noise"):
        federation(workers, engine()).fit(nn.Linear(4, 3), patience=2)
    with pytest.raises(PrivacyError, match="3 may work together"):
        federation(workers, engine(colluding=3)).fit(nn.Linear(4, 3))
    with pytest.raises(PrivacyError, match="who takes part in a round is seen by all"):
        engine(sampling="poisson")
    with pytest.raises(ValueError, match="colluding"):
        engine(unit="example", colluding=1)
    with pytest.raises(PrivacyError, match="for_rounds"):
        engine().check_round()
    with pytest.raises(PrivacyError, match="steps protect examples"):
        engine().make_private(None, None, [])
    with pytest.raises(PrivacyError, match="rounds protect workers"):
        engine(unit="example").for_rounds(3)


@pytest.mark.parametrize(
    "bad",
    [{"noise": -1.0}, {"noise": float("nan")}, {"sharers": 0}, {"sharers": 9}, {"max_norm": None}, {"noise": 1e-9}],
)
def test_terms_that_make_no_sense(bad):
    facts = {"max_norm": 1.0, "noise": 2.0, "sharers": 3} | bad
    with pytest.raises(ValueError, match=r"noise|private sum"):
        Terms({"w": (3,)}, 5, **facts)
    with pytest.raises((ValueError, EncodingError)):
        Terms({"w": (3,)}, 5, 1.0, noise=1e30, sharers=3)
