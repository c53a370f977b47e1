"""Opening under codes, and the check that finds what was opened wrongly (SPDZ_2k).

Cramer, Damgard, Escudero, Scholl, Xing, CRYPTO 2018.  A secret x is held as x~ = x mod
2^64, in additive shares mod 2^128, with shares of alpha x~ for a key alpha of which every
holder knows a word alpha_i.  Both are linear, so every share that is computed has its
code.  Holder i opens only the lower word of its share, l_i = x~_i mod 2^64; the rest, u_i
with x~_i = l_i + 2^64 u_i, stays with it for `check`:

1.  All compare digests of what they saw opened, and commit to seeds.
2.  They open the seeds: 48 sets of openings, every opening in each with probability 1/2,
    that nobody could know when it sent its words.
3.  For each set they open U = sum of u under a dealt mask, which gives the sum of x~ as
    Y = sum of all l + 2^64 U.
4.  Each commits to z_i = (sum of its codes) - alpha_i Y,
5.  and opens it.  The z_i must add up to 0.

Bits are the lowest of numbers mod 2^64 and are checked in the same messages: with 2 for
2^64, and all mod 2^64.

Soundness.  Let words be opened with errors e_j (integers, not 0 mod 2^64 for at least one
j), chosen before step 2, and U with errors f_k chosen after.  Set k has the error
E_k = (sum of e_j over the set) + 2^64 f_k.  Where E_k mod 2^64 is not 0, which f_k has no
influence on, the check passes only if the adversary's error of the z is alpha E_k mod 2^128;
E_k has at most 63 factors of two, so that determines alpha mod 2^65, and so the word of a
holder that follows the protocol, of which nothing is known: probability 2^-64.  E_k mod
2^64 is 0 with probability at most 1/2 for each k (turn one opening j with e_j != 0 in or out
of the set), independently: 2^-48 for all.  In all, at most 2^-47.  For bits, of which e_j is
odd, E_k mod 2 takes the place: an odd E_k determines alpha mod 2^64.  (A coefficient of 64
bits in place of the sets, as in the paper's batch check, does not do here: an even
coefficient hides an error of 2^63.)

Secrecy.  The words are opened as without codes; U is under a fresh uniform mask; the z_i are
uniform but for their sum, as the codes of those masks are fresh.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import torch

from pysmpc.errors import IntegrityError
from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.mpc.mac.dealt import SETS, State, state
from pysmpc.ring import z2k, z2k_128
from pysmpc.ring.prg import KEY_BYTES, KeySet

SUMS = z2k_128.SUMS
MOST = 1 << 21  # openings that wait for a check, in elements
DIGEST = 4  # words
SEED = 2
OPENED = 2 * SUMS  # words of the sums of u, of words and of bits
CODES = (z2k_128.WORDS + 1) * SUMS  # words of their codes


@dataclass(repr=False)
class Opening:
    """What was opened, until it is checked.

    lower: the sum over the holders of what they sent, tight [2, n], or [n] of bits; nothing
    where no holder is hosted.  parts: of every row the rest u [n], and the code.
    seen: the same as lower, in few words where it is of bits.
    """

    cause: str
    shape: tuple[int, ...]
    serial: int
    n: int
    bits: bool
    lower: torch.Tensor
    parts: list[tuple[torch.Tensor, torch.Tensor]]
    seen: torch.Tensor
    malformed: bool = False


def _begin(party: Party) -> State:
    own = state(party)
    party.end.check()
    if sum(o.n for o in own.waiting) > MOST:
        check(party)
    return own


def open_words(
    party: Party, messages: list[torch.Tensor], cause: str, shapes: list[tuple[int, ...]]
) -> list[torch.Tensor]:
    """Lower words [1 or 0, n] of tight messages [rows * 2, 2, n]: one round.  They wait for a check."""
    own = _begin(party)
    arrays = [m.view(party.rows, SETS, z2k_128.WORDS, m.shape[-1]) for m in messages]
    sizes = [m.shape[-1] for m in messages]
    rows = party.channel.gather(torch.cat([m[:, 0, 0] for m in arrays], 1), cause, shapes)
    out = []
    for m, n, shape, part in zip(arrays, sizes, shapes, rows.split(sizes, 1), strict=True):
        own.opened += 1
        rest = [(row[0, 1], row[1]) for row in m]
        lower = _sum(part)
        own.waiting.append(Opening(cause, tuple(shape), own.opened, n, False, lower, rest, lower))
        out.append(lower[:1])
    return out


def _sum(rows: torch.Tensor) -> torch.Tensor:
    """Tight [2, n] sum of unsigned words [holders, n]; [0, n] of none."""
    if not len(rows):
        return rows
    low, high = rows[0].clone(), torch.zeros_like(rows[0])
    for row in rows[1:]:
        low += row
        high += (low ^ _SIGN) < (row ^ _SIGN)
    return torch.stack([low, high])


_SIGN = -(1 << 63)


def open_bits(
    party: Party, packed: torch.Tensor, rest: torch.Tensor, code: torch.Tensor, cause: str, shape: tuple[int, ...]
) -> torch.Tensor:
    """Of n bits, how many holders sent a 1, [n] or [0], of which the lowest bits are meant: one round, of a bit each.

    packed [rows, ceil(n / 64)]: the lowest bits of what is opened; rest and code [rows, n]: its other bits, and its
    codes.  They wait for a check.
    """
    own = _begin(party)
    n = rest.shape[1]
    rows = party.channel.gather(packed, cause, [shape]).contiguous()
    own.opened += 1
    malformed = n > 0 and any(bool(_padding(row, n).any()) for row in rows)
    total = z2k_128.count_bits(rows, n)
    parts = list(zip(rest, code, strict=True))
    own.waiting.append(Opening(cause, shape, own.opened, n, True, total, parts, _counts(rows), malformed))
    return total


def _counts(rows: torch.Tensor) -> torch.Tensor:
    """Packed bits [holders, words] as the digits of their sums, packed, the lowest first: of their order alike."""
    digits: list[torch.Tensor] = []
    for row in rows:
        carry = row
        for i, digit in enumerate(digits):
            digits[i], carry = digit ^ carry, digit & carry
        digits.append(carry)
    return _stacked(digits, rows.shape[1])


def _padding(packed: torch.Tensor, n: int) -> torch.Tensor:
    """What stands behind n packed bits, in the last tile (src/c/bits.inc.h)."""
    at = (len(packed) - 1) // 8 * 8
    return z2k.unpack_bits(packed[at:].contiguous(), 64 * (len(packed) - at))[n - 64 * at :]


# --- the check --------------------------------------------------------------------------


def check(party: Party) -> None:
    """Raise IntegrityError unless all that waits was opened as it was shared.  Five rounds, or none."""
    party.end.check()
    own = state(party)
    if not own.waiting:
        return
    try:
        found = _fault(party, own, own.waiting)
    except BaseException:  # whoever goes on after an error would have results that nobody found right
        party.end.reason = party.end.reason or "a check was not completed"
        raise
    own.waiting = []
    if found:
        party.end.reason = f"{found} was found altered"
        raise IntegrityError(f"{party.end.reason}: a holder deviated from the protocol, and no result is returned")


def check_cost(holders: int) -> Cost:
    """Of any number of openings."""
    words = 2 * DIGEST + SEED + OPENED + CODES + DIGEST + DIGEST
    return Cost(5, 8 * words * (holders - 1), dealt=8 * CODES)


def _fault(party: Party, own: State, waiting: list[Opening]) -> str:
    """The check of the module's description: what is wrong, or nothing."""
    rows = party.rows
    # 1. digests and commitments
    transcript = _digest(*(o.seen for o in waiting)) if rows else z2k.empty(DIGEST)
    seeds = [_random(SEED) for _ in range(rows)]
    first = [torch.cat([transcript, _digest(transcript, seed)]) for seed in seeds]
    seen = party.channel.gather(_stacked(first, 2 * DIGEST), "check")
    # 2. the sets
    opened = party.channel.gather(_stacked(seeds, SEED), "check")
    good = bool((seen[:, :DIGEST] == transcript).all()) and all(
        torch.equal(row[DIGEST:], _digest(transcript, seed)) for row, seed in zip(seen, opened, strict=True)
    )
    coin = KeySet([_joint(opened)])
    words, bits = (_summed(coin, rows, waiting, kind) for kind in (False, True))
    # 3. the rest, under masks
    masks, codes = _masks(party, own)
    mine = torch.cat([_word(words.rest), _word(bits.rest)], 1) + masks
    rest = party.channel.gather(mine, "check").sum(0)
    # 4. commit to z
    z = torch.cat([_of_words(own, words, rest[:SUMS], codes), _of_bits(own, bits, rest[SUMS:], codes)], 1)
    salts = [_random(DIGEST) for _ in range(rows)]
    commitments = [_digest(part, salt) for part, salt in zip(z, salts, strict=True)]
    committed = party.channel.gather(_stacked(commitments, DIGEST), "check")
    # 5. open it
    shown = party.channel.gather(torch.cat([z, _stacked(salts, DIGEST)], 1), "check")
    for row, commitment in zip(shown, committed, strict=True):
        good = good and torch.equal(_digest(row[:-DIGEST], row[-DIGEST:]), commitment)
    if not good:
        return "the check itself"
    wrong = next((o for o in waiting if o.malformed), None)
    if wrong is not None:
        return _named(wrong)
    total = z2k_128.pack(z2k_128.loosen(_tight(shown[:, : z2k_128.WORDS * SUMS])).sum(0, keepdim=True))[0].any(0)
    failed = {False: total, True: shown[:, z2k_128.WORDS * SUMS : CODES].sum(0) != 0}
    return _where(coin, waiting, failed) if any(bool(f.any()) for f in failed.values()) else ""


