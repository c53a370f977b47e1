"""Openings that an owner approves by hand: what she is shown, what an approval is for, and how long it lasts."""

import getpass
import json
import os
import secrets
import stat
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from remotes import Workers
from torch import nn

import pysmpc as sy
from pysmpc.errors import ConfigurationError, OpenNotPermittedError
from pysmpc.remote.program_messages import Call, Changing, Drop, Input, Load, Plain, Record, Recorded, Ref, Repeat
from pysmpc.remote.worker import approvals
from pysmpc.remote.worker.approvals import APPROVED, DENIED, FOLDERS, LOG, WAITING
from pysmpc.remote.worker.history import History
from pysmpc.remote.worker.worker import Worker

ROWS = np.random.default_rng().random((100, 2), dtype=np.float32)
HOUR = 3600


def asking(office, folder, **options):
    """Workers whose alice wants to be asked."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "x.npy", ROWS)
    mine = {
        "data": {"x": {"path": str(folder / "x.npy"), "tags": ["#x"]}},
        "state": str(folder / "state"),
        "open": {"scientist": {"approve": True}},
    }
    return Workers(office.folder, options={"alice": mine | options})


@pytest.fixture
def state(tmp_path):
    return str(tmp_path / "state")


@pytest.fixture
def parties(office, tmp_path):
    with asking(office, tmp_path) as workers, workers.connect() as parties:
        yield parties


def rows(parties, start=0, stop=64):
    [pointer] = parties["alice"].search("#x")
    return sy.encrypt(pointer[start:stop], parties)


def refused(secret):
    with pytest.raises(OpenNotPermittedError) as error:
        sy.decrypt(secret)
    return str(error.value)


def asked(state, secret):
    """The request that an opening leaves."""
    before = {each.id for each in approvals.waiting(state)}
    said = refused(secret)
    [new] = [each for each in approvals.waiting(state) if each.id not in before]
    assert f"pysmpc approve {new.id}" in said
    return new


def files(state):
    return {name: sorted(os.listdir(os.path.join(state, name))) for name in FOLDERS}


def log(state):
    return [json.loads(line) for line in Path(state, LOG).read_text().splitlines()]


def test_a_request_says_who_asks_for_what(parties, state):
    model = sy.encrypt(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), parties)
    secret = model(rows(parties)).mean()
    began = time.time()
    request = asked(state, secret)
    assert request.driver == "scientist"
    assert began - 1 < request.since < time.time() + 1
    assert request.shape == []
    assert request.owners == ["alice", "scientist"]
    assert request.rows > 0
    verbs = [text.partition("(")[0] for text in request.operations]
    assert verbs[-4:] == ["linear", "relu", "linear", "mean"]
    assert request.operations[-2] == "linear(1, 64x3, 3x1)"
    assert "alice's x 64x2" in request.operations
    assert len(request.program) == 64
    [name] = files(state)[WAITING]
    path = Path(state, WAITING, name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = json.loads(path.read_text())
    assert set(kept) == {
        "id", "series", "session", "driver", "since", "shape", "owners", "rows", "program", "operations",
    }  # fmt: skip


def test_once_is_for_one_value(parties, state):
    x = rows(parties).sum()
    request = asked(state, x)
    assert refused(x)  # the same request
    assert [each.id for each in approvals.waiting(state)] == [request.id]
    assert approvals.approve(state, request.id)
    assert not approvals.approve(state, request.id)
    other = rows(parties).sum()
    assert asked(state, other).id != request.id
    assert torch.allclose(sy.decrypt(x), torch.tensor(float(ROWS[:64].sum())), atol=0.01)
    again = asked(state, x)  # once
    assert approvals.approve(state, again.id)
    x.add_(1)  # another value in the same place
    assert asked(state, x).id != again.id
    [line] = [line for line in log(state) if line["what"] == "open" and line["permitted"]]
    assert line["approved_by"] == getpass.getuser()
    assert line["request"] == request.id
    decided = [line for line in log(state) if line["what"] == "approve"]
    assert [line["by"] for line in decided] == [getpass.getuser()] * 2


def test_a_window_is_a_value_of_its_own(parties, state):
    x = rows(parties)
    request = asked(state, x[0])
    assert approvals.approve(state, request.id)
    assert asked(state, x[1]).id != request.id
    assert asked(state, x[0, :1]).id != request.id
    assert torch.allclose(sy.decrypt(x[0]), torch.from_numpy(ROWS[0]), atol=2**-15)


def test_an_approval_dies_with_its_session(office, tmp_path, state):
    """Another session that runs the same program under the same name, as a driver may."""
    with asking(office, tmp_path) as workers:
        with workers.connect() as parties:
            x = rows(parties).sum()
            first = asked(state, x)
            assert approvals.approve(state, first.id)
            approvals.approve(state, asked(state, rows(parties).mean()).id, HOUR)
            assert approvals.deny(state, asked(state, rows(parties)).id)
            assert all(len(files(state)[name]) == n for name, n in ((APPROVED, 2), (DENIED, 1), (WAITING, 0)))
            kept = Path(state, APPROVED, first.id)
            content = kept.read_bytes()
        deadline = time.monotonic() + 10
        while any(files(state).values()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(files(state).values())
        with workers.connect() as parties:
            kept.write_bytes(content)  # even if it were still there
            assert asked(state, rows(parties).sum()).id != first.id


def test_what_a_worker_left_behind_is_void(office, tmp_path, state):
    for name in FOLDERS:
        os.makedirs(os.path.join(state, name))
        Path(state, name, secrets.token_hex(16)).write_text("{")
    with asking(office, tmp_path) as workers, workers.connect():
        assert not any(files(state).values())


def test_a_check_leaves_requests_alone(office, tmp_path, state):
    """A second Worker of the same folder, which does not serve."""
    with asking(office, tmp_path) as workers, workers.connect() as parties:
        request = asked(state, rows(parties).sum())
        config = msgspec.structs.replace(workers.workers["alice"].config, listen="127.0.0.1:0")
        Worker(config).close()
        assert files(state)[WAITING] == [request.id]


def test_what_is_denied_is_not_asked_again(parties, state):
    x = rows(parties).sum()
    request = asked(state, x)
    assert approvals.deny(state, request.id)
    for _ in range(2):
        assert "said no" in refused(x)
        assert not approvals.waiting(state)
    assert approvals.approve(state, request.id)  # on second thoughts
    sy.decrypt(x)
    # an approval that is not used yet is taken back
    again = asked(state, x)
    assert approvals.approve(state, again.id)
    assert approvals.deny(state, again.id)
    assert "said no" in refused(x)
    assert [line["what"] for line in log(state) if line["what"] != "open"] == ["deny", "approve", "approve", "deny"]


def mean(parties, start, stop, by=1.0):
    return (rows(parties, start, stop) * by).mean()


def test_for_a_time(parties, state):
    request = asked(state, mean(parties, 0, 50))
    assert approvals.approve(state, request.id, HOUR)
    for start, by in ((0, 1.0), (50, 1.0), (7, 1.0)):
        sy.decrypt(mean(parties, start, start + 50, by))
    # other public numbers, fewer rows, other operations, another shape
    asked(state, mean(parties, 0, 50, 1.5))
    asked(state, rows(parties, 0, 50).mean())
    asked(state, rows(parties, 0, 50)[:, 0].mean())
    asked(state, mean(parties, 0, 51))
    [pointer] = parties["alice"].search("#x")
    few = sy.encrypt(pointer[torch.tensor([5] * 50)], parties)
    asked(state, (few * 1.0).mean())
    [granted] = approvals.granted(state)
    assert granted.request.id == request.id
    assert approvals.deny(state, request.id)
    refused(mean(parties, 3, 53))


def test_another_bound_is_another_function(parties, state):
    """What a function makes of a value beyond a bound that a driver states is not what was approved."""

    def squashed(bound=None):
        x = rows(parties, 0, 50)
        return torch.sigmoid(x if bound is None else sy.bounded(x, bound)).mean()

    request = asked(state, squashed())
    assert approvals.approve(state, request.id, HOUR)
    sy.decrypt(squashed())
    bounded = asked(state, squashed(0.5))
    assert bounded.series != request.series
    assert "sigmoid(50x2 up to 0.5)" in bounded.operations
    assert "sigmoid(50x2)" in request.operations
    assert approvals.approve(state, bounded.id, HOUR)
    sy.decrypt(squashed(0.5))
    asked(state, squashed(0.25))


def test_a_time_ends(parties, state, monkeypatch):
    assert approvals.approve(state, asked(state, mean(parties, 0, 50)).id, HOUR)
    sy.decrypt(mean(parties, 1, 51))
    now = time.time()
    monkeypatch.setattr(approvals.time, "time", lambda: now + HOUR + 1)
    asked(state, mean(parties, 2, 52))
    assert not approvals.granted(state)


@pytest.mark.parametrize("how", ["public", "shared"])
def test_masks_of_a_driver_are_asked_about(parties, state, how):
    """Approved for one mask, public or not, the same sum under another mask would be another row."""

    def under(mask):
        other = sy.encrypt(mask, parties) if how == "shared" else mask
        return (rows(parties, 0, 50) * other).sum()

    mask = torch.ones(50, 2)
    assert approvals.approve(state, asked(state, under(mask)).id, HOUR)
    if how == "public":
        sy.decrypt(under(mask))
    else:
        asked(state, under(mask))  # what is in it is not known
    mask[1:] = 0
    asked(state, under(mask))


def test_long_masks_of_a_driver(parties, state):
    """Which travel in a buffer of their own, after the message."""
    long = torch.ones(50, 200)

    def under():
        return (rows(parties, 0, 50)[:, :1] * long).sum()

    assert approvals.approve(state, asked(state, under()).id, HOUR)
    sy.decrypt(under())
    long[3, 3] = 0
    asked(state, under())


def squares(out, target):
    return ((out - target) ** 2).sum() / len(target)


def test_the_loss_of_every_further_step(parties, state):
    """Of a recorded step, on whichever rows, while nothing else writes to the parameters."""
    model = sy.encrypt(nn.Linear(2, 2), parties)
    step = sy.TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5), squares)

    def loss(start):
        x = rows(parties, start, start + 30)
        return step(x, x)

    for start in range(3):
        told = asked(state, loss(start))
    assert "alice's x 30x2" in told.operations
    assert any(text.startswith("linear(2, 30x2") for text in told.operations)
    assert approvals.approve(state, told.id, HOUR)
    for start in range(10):
        assert sy.decrypt(loss(start)) >= 0
    assert step.repeats
    with torch.no_grad():
        model.weight.copy_(rows(parties, 0, 2))  # a model that is her data
    asked(state, loss(0))
    # what reads a parameter that was trained is another list; trained for longer, the same
    assert approvals.approve(state, asked(state, model.weight * 2).id, HOUR)
    loss(1)
    sy.decrypt(model.weight * 2)


def test_a_driver_leaves_so_many_requests_and_no_more(parties, state, monkeypatch):
    monkeypatch.setattr(approvals, "WAITING_LIMIT", 3)
    x = rows(parties)
    requests = [asked(state, x[i]) for i in range(3)]
    assert "3 requests of scientist wait" in refused(x[3])
    assert len(approvals.waiting(state)) == 3
    assert approvals.deny(state, requests[0].id)
    asked(state, x[4])


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../log", "/etc/passwd", "A" * 32, "0" * 31, "0" * 33, "0" * 31 + "\n"]
)
def test_names_that_are_no_requests(tmp_path, name):
    state = str(tmp_path)
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    (tmp_path / "log").write_text("{}")
    assert not approvals.approve(state, name)
    assert not approvals.deny(state, name)
    assert (tmp_path / "log").exists()
    assert not any(files(state).values())


def test_files_that_are_no_requests(parties, state):
    request = asked(state, rows(parties).sum())
    for folder in FOLDERS:
        for content in (b"", b"{}", b"[1]", b"\xff", secrets.token_bytes(50)):
            Path(state, folder, secrets.token_hex(16)).write_bytes(content)
    assert [each.id for each in approvals.waiting(state)] == [request.id]
    assert approvals.granted(state) == []


# --- histories, from messages alone ---------------------------------------------------


def ref(slot, size=(4,), offset=0):
    return Ref(slot, list(size), [1] * len(size), offset, "float32")


def load(slot, data="x", shape=(4,), steps=()):
    return Load("default", slot, list(shape), 1 << 16, 2, 16, "float32", "alice", data, list(steps))


def history(*operations):
    found = History("scientist")
    for operation in operations:
        found.note(operation, ())
    return found


def test_rows_and_slots_are_no_part_of_a_history():
    def index(n):
        return ["rows", Plain("int64", [4], [4], n.to_bytes(8, "little") * 4)]

    one = history(load(3, steps=[index(1)]), Call("aten.mul.Tensor", [ref(3), ref(3)], {}, [4]))
    two = history(load(0), Drop([0]), load(9, steps=[index(7)]), Call("aten.mul.Tensor", [ref(9), ref(9)], {}, [0]))
    assert one.of(4).hash == two.of(0).hash
    assert one.of(4).hash is not None
    for other in (
        [load(3, data="y", steps=[index(1)]), Call("aten.mul.Tensor", [ref(3), ref(3)], {}, [4])],
        [load(3, steps=[index(1), ["scale", 2.0, 0.0]]), Call("aten.mul.Tensor", [ref(3), ref(3)], {}, [4])],
        [load(3, shape=[5], steps=[index(1)]), Call("aten.mul.Tensor", [ref(3), ref(3)], {}, [4])],
        [load(3, steps=[index(1)]), Call("aten.mul.Tensor", [ref(3), ref(3, offset=1)], {}, [4])],
        [load(3, steps=[index(1)]), Call("aten.add.Tensor", [ref(3), ref(3)], {}, [4])],
        [load(3, steps=[index(1)]), Call("aten.add_.Tensor", [ref(3), 0.0], {}, [-1]),
         Call("aten.mul.Tensor", [ref(3), ref(3)], {}, [4])],
    ):  # fmt: skip
        assert history(*other).of(4).hash != one.of(4).hash


def test_no_session_asks_what_another_asked():
    """The same value of the same program: an approval that outlived its session would serve none."""
    value = history(load(3)).of(3)
    asked = [
        approvals.Requests("scientist").request(ref(3), (1, bytes(32)), frozenset({"alice"}), 4, value)
        for _ in range(2)
    ]
    for name in ("id", "series", "session"):
        assert len({getattr(each, name) for each in asked} - {""}) == 2, name


def test_what_is_not_known_has_no_history():
    found = history(Call("aten.mul.Tensor", [ref(1), ref(1)], {}, [2]), Call("aten.neg.default", [ref(2)], {}, [3]))
    assert found.of(2).hash is None
    assert found.of(3).hash is None
    inputs = [Input("default", slot, [4], 1, 2, 16, "float32") for slot in (0, 1)]
    found = history(*inputs)
    assert found.of(0).hash != found.of(1).hash


def trained(*more):
    """A step of two numbers' product added to a state, recorded and then repeated; the last result is in slot 9."""
    found = history(
        load(0), Input("default", 1, [4], 1, 2, 16, "float32"),
        Record(1, [ref(0)], [2], [1], -1),
        Call("aten.mul.Tensor", [ref(2), ref(1)], {}, [3]),
        Call("aten.add_.Tensor", [ref(1), ref(3)], {}, [-1]),
        Recorded([ref(3)], [4], True),
    )  # fmt: skip
    first = found.of(4)
    for operation in (*more, Repeat(1, [ref(0)], [9])):
        found.note(operation, ())
    return first, found.of(9)


