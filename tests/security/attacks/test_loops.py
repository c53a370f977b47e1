"""A driver that writes loops by hand: for one row, for another's program, for indices out of range, for less noise."""

import numpy as np
import pytest
import torch
from client import combined, plain, ref, released, run
from remotes import Workers

from pysmpc.federated.updates import Terms
from pysmpc.remote.messages import Denied, Failed
from pysmpc.remote.program_messages import Collect, Dtype, LoopProgram, Seq, Step, Use

ALL = ("alice", "bob", "carol")
ROWS, COLUMNS = 40, 4
DRIVERS = ("scientist", "erin")
#: The change of the model is clipped to this norm.
NORM = 1.0


def call(name, *args, **kwargs):
    return Step(f"aten.{name}", list(args), kwargs)


#: Place 0 is the model, a vector; place 1 the batch; steps from 2 on.
MEAN = [call("mean.dim", Use(1), Seq([0]))]
FIRST = [call("select.int", Use(1), 0, 0)]
MASKED = [
    call("arange.start_step", 0, ROWS, 1),
    call("eq.Scalar", Use(2), 7),
    call("unsqueeze.default", Use(3), 1),
    call("mul.Tensor", Use(1), Use(4)),
    call("sum.dim_IntList", Use(5), Seq([0])),
]
LARGE = [*FIRST, call("mul.Scalar", Use(2), 1e9)]
NAN = [*FIRST, call("log.default", Use(2)), call("mul.Scalar", Use(3), 1e300)]
WRITES = [
    call("unsqueeze.default", Use(1), 0),
    call("max_pool2d_with_indices.default", Use(2), Seq([1, 1])),
    call("full.default", Seq([1, ROWS, COLUMNS]), 1 << 44, dtype=Dtype("int64")),
    call("max_pool2d_with_indices_backward.default", Use(3, 0), Use(2), Seq([1, 1]), Seq([]), Seq([0, 0]), Seq([1, 1]),
         False, Use(4)),
]  # fmt: skip


@pytest.fixture
def clinic(office, tmp_path):
    """Three owners; loops on `plain` have no noise, those on `noised` tell little, those on `loud` much."""
    rights = {"scientist": ["compute", "open", "loop:plain", "loop:noised", "loop:loud"], "erin": ["compute", "open"]}
    options = {"": {"drivers": rights, "open": list(DRIVERS)}}
    options["crypto_provider"] = {"drivers": {name: ["compute", "open"] for name in DRIVERS}}
    rows = {}
    terms = {"data": ["rows"], "max_norm": NORM}
    for name in ALL:
        rows[name] = torch.from_numpy(np.random.default_rng().normal(size=(ROWS, COLUMNS)).astype(np.float32))
        np.save(tmp_path / f"{name}.npy", rows[name].numpy())
        options[name] = {
            "data": {"rows": {"path": str(tmp_path / f"{name}.npy")}},
            "state": str(tmp_path / f"{name}.state"),
            "checkpoints": str(tmp_path / f"{name}.saved"),
            "loops": {
                "plain": {**terms, "without_noise": True},
                "noised": {**terms, "epsilon": 1.0},
                "loud": {**terms, "epsilon": 100.0},
            },
        }
    with Workers(office.folder, ALL, options=options) as workers:
        for worker in workers.workers.values():
            worker.attacker = {name: office.tls(name) for name in DRIVERS}
        yield workers, rows


def program(steps, last=None):
    return LoopProgram([[ROWS, COLUMNS]], ["float32"], list(steps), [Use(len(steps) + 1 if last is None else last)])


def collect(slot, steps, task="plain", model=None, owners=ALL, **changes):
    facts = {"max_norm": NORM, "max_value": 64.0, "max_rows": 1024, "deadline": 0.0, "less_start": True}
    return Collect(
        slot=slot, owners=list(owners), task=task, arguments={"epochs": 1, "shuffle": False}, names=["w"],
        shapes=[[COLUMNS]], dtypes=["float32"], values=plain(torch.zeros(COLUMNS) if model is None else model),
        gives={"w": [COLUMNS]}, loop=program(steps), **{**facts, **changes},
    )  # fmt: skip


def noised(multiplier, sharers=2):
    """Terms of a round with so much noise; a little more, for the rounding of an update."""
    return {"noise": multiplier * NORM * 1.001, "sharers": sharers, "max_rows": 1}


def scale_of(message):
    shapes = {name: tuple(shape) for name, shape in message.gives.items()}
    return Terms(
        shapes, len(message.owners), message.max_norm, message.max_value, message.max_rows, message.noise,
        message.sharers,
    ).precision.scale  # fmt: skip


def attack(workers, steps, **options):
    return run(workers, steps, holders=ALL, **options)


