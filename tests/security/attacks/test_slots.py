"""A value keeps whose it is, whatever slot, name, view or disk it passes through."""

import pytest
import torch
from client import PROVIDER, call, combined, load, plain, ref, run
from verdicts import closed, unread

from pysmpc.remote.messages import Shelve
from pysmpc.remote.program_messages import Drop, Keep, Recall, Record, Recorded, Ref, Repeat, Restore, Seq, Slot

SHAPE = [64, 4]
X = load(0, "x", SHAPE)
HERS, MINE, OTHER = (ref(slot, SHAPE) for slot in (0, 1, 2))


@pytest.mark.parametrize("alias", ["detach", "alias", "view", "slice", "expand", "transpose", "squeeze_"])
@pytest.mark.parametrize("only", [None, ["alice"]], ids=["all", "alice"])
def test_a_second_name(scene, witness, alias, only):
    """The driver's own value under two names: alice's is written to the one, and the other is opened."""
    calls = {
        "view": call("view.default", MINE, Seq(items=SHAPE), out=2),
        "slice": call("slice.Tensor", MINE, 0, 0, 64, 1, out=2),
        "expand": call("expand.default", MINE, Seq(items=SHAPE), out=2),
        "transpose": call("transpose.int", MINE, 0, 0, out=2),
        "squeeze_": call("squeeze_.default", MINE, out=2),
    }

    def attack(client):
        client.tell(X)
        client.own(1, SHAPE)
        if only is not None:
            client.own(2, SHAPE, only=[name for name in client.names if name not in only])
        client.tell(calls.get(alias, call(f"{alias}.default", MINE, out=2)), only=only)
        client.tell(call("copy_.default", MINE, HERS))
        return client.open(OTHER)

    answers = run(scene.workers, attack)
    if only is None:
        closed(answers, scene.x, "alice's rows, under a second name")
    unread(combined(answers), scene.x, "alice's rows, under a second name at alice only")
    witness.names("scientist")


@pytest.mark.parametrize("only", [None, ["alice"], ["bob"]], ids=["all", "alice", "bob"])
def test_a_slot_that_is_in_use(scene, witness, only):
    """alice's value lands where the driver's is: it would be opened as the driver's."""

    def attack(client):
        client.own(1, SHAPE)
        client.tell(load(1, "x", SHAPE), only=only)
        return client.open(MINE)

    answers = run(scene.workers, attack)
    unread(combined(answers), scene.x, "alice's rows, from a slot of the driver's")
    witness.names("scientist", "slot", "program", "different")


def test_an_input_in_a_slot_that_has_an_origin(scene, witness):
    """alice is told to drop her value and to take the driver's in its place; bob keeps his share of hers."""

    def attack(client):
        client.tell(X)
        client.tell(Drop(slots=[0]), only=["alice"])
        client.own(0, SHAPE, only=["alice", PROVIDER])
        client.own(1, SHAPE, only=["bob"])
        return client.open(HERS)

    closed(run(scene.workers, attack), scene.x, "alice's rows, for which she was never asked")
    witness.names("scientist")


def test_slots_that_are_exchanged_at_one_worker(scene, witness):
    """Slot 0 is alice's value at bob, and the driver's at alice."""

    def attack(client):
        client.tell(load(1, "x", SHAPE), only=["alice"])
        client.tell(load(0, "x", SHAPE), only=["bob", PROVIDER])
        client.own(0, SHAPE, only=["alice"])
        client._inputs -= 1
        client.own(1, SHAPE, only=["bob", PROVIDER])
        return client.open(HERS)

    closed(run(scene.workers, attack), scene.x, "alice's rows, of which alice knows by another slot")
    witness.names("scientist")


WRITES = {
    "copied": [call("copy_.default", MINE, HERS)],
    "added later": [call("add_.Tensor", MINE, HERS, alpha=0.5)],
    "multiplied": [call("fill_.Scalar", MINE, 1.0), call("mul_.Tensor", MINE, HERS)],
    "by a row": [call("copy_.default", ref(1, [4], 4 * row), ref(0, [4], 4 * row)) for row in range(64)],
    "transposed": [call("copy_.default", ref(1, [4, 64], 0, [1, 4]), ref(0, [4, 64], 0, [1, 4]))],
    "put": [call("index_put_.default", MINE, Seq(items=[plain(torch.arange(64))]), HERS)],
    "and taken again": [call("copy_.default", MINE, HERS), call("clone.default", MINE, out=5)],
}


@pytest.mark.parametrize("how", WRITES)
def test_in_place_and_through_views(scene, witness, how):
    def attack(client):
        client.tell(X)
        client.own(1, SHAPE)
        client.tell(*WRITES[how])
        return client.open(ref(5, SHAPE) if how == "and taken again" else MINE)

    answers = run(scene.workers, attack)
    found = combined(answers)
    unread(found if found is None or how != "added later" else 2 * found, scene.x, f"alice's rows, {how}")
    closed(answers, scene.x, f"alice's rows, {how}")
    witness.names("scientist")


def recorded(client, states=(), result=6):
    """A step on the driver's own values: 6 = 2 * argument, and what is in slot 2 becomes the argument."""
    client.own(1, SHAPE, 1.0)
    client.own(2, SHAPE)
    client.tell(Record(step=1, inputs=[MINE], slots=[5], states=list(states), check=-1))
    client.tell(call("mul.Tensor", ref(5, SHAPE), 2.0, out=6))
    if states:
        client.tell(call("copy_.default", OTHER, ref(5, SHAPE)))
    client.tell(Recorded(results=[ref(result, SHAPE)], outs=[7], keep=True))


