"""Whatever parses bytes of a peer, as functions of bytes: each returns, or raises an error that ends a connection.

tests/remote/fuzz.py looks for bytes with which one does something else;
tests/remote/test_corpus.py runs what it found interesting.
"""

import contextlib
import functools
import math
import queue
import zlib

import torch

from pysmpc.errors import ChannelError, ConfigurationError, PysmpcError
from pysmpc.remote import arguments, messages, program_messages
from pysmpc.remote.config import WorkerConfig
from pysmpc.remote.driver.answers import Answers, RemoteWorker
from pysmpc.remote.messages import Down, Setup, Up
from pysmpc.remote.program_messages import Batch, Call, Drop, Dtype, Input, Load, Open, Plain, Ref, Seq
from pysmpc.remote.worker import opened_values
from pysmpc.remote.worker.driver_connection import DriverConnection
from pysmpc.remote.worker.replay import NOBODY, Replay
from pysmpc.ring import recording
from pysmpc.ring.fixedpoint import Precision
from pysmpc.session.session import virtual_session
from pysmpc.session.transcript import untold
from pysmpc.tensor.secret import SecretTensor
from pysmpc.transport import corrections, establish, links, tls, wire
from pysmpc.transport.wire import HEADER, MESSAGE, PACKED, VERSION, WORDS, pack

SPOKEN = (tls.Hello, tls.Welcome | tls.Refused, establish.PairKeys, establish.DealerKey, Down, Up, Batch)


class Line:
    """A socket on which these bytes arrive, and then the end."""

    def __init__(self, content):
        self._content = memoryview(content)

    def setblocking(self, flag):
        pass

    def setsockopt(self, *options):
        pass

    def close(self):
        pass

    def recv_into(self, view):
        n = min(len(view), len(self._content), 1000)
        view[:n] = self._content[:n]
        self._content = self._content[n:]
        return n

    def send(self, data):
        return len(data)


def stream(content):
    return wire.Stream(Line(content), "eve")


def frames(data):
    """Frames of a connection, and each message as every type that is ever awaited."""
    coming = stream(data)
    while True:
        kind, body = coming.pull()
        if kind == MESSAGE:
            for each in SPOKEN:
                with contextlib.suppress(ChannelError):
                    wire.unpack(body, each, "eve")


def spoken(data):
    """A message of one type."""
    wire.unpack(data[1:], SPOKEN[data[0] % len(SPOKEN)], "eve")


def rounds(data):
    """A round with a peer, corrections, and a question to the provider."""
    words = data[0] % 32
    view = wire.raw(torch.empty(words, dtype=torch.int64))
    header = links.HEADER.pack(VERSION, 1, 0, 7, words, untold.digest)
    with contextlib.suppress(ChannelError):
        exchange = links._Exchange(stream(data[1:]), [memoryview(bytes(20))], view, header)
        while not exchange.done:
            exchange.step()
        assert bytes(exchange._head) == header
    feed = corrections.ReceivedCorrections.__new__(corrections.ReceivedCorrections)
    feed._stream, feed._told = stream(data[1:]), queue.SimpleQueue()
    with contextlib.suppress(ChannelError):
        while True:
            feed._next()
    corrections.ProviderQueries([stream(data[1:]), stream(data[1:])]).questions("compare", words)


# --- a worker, to which a driver speaks ---------------------------------------------


class Office:
    """What a worker has."""

    config = WorkerConfig(name="bob", listen="127.0.0.1:0", peers={"alice": "127.0.0.1:1"})
    meeting = tls = openings = None

    class data:
        search = staticmethod(lambda tags: [])

    class shelf:
        tidy = staticmethod(lambda driver, run, keep, drop: None)
        known = staticmethod(lambda driver, run: [])

    @staticmethod
    def report():
        return {}


