"""Faults that the suite must catch, one line of the code each.

A mutant replaces `old` by `new` in `file`, where `old` occurs once; `tests` are run on
the result and must fail.  Whoever changes such a line changes its mutant with it:
test_catalogue.py fails until the text is found again.
"""

from dataclasses import dataclass

PROTOCOLS, RUNTIME, KERNELS = "tests/mpc", "tests/session", "tests/kernels"
SHARING = f"{PROTOCOLS}/test_sharing.py"
SUMS, TASKS = "tests/security/attacks/test_secure_sum.py", "tests/security/attacks/test_tasks.py"
LOOPS, CAPTURED = "tests/security/attacks/test_loops.py", "tests/federated/test_loops.py"
PRODUCTS = f"{PROTOCOLS}/test_products.py"
TRUNCATION = f"{PROTOCOLS}/test_truncation.py"
AFFINE, COUNTS = f"{PROTOCOLS}/test_affine.py", "tests/training/test_counts.py"
COMPARISON = f"{PROTOCOLS}/test_comparison.py"
DIVISION = f"{PROTOCOLS}/test_division.py"
MAXIMA = f"{PROTOCOLS}/test_maxima.py"
EXTREMA = "tests/ops/test_extrema.py"
MASKING = f"{PROTOCOLS}/test_masking.py"
EXACT = f"{PROTOCOLS}/test_exact.py"
FUNCTIONS = f"{PROTOCOLS}/test_functions.py"
EXPONENT, NORMALISER = f"{PROTOCOLS}/test_exponent.py", f"{PROTOCOLS}/test_normaliser.py"
SOFTMAX, PIECEWISE = f"{PROTOCOLS}/test_softmax.py", f"{PROTOCOLS}/test_piecewise.py"
MOMENTS, OPTIMIZERS = f"{PROTOCOLS}/test_moments.py", "tests/ops/test_optimizers.py"
SMOOTH = "tests/ops/test_functions.py"
THRESHOLDS = "tests/ops/test_thresholds.py"
FACTORS = "tests/ops/test_factors.py"
RANGES = "tests/ops/test_ranges.py"
CASES, FORMS = "tests/ops/test_cases.py", "tests/ops/test_forms.py"
DECOMPOSED = "tests/ops/test_decompositions.py"
STORE = f"{RUNTIME}/test_store.py"
THREADS = f"{RUNTIME}/test_threads.py"
SESSION = f"{RUNTIME}/test_session.py"
VIEWS = "tests/security/test_views.py"
INTEGRITY = "tests/security/test_integrity.py"
TWO_THREADS = "tests/security/test_threads.py"
MAC = f"{PROTOCOLS}/test_mac.py"
SUITE = f"{PROTOCOLS}/test_suite.py"
CHARACTERS = f"{KERNELS}/test_characters.py"
WIDE = f"{KERNELS}/test_wide.py"
KEYS = f"{VIEWS}::test_keys_are_distinct_and_uniform"
LEDGER = "tests/security/test_ledger.py"
STEPS = "tests/program/test_steps.py"
FOLLOWING = "tests/program/test_following.py"
NUMBERS = "tests/program/test_changing_numbers.py"
LAUNCHES = f"{KERNELS}/test_launch.py"
BOUNDS = "tests/ops/test_bounds.py"
DROPOUT, LOSSES, BATCHES = (f"tests/ops/test_{name}.py" for name in ("dropout", "losses", "batch_norm"))
NEAR = f"{PROTOCOLS}/test_thresholds.py"
ENDS, EXPONENTS = f"{KERNELS}/test_thresholds.py", f"{KERNELS}/test_exponents.py"
MASKS_THERE = "tests/remote/test_decompositions.py::test_no_recorded_step_keeps_a_public_mask"
FSS, FSS_BITS = f"{PROTOCOLS}/test_fss.py", f"{KERNELS}/test_fss_bits.py"
SNN, SNN_KERNELS = f"{PROTOCOLS}/test_securenn.py", f"{KERNELS}/test_securenn.py"
REMOTE = "tests/remote"
EARLY = f"{REMOTE}/test_early.py"
REPEATED = f"{REMOTE}/test_steps.py"
ROWS = f"{REMOTE}/test_rows.py"
APPROVALS, LIMITED = f"{REMOTE}/test_approvals.py", f"{REMOTE}/test_limits.py"
LOOPS_THERE = f"{REMOTE}/test_loops.py"
VALUES = f"{REMOTE}/test_values.py"
RELOAD = f"{REMOTE}/test_reload.py"
POLICY, INTRUDERS, FAULTS = f"{REMOTE}/test_policy.py", f"{REMOTE}/test_intruders.py", f"{REMOTE}/test_faults.py"

EPOCHS, TRANSCRIPT = f"{KERNELS}/test_epochs.py", f"{RUNTIME}/test_transcript.py"
ATTACKS = "tests/security/attacks"
AT_ONCE, ATTENTION = f"{PROTOCOLS}/test_at_once.py", f"{PROTOCOLS}/test_attention.py"
OUTSIDE, TESTED = f"{PROTOCOLS}/test_outside.py", "tests/ops/test_tested.py"
CHECKED_THERE, FLAGS = f"{REMOTE}/test_checked.py", f"{ATTACKS}/test_flags.py"
COLLUSION = f"{ATTACKS}/test_collusion.py"


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


def module(name, *faults):
    return [Mutant(what, f"pysmpc/{name}.py", old, new, tests) for what, old, new, tests in faults]


def steps(*faults):
    return [Mutant(what, f"pysmpc/{name}.py", old, new, STEPS) for what, name, old, new in faults]


def core(name, *faults, target="portable"):
    return [Mutant(what, f"src/c/{name}", old, new, tests, target) for what, old, new, tests in faults]


