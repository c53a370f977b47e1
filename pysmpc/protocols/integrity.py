"""Message authentication codes mod 2^132: what is opened wrongly is found (SPDZ_2k).

Cramer, Damgard, Escudero, Scholl, Xing, CRYPTO 2018.  A secret x is held as a wide number
x~ = x mod 2^64 (pysmpc.wide), in additive shares mod 2^132, with shares of alpha x~ for a
key alpha of 88 bits that is itself shared.  Both are linear, so every share that is
computed has its code.  Holder i opens only the lower word of its share,
l_i = x~_i mod 2^64; the rest, u_i with x~_i = l_i + 2^64 u_i, stays with it for `check`:

1.  All compare digests of what they saw opened, and commit to seeds.
2.  They open the seeds: 48 sets of openings, every opening in each with probability 1/2,
    that nobody could know when it sent its words.
3.  For each set they open U = sum of u under a dealt mask, which gives the sum of x~ as
    Y = sum of all l + 2^64 U.
4.  Each commits to z_i = (sum of its codes) - alpha_i Y,
5.  and opens it.  The z_i must add up to 0.

Soundness.  Let words be opened with errors e_j (integers, not 0 mod 2^64 for at least one
j), chosen before step 2, and U with errors f_k chosen after.  Set k has the error
E_k = (sum of e_j over the set) + 2^64 f_k.  Where E_k mod 2^64 is not 0, which f_k has no
influence on, the check passes only if the adversary's error of the z is alpha E_k mod 2^132;
E_k has at most 63 factors of two, so that determines 69 bits of alpha, of which nothing
is known: probability 2^-69.  E_k mod 2^64 is 0 with probability at most 1/2 for each k (turn
one opening j with e_j != 0 in or out of the set), independently: 2^-48 for all.  In
all, at most 2^-47.  (A coefficient of s bits in place of the sets, as in the paper's
batch check, does not do here: an even coefficient hides an error of 2^63.)

Secrecy.  The words are opened as without codes; U is under a fresh uniform mask; the z_i are
uniform but for their sum, as the codes of those masks are fresh.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Any

import torch

from pysmpc import ring, wide
from pysmpc.errors import IntegrityError
from pysmpc.prg import KeySet
from pysmpc.protocols.interfaces import Cost, Party

SETS = 48
KEY_LANES = 4
MOST = 1 << 19  # openings that wait for a check, in elements
DIGEST = 4  # words
UPPER = 34  # bits of each of the two words in which what is above 2^64 travels
SEED = 2


@dataclass
class Opening:
    """What was opened, until it is checked: shares and codes [rows, 6, n], the sum of all lower words."""

    cause: str
    shape: tuple[int, ...]
    serial: int
    share: torch.Tensor
    code: torch.Tensor
    lower: torch.Tensor  # [3, n] lanes, or nothing where no holder is hosted


@dataclass
class State:
    """A session's key, and the openings that wait."""

    stream: int
    key: torch.Tensor  # [rows, 4, 1]
    waiting: list[Opening] = field(default_factory=list)
    opened: int = 0
    broken: str = ""


def state(party: Party) -> State:
    """The session's key, drawn at first use.  No message."""
    if party.integrity is None:
        stream = party.dealer.streams()
        party.integrity = State(stream, _key_shares(party.dealer.keys, stream))
    found: State = party.integrity
    return found


def _key_shares(keys: KeySet, stream: int) -> torch.Tensor:
    return (keys.draw(stream, KEY_LANES) & wide.MASK).unsqueeze(-1)


def code_of(keys: KeySet, stream: int, values: torch.Tensor) -> torch.Tensor:
    """Dealer: alpha * values for wide values [6, n]."""
    return wide.mul(values, _key_shares(keys, stream).sum(0))


# --- dealt values ---------------------------------------------------------------------


def _uniform(keys: KeySet, stream: int, n: int) -> torch.Tensor:
    return (keys.draw(stream, wide.LANES * n) & wide.MASK).view(keys.rows, wide.LANES, n)