@dataclass(repr=False)
class Sums:
    """Loose, of the 48 sets: of what was opened [4, 48], of the rest and of the codes [rows, 4, 48]."""

    lower: torch.Tensor
    rest: torch.Tensor
    code: torch.Tensor


def _summed(coin: KeySet, rows: int, waiting: list[Opening], bits: bool) -> Sums:
    out = torch.zeros(1 + 2 * rows, z2k_128.LANES, SUMS, dtype=torch.int64)
    for stream, o in enumerate(waiting):
        if rows and o.bits == bits and o.n:
            both = [(code, None) if bits else (code[0], code[1]) for _, code in o.parts]
            lower = (o.lower, None) if bits else (o.lower[0], o.lower[1])
            out += z2k_128.sums(_coins(coin, stream, o), [lower, *((u, None) for u, _ in o.parts), *both])
    return Sums(out[0], out[1 : 1 + rows], out[1 + rows :])


def _word(x: torch.Tensor) -> torch.Tensor:
    """Loose [..., 4, n] mod 2^64, [..., n]."""
    return x[..., 0, :] + (x[..., 1, :] << 32)


def _tight(words: torch.Tensor) -> torch.Tensor:
    """[rows, 2 * 48] as tight [rows, 2, 48]."""
    return words.reshape(len(words), z2k_128.WORDS, SUMS).contiguous()


