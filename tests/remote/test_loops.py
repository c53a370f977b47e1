"""Training loops as they are written, at a driver of workers: those of one process, in one message a step."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch
from remotes import Workers, without_consent
from training_loops import (
    BITS,
    FUNCTIONS,
    KINDS,
    OPTIMIZERS,
    REPEATED,
    STEPS,
    batches_for,
    descend,
    every_loss_opened,
    network,
    opened_before_its_gradient,
    rows_in_some_order,
    run,
    run_on_secrets,
    two_in_turn,
    wavering,
)  # fmt: skip

import pysmpc as sy
from pysmpc.errors import ChannelError, OpenNotPermittedError, PysmpcError
from pysmpc.program.loop import LOOPS, following
from pysmpc.remote.messages import Ack, Beat, Opened

USUAL = [two_in_turn, every_loss_opened, rows_in_some_order]


@pytest.fixture(autouse=True)
def loops():
    """They begin anew in each test."""
    with following() as found:
        yield found


def replays(workers):
    """Of the latest session, at each worker."""
    found = [[a.replay for a in w.attendances.values() if a.replay is not None] for w in workers.workers.values()]
    return [each[-1] for each in found]


def check(workers, kind, steps=STEPS):
    """Values of plain torch; repetitions, rounds and bytes of one process; all parties stand at the same place."""
    models, batches = (network(), network()), batches_for(kind, steps)
    with workers.connect() as parties:
        found, seen, repeats, cost = run_on_secrets(kind, models, batches, parties)
        parties.wait()
        here = parties.stats, parties.session.party.dealer.next_stream
        assert all((r.session.stats, r.session.party.dealer.next_stream) == here for r in replays(workers))
    *_, expected, theirs = run_on_secrets(kind, models, batches, sy.virtual("alice", "bob"))
    assert repeats == expected
    assert repeats or kind not in REPEATED
    assert without_consent(cost.cost, theirs.cost)
    weights, numbers, _ = run(kind, models, batches)
    for one, other in zip(found, weights, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2**-10 if kind in OPTIMIZERS else 2**-12)
    assert seen == pytest.approx(numbers, abs=2**-10)


@pytest.mark.parametrize("kind", USUAL, ids=lambda kind: kind.__name__)
def test_it_is_what_one_process_does(workers, kind):
    check(workers, kind, 8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in USUAL], ids=lambda kind: kind.__name__)
def test_other_kinds_are_what_one_process_does(workers, kind):
    check(workers, kind)


@pytest.mark.parametrize("name", ["pooled", "positive"])
def test_a_gradient_after_its_loss_was_opened(workers, name):
    with workers.connect() as parties:
        opened_before_its_gradient(FUNCTIONS[name], parties)


def test_a_loop_that_changes_its_mind(workers):
    kind = wavering()
    try:
        check(workers, kind, 8)
    except Exception as error:
        error.add_note(f"the steps were {kind.of}")
        raise


class Loop:
    """A model, and a loop that reads its batches from a data set."""

    def __init__(self, parties, x=None):
        self.model = sy.encrypt(network(), parties, frac_bits=BITS)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.x = sy.encrypt(torch.randn(48, 6) if x is None else x, parties, frac_bits=BITS)
        self.y = sy.encrypt(torch.randn(len(self.x), 3), parties, frac_bits=BITS)
        self.turn = 0

    def step(self, items=4):
        start = items * self.turn % len(self.x)
        self.turn += 1
        loss = descend(self.model, self.optimizer, self.x[start : start + items], self.y[start : start + items])
        self.optimizer.step()
        return loss


def test_one_message_a_step(workers):
    with workers.connect() as parties:
        loop = Loop(parties)
        for _ in range(6):
            sy.decrypt(loop.step())
        first, sent, frames, heard = parties.link._next, parties.traffic[0], [], []
        pump = parties.link.flush
        parties.link.flush = lambda: (frames.append(bool(parties.link._batch)), pump())
        take = parties.link.answers.on_message
        parties.link.answers.on_message = lambda *said: (heard.append(said), take(*said))
        for _ in range(5):
            sy.decrypt(loop.step())
            assert LOOPS.repeats
        assert sum(frames) == 5
        assert parties.link._next - first == 5 * 3  # what is free again, the step, the opening
        assert parties.traffic[0] - sent < 5 * 3 * 80
        answers = Counter(type(message) for _, message in heard)
        assert answers[Opened] == 5 * 2  # of each holder the loss
        assert answers[Ack] <= 2 * 3  # of every worker, after 64 operations, how far it is
        assert set(answers) <= {Opened, Ack, Beat}
    with following(), workers.connect(eager=True) as parties:
        loop = Loop(parties)
        for _ in range(6):
            sy.decrypt(loop.step())
        assert not LOOPS.repeats
        assert not any(replay.steps._known for replay in replays(workers))


def test_a_gradient_that_is_opened_right_after_its_step(workers):
    """Of a product of which only the update was wanted the rest is made when it is read, at one place everywhere."""
    found, net, data = [], torch.nn.Linear(160, 128), (torch.randn(4, 160), torch.randn(4, 128))
    with workers.connect() as parties:
        for where in (parties, sy.virtual(eager=True)):
            model = sy.encrypt(copy.deepcopy(net), where, frac_bits=BITS)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
            x, y = (sy.encrypt(each, where, frac_bits=BITS) for each in data)
            for _ in range(6):
                descend(model, optimizer, x, y)
                optimizer.step()
                gradient = sy.decrypt(model.weight.grad)
            assert LOOPS.repeats or found
            found.append([gradient, sy.decrypt(model.weight)])
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=2**-14)


def test_workers_that_keep_few_steps(office):
    """What one would take too many is sent operation by operation."""
    with Workers(office.folder, options={"bob": {"limits": {"steps": 1}}}) as workers, workers.connect() as parties:
        loops, found = [Loop(parties), Loop(parties)], []
        for _ in range(6):
            for loop in loops:
                loop.step()
                found.append(LOOPS.repeats)
        parties.wait()
        assert any(found)
        assert not all(found[-2:])
        assert [len(replay.steps._known) for replay in replays(workers)] == [1] * 3


def test_an_owner_is_asked_as_for_each_operation(office, tmp_path):
    """Her rows are counted in the loss and the weights of repeated steps, whatever they were recorded with."""
    np.save(tmp_path / "x.npy", np.random.default_rng().random((48, 6), dtype=np.float32))
    data = {"x": {"path": str(tmp_path / "x.npy"), "tags": ["#x"]}}
    options = {"alice": {"data": data, "open": {"scientist": {"min_items": 6}}}}
    with Workers(office.folder, options=options) as workers, workers.connect() as parties:
        [pointer] = parties["alice"].search("#x")
        loop = Loop(parties, pointer)
        for _ in range(6):
            assert sy.decrypt(loop.step(items=6)) >= 0
        assert LOOPS.repeats
        loop = Loop(parties, pointer)
        for _ in range(6):
            loss = loop.step(items=4)
            with pytest.raises(OpenNotPermittedError, match="4 of its rows are behind"):
                sy.decrypt(loss)
        assert LOOPS.repeats
        with pytest.raises(OpenNotPermittedError):
            sy.decrypt(loop.model[0].weight)
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), parties)), torch.ones(2))


def test_a_session_that_ends_before_its_step_was_run(workers):
    """Nobody else is troubled by it; who asks for what was promised is told."""
    for broken in (False, True):
        with workers.connect() as parties:
            loop = Loop(parties)
            for _ in range(5):
                loss = loop.step()
            if broken:
                parties.link._drop()
                with pytest.raises(ChannelError):
                    parties.wait()
        here = sy.virtual()
        assert sy.decrypt(sy.encrypt(torch.ones(1), here) + 1) == 2
        with pytest.raises(PysmpcError):
            sy.decrypt(loss)
