"""`sy.estimate`: rounds and bytes of a real run, and times that add up."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.api.estimating import APART, Estimate, Work
from pysmpc.api.wires import Wire, measured_wire
from pysmpc.errors import EncodingError
from pysmpc.session.stats import Stats
from pysmpc.tensor.storage import flush

NETS = {
    "layers": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), (4, 6)),
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)),
        (2, 1, 6, 6),
    ),
}
OPTIMIZERS = {"SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "Adam": torch.optim.Adam}


def costs(stats):
    return stats.rounds, stats.sent, stats.dealt, stats.shared, stats.asked, stats.answered


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETS)
def test_costs_of_training_are_those_of_a_loop(name, optimizer):
    make, shape = NETS[name]
    net, x, y = make(), torch.randn(shape), torch.randn(shape[0], 3)
    found = sy.estimate(net, (x, y), loss=F.mse_loss, optimizer=OPTIMIZERS[optimizer], seconds=0)
    parties = sy.virtual("alice", "bob")
    secret = sy.encrypt(net, parties)
    steps = OPTIMIZERS[optimizer](secret.parameters())
    spent = []
    for _ in range(4):
        before = parties.stats.copy()
        steps.zero_grad()
        loss = F.mse_loss(secret(sy.encrypt(x, parties)), sy.encrypt(y, parties))
        loss.backward()
        steps.step()
        flush(parties.session)
        sy.decrypt(loss.detach())
        spent.append(parties.stats - before)
    assert costs(found.first) == costs(spent[0])
    assert costs(found.stats) == costs(spent[2]) == costs(spent[3])
    by_layer = [row.spent for row in found.rows]
    assert tuple(map(sum, zip(*map(costs, by_layer), strict=True))) == costs(found.stats)


@pytest.mark.parametrize("settings", [{}, {"holders": ("a", "b", "c")}, {"protocol": "fss"}, {"rounding": "nearest"}])
@pytest.mark.parametrize("opened", [True, False])
def test_costs_of_a_forward_pass(settings, opened):
    make, shape = NETS["layers"]
    net, x = make().eval(), torch.randn(shape)
    found = sy.estimate(net, x, opened=opened, seconds=0, **settings)
    options = dict(settings)
    parties = sy.virtual(*options.pop("holders", ("alice", "bob")), **options)
    secret, spent = sy.encrypt(net, parties), []
    for _ in range(2):
        before = parties.stats.copy()
        with torch.no_grad():
            out = secret(sy.encrypt(x, parties))
        if opened:
            sy.decrypt(out)
        spent.append(parties.stats - before)
    assert [costs(found.first), costs(found.stats)] == list(map(costs, spent))
    assert found.first.sent > found.stats.sent  # weights were opened under masks


def made(work=None, holders=2, **spent):
    stats = Stats(**{"rounds": 10, "sent": 1000, "dealt": 2000, **spent})
    work = work or Work(together=1.0, python=0.1, holder=0.2, provider=0.05)
    return Estimate(stats, stats, [], work, Wire(byte=1e-5, message=1e-3), holders, 1, ())


def test_times_over_a_network():
    python = 0.1 * APART  # which workers take more of
    # a holder: its computing, 2000 + 2000 bytes at half of both ends' price, and messages of ten rounds
    still = sy.Network(0.0, float("inf"))
    assert made().over(still) == pytest.approx(python + 0.2 + 4000 * 0.5e-5 + 10 * 1e-3 + 3e-3)
    # each round is a way, and three more are of an opening
    assert made().over(sy.Network(0.5, float("inf"))) == pytest.approx(made().over(still) + 13 * 0.5)
    assert made().over(sy.Network(0.0, 100.0)) == pytest.approx(20 + 3e-3)  # what is dealt takes longest
    assert made(dealt=0).over(sy.Network(0.0, 100.0)) == pytest.approx(made(dealt=0).over(still) + 10)
    slow = Work(together=1.0, python=0.1, holder=0.2, provider=3.0)
    assert made(slow).over(still) == pytest.approx(python + 3.0 + 2000 * 0.5e-5 + 3e-3)
    # one core does all parties' work, and the driver's
    everyone = 2 * (python + 0.2 + 1e-2) + (2 * 2000 + 2000) * 0.5e-5 + (python + 0.05) + 2000 * 0.5e-5 + python
    assert made().over(still, cores=1) == pytest.approx(everyone + 3e-3)
    assert made().over(sy.Network(0.5, float("inf")), cores=1) == pytest.approx(everyone + 3e-3 + 13 * 0.5)
    assert made().over(still, cores=1000) == made().over(still)


def test_what_was_measured_is_positive():
    net = nn.Linear(30, 20)
    found = sy.estimate(net, torch.randn(50, 30), seconds=0)
    assert found.seconds == found.work.together > 0
    assert found.work.python > 0
    assert found.work.provider > 0
    assert found.work.holder >= 0
    assert sum(row.seconds[0] for row in found.rows) == pytest.approx(found.seconds)
    wire = measured_wire()
    assert 0 < wire.byte < 1e-5
    assert 0 < wire.message < 0.1
    text = str(found)
    assert "TLS 25 ms" in text
    assert text.count("\n") == len(found.rows) + 2


def test_the_model_and_the_optimizer_stay_as_they_were():
    net = nn.Linear(3, 2)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    sy.estimate(net, (torch.randn(4, 3), torch.randn(4, 2)), loss=F.mse_loss, optimizer=optimizer, seconds=0)
    assert all(torch.equal(p, old) and p.grad is None for p, old in zip(net.parameters(), before, strict=True))
    assert not optimizer.state


def test_what_is_refused_at_once():
    with pytest.raises(EncodingError, match=r"sy\.estimate takes the plain model"):
        sy.estimate(sy.encrypt(nn.Linear(2, 2), sy.virtual("alice", "bob")), torch.ones(1, 2))
    with pytest.raises(TypeError, match=r"estimate\(model, \(x, y\), loss=\.\.\.\), or target=y"):
        sy.estimate(nn.Linear(2, 2), torch.ones(1, 2), loss=F.mse_loss)
