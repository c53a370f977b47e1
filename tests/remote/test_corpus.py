"""Inputs that fuzzing kept (tests/remote/fuzz.py): each is read, or refused by name, in little memory."""

import importlib.util
import resource
import time
from pathlib import Path

import msgspec
import parsers
import pytest
import torch
from networks import kept
from remotes import Workers

import pysmpc as sy
from pysmpc.errors import ChannelError
from pysmpc.remote import messages, program_messages
from pysmpc.remote.program_messages import Batch, Call, Seq
from pysmpc.remote.worker import intake, policy
from pysmpc.transport import control, tls
from pysmpc.transport.wire import MESSAGE, framed, pack

CORPUS = Path(__file__).parent / "corpus"
SPARE = 1 << 30  # bytes of addresses beyond those in use


@pytest.fixture
def bounded():
    """Memory beyond SPARE is not to be had."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", parsers.TARGETS)
def test_what_fuzzing_kept(name, bounded, threads):
    threads(1)
    inputs = msgspec.msgpack.decode((CORPUS / f"{name}.msgpack").read_bytes(), type=list[bytes])
    assert len(inputs) > 10
    said = [parsers.run(name, each) for each in (*inputs, *parsers.seeds(name))]
    assert len(set(said)) > 3  # they do not all fail at the same point


def test_the_seeds_are_understood():
    """Fuzzing starts from operations that run, or it would never come beyond the first check."""
    replay = parsers.session()
    done = 0
    with torch._C._AutoDispatchBelowAutograd():
        for operation in parsers.OPERATIONS[:7]:
            replay.run(operation, iter(()))
            done += 1
    assert len(replay) == 3 + done
    for each in parsers.STEPS:
        replay = parsers.session()
        with torch._C._AutoDispatchBelowAutograd():
            for operation in each:
                replay.run(operation, iter(()))
        replay.close()
    assert not any(parsers.run("spoken", bytes([5]) + pack(each)) for each in parsers.UP)


def test_a_fault_would_be_seen(monkeypatch):
    def broken(data):
        raise IndexError

    monkeypatch.setitem(parsers.TARGETS, "frames", broken)
    with pytest.raises(IndexError):
        parsers.run("frames", b"x")


@pytest.mark.slow
def test_fuzzing_runs(tmp_path):
    """A second of it, where atheris is installed."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("needs atheris")
    spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).parent / "fuzz.py")
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    fuzz.CORPUS = tmp_path
    assert fuzz.fuzz("rounds", 1)
    assert fuzz.load("rounds")


# --- programs of a driver who lies ---------------------------------------------------


@pytest.fixture
def liars(monkeypatch):
    """The fuzzer of programs, which speaks as the attacks of tests/security/attacks do."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "security" / "attacks"))
    return importlib.import_module("liars")


@pytest.mark.slow
def test_programs_that_lie(liars):
    """Some shares are released and some refused, and none that the model forbids."""
    count, released, refused, wrong = liars.fuzz(20)
    assert not wrong
    assert count > 20
    assert released > 20
    assert refused > 20


@pytest.mark.slow
def test_a_share_that_must_not_be_released_would_be_seen(liars, monkeypatch):
    """Workers that ask nobody's rule are found out."""
    monkeypatch.setattr(policy.Openings, "open", lambda *facts, **more: None)
    assert liars.fuzz(60, most=60)[-1]


def test_the_model_of_owners(liars):
    """It knows a value under two names, and what a recorded step makes of other arguments."""
    model, own = liars.Model(), frozenset(["scientist"])
    for operation in (liars.Own(0), liars.Own(1), liars.load(2, "data", [4])):
        model.run(operation)
    model.run(liars.call("detach.default", liars.window(0), out=3))
    assert model.owners(3) == own
    model.run(liars.call("copy_.default", liars.window(0), liars.window(2)))
    assert model.owners(3) == own | {"alice"}
    for operation in (
        program_messages.Record(step=1, inputs=[liars.window(1)], slots=[4], states=[], check=-1),
        liars.call("mul.Tensor", liars.window(4), 2.0, out=5),
        program_messages.Recorded(results=[liars.window(5)], outs=[6], keep=True),
        program_messages.Repeat(step=1, inputs=[liars.window(2)], outs=[7]),
    ):
        model.run(operation)
    assert model.owners(6) == own
    assert model.owners(7) == {"alice"}
    names = ["alice", "bob", "crypto_provider"]
    program = [liars.Own(0), program_messages.Open(ref=liars.window(0), state=[], receiver="scientist")]
    told = dict.fromkeys(names, program)
    assert not liars.forbidden(told, "bob", 1, {"alice": False, "bob": True})
    told["alice"] = [liars.Own(1), program[1]]
    assert liars.forbidden(told, "bob", 1, {"alice": True, "bob": True}) == "alice had been told another program"


# --- memory that a peer could ask for -----------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "item", [None, Seq([]), program_messages.Plain("", [], [], b"")], ids=lambda x: type(x).__name__
)
def test_a_batch_of_nothing_takes_little_memory(item, bounded):
    """As many arguments as the limit of a batch lets through."""
    size = len(pack([item])) - 1
    count = (intake.UNPACKED - 100) // size
    body = pack(Batch(0, [Call("aten.cat.default", [item] * count, {}, [])]))
    assert len(body) <= intake.UNPACKED
    attending = parsers.Attending()
    try:
        packer = parsers.zlib.compressobj(1)
        attending._on_frame(parsers.PACKED, memoryview(packer.compress(body) + packer.flush(parsers.zlib.Z_SYNC_FLUSH)))
        assert len(attending.operations) == 1
    finally:
        attending.close()


@pytest.mark.parametrize(
    "message",
    [
        messages.Opened(0, 8),
        messages.Opened(10_000, 0),
        messages.Denied(10_000, "", ""),
        messages.Kept(10_000),
        messages.Found(1, []),
        messages.Report(9, {}),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_worker_that_answers_what_nobody_asked(office, message):
    """It cannot fill the driver's memory with answers."""
    with Workers(office.folder) as workers, workers.connect() as parties:
        x = sy.encrypt(torch.ones(2), parties)
        parties.wait()
        [there] = workers.workers["bob"].attendances.values()
        there._control.post(message)
        with pytest.raises(ChannelError, match=r"bob (answered what nobody|sent \d+ bytes that nobody) asked"):
            [sy.decrypt(x) for _ in range(100)]


def test_a_driver_that_asks_and_does_not_read(workers, office, monkeypatch):
    """Its questions wait with it."""
    monkeypatch.setattr(workers.workers["alice"], "report", lambda: {"text": "x" * 20_000})
    stream = kept(tls.dial(office.tls("scientist"), "alice", workers.addresses["alice"], tls.STATUS))
    stream.send(messages.Ask(0))
    assert stream.receive(messages.Up).number == 0
    [there] = workers.workers["alice"].attendances.values()
    questions = memoryview(b"".join(b"".join(framed(MESSAGE, pack(messages.Ask(n)))) for n in range(20_000)))
    most, heard, since = 0, 0, time.monotonic()
    until = since + 60.0
    # until it is full, and has read nothing for a second
    while there._stream.unsent < control.UNREAD or time.monotonic() < since + 1.0:
        assert time.monotonic() < until
        if not questions or not (count := stream.write(questions[:1000])):
            time.sleep(0.001)  # its thread is one of this process
        else:
            questions = questions[count:]
        most = max(most, there._stream.unsent + len(there._control._outbox))
        if there._stream.received > heard:
            heard, since = there._stream.received, time.monotonic()
    assert most <= control.UNREAD + 2
    stream.close()
    assert there.gone.wait(10)