def _corrected(keys: KeySet, stream: int, values: torch.Tensor, out: torch.Tensor) -> None:
    """Dealer: the last holder's shares of wide values, the others' being those of the stream."""
    rest = _uniform(keys, stream, values.shape[-1])[:-1].sum(0)
    out.copy_(wide.pack(wide.normal(values - rest)).reshape(-1))


def _received(keys: KeySet, stream: int, n: int, corrections: torch.Tensor | None) -> torch.Tensor:
    """Holders: shares [rows, 6, n] of values that were dealt."""
    shares = _uniform(keys, stream, n)
    if corrections is not None:
        shares[-1] = wide.unpack(corrections.view(wide.WORDS, n))
    return shares


def mask_total(keys: KeySet, stream: int, n: int) -> torch.Tensor:
    """Dealer: the wide values [6, n] of a mask."""
    return wide.normal(_uniform(keys, stream, n).sum(0))


def deal_mask(party: Party, n: int) -> tuple[int, torch.Tensor]:
    """(stream, words [rows * 12, n]) of uniform wide numbers with their codes.  24 bytes an element dealt."""
    own = state(party)
    stream = party.dealer.streams(2)
    size = wide.WORDS * n

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        _corrected(keys, stream + 1, code_of(keys, own.stream, mask_total(keys, stream, n)), out)

    dealt = party.dealer.corrections(size, deal)
    keys = party.dealer.keys
    return stream, joined(_uniform(keys, stream, n), _received(keys, stream + 1, n, dealt))


def deal(party: Party, n: int, values: Any) -> torch.Tensor:
    """Words [rows * 12, n] of values that the dealer computes: values(keys) -> [n] words, or wide [6, n].

    48 bytes an element dealt.
    """
    own = state(party)
    stream = party.dealer.streams(2)
    size = wide.WORDS * n

    def dealing(keys: KeySet, out: torch.Tensor) -> None:
        found = values(keys)
        lanes = wide.extended(wide.split(found)) if found.dim() == 1 else found
        _corrected(keys, stream, lanes, out[:size])
        _corrected(keys, stream + 1, code_of(keys, own.stream, lanes), out[size:])

    dealt = party.dealer.corrections(2 * size, dealing)
    keys = party.dealer.keys
    halves = (None, None) if dealt is None else (dealt[:size], dealt[size:])
    return joined(*(_received(keys, stream + i, n, half) for i, half in enumerate(halves)))


MASK_COST = 8 * wide.WORDS
VALUE_COST = 16 * wide.WORDS


# --- shares with codes as the words of a body ------------------------------------------


