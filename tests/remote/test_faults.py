"""Parties that fail, freeze and vanish: the driver learns which one and why, the others stay ready."""

import contextlib
import logging
import os
import resource
import signal
import socket
import threading
import time
import zlib

import pytest
import torch
from children import in_child
from kills import ForkedWorkers
from networks import close_all, plain_pair
from remotes import Workers

import pysmpc as sy
from pysmpc.errors import ChannelError, CheckpointError, PysmpcError, RemoteError, WorkerLost
from pysmpc.remote.messages import Setup
from pysmpc.remote.program_messages import Batch, Call, Drop, Dtype, Plain, Ref, Seq
from pysmpc.remote.worker import intake, opened_values
from pysmpc.transport import establish, tls
from pysmpc.transport.tls import DRIVER
from pysmpc.transport.wire import HEADER, PACKED, VERSION, Cancelled, pack

X = torch.linspace(-1, 1, 64)


def busy(parties, seconds=60):
    """A program without end; returns what ended it, and how long after `since[0]`."""
    x = sy.encrypt(X, parties)
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            x = (x * x).relu()
            sy.decrypt(x.sum())
    except PysmpcError as error:
        return error, time.monotonic()
    raise AssertionError("nothing ended the program")


def sessions(workers):
    return {name: len(worker.attendances) for name, worker in workers.workers.items()}


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def processes():
    with ForkedWorkers(options={"": {"threads": 1}}) as found:
        yield found


@pytest.mark.parametrize("name", ["bob", pytest.param("crypto_provider", marks=pytest.mark.slow)])
def test_a_worker_killed_in_mid_step(processes, name):
    parties = processes.connect()
    killed = []
    timer = threading.Timer(0.5, lambda: (killed.append(time.monotonic()), processes.kill(name)))
    timer.start()
    error, when = busy(parties)
    assert isinstance(error, WorkerLost)
    assert str(error).startswith(f"{name}: ")
    assert when - killed[0] < 5
    with pytest.raises(WorkerLost):  # and so for everything of this session
        sy.encrypt(X, parties)
    processes.processes[name].wait(5)
    processes.start(name)
    processes.ready()
    with processes.connect() as again:
        assert torch.allclose(sy.decrypt(sy.encrypt(X, again) * 2), X * 2, atol=2**-10)


def test_a_frozen_worker(processes):
    parties = processes.connect()
    frozen = []
    threading.Timer(0.3, lambda: (frozen.append(time.monotonic()), processes.kill("bob", signal.SIGSTOP))).start()
    try:
        error, when = busy(parties)
    finally:
        processes.kill("bob", signal.SIGCONT)
    assert isinstance(error, WorkerLost)
    assert str(error).startswith("bob: no sign of life")
    assert when - frozen[0] < 5
    with processes.connect() as again:
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), again)), torch.ones(2))


@pytest.mark.slow
def test_a_worker_that_is_asked_to_stop(processes):
    with processes.connect() as parties:
        x = sy.encrypt(X, parties)
        processes.kill("alice", signal.SIGTERM)
        assert processes.processes["alice"].wait(10) == 0
        with pytest.raises(WorkerLost, match="alice"):
            sy.decrypt(x)
    processes.start("alice")
    processes.ready()


@pytest.mark.slow
def test_a_worker_that_is_frozen_before_the_session(processes):
    """It takes connections, as its system does that for it, and never says a word."""
    processes.kill("bob", signal.SIGSTOP)
    start = time.monotonic()
    try:
        with pytest.raises(ChannelError, match="bob"):
            processes.connect()
    finally:
        processes.kill("bob", signal.SIGCONT)
    assert time.monotonic() - start < 10
    with processes.connect() as again:
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), again)), torch.ones(2))


def test_a_driver_that_slept(workers):
    """What waits to be read is read before anybody is called silent."""
    with workers.connect(silence=1.5) as parties:
        asked = []
        parties.link._until(lambda: asked.append(time.sleep(0 if asked else 2.5)) or len(asked) > 3, None, "nothing")
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), parties)), torch.ones(2))


