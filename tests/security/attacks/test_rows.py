"""Every number that erin opens must depend on 64 rows of alice's, in every term of it."""

import pytest
import torch
from client import call, combined, load, plain, ref, run
from verdicts import closed, unread

from pysmpc.remote.program_messages import Keep, Recall, Record, Recorded, Repeat, Restore, Seq, Slot

SHAPE = [64, 4]
X, HERS = load(0, "x", SHAPE), ref(0, SHAPE)
HALF = [32, 4]


def attacked(scene, witness, operations, what, secret, opened=None, factor=1.0, atol=1e-3):
    """What erin opens is not one number of alice's."""

    def attack(client):
        client.own(9, [])
        client.tell(*operations)
        return client.open(ref(5, []) if opened is None else opened)

    answers = run(scene.workers, attack, driver="erin")
    found = combined(answers)
    unread(None if found is None else found / factor, secret, what, atol)
    closed(answers, secret, what)
    witness.names("erin")


def test_one_element(scene, witness):
    """A window of one number on a value of 64 rows."""
    attacked(scene, witness, [X], "x[7, 0] of 64 permitted rows", scene.x[7, 0], ref(0, [], 28, []))


def test_one_element_copied(scene, witness):
    operations = [X, call("clone.default", ref(0, [], 28, []), out=5)]
    attacked(scene, witness, operations, "x[7, 0], copied", scene.x[7, 0])


def test_a_row_that_is_summed(scene, witness):
    """Four numbers of one row are no 64 rows."""
    operations = [X, call("sum.dim_IntList", HERS, Seq(items=[1]), out=6)]
    attacked(scene, witness, operations, "the sum of row 7", scene.x[7].sum(), ref(6, [], 7, []))


def test_one_row_64_times(scene, witness):
    """An index that takes the same row again and again."""
    rows = plain(torch.full((64,), 7))
    operations = [
        X,
        call("index_select.default", HERS, 0, rows, out=6),
        call("sum.default", ref(6, [64], 0, [4]), out=5),
    ]
    attacked(scene, witness, operations, "64 x[7, 0]", scene.x[7, 0], factor=64.0)


def test_one_row_that_is_expanded(scene, witness):
    """A window with a stride of zero."""
    operations = [X, call("sum.default", ref(0, [64], 28, [0]), out=5)]
    attacked(scene, witness, operations, "64 x[7, 0], by a stride of zero", scene.x[7, 0], factor=64.0)


def test_the_same_rows_under_two_names(scene, witness):
    """32 rows, twice: two names of one file are one set of rows."""
    operations = [
        load(0, "half", HALF), load(1, "again", HALF),
        call("add.Tensor", ref(0, HALF), ref(1, HALF), out=2), call("sum.default", ref(2, HALF), out=5),
    ]  # fmt: skip
    attacked(scene, witness, operations, "twice a sum of 32 rows", scene.half.sum(), factor=2.0, atol=0.01)


def test_an_element_and_a_mean(scene, witness):
    """x[7, 0] + mean(x): the mean is permitted, and then subtracted."""
    operations = [
        X,
        call("mean.default", HERS, out=6),
        call("add.Tensor", ref(0, [], 28, []), ref(6, []), out=5),
    ]
    attacked(scene, witness, operations, "x[7, 0] + mean(x)", scene.x[7, 0] + scene.x.mean(), factor=64.0)


def test_an_element_to_which_the_rest_is_added_and_taken(scene, witness):
    """In place, and nothing of the other rows is left."""
    operations = [
        X,
        call("sum.default", HERS, out=6),
        call("clone.default", ref(0, [], 28, []), out=5),
        call("add_.Tensor", ref(5, []), ref(6, [])),
        call("sub_.Tensor", ref(5, []), ref(6, [])),
    ]
    attacked(scene, witness, operations, "x[7, 0] + sum(x) - sum(x)", scene.x[7, 0])


def test_an_element_with_others_beside_it(scene, witness):
    """One row, put beside 63 others, is still one row."""
    operations = [
        X,
        call("cat.default", Seq(items=[ref(0, [1, 4], 28), ref(0, [63, 4])]), 0, out=6),
    ]
    attacked(scene, witness, operations, "x[7, 0], with others beside it", scene.x[7, 0], ref(6, [], 0, []))


def test_a_larger_value_of_which_one_row_is_hers(scene, witness):
    """Zeros of the driver's fill it up: numbers without a row of hers beside one that has."""
    operations = [
        X,
        call("mean.default", HERS, out=6),
        call("copy_.default", ref(9, []), ref(6, [])),
        call("copy_.default", ref(9, []), ref(0, [], 28, [])),
    ]
    attacked(scene, witness, operations, "x[7, 0], written over a mean", scene.x[7, 0], ref(9, []))


@pytest.mark.parametrize("early", [False, True], ids=["afterwards", "early"])
def test_one_element_by_a_recorded_step(scene, witness, early):
    """The step was recorded on the driver's values; `early`: the opening is done within the repetition."""

    def attack(client):
        client.own(1, SHAPE, 1.0)
        client.tell(Record(step=1, inputs=[ref(1, SHAPE)], slots=[2], states=[], check=-1))
        client.tell(call("mul.Tensor", ref(2, SHAPE), 2.0, out=3))
        client.tell(Recorded(results=[ref(3, SHAPE)], outs=[4], keep=True), X)
        client.wait()
        client.tell(Repeat(step=1, inputs=[HERS], outs=[5]))
        if not early:
            client.wait()
        return client.open(ref(5, [], 28, []))

    answers = run(scene.workers, attack, driver="erin")
    closed(answers, 2 * scene.x[7, 0], "2 x[7, 0], by a recorded step")
    witness.names("erin")


def test_one_element_that_was_saved(scene, witness):
    """64 rows go to the disk, and one number is opened of what comes back."""
    name = "00000900-00000000000009ab"

    def keep(client):
        client.tell(X, Keep(run="rows", checkpoint=name, digest="d", values={"w": HERS}))
        client.wait()

    def attack(client):
        slot = Slot(slot=0, shape=SHAPE, scale=1 << 16, base=2, digits=16, dtype="float32")
        client.tell(Recall(run="rows", checkpoint=name, digest="d"), Restore(suite="default", values={"w": slot}))
        return client.open(ref(0, [], 28, []))

    run(scene.workers, keep, driver="erin")
    closed(run(scene.workers, attack, driver="erin"), scene.x[7, 0], "x[7, 0], from a checkpoint")
    witness.names("erin")


def test_a_short_batch(scene, witness):
    """63 rows are fewer than 64."""
    operations = [load(0, "x", [63, 4], steps=[("cut", 0, 63, None)]), call("sum.default", ref(0, [63, 4]), out=5)]
    attacked(scene, witness, operations, "a sum of 63 rows", scene.x[:63].sum(), atol=0.01)
