"""Secret noise: whose it is, how much of it, and that no step repeats it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.mpc.derived import secret_noise
from pysmpc.ops.noise import gaussian_noise, with_bits
from pysmpc.privacy import noise_share
from pysmpc.session.session import virtual_session
from pysmpc.transport import threads

N = 20_000


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("protocol", [None, "fss"])
def test_each_holder_adds_the_full_variance(holders, protocol):
    if protocol == "fss" and holders > 2:
        pytest.skip("for two holders")
    parties = sy.virtual(*["alice", "bob", "charlie"][:holders], protocol=protocol)
    x = sy.encrypt(torch.zeros(N), parties)
    found = sy.decrypt(gaussian_noise(x, 0.25, False)).double() / 0.25
    assert float(found.square().mean()) == pytest.approx(holders, abs=0.06 * holders)
    dealt = sy.decrypt(gaussian_noise(x, 0.25, True)).double() / 0.25
    assert float(dealt.square().mean()) == pytest.approx(1, abs=0.06)
    assert abs(float(found.mean())) + abs(float(dealt.mean())) < 0.1
    again = sy.decrypt(gaussian_noise(x, 0.25, True)).double() / 0.25
    assert abs(float((dealt * again).mean())) < 0.06


def test_without_one_holders_noise_the_rest_has_full_variance():
    """What a holder knows of the sum is her own part: what is left has the variance of the others."""
    session = virtual_session(["alice", "bob"])
    drawn, draw = [], secret_noise.Sampler.draw

    def kept(self, key, n):
        drawn.append(draw(self, key, n))
        return drawn[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secret_noise.Sampler, "draw", kept)
        share = secret_noise.holders_noise(session.suite, session.party, (N,), 1000.0)
    [total] = session.suite.reveal(session.party, share)
    assert torch.equal(total, drawn[0] + drawn[1])
    for known in drawn:
        assert float((total - known).double().square().mean()) == pytest.approx(1e6, rel=0.06)
    # and no row of the shares is somebody's noise
    assert all(int(row.abs().max()) > 1 << 55 for row in share.words())


def test_parties_apart_and_costs():
    def program(session):
        before = session.stats.copy()
        mine = secret_noise.holders_noise(session.suite, session.party, (40,), 4096.0)
        free = (session.stats - before).cost
        dealt = secret_noise.dealt_noise(session.suite, session.party, (40,), 4096.0)
        cost = (session.stats - before).cost
        return session.suite.reveal(session.party, mine, dealt), free, cost

    found = threads.run(threads.sessions(["alice", "bob"]), program)
    (values, free, cost), (others, _, _) = found[0], found[1]
    for one, other in zip(values, others, strict=True):
        assert torch.equal(one, other)
        assert 0 < int(one.abs().max()) < 4096 * 12
    assert free == secret_noise.holders_noise_cost(2, 40)
    assert cost == secret_noise.dealt_noise_cost(2, 40)


def test_authenticated_shares_take_noise_of_the_provider():
    parties = sy.virtual("alice", "bob", integrity="mac")
    x = sy.encrypt(torch.zeros(3000), parties)
    with pytest.raises(NotImplementedError, match='noise="provider"'):
        gaussian_noise(x, 1.0, False)
    found = sy.decrypt(gaussian_noise(x, 1.0, True))
    assert float(found.square().mean()) == pytest.approx(1, abs=0.2)


def test_no_step_repeats_its_noise():
    parties = sy.virtual("alice", "bob")

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 2)

        def forward(self, x):
            seen.append(gaussian_noise(x.detach()[:1], 1.0, False))
            return self.inner(x)

    seen = []
    model = sy.encrypt(Noisy(), parties)
    step = sy.TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.1), F.mse_loss)
    x, y = sy.encrypt(torch.randn(4, 3), parties), sy.encrypt(torch.randn(4, 2), parties)
    for _ in range(6):
        step(x, y)
    assert step.repeats
    values = [sy.decrypt(x) for x in seen]
    assert len({tuple(x.flatten().tolist()) for x in values}) == 6


def test_more_digits():
    parties = sy.virtual("alice", "bob")
    x = sy.encrypt(torch.tensor([1.5, -0.25]), parties)
    finer = with_bits(x / 3, 28)
    assert finer.unit.digits == 28
    assert torch.allclose(sy.decrypt(finer).double(), torch.tensor([0.5, -0.25 / 3]).double(), atol=2**-14)
    assert torch.equal(sy.decrypt(with_bits(with_bits(x, 28), 16)), torch.tensor([1.5, -0.25]))


def test_parts_of_clients_add_up():
    clients = 7
    found = sum(noise_share(N, 0.5, clients).double() for _ in range(clients)) / (0.5 * 65536)
    assert float(found.square().mean()) == pytest.approx(1, abs=0.06)
    with pytest.raises(ValueError, match="finer scale"):
        noise_share(3, 0.5, 100, scale=16)
    with pytest.raises(ValueError, match="at least one client"):
        noise_share(3, 0.5, 0)
