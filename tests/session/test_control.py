"""A worker's end of the connection to its driver, used by several threads."""

import contextlib
import threading
import time

import msgspec
import pytest
import torch
from networks import plain_pair

from pysmpc.transport import control
from pysmpc.transport.control import Control
from pysmpc.transport.wire import WORDS, tensor_frames


class Note(msgspec.Struct, tag=True, array_like=True, forbid_unknown_fields=True):
    who: int
    number: int


class Pulse(msgspec.Struct, tag=True, array_like=True, forbid_unknown_fields=True):
    pass


@pytest.fixture
def ends(request, monkeypatch):
    """The driver's stream, and a control that is being served.  Its parameter: seconds between beats."""
    monkeypatch.setattr(control, "BEAT", getattr(request, "param", control.BEAT))
    near, far = plain_pair()
    there = Control(far, lambda kind, body: None, Pulse)
    thread = threading.Thread(target=_serve, args=(there,), daemon=True)
    thread.start()
    yield near, there, thread
    there.end()
    near.close()
    thread.join(5)
    assert not thread.is_alive()


def _serve(there):
    with contextlib.suppress(Exception):
        there.serve()


def notes(near, count):
    found = []
    while len(found) < count:
        if isinstance(message := near.receive(Note | Pulse, 5.0), Note):
            found.append(message)
    return found


def test_who_posts_writes(ends, monkeypatch):
    """The thread that serves is not woken for it."""
    near, there, _ = ends
    woken = []
    monkeypatch.setattr(there, "_signal", lambda: woken.append(1))
    found = []
    for number in range(50):
        there.post(Note(0, number))
        found += notes(near, 1)
    assert found == [Note(0, number) for number in range(50)]
    assert len(woken) < 10  # only where the other thread was just writing its beat


def test_messages_of_many_threads_stay_whole_and_in_order(ends):
    near, there, _ = ends

    def post(who):
        for number in range(300):
            there.post(Note(who, number))

    threads = [threading.Thread(target=post, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    found = notes(near, 1200)
    for thread in threads:
        thread.join()
    for who in range(4):
        assert [note.number for note in found if note.who == who] == list(range(300))


@pytest.mark.parametrize("ends", [60.0], indirect=True)
def test_who_posts_does_not_wait_for_a_driver_who_does_not_read(ends):
    near, there, _ = ends
    words = torch.randint(-(1 << 62), 1 << 62, (1 << 21,))
    for number in range(3):
        there.post(Note(0, number), *tensor_frames(words))  # 48 MB, of which the connection takes a few
    for number in range(3):
        assert notes(near, 1) == [Note(0, number)]
        body = bytearray()
        while len(body) < 8 * len(words):
            body += near.frame(WORDS, 5.0)
        assert torch.equal(torch.frombuffer(body, dtype=torch.int64), words)


def test_what_was_posted_last_is_sent_before_the_end(ends):
    near, there, thread = ends
    there.post(Note(1, 1), *tensor_frames(torch.zeros(1 << 20, dtype=torch.int64)))
    there.end()
    assert notes(near, 1) == [Note(1, 1)]
    assert near.frame(WORDS, 5.0).nbytes == 8 << 20
    thread.join(5)
    there.post(Note(1, 2))  # by a session that does not know yet: nobody reads it, and nothing is raised


def test_a_driver_who_is_gone_ends_the_serving_thread_and_no_other(ends):
    near, there, thread = ends
    near.close()
    for number in range(100):
        there.post(Note(0, number))
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("ends", [0.05], indirect=True)
def test_the_heart_beats_while_others_post(ends):
    near, there, _ = ends
    beats, until = 0, time.monotonic() + 5
    while beats < 3 and time.monotonic() < until:
        there.post(Note(0, 1))
        beats += isinstance(near.receive(Note | Pulse, 5.0), Pulse)
    assert beats == 3
