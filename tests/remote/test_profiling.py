"""`sy.profile` where the shares are at workers."""

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
    assert [(r.layer, r.operation, r.spent) for r in there.rows if r.spent.rounds] == [
        (r.layer, r.operation, r.spent) for r in here.rows if r.spent.rounds
    ]
    assert (there.parties, here.parties) == (("driver",), ("all",))
    assert "the driver, who waits" in str(there)