def _of_words(own: State, sums: Sums, rest: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """z of the numbers mod 2^128, [rows, 2 * 48]."""
    rows = len(own.key)
    value = sums.lower.clone()
    value[2:] += z2k_128.loose_words(rest)
    low, high = z2k_128.pack(value.unsqueeze(0))[0]
    out = (
        sums.code + z2k_128.loosen(_tight(codes[:, : z2k_128.WORDS * SUMS])) - z2k_128.affine(own.key, low.contiguous())
    )
    out[:, 2:] -= z2k_128.loose_words(own.key.unsqueeze(1) * high)
    return z2k_128.pack(out).reshape(rows, z2k_128.WORDS * SUMS)


def _of_bits(own: State, sums: Sums, rest: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """z of the numbers mod 2^64, [rows, 48]."""
    value = _word(sums.lower) + (rest << 1)
    return _word(sums.code) + codes[:, z2k_128.WORDS * SUMS :] - own.key.unsqueeze(1) * value


def _masks(party: Party, own: State) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform words r [rows, 2 * 48], and the codes [rows, 3 * 48] of 2^64 r mod 2^128 and of 2 r mod 2^64."""
    stream = party.dealer.streams(3)

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        r, alpha = keys.total(stream, OPENED), own.alpha(keys)
        upper = torch.stack([torch.zeros_like(r[:SUMS]), r[:SUMS]])
        z2k_128.deal(keys, stream + 1, 0, upper, alpha, out[: z2k_128.WORDS * SUMS])
        out[z2k_128.WORDS * SUMS :] = keys.take(stream + 2, z2k.scale(r[SUMS:].contiguous(), 2 * alpha))

    dealt = party.dealer.corrections(CODES, deal)
    keys = party.dealer.keys
    codes = torch.cat([keys.draw(stream + 1, z2k_128.WORDS * SUMS), keys.draw(stream + 2, SUMS)], 1)
    if dealt is not None:
        codes[-1] = dealt
    return keys.draw(stream, OPENED), codes


def _coins(coin: KeySet, stream: int, o: Opening) -> torch.Tensor:
    """For every element of an opening, the sets that it is in."""
    return coin.draw(stream, o.n)[0] & ((1 << SUMS) - 1)


def _where(coin: KeySet, waiting: list[Opening], failed: dict[bool, torch.Tensor]) -> str:
    """The opening with an element that is in just the sets that failed: a single altered word is in no others."""
    patterns = {bits: sum(1 << k for k in range(SUMS) if found[k]) for bits, found in failed.items()}
    if not all(patterns.values()):
        for stream, o in enumerate(waiting):
            if patterns[o.bits] and bool((_coins(coin, stream, o) == patterns[o.bits]).any()):
                return _named(o)
    return f"more than one opening ({', '.join(sorted({repr(o.cause) for o in waiting}))})"


def _named(o: Opening) -> str:
    return f"opening {o.serial} ('{o.cause}', of shape {o.shape})"


def _digest(*parts: torch.Tensor) -> torch.Tensor:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.contiguous().numpy().data)
    return torch.frombuffer(bytearray(found.digest()), dtype=torch.int64)


def _random(words: int) -> torch.Tensor:
    return torch.frombuffer(bytearray(os.urandom(8 * words)), dtype=torch.int64)


def _stacked(parts: list[torch.Tensor], words: int) -> torch.Tensor:
    return torch.stack(parts) if parts else z2k.empty(0, words)


def _joint(seeds: torch.Tensor) -> bytes:
    """The key of the coins, in every order of the holders alike.

    A digest: of the exclusive or, a holder who repeats another's commitment and seed knows the value beforehand.
    """
    return hashlib.sha256(b"".join(sorted(seed.numpy().tobytes() for seed in seeds.contiguous()))).digest()[:KEY_BYTES]
