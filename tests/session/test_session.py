"""Sessions in one process: names, statistics, observers, what holders keep."""

import gc
import os
import threading

import pytest
import torch
from children import in_child
from settings import random_words

import pysmpc as sy
from pysmpc.api import steps
from pysmpc.errors import IntegrityError, PartyError
from pysmpc.mpc.interfaces import Cost, End
from pysmpc.ring.shares import ShareStorage
from pysmpc.session.locks import SessionLock
from pysmpc.session.session import virtual_session
from pysmpc.session.stats import Stats


@pytest.mark.parametrize(
    ("holders", "provider", "message"),
    [
        ([], "p", "at least two"),
        (["a"], "p", "at least two"),
        (["a", "b", "a"], "p", "once"),
        (["a", "b"], "a", "crypto provider and holder"),
    ],
)
def test_names_are_checked(holders, provider, message):
    with pytest.raises(PartyError, match=message):
        virtual_session(holders, provider)


def test_repr_shows_names_only():
    session = virtual_session(["a", "b"], "p")
    assert repr(session) == f"Session(a, b; provider p; number {session.serial})"


def test_statistics_are_differences():
    a, b = Stats(5, 50, 500, 5000), Stats(1, 2, 3, 4)
    assert a - b == Stats(4, 48, 497, 4996)
    assert (a - b).cost == Cost(4, 48, 497, 4996)
    copy = b.copy()
    b.rounds += 1
    assert copy == Stats(1, 2, 3, 4)


def test_holders_keep_bodies_while_they_live(rng):
    session = virtual_session(["a", "b"])
    first, second = (ShareStorage(random_words(rng, 2, 5)) for _ in range(2))
    session.register(first)
    session.register(second)
    for row, name in enumerate("ab"):
        kept = list(session.live(name))
        assert [serial for serial, _, _ in kept] == [first.serial, second.serial]
        assert torch.equal(kept[0][2], first.words[row])
    del first, kept
    gc.collect()
    assert [body for _, body, _ in session.live("a")] == [second]


def test_an_observer_sees_every_message(rng):
    session = virtual_session(["a", "b", "c"])
    seen = []
    session.party.channel.observer = lambda cause, messages, opened: seen.append((cause, messages, opened))
    x = session.suite.share(session.party, random_words(rng, 4), (4,))
    session.suite.relu(session.party, x)
    session.suite.reveal(session.party, x)
    assert [cause for cause, _, _ in seen] == ["relu", "compare", "compare", "compare", "reveal"]
    for cause, [message], [opened] in seen:
        total = message[0] ^ message[1] ^ message[2] if cause == "compare" else message.sum(0)
        assert torch.equal(opened[0], total)
    assert sum(m.shape[1] for _, ms, _ in seen for m in ms) * 8 * 2 == session.stats.sent


def test_streams_are_never_given_twice():
    dealer = virtual_session(["a", "b"]).party.dealer
    given = [range(first, first + count) for count in (1, 16, 1, 3, 16) for first in [dealer.streams(count)]]
    flat = [s for each in given for s in each]
    assert len(set(flat)) == len(flat)


forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
quiet = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@forking
@quiet
@pytest.mark.parametrize("known_by", ["its number", "the fork alone"])
def test_a_forked_process_may_not_go_on(monkeypatch, known_by):
    """Both would hide different values under the same words; in a namespace of its own a child may have its
    parent's number."""
    session = virtual_session(["a", "b"])
    if known_by == "the fork alone":
        number = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: number)
    assert in_child(session.party.dealer.streams).startswith("PartyError: this session belongs to the process that")


@forking
@quiet
@pytest.mark.parametrize("way", ["opened", "shared", "dealt", "asked", "fresh shares"])
def test_nothing_of_a_session_is_used_in_a_forked_process(way):
    """Below the operations, too: whatever sends something, or takes words of a stream that the parent will take."""
    session = virtual_session(["a", "b"])
    suite, party = session.suite, session.party
    x = suite.share(party, torch.arange(4), (4,))
    ways = {
        "opened": lambda: suite.reveal(party, x),
        "shared": lambda: suite.share(party, torch.arange(4), (4,)),
        "dealt": lambda: party.dealer.corrections(1, lambda keys, out: out.zero_()),
        "asked": lambda: party.dealer.ask(x.words(), "convert", 1, lambda keys, asked, out: out.zero_()),
        "fresh shares": lambda: suite.refresh(party, x),
    }
    before = session.stats.copy()
    assert in_child(ways[way]).startswith("PartyError: this ")
    ways[way]()  # the parent goes on
    assert torch.equal(suite.reveal(party, x)[0], torch.arange(4))
    assert before != session.stats


