"""Frames and messages: what is taken, what is refused, and that nothing announced is believed."""

import contextlib
import os
import random
import subprocess
import sys
import threading
import time

import msgspec
import pytest
import torch
from children import in_child
from hypothesis import example, given
from hypothesis import strategies as st
from networks import connected, plain_pair, tcp_pair

from pysmpc.errors import ChannelError, PeerLost
from pysmpc.transport import wire
from pysmpc.transport.wire import HEADER, LIMITS, MESSAGE, RECORD, VERSION, WORDS, Gather, Stream, framed, tensor_frames


class Note(msgspec.Struct, tag=True, array_like=True, forbid_unknown_fields=True):
    text: str
    number: int = 0


class Other(msgspec.Struct, tag=True, array_like=True, forbid_unknown_fields=True):
    flag: bool


@pytest.fixture
def pair():
    near, far = plain_pair()
    yield near, far
    near.close()
    far.close()


def test_messages_arrive_as_they_were(pair):
    near, far = pair
    near.send(Note("hello", 3))
    near.send(Other(True))
    assert far.receive(Note | Other) == Note("hello", 3)
    assert far.receive(Note | Other) == Other(True)


def test_who_sends_a_byte_now_and_then_is_not_waited_for_without_end():
    near, far = plain_pair()
    with contextlib.closing(near), contextlib.closing(far):
        header, body = framed(WORDS, bytes(1000))
        over = threading.Event()

        def drip():
            for byte in [*header, *bytes(body)]:
                near.queue(bytes([byte]))
                near.flush()
                if over.wait(0.02):
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        start = time.monotonic()
        try:
            with pytest.raises(ChannelError, match=r"more slowly|no word"):
                far.frame(WORDS, 5.0, start + 0.3)
            assert time.monotonic() - start < 5
        finally:
            over.set()
            thread.join()


@given(st.binary(max_size=300))
@example(b"\x91\xac" + b"\x00" * 11 + b"\x80")  # a tag that is no text
def test_whatever_arrives_is_a_message_or_an_error(body):
    near, far = plain_pair()
    with contextlib.closing(near), contextlib.closing(far):
        near.queue(*framed(MESSAGE, body))
        near.flush()
        with contextlib.suppress(ChannelError):
            assert isinstance(far.receive(Note | Other, 1.0), Note | Other)


@given(st.binary(min_size=1, max_size=64))
def test_arbitrary_bytes_are_no_crash(content):
    near, far = plain_pair()
    with contextlib.closing(far):
        near.queue(content)
        near.flush()
        near.close()
        with pytest.raises(ChannelError):
            [far.frame(MESSAGE, 1.0) for _ in range(len(content))]


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (HEADER.pack(VERSION + 1, MESSAGE, 0, 3), "version"),
        (HEADER.pack(VERSION, 77, 0, 3), "no frame"),
        (HEADER.pack(VERSION, MESSAGE, 1, 3), "no frame"),
        (HEADER.pack(VERSION, MESSAGE, 0, LIMITS[MESSAGE] + 1), "at most"),
        (HEADER.pack(VERSION, WORDS, 0, 0xFFFFFFFF), "at most"),
    ],
)
def test_headers_are_checked(pair, header, says):
    near, far = pair
    near.queue(header)
    near.flush()
    with pytest.raises(ChannelError, match=says):
        far.pull()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_uses_no_connection_of_its_parent(office):
    """Two records of TLS under one key and number would show what they encrypt; closing its copy is no harm."""
    near, far = connected(office)
    with contextlib.closing(near), contextlib.closing(far):
        far.send(Note("for the parent"))
        for work in (lambda: near.send(Note("of a child")), lambda: near.receive(Note, 1.0)):
            assert in_child(work).startswith("PartyError: this connection belongs to the process that made it")
        assert in_child(near.close) == "None"
        near.send(Note("of the parent"))
        assert far.receive(Note, 5.0) == Note("of the parent")
        assert near.receive(Note, 5.0) == Note("for the parent")


THREADS = """
import sys, threading
from pysmpc.remote.messages import Down, Up
from pysmpc.remote.program_messages import Batch, Call, Ref
from pysmpc.transport.wire import pack, unpack
sys.setswitchinterval(1e-6)
body = pack(Batch(0, [Call("aten.add.Tensor", [Ref(0, [4], [1], 0, "float32"), 1.0], {}, [1])] * 20))
start = threading.Barrier(8)
def work():
    start.wait()
    for _ in range(50):
        unpack(body, Batch, "eve")
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
"""


