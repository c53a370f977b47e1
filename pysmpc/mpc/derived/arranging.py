"""Sorting: rows of secrets, shuffled in secret, whose comparisons are opened.

Rows are brought to an order that nobody knows (`pysmpc.mpc.derived.shuffling`).  Then the outcome of a comparison
says which of two elements is smaller, but not which elements they are.  Equal ones are ordered by where they stood
before, so that all elements are different: whatever the values, the arrangement that holders learn, which shuffled
place has which rank, is uniform among all arrangements, and so tells nothing.  What it would take to turn it to the
order of the values is the secret permutation.  (Hamada, Kikuchi, Ikarashi, Chida, Takahashi, ICISC 2012.)

**Short rows**: every pair of a row is compared at once.  Elements are opened under a mask once and
serve every pair they are in, as in `pysmpc.mpc.additive.maxima`; the dealer knows the permutation and with it which of
equals came first, so that it deals the mask of x_i - x_j - 1 or x_i - x_j for a pair.  For any two elements less than
2^63 apart.

**Long rows**: as in quicksort with many pivots.  A sample of each row is sorted first, by all of its pairs; then there
are a few levels of pivots, from the sample while that has any; then all pairs of what is left in a bucket.
What is compared follows from what was opened, which neither the dealer nor a driver sees: so it is put into a fixed
number of tiles of p pivots and q elements, with a mask for each slot, and then into a fixed list of pairs.  What no
bucket needs is filled with copies of elements that are in the tile, or of the first element of all: of an element and
itself the comparison is known.  Pivots are chosen in proportion to the sizes of buckets, and as many as fill the tiles;
too many pairs for the list have a probability below 2^-40, and raise PartyError.  Elements are compared as
x 2^k + position: |x| < 2^(62 - k), where 2^k is the size of a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from pysmpc.errors import PartyError
from pysmpc.mpc.additive.comparison import circuit_cost, opened_signs
from pysmpc.mpc.additive.truncation import MATERIAL
from pysmpc.mpc.derived.shuffling import Shuffle, noted, shuffle_cost
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.ring import comparison_kernels, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

#: Comparisons that are worth as much as the four rounds of a batch.
BATCH = 1 << 21
#: Elements of a row that may be sorted first.
SAMPLES = (256, 512, 1024, 2048)
#: Pivots and elements of a tile, where buckets are large and where they are not.
TILES = (8, 128), (4, 32)
LARGE = 1 << 11


@dataclass(frozen=True)
class Plan:
    """How rows of n are sorted.

    sample: elements of each row that are sorted first, 0 where all are at once.  tiles: of each level, (how many,
    pivots, elements).  pairs: of the list that is compared in the end.
    """

    rows: int
    n: int
    sample: int = 0
    tiles: tuple[tuple[int, int, int], ...] = ()
    pairs: int = 0

    @property
    def first(self) -> int:
        """Comparisons of whole rows, or of samples of them."""
        k = self.sample or self.n
        return self.rows * (k * (k - 1) // 2)

    @property
    def comparisons(self) -> int:
        """In all."""
        return self.first + sum(count * p * q for count, p, q in self.tiles) + self.pairs

    @property
    def rounds(self) -> int:
        """Batches of comparisons, one after another."""
        return 2 + len(self.tiles) if self.sample else 1


@lru_cache(maxsize=1024)
def plan(rows: int, n: int) -> Plan:
    """The plan with the fewest comparisons, where a batch counts as BATCH of them."""
    plans = [Plan(rows, n)]
    if plans[0].comparisons > BATCH:
        plans += [
            _levels(rows, n, sample, levels, each)
            for sample in SAMPLES if 2 * sample <= n
            for levels in range(1, 5)
            for each in range(8, 136, 8)
        ]  # fmt: skip
    return min(plans, key=lambda found: found.comparisons + BATCH * found.rounds)


def _levels(rows: int, n: int, sample: int, levels: int, each: int) -> Plan:
    """A plan of some levels with `each` comparisons an element.

    Buckets between pivots of a sorted sample are sums of spacings of uniform numbers, and those between other pivots
    are such spacings.  A sum of t of them is (36 + sqrt(72 t)) / t above its mean, 1, with a probability of less than
    e^-36, 2^-40 for as many buckets as there can be.  `pairs` has room for a bucket of that size, beside half as many
    pairs again as are expected.
    """
    size, pivots, spread = float(n), 1, 1.0
    tiles: list[tuple[int, int, int]] = []
    for _ in range(levels):
        p, q = TILES[size < LARGE]
        count = rows * (each // p) * -(-n // q) if not tiles else -(-each * rows * n // (p * q))
        tiles.append((count, p, q))
        size, pivots = spread * size / each, pivots * each
        spread = min(2.0, 1 + pivots / sample)  # the mean square of a size over the square of the mean
    together = max(1.0, sample / pivots)
    largest = size * (1 + (36 + math.sqrt(72 * together)) / together)
    expected = rows * n * size * spread / 2
    if pivots > sample:  # one of the gaps of the sample may be as large, and takes pivots from the others
        expected *= 1 + 36**2 / (sample * rows)
    return Plan(rows, n, sample, tuple(tiles), math.ceil(1.5 * expected + largest**2 / 2))


class Arrangement:
    """Of rows, an order that nobody knows, and the ranks in it, which the holders know.

    order: [rows, n], which shuffled place has which rank; None where no holder is.
    """

    def __init__(self, shuffle: Shuffle, order: torch.Tensor | None) -> None:
        self._shuffle, self._order = shuffle, order

    def placed(self, x: Share) -> Share:
        """Shuffled elements [..., rows, n] by rank.  No message."""
        words = x.words()
        if self._order is not None:
            words = words.view(words.shape[0], -1, *self._order.shape)
            words = words.gather(3, self._order.expand(words.shape)).view(words.shape[0], -1)
        return Share.of(words, x.shape, x.scale)

    def places(self) -> Share:
        """Where the element of each rank stood, [rows, n].  No message."""
        return self.placed(self._shuffle.places())

    def forward(self, x: Share) -> Share:
        """Other elements [..., rows, n] in the order of those that were sorted.  A round for each holder."""
        return self.placed(self._shuffle.move(x))

    def back(self, x: Share) -> Share:
        """Elements by rank, [..., rows, n], to where those stood that were sorted.  A round for each holder."""
        words = x.words()
        if self._order is not None:
            ranked = words.view(words.shape[0], -1, *self._order.shape)
            order = self._order.expand(ranked.shape)
            words = torch.empty_like(ranked).scatter_(3, order, ranked).view(words.shape)
        return self._shuffle.move(Share.of(words.contiguous(), x.shape, x.scale), back=True)


@declares_openings("shuffle", "compare", "arrange")
def arrange(party: Party, x: Share) -> tuple[Share, Arrangement]:
    """Each row of x [rows, n] sorted, the smallest first, equals in the order in which they stood; and how.

    1. Shuffle: a round for each holder.
    2. Compare: four rounds, and of long rows four for each level of the plan, and four for what is left.
    """
    rows, n = x.shape
    shuffle = Shuffle(party, rows, n)
    shuffled = shuffle.move(x)
    found = plan(rows, n)
    if found.sample:
        order = _by_levels(party, shuffled, shuffle, found)
    else:
        order = _all_pairs(party, shuffled, shuffle)
    arrangement = Arrangement(shuffle, order)
    return arrangement.placed(shuffled), arrangement


# --- all pairs ---------------------------------------------------------------------------


def _all_pairs(party: Party, x: Share, shuffle: Shuffle | None) -> torch.Tensor | None:
    """The order of each row of x [rows, n], of every pair at once, four rounds.

    shuffle: which the dealer asks for the order of equals; None where there are none.
    """
    rows, n = x.shape
    first, second = torch.triu_indices(n, n, 1)
    base, keys = party.dealer.streams(MATERIAL), party.dealer.keys
    size = rows * first.numel()

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        r = keys.total(base, rows * n).view(rows, n)
        masks = r[:, first] - r[:, second]
        if shuffle is not None:
            origins = shuffle.origins(keys)
            masks += origins[:, first] < origins[:, second]
        comparison_kernels.compare_deal(keys, base, size, out, masks=masks.reshape(-1))

    corrections = party.dealer.corrections(comparison_kernels.compare_sizes(size)[4], deal)
    [c] = party.channel.open([z2k.truncate_mask(keys, base, 0, x.words())], "compare", [x.shape])
    c = c.view(c.shape[0], rows, n)
    differences = (c[:, :, first] - c[:, :, second]).view(c.shape[0], size)
    less = opened_signs(party, base, corrections, differences)
    if not party.rows:
        return None
    less = less.view(rows, first.numel())
    ranks = torch.zeros((rows, n), dtype=torch.int64)
    ranks.index_add_(1, second, less).index_add_(1, first, 1 - less)
    return torch.empty_like(ranks).scatter_(1, ranks, torch.arange(n).expand(rows, n))


# --- levels of pivots ----------------------------------------------------------------------


def _by_levels(party: Party, x: Share, shuffle: Shuffle, found: Plan) -> torch.Tensor | None:
    """The order of rows: a sample of each, buckets between pivots, and what is left in those."""
    rows, n = x.shape
    places = shuffle.places().words()
    keys = z2k.add(z2k.scale(x.words(), 1 << (n - 1).bit_length()), places)
    order = torch.arange(rows * n)
    bucket = order // n
    # a sample of each row stands first, sorted
    own = keys.view(party.rows, rows, n)[:, :, : found.sample].reshape(party.rows, rows * found.sample)
    sorted_first = _all_pairs(party, Share.of(own.contiguous(), (rows, found.sample)), None)
    if sorted_first is not None:
        sorted_first += torch.arange(rows).unsqueeze(1) * n
        order.view(rows, n)[:, : found.sample] = sorted_first
    for tiles in found.tiles:
        _level(party, keys, order, bucket, tiles, (n, found.sample))
    _pairs(party, keys, order, bucket, found.pairs)
    return order.view(rows, n) - torch.arange(rows).unsqueeze(1) * n if party.rows else None


def _level(
    party: Party,
    x: torch.Tensor,
    order: torch.Tensor,
    bucket: torch.Tensor,
    tiles: tuple[int, int, int],
    rows: tuple[int, int],
) -> None:
    """Split buckets by pivots, four rounds; changes the order of elements and the bucket of each in that order."""
    count, p, q = tiles
    slots = torch.zeros((count, p + q), dtype=torch.int64)
    # where the pivots and elements of a tile are in the order; -1 for none
    at = torch.full((count, p + q), -1, dtype=torch.int64)
    if party.rows:
        noted(_choose, order, bucket, p, at, slots, *rows)
    base, keys, size = party.dealer.streams(MATERIAL), party.dealer.keys, count * p * q

    def differences(words: torch.Tensor) -> torch.Tensor:
        each = words.view(-1, count, p + q)
        return (each[:, :, :p].unsqueeze(3) - each[:, :, p:].unsqueeze(2)).view(words.shape[0], size)

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        masks = differences(keys.total(base, count * (p + q)).unsqueeze(0))
        comparison_kernels.compare_deal(keys, base, size, out, masks=masks[0])

    corrections = party.dealer.corrections(comparison_kernels.compare_sizes(size)[4], deal)
    words = x.index_select(1, slots.view(-1))
    [c] = party.channel.open([z2k.truncate_mask(keys, base, 0, words)], "compare", [tuple(slots.shape)])
    less = opened_signs(party, base, corrections, differences(c))
    if party.rows:
        noted(_regroup, order, bucket, p, at, less)


def _starts(bucket: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each bucket starts, and its size."""
    _, sizes = bucket.unique_consecutive(return_counts=True)
    return sizes.cumsum(0) - sizes, sizes


