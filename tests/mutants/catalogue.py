"""Faults that the suite must catch, one line of the code each.

A mutant replaces `old` by `new` in `file`, where `old` occurs once; `tests` are run on
the result and must fail.  Whoever changes such a line changes its mutant with it:
test_catalogue.py fails until the text is found again.
"""

from dataclasses import dataclass

PROTOCOLS, RUNTIME, KERNELS = "tests/protocols", "tests/runtime", "tests/kernels"
SHARING = f"{PROTOCOLS}/test_sharing.py"
PRODUCTS = f"{PROTOCOLS}/test_products.py"
TRUNCATION = f"{PROTOCOLS}/test_truncation.py"
COMPARISON = f"{PROTOCOLS}/test_comparison.py"
DIVISION = f"{PROTOCOLS}/test_division.py"
MASKING = f"{PROTOCOLS}/test_masking.py"
EXACT = f"{PROTOCOLS}/test_exact.py"
STORE = f"{RUNTIME}/test_store.py"
THREADS = f"{RUNTIME}/test_threads.py"
SESSION = f"{RUNTIME}/test_session.py"
VIEWS = "tests/security/test_views.py"
KEYS = f"{VIEWS}::test_keys_are_distinct_and_uniform"
LEDGER = "tests/security/test_ledger.py"


@dataclass(frozen=True)
class Mutant:
    """what: the fault in words.  tests: files that must catch it.  target: the kernels it needs, for C."""

    what: str
    file: str
    old: str
    new: str
    tests: str
    target: str = "portable"

    @property
    def compiled(self):
        return self.file.startswith("src/")


def protocol(name, *faults):
    return [Mutant(what, f"pysmpc/protocols/{name}.py", old, new, tests) for what, old, new, tests in faults]


def runtime(name, *faults):
    return [Mutant(what, f"pysmpc/runtime/{name}.py", old, new, tests) for what, old, new, tests in faults]


def core(name, *faults, target="portable"):
    return [Mutant(what, f"src/c/{name}", old, new, tests, target) for what, old, new, tests in faults]