MUTANTS = [
    *module(
        "mpc/additive/sharing",
        ("one mask for every input", "stream = party.owner.streams()", "stream = party.owner.streams(0)", MASKING),
        ("every party adds the constant", "words[party.lead] = values", "words[:] = values", SHARING),
        ("refresh by a key of its own", "party.next.mask(stream", "party.own.mask(stream", SHARING),
        ("refresh by a used stream", "stream = party.dealer.streams()", "stream = 0", MASKING),
        ("operands swapped", "_linear(x, y, z2k.sub, torch.sub)", "_linear(y, x, z2k.sub, torch.sub)", SHARING),
        ("wrong sign", "scale_by(party, x, -1)", "scale_by(party, x, 1)", SHARING),
    ),
    *module(
        "mpc/additive/products",
        ("a mask that serves again", "body.mask = party.dealer.streams()", "body.mask = party.dealer.streams(0)", MASKING),
        ("unmasked message", "party.dealer.keys.mask(body.mask, body.words)", "body.words.clone()", MASKING),
        ("mask of another stream", "keys.draw(_mask_of(x.body), x.body.n)", "keys.draw(_mask_of(x.body) + 1, x.body.n)", PRODUCTS),
        ("product of the wrong masks", "y.gather(_total_mask(keys, y)))", "x.gather(_total_mask(keys, x)))", PRODUCTS),
        ("dealt under the wrong stream", "keys.take(stream, z2k.mul(a, a)", "keys.take(stream + 1, z2k.mul(a, a)", PRODUCTS),
        ("the mask of the body itself for both", "(_known(x), _known(y)) if", "(_known(x), _known(x)) if", PRODUCTS),
        ("operands swapped", "x.gather(_opened(x)), y.words(), a,", "x.gather(_opened(x)), x.words(), a,", PRODUCTS),
        ("gradients opened one after another", "open_masked(party, *(x for body in waiting for x in body.operands or ()))", "pass", COUNTS),
    ),
    *module(
        "mpc/additive/affine",
        ("every party adds the public product", "out[party.lead] -= (left * right)[0]", "out -= left * right", AFFINE),
        ("a stream that serves again", "stream = party.dealer.streams(count)", "stream = party.dealer.streams(0)", MASKING),
        ("a kernel's streams that serve again", "base = party.dealer.streams(count)", "base = party.dealer.streams(0)", MASKING),
    ),
    *module(
        "mpc/additive/affine_values",
        ("a square without that of the jump", "jump * (jump - 2 * quotient)]", "-2 * jump * quotient]", AFFINE),
        ("the other half of c", "return None, (self.c >> 63) + 1", "return None, -(self.c >> 63)", AFFINE),
        ("c taken as a signed number", "half = (self.c >> 1) & ((1 << 63) - 1)", "half = self.c >> 1", AFFINE),
        ("c shifted as a signed number", "((self.c >> power) & ((1 << (64 - power)) - 1)) - ", "(self.c >> power) - ", AFFINE),
        ("the square of a multiple by its factor", "z2k.wrap(self.factor**2)", "z2k.wrap(self.factor)", AFFINE),
        ("a bit the other way", "return one, top, 1 - 2 * self._beta()", "return one, top, 2 * self._beta() - 1", AFFINE),
        ("a bit that was turned as it is", "return (1 - bits, -turn) if flip else (bits, turn)", "return bits, turn", AT_ONCE),
        ("a shift that is forgotten", "return self.of.public() + self.word", "return self.of.public()", AT_ONCE),
        ("a bit of weight one", "return *own, self.weight * _parts(", "return *own, _parts(", AT_ONCE),
    ),
    *module(
        "mpc/additive/reopening",
        ("a jump of all ones", "(less >> (63 - power)) & 1)", "less >> (63 - power))", AFFINE),
        ("opened under a mask that serves no product", "body.mask, body.opened = each.base, ", "body.mask, body.opened = each.base + 1, ", f"{PROTOCOLS}/test_reopening.py"),
    ),
    *module(
        "mpc/additive/together",
        ("the mask of another argument", "found = [Masked(base, c, x.shape)", "found = [Masked(base + 1, c, x.shape)", AT_ONCE),
        ("factors that are opened later", "for x in factors])\n    messages", "for x in ()])\n    messages", AT_ONCE),
    ),
    *module(
        "mpc/functions/attention_scores",
        ("sums of up to four", "levels = (n.bit_length() - 1) // 2\n    top", "levels = 0\n    top", ATTENTION),
        ("the power is not taken off", "excess = 2 * levels + (DIVIDED_BITS", "excess = (DIVIDED_BITS", ATTENTION),
        ("weights over the mantissa alone", "whole = suite.mul_at_once(party, Share(self.p.body, (rows, n)), power)", "whole = suite.scale_by(party, Share(self.p.body, (rows, n)), 1)", ATTENTION),
    ),
    *module(
        "mpc/additive/truncation",
        ("streams that overlap", "MATERIAL = 16\n", "MATERIAL = 2\n", MASKING),
        ("halves of small divisors", "return by >= (2 * holders - 1) << 34", "return by >= 1 << 30", f"{PROTOCOLS}/test_updates.py"),
        ("no offset", "z2k.truncate_mask(keys, base, by_.offset, words)", "z2k.truncate_mask(keys, base, 0, words)", TRUNCATION),
        ("dropped correction", "keys, base, by_, c, corrections), z.shape", "keys, base, by_, c, None), z.shape", TRUNCATION),
        ("both parties shift alike", "bits, rank == 0, out[row]", "bits, True, out[row]", TRUNCATION),
    ),
    *module(
        "mpc/additive/comparison",
        ("off by one at 0", "corrections, c, offset + 1, nodes)", "corrections, c, offset, nodes)", COMPARISON),
        ("missing flip", "offset + 1, nodes).flipped()", "offset + 1, nodes)", COMPARISON),
        ("dropped correction", "keys.draw(base + RHO_SHARES, n, words)", "keys.draw(base + RHO_SHARES, n)", COMPARISON),
        ("bit of the wrong stream", "by > 1 else None, bit.stream\n", "by > 1 else None, bit.stream + 1\n", COMPARISON),
        ("every party adds one", "words[party.lead] += 1", "words += 1", COMPARISON),
        ("wrong state", "corrections, opened, state, n, nodes", "corrections, opened, state.flip(1), n, nodes", COMPARISON),
        ("a group's other signs stay hidden", "message ^ messages[j] ^ keys.draw(base + RHO, z2k.packed_words(c.shape[1]))", "message ^ messages[j]", FUNCTIONS),
    ),
    *module(
        "mpc/operations",
        ("what was derived stays of the old operations", 'else getattr(given, "derived_by", None)', "else None", SUITE),
        ("bounded comparisons of another suite", "self.bounded.negative is not self.negative", "False", SUITE),
    ),
    *module(
        "mpc/additive/maxima",
        ("candidates that are not masked", "message = z2k.truncate_mask(keys, base, 0, words)", "message = words", MASKING),
        ("tables under a used stream", "party.dealer.streams(MATERIAL), party.dealer.streams()", "party.dealer.streams(MATERIAL), party.dealer.streams(0)", MASKING),
        ("the last of equals wins", "torch.tensor([(1 << i) - 1 for i in range(1, self.size)])", "torch.tensor([1 << i for i in range(1, self.size)])", MAXIMA),
        ("products with the wrong mask", "torch.mul(one_hot, x[:, 1:] - x[:, :1], out=products)", "torch.mul(one_hot, x[:, 1:], out=products)", MAXIMA),
        ("dropped correction", "None if corrections is None else corrections[at:])", "None)", MAXIMA),
        ("pairs of other masks", "x[:, i] - x[:, j] for i, j in self.pairs", "x[:, i] - x[:, 0] for i, j in self.pairs", MAXIMA),
    ),
    *module(
        "mpc/derived/arranging",
        ("equals in the order of the shuffle", "masks += origins[:, first] < origins[:, second]", "masks += 1", f"{PROTOCOLS}/test_arranging.py"),
        ("pivots that stay in a bucket", "rank) * 2 + single", "rank) * 2", f"{PROTOCOLS}/test_arranging.py"),
    ),
    *module(
        "mpc/derived/shuffling",
        ("nobody permutes", "words[row] += _moved(c.view(shape), self._own[row], back)", "words[row] += c[0]", f"{PROTOCOLS}/test_arranging.py"),
        ("back in the order of the way there", "reversed(passes) if back else passes", "passes", f"{PROTOCOLS}/test_arranging.py"),
    ),
    *module(
        "mpc/derived/one_hot",
        ("turned the other way", ".unsqueeze(2) - torch.arange(classes)", ".unsqueeze(2) + torch.arange(classes)", f"{PROTOCOLS}/test_arranging.py"),
    ),
    *module(
        "mpc/derived/counts",
        ("a count that is not masked", "message = z2k.truncate_mask(keys, base, 0, x.words(), 1 << (64 - w))", "message = z2k.scale(x.words(), 1 << (64 - w))", MASKING),
        ("turned the other way", ".unsqueeze(1) - torch.arange(entries + 1)", ".unsqueeze(1) + torch.arange(entries + 1)", MAXIMA),
        ("every party adds the last entry", "out[party.lead] += turned[0, -1]", "out += turned[0, -1]", MAXIMA),
    ),
    Mutant("beyond the smallest is what is larger", "pysmpc/ops/comparing.py", "not_less(extrema, whole) if origin.least else", "not_less(whole, extrema) if origin.least else", EXTREMA),
    Mutant("a gradient that is not divided", "pysmpc/ops/linear.py", "out.cell.body.most = _count(x.shape, dim)", "out.cell.body.most = 1", EXTREMA),
    Mutant("what was opened beside is forgotten", "pysmpc/ops/tournament.py", "beside = climb.waiting if climb is not None else ()", "beside = ()", EXTREMA),
    *module(
        "mpc/derived/division",
        ("a step of Newton's too few", "STEPS = 3", "STEPS = 2", DIVISION),
        ("off-by-one shift", "max(60 - k, 0)", "max(61 - k, 0)", DIVISION),
    ),
    Mutant("thresholds rounded one way", "pysmpc/ops/comparing.py", "limit = above if first else below", "limit = below", THRESHOLDS),
    Mutant("equal to the step below", "pysmpc/ops/comparing.py", "torch.as_tensor(below != above)", "torch.as_tensor(below != below)", THRESHOLDS),
    Mutant("a composition is not rehearsed", "pysmpc/ops/decompositions.py", "rehearse(whole, args, kwargs, _rehearsed)", "pass", DECOMPOSED),
    Mutant("errors of a composition name its part alone", "pysmpc/ops/decompositions.py", "named = _named(func, error)", "named = error", DECOMPOSED),
    Mutant("a last window outside of the image", "pysmpc/ops/resampling.py", "out -= 1", "out -= 0", "tests/ops/test_resampling.py"),
    Mutant("a join at a position forgets the others", "pysmpc/ops/placing.py", "range(int(turn.max()) + 1 if flat.numel() else 0)", "range(1 if flat.numel() else 0)", "tests/ops/test_placing.py"),
    Mutant("NaN is in order", "pysmpc/ops/comparing.py", "torch.where(strange.isnan(), unordered, infinite)", "infinite", THRESHOLDS),
    Mutant("a public minuend is subtracted", "pysmpc/ops/arithmetic.py", "if not first and sign < 0:", "if False:", CASES),
    Mutant("out= of any shape", "pysmpc/ops/registering.py", "if target.shape != value.shape:", "if False:", FORMS),
    Mutant("writes of any dtype", "pysmpc/ops/writing.py", "if not torch.can_cast(value.dtype, target.dtype):", "if False:", FORMS),
    Mutant("updates of any dtype", "pysmpc/ops/writing.py", "        or not torch.can_cast(x.dtype, target.dtype)\n", "", FORMS),
    Mutant("writes of any size", "pysmpc/ops/writing.py", "    if whole != shape:\n", "    if False:\n", FORMS),
    Mutant("numbers as truth values", "pysmpc/ops/writing.py", "target.dtype == torch.bool and value.dtype != torch.bool", "False", FORMS),
    Mutant("a form's own handler is lost", "pysmpc/ops/registering.py", "if form in HANDLERS and form not in _DERIVED:", "if False:", FORMS),
    Mutant("no angle for equal columns", "pysmpc/ops/jacobi.py", "d = add(d, like(d, step.at(scale)))", "d = like(d, d.window())", "tests/ops/test_eigenvalues.py::test_equal_eigenvalues_and_none"),
    Mutant("what rounding adds beside rows grows", "pysmpc/ops/matrix_inverse.py", "if factor == 1 and m != n:", "if False:", "tests/ops/test_matrices.py::test_pseudo_inverses_of_equal_singular_values"),
    Mutant("numbers of a closure are opened", "pysmpc/optimizers/line_search.py", "if self.asleep or getattr", "if getattr", "tests/ops/test_line_search.py"),
    Mutant("workers not told of a target", "pysmpc/remote/driver/recorded_tensor.py", "[*args, *kwargs.values()] if kwargs else args", "args", "tests/remote/test_programs.py"),
    Mutant("a product that was rounded decides", "pysmpc/ring/fixedpoint.py", "unsure.nonzero().tolist()", "()", THRESHOLDS),
    Mutant("a large input without its mask", "pysmpc/ring/fixedpoint.py", "if keys is not None:", "if False:", "tests/ops/test_large_inputs.py"),
    Mutant("the largest alone is looked at", "pysmpc/ring/fixedpoint.py", "torch.stack(torch.aminmax(self._values))", "self._values.max().reshape(1)", "tests/ops/test_large_inputs.py"),
    Mutant("any threshold is taken", "pysmpc/ring/fixedpoint.py", "if bool((steps.abs() >= LIMIT).any()):", "if False:", THRESHOLDS),
    *module(
        "mpc/functions/masked",
        ("an opening over the whole ring under a mask of one period", "z2k.truncate_mask(party.dealer.keys, base, 0, words)", "words + (party.dealer.keys.draw(base, x.numel) & ((1 << 21) - 1))", f"{VIEWS}::test_views_of_different_secrets_are_alike"),
        ("pieces under one stream", "keys.take(stream + i, found)", "keys.take(stream, found)", FUNCTIONS),
        ("every party adds the constant", "out[party.lead] += z2k.wrap(constant)", "out += z2k.wrap(constant)", FUNCTIONS),
    ),
    *module(
        "mpc/functions/exponent",
        ("a window that begins a step too early", "math.ceil(window.lo * scale / stretch)", "math.floor(window.lo * scale / stretch)", EXPONENT),
        ("quotients end at one", "Window(-60, 5, 24, 24)", "Window(-62, 5, 24, 24)", SOFTMAX),
        ("words of another factor", '("powers of e", step, window)', '("powers of e", window)', EXPONENT),
        ("a result above the window is left out", "back(suite.add(party, out, Share(part.body, out.shape, scale)))", "back(out)", EXPONENT),
    ),
    *module(
        "mpc/functions/normaliser",
        ("what is less than a step has a power", "(4**top, [-(4**top), *[0]", "(0, [0, *[0]", NORMALISER),
        ("a threshold too few", "(limit.bit_length() - 1) // 2))", "(limit.bit_length() - 3) // 2))", CASES),
        ("reciprocals without a sign", "(-sum(steps), [*steps, *steps])", "(sum(steps), [*steps, *(-step for step in steps)])", NORMALISER),
    ),
    *module(
        "mpc/functions/reached",
        ("masks of several ends overlap", "streams = party.dealer.streams(MATERIAL * fresh)", "streams = party.dealer.streams(MATERIAL // 2 * fresh)", NEAR),
        ("ends under the masks of the comparison before", "(streams, streams + MATERIAL) if again else (x.base, streams)", "(x.base, streams)", NEAR),
        ("monomials of another opening", "x.base, x.chunks, x.c, offsets", "first, dealt, x.c, offsets", NEAR),
    ),
    *module(
        "mpc/functions/threshold_sums",
        ("a constant is left out", "if start else out", "if False else out", NORMALISER),
        ("one of two bits is left out", "parts[0] if len(parts) == 1 else", "parts[0] if True else", NORMALISER),
    ),
    *core(
        "thresholds.inc.h",
        ("a borrow is lost", "(~bit & (borrow | set)) | (borrow & set)", "~bit & (borrow | set)", ENDS),
        ("every party adds the constant", "constants[k] & mine", "constants[k]", ENDS),
        ("every party counts what is not below", "((mask[i] + 1) & mine)", "mask[i] + 1", ENDS),
        ("nodes of all ends under the masks of the first", "planes_of(key, base + S_NODE_MASKS", "planes_of(key, first + S_NODE_MASKS", ENDS),
    ),
    *core(
        "thresholds.c",
        ("bits of all ends under the bit of the first", "base + RHO, base + RHO_SHARES", "c->ends.first + RHO, base + RHO_SHARES", ENDS),
        ("monomials are there that another comparison has", "c->known ? 0 :", "0 ? 0 :", ENDS),
        ("nodes of the first end for all", "p.corrections + dealt_at(c, j) : NULL", "p.corrections + dealt_at(c, 0) : NULL", ENDS),
    ),
    *module(
        "mpc/functions/regions",
        ("products with the mask's bits under the mask's own stream", "stream = party.dealer.streams()", "stream = opened.base", NEAR),
        ("a step that was not reached counts", "outside += (1 - beta) * step", "outside += beta * step", NEAR),
    ),
    *module(
        "mpc/derived/coins",
        ("coins that are the same each time", "Masked(party.dealer.streams(), ", "Masked(1, ", DROPOUT),
        ("coins of another probability", "round(probability * 2.0**BITS)", "round((1 - probability) * 2.0**BITS)", DROPOUT),
    ),
    Mutant("a secret mask is public", "pysmpc/ops/dropout.py", "if _choice.secret and not x.session.plain:", "if False:", DROPOUT),
    Mutant("a parameter becomes a public mask", "pysmpc/ops/dropout.py", "and not x.requires_grad and", "and", DROPOUT),
    Mutant("a driver records public masks", "pysmpc/program/trace.py", "            self._trace.refused = f\"{func} draws random numbers\"", "            pass", MASKS_THERE),
    Mutant("a recording notes public masks", "pysmpc/program/trace.py", "            self.refused = f\"{func} draws random numbers\"", "            pass", STEPS),
    Mutant("running statistics go the other way", "pysmpc/ops/batch_normalisation.py", "if not deferred(running, gap, part):", "if not deferred(running, gap, -part):", BATCHES),
    Mutant("a class that is ignored counts", "pysmpc/ops/classes.py", "own = own & keep", "own = own & (keep | True)", LOSSES),
    Mutant("means of secret classes are over all", "pysmpc/ops/classes.py", "total = own.to(torch.int64).sum() if weight is None else", "total = (own | True).to(torch.int64).sum() // own.shape[dim] if weight is None else", LOSSES),
    Mutant("a parameter in common stays public", "pysmpc/api/calls.py", "if id(tensor) in kept:", "if False:", "tests/ops/test_private_layers.py"),
    *module(
        "mpc/functions/blocks",
        ("a fine block that begins too late", "FINE = tuple(-(-(ROOT**2) // a**2)", "FINE = tuple(-(-(ROOT**2) * 2 // a**2)", MOMENTS),
        ("dealt cosines of half the size", "DealtTurns(step, fit.terms, DEALT_BITS)", "DealtTurns(step, fit.terms, DEALT_BITS - 1)", MOMENTS),
    ),
    *module(
        "mpc/functions/moments",
        ("a weight's second fraction is left out", "while rest and abs(rest) > weight * CLOSE:", "while rest == weight:", MOMENTS),
        ("eps of half the size", "found = corrections(Fraction(eps) * (1 << (square // 2)))", "found = corrections(Fraction(eps) * (1 << (square // 2 - 1)))", MOMENTS),
        ("nothing has no block", "suite.add(party, v.at(1), constant(suite, party, v.shape, 1, 1))", "suite.sub(party, v.at(1), constant(suite, party, v.shape, 1, 1))", MOMENTS),
    ),
    Mutant("a step that raises is counted", "pysmpc/optimizers/update_rules.py", "found.setdefault(float(each) + 1, []).append(i)", "found.setdefault(float(each.add_(1)), []).append(i)", OPTIMIZERS),
    Mutant("squares without room", "pysmpc/ops/optimizer_steps.py", "session.arithmetic.square(session.party, row.at(1 << bits))", "session.suite.square(session.party, row.at(1))", OPTIMIZERS),
    Mutant("an optimizer's lists of any lengths", "pysmpc/ops/lists.py", "if len(tensors) != n and (tensors or key not in optional):", "if False:", f"{ATTACKS}/test_optimizers.py"),
    Mutant("state that leaves words unwritten", "pysmpc/ops/lists.py", "        if stride != step:\n", "        if False:\n", f"{ATTACKS}/test_optimizers.py"),
    Mutant("tensors of any shapes in a row", "pysmpc/ops/lists.py", "if len({tuple(x.shape) for x in alike}) > 1:", "if False:", f"{ATTACKS}/test_optimizers.py"),
    Mutant("weight decay grows weights", "pysmpc/ops/optimizer_steps.py", "z = suite.sub(party, z, suite.scale_by(party, own, less).at(1))", "z = suite.add(party, z, suite.scale_by(party, own, less).at(1))", OPTIMIZERS),
    *module(
        "mpc/functions/softmax",
        ("values below the window count", "inside = None if bounded or near is not None else", "inside = None if True else", SOFTMAX),
        ("a power of four that sums do not reach", "low + (n.bit_length() - 1) // 2", "low + (n.bit_length() + 1) // 2", SOFTMAX),
    ),
    Mutant("log-softmax is forgotten", "pysmpc/ops/functions/softmaxes.py", "if found is None:", "if True:", "tests/ops/test_softmaxes.py"),
    *module(
        "mpc/functions/regions",
        ("products of two bits under one stream", "if self.x.multiplied:", "if False:", FUNCTIONS),
        ("products of the masks of another sign", "partial(comparison.deal, base, x.n", "partial(comparison.deal, x.base, x.n", f"{PROTOCOLS}/test_thresholds.py"),
        ("masks of several signs overlap", "base = party.dealer.streams(MATERIAL) if again", "base = party.dealer.streams(2) if again", f"{PROTOCOLS}/test_thresholds.py"),
        ("thresholds under the masks of the first", "base = party.dealer.streams(MATERIAL) if again else x.base", "base = x.base", FUNCTIONS),
        ("two selections, each rounded", "out = suite.mul(party, flat, value)\n", "value, by, out = value, 1, suite.truncate(party, suite.mul(party, flat, value), by - 1)\n", FUNCTIONS),
    ),
    *module(
        "mpc/functions/piecewise_polynomials",
        ("a sign that is lost", "signed = suite.add(party, here, there), suite.sub(party, here, there)", "signed = suite.add(party, here, there), suite.add(party, here, there)", PIECEWISE),
        ("pieces of another scale", "end = math.ceil(Fraction(piece.hi) * scale)", "end = math.ceil(Fraction(piece.hi) * (1 << 16))", PIECEWISE),
        ("what is beyond on the left is as on the right", "combine = suite.sub if table.symmetry", "combine = suite.add if table.symmetry", PIECEWISE),
        ("bits are compared again", 'if ("reached", end) not in found.regions]', "]", PIECEWISE),
    ),
    *module(
        "mpc/functions/angle",
        ("the origin is above", "gap, total = inner.sub(party, inner.sub(party, ys, xs), one)", "gap, total = inner.sub(party, ys, xs)", PIECEWISE),
        ("a half turn to the wrong side", "inner.scale_by(party, below, 2)", "inner.scale_by(party, below, 0)", PIECEWISE),
    ),
    *module(
        "mpc/functions/power_sums",
        ("zeros count as a step", "if p > 0:\n        z = ", "if False:\n        z = ", PIECEWISE),
        ("powers above one", "rounded=True", "rounded=False", PIECEWISE),
    ),
    Mutant("the square of another argument", "pysmpc/ops/divisions.py", 'if x is not None and is_argument_of(x, "atan"):', "if x is not None:", "tests/ops/test_inverse_functions.py"),
    Mutant("a power of a norm is that of another", "pysmpc/ops/arithmetic.py", "product.of is quotient.of", "product.of is not None", "tests/ops/test_norms.py"),
    Mutant("a gradient of large norms by their powers", "pysmpc/ops/arithmetic.py", "if not (has_part(x) or has_part(y)):", "if True:", "tests/ops/test_norms.py"),
    *module(
        "mpc/functions/smooth",
        ("ends of another scale", "ends(fit, scale, stretch)\n    if until", "ends(fit, 1 << 16, stretch)\n    if until", SMOOTH),
        ("an early threshold is not seen", "if until is not None and until / stretch * scale < hi:", "if False:", SMOOTH),
        ("thresholds are left out up to twice the interval", "between[0] <= -limit and limit < between[1]", "between[0] <= -limit // 2 and limit // 2 < between[1]", BOUNDS),
    ),
    *module(
        "mpc/functions/known_values",
        ("the derivative of another result", "known.source[:2] != (name, (out.layout, out.scale))", "known.source[0] != name", SMOOTH),
        ("a recording keeps what it learned", "vars(part).update(values)", "pass", STEPS),
        ("a value keeps itself alive", "self.copy = None if x.body is of else x.body", "self.copy = x.body", SMOOTH),
    ),
    *module(
        "mpc/additive/exact",
        ("wrong sign", "corrected = suite.sub(", "corrected = suite.add(", EXACT),
    ),
    *module(
        "session/dealer",
        ("streams that overlap", "self._next_stream += count", "self._next_stream += 1", f"{SESSION} {MASKING}"),
        ("corrections of a forked process", "        self.check()\n        with self._lock:\n            self._count(", "        with self._lock:\n            self._count(", SESSION),
        ("streams after a failed check", "        self._process.check()\n        self.end.check()", "        self._process.check()", INTEGRITY),
    ),
    *module(
        "session/forks",
        ("a fork goes on", "if _forks != self._made:", "if False:", SESSION),
        ("forks are not counted", "    _forks += 1", "    _forks += 0", SESSION),
    ),
    *module(
        "session/locks",
        ("a child waits for a thread of its parent", "self.process.check()  # first", "pass  # first", SESSION),
        ("a lock that is kept after an error", "            self.mutex.release()\n            raise", "            raise", SESSION),
        ("any thread of a rank", "if self._owner is not mine:", "if False:", SESSION),
    ),
    *module(
        "session/session",
        ("refresh keys of the same holder", "KeySet(ring_keys[1:] + ring_keys[:1])", "KeySet(ring_keys)", SHARING),
        ("inputs masked by the dealer's keys", "build.owner(*dealing(owner_keys))", "build.owner(*dealing(dealer_keys))", MASKING),
    ),
    *module(
        "session/builder",
        ("the provider is a holder", "if provider in holders:", "if False:", SESSION),
    ),
    *module(
        "transport/threads",
        ("refresh keys of the same holder", "[ring_keys[(i + 1) % n] for i in ranks]", "[ring_keys[i] for i in ranks]", SHARING),
        ("inputs masked by the dealer's keys", "build.owner(shared_feed, *keys(owner_keys,", "build.owner(shared_feed, *keys(dealer_keys,", f"{VIEWS}::test_messages_between_processes_are_uniform"),
        ("a holder has all keys", "build.keys([each[i] for i in ranks])", "build.keys(each if ranks else [])", THREADS),
        ("the owner's keys are dealt from", "keys(owner_keys, rank == 0)", "keys(owner_keys, rank is None)", THREADS),
    ),
    *module(
        "session/channel",
        ("an undeclared cause", "if cause not in OPENING_REASONS:", "if False:", LEDGER),
        ("other messages are taken", "if theirs != cause or words.shape != (count,):", "if words.shape != (count,):", THREADS),
        ("a round of a forked process", "        self._process.check()\n", "", SESSION),
        ("a round after a failed check", "        self.end.check()\n", "", INTEGRITY),
        ("a round that is not listed", "if self.where and ledger.kept():", "if self.where and ledger.kept() and cause != 'compare':", LEDGER),
    ),
    *module(
        "session/store",
        ("a run that can be taken again", "os.pwrite(self._fd, bytes(RUN_HEADER), self._offset(run))", "pass", STORE),
        ("served before the mark is on disk", "os.fsync(self._fd)\n        self.run", "self.run", STORE),
        ("damaged words are taken", "if self.header.check(self.run, place, found) != data", "if False and self.header.check(self.run, place, found) != data" , STORE),
        ("readable by all", "os.O_EXCL, 0o600)", "os.O_EXCL, 0o644)", STORE),
        ("a child has its parent's lock", "and keep them waiting.\"\"\"\n        self._process.check()", "and keep them waiting.\"\"\"", STORE),
    ),
    *module(
        "session/offline",
        ("one key for every run", "keys = [fresh_key() for _ in writers]", "keys = [bytes(16) for _ in writers]", STORE),
        ("material of another program is taken", "if wanted != requests[place]:", "if False:", STORE),
    ),
    *module("transport/wire", ("a child writes to its parent's connection", "        self.process.check()  # two", "        # two", f"{RUNTIME}/test_wire.py")),
    *module("transport/torch_distributed", ("a rank of several threads", "one_thread=True", "one_thread=False", f"{RUNTIME}/test_distributed.py::test_a_second_thread_of_a_rank_is_refused")),
    *module(
        "transport/torch_distributed",
        ("a rank that fails in a step tells nobody", "                wire.stop()", "                pass", f"{RUNTIME}/test_rank_loops.py::test_a_rank_whose_check_fails_takes_the_others_out"),
        ("a rank ends without its last step", "        keep_promises()\n", "", f"{RUNTIME}/test_rank_loops.py::test_the_last_step_is_computed_at_ranks_that_end"),
    ),
    *module("transport/rank_wires", ("a message that the next step writes to", "words[room:].clone()", "words[room:]", f"{RUNTIME}/test_rank_loops.py::test_loops_are_repeated")),
    Mutant("operations of two threads at a time", "pysmpc/tensor/secret.py", "with lock_of(kwargs.values()) if kwargs and lock is _NO_LOCK else lock:", "with _NO_LOCK:", TWO_THREADS),
    Mutant("another thread draws within a step", "pysmpc/program/train_step.py", "with lock_of((x, y)):", "if True:", FOLLOWING),
    Mutant("predictable keys", "pysmpc/ring/prg.py", "os.urandom(KEY_BYTES)", "os.urandom(4) * 4", KEYS),
    Mutant("keys of the time", "pysmpc/ring/prg.py", "os.urandom(KEY_BYTES)", "int(__import__('time').time()).to_bytes(16, 'big')", KEYS),
    Mutant("an opening kept for a new value", "pysmpc/tensor/storage.py", "self._body = body\n        self._scale = scale\n        self.bound, self.finer = None, 1\n", "body.mask, body.opened = self._body.mask, self._body.opened\n        self._body = body\n        self._scale = scale\n        self.bound, self.finer = None, 1\n", "tests/ops/test_training.py"),
    Mutant("a bound kept for a new value", "pysmpc/tensor/storage.py", "self.bound, self.finer = None, 1\n        self.session.register(body)", "self.finer = 1\n        self.session.register(body)", BOUNDS),
    Mutant("what was divided off kept for a new value", "pysmpc/tensor/storage.py", "self.bound, self.finer = None, 1\n        self.session.register(body)", "self.bound = None\n        self.session.register(body)", "tests/ops/test_factors.py"),
    Mutant("secrets stepped before public ones are looked at", "pysmpc/optimizers/hooks.py", "        _check_plain(others)\n", "", "tests/ops/test_optimizers.py::test_a_public_parameter_with_a_secret_gradient_is_found_before_secret_ones_are_stepped"),
    Mutant("a wrong statement is believed", "pysmpc/api/calls.py", "if limit < 1 << 63 and not", "if False and not", BOUNDS),
    Mutant("a part that is written has the bound of all", "pysmpc/ops/bounds.py", "elif whole:", "elif bound is not None:", BOUNDS),
    Mutant("estimates raise", "pysmpc/ops/bounds.py", "if unit.scale == 1 or any(type(each) is Estimate for each in of):", "if unit.scale == 1:", BOUNDS),
    Mutant("no room for rounding", "pysmpc/ops/bounds.py", "size = RELATIVE * bound + STEPS / scale", "size = bound", BOUNDS),
    Mutant("a bound of one operand", "pysmpc/ops/sum_bounds.py", "bound = of_kind(a * b, a, b)", "bound = of_kind(a, a, b)", BOUNDS),
    Mutant("a sum of its largest element", "pysmpc/ops/sum_bounds.py", "Estimate(own * n), [own]", "Estimate(own), [own]", BOUNDS),
    Mutant("bounds end at workers", "pysmpc/remote/arguments.py", "bound = value.cell.bound\n", "bound = None\n", f"{REMOTE}/test_bounds.py"),
    Mutant("a repetition with any bound", "pysmpc/program/state.py", "x.cell.scale, x.unit, x.cell.bound, x.cell.finer\n", "x.cell.scale, x.unit, x.cell.finer\n", STEPS),
    *core(
        "truncate.inc.h",
        ("a piece that ends with the last whole one", "p.size = n - p.first < size ? n - p.first : size;", "p.size = size;", f"{CHARACTERS} {EXPONENTS}"),
        ("off-by-one shift", "jump[i] = (r[i] >> 63) << (64 - d.power)", "jump[i] = (r[i] >> 63) << (63 - d.power)", f"{KERNELS}/test_truncation.py"),
        ("missing carry", "(jump[i] & ((opened[i] >> 63) - 1)) - quotient[i]", "jump[i] - quotient[i]", TRUNCATION),
        ("missing sign extension", "(quotient + psm_divide(d, ~r) + 1) & negative", "(quotient + psm_divide(d, ~r)) & negative", f"{KERNELS}/test_truncation.py"),
        ("truncated loop tail", "for (size_t i = 0; i < m; i++) to[i] += offset;", "for (size_t i = 0; i + 1 < m; i++) to[i] += offset;", TRUNCATION),
        ("halves without their middle", "middle[j] = (u64)(j % 2 ? 1 : holders) << 31;", "middle[j] = 0;", f"{PROTOCOLS}/test_updates.py"),
        ("halves that lean to one side", "less[j] = j % 2 ? 0 : ~holders & 1;", "less[j] = 0;", f"{PROTOCOLS}/test_updates.py"),
        ("halves that lean, but in the last words", "whole + middle - (less & whole >> 62)", "whole + middle", f"{KERNELS}/test_truncation.py"),
        ("top bits half as far up", "psm_join(low, high, 64 - power, out, m);", "psm_join(low, high, 63 - power, out, m);", f"{KERNELS}/test_truncation.py"),
        ("shares of top bits without their upper part", "out[i] -= l[i] | (u64)h[i] << 32;", "out[i] -= l[i] | 0 * (u64)h[i];", f"{KERNELS}/test_truncation.py"),
        ("nothing is added to the quotient", "(x ? x[i] : 0)", "0 * (x ? x[i] : 0)", f"{KERNELS}/test_truncation.py"),
        ("wrong stream number", "base + 2, at, jump, m);", "base + 1, at, jump, m);", TRUNCATION),
        ("missing sign of a share", "out[i] = 0 - ((0 - z[i]) >> f);", "out[i] = z[i] >> f;", TRUNCATION),
    ),
    *core(
        "affine.inc.h",
        ("every party takes the public product off", "u64 first = lead ? ~(u64)0 : 0;", "u64 first = ~(u64)0 - 0 * (u64)lead;", f"{KERNELS}/test_affine.py"),
        ("a square without that of the jump", "own[1][i] * (own[1][i] + 2 * own[0][i])", "own[1][i] * (2 * own[0][i])", f"{KERNELS}/test_affine.py"),
        ("the other half of c", "top[i] = (c[i] >> 63) - 1;", "top[i] = 0 - (c[i] >> 63);", f"{KERNELS}/test_affine.py"),
        ("rows of the other order", "row ? top[0] : NULL, NULL, to, m)", "NULL, NULL, to, m)", f"{KERNELS}/test_affine.py"),
        ("a mask taken for its r", "if (x->kind == PSM_REOPENED)", "if (0)", f"{KERNELS}/test_affine.py"),
        ("truncated loop tail", "for (size_t i = 0; i < m; i++) out[i] += dealt[i] & mask[i];", "for (size_t i = 0; i + 1 < m; i++) out[i] += dealt[i] & mask[i];", f"{KERNELS}/test_affine.py"),
    ),
    *core(
        "reopen.inc.h",
        ("the low bits of z are not masked", "l[i] &= ((u64)1 << power) - 1;", "l[i] = 0;", f"{KERNELS}/test_reopen.py"),
        ("a carry from lane to lane", "out[i] = ((x[i] & ~top) + (y[i] & ~top)) ^ ((x[i] ^ y[i]) & top);", "out[i] = x[i] + y[i] + 0 * top;", f"{KERNELS}/test_reopen.py"),
        ("the jump whatever c is", "(one[i] + (two[i] & ((c[at + i] >> 63) - 1))) << 48", "((u64)one[i] + two[i]) << 48", f"{KERNELS}/test_reopen.py"),
        ("the bit beside the uppermost", "(less >> (63 - power) & 1) << (16 - power)", "(less >> (62 - power) & 1) << (16 - power)", f"{KERNELS}/test_reopen.py"),
        ("t and h under one stream", "base + 3, at, (psm_lane *)h, m", "base + 2, at, (psm_lane *)h, m", f"{KERNELS}/test_reopen.py"),
        ("lanes beside the last element", "t[psm_lane_words(m) - 1] = h[psm_lane_words(m) - 1] = 0;", "", f"{KERNELS}/test_reopen.py"),
        ("lanes of a message beside the last element", "to[psm_lane_words(m) - 1] = 0;", "", f"{KERNELS}/test_reopen.py"),
    ),
    *module(
        "mpc/mac/opening",
        ("a session goes on after a failed check", "        party.end.reason = f\"{found} was found altered\"\n        raise IntegrityError(f\"{party.end.reason}:", "        raise IntegrityError(f\"{found}:", INTEGRITY),
        ("a check that was not completed is forgotten", "        party.end.reason = party.end.reason or \"a check was not completed\"\n", "        own.waiting = []\n", INTEGRITY),
        ("the codes are not compared", "return _where(coin, waiting, failed) if any(", "return '' if any(", INTEGRITY),
        ("sets of six coins", "& ((1 << SUMS) - 1)", "& ((1 << 6) - 1)", INTEGRITY),
        ("coins that are known beforehand", "KeySet([_joint(opened)])", "KeySet([bytes(KEY_BYTES)])", INTEGRITY),
        ("masks of the check serve again", "stream = party.dealer.streams(3)", "stream = party.dealer.streams(0)", INTEGRITY),
        ("holders saw different words", "bool((seen[:, :DIGEST] == transcript).all()) and all(", "all(", INTEGRITY),
        ("seeds that were not committed to", "torch.equal(row[DIGEST:], _digest(transcript, seed)) for", "True for", INTEGRITY),
        ("z after the others' were seen", "good = good and torch.equal(_digest(row[:-DIGEST], row[-DIGEST:]), commitment)", "good = good and True", INTEGRITY),
        ("bits are not checked", "True: shown[:, z2k_128.WORDS * SUMS : CODES].sum(0) != 0}", "True: total & False}", INTEGRITY),
        ("holders saw different bits", "        digits.append(carry)\n", "        digits.append(carry & 0)\n", INTEGRITY),
        ("bits behind the last", "any(bool(_padding(row, n).any()) for row in rows)", "False", INTEGRITY),
        ("a check passes in a session that ended", "    party.end.check()\n    own = state(party)\n    if not", "    own = state(party)\n    if not", INTEGRITY),
    ),
    *module(
        "mpc/mac/sharing_mac",
        ("revealed before what led to it is checked", "    check(party)\n    opened = open_words(party, [tight(", "    opened = open_words(party, [tight(", INTEGRITY),
        ("returned before it is checked", "for x in secrets])\n    check(party)\n", "for x in secrets])\n", INTEGRITY),
        ("one mask for every input", "n = math.prod(shape)\n    stream = party.owner.streams()", "n = math.prod(shape)\n    stream = party.owner.streams(0)", INTEGRITY),
        ("a refusal is ignored", "int(bool((said == 1).all()))", "1", "tests/remote/test_integrity.py"),
        ("holders may tell the owner what they like", "if bool((rows != rows[0]).any()):", "if False:", "tests/remote/test_integrity.py"),
    ),
    *module(
        "mpc/mac/dealt",
        ("public numbers without codes", "torch.stack([self.ones, self.key], 1)", "torch.stack([self.ones, self.key * 0], 1)", MAC),
        ("a holder's word of the key is left out", "for word in keys.draw(self.stream, 1).reshape(-1).tolist()", "for word in keys.draw(self.stream, 1).reshape(-1).tolist()[1:]", MAC),
        ("masks serve again", "own, stream = state(party), party.dealer.streams()\n    half = z2k_128.WORDS * n\n\n    def deal(", "own, stream = state(party), party.dealer.streams(0)\n    half = z2k_128.WORDS * n\n\n    def deal(", INTEGRITY),
    ),
    *core(
        "wide_sums.c",
        ("a coin is never thrown", "if (pattern >> set % COINS & 1)", "if ((pattern >> set % COINS & 1) && set != 47)", WIDE),
        ("halves of words at the same weight", "((u128)sum[1] << 32)", "sum[1]", WIDE),
    ),
    *core(
        "wide_product.c",
        ("every set has the numbers of the first", "p->y + (ptrdiff_t)set * p->set + ", "p->y + ", WIDE),
        ("no carry", "at[p->plane] = (u64)(value >> 64);", "at[p->plane] += sums[COLUMNS + j];", WIDE),
        ("a set without upper halves", "for (size_t s = 0; s < sets; s++)", "for (size_t s = 1; s < sets; s++)", WIDE),
    ),
    *core(
        "wide_product.inc.h",
        ("carries between limbs are lost", "high -= (wide_v)(low < part);", "", WIDE),
        ("the last row is left out", "if (i < m) WIDE(rows)(1,", "if (0) WIDE(rows)(1,", WIDE),
        target="avx2",
    ),
    *core(
        "encode.inc.h",
        ("halves away from zero", "near = (x + step) - step;", "near = (double)(int64_t)(x + __builtin_copysign(0.5, x));", "tests/ops/test_large_inputs.py"),
        ("large numbers lose their last bits", "(one & fraction) | (other & ~fraction)", "one | (other & ~fraction & 0)", "tests/ops/test_large_inputs.py"),
    ),
    *core(
        "wide_product_ifma.inc.h",
        ("carries between limbs are lost", "high -= (avx512_v)(low < part);", "", WIDE),
        ("upper bits of another row", "upper + i * ld + first, ld, limbs, sums + i * 2 * COLUMNS);\n        for (; i < m", "upper + first, ld, limbs, sums + i * 2 * COLUMNS);\n        for (; i < m", WIDE),
        target="avx512vaes",
    ),
    *core(
        "wide.inc.h",
        ("no carry", "out[i] = (u64)value, out[n + i] = (u64)(value >> 64);", "out[i] = (u64)value, out[n + i] = x[2 * n + i] + (x[3 * n + i] << 32);", WIDE),
        ("the other bit of a pair", "(first & low[i]) + (second & high[i]) + both[i]", "(second & low[i]) + (first & high[i]) + both[i]", WIDE),
        ("codes of bits are shared as the bits are", "psm_streams_take(keys, holders, stream + 1, at, code, m);", "psm_streams_take(keys, holders, stream, at, code, m);", WIDE),
        ("a factor of the neighbour", "factors[3] = {3, 0, 2};", "factors[3] = {3, 1, 2};", WIDE),
        ("codes of factors are masked as shares are", "psm_dealt(key, masks + 1, at, m, corrections, space), n", "space, n", WIDE),
        ("the last holder is taken away too", "value = subtract ? value - sum[i] : value + sum[i];\n            out[at", "value = value + sum[i];\n            out[at", WIDE),
    ),
    *core(
        "compare.inc.h",
        ("every party adds the public bit", "(psm_get(bits - PSM_LANES) & one)", "psm_get(bits - PSM_LANES)", COMPARISON),
        ("swapped operands", "{lt[0], lt[1], lt[2]}}", "{lt[1], lt[0], lt[2]}}", COMPARISON),
        ("dropped top node", "psm_get(keep) ^ lt[3]", "psm_get(keep)", COMPARISON),
        ("the sign is not masked", "psm_prg_xor(key, base + S_RHO, at, less, message + at, w);", "memcpy(message + at, less, w * sizeof(u64));", COMPARISON),
        ("a short sign is not masked", "psm_prg_xor(key, base + S_RHO, at, rest, message + at, w);", "memcpy(message + at, rest, w * sizeof(u64));", f"{PROTOCOLS}/test_short.py"),
        ("masks at the wrong offset", "at, NODE_MASKS(nodes), w, NULL, masks);\n        u64 *keep", "at + 1, NODE_MASKS(nodes), w, NULL, masks);\n        u64 *keep", COMPARISON),
        ("given masks of the first tile", "masks ? masks + at * 64 : r", "masks ? masks : r", f"{KERNELS}/test_comparison.py"),
        ("bit 62 for bit 63", "(63 - 16 * first)));", "(62 - 16 * first)));", COMPARISON),
    ),
    *core(
        "select.inc.h",
        ("missing flip", "turned = 0 - (u64)(flip != 0);", "turned = 0 * (u64)flip;", COMPARISON),
        ("negation without the carry", "((s ^ set) - set)", "(s ^ set)", COMPARISON),
        ("what is public is added by all", "mine = 0 - (u64)(lead != 0)", "mine = ~(u64)0 + 0 * (u64)lead", f"{KERNELS}/test_selection.py"),
        ("the other half of c", "u64 over = (c[i] >> 63) - 1;", "u64 over = 0 - (c[i] >> 63);", f"{KERNELS}/test_selection.py"),
        ("a jump that the bit does not select", "+ (rho_jump[i] & over)", "+ 0 * (rho_jump[i] & over)", f"{KERNELS}/test_selection.py"),
        ("every party adds the public bit", "(lead ? mask[i] & 1 : 0)", "(mask[i] & 1)", COMPARISON),
        ("corrections of the wrong row", "corrections ? corrections + j * n : NULL", "corrections ? corrections + n : NULL", COMPARISON),
    ),
    *core(
        "arith.inc.h",
        ("a sum for a product", "z[i] += d[i] * y[i] + a[i] * e[i];", "z[i] += d[i] * y[i] + (a[i] + e[i]);", PRODUCTS),
        ("wrong sign", "z[i] += d[i] * (x[i] + a[i]);", "z[i] += d[i] * (x[i] - a[i]);", PRODUCTS),
        ("a weight of the table before", "const u64 w = weights[q * count + k]", "const u64 w = weights[q / 2 * count + k]", f"{KERNELS}/test_arithmetic.py"),
        ("a factor of the element before", "sum[i] += f[i] * x[i];", "sum[i] += f[i ? i - 1 : 0] * x[i];", f"{KERNELS}/test_arithmetic.py"),
    ),
    *core(
        "turns.inc.h",
        ("sines of the wrong half", ">> 34) ^ below) - below;", ">> 34) ^ 0) - 0;", f"{KERNELS}/test_turns.py"),
        ("a coefficient a step off", "136187638", "136187639", f"{KERNELS}/test_turns.py"),
        ("the quarter turn before", "psm_tops(t << 1)", "psm_tops(t << 2)", f"{KERNELS}/test_turns.py"),
    ),
    *core(
        "characters.inc.h",
        ("rounded down", "((u64)1 << (shift - 1))", "(0 * (u64)shift)", CHARACTERS),
        ("one of the other holders' words stays in", "for (size_t h = 1; h + 1 < holders; h++) psm_prg_sub", "for (size_t h = 2; h + 1 < holders; h++) psm_prg_sub", CHARACTERS),
        ("pieces under one stream", "turns_take(keys, holders, stream + p.index, word, cosine", "turns_take(keys, holders, stream, word, cosine", CHARACTERS),
        ("the wrong sign of a sine", "y -= psm_mul32_signed(b, cosine)", "y += psm_mul32_signed(b, cosine)", CHARACTERS),
        ("sines with the factors of cosines", "(*left)[j] * x[i] + (*right)[j] * y[i]", "(*left)[j] * x[i] + (*left)[j] * y[i]", CHARACTERS),
        ("every holder takes the corrections", "(ptrdiff_t)row == target && corrections", "target >= 0 && corrections", CHARACTERS),
    ),
    *core(
        "powers.inc.h",
        ("rounded down", "out[i] = (sum + ((u64)1 << 19)) >> 20;", "out[i] = sum >> 20;", f"{KERNELS}/test_powers.py"),
        ("an unsigned exponent", "(int64_t)(x[i] << 30)", "(int64_t)(x[i] << 31 >> 1)", f"{KERNELS}/test_powers.py"),
        ("a power in every plane", "power[i] & (u64)((int64_t)(other - 1) >> 63)", "power[i] | (other & 0)", f"{KERNELS}/test_powers.py"),
        ("the segment after", "from = (segment[i] - plane) & below", "from = (segment[i] + plane) & below", f"{KERNELS}/test_powers.py"),
        ("every piece under the stream of the first", "psm_streams_take(keys, holders, stream + p.index", "psm_streams_take(keys, holders, stream", EXPONENTS),
        ("corrections for all holders", "(ptrdiff_t)row == target && corrections", "corrections", EXPONENTS),
    ),
    *core(
        "gaussian.inc.h",
        ("noise has one sign", "minus = 0 - (words[i] >> 63)", "minus = 0", f"{KERNELS}/test_gaussian.py"),
        ("a tie counts as below", "below += less >> 63;", "below += (less - 1) >> 63;", f"{KERNELS}/test_gaussian.py"),
        ("no tie is seen", "tied[i] = reached - below;", "tied[i] = below - below;", f"{KERNELS}/test_gaussian.py tests/privacy/test_discrete_gaussian.py"),
    ),
    *core(
        "bits.inc.h",
        ("truncated loop tail", "for (size_t i = 0; i < m; i++) planes[i / w", "for (size_t i = 0; i + 1 < m; i++) planes[i / w", f"{KERNELS}/test_bits.py {COMPARISON}"),
        ("rows of a narrow tile spread too close", "memcpy(out + i * w, from + i * PSM_LANES, w", "memcpy(out + i * w, from + i * w, w", f"{KERNELS}/test_bits.py {COMPARISON}"),
        ("half of a register is left as it was", "at < PSM_LANES; at += PSM_REGISTER) {", "at < PSM_LANES; at += 2 * PSM_REGISTER) {", f"{KERNELS}/test_bits.py {COMPARISON}"),
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
        ("only the last slab of K", "accumulate || p > 0, p == 0);", "accumulate, p == 0);", f"{KERNELS}/test_matmul.py"),
    ),
    *core(
        "matmul_avx2.inc.h",
        ("sums of the first four columns for all", "column_sums + j * next", "column_sums", f"{KERNELS}/test_matmul.py"),
        ("the sum of the second half of a panel is lost", "avx2_pack_rows(r, second, &sum2);", "avx2_pack_rows(r, second, &sum);", f"{KERNELS}/test_matmul.py"),
        target="avx2",
    ),
    *core(
        "aes_vaes256.inc.h",
        ("the second block of a vector is the first", "_mm256_set_epi64x(0, 2 * i + 1, 0, 2 * i)", "_mm256_set_epi64x(0, 2 * i, 0, 2 * i)", f"{KERNELS}/test_prg.py"),
        target="vaes256",
    ),
    *core(
        "matmul_pair_avx2.inc.h",
        ("sums of the other holder", "avx2_folded(sums[four][h])", "avx2_folded(sums[four][0])", f"{KERNELS}/test_product.py"),
        ("halves that are not exchanged", "cross[h], _mm256_mullo_epi32(turned, y));", "cross[h], _mm256_mullo_epi32(x, y));", f"{KERNELS}/test_product.py"),
        ("row sums of the first holder for both", "row_sums[PAIR * h]", "row_sums[0]", f"{KERNELS}/test_product.py"),
        ("the last of the inner axis is left", "*end = a + PAIR_WORDS * k;", "*end = a + PAIR_WORDS * (k - 1);", f"{KERNELS}/test_product.py"),
        ("the second four columns are the first", "at + PAIR, rows - PAIR, deep + p, k - p", "at, rows - PAIR, deep + p, k - p", f"{KERNELS}/test_product.py"),
        ("the first and the last place are taken for all", "p[1] - p[0] == 1 && p[2] - p[1] == 1 && p[3] - p[2] == 1", "p[3] - p[0] == 3", f"{KERNELS}/test_product.py"),
        ("words are taken to follow one another along k", "(lines == PAIR_ANYHOW && pair_dense(deep))", "lines == PAIR_ANYHOW", f"{KERNELS}/test_direct.py"),
        ("rows are taken to be in lines", "v->row == 1 && rows == PAIR_NR", "rows == PAIR_NR", f"{KERNELS}/test_product.py"),
        ("columns are taken to be in lines", "v->col == 1 && rows == PAIR_NR", "rows == PAIR_NR", f"{KERNELS}/test_product.py"),
        ("sums of the second four rows are those of the first", "to + next, sums[1]);", "to + next, sums[0]);", f"{KERNELS}/test_product.py"),
        target="avx2",
    ),
    *core(
        "matmul_avx512.inc.h",
        ("half of the sum of a row", "for (int i = 4; i; i /= 2)", "for (int i = 2; i; i /= 2)", f"{KERNELS}/test_matmul.py"),
        target="avx512",
    ),
    *core(
        "matmul_amx.inc.h",
        ("a byte meets one of another weight", "AMX_STEP(4, 0, 6, 7, 5);", "AMX_STEP(4, 1, 6, 7, 5);", f"{KERNELS}/test_tiles.py"),
        ("sums of the first steps are lost", "amx_load(sums, first == 0);", "amx_load(sums, 1);", f"{KERNELS}/test_tiles.py"),
        ("columns in the order of the tile", "_mm512_store_si512(out, _mm512_unpacklo_epi64(even, odd));", "_mm512_store_si512(out, even);", f"{KERNELS}/test_tiles.py"),
        target="avx512",
    ),
    *core(
        "amx.c",
        ("tiles of a thread are not configured", "    tiles_begin();\n", "", f"{KERNELS}/test_tiles.py"),
        ("wrong products are used", 'return right ? NULL : "wrong products";', "return NULL;", f"{KERNELS}/test_tiles.py"),
        target="avx512",
    ),
    *core(
        "aes_ni.inc.h",
        ("operands swapped", "_mm_sub_epi64(_mm_loadu_si128((const __m128i *)x + i), block[i])", "_mm_sub_epi64(block[i], _mm_loadu_si128((const __m128i *)x + i))", f"{KERNELS}/test_prg.py"),
        target="avx2",
    ),
    *core(
        "rounds.c",
        ("every holder adds the constant of a sum", "(ptrdiff_t)row == s->h->lead ? s->offset : 0", "s->offset", CHARACTERS),
        ("every holder adds constants of tables", "p.lead ? s->in3 : NULL", "s->in3", f"{KERNELS}/test_arithmetic.py"),
        ("corrections to the wrong party", "(ptrdiff_t)p.row == s->h->target ? s->corrections", "(ptrdiff_t)p.row == s->h->lead ? s->corrections", PRODUCTS),
        ("one holder is not taken away", "for (size_t i = 0; i + 1 < s->h->count; i++)", "for (size_t i = 1; i + 1 < s->h->count; i++)", PRODUCTS),
        ("the last row is not summed", "for (size_t row = 1; row < s->base; row++)", "for (size_t row = 1; row + 1 < s->base; row++)", PRODUCTS),
    ),
    *core(
        "product.c",
        ("shares of the wrong mask", "{p->y.opened, y + i * p->y.n}", "{y + i * p->y.n, p->y.opened}", PRODUCTS),
        ("runs that begin anew in every block", "least(run - (from + j) % run, length - j)", "least(run, length - j)", f"{KERNELS}/test_direct.py"),
        ("only the last part of the inner axis", "c, (ptrdiff_t)p->n, b->accumulate || at, work);", "c, (ptrdiff_t)p->n, b->accumulate, work);", f"{KERNELS}/test_direct.py"),
    ),
    *core(
        "product.c",
        ("the first holder's words for both", "f ? x + (f - 1) * p->x.n", "f ? x", f"{KERNELS}/test_product.py"),
        ("windows of the first row for all", "f->rows ? f->rows + row : NULL", "f->rows", f"{KERNELS}/test_product.py"),
        ("products of nothing are not begun", "if (size && !accumulate) memset", "if (0) memset", f"{KERNELS}/test_product.py"),
        ("what has no address is multiplied", "if (size && p->k && p->x.n && p->y.n) return 0;", "if (size) return 0;", f"{KERNELS}/test_product.py"),
        target="avx2",
    ),
    *core(
        "filtering.c",
        ("taps are taken to be windows", "tap % 3 * w->right) return 0;", "tap % 3 * w->right) break;", f"{KERNELS}/test_filtering.py"),
        ("places are taken to be those of windows", "(ptrdiff_t)j * size_of(w->right)) return 0;", "(ptrdiff_t)j * size_of(w->right)) break;", f"{KERNELS}/test_filtering.py"),
        ("a kernel that is not turned", "w->down < 0 ? 2 - a : a", "a", f"{KERNELS}/test_filtering.py"),
        ("words beyond the last column", " && j + v < w->width + side - 3;", ";", f"{KERNELS}/test_filtering.py"),
        ("only the last channels", "f->o->accumulate || f->channel", "f->o->accumulate", f"{KERNELS}/test_filtering.py"),
        ("only the last tiles", "wide, first > 0, work", "wide, 0, work", f"{KERNELS}/test_filtering.py"),
        ("the first group for all", "f->o->y[s] + f->p->y.offsets[f->entry]", "f->o->y[s] + f->p->y.offsets[0]", f"{KERNELS}/test_filtering.py"),
        ("four positions are taken to follow one another", "+ (ptrdiff_t)(q & 3))) return 0;", "+ (ptrdiff_t)(q & 3))) break;", f"{KERNELS}/test_filtering.py"),
    ),
    *core(
        "filtering.c",
        ("the first holder's words for both", "a.data + 2 * a_next", "a.data + a_next", f"{KERNELS}/test_filtering.py"),
        target="avx2",
    ),
    *core(
        "filtering.inc.h",
        ("a wrong sign", "m[1] = d[2 * step] - d[step] - d[3 * step];", "m[1] = d[2 * step] - d[step] + d[3 * step];", f"{KERNELS}/test_filtering.py"),
        ("four words of one place", "fours && PSM_REGISTER <= 4", "PSM_REGISTER <= 4", f"{KERNELS}/test_filtering.py"),
    ),
    *core(
        "direct.c",
        ("padding is not zero", "c->out[i] = c->map[i] < 0 ? 0 : c->data[c->map[i]];", "c->out[i] = c->data[c->map[i] < 0 ? 0 : c->map[i]];", f"{KERNELS}/test_product.py"),
    ),
    *core(
        "fss_bits.inc.h",
        ("a wrong correction", "correction = y[i] ^ h[i] ^ z[i] ^ (d[i] & ~right);", "correction = y[i] ^ h[i] ^ z[i] ^ (d[i] & right);", FSS_BITS),
        ("missing control bit", "left = h[i] ^ y[i] ^ (correction & bits_control(state[i]));", "left = h[i] ^ y[i] ^ correction;", FSS_BITS),
        ("a level too few", "level < bits - BITS_BELOW; level++, key += 2 * m)", "level + 1 < bits - BITS_BELOW; level++, key += 2 * m)", FSS_BITS),
        ("the parity of the wrong children", "if (less) parity[i] ^= left & right;", "if (less) parity[i] ^= left & ~right;", FSS_BITS),
        ("off by one at the leaf", "from = 0 - one;", "from = 0 - one - one;", FSS_BITS),
        ("both roots of one party", "words[2 * i] = (words[2 * i] & ~(u64)1) | rank;", "words[2 * i] = words[2 * i] & ~(u64)1;", FSS_BITS),
        ("the constant in the clear", "other[i] ^= own[i];", "other[i] = 0;", FSS_BITS),
        ("the constant at both parties", "if (rank == 0)\n            for", "if (rank < 2)\n            for", FSS_BITS),
        ("a leaf without its correction", "(bits_load(row, at + i) & bits_control(s->v[at + i]))", "bits_load(row, at + i)", FSS_BITS),
        ("the other half of a leaf", "(leaf[2 * i] & ~above) | (leaf[2 * i + 1] & above)", "(leaf[2 * i] & above) | (leaf[2 * i + 1] & ~above)", FSS_BITS),
    ),
    *core(
        "fss.c",
        ("the key of the other party", "c->k->fss_bits_eval(c->h->keys + p.row,", "c->k->fss_bits_eval(c->h->keys + c->h->count - 1 - p.row,", FSS),
        ("one hash for all batches", "size_t at = first / GRAIN * SALT;", "size_t at = first / ((size_t)1 << 40) * SALT;", FSS_BITS),
        ("a hash that one holder chose", "for (size_t i = 1; i < h->count; i++) k->prg_add(&h->keys[i], stream, at, salt, salt, SALT);", "", FSS_BITS),
    ),
    *core(
        "fss.inc.h",
        ("missing control bit", "sum[k].v[i] += v[k].v[i] + (row.v[i] & fss_bit(s.lo[i], 0));", "sum[k].v[i] += v[k].v[i] + row.v[i];", f"{KERNELS}/test_fss.py"),
        ("both parties add", "v8 minus = (v8){0} - (u64)rank;", "v8 minus = (v8){0};", f"{KERNELS}/test_fss.py"),
    ),
    *module(
        "mpc/fss/fss_comparison",
        ("one mask for all bits", "base, n, keys = party.dealer.streams(MATERIAL), bit.n, party.dealer.keys", "base, n, keys = party.dealer.streams(0), bit.n, party.dealer.keys", FSS),
        ("bits under no mask", "return out.bitwise_xor_(self.own)", "return out.copy_(self.own)", FSS),
        ("missing flip", "return bit.flipped() if self.flip else bit", "return bit", COMPARISON),
        ("off by one at 0", "bit = _sign(party, base, c, offset + 1).flipped()", "bit = _sign(party, base, c, offset).flipped()", COMPARISON),
        ("every party adds the public bit", "own[party.lead] ^= z2k", "own ^= z2k", FSS),
        ("bit of the wrong stream", "self.opened.append(MaskedBit(beta, rho, base + RHO))", "self.opened.append(MaskedBit(beta, rho, base + RHO + 1))", COMPARISON),
        ("keys of the mask's stream", "SALT = 9", "SALT = 0", FSS),
    ),
    *core(
        "securenn.inc.h",
        ("no permutation", "snn_shuffle(control + SNN_CONTROL * i, c);", "", SNN),
        ("not multiplied", "snn_halves y = (snn_halves)(SNN_AT(s, row, part) + 1);", "snn_halves y = (snn_halves)(snn_all(1) + (SNN_AT(s, row, part) & 0));", f"{SNN_KERNELS} {SNN}"),
        ("digits without a mask", "snn_reduce((snn_bytes)(even | odd << 8) + mask);", "snn_reduce((snn_bytes)(even | odd << 8) + (mask & 0));", f"{SNN_KERNELS} {SNN}"),
        ("the mask does not cancel", "if (!lead) mask = snn_all(SNN_P) - mask;", "", SNN_KERNELS),
        ("factors that may be zero", "snn_symbols(key, stream, at, SNN_P - 1, out);", "snn_symbols(key, stream, at, SNN_P, out);", f"{SNN_KERNELS} {SNN}"),
        ("missing wrap at 2^64", "snn_pick(fixed, snn_all(row ? one : 0), c);", "c;", f"{SNN_KERNELS} {SNN}"),
        ("beta is not applied", "carry = less ? ~beta : beta;", "carry = less ? ~(v8){0} : (v8){0};", SNN_KERNELS),
        ("bits that are not shared", "snn_reduce(snn_spread(planes[row][i], part) + snn_all(SNN_P) - *symbol);", "snn_spread(planes[row][i], part);", SNN_KERNELS),
    ),
    *core(
        "odd.inc.h",
        ("missing wrap", "return odd_from(sum + (sum < x)); /* 2^64 is 1 */", "return odd_from(sum);", f"{SNN_KERNELS} {SNN}"),
        ("the carry of the masks is forgotten", "odd_add(1 + alpha, after)", "odd_add(1 + (alpha & 0), after)", SNN),
    ),
    *module(
        "mpc/securenn/securenn_comparison",
        ("swapped parties", "second[row] if rank else first[row] +", "first[row] if rank else second[row] +", SNN),
        ("the provider sees shares", "second[row] if rank else first[row] + z2k.wrap(shift[0]), out=message[row])", "0 * second[row] if rank else 0 * first[row] + z2k.wrap(shift[0]), out=message[row])", SNN),
        ("one mask for both shares", "pair.draw(base + PAIR_MASKS + 1, n)", "pair.draw(base + PAIR_MASKS, n)", SNN),
        ("beta is not taken back", "beta = odd_ring.control_bits(pair, own + PAIR_CONTROL, n)[:1]", "beta = 0 * odd_ring.control_bits(pair, own + PAIR_CONTROL, n)[:1]", SNN),
        ("what P2 found in the open", "torch.bitwise_xor(odd_ring.found(asked, n), known.pop(), out=out)", "out.copy_(odd_ring.found(asked, n))", SNN),
        ("values that are one in the odd ring", "NEGATIVE = (1, -1)", "NEGATIVE = (0, 0)", SNN),
    ),
    *module(
        "mpc/securenn/securenn_signs",
        ("off by one at 0", "_sign(party, material, c, offset + 1).flipped()", "_sign(party, material, c, offset).flipped()", SNN),
        ("the top bit is compared, too", "LOW = (1 << 63) - 1", "LOW = -1", SNN),
    ),
    *module(
        "remote/worker/policy",
        ("the right to open is not asked for", "if \"open\" not in self._config.drivers.get(driver, ()):", "if False:", POLICY),
        ("consent is ignored", "if reason is not None:\n            raise OpenNotPermittedError(reason)", "if False:\n            raise OpenNotPermittedError(reason)", POLICY),
        ("an opening is not logged", "self._record({**facts, \"request\": request.id, **approved}, reason)", "pass", POLICY),
        ("one row fewer will do", "if part.items < rule.min_items:", "if part.items < rule.min_items - 1:", POLICY),
        ("what came of a test needs no consent", "mine = [part for part in parts if me in part.owners]", "mine = [part for part in parts[:1] if me in part.owners]", CHECKED_THERE),
        ("data for everybody", "if driver not in permitted:", "if False:", f"{REMOTE}/test_data.py::test_get_needs_permission"),
    ),
    *module(
        "remote/driver/driver",
        ("two threads use one connection", "        with self._lock:\n            return method(", "        if True:\n            return method(", f"{FAULTS}::test_threads_of_one_driver"),
        ("the driver goes on after a failed check", "if self.broken is None and self.end.reason:", "if False:", f"{REMOTE}/test_integrity.py"),
        ("a child ends its parent's session", "if self._process.left:", "if False:", f"{FAULTS}::test_a_forked_process_says_nothing_to_the_workers"),
    ),
    *module(
        "remote/worker/policy",
        ("the budget is not spent", "        self.budget.spend(driver, self._numbers(parts))\n", "", LIMITED),
        ("the budget is not asked", "if limit and used + more > limit:", "if False:", LIMITED),
    ),
    *module(
        "remote/worker/approvals",
        ("an approval serves for ever", "(approved / request.id).unlink()", "(approved / request.id).stat()", APPROVALS),
        ("an approval is for every session", "msgspec.msgpack.encode([self._nonce, self.driver, *facts])", "msgspec.msgpack.encode([self.driver, *facts])", APPROVALS),
        ("an approval is for whatever the slot has", "self._hash(\"value\", digest, count, ref.slot, window, *more,", "self._hash(\"value\", ref.slot, window, *more,", APPROVALS),
        ("a time never ends", "if lasting.until <= time.time():", "if False:", APPROVALS),
        ("fewer rows than were approved", "return lasting.by if fits and request.rows >= lasting.request.rows else None", "return lasting.by if fits else None", APPROVALS),
        ("approvals outlive their session", "                    (self._folder(name) / file).unlink(missing_ok=True)\n", "                    pass\n", APPROVALS),
        ("any file is a request", "    if not _ID.fullmatch(request):\n        return None\n", "", APPROVALS),
    ),
    *module(
        "remote/worker/history",
        ("public tensors are all alike", "hashlib.sha256(raw(buffer)).digest()", "b\"\"", APPROVALS),
        ("what is written into a trained value is not seen", "base = old.base if old.steps else old.hash\n", "base = old.base or b\"\"\n", APPROVALS),
        ("what a driver shares is always the same", "self._new(operation.slot, secrets.token_bytes(32), f\"{self._driver}'s own", "self._new(operation.slot, bytes(32), f\"{self._driver}'s own", APPROVALS),
    ),
    *module(
        "remote/worker/held",
        ("memory is taken, then counted", "        if self._limits.memory:\n", "        if False:\n", LIMITED),
        ("recorded steps are free", "return self.bytes + self._dropped + self._charged", "return self.bytes", LIMITED),
    ),
    *module(
        "remote/worker/budget",
        ("a day without an end", "if today > self._day:", "if False:", LIMITED),
        ("a restart gives a second budget", "used_on(self._day, log, me) if log is not None else Counter()", "Counter()", LIMITED),
    ),
    *module(
        "remote/limits",
        ("as many sessions as come", "elif limits.sessions and mine >= limits.sessions:", "elif False:", LIMITED),
    ),
    *module(
        "remote/worker/replay",
        ("a failed check passes for an error of the program", "not isinstance(error, ChannelError | IntegrityError)", "not isinstance(error, ChannelError)", f"{REMOTE}/test_integrity.py"),
        ("what is written into a value forgets", "if writes(func):", "if False:", POLICY),
        ("a value has two slots", "if hasattr(cell, \"provenance\"):", "if False:", POLICY),
        ("what is only read is tainted", "if x.cell in cells}.values())", "if x.cell in cells}.values()) and cells", POLICY),
        ("running statistics come of one row", "self.wrote(cell, made[-1])", "self.wrote(cell, made[0])", POLICY),
    ),
    *module(
        "remote/worker/opened_values",
        ("the provider is not asked for its program", "# 1. the provider's program\n    replay.confirmed()\n", "# 1. the provider's program\n    pass\n", COLLUSION),
    ),
    *module(
        "remote/worker/opened_values",
        ("whoever does not consent is ignored", "strict=bool(mine)) if word != 1]", "strict=bool(mine)) if False]", f"{ATTACKS}/test_consent.py"),
    ),
    *module(
        "remote/worker/origins",
        ("an owner is forgotten", "found = origin.owners | found if found else origin.owners", "found = origin.owners", POLICY),
        ("a row that occurs twice counts twice", "if not own.distinct:", "if False:", POLICY),
    ),
    *module(
        "remote/worker/rows",
        ("the largest of rows is of all of them", "if over and not unite:", "if False:", ROWS),
        ("the most rows of any operand", "return made(min([math.inf, *(each.cap for each in rows)]), [term", "return made(max([0, *(each.cap for each in rows)]), [term", ROWS),
        ("a window may run over the end of a row", "if inside and int((at % step).max()) + inside >= step:", "if False:", ROWS),
        ("rows that differ along an axis that goes are forgotten", "if not np.array_equal(array, np.broadcast_to(first, array.shape)):", "if False:", ROWS),
    ),
    *module(
        "remote/worker/row_rules",
        ("a softmax over rows keeps them apart", "return carried(x.rows, lambda d: None if d == axis else d)", "return x.rows", ROWS),
    ),
    *module(
        "remote/worker/layer_row_rules",
        ("a layer normalisation over rows keeps them apart", "return carried(rows, lambda d: d if d < lead else None)", "return rows", ROWS),
        ("nobody's rows are in the statistics of a batch", "joined(collapsed(reduced(x.rows, _channels(x), False)), *running)", "joined(*running)", ROWS),
    ),
    *module(
        "remote/worker/data",
        ("data with NaN", "        _refuse(what, ~torch.isfinite(tensor), \"NaN or infinite; clean the data first\")\n", "        pass\n", f"{REMOTE}/test_data.py"),
    ),
    *module(
        "remote/worker/worker",
        ("a peer of any name", "if name not in config.peers:", "if False:", INTRUDERS),
        ("half of a bad file is taken", "config = self._source()\n", "config = self.config = self._source()\n", RELOAD),
        ("the role changes while it runs", 'FIXED = ("name", "role", ', 'FIXED = ("name", ', RELOAD),
        ("whoever is revoked may stay", "if (revoked := attendance.revoked()) is not None:", "if False:", RELOAD),
        ("rules of yesterday", "self.openings.reload(config)", "pass", RELOAD),
        ("whoever is certified drives", "if \"compute\" not in config.drivers.get(name, ()):", "if False:", INTRUDERS),
    ),
    *module(
        "remote/worker/checkpoint_store",
        ("parts of different checkpoints", "if any(not torch.equal(theirs, mine) for theirs in consent_rounds.told(self._replay.session, mine)):", "if any(False for _ in consent_rounds.told(self._replay.session, mine)):", f"{ATTACKS}/test_slots.py"),
    ),
    *module(
        "remote/worker/intake",
        ("public tensors of any content", "if each.digest is not None and digest_of(tensor) != each.digest:", "if False:", f"{ATTACKS}/test_programs.py"),
        ("operations out of order", "if batch.first != self._received + 1:", "if False:", f"{FAULTS}::test_operations_out_of_order"),
        ("the credit is ignored", "if self._received - done > BACKLOG:", "if False:", f"{FAULTS}::test_a_driver_that_does_not_wait"),
    ),
    *module(
        "remote/worker/driver_connection",
        ("a heartbeat tells how long something was computed", "return Beat(self.done, self._moves)", "return Beat(self.done, sum(moved))", VALUES),
        ("sessions with a revoked party", "*(engagement.streams if engagement is not None else [])", "", RELOAD),
    ),
    *module(
        "remote/worker/session_runner",
        ("what a batch says is not followed", "            engagement.transcript.follow(due.told)\n", "            engagement.transcript.follow(b\"\")\n", f"{ATTACKS}/test_programs.py"),
        ("the provider says nothing of what it was told", "                engagement.confirm()\n", "                pass\n", f"{ATTACKS}/test_honest.py"),
        ("a provider of the driver's choice", "if setup.provider not in (config.name, *config.providers) or set(setup.holders) & set(config.providers):", "if False:", INTRUDERS),
    ),
    *module(
        "remote/worker/session_data",
        ("what saturates is not noted", "found.saturated + saturated)", "0)", VALUES),
        ("a value out of range is an error", "saturating(found.values, unit, self._session.running.limit(operation.suite))", "(__import__(\"pysmpc\").fixedpoint.encode(found.values, unit), 0)", VALUES),
        ("consent of yesterday to data in the clear", "store = self._worker.data  # permission", "store = self._used.get(operation.data, self._worker.data)  # permission", RELOAD),
    ),
    *module(
        "transport/wire",
        ("no limit of length", "if length > LIMITS[kind]:", "if False:", f"{RUNTIME}/test_wire.py"),
        ("what is decrypted waits for more to arrive", "            self._all = False  # a part", "            # a part", f"{RUNTIME}/test_wire.py"),
        ("more of a tensor than announced", "if not 0 < part.nbytes <= self.left:", "if not 0 < part.nbytes:", f"{RUNTIME}/test_wire.py"),
    ),
    *module(
        "transport/tls",
        ("old versions of TLS", "context.minimum_version = ssl.TLSVersion.TLSv1_3", "context.minimum_version = ssl.TLSVersion.TLSv1_2", f"{RUNTIME}/test_tls.py"),
        ("the peer's name is not pinned", "return context\n\n    def client", "context.check_hostname = False\n        return context\n\n    def client", f"{RUNTIME}/test_tls.py"),
        ("revoked by name only", "for entry in (name, SERIAL + serial):", "for entry in (name,):", f"{RUNTIME}/test_tls.py"),
        ("a key that a group can read", "if mode & 0o077:", "if mode & 0o007:", f"{RUNTIME}/test_tls.py"),
    ),
    *core(
        "prg.inc.h",
        ("the key of the epoch after", "return &epochs->recent[epoch % PSM_RECENT];", "return &epochs->recent[(epoch + 1) % PSM_RECENT];", EPOCHS),
        ("the key of an epoch that is no longer among the last", "if (epochs->count - epoch <= PSM_RECENT)", "if (epochs->count - epoch <= PSM_RECENT + 1)", EPOCHS),
        ("words of an epoch to come", "if (epoch >= epochs->count)", "if (epoch > epochs->count)", EPOCHS),
        ("every epoch has the key that it follows from", "    if (epochs == NULL)\n        return key;", "    if (epochs == NULL || epoch)\n        return key;", EPOCHS),
    ),
    *core(
        "epochs.c",
        ("keys follow from half of a digest", "block[i] ^= digest[16 + i];", "block[i] ^= digest[i];", EPOCHS),
        ("keys are lost as the table grows", "        memcpy(keys, epochs->keys, 16 * epochs->room);\n", "", EPOCHS),
    ),
    *module(
        "session/transcript",
        ("keys do not follow", "            each.follow(self.digest)\n", "            pass\n", f"{TRANSCRIPT} {COLLUSION}"),
        ("keys follow from what is told last", "self.digest = _hash(self.digest, told)", "self.digest = _hash(told)", TRANSCRIPT),
        ("parts run together", "        found.update(len(part).to_bytes(8, \"little\"))\n", "", TRANSCRIPT),
        ("numbers of the first epoch", "return max(self._epochs - 1, 0) << EPOCH_BITS", "return 0", f"{TRANSCRIPT} {COLLUSION}"),
        ("the epochs of another session", "        self.digest = _hash(*(fact.encode() for fact in facts))\n", "        self.digest = _hash()\n", TRANSCRIPT),
        ("more epochs than there are numbers for", "if self._epochs == EPOCHS:", "if False:", TRANSCRIPT),
    ),
    *module(
        "transport/establish",
        ("the ring's keys do not follow", "noted, ring_own, ring_next]", "noted]", COLLUSION),
        ("an owner's keys do not follow", "followers = [*sharing.values(), everyone, own, ", "followers = [", COLLUSION),
        ("the provider's keys do not follow", "keys=[dealing, *notaries.values()])", "keys=[*notaries.values()])", COLLUSION),
        ("the keys of authenticated inputs do not follow", "keys=[dealing, *notaries.values()])", "keys=[dealing])", COLLUSION),
        ("the provider's word is not awaited", "            self.feed.confirmed()\n", "            pass\n", COLLUSION),
    ),
    *module(
        "transport/certificates",
        ("valid for longer than the authority", "min(ends, last)", "ends", f"{RUNTIME}/test_tls.py"),
        ("whatever certificate is renewed", "found.verify_directly_issued_by(self.certificate)", "pass", f"{RUNTIME}/test_tls.py"),
    ),
    *module(
        "transport/links",
        ("a round may be replayed", "waiting = message.begin(self._round, self._transcript.digest)", "waiting = message.begin(0, self._transcript.digest)", f"{RUNTIME}/test_links.py"),
        ("a round without the digest", "waiting = message.begin(self._round, self._transcript.digest)", "waiting = message.begin(self._round, bytes(32))", TRANSCRIPT),
    ),
    *[
        Mutant(what, "pysmpc/program/compile.py", old, new, f"tests/program/test_program.py {REPEATED}::test_recordings_over_several_batches")
        for what, old, new in (
            ("a recording is within one batch", "    if epochs:\n", "    if False:\n"),
            ("streams of the recording's epochs", "found = first + (stream - recorded) % (1 << EPOCH_BITS)", "found = first + stream - recorded"),
            ("the batch before", "bisect.bisect(epochs, number", "bisect.bisect_left(epochs, number"),
        )
    ],
    *core(
        "launch.c",
        ("a kernel adds to what it is said to overwrite", 'in a, in e, inout z, n",', 'in a, in e, out z, n",', LAUNCHES),
        ("a kernel writes to what it is said to read", 'K(scale, "in x, factor, out z, n"', 'K(scale, "in x, factor, in z, n"', LAUNCHES),
        ("a kernel is said to read what it does not", 'K(deal_sum, "keys h, stream a, out z, n"', 'K(deal_sum, "keys h, stream a, inout z, n"', LAUNCHES),
    ),
    *steps(
        ("a repetition under the masks of the recording", "program/check", "return moved_stream(x, compiled.first, other.first, other.epochs)", "return int(x)"),
        ("memory of two values is exchanged", "program/state", "if whole and start in made and end.is_contiguous():", "if whole and end is not self.words:"),
        ("what was left behind changes later", "program/state", "        self.words, self.end = (memory.copied(each) for each in had)\n", ""),
        ("an opening is not told to its argument", "program/state", "            share.body.opened, share.body.mask = body.opened.clone(), moved(body.mask)\n", "            share.body.opened, share.body.mask = body.opened.clone(), body.mask\n"),
        ("what was read changes later", "program/state", "self._held, self._source = self._source.clone(), None", "self._held, self._source = self._source, None"),
        ("what is kept changes later", "program/state", "        self._detach(1 - turn)\n", ""),
        ("every run reads the same memory", "program/segment", "turned=bool(self._turn)", "turned=False"),
        ("parameters written in between are not seen", "program/state", "if body is not self._copy(turn):", "if self._copy(turn) is None:"),
        ("a result is read before it is there", "program/trace", "next((i + 1 for i in reversed", "next((i for i in reversed"),
        ("a recording that was not checked", "program/loop_regions", "or before.confirms(new)", "or True"),
        ("memory is used again too early", "program/buffers", "                    last[start] = number\n", "                    last[start] = min(number, first[start] + 1)\n"),
    ),
    *[
        Mutant(what, f"pysmpc/program/{name}.py", old, new, FOLLOWING)
        for what, name, old, new in (
            ("numbers are not compared", "follow", "if type(x) is not kind or want != x:", "if type(x) is not kind:"),
            ("public tensors are not compared", "path", "return torch.equal(bits_of(x), self._bits)", "return True"),
            ("what somebody keeps is not handed out", "loop_regions", "alive = tuple(self._alive())", "alive = tuple(self._alive())[:1]"),
            ("a path that was left is never forgotten", "known_paths", "known.missed > 1 and", "False and"),
            ("running statistics stay as they were", "segment", "found = [given[\"running_mean\"], given[\"running_var\"]]", "pass"),
            ("what an update holds is not given back", "follow", "in self._held.items():", "in ():"),
            ("counters are read before it is computed", "follow", "            return Stats\n        keep_promises()\n", "            return Stats\n"),
            ("gradients are asked for as if forward", "path", "asked(self.backward)", "asked(False)"),
        )
    ],
    *module(
        "remote/worker/flow",
        ("whose data the recording had seen", "if known is not None:\n            return known(labels)", "for known in self._known.values():\n            return known(labels)", REPEATED),
    ),
    *module(
        "remote/worker/session_runner",
        ("what was opened early is opened again", "            if number != self._opened:\n", "            if True:\n", EARLY),
        ("the next opening, of whatever it is", " and operation.ref.slot == slot:", ":", EARLY),
        ("nothing is opened early", "if self._ahead is None and not self._last:", "if False:", EARLY),
    ),
    *module(
        "transport/control",
        ("what does not fit waits for the next beat", "            if done and not self._outbox:\n", "            if done or True:\n", f"{RUNTIME}/test_control.py"),
        ("a connection is used by two threads", "        if self._turn.acquire(blocking=False):\n            try:\n", "        if True:\n            try:\n                self._turn.acquire(blocking=False)\n", f"{RUNTIME}/test_control.py"),
    ),
    *[
        Mutant(what, f"pysmpc/{name}.py", old, new, tests)
        for what, name, old, new, tests in (
            ("shares are made on the caller's device", "torch_modes", "return torch._C.DisableTorchFunction() if torch._C._len_torch_function_stack() else _NONE", "return _NONE", "tests/ops/test_modes.py"),
            ("a tiny factor is rounded at the nominal scale", "ops/scales", "        if (short := _by_scale(held, factor)) is not None:\n", "        if (short := None) is not None:\n", FACTORS),
            ("small public factors keep few digits", "ops/public_operands", "    if not 0 < largest * scale < COARSE:\n", "    if True:\n", FACTORS),
            ("a dimension is taken for another one", "ops/core", "    if not -span <= dim < span:\n", "    if False:\n", "tests/ops/test_movement.py"),
            ("a truth value is the number", "ops/movement", "    if wanted == torch.bool != x.dtype:\n", "    if wanted == torch.bool and x.dtype.is_floating_point:\n", "tests/ops/test_movement.py"),
            ("a deep copy has no gradient", "tensor/secret", "        if self.grad is not None:\n", "        if False:\n", "tests/pysyft/test_copies.py"),
        )
    ],
    *module(
        "mpc/derived/ranges",
        ("operands are as large as they were in the recording", "recorder.note(recorder.ranges[body].begin)", "pass", RANGES),
        ("a repetition checks nothing", "        recorder.note(check, *operands)\n", "", RANGES),
        ("bounds of a recording are those of values", "            if (recorder := active()) is None:\n                out.body.range", "            if True:\n                out.body.range", RANGES),
        ("a truncation takes a divisor too many", "own_size, LIMIT - by + 1,", "own_size, LIMIT + by,", RANGES),
    ),
    *module(
        "mpc/derived/range_checks",
        ("a result that wrapped is taken as it is", "    if bool(((real - found.double()).abs() > LIMIT).any()):\n", "    if False:\n", RANGES),
        ("what is bounded too widely is refused", "            most = self.closely(*operands)\n", "            pass\n", RANGES),
    ),
    *[
        Mutant(what, f"pysmpc/{name}.py", old, new, f"tests/privacy/test_{tests}.py")
        for what, name, old, new, tests in (
            ("factors of examples are rounded up", "privacy/clipping", "= (inverse * (1 - _RELATIVE) - _ABSOLUTE)", "= (inverse * (1 + 2.0**-12))", "clipping"),
            ("norms are not rounded up", "privacy/clipping", "rows = torch.stack(terms) + 2 * STEP", "rows = torch.stack(terms) - 2 * STEP", "clipping"),
            ("a square that is too large passes", "privacy/clipping", "seen = total + too_large.sum(0) * (2 * LARGEST)", "seen = total", "clipping"),
            ("short gradients are made longer", "privacy/clipping", "1 + above * (", "1 * (", "clipping"),
            ("a norm beyond the range passes", "privacy/clipping", " * (1 - beyond)\n", "\n", "clipping"),
            ("a layer that is used twice is clipped once", "privacy/clipping", "if times > 1]", "if times > 2]", "engine"),
            ("batch normalisation is let through", "privacy/layers", "if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:", "if False:", "clipping"),
            ("biases have no norm", "privacy/layers", "given, size = given + 1, size + 1", "pass", "clipping"),
            ("equal indices of a sentence are taken apart", "privacy/layers", "* alike).sum((1, 2))", "* torch.eye(x.shape[1])).sum((1, 2))", "clipping"),
            ("noise does not follow the sensitivity", "privacy/engine", "return self.noise_multiplier * sensitivity(", "return self.noise_multiplier / 1.2 * sensitivity(", "engine"),
            ("rounding has no part in the sensitivity", "privacy/engine", "+ math.sqrt(parameters) * 2.0**-BITS", "", "engine"),
            ("a spent budget lets another step through", "privacy/engine", "while self._after(ahead) > self.target_epsilon:", "while self._after(ahead) > self.target_epsilon + 1:", "engine"),
            ("steps are not counted", "privacy/engine", "        if self.sampling != \"epochs\":\n            self._count()\n", "        pass\n", "engine"),
            ("a gradient past its layer is taken", "privacy/engine", "if p.grad is not None and getattr(p.grad, _PRIVATE, None) is not self._mark:", "if False:", "engine"),
            ("a gradient that was left and added to is taken", "privacy/engine", "p.grad = found.get(p)  #", "p.grad = found.get(p, p.grad)  #", "followed_steps"),
            ("any loader counts as disjoint batches", "privacy/loaders", "        if once:\n", "        if True:\n", "engine"),
            ("rows are drawn together", "privacy/draws", "words = KeySet([fresh_key()]).draw(0, n)[0]", "words = KeySet([fresh_key()]).draw(0, 1)[0].expand(n)", "engine"),
            ("half of the steps are composed", "privacy/loss_distribution", "np.fft.rfft(np.fft.ifftshift(weights)) ** count", "np.fft.rfft(np.fft.ifftshift(weights)) ** (count // 2 + 1)", "accountant"),
            ("a tie is always above", "mpc/derived/discrete_gaussian", "(high == threshold) & (low >= more)", "(high == threshold)", "discrete_gaussian"),
            ("noise of a tie has one sign", "mpc/derived/discrete_gaussian", " * (1 + 2 * (words >> HALF))", "", "discrete_gaussian"),
            ("parts of noise are added too close", "mpc/derived/discrete_gaussian", "_SMOOTH = 1.89 ", "_SMOOTH = 0.9 ", "discrete_gaussian"),
            ("the first holder alone adds noise", "mpc/derived/secret_noise", "    words = _drawn(sigma, party.rows, math.prod(shape))\n", "    words = _drawn(sigma, party.rows, math.prod(shape))\n    words[1:] = 0\n", "noise"),
            ("a holder's share shows her noise", "mpc/derived/secret_noise", "return suite.refresh(party, Share.of(words, shape, scale))", "return Share.of(words, shape, scale)", "noise"),
            ("padding of what owners draw counts", "privacy/engine", "weights = weights * self._given[0]", "pass", "owners_loader"),
            ("slots that are too few cost nothing", "privacy/engine", "lost = steps * self._failure * (1 + math.exp(min(self.target_epsilon, 100.0)))", "lost = 0.0", "owners_loader"),
            ("there are too few slots", "privacy/draws", "if _tail(n, rate, middle + 1) < FAILURE:", "if _tail(n, rate, middle + 1) < 0.5:", "owners_loader"),
            ("what is not drawn is in the last slot", "privacy/draws", "present = torch.arange(slots) < taken.sum()", "present = torch.arange(slots) <= taken.sum()", "owners_loader"),
            ("padding has a row's values", "privacy/loaders", "[torch.where(m, x[index], z) for", "[x[index] for", "owners_loader"),
            ("a recorded step has its noise of one key", "mpc/derived/secret_noise", "    perform(_draw, sigma, into=[out])\n", "    _draw(sigma, out)\n", "followed_steps"),
            ("noise of one deviation has one key", "mpc/derived/secret_noise", "sampler.draw(fresh_key(), row.numel())", "sampler.draw(_draw.__dict__.setdefault(sigma, fresh_key()), row.numel())", "followed_steps"),
            ("a repetition has the noise that was recorded", "program/compile", "        return call.prepare(*args)\n", "        return (lambda: None) if call.call.__name__ == \"_draw\" else call.prepare(*args)\n", "followed_steps"),
            ("a check draws noise of its own", "program/check", "if not call.pretend(args, next(logged, ())):", "if call.call.__name__ == \"_draw\":\n                    call(*args), next(logged)\n                elif not call.pretend(args, next(logged, ())):", "followed_steps"),
        )
    ],
    *[
        Mutant(what, f"pysmpc/{name}.py", old, new, "tests/federated/test_private_rounds.py")
        for what, name, old, new in (
            ("workers add no noise", "federated/updates", "words[:-1] += noise_share(", "words[:-1] += 0 * noise_share("),
            ("workers of a private sum count by rows", "federated/updates", "            rows = 1\n", ""),
            ("who is not finite leaves a private round", "federated/updates", "                whole[:-1] = 0.0\n", "                pass\n"),
            ("those who work together add noise", "federated/private", "sharers = fewest - engine.colluding", "sharers = fewest"),
            ("every invited worker's noise is counted on", "federated/private", "max_value, 1, noise, sharers)", "max_value, 1, noise, clients)"),
            ("rounding of updates has no part", "federated/private", " + math.sqrt(numbers) * 2.0 ** -(bits + 1)", ""),
            ("rounds are not counted", "federated/federation", "        self.privacy.count_round()\n", ""),
            ("a checkpoint forgets what was spent", "federated/federation", "found[\"privacy\"] if spent is None else spent", "found[\"privacy\"]"),
        )
    ],
    *[
        Mutant(what, f"pysmpc/{name}.py", old, new, f"{REMOTE}/test_privacy.py")
        for what, name, old, new in (
            ("draws are fetched", "remote/worker/session_data", "self._draws if isinstance(operation, Load) else None", "self._draws"),
            ("labels are of another draw than images", "remote/worker/data", "if self._drawn is None or self._key != (number, rate, slots, n):", "if True:"),
            ("a driver has a draw again", "remote/worker/data", "if self._key is not None and number <= self._key[0]:", "if False:"),
            ("padding at a worker has a row's values", "remote/worker/data", "return Items(torch.where(shown, values, zero), torch", "return Items(values, torch"),
            ("drawn rows pass any rule", "remote/worker/session_data", "if found.present is None else Rows(1)", "if found.present is None else PUBLIC"),
        )
    ],
    Mutant("a driver samples in the open", "pysmpc/privacy/engine.py", "if session.recorder is not None or session.party.rows != session.party.holders:", "if False:", f"{REMOTE}/test_privacy.py"),
    *module(
        "mpc/derived/out_of_range",
        ("a bound off by one", "c - (2 * most + 1)", "c - 2 * most", OUTSIDE),
        ("below the bound is not tested", "        out ^= _chosen(keys.draw(weights, n), z2k", "        out ^= 0 * _chosen(keys.draw(weights, n), z2k", OUTSIDE),
        ("both sides have the same weights", "word ^= _chosen(z2k.rows_xor(keys.draw(weights + place, n))", "word ^= _chosen(z2k.rows_xor(keys.draw(weights, n))", OUTSIDE),
        ("weights that the holders know", "out ^= _chosen(keys.draw(weights, n), z2k", "out ^= _chosen(torch.ones_like(words), z2k", OUTSIDE),
        ("a word is left out of a sum", "        if rest.shape[1]:\n", "        if False:\n", OUTSIDE),
        ("no correction", "out[-1] ^= dealt[-1]", "out[-1] ^= 0", OUTSIDE),
    ),
    *module(
        "mpc/derived/tested",
        ("a test that failed is forgotten", "found if self._found is None else self._found ^ found", "found", TESTED),
        ("a session goes on", "            self.failed = _message(operations)\n", "            pass\n", TESTED),
        ("more than the ring holds", "PRODUCT = LIMIT - (1 << 38)", "PRODUCT = LIMIT << 3", TESTED),
        ("a window is all of its body", "n == x.body.n\n", "n > 0\n", TESTED),
        ("results are as large as anything", "            out.body.range = Size(check.out.most)\n", "            pass\n", TESTED),
        ("results are small", "out.body.range = Size(check.out.most)", "out.body.range = Size(1)", TESTED),
        ("sums have no limit", "return check.limit if check.adds", "return 1 << 70 if check.adds", TESTED),
        ("a test of fewer than were asked for", "self._waiting.append((words, most))", "self._waiting.append((words[:, :1], most))", TESTED),
    ),
    *module(
        "remote/worker/replay",
        ("what was tested is nobody's", "self.flag = combined([self._reading, *([] if self.flag is None else [self.flag])])", "self.flag = None", CHECKED_THERE),
        ("only what was tested last has owners", "combined([self._reading, *([] if self.flag is None else [self.flag])])", "self._reading", CHECKED_THERE),
        ("updates that wait are nobody's", "[self._reading] if self._reading is not None and self.session.owing else []", "[]", CHECKED_THERE),
    ),
    *module(
        "remote/worker/opened_values",
        ("an outcome is opened without consent", "    if refused or not word.shape[0]:\n", "    if not word.shape[0]:\n", CHECKED_THERE),
    ),
    *module("remote/worker/session_openings", ("a value is sent that was too large", "        if failed:\n", "        if False:\n", CHECKED_THERE)),
    *module("remote/worker/budget", ("an outcome is no number", "count += FLAG in facts and", "count += False and", CHECKED_THERE)),
    *module("remote/worker/recordings", ("steps hide what is tested", "        if sessions[0].flags is not None:\n", "        if False:\n", FLAGS)),
    *module(
        "remote/driver/recorded_steps",
        ("recordings are never forgotten", "                weakref.finalize(new, self._over.append, number)\n", "                pass\n", REPEATED),
    ),
    *module(
        "federated/aggregation",
        ("a sum of few clients", "if len(clients) < self._minimum:", "if False:", SUMS),
        ("a client is in a sum twice", "if client in self._keys or client in self._added:", "if False:", SUMS),
        ("parts of another round", "if round != self._round:", "if False:", SUMS),
        ("a part of the clients", "if set(clients) != set(self._added):", "if False:", SUMS),
        ("a second sum", "raise RoundError(f\"{self.holder}: a sum of this round was opened; another would tell their difference\")", "self._over = False", SUMS),
        ("one key for all holders", "[fresh_key() for _ in range(holders - 1)]", "[fresh_key()] * (holders - 1)", "tests/federated/test_aggregation.py"),
    ),
    *module(
        "federated/updates",
        ("an update is not clipped", "if norm > self.max_norm:", "if False:", "tests/federated/test_aggregation.py"),
        ("an update is out of range", "if max(-least, greatest) > self.max_value:", "if False:", "tests/federated/test_aggregation.py"),
    ),
    *module(
        "federated/opened_sums",
        ("two sums of one model", "if known is not None and known != owners:", "if False:", TASKS),
    ),
    *module(
        "remote/worker/tasks",
        ("a sum of one owner", "if len(present) < least:", "if False:", "tests/federated/test_tasks.py"),
        ("a task without the right", "if name in self._tasks and RIGHT + name in rights:", "if name in self._tasks:", TASKS),
        ("a loop without the right", "if name in self._loops and RIGHT_TO_LOOPS + name in rights:", "if name in self._loops:", LOOPS),
        ("it is seen that a private loop failed", "if not self._task.private:", "if True:", "tests/federated/test_loops_remote.py"),
    ),
    *module(
        "remote/worker/drivers_loops",
        ("only the last round is counted", "delta_of(own.epsilon, before + cost)", "delta_of(own.epsilon, cost)", LOOPS),
        ("noise of owners who may collude", " or terms.sharers > most:", ":", LOOPS),
        ("rows are not followed", "loop_rows.check(self._checked)", "pass", LOOPS),
        ("batches of few rows", "if self._checked.rows < own.min_items:", "if False:", "tests/federated/test_loops_remote.py"),
        ("a result in the place of its change", "if not operation.less_start or ", "if ", LOOPS),
    ),
    *module(
        "federated/loops/loop_program",
        ("indices that a driver made up", "    *given, indices = step.args[1:]\n", "    return\n", LOOPS),
        ("gradients that a convolution does not give", "if backward:", "if False:", CAPTURED),
        ("memory without a bound", "if held > memory:", "if False:", CAPTURED),
    ),
    *module(
        "federated/loops/loop_rows",
        ("a mask over rows", "if any(each.rows is None and not _flat_at(each, rows, shape) for each in facts):", "if False:", LOOPS),
        ("one of the rows", "        if step.name in _PICKS:\n            raise", "        if False:\n            raise", CAPTURED),
        ("rows by their places", "    if there is None:\n", "    if False:\n", LOOPS),
        ("zeros around ones are all equal", ' or step.name == "aten.constant_pad_nd.default":', ":", CAPTURED),
        ("rows in the model", "if facts[use.place][max(use.item, 0)].rows is not None:", "if False:", CAPTURED),
        ("rows as channels", " or len(data[-1].shape) != len(weights[0].shape):", ":", CAPTURED),
    ),
    *module(
        "remote/worker/session_sums",
        ("sums of one session differ by one", "if any(self.made.get(key, owners) != owners for key, owners in sums.items()):", "if False:", TASKS),
        ("an owner's no to a sum is ignored", "taken = words if not refused else None", "taken = words", TASKS),
        ("what is saved is not counted as opened", "            self._worker.contributions.add(self.made)\n\n    def _told_apart", "            pass\n\n    def _told_apart", TASKS),
    ),
    *module(
        "remote/worker/session_openings",
        ("no mask for what a holder receives", "masks.append(KeySet([fresh_key()]).draw(0, count)[0])", "masks.append(torch.zeros(count, dtype=torch.int64))", "tests/federated/test_one_receiver_remote.py"),
    ),
    *module(
        "remote/worker/policy",
        ("a holder receives numbers of few rows", "            elif items < rule.min_items:", "            elif False:", "tests/federated/test_one_receiver_remote.py"),
    ),
    *module(
        "remote/worker/recordings",
        ("a worker does not check a recording", "not before.recording.confirms(new)", "False", REPEATED),
        ("different operations are held against each other", "not before.same(known)", "False", REPEATED),
        ("a worker repeats with whatever it is given", "if [kind(x) for x in arguments] != known.recording.kinds or not known.recording.fits(operation.numbers):", "if not known.recording.fits(operation.numbers):", REPEATED),
        ("whatever is in the slots of a step", "if any(replay.cell(slot) is not cell for slot, cell in known.cells.items()):", "if False:", REPEATED),
        ("a step drops what it reads", "            if slot in self.cells:\n", "            if False:\n", REPEATED),
        ("a step takes data in", "            opened.new.refused = \"a step", "            _ = \"a step", REPEATED),
        ("a step without an end", "if opened.length > LONGEST:", "if False:", REPEATED),
        ("a repeated step forgets whose data it has seen", "            replay.wrote(cell, origin)\n", "            pass\n", REPEATED),
        ("each result has seen what the first has", "out.cell, origins[place])", "out.cell, origins[0])", REPEATED),
        ("results without slots", "        if len(operation.outs) != known.results:\n", "        if False:\n", REPEATED),
    ),
    *module("remote/worker/history", ("one result of a step is approved for another", "facts = [step, result, *after]", "facts = [step, *after]", APPROVALS)),
    *module("program/segment", ("a product is opened while its step is done", "on_result is None or each.waits", "on_result is None", LOOPS_THERE)),
    Mutant("a gradient that is kept becomes the next one", "pysmpc/mpc/additive/products.py", "self._held = self._held.clone()", "pass", FOLLOWING),
    *module("program/segment", ("a step that changes its arguments", "            if self.written:\n", "            if False:\n", REPEATED)),
    *module("remote/worker/replay", ("nobody's data is in running statistics", "        if writes(func):\n", "        if func._schema.is_mutable:\n", REPEATED)),
    *module(
        "program/loop_regions",
        ("a loop of workers that are gone is computed", "(gone := recorder.gone()) is not None", "(gone := None) is not None", f"{LOOPS_THERE}::test_a_session_that_ends_before_its_step_was_run"),
        ("more steps than workers keep", "if new and not self._session.recorder.steps.room:", "if False:", LOOPS_THERE),
    ),
    *module(
        "ring/told",
        ("what is of another form is run", "        if found != form or len(values) != len(told):\n            return False\n", "", NUMBERS),
        ("a number is read in another way", "        if any(id(x) not in self._used for x in self._numbers):", "        if False:", NUMBERS),
        ("a table keeps its numbers", "out.copy_(torch.tensor([now(x) for x in values], dtype=torch.int64))", "pass", NUMBERS),
    ),
    *module("program/segment", ("a step is run with the numbers of before", "        if not self.numbers.take(numbers):\n            return False\n", "", NUMBERS)),
    *module("program/known_paths", ("ranks repeat with numbers of their own", "self.digest) if numbers else self.digest", "0) * 0 + self.digest", "tests/session/test_rank_loops.py::test_a_rank_with_a_rate_of_its_own_is_told")),
    *module(
        "remote/worker/recordings",
        ("more numbers than a step has", "len(operation.numbers) != len(known.recording.numbers.values) or not", "not", REPEATED),
        ("numbers that are none", " or not all(map(isfinite, operation.numbers)):", ":", REPEATED),
    ),
    *module("remote/arguments", ("numbers that change anywhere", "if numbers is None or value.place != len(numbers.values) or", "if numbers is None or", REPEATED)),
    *module("remote/worker/history", ("a step with another rate was approved", "*([list(numbers)] if numbers else [])]", "]", APPROVALS)),
    *module(
        "remote/region",
        ("public values are not compared", "        return all(map(torch.equal, self._buffers, other._buffers))\n", "        return True\n", REPEATED),
        ("operations are not compared", "if self.operations != other.operations or len(self._buffers) != len(other._buffers):", "if False:", REPEATED),
    ),
    *module(
        "remote/data_steps",
        ("labels fail where a driver names too few classes", "found.having((labels.unsqueeze(-1) == torch.arange(classes)).float(), outside)", "found.having(torch.nn.functional.one_hot(labels, classes).float(), outside)", VALUES),
        ("a secret in a step", "if any(isinstance(x, SecretTensor) for x in leaves(arguments)):", "if False:", VALUES),
        ("subnormal numbers", "    kept = torch.where(kept.abs() < TINY, torch.zeros_like(kept), kept)\n", "", VALUES),
    ),
    *module(
        "remote/worker/row_steps",
        ("a part is written as if it were all", "return Origin(owners, Rows(min(rows.least, before)))", "return Origin(owners, rows)", ROWS),
        ("memory around a result is not counted", "return Result(shape, None, number)", "return Result(shape, (shape, stride), None)", ROWS),
    ),
    *module(
        "transport/corrections",
        ("corrections of another program", "            if digest != self._transcript.digest:\n                found = told_otherwise", "            if False:\n                found = told_otherwise", TRANSCRIPT),
        ("questions of another program", "            if digest != self._transcript.digest:\n                raise told_otherwise(stream.peer)", "            if False:\n                raise told_otherwise(stream.peer)", TRANSCRIPT),
        ("inputs of another program", "        if digest != self._transcript.digest:\n            raise told_otherwise(self._stream.peer)", "        if False:\n            raise told_otherwise(self._stream.peer)", TRANSCRIPT),
        ("whatever the provider says is what this party was told", "            if found == self._transcript.digest:\n", "            if isinstance(found, bytes):\n", TRANSCRIPT),
        ("one confirmation is for all that comes", "        if self._agreed == self._transcript.digest:\n", "        if self._agreed:\n", TRANSCRIPT),
        ("corrections in another's place", "wanted[0] == self._arrived and ", "", f"{RUNTIME}/test_links.py"),
        ("a feed goes on after what was not due", "self._error = found\n", "pass\n", f"{RUNTIME}/test_links.py"),
    ),
]  # fmt: skip