def outcome(client, message):
    """What the owners answered, and the sum, if there is one that is not zeros."""
    answers = client.asked(message, ALL)
    found = combined(client.open(ref(message.slot, (COLUMNS + 1,), dtype="float64")), scale_of(message))
    return answers, found if found is not None and bool(found.any()) else None


def clipped(values):
    return values * min(1.0, NORM / float(values.norm()))


def test_what_is_allowed_is_opened(clinic):
    workers, rows = clinic
    answers, found = attack(workers, lambda client: outcome(client, collect(0, MEAN)))
    assert found is not None, answers
    expected = sum(clipped(x.double().mean(0)) for x in rows.values()) / len(ALL)
    torch.testing.assert_close(found[:-1] / found[-1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("steps", [FIRST, MASKED, LARGE], ids=["first", "masked", "large"])
def test_a_loop_for_one_row(clinic, steps):
    workers, _ = clinic
    answers, found = attack(workers, lambda client: outcome(client, collect(0, steps)))
    assert found is None
    assert all("without noise" in each.text for each in answers.values()), answers


@pytest.mark.parametrize("task", ["plain", "noised"])
def test_indices_that_a_kernel_would_write_to(clinic, task):
    workers, _ = clinic
    message = collect(0, WRITES, task, **(noised(8.0) if task == "noised" else {}))
    answers, found = attack(workers, lambda client: outcome(client, message))
    assert found is None
    assert all("its indices are not those of the pooling" in each.text for each in answers.values()), answers


@pytest.mark.parametrize("steps", [LARGE, NAN], ids=["large", "nan"])
def test_one_row_as_large_as_may_be_is_worth_no_more_than_the_norm(clinic, steps):
    workers, _ = clinic
    message = collect(0, steps, "loud", **noised(0.25))
    _, found = attack(workers, lambda client: outcome(client, message))
    assert found is not None
    assert found[-1] == len(ALL)  # nobody left, whatever a row was
    deviation = message.noise * (len(ALL) / message.sharers) ** 0.5
    assert float(found[:-1].norm()) < len(ALL) * NORM + 8 * COLUMNS**0.5 * deviation


@pytest.mark.parametrize(
    "less",
    [{}, noised(0.5), {**noised(8.0), "noise": 0.0}, noised(8.0, sharers=3), {**noised(8.0), "noise": float("nan")}],
    ids=["none", "beyond the budget", "zero", "of those who may collude", "nan"],
)
def test_less_noise_than_an_owner_asks_for(clinic, less):
    workers, _ = clinic

    def steps(client):
        answers = client.asked(collect(0, MEAN, "noised", **less), ALL)
        assert all(each.text for each in answers.values()), answers
        return released(client.open(ref(0, (COLUMNS + 1,), dtype="float64")))

    shares = attack(workers, steps)
    assert not shares or not bool(sum(shares.values()).any())


def test_rounds_that_are_repeated_to_average_their_noise(clinic):
    """Whichever models and programs they are of: their noise is counted together."""
    workers, _ = clinic
    refused = []

    def steps(client):
        for slot in range(12):
            message = collect(slot, [*MEAN, call("mul.Scalar", Use(2), 1.0 + slot)], "noised", **noised(8.0))
            refused.append(isinstance(client.asked(message, ALL)["alice"], Denied))

    attack(workers, steps)
    # epsilon 1 at delta 1e-5 is a noise of 3.73 for one round, and so four rounds of 8
    assert refused[-12:] == [False] * 4 + [True] * 8


@pytest.mark.parametrize("differs", ["program", "weights", "arguments"])
def test_owners_are_told_of_different_loops(clinic, differs):
    workers, _ = clinic

    def steps(client):
        other = {
            "program": {"steps": [*MEAN, call("neg.default", Use(2))]},
            "weights": {"steps": MEAN, "model": torch.ones(COLUMNS)},
            "arguments": {"steps": MEAN, "max_norm": NORM / 2},
        }[differs]
        client.tell(collect(0, MEAN), only=["alice", "carol", "crypto_provider"])
        client.tell(collect(0, **other), only=["bob"])
        return released(client.open(ref(0, (COLUMNS + 1,), dtype="float64")))

    assert not attack(workers, steps)


@pytest.mark.parametrize("task", ["plain", "absent", "rows"])
def test_a_loop_without_the_right(clinic, task):
    workers, _ = clinic
    answers, found = attack(workers, lambda client: outcome(client, collect(0, MEAN, task)), driver="erin")
    assert found is None
    assert all("for this driver" in each.text or "to this driver" in each.text for each in answers.values()), answers


def test_the_change_is_not_taken_from_what_leaves(clinic):
    """The result itself, and not its change, would be as large as the driver's weights."""
    workers, _ = clinic

    def steps(client):
        answers = client.asked(collect(0, MEAN, less_start=False), ALL)
        assert all(isinstance(each, Denied | Failed) for each in answers.values()), answers

    attack(workers, steps)