def test_repetitions_are_one_list_of_operations():
    first, second = trained()
    assert first.hash == second.hash
    assert first.operations == second.operations
    assert second.operations[-1] == "mul(4, 4)"
    first, later = trained(Repeat(1, [ref(0)], [5]), Repeat(1, [ref(0)], [6]))
    assert first.hash == later.hash


def test_each_result_of_a_step_is_a_value_of_its_own():
    """What leads to one does not depend on which others were kept."""
    found = {}
    for kept in ([3, 5], [5]):
        known = history(
            load(0), Record(1, [ref(0)], [2], [], -1),
            Call("aten.mul.Tensor", [ref(2), ref(2)], {}, [3]),
            Call("aten.neg.default", [ref(2)], {}, [5]),
            Recorded([ref(slot) for slot in kept], [slot + 10 for slot in kept], True),
            Repeat(1, [ref(0)], [slot + 20 for slot in kept]),
        )  # fmt: skip
        for slot in kept:
            assert known.of(slot + 10).hash == known.of(slot + 20).hash
            found.setdefault(slot, set()).add(known.of(slot + 20).hash)
    assert [len(each) for each in found.values()] == [1, 1]
    assert not found[3] & found[5]


def test_numbers_that_change_are_a_part_of_a_step():
    """A rate that nobody has seen is asked about; one that was there before is not."""

    def with_rates(*rates):
        found = history(
            load(0), load(1, data="w"),
            Record(1, [ref(0)], [2], [1], -1),
            Call("aten.mul.Tensor", [ref(2), ref(1)], {}, [3]),
            Call("aten.add_.Tensor", [ref(1), ref(3)], {"alpha": Changing(0, rates[0])}, [-1]),
            Recorded([ref(3)], [4], True),
            *(Repeat(1, [ref(0)], [4], [rate]) for rate in rates[1:]),
        )  # fmt: skip
        return found.of(4)

    first = with_rates(-0.5)
    assert first.hash is not None
    assert with_rates(-0.5, -0.5, -0.5).hash == first.hash
    other = with_rates(-0.5, -0.5, -0.25)
    assert other.hash not in (None, first.hash)
    assert with_rates(-0.5, -0.25, -0.25).hash == other.hash
    assert other.operations[-1] == "with -0.25"


