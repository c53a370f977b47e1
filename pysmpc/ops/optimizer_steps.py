"""The operations of optimizers that torch has no name for: moments at fine scales, and steps by their quotients.

`pysmpc.optimizers` calls them in the place of what torch.optim computes.  They are operations of the library
"pysmpc", so that they travel to workers, are recorded and are watched as those of aten.  Each takes the tensors of
all parameters at once: its rounds are those of one.

State is an ordinary secret with a finer encoding of its own (`Precision.fine`).
"""

from __future__ import annotations

from fractions import Fraction

import torch

from pysmpc.errors import EncodingError, RangeError
from pysmpc.mpc.additive.exact import constant
from pysmpc.mpc.functions import moments, normaliser
from pysmpc.mpc.functions.blocks import apart, joined, products
from pysmpc.mpc.functions.moments import GRADIENT, MEAN, SQUARE, WEIGHT_BITS, Average
from pysmpc.ops.arithmetic import add
from pysmpc.ops.core import rescale, result
from pysmpc.ops.parameter_rows import Tensors, as_row, from_row, give_back, operation, session_of_all, sizes_of
from pysmpc.ops.writing import assign
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.shares import Share
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor

# --- gradients and their moments ----------------------------------------------------


@operation("gradients(Tensor[] grads, Tensor[] params, float decay, bool maximize, int bits) -> Tensor[]")
def gradients(grads: Tensors, params: Tensors, decay: float, maximize: bool, bits: int) -> list[SecretTensor]:
    """Gradients at 2^bits, negative where the function is to grow, and decay times the parameter more.

    At most one round; two with decay.
    """
    session = session_of_all(grads)
    suite, party = session.suite, session.party
    sign = -1 if maximize else 1
    if not decay:
        whole = as_row(grads, bits)
        return from_row(grads, suite.scale_by(party, whole, sign) if maximize else whole, bits)
    # decay * p to 16 bits of the decay, where there is room
    extra = min(16, max(0, 48 - bits))
    found = suite.scale_by(party, as_row(grads, bits), sign << extra)
    unit = params[0].unit.scale
    factor = round(Fraction(decay) * (1 << (bits + extra)) / unit)
    own = joined(*(rescale(session, Share.of(p.window().words(), (p.numel(),), p.cell.scale), unit) for p in params))
    total = suite.add(party, found.at(1), suite.scale_by(party, own, factor).at(1))
    return from_row(grads, suite.probabilistic.truncate(party, total, 1 << extra) if extra else total, bits)


@operation(
    "moments_(Tensor(a!)[] means, Tensor(b!)[] squares, Tensor[] values, float mean, float square, bool sum, int bits)"
    " -> ()"
)
def moments_(
    means: Tensors, squares: Tensors, values: Tensors, mean: float, square: float, sum: bool, bits: int
) -> None:
    """means += mean (value - means) and squares += square (value^2 - squares), or value^2 for a sum.

    values: at 2^bits.  Either list may be empty.  Two rounds; one without squares.
    """
    session = session_of_all(values)
    suite, party = session.suite, session.party
    given = as_row(values, bits)
    wanted = []
    if means:
        fine = suite.scale_by(party, given, 1 << (MEAN - bits)).at(1)
        wanted.append(Average(as_row(means, MEAN), fine, _weight(mean), short=True))
    if squares:
        old = as_row(squares, 2 * bits).at(1 << 2 * bits)
        wanted.append(Average(old, _square(session, given, bits), _weight(square), sum=sum))
    found = iter(moments.averages(suite, party, wanted))
    if means:
        give_back(means, next(found), MEAN)
    if squares:
        new = next(found)
        _check_room(session, new)
        give_back(squares, new, 2 * bits)


def _square(session: Session, row: Share, bits: int) -> Share:
    """Squares of a row of integers at 2^bits; RangeError where shares are in one process and it has no room."""
    try:
        out: Share = session.arithmetic.square(session.party, row.at(1 << bits))
        _check_room(session, out)
    except RangeError:
        raise RangeError(
            f"a gradient is {1 << (31 - bits)} or more in magnitude, and the optimizer keeps squares of gradients, for "
            "which there is no room: clip gradients with torch.nn.utils.clip_grad_value_, or scale the loss"
        ) from None
    return out


