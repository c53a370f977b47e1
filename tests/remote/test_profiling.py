"""`sy.profile` where the shares are at workers."""

from remotes import without_consent
from torch.nn import functional as F
from twins import task

import pysmpc as sy


def profiled(parties, model, x, y):
    a, b, hidden = sy.encrypt(x, parties), sy.encrypt(y, parties), sy.encrypt(model, parties)
    before = parties.stats.copy()
    with sy.profile(show=False) as profile:
        loss = F.mse_loss(hidden(a), b)
        loss.backward()
        sy.decrypt(loss)
    assert profile.stats == parties.stats - before
    return profile


def test_a_profile_counts_what_it_counts_in_one_process(parties):
    given = task(16, 12, 16, 8, 4)
    there, here = profiled(parties, *given), profiled(sy.virtual(*parties.names), *given)
    mine, other = ([(r.layer, r.operation, r.spent) for r in each.rows if r.spent.rounds] for each in (there, here))
    assert mine[:-1] == other[:-1]
    (*_, last), (*_, without) = mine[-1], other[-1]
    assert without_consent(last.cost, without.cost)
    assert (there.parties, here.parties) == (("driver",), ("all",))
    assert "the driver, who waits" in str(there)
