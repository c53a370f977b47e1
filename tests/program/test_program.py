"""Where a compiled trace has its memory and its streams, and what is done early."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pysmpc._ring import draw
from pysmpc.program.buffers import BufferPlan
from pysmpc.program.check import sends_the_same
from pysmpc.program.compile import Compiled
from pysmpc.program.trace import Trace
from pysmpc.ring import recording, z2k
from pysmpc.ring.prg import EPOCH_BITS, KeySet, fresh_key


def buffers(tensors):
    return {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 11), st.integers(0, 11)), min_size=1, max_size=20))
def test_what_is_needed_at_once_does_not_overlap(pieces):
    tensors = [torch.full((size,), number) for number, (size, _, _) in enumerate(pieces)]
    spans = [(min(a, b), max(a, b)) for _, a, b in pieces]
    calls = [[] for _ in range(12)]
    for number, (tensor, (first, last)) in enumerate(zip(tensors, spans, strict=True)):
        calls[first].append(tensor)
        calls[last].append(tensor[number % len(tensor) :])
    plan = BufferPlan(buffers(tensors), calls)
    moved = plan.moved(tensors)
    for number, (tensor, new) in enumerate(zip(tensors, moved, strict=True)):
        assert new.shape == tensor.shape
        assert new.data_ptr() != tensor.data_ptr()
        inside = tensor[number % len(tensor) :]
        assert plan.moved(inside).data_ptr() - new.data_ptr() == inside.data_ptr() - tensor.data_ptr()
    for call in range(12):
        alive = [n for n, (first, last) in enumerate(spans) if first <= call <= last]
        for n in alive:
            moved[n].fill_(n)
        assert all(bool((moved[n] == n).all()) for n in alive)


def test_numbers_and_other_memory_stay():
    """An integer is never an address, whatever its value."""
    mine, other = torch.zeros(8, dtype=torch.int64), torch.zeros(8)
    plan = BufferPlan(buffers([mine]), [(mine,)])
    numbers = (3, 2**63, "x", None, True, mine.data_ptr(), mine.data_ptr() + 8)
    assert plan.moved((*numbers, other))[:-1] == numbers
    assert plan.moved(other) is other
    assert plan.moved(mine) is not mine


def test_memory_is_used_again():
    made = [torch.zeros(1000, dtype=torch.int64) for _ in range(10)]
    plan = BufferPlan(buffers(made), [(made[i], made[i + 1]) for i in range(9)])
    assert plan.size <= 3 * 8064


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20), st.integers(0, 3))
def test_what_is_read_early_is_what_it_is_at_the_end(copies, wanted):
    """Right after the last call that has to do with it."""
    tensors, found, done = [torch.full((3,), number) for number in range(4)], [], []

    def copy(out, into):
        into[2:].copy_(out[1] + 1)
        done.append(None)

    trace = Trace(0)
    for source, target in copies:
        trace.note(copy, tensors[source], tensors[target])
    trace.note_early(tensors[wanted], lambda read: found.append((read.clone(), len(done))))
    Compiled(trace).run(0)
    [(value, place)] = found
    assert torch.equal(value, tensors[wanted])
    touching = [place for place, pair in enumerate(copies) if wanted in pair]
    assert place == (touching[-1] + 1 if touching else 0)
    assert len(done) == len(copies)


EPOCH = 1 << EPOCH_BITS


@given(
    st.integers(0, 9),
    st.integers(0, 2**30),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=5),
    st.integers(1, 99),
    st.integers(0, 2**30),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=5, max_size=5),
)
def test_streams_are_where_a_run_has_them(epoch, number, spans, later, other, others):
    """Within one epoch; or, held against another trace, where that drew the same ones, over epochs of its own.

    spans, others: how many epochs begin, and how many numbers are drawn then, of one trace and of the other.
    """
    keys = KeySet([fresh_key()])
    keys.follow(bytes(32))
    for _ in range(150):
        keys.follow(fresh_key() * 2)

    def drawn(epoch, number, spans):
        first, found, epochs = (epoch << EPOCH_BITS) + number, [], []
        for begun, count in spans:
            epoch += begun
            epochs.append((number, epoch << EPOCH_BITS))
            found += [(epoch << EPOCH_BITS) + number + i for i in range(count)]
            number += count
        return first, found, epochs

    def found(outs):
        return [int(each) for each in outs]

    def expected(streams):
        return [int(keys.draw(stream, 1)) for stream in streams]

    first, streams, _ = drawn(epoch, number + 1, spans)
    theirs_first, theirs, epochs = drawn(epoch + later, other, others)
    trace = Trace(first)
    outs = [torch.zeros(1, 1, dtype=torch.int64) for _ in range(len(streams) + 2)]
    every = [*streams, first - 1, z2k.Stream(5, 0)]
    with recording.attached(trace):
        for stream, out in zip(every, outs, strict=True):
            z2k.launch(draw, keys.native, stream, None, out, 1)
    assert found(outs) == expected([*streams, first - 1, 5])
    drawing = torch.zeros((), dtype=torch.int64)
    trace.note(recording.Drawing(lambda stream, out: out.fill_(stream)), streams[0], drawing)
    compiled = Compiled(trace)
    start = ((epoch + later) << EPOCH_BITS) + other
    compiled.run(start, [77])
    assert found(outs) == expected([*(start + i for i in range(len(streams))), first - 1, 77])
    assert int(drawing) == start
    against = Trace(theirs_first, log=True)
    against.epochs = epochs
    assert sends_the_same(compiled, against, [77])
    n = min(len(streams), len(theirs))
    assert found(outs)[:n] == expected(theirs[:n])
    assert found(outs)[-2:] == expected([first - 1, 77])
    assert int(drawing) == theirs[0]


def test_recorders_take_notes_of_their_threads():
    mine, theirs = Trace(0), Trace(0)
    x = torch.arange(4)

    def other():
        with recording.attached(theirs):
            z2k.sub(x, x)

    with recording.attached(mine):
        with pytest.raises(RuntimeError, match="already"), recording.attached(Trace(0)):
            pass
        assert recording.active() is mine
        z2k.add(x, x)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    z2k.mul(x, x)
    assert [call.name for call, _ in mine.calls] == ["add"]
    assert [call.name for call, _ in theirs.calls] == ["sub"]
    assert recording.active() is None