def _check_room(session: Session, row: Share) -> None:
    if session.checks is not None:
        session.checks.within(row)


def _weight(value: float) -> Fraction:
    """The fraction that a float stands for: 1 - 0.999 is a thousandth."""
    return Fraction(value).limit_denominator(1 << 20) if value > 2**-12 else Fraction(value)


@operation("largest_(Tensor(a!)[] states, Tensor[] values, int bits) -> ()")
def largest_(states: Tensors, values: Tensors, bits: int) -> None:
    """states = max(states, values), at 2^bits.  Rounds of a ReLU."""
    session = session_of_all(states)
    larger, _ = session.suite.probabilistic.larger(session.party, as_row(states, bits), as_row(values, bits))
    give_back(states, larger, bits)


@operation("norms_(Tensor(a!)[] states, Tensor[] values, float keep) -> ()")
def norms_(states: Tensors, values: Tensors, keep: float) -> None:
    """states = max(keep states, |values|), at 26 bits.  Rounds of two ReLUs, and one."""
    session = session_of_all(states)
    suite, party = session.suite.probabilistic, session.party
    given, old = as_row(values, GRADIENT), as_row(states, GRADIENT)
    weight = WEIGHT_BITS
    kept_part = suite.truncate(party, suite.scale_by(party, old, round(keep * (1 << weight))).at(1), 1 << weight).at(1)
    size = suite.sub(party, suite.scale_by(party, suite.relu(party, given).at(1), 2).at(1), given)
    larger, _ = suite.larger(party, kept_part, size)
    give_back(states, larger.at(1), GRADIENT)


@operation("squares(Tensor[] values) -> Tensor[]")
def squares(values: Tensors) -> list[SecretTensor]:
    """Squares of values of 26 bits, at 52.  One round."""
    session = session_of_all(values)
    return from_row(values, _square(session, as_row(values, GRADIENT), GRADIENT), SQUARE)


@operation("together(Tensor[] x, Tensor[] y, float a, float b) -> Tensor[]")
def together(x: Tensors, y: Tensors, a: float, b: float) -> list[SecretTensor]:
    """a x + b y at 36 bits, for public a and b.  One round."""
    session = session_of_all(x)
    suite, party = session.suite.probabilistic, session.party
    bits = 14
    parts = [
        suite.scale_by(party, as_row(values, MEAN), round(factor * (1 << bits))).at(1)
        for values, factor in ((x, a), (y, b))
    ]
    return from_row(x, suite.truncate(party, suite.add(party, *parts), 1 << bits), MEAN)


@operation("carry_(Tensor(a!)[] states, Tensor[] values, float keep) -> ()")
def carry_(states: Tensors, values: Tensors, keep: float) -> None:
    """states = keep states + values, at 36 bits.  One round."""
    session = session_of_all(states)
    suite, party = session.suite.probabilistic, session.party
    old = suite.scale_by(party, as_row(states, MEAN), round(keep * (1 << WEIGHT_BITS))).at(1)
    part = suite.truncate(party, old, 1 << WEIGHT_BITS).at(1)
    give_back(states, suite.add(party, part, as_row(values, MEAN)), MEAN)


@operation("deltas(Tensor[] values, Tensor[] squares, Tensor[] before, float eps) -> Tensor[]")
def deltas(values: Tensors, squares: Tensors, before: Tensors, eps: float) -> list[SecretTensor]:
    """values sqrt(before + eps) / sqrt(squares + eps), at 36 bits.  Rounds of a root and of a quotient, and two."""
    session = session_of_all(values)
    suite, party = session.suite.probabilistic, session.party
    more = suite.public(party, torch.tensor([round(Fraction(eps) * (1 << SQUARE))]))
    inner = as_row(before, SQUARE)
    inner = suite.add(party, inner.at(1), more.expand(inner.shape)).at(1 << SQUARE)
    length = normaliser.root(suite, party, inner, 1 << GRADIENT)
    product = suite.mul(party, length.at(1), as_row(values, GRADIENT).at(1))
    top = from_row(values, suite.truncate(party, product, 1 << (SQUARE - MEAN)), MEAN)
    out, scale = _quotient(top, squares, [], 0.0, eps, moments.BOUND)
    return from_row(values, suite.truncate(party, out.at(1), round(scale / (1 << MEAN))), MEAN)


