"""Where a tape puts its memory."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pysmpc.tape import Plan


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 11), st.integers(0, 11)), min_size=1, max_size=20))
def test_what_is_needed_at_once_does_not_overlap(pieces):
    tensors = [torch.full((size,), number) for number, (size, _, _) in enumerate(pieces)]
    spans = [(min(a, b), max(a, b)) for _, a, b in pieces]
    calls = [[] for _ in range(12)]
    for number, (tensor, (first, last)) in enumerate(zip(tensors, spans, strict=True)):
        calls[first].append(tensor)
        calls[last].append(tensor.data_ptr() + 8 * (number % len(tensor)))
    plan = Plan({t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}, calls)
    moved = plan.moved(tensors)
    for number, (tensor, new) in enumerate(zip(tensors, moved, strict=True)):
        assert new.shape == tensor.shape
        assert new.data_ptr() != tensor.data_ptr()
        inside = tensor.data_ptr() + 8 * (number % len(tensor))
        assert plan.moved(inside) - new.data_ptr() == inside - tensor.data_ptr()
    for call in range(12):
        alive = [n for n, (first, last) in enumerate(spans) if first <= call <= last]
        for n in alive:
            moved[n].fill_(n)
        assert all(bool((moved[n] == n).all()) for n in alive)


def test_other_numbers_and_memory_stay():
    mine, other = torch.zeros(8, dtype=torch.int64), torch.zeros(8)
    plan = Plan({mine.untyped_storage().data_ptr(): mine.untyped_storage()}, [(mine,)])
    assert plan.moved((3, 2**63, "x", None, True, other))[:5] == (3, 2**63, "x", None, True)
    assert plan.moved(other) is other


def test_memory_is_used_again():
    made = [torch.zeros(1000, dtype=torch.int64) for _ in range(10)]
    calls = [(made[i], made[i + 1]) for i in range(9)]
    plan = Plan({t.untyped_storage().data_ptr(): t.untyped_storage() for t in made}, calls)
    assert plan.size <= 3 * 8064