class Attending(DriverConnection):
    """One that runs nothing: `operations` are those that would run, with their buffers."""

    def __init__(self):
        super().__init__(Office, stream(b""), may_compute=True)
        self._prepare(Setup("s", ["alice", "bob"], "crypto_provider", bytes(16)))

    @property
    def operations(self):
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._queue.get_nowait())
        return found

    def close(self):
        self._cancel.close()
        self._control.end()
        self._control._stream.close()
        with contextlib.suppress(OSError, ChannelError):
            self._control.serve()


def received(data):
    """(kind, body) of frames: a byte for the kind, two for the length; batches of operations are compressed here."""
    packer, place = zlib.compressobj(1), 0
    while place + 3 <= len(data):
        kind, length = data[place] % 5, int.from_bytes(data[place + 1 : place + 3], "little")
        body, place = data[place + 3 : place + 3 + length], place + 3 + length
        if kind == 4:
            yield PACKED, memoryview(body)  # as it came
        elif kind == PACKED:
            yield PACKED, memoryview(packer.compress(body) + packer.flush(zlib.Z_SYNC_FLUSH))
        else:
            yield kind, memoryview(bytearray(body))


def sent(*frames):
    """The inverse of `received`."""
    return b"".join(bytes([kind]) + len(body).to_bytes(2, "little") + body for kind, body in frames)


def attended(data):
    """Frames of a driver at a worker; then the arguments of what would run."""
    attending, cell = Attending(), kept().cell
    try:
        for frame in received(data):
            attending._on_frame(*frame)
    finally:
        try:
            for _, operation, buffers, *_ in attending.operations:
                given = iter(buffers)
                if isinstance(operation, Call):
                    with contextlib.suppress(PysmpcError, RuntimeError, TypeError, StopIteration):
                        [arguments.decode(x, cell, given) for x in (*operation.args, *operation.kwargs.values())]
        finally:
            attending.close()


@functools.cache
def kept():
    """A session for arguments, which change nothing."""
    return session()


def session():
    """Values of a session, in slots 0 to 2."""
    found = virtual_session(["alice", "bob"])
    owners = {"scientist": found.party.owner, "bob": found.party.owner}
    notaries = dict.fromkeys(owners, found.party.notary)
    values = lambda load: (torch.zeros(load.shape, dtype=torch.int64), NOBODY)  # noqa: E731
    replay = Replay(found, "scientist", owners, notaries, values)
    for slot, shape in enumerate(([4], [2, 3], [])):
        words = torch.arange(torch.Size(shape).numel()).reshape(shape)
        share = found.suite.share(found.party, words, tuple(shape), 1 << 16)
        replay.keep(slot, SecretTensor.of(share, found, Precision(2, 16), torch.float32).cell, NOBODY)
    return replay


LENGTH = 12  # operations of a batch: a step is recorded, recorded again and repeated


def replayed(data):
    """A batch of operations, run.  A worker tells its driver of any Exception and drops the session."""
    batch = wire.unpack(data, Batch, "eve")
    replay = session()
    try:
        _replayed(batch, replay)
    finally:
        replay.close()
    assert recording.active() is None


def _replayed(batch, replay):
    with torch._C._AutoDispatchBelowAutograd():
        for operation in batch.operations[:LENGTH]:
            plains = list(_plains(operation))
            if sum(abs(math.prod(each.size)) for each in plains) > 1 << 20:
                return  # a driver who may compute may fill memory with its own data; that is no news
            try:
                if isinstance(operation, Open):
                    opened_values.shares(replay, operation, lambda: True)
                else:
                    replay.run(operation, iter(()))
            except Exception:
                return


def _plains(operation):
    stack = []
    if isinstance(operation, Call):
        stack = [operation.args, list(operation.kwargs.values())]
    elif isinstance(operation, program_messages.Record | program_messages.Repeat):
        stack = [operation.inputs]
    elif isinstance(operation, program_messages.Recorded):
        stack = list(operation.results or ())
    elif isinstance(operation, program_messages.Refresh | Open):
        stack = [operation.ref]
    while stack:
        each = stack.pop()
        if isinstance(each, list):
            stack.extend(each)
        elif isinstance(each, Seq):
            stack.extend(each.items)
        elif isinstance(each, program_messages.Fixed):
            yield each.words
        elif isinstance(each, Plain | Ref):
            yield each