def test_the_first_messages_of_several_connections_at_once():
    """msgspec learns of a type when it is first used; a thread that saw half of that crashed the process."""
    found = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, timeout=200)
    assert found.returncode == 0, found


def test_deep_nesting_is_an_error_and_no_crash(pair):
    near, far = pair
    near.queue(*framed(MESSAGE, b"\x91" * 100_000))
    near.flush()
    with pytest.raises(ChannelError, match="no sense"):
        far.receive(Note)


def test_a_message_too_long_is_not_sent(pair):
    with pytest.raises(ChannelError, match="too long"):
        pair[0].send(Note("x" * (LIMITS[MESSAGE] + 1)))


def test_the_wrong_kind_of_frame(pair):
    near, far = pair
    near.queue(*framed(WORDS, b"12345678"))
    near.flush()
    with pytest.raises(ChannelError, match="kind"):
        far.receive(Note)


def test_silence_is_an_error(pair):
    with pytest.raises(ChannelError, match="no word from"):
        pair[1].receive(Note, 0.05)


def test_the_end_in_mid_frame(pair):
    near, far = pair
    near.queue(HEADER.pack(VERSION, MESSAGE, 0, 100), b"half")
    near.flush()
    near.close()
    with pytest.raises(PeerLost, match="near"):
        far.receive(Note)


def test_a_vanished_peer_is_no_clean_end(office):
    near, far = connected(office)
    near.sock.unwrap = None
    near.close()  # without a close_notify
    with pytest.raises(PeerLost, match="alice"):
        far.receive(Note)


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (1 << 20,), ((1 << 21) + 3,)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_tensors_arrive_as_they_were(shape, dtype):
    ends = tcp_pair(1 << 16)
    near, far = Stream(ends[0], "far"), Stream(ends[1], "near")
    sent = torch.randint(0, 2, shape).to(dtype) if dtype == torch.bool else torch.randint(-9, 9, shape).to(dtype)
    near.queue(*tensor_frames(sent))
    gather = Gather(sent.numel() * sent.element_size(), "near")
    while gather.left:
        near.push()
        found = far.pull()
        if found:
            gather.add(found[1])
    assert torch.equal(gather.tensor(dtype).reshape(shape), sent)
    near.close()
    far.close()


@pytest.mark.parametrize("secure", [True, False])
def test_frames_that_are_read_ahead_are_all_there(office, secure):
    """Whoever polls in between misses none, wherever records of TLS begin and end."""
    near, far = connected(office) if secure else plain_pair()
    sizes = [
        0,
        1,
        8,
        100,
        RECORD - 9,
        RECORD - 8,
        RECORD,
        RECORD + 1,
        2 * RECORD - 8,
        2 * RECORD,
        2 * RECORD + 1,
        70_000,
    ]
    sent = [os.urandom(random.choice(sizes)) for _ in range(100)] + [os.urandom(70_000), b"in the last record"]

    def send():
        for at in range(0, len(sent), 5):
            together = [part for body in sent[at : at + 5] for part in framed(WORDS, body)]
            near.queue(*together) if at % 2 else near.queue(b"".join(together))
            near.flush()

    far.only_frames()
    thread = threading.Thread(target=send)
    thread.start()
    with contextlib.closing(near), contextlib.closing(far):
        assert [bytes(far.frame(WORDS, 5.0)) for _ in sent] == sent
        thread.join()
        assert far.received == near.sent
        assert far.pull() is None


def test_more_of_a_tensor_than_announced():
    gather = Gather(8, "eve")
    with pytest.raises(ChannelError, match="eve"):
        gather.add(memoryview(b"123456789"))
    with pytest.raises(ChannelError, match="at most"):
        Gather(wire.TENSOR + 1, "eve")
    with pytest.raises(ChannelError, match="at most"):
        Gather(-1, "eve")


def test_no_module_of_the_network_can_unpickle():
    """Neither pickle nor anything that uses it is in reach of what arrives."""
    import ast
    from pathlib import Path

    import pysmpc

    root = Path(pysmpc.__file__).parent
    for path in [*(root / "runtime").glob("*.py"), *(root / "remote").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert not {"pickle", "marshal", "shelve", "dill"} & set(names), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save")}, path
