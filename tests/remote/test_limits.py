"""Limits of an owner's file: what goes beyond one is refused by its name, and nobody else is troubled."""

import json
import threading
import time

import numpy as np
import pytest
import torch
from remotes import Workers
from torch import nn

import pysmpc as sy
from pysmpc.errors import CheckpointError, ConfigurationError, OpenNotPermittedError, RefusedError, RemoteError
from pysmpc.remote.arguments import reference
from pysmpc.remote.config import WorkerConfig, parse
from pysmpc.remote.driver.driver import ask
from pysmpc.remote.limits import RECORDINGS, Limits, Sessions
from pysmpc.remote.program_messages import Call, Dtype, Option, Plain, Record, Recorded, Ref, Refresh, Repeat, Seq
from pysmpc.remote.units import Duration, Size
from pysmpc.remote.worker import budget
from pysmpc.remote.worker.approvals import LOG
from pysmpc.remote.worker.budget import Budget
from pysmpc.remote.worker.held import Held

ROWS = np.random.default_rng().random((100, 2), dtype=np.float32)


def limited(office, folder, name="alice", **limits):
    """Workers of whom one has limits."""
    np.save(folder / "x.npy", ROWS)
    options = {each: {"state": str(folder / f"{each}.state")} for each in ("alice", "bob")}
    options["alice"]["data"] = {"x": {"path": str(folder / "x.npy"), "tags": ["#x"]}}
    options["alice"]["checkpoints"] = str(folder / "alice")
    options["bob"]["checkpoints"] = str(folder / "bob")
    options.setdefault(name, {})["limits"] = limits
    return Workers(office.folder, options=options)


def rows(parties):
    [pointer] = parties["alice"].search("#x")
    return sy.encrypt(pointer, parties)


def window(*size):
    """A value of one element, repeated."""
    return Ref(0, list(size), [0] * len(size), 0, "float32")


def works(parties):
    value = torch.randn(3)
    assert torch.allclose(sy.decrypt(sy.encrypt(value, parties)), value, atol=2**-15)


TOO_MUCH = {
    "input": lambda parties, x: sy.encrypt(torch.zeros(10_000), parties),
    "results": lambda parties, x: [x + i for i in range(10)],
    "outer": lambda parties, x: x.reshape(-1, 1) @ x.reshape(1, -1),
    "expanded": lambda parties, x: parties.link.send(Refresh(Ref(x.cell.slot, [10**9], [0], 0, "float32")), (), None),
    "repeat": lambda parties, x: x.repeat(100),
}


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("input", "96 KB of shares"),
        ("results", "of shares at once"),
        ("outer", "32.02 MB of shares"),
        ("expanded", "of shares at once"),
        ("repeat", "of shares at once"),
    ],
)
def test_memory(office, tmp_path, what, says):
    with limited(office, tmp_path, memory="50KB") as workers, workers.connect() as other:
        with workers.connect() as parties:
            x = sy.encrypt(torch.zeros(2000), parties)
            with pytest.raises(RemoteError, match=r"limits\.memory in its file") as error:
                _ = TOO_MUCH[what](parties, x), parties.wait()
        assert says in str(error.value)
        assert "too many for a session: alice allows 50 KB" in str(error.value)
        works(other)


@pytest.mark.parametrize(
    "call",
    [
        Call("aten.mm.default", [window(10**6, 1), window(1, 10**6)], {}, [1]),
        Call("aten.new_zeros.default", [window(1), Seq([10**6, 10**6])], {"device": Option("cpu")}, [1]),
        Call("aten.full_like.default", [window(10**6, 10**6), 1.0], {"dtype": Dtype("float64")}, [1]),
        Call("aten.constant_pad_nd.default", [window(0), Seq([0, 10**12])], {}, [1]),
        Call("aten.add.Tensor", [window(1), Plain("float32", [1], [10**12], bytes(4))], {}, [1]),
        Call("aten.sum.default", [window(10**12)], {}, [1]),
        Call("aten.stack.default", [Seq([window(10**9)] * 100)], {}, [1]),
    ],
)
def test_memory_is_not_taken_to_be_measured(call):
    """Terabytes: the shapes tell before anything is allocated."""
    with pytest.raises(RemoteError, match=r"limits\.memory"):
        Held("alice", Limits()).before(call)