def limit(processes, name, size):
    resource.prlimit(processes.processes[name].pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_disk_that_is_full_while_saving(processes, tmp_path):
    """A real one would say the same: a file of bob's may have no more bytes."""
    model = torch.nn.Linear(200, 100)
    with processes.connect() as parties:
        net = sy.encrypt(model, parties)
        sy.save(net, None, tmp_path / "run1", epoch=1)
        net.weight.data = net.weight.detach() + 1
        before = sorted(processes.folder.glob("*.checkpoints/*/*/*"))
        limit(processes, "bob", 100_000)
        with pytest.raises(CheckpointError, match=r"bob: .*could not be written to bob:checkpoints/.*File too large"):
            sy.save(net, None, tmp_path / "run1", epoch=2)
        assert sorted(processes.folder.glob("*.checkpoints/*/*/*")) == before
        limit(processes, "bob", resource.RLIM_INFINITY)
        assert sy.load(net, None, tmp_path / "run1") == {"epoch": 1}
        assert torch.allclose(sy.decrypt(net.weight), model.weight.detach(), atol=2**-16)
        sy.save(net, None, tmp_path / "run1", epoch=3)


@pytest.mark.slow
def test_handshakes_that_never_end(processes):
    """Descriptors come back: of who says nothing, of who begins a handshake, and of who stops after it."""
    pid = processes.processes["alice"].pid
    with processes.connect() as parties:
        parties.wait()
    time.sleep(1)
    before = len(os.listdir(f"/proc/{pid}/fd"))
    quiet = [socket.create_connection(tls.address(processes.addresses["alice"])) for _ in range(30)]
    for number, sock in enumerate(quiet):
        sock.sendall(bytes([22, 3, 1, 2, 0, 1][: number % 7]))
    with processes.connect() as parties:
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), parties)), torch.ones(2))
    assert len(os.listdir(f"/proc/{pid}/fd")) >= before + 30
    until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before, tls.HANDSHAKE + 5)
    for sock in quiet:
        sock.close()


def test_waiting_on_a_connection_that_this_side_closed():
    near, _ = plain_pair()
    near.close()
    with pytest.raises(Cancelled):
        near.wait(time.monotonic() + 1)
    close_all()


def test_connections_of_a_session_that_is_over_are_closed():
    """Those that came before its end, and those that come later; others stay."""
    meeting = establish.Rendezvous()
    streams = [plain_pair() for _ in range(3)]
    meeting.park("bob", "peer", "one", streams[0][0])
    meeting.park("bob", "peer", "two", streams[1][0])
    meeting.forget("one")
    meeting.park("carol", "peer", "one", streams[2][0])
    assert [near.sock.fileno() < 0 for near, _ in streams] == [True, False, True]
    assert meeting.take("bob", "peer", "two", lambda: False) is streams[1][0]
    close_all()


def test_connections_that_their_peer_has_left_are_closed():
    meeting = establish.Rendezvous()
    streams = [plain_pair() for _ in range(2)]
    for number, (near, far) in enumerate(streams):
        far.send(establish.DealerKey(bytes(16)))
        meeting.park("bob", "peer", f"{number}", near)
    streams[0][1].close()
    until(lambda: meeting.sweep() or streams[0][0].sock.fileno() < 0)
    assert meeting.take("bob", "peer", "1", lambda: False) is streams[1][0]
    close_all()


def test_a_driver_that_vanishes_before_all_have_heard_of_it(workers, office):
    """What the provider opened for its session does not stay with those who never heard of that."""
    stream = tls.dial(office.tls("scientist"), "crypto_provider", workers.addresses["crypto_provider"], DRIVER)
    stream.send(Setup("early", ["alice", "bob"], "crypto_provider", bytes(16)))
    parked = [workers.workers[name].meeting._parked for name in ("alice", "bob")]
    until(lambda: all(len(each) == 2 for each in parked))
    stream.close()
    until(lambda: not any(parked))


def test_an_error_of_a_worker_reaches_the_driver_with_its_cause(workers):
    parties = workers.connect()
    x = sy.encrypt(X, parties)
    parties.wait()
    [attendance] = [a for a in workers.workers["bob"].attendances.values() if a.replay is not None]
    attendance.replay._cells[x.cell.slot]._body = None
    y = x * x  # the line that fails
    with pytest.raises(RemoteError, match=r"bob: .*AttributeError.*test_faults.py:\d+"):
        sy.decrypt(y)
    with pytest.raises(RemoteError, match="bob"):
        x + 1
    parties.close()
    until(lambda: not any(sessions(workers).values()))
    with workers.connect() as again:
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), again)), torch.ones(2))


def test_a_driver_that_vanishes(workers):
    parties = workers.connect()
    x = sy.encrypt(torch.ones(1000), parties)
    for _ in range(100):
        x = x * x
    parties.link._drop()  # without a word
    until(lambda: not any(sessions(workers).values()))
    with workers.connect() as again:
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), again)), torch.ones(2))


def test_two_drivers_at_a_time(workers):
    """Sessions have nothing in common."""
    results = {}

    def work(number):
        with workers.connect() as parties:
            x = sy.encrypt(torch.full((50,), float(number)), parties)
            for _ in range(20):
                x = x + 1
            results[number] = sy.decrypt(x * x)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for n in range(3):
        assert torch.allclose(results[n], torch.full((50,), (n + 20.0) ** 2), atol=2**-5)