@pytest.mark.parametrize(
    "between",
    [
        [Call("aten.add_.Tensor", [ref(1), 1.0], {}, [-1])],
        [Call("aten.copy_.default", [ref(1), ref(0)], {}, [-1])],
        [load(7, data="y"), Repeat(1, [ref(7)], [8])],
        [load(7), Call("aten.neg.default", [ref(7)], {}, [8]), Drop([0]), load(0, data="y")],
    ],
    ids=["a state is written", "a state is her data", "trained on other data", "another argument"],
)
def test_repetitions_after_something_else(between):
    first, later = trained(*between)
    assert later.hash is not None
    assert later.hash != first.hash


def test_a_recording_does_not_hide_what_its_arguments_are():
    """Opened within a step that is being recorded, an argument is what it was outside."""
    products = []
    for data in ("x", "y"):
        found = history(load(0, data=data), Record(1, [ref(0)], [2], [], -1))
        found.note(Call("aten.mul.Tensor", [ref(2), ref(2)], {}, [3]), ())
        products.append(found.of(3).hash)
    assert None not in products
    assert products[0] != products[1]


def test_names_of_drivers_do_not_reach_the_terminal():
    found = history(load(0, data="\x1b[2J" + "x" * 1000))
    [text] = found.of(0).operations
    assert text.isprintable()
    assert len(text) <= 120


def test_a_time_needs_a_history(tmp_path):
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    (tmp_path / LOG).touch()
    request = approvals.Request("0" * 32, "", "1" * 32, "scientist", 0.0, [], ["alice"], 1, "", [])
    approvals._write(tmp_path / WAITING / request.id, request)
    with pytest.raises(ConfigurationError, match="approved once"):
        approvals.approve(str(tmp_path), request.id, HOUR)
    assert approvals.approve(str(tmp_path), request.id)
