"""What an owner refuses stays closed: no share of it is given by anybody, and an approval is for one value."""

import pytest
import torch
from client import PROVIDER, Client, call, combined, fetch, load, ref, run
from verdicts import closed, kept, unread

from pysmpc.remote.program_messages import Drop, Open
from pysmpc.remote.worker import approvals

SHAPE = [64, 4]


@pytest.mark.parametrize("holders", [("alice", "bob"), ("alice", "bob", "carol")])
def test_the_others_shares_of_what_she_refuses(scene, witness, holders):
    def attack(client):
        client.tell(load(0, "x", SHAPE))
        return client.open(ref(0, SHAPE))

    answers = run(scene.workers, attack, holders=holders)
    assert not isinstance(answers["alice"], torch.Tensor)
    closed(answers, scene.x, "what alice refuses")
    witness.names("scientist", "alice")


def test_a_value_of_two_owners(scene, witness):
    """bob consents to what is his and alice's, and alice does not."""

    def attack(client):
        client.tell(load(0, "x", SHAPE), load(1, "y", SHAPE, owner="bob"))
        client.tell(call("add.Tensor", ref(0, SHAPE), ref(1, SHAPE), out=2))
        return client.open(ref(2, SHAPE))

    kept(run(scene.workers, attack), "a sum of alice's and bob's, which alice refuses")
    witness.names("scientist")


def test_a_value_of_which_another_owner_refuses_a_part(scene, witness):
    """alice lets erin open a sum of her rows; carol, whose number is in it, does not."""

    def attack(client):
        client.tell(load(0, "x", SHAPE), load(1, "z", SHAPE, owner="carol"))
        client.tell(call("add.Tensor", ref(0, SHAPE), ref(1, SHAPE), out=2), call("sum.default", ref(2, SHAPE), out=3))
        return client.open(ref(3, []))

    answers = run(scene.workers, attack, holders=("alice", "bob", "carol"), driver="erin")
    kept(answers, "a sum of alice's and carol's, which carol refuses")
    witness.names("erin", "carol")


@pytest.mark.parametrize("asked", ["bob", "carol"])
def test_one_holder_alone_is_asked(scene, witness, asked):
    """alice never hears of it."""

    def attack(client):
        client.tell(load(0, "x", SHAPE))
        return client.open(ref(0, SHAPE), only=[asked])

    answers = run(scene.workers, attack, holders=("alice", "bob", "carol"), patience=3.0)
    kept(answers, "alice's rows, for which alice was not asked")
    witness.names("scientist")


def test_another_value_is_asked_of_her(scene, witness):
    """alice is asked for the driver's value, and bob for hers."""

    def attack(client):
        client.tell(load(0, "x", SHAPE))
        client.own(1, SHAPE)
        hers, mine = ref(0, SHAPE), ref(1, SHAPE)
        return client.open({"alice": mine, "bob": hers, PROVIDER: mine})

    kept(run(scene.workers, attack), "different values, of which one is alice's")
    witness.names("scientist")


def test_a_product_of_what_she_refuses(scene, witness):
    """Shares of a product with a number that the driver knows say as much as those of the value."""

    def attack(client):
        client.tell(load(0, "x", SHAPE))
        client.own(1, SHAPE, 2.0)
        client.tell(call("mul.Tensor", ref(0, SHAPE), ref(1, SHAPE), out=2))
        return client.open(ref(2, SHAPE))

    closed(run(scene.workers, attack), scene.x, "twice what alice refuses")
    witness.names("scientist")


@pytest.mark.parametrize("data", ["x", "half"])
def test_get_without_a_right(scene, witness, data):
    """In the clear."""
    found = run(scene.workers, lambda client: client.asked(fetch(data, SHAPE), ["alice"]))
    unread(found["alice"] if isinstance(found["alice"], torch.Tensor) else None, scene.x, "alice's rows, by get")
    kept(found, f"{data}, by get")
    witness.names("scientist", "get")


def test_a_pointer_whose_steps_name_a_secret(scene, witness):
    """A value in a slot as an argument of what alice does to her data before she shares them."""

    def attack(client):
        client.own(0, [])
        client.tell(load(1, "x", SHAPE, steps=[("scale", 1.0, ref(0, []))]))
        return client.open(ref(1, SHAPE))

    answers = run(scene.workers, attack, patience=2.0)
    closed(answers, scene.x, "alice's rows, by a secret among the steps")
    assert answers["alice"] is not None, "alice computes with a secret among her steps, and waits for the others"
    witness.names("scientist")


# --- approvals ----------------------------------------------------------------------


def state(scene):
    return str(scene.folder / "alice.state")