def test_threads_of_one_driver(workers):
    """One trains, one shares and opens, one asks how the workers are: each as if it were alone."""
    with workers.connect() as parties:
        model = sy.encrypt(torch.nn.Linear(4, 2), parties)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.015625)
        step = sy.TrainStep(model, optimizer, lambda out, target: ((out - target) ** 2).sum())
        batches = [(torch.randn(3, 4), torch.randn(3, 2)) for _ in range(12)]
        plain = torch.nn.Linear(4, 2)
        plain.load_state_dict(sy.decrypt(model).state_dict())
        reference = torch.optim.SGD(plain.parameters(), lr=0.015625)
        over, errors = threading.Event(), []

        def guarded(work):
            def run():
                try:
                    while not over.is_set():
                        work()
                except Exception as error:
                    errors.append(error)

            return threading.Thread(target=run)

        def square():
            values = torch.randn(6)
            x = sy.encrypt(values, parties)
            assert float((sy.decrypt(x * x) - values * values).abs().max()) < 2**-10

        def ask():
            assert len(parties.status()) == 3
            parties.wait()

        threads = [guarded(square), guarded(ask)]
        for thread in threads:
            thread.start()
        try:
            for x, y in batches:
                loss = sy.decrypt(step(sy.encrypt(x, parties), sy.encrypt(y, parties)))
                reference.zero_grad()
                wanted = ((plain(x) - y) ** 2).sum()
                wanted.backward()
                reference.step()
                assert float((loss - wanted.detach()).abs()) < 0.02
        finally:
            over.set()
            for thread in threads:
                thread.join(30)
        assert step.repeats
        assert not errors


def test_closing_ends_what_another_thread_waits_for(office, monkeypatch):
    with Workers(office.folder) as workers:
        parties = workers.connect()
        x = sy.encrypt(torch.ones(3), parties)
        parties.wait()
        [attendance] = workers.workers["bob"].attendances.values()
        held, honest, found = threading.Event(), opened_values.shares, []

        def slow(replay, *args):
            if replay is attendance.replay:
                held.wait(30)
            return honest(replay, *args)

        monkeypatch.setattr(opened_values, "shares", slow)

        def work():
            try:
                found.append(sy.decrypt(x))
            except ChannelError as error:
                found.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.2)
        parties.close()
        thread.join(5)
        held.set()
        assert found == ["this connection was closed; connect again"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_says_nothing_to_the_workers(workers):
    """It is refused, and may close its copy of the connections without an end to its parent's session."""
    with workers.connect() as parties:
        x = sy.encrypt(torch.ones(3), parties)
        for work in (lambda: x * x, lambda: sy.decrypt(x), parties.wait, parties.status):
            assert in_child(work).startswith("PartyError: this session belongs to the process that made it")
        assert in_child(parties.close) == "None"
        assert torch.equal(sy.decrypt(x * x), torch.ones(3))


def test_a_driver_ahead_is_bounded(workers):
    """Never more than the window of operations, whatever the slowest worker does."""
    with workers.connect() as parties:
        x = sy.encrypt(torch.ones(200), parties)
        parties.wait()
        lead = 0
        for _ in range(350):
            x = x.relu()
            lead = max(lead, parties.link._next - 1 - min(w.acked for w in parties.link._workers))
        assert 16 <= lead <= 256 + 16
        assert torch.equal(sy.decrypt(x), torch.ones(200))


def test_a_message_too_large_for_every_buffer(workers):
    with workers.connect() as parties:
        values = torch.randint(-100, 100, (1 << 20,))
        x = sy.encrypt(values, parties)
        assert torch.equal(sy.decrypt(x * values), values * values)


def raw_driver(workers, office):
    return tls.dial(office.tls("scientist"), "alice", workers.addresses["alice"], DRIVER)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 64,
        HEADER.pack(VERSION, PACKED, 0, 5) + b"12345",
        HEADER.pack(VERSION, 1, 0, 1 << 30),
        HEADER.pack(VERSION, 2, 0, 8) + b"12345678",
        HEADER.pack(VERSION, 1, 0, 1) + b"\xc1",
    ],
)
def test_nonsense_ends_one_connection_and_nothing_else(workers, office, content):
    stream = raw_driver(workers, office)
    stream.queue(content)
    stream.flush()
    with pytest.raises(ChannelError):
        [stream.frame(1, 5.0) for _ in range(100)]
    stream.close()
    with workers.connect() as parties:
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), parties)), torch.ones(2))