def test_what_is_small_is_not_refused():
    held = Held("alice", Limits(memory=Size(1000)))
    wide = [window(100, 1), window(1, 100)]
    for _ in range(2):  # the second time from memory
        held.before(Call("aten.mm.default", wide[::-1], {}, [1]))
        with pytest.raises(RemoteError):
            held.before(Call("aten.mm.default", wide, {}, [1]))
    held.before(Call("aten.nonsense.default", wide, {}, [1]))  # refused elsewhere, by its name


class ShareStorage:
    rows = 1

    def __init__(self, n):
        self.n = n


class TensorStorage:
    def __init__(self, n):
        self._body = ShareStorage(n)


def test_every_copy_that_a_step_makes_is_counted():
    """However often it names one value."""
    held = Held("alice", Limits(memory=Size(800)))
    for step in (Record(1, [window(40)] * 3, [1, 2, 3], [], -1), Recorded([window(40)] * 3, [1, 2, 3], True)):
        with pytest.raises(RemoteError, match=r"limits\.memory"):
            held.before(step)
    held = Held("alice", Limits(memory=Size(800)))
    held.before(Record(1, [window(20)], [1], [], -1))
    held.before(Recorded([window(20)] * 3, [2, 3, 4], True))
    held.add(5, TensorStorage(50))
    with pytest.raises(RemoteError, match=r"limits\.memory"):
        held.before(Repeat(1, [window(20)], [6, 7, 8]))


def test_a_recorded_step_is_charged_for_what_it_keeps():
    held = Held("alice", Limits(memory=Size(800)))
    held.before(Record(1, [], [], [], -1))
    for turn in range(2):
        held.add(1, TensorStorage(40))
        held.drop(1)  # which the recording keeps all the same
        assert held.bytes == 0
        assert turn < 2
    with pytest.raises(RemoteError, match=r"limits\.memory"):
        held.add(2, TensorStorage(40))
    held.drop(2)
    held.before(Recorded(None, [], True))
    held.add(3, TensorStorage(60))  # beside the 40 of the recorded step
    with pytest.raises(RemoteError):
        held.add(4, TensorStorage(1))


def test_slots(office, tmp_path):
    with limited(office, tmp_path, slots=5) as workers:
        with workers.connect() as parties:
            for _ in range(20):  # not at once
                x = sy.encrypt(torch.randn(2), parties)
            parties.wait()
            del x
            with pytest.raises(
                RemoteError, match=r"6 values at once are too many .*: alice allows 5 \(limits.slots in its file\)"
            ):
                _ = [sy.encrypt(torch.randn(2), parties) for _ in range(6)], parties.wait()
        with workers.connect() as parties:
            works(parties)


def test_recorded_steps(office, tmp_path):
    with limited(office, tmp_path, steps=1) as workers, workers.connect() as parties:
        model = sy.encrypt(nn.Linear(2, 1), parties)
        step = sy.TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.functional.mse_loss)
        x, y = sy.encrypt(torch.randn(6, 2), parties), sy.encrypt(torch.randn(6, 1), parties)
        for _ in range(6):
            step(x, y)
        parties.wait()
        assert step.repeats
        _ = [step(x[:3], y[:3]) for _ in range(6)], parties.wait()
        assert "as many recorded steps" in step.reason
        parties.recorder.steps.most = 2  # a driver that asks for more all the same
        with pytest.raises(RemoteError, match=r"2 recorded steps .* alice allows 1 \(limits.steps in its file\)"):
            _ = [step(x[:3], y[:3]) for _ in range(3)], parties.wait()


def test_the_limit_that_drivers_know():
    assert Limits().steps == RECORDINGS


