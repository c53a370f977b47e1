"""integrity="mac" with workers of other machines: inputs and results of the driver and of owners, consent, faults."""

import time

import numpy as np
import pytest
import torch
from remotes import Workers
from torch.nn import functional as F
from twins import mlp, task

import pysmpc as sy
from pysmpc.errors import IntegrityError, OpenNotPermittedError
from pysmpc.mpc.interfaces import Cost, End
from pysmpc.mpc.mac import opening
from pysmpc.mpc.mac.sharing_mac import disclose_cost, reveal_cost
from pysmpc.remote.arguments import reference
from pysmpc.remote.program_messages import Call

ULP = 2.0**-16
MAC = {"integrity": "mac"}
ITEMS = np.arange(12, dtype=np.float32).reshape(6, 2) / 8


def program(parties, model, x, y):
    net, a, b = sy.encrypt(model, parties, **MAC), sy.encrypt(x, parties, **MAC), sy.encrypt(y, parties, **MAC)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        F.mse_loss(net(a), b).backward()
        optimizer.step()
    return sy.decrypt(torch.cat([p.flatten() for p in net.parameters()]))


def sessions(workers):
    for name, worker in workers.workers.items():
        [found] = [a.replay.session for a in worker.attendances.values() if a.replay is not None]
        yield name, found


def test_training_is_that_of_one_process(workers, parties):
    model, x, y = task(16, 12, 8, 4)
    before = parties.stats.copy()
    found = program(parties, model, x, y)
    here = sy.virtual(*parties.names)
    assert float((found - program(here, model, x, y)).abs().max()) <= 8 * ULP
    n = found.numel()
    more = Cost(*(a - b for a, b in zip(*(vars(f(2, n)).values() for f in (disclose_cost, reveal_cost)), strict=True)))
    assert (parties.stats - before).cost == here.stats.cost + more
    parties.wait()
    for _, session in sessions(workers):
        assert (session.stats, session.party.dealer.next_stream) == (
            parties.stats,
            parties.session.party.dealer.next_stream,
        )