# --- a driver, to which workers speak -----------------------------------------------


def answered(data):
    """Frames of a worker at a driver that opens two values and asks one question."""
    answers = Answers()
    answers.due = {(0, "alice"): (torch.int64, 8), (1, "alice"): (torch.float32, 8), (2, "alice"): (torch.int64, 0)}
    answers.asked = {(1, "alice"): messages.Found, (2, "alice"): messages.Report, (3, "alice"): messages.Shelved}
    worker = RemoteWorker("alice", stream(b""))
    for kind, body in received(data):
        answers.on_frame(worker, kind, body)
    held = sum(each.numel() * each.element_size() for each in answers.opened.values() if isinstance(each, torch.Tensor))
    assert held <= 16
    assert len(answers.opened) + len(answers.answered) <= 6


TARGETS = {each.__name__: each for each in (frames, spoken, rounds, attended, replayed, answered)}
PERMITTED = (ChannelError, ConfigurationError)


def run(name, data):
    """One input; what was wrong with it.  What is neither a result nor an error of the connection comes out."""
    try:
        if data:
            TARGETS[name](data)
    except PERMITTED as error:
        return str(error)
    return ""


# --- where to start ----------------------------------------------------------------

REF = Ref(0, [4], [1], 0, "float32")
OPERATIONS = [
    Call("aten.add.Tensor", [REF, 1.0], {"alpha": 2}, [3]),
    Call("aten.mul.Tensor", [REF, Plain("float32", [1], [4], bytes(4))], {}, [4]),
    Call("aten.mm.default", [Ref(1, [2, 3], [3, 1], 0, "float32"), Ref(1, [3, 2], [1, 3], 0, "float32")], {}, [5]),
    Call("aten.cat.default", [Seq([REF, REF]), 0], {}, [6]),
    Call("aten._to_copy.default", [REF], {"dtype": Dtype("float64")}, [7]),
    Call("aten.relu.default", [REF], {}, [8]),
    Call(
        "aten.add.Tensor",
        [REF, program_messages.Fixed(Plain("int64", [4], [4], bytes(32)), 16, 2, 16, "float32")],
        {},
        [9],
    ),
    Call("aten.add.Tensor", [REF, Plain("float32", [4], [4], None, arguments.digest_of(torch.zeros(4)))], {}, [10]),
    Load("default", 11, [4], 16, 2, 16, "float32", "bob", "x", [["rows", Plain("int64", [1], [1], bytes(8))]]),
    Input("default", 12, [4], 16, 2, 16, "float32"),
    program_messages.Fetch("bob", "x", [["cut", 0, None, None]], [4], "float32"),
    program_messages.Flush("default"),
    program_messages.Refresh(REF),
    program_messages.Keep("run", "1", "d", {"w": REF}),
    program_messages.Recall("run", "1", "d"),
    program_messages.Restore("default", {"w": program_messages.Slot(20, [4], 16, 2, 16, "float32")}),
    Open(REF, [0, 0, 0, 0], "scientist"),
    Drop([1, 2]),
    program_messages.Record(1, [REF], [30], [1], -1),
    program_messages.Recorded([REF], [31], True),
    program_messages.Repeat(1, [REF], [32], [0.5]),
    program_messages.Forget([1]),
]


def _step(step, first, check=-1, keep=True, states=(1,), result=1):
    """A recorded step: its argument is in `first`, what comes of it goes to first + `result` and is copied beyond."""
    there = [Ref(first + n, [4], [1], 0, "float32") for n in range(3)]
    matrix = Ref(1, [2, 3], [3, 1], 0, "float32")
    return [
        program_messages.Record(step, [REF], [first], list(states), check),
        Call("aten.mul.Tensor", [there[0], there[0]], {}, [first + 1]),
        Call("aten.add_.Tensor", [matrix, matrix], {}, [-1]),
        program_messages.Recorded([there[result]], [first + 3], keep),
    ]