def test_disk(office, tmp_path):
    with limited(office, tmp_path, disk="40KB") as workers, workers.connect() as parties:
        model, large = (sy.encrypt(nn.Linear(n, n), parties) for n in (20, 70))
        sy.save(model, None, tmp_path / "run")
        with pytest.raises(CheckpointError, match=r"alice keeps 40 KB of scientist's checkpoints \(limits.disk"):
            sy.save(large, None, tmp_path / "more")
        works(parties)
        sy.save(model, None, tmp_path / "run")  # the one before goes


def beat(parties, until):
    while time.monotonic() < until:
        time.sleep(0.1)
        works(parties)


def test_time(office, tmp_path):
    with limited(office, tmp_path, time="3s") as workers:
        with workers.connect() as parties:
            until = time.monotonic() + 10
            with pytest.raises(RemoteError, match=r"alice lets a session last 3s \(limits.time in its file\)"):
                beat(parties, until)
            worker = workers.workers["alice"]
            while worker.report()["sessions"] and time.monotonic() < until:
                time.sleep(0.05)
            assert worker.report()["sessions"] == []
        with workers.connect() as parties:
            works(parties)


@pytest.mark.parametrize("field", ["sessions", "all_sessions"])
def test_sessions(office, tmp_path, field):
    with limited(office, tmp_path, "bob", **{field: 2}) as workers:
        first, second = workers.connect(), workers.connect()
        with pytest.raises(RefusedError, match=rf"2 sessions.* as many as limits.{field} in its file"):
            workers.connect()
        works(first)
        ask(office.tls("scientist"), "bob", workers.addresses["bob"])  # the status is another thing
        first.close()
        until = time.monotonic() + 10
        while workers.workers["bob"].attendances and len(workers.workers["bob"].attendances) > 1:
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(0.1)
        with workers.connect() as third:
            works(third)
            works(second)
        second.close()