def test_three_holders_and_exact_results(three):
    with three.connect() as parties:
        x = sy.encrypt(torch.tensor([17, -17, 1 << 40]), parties, **MAC)
        assert torch.equal(sy.decrypt(x // 5), torch.tensor([3, -4, (1 << 40) // 5]))
        assert torch.equal(sy.decrypt(x > 0), torch.tensor([True, False, True]))


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "x.npy", ITEMS)
    return {"x": {"path": str(tmp_path / "x.npy"), "tags": ["#x"]}}


def owned(parties, name):
    [pointer] = parties[name].search("#x")
    return sy.encrypt(pointer, parties, **MAC)


def test_owners_share_their_own(office, folder):
    options = {name: {"data": folder} for name in ("alice", "bob")}
    with Workers(office.folder, options=options) as workers, workers.connect() as parties:
        both = torch.cat([owned(parties, "alice"), owned(parties, "bob")])
        plain = torch.from_numpy(np.concatenate([ITEMS, ITEMS]))
        assert torch.allclose(sy.decrypt(both), plain, atol=ULP)
        assert torch.allclose(sy.decrypt(both * sy.encrypt(plain, parties, **MAC)), plain * plain, atol=8 * ULP)


def test_what_a_holder_does_not_permit_is_not_opened(office, folder):
    """She opens the mask in place of the value, and so all that the driver gets from the others is that."""
    options = {"alice": {"data": folder, "open": []}}
    with Workers(office.folder, options=options) as workers, workers.connect() as parties:
        sent = []
        receive = parties.recorder._receive
        x = owned(parties, "alice")

        def noting(number, words):
            parties.link.flush()
            parties.link._until(
                lambda: all((number, name) in parties.link.answers.opened for name in parties.link.holders),
                None,
                "an opening",
            )
            sent.append(parties.link.answers.opened[number, "bob"].clone())
            return receive(number, words)

        parties.recorder._receive = noting
        notary, stream = parties.session.party.notary, parties.session.party.owner.next_stream
        with pytest.raises(OpenNotPermittedError):
            sy.decrypt(x)
        assert torch.equal(sent[0], notary.total(stream, 12))
        y = sy.encrypt(torch.ones(3), parties, **MAC)  # the session goes on
        assert torch.equal(sy.decrypt(y), torch.ones(3))


def alter(workers, name, cause):
    """The holder flips a bit of the first word that she sends for a cause."""
    channel = dict(sessions(workers))[name].party.channel
    honest = channel._swap

    def altered(said, message):
        if said == cause:
            message[0][0] ^= 1 << 5
        return honest(said, message)

    channel._swap = altered


class Noting(End):
    """Notes how much was sent over connections at the moment at which a session ends."""

    def __init__(self, streams):
        self.streams, self.sent = streams, None
        super().__init__()

    @property
    def reason(self):
        return self._reason

    @reason.setter
    def reason(self, reason):
        self._reason = reason
        if reason and self.sent is None:
            self.sent = self.now()

    def now(self):
        return [stream.sent for stream in self.streams]


def noting(session, streams):
    """The session's end as one that notes."""
    party = session.party
    party.end = party.channel.end = party.dealer.end = party.owner.end = session.lock._end = Noting(streams)
    return party.end


@pytest.mark.parametrize("cause", ["mask", "reveal"])
def test_an_altered_word_ends_the_session(office, cause):
    """The holder who finds it sends her peers and the provider nothing more, and the driver asks for nothing more."""
    with Workers(office.folder) as workers, workers.connect() as parties:
        x = sy.encrypt(torch.ones(5), parties, **MAC)
        parties.wait()
        [attendance] = workers.workers["alice"].attendances.values()
        engagement = attendance.engagement
        end = noting(engagement.session, list(engagement.streams))
        alter(workers, "bob", cause)
        with pytest.raises(IntegrityError):
            sy.decrypt(x * x)
        traffic = parties.traffic
        for work in (
            lambda: sy.decrypt(x),
            lambda: x * x,
            lambda: sy.encrypt(torch.ones(5), parties),
            lambda: sy.encrypt(torch.ones(5), parties, **MAC),
            lambda: parties["alice"].search("#x"),
            parties.wait,
            parties.status,
        ):
            with pytest.raises(IntegrityError):
                work()
        assert parties.traffic == traffic
        attendance._thread.join(10)
        assert not attendance._thread.is_alive()
        assert end.sent is not None
        assert end.sent == end.now()


def test_an_error_of_the_program_hides_no_failed_check(office, monkeypatch):
    """A driver may say of an operation that it fails everywhere; what a check finds on the way ends the session."""
    monkeypatch.setattr(opening, "MOST", 0)  # each opening is checked before the next
    with Workers(office.folder) as workers, workers.connect() as parties:
        x = sy.encrypt(torch.ones(5), parties, **MAC)
        y = sy.encrypt(torch.ones(5), parties, **MAC)
        parties.wait()
        alter(workers, "bob", "mask")
        ref = reference(x * y)
        parties.recorder._send(Call("aten.mul.Tensor", [ref, ref], {}, [], True), (), None)
        with pytest.raises(IntegrityError, match="'mask'"):
            parties.wait()


def test_holders_who_send_the_driver_different_words(office):
    """The driver, too, sends nothing more, and the workers drop the session."""
    with Workers(office.folder) as workers, workers.connect() as parties:
        x = sy.encrypt(torch.ones(5), parties, **MAC)
        receive = parties.recorder._receive

        def altered(number, words):
            found = receive(number, words)
            found[1][2] += 1
            return found

        parties.recorder._receive = altered
        with pytest.raises(IntegrityError, match="different"):
            sy.decrypt(x)
        parties.recorder._receive = receive
        traffic = parties.traffic
        for work in (
            lambda: sy.decrypt(x),
            lambda: x + x,
            lambda: sy.encrypt(torch.ones(5), parties),
            lambda: parties["alice"].search("#x"),
            parties.wait,
            parties.status,
        ):
            with pytest.raises(IntegrityError, match="ended when the holders sent different words of one opening"):
                work()
        assert parties.traffic == traffic
        until = time.monotonic() + 10
        while any(worker.attendances for worker in workers.workers.values()) and time.monotonic() < until:
            time.sleep(0.02)
        assert not any(worker.attendances for worker in workers.workers.values())


def test_checkpoints_are_refused(parties, tmp_path):
    with pytest.raises(NotImplementedError, match="checkpoints"):
        sy.save(sy.encrypt(mlp(2, 2), parties, **MAC), None, tmp_path)