def approve_all(scene):
    """alice approves whatever waits; whether something did."""
    there = approvals.waiting(state(scene))
    return all(approvals.approve(state(scene), request.id) for request in there) and bool(there)


@pytest.fixture
def nothing_waits(scene):
    yield
    for request in approvals.waiting(state(scene)):
        (scene.folder / "alice.state" / "waiting" / request.id).unlink(missing_ok=True)


def mean(client):
    """What alice approves: one number from all of her rows.  A driver's number takes a slot first."""
    client.own(3, [])
    client.tell(load(0, "x", SHAPE))
    client.tell(call("sum.default", ref(0, SHAPE), out=1))
    return client.open(ref(1, []))


def one(client):
    """What she has not seen: one raw number, in the same slot, after as many operations."""
    client.own(3, [])
    client.tell(load(0, "x", SHAPE))
    client.tell(call("clone.default", ref(0, [], 28, []), out=1))
    return client.open(ref(1, []))


def approved(scene, session, attack=mean):
    """alice approves what the driver waits for, while its session lives."""

    def asked(client):
        answers = attack(client)
        assert not isinstance(answers["alice"], torch.Tensor), "alice was not asked"
        assert approve_all(scene)

    run(scene.workers, asked, driver="dave", session=session)


def restart(scene):
    """All workers stop and start again: sessions are gone, folders stay."""
    scene.workers.stop()
    scene.__enter__()


def test_an_approval_after_a_restart(scene, witness, nothing_waits):
    """The driver chooses the session's name: the same again, and another program comes to the approved request."""
    approved(scene, "chosen-by-the-driver")
    restart(scene)
    answers = run(scene.workers, one, driver="dave", session="chosen-by-the-driver")
    unread(combined(answers), scene.x[7, 0], "one number of alice's by the approval of a sum", atol=1e-3)
    kept(answers, "a value that was never approved")
    witness.names("dave")


def test_an_approval_in_another_session(scene, witness, nothing_waits):
    approved(scene, "first")
    answers = run(scene.workers, one, driver="dave", session="second")
    closed(answers, scene.x[7, 0], "one number of alice's by the approval of a sum in another session")
    witness.names("dave")


def test_an_approved_value_is_exchanged(scene, witness, nothing_waits):
    """The slot is dropped and filled again between the approval and the opening."""

    def attack(client):
        client.own(3, [])
        client.tell(load(0, "x", SHAPE))
        client.tell(call("sum.default", ref(0, SHAPE), out=1))
        client.open(ref(1, []))
        assert approve_all(scene)
        client.tell(Drop(slots=[1]), call("clone.default", ref(0, [], 28, []), out=1))
        return client.open(ref(1, []))

    closed(run(scene.workers, attack, driver="dave"), scene.x[7, 0], "another number than the approved one")
    witness.names("dave")


def test_a_request_of_a_driver_who_left(scene, witness, nothing_waits):
    """Nothing is left to approve once nobody waits for it."""
    run(scene.workers, mean, driver="dave", session="left")
    for attendance in list(scene.workers.workers["alice"].attendances.values()):
        attendance.gone.wait(5)
    left = approvals.waiting(state(scene))
    assert not left, f"requests of a driver who left can still be approved: {left}"


# --- replays ------------------------------------------------------------------------


def test_an_opening_under_a_number_that_was_used(scene, witness):
    """Operations have numbers; one that was done is not done again for another value."""

    def attack(client):
        client.tell(load(0, "x", SHAPE))
        client.own(1, SHAPE)
        answers = client.open(ref(1, SHAPE))
        assert combined(answers) is not None
        client._sent = dict.fromkeys(client.names, 0)  # from the beginning
        client.tell(Open(ref=ref(0, SHAPE), state=[0, 0, 0, 0], receiver="scientist"))
        client.wait()
        return client.answers["alice"], client.answers["bob"]

    for answers in run(scene.workers, attack):
        shares = [each for each in answers.values() if isinstance(each, torch.Tensor)]
        assert len(shares) <= 1, "a share was given for a number that was used"
    witness.names("scientist", "sent operation")


def test_two_sessions_of_one_name(scene, witness):
    """alice's end of one session must not meet bob's of another."""
    client = Client(scene.workers, session="twice")
    try:
        client.tell(load(0, "x", SHAPE))
        client.wait()
        second = Client(scene.workers, session="twice")
        try:
            second.own(0, SHAPE)
            mine = combined(second.open(ref(0, SHAPE)))
            assert mine is None or not mine.any(), "the driver's zeros are something else: two sessions have met"
        finally:
            second.close()
        unread(combined(client.open(ref(0, SHAPE))), scene.x, "alice's rows")
    finally:
        client.close()