@operation(
    "rprop_(Tensor(a!)[] params, Tensor[] values, Tensor(b!)[] before, Tensor(c!)[] sizes, float less, float more, "
    "float smallest, float largest) -> ()"
)
def rprop_(
    params: Tensors,
    values: Tensors,
    before: Tensors,
    sizes: Tensors,
    less: float,
    more: float,
    smallest: float,
    largest: float,
) -> None:
    """A step of Rprop by the signs of values and of those before.  Rounds of three comparisons, and seven.

    1. Signs s of the values and t of those before: bits of both and of their opposites.
    2. s t: one round; (s t)^2: one round.  Both say whether the sign has changed, or stayed.
    3. sizes times more, less or 1, which is linear in them: two rounds.  Clamped: two comparisons.
    4. Values and signs that changed count as 0: one round.
    5. params -= sign * size: one round, and the update's.
    """
    session = session_of_all(params)
    suite, party = session.suite.probabilistic, session.party
    given, old, size = as_row(values, GRADIENT), as_row(before, GRADIENT), as_row(sizes, MEAN)
    n = [given.numel] * 4
    # 1. signs
    four = joined(given, suite.neg(party, given), old, suite.neg(party, old))
    bits = suite.bit_share(party, suite.negative(party, four), (4 * given.numel,))
    below, above, old_below, old_above = apart(Share(bits.body, (4 * given.numel,)), n)
    sign, old_sign = suite.sub(party, above, below), suite.sub(party, old_above, old_below)
    # 2. changed or stayed
    both = suite.mul(party, sign, old_sign)
    square = suite.square(party, both)
    stayed, changed = suite.add(party, square, both), suite.sub(party, square, both)  # twice the bits
    # 3. sizes
    digits = WEIGHT_BITS
    up, down = (round((factor - 1) * (1 << digits) / 2) for factor in (more, less))
    factor = suite.add(party, suite.scale_by(party, stayed, up).at(1), suite.scale_by(party, changed, down).at(1))
    factor = suite.add(party, factor, constant(suite, party, factor.shape, 1 << digits, 1))
    size = suite.truncate(party, suite.mul(party, size, factor), 1 << digits).at(1)
    ends = [constant(suite, party, size.shape, round(end * (1 << MEAN)), 1) for end in (smallest, largest)]
    size, _ = suite.larger(party, size, Share.of(ends[0].words(), size.shape))
    least, _ = suite.larger(
        party, suite.neg(party, size.at(1)), Share.of(suite.neg(party, ends[1]).words(), size.shape)
    )
    size = suite.neg(party, least.at(1))
    # 4. what has not changed
    rest = suite.sub(party, constant(suite, party, size.shape, 2, 1), changed)
    value, sign = products(suite, party, (given, rest), (sign, rest))
    # 5. steps
    [step] = products(suite, party, (sign, size))
    give_back(before, suite.truncate(party, value, 2).at(1), GRADIENT)
    give_back(sizes, size, MEAN)
    _update(params, step, Fraction(1 << (MEAN + 1)), Fraction(-1), Fraction(0))


# --- steps ----------------------------------------------------------------------------