@pytest.mark.parametrize("what", ["result", "state", "early", "copy"])
def test_a_recorded_step_is_repeated_on_her_value(scene, witness, what):
    """It was recorded on values of the driver's, and every origin was the driver's then."""

    def attack(client):
        recorded(client, [2] if what == "state" else [])
        client.tell(X)
        client.wait()
        client.tell(Repeat(step=1, inputs=[HERS], outs=[8]))
        if what == "copy":
            client.tell(call("clone.default", ref(8, SHAPE), out=9))
        slot = {"result": 8, "early": 8, "state": 2, "copy": 9}[what]
        if what == "result":
            client.wait()  # "early": the opening waits while the step is repeated
        return client.open(ref(slot, SHAPE))

    answers = run(scene.workers, attack)
    scale = 1.0 if what == "state" else 2.0
    closed(answers, scale * scene.x, f"alice's rows, by a recorded step ({what})")
    witness.names("scientist")


def test_a_step_that_is_repeated_on_another_value_at_bob(scene, witness):
    """alice repeats it on the driver's value, bob on hers."""

    def attack(client):
        recorded(client)
        client.tell(X)
        client.tell(Repeat(step=1, inputs=[MINE], outs=[8]), only=["alice", PROVIDER])
        client.tell(Repeat(step=1, inputs=[HERS], outs=[8]), only=["bob"])
        return client.open(ref(8, SHAPE))

    closed(run(scene.workers, attack), scene.x, "alice's rows doubled, from bob")
    witness.names("scientist")


def saved(client, checkpoint, values):
    """Keep values, by key, or by worker and key."""
    numbers = {}
    for name in client.names:
        mine = values.get(name, values.get("")) if isinstance(next(iter(values.values())), dict) else values
        numbers[name] = client.tell(Keep(run="stolen", checkpoint=checkpoint, digest="d", values=mine), only=[name])[
            name
        ]
    client.wait()
    return {name: client.answer(name, numbers[name]) for name in client.holders}


def restored(client, checkpoint, slots):
    """What was kept, into slots: by key, or by worker and key."""
    client.tell(Recall(run="stolen", checkpoint=checkpoint, digest="d"))
    for name in client.names:
        mine = slots.get(name, slots.get("")) if isinstance(next(iter(slots.values())), dict) else slots
        client.tell(Restore(suite="default", values=mine), only=[name])


ID = iter(f"{number:08d}-{number:016x}" for number in range(1, 1000))


def where(slot):
    return Slot(slot=slot, shape=SHAPE, scale=1 << 16, base=2, digits=16, dtype="float32")


@pytest.mark.parametrize("holders", [("alice", "bob"), ("bob", "alice")])
def test_saved_and_loaded(scene, witness, holders):
    name = next(ID)

    def keep(client):
        client.tell(X)
        saved(client, name, {"w": HERS})

    def attack(client):
        restored(client, name, {"w": where(0)})
        return client.open(HERS)

    run(scene.workers, keep)
    closed(run(scene.workers, attack, holders=holders), scene.x, "alice's rows, from a checkpoint")
    witness.names("scientist")


def test_loaded_under_another_key_at_one(scene, witness):
    """alice loads the driver's value where bob loads hers."""
    name = next(ID)

    def keep(client):
        client.tell(X)
        client.own(1, SHAPE)
        saved(client, name, {"hers": HERS, "mine": MINE})

    def attack(client):
        slots = {"hers": where(0), "mine": where(1)}
        restored(client, name, {"": slots, "bob": {"hers": where(1), "mine": where(0)}})
        return client.open(MINE)

    run(scene.workers, keep)
    closed(run(scene.workers, attack), scene.x, "alice's rows, from bob's part of a checkpoint")
    witness.names("scientist")


def test_saved_under_another_key_at_one(scene, witness):
    """The parts of one checkpoint are of different values."""
    name = next(ID)

    def keep(client):
        client.tell(X)
        client.own(1, SHAPE)
        saved(client, name, {"": {"w": MINE}, "bob": {"w": HERS}})

    def attack(client):
        restored(client, name, {"w": where(0)})
        return client.open(HERS)

    run(scene.workers, keep)
    closed(
        run(scene.workers, attack), scene.x, "alice's rows, from a checkpoint that alice believes to be the driver's"
    )
    witness.names("scientist")


def test_a_checkpoint_of_another_driver(scene, witness):
    """erin has saved what alice lets her open in sums; the scientist asks for it."""
    name = next(ID)

    def keep(client):
        client.tell(X)
        saved(client, name, {"w": HERS})

    def attack(client):
        offered = client.question("alice", Shelve, "stolen", "", "")
        assert offered is None or name not in offered.checkpoints
        restored(client, name, {"w": where(0)})
        return client.open(HERS)

    run(scene.workers, keep, driver="erin")
    closed(run(scene.workers, attack), scene.x, "alice's rows, from a checkpoint of another driver's")
    witness.names("scientist")


def test_a_slot_that_was_never_there(scene, witness):
    """An opening of a number that no value ever had."""
    closed(run(scene.workers, lambda client: client.open(Ref(0, SHAPE, [4, 1], 0, "float32"))), scene.x, "nothing")
    witness.names("scientist")
