"""Two threads that compute with one session: every interleaving comes to what one after the other does."""

import threading

import pytest
import torch

import pysmpc as sy

ULP = 2.0**-16
WAIT = 0.5  # seconds that a thread in an operation gives the other one to come in between


class Meddler:
    """Lets another thread do `work` in the midst of what this thread does at `meddle`, once.

    Where the other has to wait for this thread, this one goes on after WAIT seconds.
    """

    def __init__(self, work):
        self._work, self.result, self.error = work, None, None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._started = False

    def _run(self):
        try:
            self.result = self._work()
        except Exception as error:
            self.error = error
        finally:
            self._done.set()

    def meddle(self):
        if not self._started and threading.current_thread() is not self._thread:
            self._started = True
            self._thread.start()
            self._done.wait(WAIT)

    def join(self):
        assert self._started
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


def before(monkeypatch, owner, name, meddler):
    """owner.name, with the other thread let in as it begins."""
    honest = getattr(owner, name)

    def called(*args, **kwargs):
        meddler.meddle()
        return honest(*args, **kwargs)

    monkeypatch.setattr(owner, name, called)


@pytest.mark.parametrize("options", [{}, {"protocol": "fss"}, {"integrity": "mac"}], ids=str)
def test_one_value_opened_by_two_threads(monkeypatch, options):
    """The opening of one thread never goes with the mask of the other."""
    parties = sy.virtual("alice", "bob", **options)
    values = [torch.randn(50) for _ in range(3)]
    x, y, z = (sy.encrypt(each, parties) for each in values)
    other = Meddler(lambda: x * z)
    channel = parties.session.party.channel
    before(monkeypatch, channel, "gather" if "integrity" in options else "open_lanes", other)
    mine, theirs = x * y, other.join()
    for found, (a, b) in ((mine, (0, 1)), (theirs, (0, 2)), (x * x, (0, 0))):
        assert float((sy.decrypt(found) - values[a] * values[b]).abs().max()) < 16 * ULP


def test_a_value_that_is_read_while_its_update_is_made(monkeypatch):
    parties = sy.virtual("alice", "bob")
    start, gradient = torch.randn(30), torch.randn(30)
    p, g = sy.encrypt(start, parties), sy.encrypt(gradient, parties)
    p.add_(g * torch.full((30,), 0.5), alpha=-0.25)
    assert p.cell.pending
    other = Meddler(lambda: sy.decrypt(p))
    before(monkeypatch, parties.session.party.channel, "open", other)
    for found in (sy.decrypt(p), other.join()):
        assert float((found - (start - 0.125 * gradient)).abs().max()) < 16 * ULP


def test_counts_of_two_threads():
    parties = sy.virtual("alice", "bob")
    x = [sy.encrypt(torch.ones(3), parties) for _ in range(2)]
    before = parties.stats.copy()

    def work(mine):
        for _ in range(100):
            _ = mine > 0

    threads = [threading.Thread(target=work, args=(each,)) for each in x]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = parties.stats - before
    work(x[0])
    assert spent == (parties.stats - before - spent) + (parties.stats - before - spent)


def linear(parties):
    plain = torch.nn.Linear(4, 2)
    model = sy.encrypt(plain, parties)
    return plain, model


@pytest.mark.parametrize("call", [3, 4, 5, 6])
def test_a_thread_that_draws_while_a_step_is_recorded_or_repeated(monkeypatch, call):
    """Its numbers are no numbers of the step, and the step's are none of its own."""
    parties = sy.virtual("alice", "bob")
    plain, model = linear(parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
    reference = torch.optim.SGD(plain.parameters(), lr=0.125)
    values = torch.randn(20)
    x = sy.encrypt(values, parties)
    calls = []
    other = Meddler(lambda: x * x)
    streams, dealer = parties.session.party.dealer.streams, parties.session.party.dealer
    given = []

    def drawn(count=1):
        if len(calls) == call:
            other.meddle()
        first = streams(count)
        given.append((int(first), count))
        return first

    monkeypatch.setattr(dealer, "streams", drawn)

    def loss(out, target):
        return ((out - target) ** 2).sum()

    step = sy.TrainStep(model, optimizer, loss)
    for number in range(1, 8):
        calls.append(number)
        a, b = torch.randn(3, 4), torch.randn(3, 2)
        secret = sy.encrypt(a, parties), sy.encrypt(b, parties)
        found = sy.decrypt(step(*secret))
        reference.zero_grad()
        wanted = loss(plain(a), b)
        wanted.backward()
        reference.step()
        assert float((found - wanted.detach()).abs()) < 0.01 + 2.0**-13 * float(wanted.detach())  # squares
    assert step.repeats
    product = other.join()
    assert type(product.cell.body.mask) in (int, type(None))
    assert type(x.cell.body.mask) is int
    assert float((sy.decrypt(product) - values * values).abs().max()) < 16 * ULP
    assert float((sy.decrypt(x * x) - values * values).abs().max()) < 16 * ULP
    used = [number for first, count in given for number in range(first, first + count)]
    assert len(used) == len(set(used))
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert float((sy.decrypt(mine) - theirs.detach()).abs().max()) < 0.01


def test_threads_may_take_turns():
    """A session made and fed in one thread is used in others, one after the other or at a time."""
    parties = sy.virtual("alice", "bob")
    values = torch.randn(4, 25)
    x, found = sy.encrypt(values, parties), {}

    def work(row):
        y = x[row]
        for _ in range(5):
            y = torch.relu(y * x[row])
        found[row] = sy.decrypt(x[row] * x[row])

    threads = [threading.Thread(target=work, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for row in range(4):
        assert float((found[row] - values[row] ** 2).abs().max()) < 16 * ULP


def test_sessions_do_not_wait_for_one_another(monkeypatch):
    """A thread in the midst of one session's operation holds up nobody who computes with another."""
    one, two = sy.virtual("alice", "bob"), sy.virtual("alice", "bob")
    x, y = sy.encrypt(torch.ones(3), one), sy.encrypt(torch.ones(3), two)
    finished = []
    other = Meddler(lambda: finished.append(sy.decrypt(y * y)))

    honest = one.session.party.channel.open

    def opening(*args, **kwargs):
        other.meddle()
        assert finished
        return honest(*args, **kwargs)

    monkeypatch.setattr(one.session.party.channel, "open", opening)
    assert torch.equal(sy.decrypt(x * x), torch.ones(3))
    other.join()