def _quotient(
    tops: Tensors, squares: Tensors, centers: Tensors, eps: float, inner: float, bound: int
) -> tuple[Share, Fraction]:
    """tops / (sqrt(squares - centers^2 + inner) + eps) as one row, and its scale."""
    session = session_of_all(tops)
    suite, party = session.suite, session.party
    bits, square = _bits(tops), _bits(squares)
    v = as_row(squares, square)
    if centers:
        mean = _square(session, as_row(centers, square // 2), square // 2)
        v = suite.probabilistic.relu(party, suite.sub(party, v.at(1), mean.at(1)))
    if inner:
        more = suite.public(party, torch.tensor([round(Fraction(inner) * (1 << square))]))
        v = suite.add(party, v.at(1), more.expand(v.shape))
    return moments.over_root(suite, party, as_row(tops, bits), v, Fraction(eps), bits, square, bound)


def _bits(tensors: Tensors) -> int:
    """Fractional bits of state, which are alike."""
    unit = tensors[0].cell.unit
    assert unit.base == 2
    return unit.digits


@operation(
    "over_root(Tensor[] tops, Tensor[] squares, Tensor[] centers, float eps, float inner, int bound) -> Tensor[]"
)
def over_root(
    tops: Tensors, squares: Tensors, centers: Tensors, eps: float, inner: float, bound: int
) -> list[SecretTensor]:
    """tops / (sqrt(squares - centers^2 + inner) + eps), at 36 bits or what its bound leaves of them."""
    session = session_of_all(tops)
    out, scale = _quotient(tops, squares, centers, eps, inner, bound)
    return from_row(
        tops, session.suite.probabilistic.truncate(session.party, out.at(1), round(scale / (1 << MEAN))), MEAN
    )


@operation(
    "descend_(Tensor(a!)[] params, Tensor[] tops, Tensor[] squares, Tensor[] centers, float eps, float inner, "
    "float factor, float shrink, int bound) -> ()"
)
def descend_(
    params: Tensors,
    tops: Tensors,
    squares: Tensors,
    centers: Tensors,
    eps: float,
    inner: float,
    factor: float,
    shrink: float,
    bound: int,
) -> None:
    """params += factor tops / (sqrt(squares - centers^2 + inner) + eps) - shrink params.

    The product is truncated together with the update, in a round of its own that all parameters share.
    """
    out, scale = _quotient(tops, squares, centers, eps, inner, bound)
    _update(params, out, scale, Fraction(factor), Fraction(shrink))


@operation("step_(Tensor(a!)[] params, Tensor[] directions, float factor, float shrink) -> ()")
def step_(params: Tensors, directions: Tensors, factor: float, shrink: float) -> None:
    """params += factor directions - shrink params, in one round that all parameters share."""
    bits = _bits(directions)
    _update(params, as_row(directions, bits), Fraction(1 << bits), Fraction(factor), Fraction(shrink))


def _update(params: Tensors, row: Share, scale: Fraction, factor: Fraction, shrink: Fraction) -> None:
    """params += factor row / scale - shrink params, truncated once."""
    session = session_of_all(params)
    suite, party = session.suite, session.party
    for p, part in zip(params, apart(row, sizes_of(params)), strict=True):
        cell = p.cell
        if not factor and not shrink:
            continue
        cell.settle()
        unit = cell.unit.scale
        by = round(scale / (unit * abs(factor))) if factor else 1 << 44
        if by < 2:
            raise EncodingError(f"a step of {float(factor):.3g} is out of range for these parameters: use a smaller lr")
        z = suite.scale_by(party, part, -1).at(1) if factor < 0 else Share.of(part.words(), part.shape)
        if not factor:
            z = suite.scale_by(party, part, 0).at(1)
        while by >= LIMIT >> 2:
            z, by = suite.probabilistic.truncate(party, z, 1 << 20).at(1), by >> 20
        if shrink:
            own = Share.of(Share(cell.body, p.size(), 1, p.stride(), int(p.storage_offset())).words(), z.shape)
            z = suite.sub(party, z, suite.scale_by(party, own, round(shrink * by)).at(1))
        if p.whole:
            cell.defer(Share(z.body, (z.numel,), by * unit), 1)
        else:
            moved = suite.truncate(party, z, by)
            assign(p, add(p.detach(), result(Share(moved.body, p.shape, unit), session, cell.unit, p.dtype)))