def _within(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each of `counts` things of each of some owners: the owner, and which of its things it is."""
    owner = torch.arange(counts.numel()).repeat_interleave(counts)
    return owner, torch.arange(owner.numel()) - (counts.cumsum(0) - counts)[owner]


def _choose(
    order: torch.Tensor, bucket: torch.Tensor, p: int, at: torch.Tensor, slots: torch.Tensor, n: int, sample: int
) -> None:
    """Fill tiles: buckets get groups of pivots in proportion to their sizes, as many as there are tiles for.

    The first `sample` elements of each n were sorted; those in a bucket stand first there, and are its pivots, or
    some of them at equal distances.
    """
    count, width = at.shape
    q = width - p
    starts, sizes = _starts(bucket)
    chunks = (sizes + q - 1) // q
    sampled = torch.zeros_like(sizes).index_add_(0, bucket, (order % n < sample).to(torch.int64))

    def groups(share: int) -> torch.Tensor:
        return torch.minimum((sizes * share + (1 << 19)) >> 20, sizes // p)

    low, high = 0, 1 << 20  # in integers, so that every holder finds the same
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if int((groups(middle) * chunks).sum()) <= count else (low, middle)
    given = groups(low)
    owner, number = _within(given * chunks)
    group, chunk = number // chunks[owner], number % chunks[owner]
    used = owner.numel()
    at.fill_(-1)
    pivot, wanted = (group * p).unsqueeze(1) + torch.arange(p), (given[owner] * p).unsqueeze(1)
    known = sampled[owner].unsqueeze(1)
    spread = (2 * pivot + 1) * known // (2 * wanted)
    at[:used, :p] = starts[owner].unsqueeze(1) + torch.where(wanted <= known, spread, pivot)
    inside = (chunk * q).unsqueeze(1) + torch.arange(q)
    at[:used, p:] = torch.where(inside < sizes[owner].unsqueeze(1), starts[owner].unsqueeze(1) + inside, -1)
    slots.zero_()
    slots[:used] = order[torch.where(at[:used] < 0, at[:used, :1], at[:used])]


def _regroup(order: torch.Tensor, bucket: torch.Tensor, p: int, at: torch.Tensor, less: torch.Tensor) -> None:
    """New buckets: what is between two pivots, and every pivot by itself.  less: [tiles * pivots * elements]."""
    q = at.shape[1] - p
    rank = torch.zeros_like(order)
    elements, below = at[:, p:].reshape(-1), less.view(-1, p, q).sum(1).reshape(-1)
    rank.index_add_(0, elements.clamp(min=0), below * (elements >= 0))
    pivots = at[:, :p].reshape(-1)
    single = torch.zeros_like(order)
    single[pivots[pivots >= 0]] = 1
    found = (bucket * (int(rank.max()) + 1) + rank) * 2 + single
    found, by = found.sort(stable=True)
    order.copy_(order[by])
    bucket.copy_(found.unique_consecutive(return_inverse=True)[1])


def _pairs(party: Party, x: torch.Tensor, order: torch.Tensor, bucket: torch.Tensor, count: int) -> None:
    """Sort what is left in buckets by all of its pairs, four rounds; changes the order."""
    ids, at = (torch.zeros((2, count), dtype=torch.int64) for _ in range(2))
    if party.rows:
        noted(_list_pairs, order, bucket, at, ids)
    base, keys = party.dealer.streams(MATERIAL), party.dealer.keys
    corrections = party.dealer.corrections(
        comparison_kernels.compare_sizes(count)[4],
        lambda keys, out: comparison_kernels.compare_deal(keys, base, count, out),
    )
    words = z2k.sub(x.index_select(1, ids[0]), x.index_select(1, ids[1]))
    [c] = party.channel.open([z2k.truncate_mask(keys, base, 0, words)], "compare", [(count,)])
    less = opened_signs(party, base, corrections, c)
    if party.rows:
        noted(_rank, order, bucket, at, less)


def _list_pairs(order: torch.Tensor, bucket: torch.Tensor, at: torch.Tensor, ids: torch.Tensor) -> None:
    """Every pair of a bucket: where its elements are in the order (-1 for none), and which they are."""
    starts, sizes = _starts(bucket)
    ends = (starts + sizes).repeat_interleave(sizes)
    first, number = _within(ends - 1 - torch.arange(order.numel()))
    if first.numel() > at.shape[1]:
        raise PartyError("this shuffle, by a chance of less than 2^-40, cannot be sorted within its plan; sort again")
    at.fill_(-1)
    at[0, : first.numel()], at[1, : first.numel()] = first, first + 1 + number
    ids.zero_()
    ids[:, : first.numel()] = order[at[:, : first.numel()]]


def _rank(order: torch.Tensor, bucket: torch.Tensor, at: torch.Tensor, less: torch.Tensor) -> None:
    """Order each bucket by how many of its elements are smaller."""
    used = int((at[0] >= 0).sum())
    starts, sizes = _starts(bucket)
    rank = starts.repeat_interleave(sizes)
    rank.index_add_(0, at[1, :used], less[:used]).index_add_(0, at[0, :used], 1 - less[:used])
    order.copy_(torch.empty_like(order).scatter_(0, rank, order))


# --- what it costs -------------------------------------------------------------------------


def arrange_cost(holders: int, rows: int, n: int) -> Cost:
    """Of sorting rows of n elements, without their places."""
    found = plan(rows, n)
    k = found.sample or n
    cost = shuffle_cost(holders, rows * n) + opening(holders, rows * k) + circuit_cost(holders, found.first)
    if not found.sample:
        return cost
    cost += Cost(dealt=8 * rows * n)
    for count, p, q in found.tiles:
        cost += opening(holders, count * (p + q)) + circuit_cost(holders, count * p * q)
    return cost + opening(holders, found.pairs) + circuit_cost(holders, found.pairs)
