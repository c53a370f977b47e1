"""Where a tape puts its memory, and what is done early."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pysmpc.arena import Arena
from pysmpc.prg import EPOCH_BITS
from pysmpc.tape import Fresh, Given, Tape


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 11), st.integers(0, 11)), min_size=1, max_size=20))
def test_what_is_needed_at_once_does_not_overlap(pieces):
    tensors = [torch.full((size,), number) for number, (size, _, _) in enumerate(pieces)]
    spans = [(min(a, b), max(a, b)) for _, a, b in pieces]
    calls = [[] for _ in range(12)]
    for number, (tensor, (first, last)) in enumerate(zip(tensors, spans, strict=True)):
        calls[first].append(tensor)
        calls[last].append(tensor.data_ptr() + 8 * (number % len(tensor)))
    arena = Arena({t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}, calls)
    moved = arena.moved(tensors)
    for number, (tensor, new) in enumerate(zip(tensors, moved, strict=True)):
        assert new.shape == tensor.shape
        assert new.data_ptr() != tensor.data_ptr()
        inside = tensor.data_ptr() + 8 * (number % len(tensor))
        assert arena.moved(inside) - new.data_ptr() == inside - tensor.data_ptr()
    for call in range(12):
        alive = [n for n, (first, last) in enumerate(spans) if first <= call <= last]
        for n in alive:
            moved[n].fill_(n)
        assert all(bool((moved[n] == n).all()) for n in alive)


def test_other_numbers_and_memory_stay():
    mine, other = torch.zeros(8, dtype=torch.int64), torch.zeros(8)
    arena = Arena({mine.untyped_storage().data_ptr(): mine.untyped_storage()}, [(mine,)])
    assert arena.moved((3, 2**63, "x", None, True, other))[:5] == (3, 2**63, "x", None, True)
    assert arena.moved(other) is other


def test_memory_is_used_again():
    made = [torch.zeros(1000, dtype=torch.int64) for _ in range(10)]
    calls = [(made[i], made[i + 1]) for i in range(9)]
    arena = Arena({t.untyped_storage().data_ptr(): t.untyped_storage() for t in made}, calls)
    assert arena.size <= 3 * 8064


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20), st.integers(0, 3))
def test_what_is_read_early_is_what_it_is_at_the_end(copies, wanted):
    """Right after the last call that has to do with it."""
    tensors, found = [torch.full((3,), number) for number in range(4)], []
    tape = Tape(0)
    for source, target in copies:
        addresses = tensors[target].data_ptr() + 16, tensors[source].data_ptr() + 8  # as compiled calls have them
        tape.note(lambda *_, into=tensors[target], out=tensors[source]: into.copy_(out + 1), *addresses)
    tape.note_early(tensors[wanted], lambda read: found.append((read.clone(), len(done))))
    done = []
    tape._calls = [(_then(call, done), args, marked) for call, args, marked in tape._calls]
    assert tape.run(0)
    [(value, place)] = found
    assert torch.equal(value, tensors[wanted])
    touching = [place for place, pair in enumerate(copies) if wanted in pair]
    assert place == (touching[-1] + 1 if touching else 0)
    assert len(done) == len(copies) + 1


EPOCH = 1 << EPOCH_BITS


@given(
    st.integers(0, 9),
    st.integers(0, 2**30),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 99)), min_size=1, max_size=5),
    st.integers(0, 99),
    st.integers(0, 2**30),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 99)), min_size=5, max_size=5),
)
def test_streams_are_where_a_run_has_them(epoch, number, spans, later, other, others):
    """Within one epoch; or, held against another recording, where that drew the same ones, over epochs of its own.

    spans, others: how many epochs begin, and how many numbers are drawn then, of one recording and of the other.
    """

    def recording(epoch, number, spans):
        first, found, epochs = (epoch << EPOCH_BITS) + number, [], []
        for begun, count in spans:
            epoch += begun
            epochs.append((number, epoch << EPOCH_BITS))
            found += [(epoch << EPOCH_BITS) + number + i for i in range(count)]
            number += count
        return first, found, epochs

    first, streams, _ = recording(epoch, number, spans)
    theirs_first, theirs, epochs = recording(epoch + later, other, others)
    tape, seen = Tape(first), []
    for stream in streams:
        tape.note(lambda *args: seen.append(args), Fresh(stream), (stream, Fresh(stream)), stream)
    tape.note(lambda *args: seen.append(args), Given(5, 0), first)
    start = ((epoch + later) << EPOCH_BITS) + other
    assert tape.run(start, [77])
    moved = [start + i for i in range(len(streams))]
    assert seen.pop() == (77, first)
    assert seen == [(there, (stream, there), stream) for there, stream in zip(moved, streams, strict=True)]
    seen.clear()
    assert tape.run(theirs_first, [77], [], epochs)
    n = min(len(streams), len(theirs))
    assert [args[0] for args in seen[:n]] == [args[1][1] for args in seen[:n]] == theirs[:n]
    assert all(args[2] == stream for args, stream in zip(seen[:n], streams[:n], strict=True))


def _then(call, done):
    def both(*args):
        call(*args)
        done.append(call)

    return both
