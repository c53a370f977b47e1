"""A driver that asks whether alice's values are in a range, without her consent: the outcome of a test as an oracle."""

import pytest
import torch
from client import PROVIDER, call, load, plain, ref, run
from verdicts import closed

from pysmpc.remote.messages import Denied
from pysmpc.remote.program_messages import Record, Recorded

SHAPE = [64, 4]
ALICE_BOB = ("alice", "bob")
#: Every party is told to test ranges.
CHECKED = {name: {"checked": True} for name in (*ALICE_BOB, "carol", PROVIDER)}


def probe(factor, row=7):
    """Whether alice's row, times a public factor, may be squared: a test whose bound the driver chooses."""
    return [
        load(0, "x", SHAPE),
        call("mul.Tensor", ref(0, [1, 4], 4 * row), plain(torch.tensor(factor)), out=1),
        call("mul.Tensor", ref(1, [1, 4]), ref(1, [1, 4]), out=2),
    ]


def outcome(scene, factor, driver="scientist", **options):
    """What each holder answers to the opening of a value of the driver's own, after such a test."""

    def attack(client):
        client.own(9, [3], 1.0)
        client.tell(*probe(factor))
        return client.open(ref(9, [3]))

    return run(scene.workers, attack, driver=driver, setups=CHECKED, **options)


@pytest.mark.parametrize("holders", [ALICE_BOB, ("alice", "bob", "carol")])
def test_the_outcome_of_a_test_is_hers(scene, witness, holders):
    """The value that is opened is the driver's; whether it comes says whether alice's row is small."""
    said = []
    for factor in (1e-3, 3e6):
        answers = outcome(scene, factor, holders=holders)
        closed(answers, torch.ones(3), "the outcome of a test of alice's row, by a value that comes or does not")
        said.append({name: (each.kind, each.text) for name, each in answers.items() if isinstance(each, Denied)})
    if said[0] != said[1]:
        pytest.fail(f"read from the answers whether alice's row is small: {said}")
    assert said[0]
    witness.names("scientist", "range flag")


def test_one_row_behind_the_outcome(scene, witness):
    """erin may open numbers of 64 rows; the outcome of a test of one row is none."""
    for factor in (1e-3, 3e6):
        closed(outcome(scene, factor, driver="erin"), torch.ones(3), "the outcome of a test of one row")
    witness.names("erin", "1 of its rows is behind a value that was tested")


def test_an_outcome_that_was_refused_is_not_forgotten(scene, witness):
    """The second opening would otherwise come, and say nothing went wrong: or it would not."""

    def attack(client):
        client.own(9, [3], 1.0)
        client.tell(*probe(3e6))
        first = client.open(ref(9, [3]))
        closed(first, torch.ones(3), "the driver's own value")
        client.tell(call("neg.default", ref(9, [3]), out=10))
        return client.open(ref(10, [3]))

    closed(run(scene.workers, attack, setups=CHECKED), -torch.ones(3), "the driver's own value, the second time")
    witness.names("scientist", "range flag")


def test_a_test_within_a_recorded_step(scene, witness):
    """A step would hide what is tested from whoever keeps account of it: there is none in such a session."""

    def attack(client):
        client.own(9, [3], 1.0)
        client.tell(load(0, "x", SHAPE))
        client.tell(Record(step=1, inputs=[ref(0, SHAPE)], slots=[3], states=[], check=-1))
        client.tell(call("mul.Tensor", ref(3, SHAPE), ref(3, SHAPE), out=4))
        client.tell(Recorded(results=[ref(4, SHAPE)], outs=[5], keep=True))
        return client.open(ref(9, [3]))

    closed(run(scene.workers, attack, setups=CHECKED), torch.ones(3), "the driver's own value")
    witness.names("scientist", "records no steps")


def test_ranges_are_tested_at_some_of_the_parties(scene, witness):
    """alice is told of a session without tests, so that she would not be asked about their outcome."""

    def attack(client):
        client.own(9, [3], 1.0)
        client.tell(*probe(3e6))
        return client.open(ref(9, [3]))

    setups = {name: told for name, told in CHECKED.items() if name != "alice"}
    closed(run(scene.workers, attack, setups=setups, patience=4.0), torch.ones(3), "the driver's own value")
    witness.names("scientist")