MUTANTS = [
    *protocol(
        "sharing",
        ("one mask for every input", "stream = party.owner.streams()", "stream = party.owner.streams(0)", MASKING),
        ("every party adds the constant", "words[party.lead] = values", "words[:] = values", SHARING),
        ("refresh by a key of its own", "party.next.mask(stream", "party.own.mask(stream", SHARING),
        ("refresh by a used stream", "stream = party.dealer.streams()", "stream = 0", MASKING),
        ("operands swapped", "_linear(x, y, ring.sub, torch.sub)", "_linear(y, x, ring.sub, torch.sub)", SHARING),
        ("wrong sign", "scale_by(party, x, -1)", "scale_by(party, x, 1)", SHARING),
    ),
    *protocol(
        "products",
        ("a mask that serves again", "body.mask = party.dealer.streams()", "body.mask = party.dealer.streams(0)", MASKING),
        ("unmasked message", "party.dealer.keys.mask(body.mask, body.words)", "body.words.clone()", MASKING),
        ("mask of another stream", "keys.draw(_mask_of(x.body), x.body.n)", "keys.draw(_mask_of(x.body) + 1, x.body.n)", PRODUCTS),
        ("product of the wrong masks", "y.gather(_total_mask(keys, y)))", "x.gather(_total_mask(keys, x)))", PRODUCTS),
        ("dealt under the wrong stream", "keys.take(stream, ring.mul(a, a)", "keys.take(stream + 1, ring.mul(a, a)", PRODUCTS),
        ("operands swapped", "x.gather(_opened(x)), y.words(), a,", "x.gather(_opened(x)), x.words(), a,", PRODUCTS),
    ),
    *protocol(
        "truncation",
        ("streams that overlap", "MATERIAL = 16\n", "MATERIAL = 2\n", MASKING),
        ("no offset", "ring.truncate_mask(keys, base, by_.offset, words)", "ring.truncate_mask(keys, base, 0, words)", TRUNCATION),
        ("dropped correction", "keys, base, by_, c, corrections), z.shape", "keys, base, by_, c, None), z.shape", TRUNCATION),
        ("both parties shift alike", "bits, rank == 0, out[row]", "bits, True, out[row]", TRUNCATION),
    ),
    *protocol(
        "comparison",
        ("off by one at 0", "corrections, c, offset + 1)", "corrections, c, offset)", COMPARISON),
        ("missing flip", "offset + 1).flipped()", "offset + 1)", COMPARISON),
        ("dropped correction", "keys.draw(base + RHO_SHARES, n, words)", "keys.draw(base + RHO_SHARES, n)", COMPARISON),
        ("bit of the wrong stream", "by > 1 else None, bit.stream\n", "by > 1 else None, bit.stream + 1\n", COMPARISON),
        ("every party adds one", "words[party.lead] += 1", "words += 1", COMPARISON),
        ("wrong state", "corrections, opened, state, n)", "corrections, opened, state.flip(1), n)", COMPARISON),
    ),
    *protocol(
        "division",
        ("a step of Newton's too few", "STEPS = 3", "STEPS = 2", DIVISION),
        ("off-by-one shift", "max(60 - k, 0)", "max(61 - k, 0)", DIVISION),
    ),
    *protocol(
        "exact",
        ("wrong sign", "corrected = suite.sub(", "corrected = suite.add(", EXACT),
    ),
    *runtime(
        "dealer",
        ("streams that overlap", "self._next_stream += count", "self._next_stream += 1", f"{SESSION} {MASKING}"),
        ("a fork goes on", "if os.getpid() != self._process:", "if False:", SESSION),
    ),
    *runtime(
        "session",
        ("refresh keys of the same holder", "KeySet(ring_keys[1:] + ring_keys[:1])", "KeySet(ring_keys)", SHARING),
        ("inputs masked by the dealer's keys", "owner=SeedDealer(KeySet(owner_keys, 0, n - 1), KeySet(owner_keys)", "owner=SeedDealer(KeySet(dealer_keys, 0, n - 1), KeySet(dealer_keys)", MASKING),
        ("the provider is a holder", "if provider in holders:", "if False:", SESSION),
    ),
    *runtime(
        "threads",
        ("refresh keys of the same holder", "[ring_keys[(rank + 1) % n]]", "[ring_keys[rank]]", SHARING),
        ("inputs masked by the dealer's keys", "owner=_dealer(owner_keys,", "owner=_dealer(dealer_keys,", f"{VIEWS}::test_messages_between_processes_are_uniform"),
        ("a holder has all keys", "mine = [] if rank is None else [keys[rank]]", "mine = [] if rank is None else keys", THREADS),
        ("the owner's keys are dealt from", "rank == 0, shared_feed", "rank is None, shared_feed", THREADS),
    ),
    *runtime(
        "channel",
        ("an undeclared cause", "if cause not in CAUSES:", "if False:", LEDGER),
        ("other messages are taken", "if theirs != cause or words.shape != (count,):", "if words.shape != (count,):", THREADS),
        ("a round that is not listed", "if self.where and ledger.kept():", "if self.where and ledger.kept() and cause != 'compare':", LEDGER),
    ),
    *runtime(
        "store",
        ("a run that can be taken again", "os.pwrite(self._fd, bytes(RUN_HEADER), self._offset(run))", "pass", STORE),
        ("served before the mark is on disk", "os.fsync(self._fd)\n        self.run", "self.run", STORE),
        ("damaged words are taken", "if self.header.check(self.run, place, found) != data", "if False and self.header.check(self.run, place, found) != data" , STORE),
        ("readable by all", "os.O_EXCL, 0o600)", "os.O_EXCL, 0o644)", STORE),
    ),
    *runtime(
        "offline",
        ("one key for every run", "keys = [fresh_key() for _ in writers]", "keys = [bytes(16) for _ in writers]", STORE),
        ("material of another program is taken", "if wanted != requests[place]:", "if False:", STORE),
    ),
    Mutant("predictable keys", "pysmpc/prg.py", "os.urandom(KEY_BYTES)", "os.urandom(4) * 4", KEYS),
    Mutant("keys of the time", "pysmpc/prg.py", "os.urandom(KEY_BYTES)", "int(__import__('time').time()).to_bytes(16, 'big')", KEYS),
    Mutant("an opening kept for a new value", "pysmpc/tensor.py", "self._body = body\n        self._scale = scale\n        self.session.register(body)\n\n    def defer", "body.mask, body.opened = self._body.mask, self._body.opened\n        self._body = body\n        self._scale = scale\n        self.session.register(body)\n\n    def defer", "tests/ops/test_training.py"),
    *core(
        "truncate.inc.h",
        ("off-by-one shift", "jump[i] = (r[i] >> 63) << (64 - d.power)", "jump[i] = (r[i] >> 63) << (63 - d.power)", f"{KERNELS}/test_truncation.py"),
        ("missing carry", "(jump[i] & ((c[at + i] >> 63) - 1)) - quotient[i]", "jump[i] - quotient[i]", TRUNCATION),
        ("missing sign extension", "(quotient + psm_divide(d, ~r) + 1) & negative", "(quotient + psm_divide(d, ~r)) & negative", f"{KERNELS}/test_truncation.py"),
        ("truncated loop tail", "for (size_t i = 0; i < m; i++) out[at + i] += offset;", "for (size_t i = 0; i + 1 < m; i++) out[at + i] += offset;", TRUNCATION),
        ("wrong stream number", "base + 2, at, jump, m);", "base + 1, at, jump, m);", TRUNCATION),
        ("missing sign of a share", "out[i] = 0 - ((0 - z[i]) >> f);", "out[i] = z[i] >> f;", TRUNCATION),
    ),
    *core(
        "compare.inc.h",
        ("every party adds the public bit", "psm_load(in, w) ^ (bits[63] & one)", "psm_load(in, w) ^ bits[63]", COMPARISON),
        ("swapped operands", "{lt[0], lt[1], lt[2]}}", "{lt[1], lt[0], lt[2]}}", COMPARISON),
        ("dropped top node", "psm_load(keep, w) ^ lt[3]", "psm_load(keep, w)", COMPARISON),
        ("the sign is not masked", "psm_prg_xor(key, base + S_RHO, at, message + at, message + at, w);", "", COMPARISON),
        ("masks at the wrong offset", "at, NODE_MASKS, w, NULL, masks);\n        for (int j = 0; j < CHUNKS", "at + 1, NODE_MASKS, w, NULL, masks);\n        for (int j = 0; j < CHUNKS", COMPARISON),
        ("bit 62 for bit 63", "psm_store(out, &bits[63], w);", "psm_store(out, &bits[62], w);", COMPARISON),
    ),
    *core(
        "select.inc.h",
        ("missing flip", "b[i] = ~b[i];", "b[i] = b[i];", COMPARISON),
        ("negation without the carry", "((s[i] ^ b[i]) - b[i])", "(s[i] ^ b[i])", COMPARISON),
        ("every party adds the public bit", "(lead ? mask[i] & 1 : 0)", "(mask[i] & 1)", COMPARISON),
        ("corrections of the wrong row", "corrections ? corrections + row * n : NULL", "corrections ? corrections + n : NULL", COMPARISON),
    ),
    *core(
        "arith.inc.h",
        ("a sum for a product", "z[i] += d[i] * y[i] + a[i] * e[i];", "z[i] += d[i] * y[i] + (a[i] + e[i]);", PRODUCTS),
        ("wrong sign", "z[i] += d[i] * (x[i] + a[i]);", "z[i] += d[i] * (x[i] - a[i]);", PRODUCTS),
    ),
    *core(
        "bits.inc.h",
        ("truncated loop tail", "for (size_t i = full * w; i < m; i++) rows[full]", "for (size_t i = full * w; i + 1 < m; i++) rows[full]", f"{KERNELS}/test_bits.py {COMPARISON}"),
    ),
    *core(
        "prg.inc.h",
        ("wrong offset", "u64 counter = first >> 1;", "u64 counter = first;", f"{KERNELS}/test_prg.py"),
        ("a key stream that repeats", "done += WORDS, counter += AES_BLOCKS)", "done += WORDS)", f"{KERNELS}/test_prg.py"),
    ),
    *core(
        "aes_soft.inc.h",
        ("a round without its key", "for (int r = 1; r < 10; r++)", "for (int r = 1; r < 9; r++)", f"{KERNELS}/test_prg.py"),
    ),
    *core(
        "matmul.inc.h",
        ("only the last slab of K", "accumulate || p > 0);", "accumulate);", f"{KERNELS}/test_matmul.py"),
    ),
    *core(
        "matmul_avx512.inc.h",
        ("half of the sum of a row", "for (int i = 4; i; i /= 2)", "for (int i = 2; i; i /= 2)", f"{KERNELS}/test_matmul.py"),
        target="avx512",
    ),
    *core(
        "aes_ni.inc.h",
        ("operands swapped", "_mm_sub_epi64(_mm_loadu_si128((const __m128i *)x + i), block[i])", "_mm_sub_epi64(block[i], _mm_loadu_si128((const __m128i *)x + i))", f"{KERNELS}/test_prg.py"),
        target="avx2",
    ),
    *core(
        "rounds.c",
        ("corrections to the wrong party", "(ptrdiff_t)p.row == s->h->target ? s->corrections", "(ptrdiff_t)p.row == s->h->lead ? s->corrections", PRODUCTS),
        ("one holder is not taken away", "for (size_t i = 0; i + 1 < s->h->count; i++)", "for (size_t i = 1; i + 1 < s->h->count; i++)", PRODUCTS),
        ("the last row is not summed", "for (size_t row = 1; row < s->base; row++)", "for (size_t row = 1; row + 1 < s->base; row++)", PRODUCTS),
    ),
    *core(
        "product.c",
        ("shares of the wrong mask", "multiply(p, p->x.opened, left ? y : mask,", "multiply(p, p->x.opened, left ? mask : y,", PRODUCTS),
        ("padding is not zero", "out[j] = from < 0 ? 0 : b->data[from];", "out[j] = b->data[from < 0 ? 0 : from];", f"{KERNELS}/test_product.py"),
    ),
]  # fmt: skip