def test_many_come_at_once():
    sessions, limits = Sessions("alice"), Limits(sessions=7, all_sessions=0)
    found, start = [], threading.Barrier(20)

    def come():
        start.wait()
        found.append(sessions.enter("scientist", True, limits))

    threads = [threading.Thread(target=come) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(None) == 7
    sessions.leave("scientist", True)
    assert sessions.enter("scientist", True, limits) is None
    assert sessions.enter("other", True, limits) is None
    assert sum(sessions.enter("scientist", False, limits) is None for _ in range(20)) == 8


def test_what_is_sent_and_not_used(office, tmp_path):
    """Tensors of a driver that are not shared yet take memory, too."""
    with limited(office, tmp_path, "bob", memory="100KB") as workers, workers.connect() as parties:
        x = sy.encrypt(torch.zeros(4), parties)
        plain = torch.zeros(3000, 4)
        call = Call("aten.add.Tensor", [reference(x), Plain("float32", [3000, 4], [3000, 4], None)], {}, [-1])
        with pytest.raises(RemoteError, match=r"scientist sends .* that bob has not used yet; limits.memory"):
            _ = [parties.link.send(call, [plain], None) for _ in range(30)], parties.wait()


# --- the budget of openings -----------------------------------------------------------


def test_the_budget_outlives_the_worker(office, tmp_path):
    for turn in range(2):
        with limited(office, tmp_path, numbers=5) as workers, workers.connect() as parties:
            x = rows(parties)
            for _ in range(10):
                sy.decrypt(sy.encrypt(torch.ones(9), parties))  # nothing of hers
            if turn == 0:
                sy.decrypt(x[:2])
                assert workers.workers["alice"].report()["numbers_today"] == {"scientist": 4}
            with pytest.raises(OpenNotPermittedError, match=r"5 numbers a day .*limits.numbers in its file.*; 4 were"):
                sy.decrypt(x[0])
            with workers.connect() as other:
                with pytest.raises(OpenNotPermittedError):
                    sy.decrypt(rows(other)[:1])
                if turn == 1:
                    sy.decrypt(rows(other).sum())
                    with pytest.raises(OpenNotPermittedError, match="5 were opened today"):
                        sy.decrypt(rows(other).sum())


def test_a_refused_opening_costs_nothing(office, tmp_path):
    options = {"drivers": {"scientist": ["compute", "open"]}, "open": {"scientist": {"approve": True}}}
    with limited(office, tmp_path, numbers=5) as workers:
        workers.workers["alice"].openings._rules = parse(
            {"name": "alice", **options}, WorkerConfig, office.folder
        ).rules  # fmt: skip
        with workers.connect() as parties:
            with pytest.raises(OpenNotPermittedError, match="pysmpc approve"):
                sy.decrypt(rows(parties).sum())
            assert workers.workers["alice"].report()["numbers_today"] == {}
            with pytest.raises(OpenNotPermittedError, match=r"limits\.numbers"):
                sy.decrypt(rows(parties))  # nobody need be asked
            assert len(list((tmp_path / "alice.state" / "waiting").iterdir())) == 1


def line(when, numbers, driver="scientist", **facts):
    found = {"time": when, "what": "open", "driver": driver, "owners": ["alice"], "shape": [numbers], "permitted": True}
    return json.dumps({**found, **facts}) + "\n"


def test_a_day_is_one_of_utc(tmp_path):
    now = 1_700_000_000 - 1_700_000_000 % 86400 + 3600.0
    log, clock = tmp_path / LOG, [now]
    log.write_text(
        line(now - 7200, 1)
        + line(now - 3600, 2)  # midnight
        + line(now - 60, 4, driver="other")
        + line(now - 50, 8, permitted=False)
        + line(now - 40, 16, owners=["bob"])
        + line(now - 30, 32, what="get")
        + '{"time": 3'
        + "\n"
        + line(now - 20, 64, shape=[8, 8])
        + line(now - 10, 128, what="hand", receiver="bob")
        + line(now - 10, 256, what="hand", receiver="alice")  # her own
    )
    found = Budget("alice", log, lambda: clock[0])
    assert found.all() == {"scientist": 194, "other": 4}
    found.spend("scientist", 4)
    assert found.used("scientist") == 198
    clock[0] = now - 86400  # a clock that is set back
    assert found.used("scientist") == 198
    clock[0] = now + 86400
    assert found.used("scientist") == 0


@pytest.mark.parametrize("block", [7, 64, 1 << 16])
def test_the_log_is_read_from_its_end(tmp_path, monkeypatch, block):
    monkeypatch.setattr(budget, "_BLOCK", block)
    now = time.time()
    log = tmp_path / LOG
    log.write_text("not read\n" * 3 + line(now - 2 * 86400, 5) + "".join(line(now, 3) for _ in range(50)))
    whole = list(budget._backwards(log))
    assert b"\n".join(whole[::-1]) == log.read_bytes()
    assert budget.used_on(budget.day_of(now), log, "alice") == {"scientist": 150}


# --- what a file may say ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [(0, 0), (5, 5), ("5", 5), ("2GB", 2 * 10**9), ("1.5 MiB", 3 << 19), ("10kb", 10_000), ("1 TB", 10**12)],
)
def test_sizes(text, size):
    assert Size.parse(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("1h", 3600), ("2d", 172_800), (7, 7), ("30s", 30)])
def test_times(text, seconds):
    assert Duration.parse(text) == seconds
    assert Duration.parse(str(Duration(seconds))) == seconds


@pytest.mark.parametrize("text", [-1, True, None, 1.5, "", "GB", "-1GB", "1e9", "1 XB", "1h", "٣"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="a size is"):
        Size.parse(text)


@pytest.mark.parametrize(
    ("field", "value"), [("slots", -1), ("numbers", -5), ("sessions", True), ("time", "x"), ("steps", 65)]
)
def test_limits_that_make_no_sense(tmp_path, field, value):
    with pytest.raises(ConfigurationError, match=field):
        parse({"name": "alice", "state": "s", "limits": {field: value}}, WorkerConfig, tmp_path)