def joined(share: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """[rows, 6, n] shares and codes as [rows * 12, n]."""
    return flat(torch.stack([share, code], 1))


def flat(x: torch.Tensor) -> torch.Tensor:
    """[rows, 2, 6, n] as the words of a body."""
    return x.reshape(x.shape[0] * 2 * wide.LANES, x.shape[-1])


def parted(words: torch.Tensor) -> torch.Tensor:
    """[rows * 12, n] as normal [rows, 2, 6, n]: shares and codes."""
    return wide.normal(words.reshape(words.shape[0] // (2 * wide.LANES), 2, wide.LANES, words.shape[1]))


def add_public(party: Party, words: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Words of the secrets plus public words [n]: to the leading holder's share, and alpha_i times to each code."""
    lanes = wide.extended(wide.split(values))
    out = words.reshape(party.rows, 2, wide.LANES, words.shape[-1]).clone()
    if party.lead is not None:
        out[party.lead, 0] += lanes
    out[:, 1] += wide.mul(lanes, state(party).key)
    return out.reshape(words.shape)


# --- opening and checking ----------------------------------------------------------------


def open_words(party: Party, messages: list[torch.Tensor], cause: str, shapes: list[tuple[int, ...]]) -> list[Any]:
    """Lower words [1 or 0, n] of each words [rows * 12, n]: one round.  What they came from waits for a check."""
    own = state(party)
    if own.broken:
        raise IntegrityError(f"this session ended when {own.broken}; start a new one")
    if sum(o.share.shape[-1] for o in own.waiting) > MOST:
        check(party)
    pairs = [parted(m) for m in messages]
    sizes = [m.shape[1] for m in messages]
    lower = [wide.low(pair[:, 0]) for pair in pairs]
    rows = party.channel.gather(torch.cat(lower, 1), cause, shapes)
    out = []
    for pair, shape, part in zip(pairs, shapes, rows.split(sizes, 1), strict=True):
        own.opened += 1
        sums = wide.split(part).sum(0)
        own.waiting.append(Opening(cause, tuple(shape), own.opened, pair[:, 0], pair[:, 1], sums))
        out.append(part.sum(0, keepdim=True) if len(part) else part)
    return out


def check(party: Party) -> None:
    """Raise IntegrityError unless all that waits was opened as it was shared.  Five rounds, or none."""
    own = state(party)
    waiting, own.waiting = own.waiting, []
    found = _fault(party, own, waiting) if waiting else ""
    if found:
        own.broken = f"{found} was found altered"
        raise IntegrityError(f"{own.broken}: a holder deviated from the protocol, and no result is returned")


def check_cost(holders: int) -> Cost:
    """Of any number of openings."""
    words = 2 * DIGEST + SEED + (2 + wide.WORDS) * SETS + DIGEST + DIGEST
    return Cost(5, 8 * words * (holders - 1), dealt=MASK_COST * SETS)


def _digest(*parts: torch.Tensor) -> torch.Tensor:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.contiguous().numpy().tobytes())
    return torch.frombuffer(bytearray(found.digest()), dtype=torch.int64)


def _random(words: int) -> torch.Tensor:
    return torch.frombuffer(bytearray(os.urandom(8 * words)), dtype=torch.int64)


def _sums(bits: torch.Tensor, lanes: torch.Tensor) -> torch.Tensor:
    """[SETS, n] of 0 and 1 times lanes [..., n]: [..., SETS], exact in float64 for n <= 2^30."""
    out: torch.Tensor = (lanes.double() @ bits.t().double()).to(torch.int64)
    return out


def _fault(party: Party, own: State, waiting: list[Opening]) -> str:
    """The check of the module's description: what is wrong, or nothing."""
    rows = party.rows
    # 1. digests and commitments
    transcript = _digest(*(o.lower for o in waiting)) if rows else ring.empty(DIGEST)
    seeds = [_random(SEED) for _ in range(rows)]
    first = [torch.cat([transcript, _digest(transcript, seed)]) for seed in seeds]
    seen = party.channel.gather(_stacked(first, 2 * DIGEST), "check")
    # 2. the sets
    opened = party.channel.gather(_stacked(seeds, SEED), "check")
    good = bool((seen[:, :DIGEST] == transcript).all()) and all(
        torch.equal(row[DIGEST:], _digest(transcript, seed)) for row, seed in zip(seen, opened, strict=True)
    )
    sums = torch.zeros(rows, 2, wide.LANES, SETS, dtype=torch.int64)
    lower, own_lower = torch.zeros(3, SETS, dtype=torch.int64), torch.zeros(rows, 3, SETS, dtype=torch.int64)
    coin = KeySet([_joint(opened)])
    for stream, o in enumerate(waiting):
        bits = (_coins(coin, stream, o) >> torch.arange(SETS).unsqueeze(1)) & 1
        sums[:, 0] += _sums(bits, o.share)
        sums[:, 1] += _sums(bits, o.code)
        own_lower += _sums(bits, wide.split(wide.low(o.share)))
        lower += _sums(bits, o.lower)
    # 3. the upper parts, under masks
    mask, mask_code = _upper_masks(party, own)
    mine = wide.normal(sums[:, 0] - wide.extended(own_lower) + mask)  # the upper parts times 2^64
    upper = party.channel.gather(_upper(mine).reshape(rows, 2 * SETS), "check").reshape(-1, 2, SETS)
    good = good and not bool((upper >> UPPER).any())
    value = wide.normal(wide.extended(lower) + _from_upper(upper.sum(0)))
    # 4. commit to z
    z = wide.pack(wide.normal(sums[:, 1] + mask_code - wide.mul(value, own.key))).reshape(rows, wide.WORDS * SETS)
    salts = [_random(DIGEST) for _ in range(rows)]
    committed = party.channel.gather(
        _stacked([_digest(part, salt) for part, salt in zip(z, salts, strict=True)], DIGEST), "check"
    )
    # 5. open it
    shown = party.channel.gather(torch.cat([z, _stacked(salts, DIGEST)], 1), "check")
    for row, commitment in zip(shown, committed, strict=True):
        good = good and torch.equal(_digest(row[:-DIGEST], row[-DIGEST:]), commitment)
    total = wide.normal(wide.unpack(shown[:, :-DIGEST].reshape(len(shown), wide.WORDS, SETS)).sum(0))
    if not good:
        return "the check itself"
    return _where(coin, waiting, total.any(0)) if bool(total.any()) else ""


def _coins(coin: KeySet, stream: int, o: Opening) -> torch.Tensor:
    """For every element of an opening, the sets that it is in."""
    return coin.draw(stream, o.share.shape[-1])[0] & ((1 << SETS) - 1)


def _where(coin: KeySet, waiting: list[Opening], failed: torch.Tensor) -> str:
    """The opening with an element that is in just the sets that failed: a single altered word is in no others."""
    pattern = sum(1 << k for k in range(SETS) if failed[k])
    for stream, o in enumerate(waiting):
        if bool((_coins(coin, stream, o) == pattern).any()):
            return f"opening {o.serial} ('{o.cause}', of shape {o.shape})"
    return f"more than one opening ({', '.join(sorted({repr(o.cause) for o in waiting}))})"


def _stacked(parts: list[torch.Tensor], words: int) -> torch.Tensor:
    return torch.stack(parts) if parts else ring.empty(0, words)


def _joint(seeds: torch.Tensor) -> bytes:
    joint = torch.zeros(SEED, dtype=torch.int64)
    for seed in seeds:
        joint ^= seed
    return joint.numpy().tobytes()


# 2^64 is bit 20 of lane 2: the 68 bits above it travel as two words of 34.


def _upper_masks(party: Party, own: State) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of uniform multiples of 2^64, that are such multiples themselves, and of their codes."""
    stream = party.dealer.streams(2)

    def drawn(keys: KeySet) -> torch.Tensor:
        return _from_upper((keys.draw(stream, 2 * SETS) & ((1 << UPPER) - 1)).view(keys.rows, 2, SETS))

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        _corrected(keys, stream + 1, code_of(keys, own.stream, wide.normal(drawn(keys).sum(0))), out)

    dealt = party.dealer.corrections(wide.WORDS * SETS, deal)
    return drawn(party.dealer.keys), _received(party.dealer.keys, stream + 1, SETS, dealt)


def _upper(x: torch.Tensor) -> torch.Tensor:
    """Normal multiples of 2^64 [rows, 6, n] divided by it, as [rows, 2, n]."""
    first = (x[:, 2] >> 20) | (x[:, 3] << 2) | ((x[:, 4] & ((1 << 10) - 1)) << 24)
    return torch.stack([first, (x[:, 4] >> 10) | (x[:, 5] << 12)], 1)


def _from_upper(words: torch.Tensor) -> torch.Tensor:
    """The inverse, [..., 2, n] to lanes [..., 6, n]; words may be sums."""
    low, high = words[..., 0, :], words[..., 1, :]
    zero = torch.zeros_like(low)
    fifth = (low >> 24) + ((high & ((1 << 12) - 1)) << 10)
    return torch.stack([zero, zero, (low & 3) << 20, (low >> 2) & wide.MASK, fifth, high >> 12], -2)