@forking
@quiet
def test_operations_in_a_forked_process():
    parties = sy.virtual("alice", "bob")
    x = sy.encrypt(torch.ones(3), parties)
    for work in (lambda: x * x, lambda: x + 1, lambda: sy.decrypt(x), lambda: sy.encrypt(torch.ones(3), parties)):
        found = in_child(work)
        assert found.startswith("PartyError: this session belongs to the process that made it, and this one is a fork")
    assert torch.equal(sy.decrypt(x + x), 2 * torch.ones(3))


@forking
@quiet
def test_a_fork_while_another_thread_computes(monkeypatch):
    """The child is refused, and does not wait for a thread that it does not have."""
    parties = sy.virtual("alice", "bob")
    x = sy.encrypt(torch.ones(3), parties)
    inside, forked = threading.Event(), threading.Event()
    channel = parties.session.party.channel
    honest = channel.open_lanes

    def opening(*args, **kwargs):
        inside.set()
        assert forked.wait(30)
        return honest(*args, **kwargs)

    monkeypatch.setattr(channel, "open_lanes", opening)
    thread = threading.Thread(target=lambda: x * x)
    thread.start()
    assert inside.wait(30)
    found = in_child(lambda: x + x)
    forked.set()
    thread.join(30)
    assert found.startswith("PartyError")


@forking
@quiet
def test_a_forked_process_has_sessions_of_its_own():
    """Made anew, or by the names of holders that the parent has used, too."""
    x = torch.randn(5)

    def by_name():
        return steps.get(steps.share(torch.arange(5), ["alice", "bob"], "carol")).tolist()

    def anew():
        y = sy.encrypt(x, sy.virtual("alice", "bob"))
        return bool((sy.decrypt(y * y) - x * x).abs().max() < 2**-12)

    assert by_name() == list(range(5))
    assert in_child(by_name) == "[0, 1, 2, 3, 4]"
    assert in_child(anew) == "True"
    assert by_name() == list(range(5))


class Squares(torch.utils.data.Dataset):
    """Plain tensors, and a number that is public but of fixed precision."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        half = steps.fix_precision(torch.tensor([0.5]))
        return torch.full((3,), float(index)) ** 2, steps.float_precision(half * half)


@forking
@quiet
def test_forked_workers_of_a_data_loader():
    """They use plain tensors alone, and that they may, whatever their parent computes with."""
    parties = sy.virtual("alice", "bob")
    x = sy.encrypt(torch.ones(3), parties)
    loader = torch.utils.data.DataLoader(
        Squares(), batch_size=4, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    total = sy.encrypt(torch.zeros(3), parties)
    for batch, half in loader:
        assert torch.equal(half, torch.full((4, 1), 0.25))
        total = total + (sy.encrypt(batch, parties) * x).sum(0)
    assert torch.allclose(sy.decrypt(total), torch.full((3,), float(sum(i * i for i in range(12)))), atol=2**-8)


# --- threads ------------------------------------------------------------------------


def in_thread(work):
    """What work() raises in another thread, or gives."""
    found = []

    def run():
        try:
            found.append(work())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, name="second")
    thread.start()
    thread.join(30)
    return found[0]


def test_a_lock_for_one_thread():
    lock = SessionLock(End(), one_thread=True)

    def enter():
        with lock, lock:
            return lock.held

    assert in_thread(enter) is True  # the thread that made it need not be the one that uses it
    with pytest.raises(PartyError, match="belongs to the thread 'second', the first that computed with it, and this"):
        enter()
    assert not lock.held


def test_a_lock_is_free_after_an_error():
    end = End()
    lock = SessionLock(end)
    end.reason = "a check failed"
    for _ in range(2):
        with pytest.raises(IntegrityError, match="ended when a check failed; start a new one"), lock:
            pass
    end.reason = ""

    def enter():
        with lock:
            return lock.held

    assert in_thread(enter) is True