REF = Ref(0, [4], [1], 0, "float32")
MALICIOUS = [
    Call("aten.os_system.default", [REF], {}, []),
    Call("aten.add.Tensor", [1.0, 2.0], {}, [5]),
    Call("aten.add.Tensor", [Ref(7, [4], [1], 0, "float32"), 1.0], {}, [5]),
    Call("aten.add.Tensor", [Ref(0, [4], [1], 1, "float32"), 1.0], {}, [5]),
    Call("aten.add.Tensor", [Ref(0, [4], [-1], 3, "float32"), 1.0], {}, [5]),
    Call("aten.add.Tensor", [Ref(0, [1 << 40], [1], 0, "float32"), 1.0], {}, [5]),
    Call("aten.add.Tensor", [REF, 1.0], {}, [0]),
    Call("aten.add.Tensor", [REF, 1.0], {}, [-1, 3]),
    Call("aten.add.Tensor", [Ref(0, [4], [1], 0, "object"), 1.0], {}, [5]),
    *(Call(f"aten.{name}.default", [REF], {}, [5]) for name in ("detach", "alias")),
    Call("aten.view.default", [REF, Seq([2, 2])], {}, [5]),
    Call("aten.add_.Tensor", [REF, 1.0], {}, [5]),
    Call("aten.zero_.default", [REF], {}, [5]),
    Drop([9]),
]


@pytest.mark.parametrize("operation", MALICIOUS, ids=lambda o: type(o).__name__)
def test_operations_that_no_driver_of_ours_sends(workers, operation):
    parties = workers.connect()
    x = sy.encrypt(torch.ones(4), parties)
    assert x.cell.slot == 0
    parties.link.send(operation, (), None)
    with pytest.raises(RemoteError):
        parties.wait()
    parties.close()
    with workers.connect() as again:
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), again)), torch.ones(2))


@pytest.mark.slow
def test_batches_with_bytes_changed(workers, rng):
    """Whatever a driver sends, a worker says what is wrong, or does it; and serves the next driver."""
    seed = [
        Call("aten.add.Tensor", [REF, 1.0], {"alpha": 2}, [1]),
        Call("aten.mul.Tensor", [REF, Plain("float32", [2], [2, 2], bytes(8))], {}, [2]),
        Call("aten.cat.default", [Seq([REF, REF]), 0], {}, [3]),
        Call("aten._to_copy.default", [REF], {"dtype": Dtype("float64")}, [4]),
        Drop([1]),
    ]
    for _ in range(150):
        parties = workers.connect()
        x = sy.encrypt(torch.ones(4), parties)
        parties.link.flush()
        body = bytearray(pack(Batch(1, seed)))
        for place in rng.integers(0, len(body), rng.integers(1, 4)):
            body[place] = rng.integers(0, 256)
        packed = parties.link._deflate.compress(bytes(body)) + parties.link._deflate.flush(zlib.Z_SYNC_FLUSH)
        for worker in parties.link._workers:
            worker.stream.queue(HEADER.pack(VERSION, PACKED, 0, len(packed)), packed)
        parties.link._next = parties.link._first = 1 + len(seed)
        with contextlib.suppress(ChannelError, RemoteError):
            parties.link._until(lambda all_=parties.link._workers: all(w.acked >= 5 for w in all_), 2, "them")
        parties.close()
        del x
    with workers.connect() as again:
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), again)), torch.ones(2))


def test_operations_out_of_order(workers, caplog):
    """A gap in their numbers ends the session, and the workers' logs say so."""
    caplog.set_level(logging.INFO, "pysmpc.worker")
    parties = workers.connect()
    parties.link._first = parties.link._next = 5
    sy.encrypt(torch.ones(4), parties)
    with pytest.raises(ChannelError):
        parties.wait()
    parties.close()
    until(lambda: any("sent operation 5 after" in getattr(record, "reason", "") for record in caplog.records))


def test_a_driver_that_does_not_wait(workers, monkeypatch):
    """A worker keeps no more operations than may wait."""
    monkeypatch.setattr(intake, "BACKLOG", 8)
    parties = workers.connect()
    x = sy.encrypt(torch.ones(4), parties)
    with contextlib.suppress(ChannelError):
        for _ in range(40):
            x = x + 1
    with pytest.raises(ChannelError):
        sy.decrypt(x)
    parties.close()


def test_a_compressed_bomb(workers):
    parties = workers.connect()
    body = parties.link._deflate.compress(b"\x00" * (1 << 25)) + parties.link._deflate.flush(2)
    for worker in parties.link._workers:
        worker.stream.queue(HEADER.pack(VERSION, PACKED, 0, len(body)), body)
    with pytest.raises(ChannelError):
        parties.link._until(lambda: False, 10, "nothing")
    parties.close()


def test_connections_that_say_nothing_do_not_stop_others(workers):
    quiet = [socket.create_connection(tls.address(workers.addresses["alice"])) for _ in range(30)]
    with workers.connect() as parties:
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), parties)), torch.ones(2))
    for sock in quiet:
        sock.close()