_OPEN = Call("aten.mul.Tensor", [REF, REF], {}, [20])  # what was opened is another argument than what was not
_ALL = [program_messages.Repeat(1, [REF], [50]), program_messages.Repeat(1, [REF], [51]), program_messages.Forget([1])]
STEPS = [
    [_OPEN, *_step(1, 30), *_ALL],
    [_OPEN, *_step(1, 30), *_step(2, 40, check=1), *_ALL],
    [_OPEN, *_step(1, 30, result=0), *_ALL],
    [*_step(1, 30, states=[0, 1]), *_ALL],
    [*_step(1, 30)[:2], program_messages.Recorded(None, [], False), *_step(1, 40)],
    [
        program_messages.Record(3, [REF], [30], [0, 2], -1),
        Call("aten.copy_.default", [REF, Ref(30, [4], [1], 0, "float32")], {}, [-1]),
        program_messages.Recorded([REF], [33], True),
        *(program_messages.Repeat(3, [REF], [slot]) for slot in (50, 51)),
        Drop([30]),
        Call("aten.add_.Tensor", [REF, REF], {}, [-1]),
        program_messages.Repeat(3, [REF], [52]),
    ],
]
DOWN = [
    Setup("s", ["alice", "bob"], "crypto_provider", bytes(16)),
    messages.Search(1, ["#a"]),
    messages.Ask(2),
    messages.Bye(),
    messages.Shelve(3, "run", "", ""),
]
UP = [
    messages.Ready(), messages.Ack(3), messages.Beat(4), messages.Opened(0, 8),
    messages.Denied(1, "OpenNotPermittedError", "no"),
    messages.Failed(1, "ChannelError", "why"), messages.Found(1, [messages.DataInfo("x", [4], "float32", ["#a"], "")]),
    messages.Report(2, {"name": "alice", "sessions": []}),
    messages.Shelved(3, ["a"]), messages.Kept(2), messages.Opened(1, 8),
]  # fmt: skip
KEYS = [
    tls.Hello(VERSION, "peer", "s"),
    tls.Welcome(),
    tls.Refused("no"),
    establish.PairKeys(bytes(16), b""),
    establish.DealerKey(bytes(16)),
]


def seeds(name):
    """Inputs that are right, or nearly."""
    everything = [*KEYS, *DOWN, *UP, Batch(0, OPERATIONS), *(Batch(0, [each]) for each in OPERATIONS)]
    batches = [Batch(0, [each]) for each in OPERATIONS]
    tensor = (WORDS, bytes(16))
    if name == "frames":
        bodies = [pack(each) for each in everything]
        return [HEADER.pack(VERSION, MESSAGE, 0, len(body)) + body for body in bodies] + [
            HEADER.pack(VERSION, WORDS, 0, 8) + bytes(8)
        ]
    if name == "spoken":
        return [bytes([number]) + pack(each) for each in everything for number in range(len(SPOKEN))]
    if name == "rounds":
        return [
            bytes([2]) + links.HEADER.pack(VERSION, 1, 0, 7, 2, untold.digest) + bytes(16),
            bytes([2])
            + corrections.COUNT.pack(2, untold.digest)
            + bytes(16)
            + corrections.COUNT.pack(1, untold.digest)
            + bytes(8),
            bytes([2]) + corrections.QUESTION.pack(1, 2, untold.digest) + bytes(16),
        ]
    if name == "attended":
        return [
            *(sent((MESSAGE, pack(each))) for each in DOWN),
            *(sent((PACKED, pack(each)), tensor, tensor, (PACKED, pack(Batch(1, [Drop([0])])))) for each in batches),
        ]
    if name == "replayed":
        return [pack(each) for each in batches] + [
            pack(Batch(0, each)) for each in (OPERATIONS[:4], OPERATIONS[4:8], *STEPS)
        ]
    return [sent((MESSAGE, pack(each)), (WORDS, bytes(8)), (WORDS, bytes(4)), (WORDS, bytes(4))) for each in UP]
