"""Training loops of ranks: repeated, with the words of the same operations one by one; told where ranks differ."""

import random

import pytest
import rank_loops
import torch
import training_loops
from ranks import run_ranks

ALIKE = [
    {"optimizer": "sgd", "after": "prints_loss", "sizes": (300, 120)},  # more than the first part of a message
    {"after": "leaves_garbage", "before": "prints_counters"},
    {"step_of": "TrainStep"},
]
MORE = [
    {"optimizer": "adam", "after": "prints_counters"},
    {"after": "leaves_garbage", "before": "sleeps", "steps": 12},
    {"forward": "keeps_losses"},
    {"after": "looks_at_shares"},
    {"optimizer": "adam", "forward": "shows_loss", "before": "prints_counters"},
    {"forward": "fails_and_goes_on"},
    {"before": "profiles"},
    {"optimizer": "adam", "forward": "prints_loss"},
    {"optimizer": "sgd", "backward": "prints_loss"},
    {"optimizer": "sgd", "step_of": "TrainStep", "before": "leaves_garbage", "after": "prints_loss", "steps": 8},
]


def apart(weights, others):
    return max(float((torch.tensor(a) - torch.tensor(b)).abs().max()) for a, b in zip(weights, others, strict=True))


@pytest.mark.parametrize(
    ("holders", "wanted"),
    [(2, ALIKE), (3, ALIKE[2:]), *(pytest.param(n, [*ALIKE, *MORE], marks=pytest.mark.slow) for n in (2, 3))],
    ids=["2", "3", "2 more", "3 more"],
)
def test_loops_are_repeated(holders, wanted):
    """Whatever one rank looks at or collects between steps."""
    outcomes = run_ranks(holders + 1, rank_loops.each, holders, wanted, patience=240)
    for loop, found in zip(wanted, zip(*outcomes, strict=True), strict=True):
        (weights, _, cost), (others, never, eager) = found[0]
        repeats = max(each for (_, each, _), _ in found)  # who looks before `zero_grad` records once more
        assert apart(weights, others) <= 2**-12, loop
        # where a step is in two, more steps run as written first
        assert repeats or "forward" in loop or "backward" in loop, loop
        assert not never
        assert cost == eager, loop
        for (mine, _, count), (theirs, _, one_by_one) in found:
            assert mine in (weights, None)
            assert theirs in (others, None)
            assert (count, one_by_one) == (cost, eager)


def test_all_ranks_may_look_within_a_step():
    wanted = [{"forward": "everybody_prints_counters"}]
    for [((mine, _, count), (_, _, eager))] in run_ranks(3, rank_loops.each, 2, wanted):
        assert count == eager
        assert mine is None or len(mine) == 4


@pytest.mark.parametrize(
    ("moment", "what"),
    [
        ("backward", "prints_counters"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [("forward", "looks_at_shares"), ("backward", "profiles"), ("forward", "prints_counters")]
        ),
    ],
)
def test_a_rank_that_looks_alone_within_a_step_is_told(moment, what):
    *held, _ = run_ranks(3, rank_loops.alone, 2, {moment: what})
    assert all(isinstance(told, str) and told.startswith("ChannelError: rank ") for told in held), held
    assert any("runs a different program" in told and "at every rank or at none" in told for told in held), held


@pytest.mark.parametrize("alone", [False, True])
def test_a_rank_with_a_rate_of_its_own_is_told(alone):
    *held, provider = run_ranks(3, rank_loops.with_rates, 2, alone)
    if alone:
        assert all(isinstance(told, str) and told.startswith("ChannelError: rank ") for told in held), held
        assert any("runs a different program" in told for told in held), held
    else:
        assert held[0] == held[1]
        assert held[0][1] == provider[1] == 5


def test_the_last_step_is_computed_at_ranks_that_end():
    rounds, *others = run_ranks(3, rank_loops.at_the_end, 2)
    assert isinstance(rounds, int), rounds
    assert rounds > 50
    assert others == [None, None]


def test_a_rank_whose_check_fails_takes_the_others_out():
    """Though its process goes on, and they wait for nothing but its next message."""
    alice, bob, _ = run_ranks(3, rank_loops.alone, 2, {"before": "check_fails"}, 3)
    assert alice.startswith("PysmpcError: a step of this loop does not come to the same when it is repeated"), alice
    assert bob.startswith("ChannelError: rank 0 (alice) has stopped: a step of a training loop failed there"), bob


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "event"), [("forward", "fails"), ("before", "run_fails")])
def test_a_rank_that_fails_in_a_step_is_named(moment, event):
    alice, bob, _ = run_ranks(3, rank_loops.alone, 2, {moment: event})
    assert isinstance(alice, str)
    assert bob.startswith("ChannelError: rank 0 (alice) "), bob
    assert "nothing from" not in bob


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("holders", [2, 3])
def test_every_kind_of_loop_has_the_words_of_its_operations(holders):
    kinds, seed = training_loops.KINDS, random.getrandbits(30)
    names = [kind.__name__ for kind in kinds]
    found, eager = (
        run_ranks(holders + 1, rank_loops.several, holders, names, seed, eager, patience=600) for eager in (False, True)
    )
    for place, kind in enumerate(kinds):
        weights, seen, repeats, cost = found[0][place]
        others, opened, never, one_by_one = eager[0][place]
        assert apart(weights, others) <= 2**-12, kind
        assert seen == pytest.approx(opened, abs=2**-10)
        assert repeats or kind not in training_loops.REPEATED, kind
        assert not never
        assert cost[1:] == one_by_one[1:]
        turns = training_loops.STEPS if kind in training_loops.IN_TURN else 0
        assert one_by_one[0] <= cost[0] <= one_by_one[0] + turns
        assert all(other[place][3] == cost for other in found)
        assert all(other[place][0] == weights for other in found[:-1])
