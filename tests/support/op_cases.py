"""The table of operations: one line each, which drives every check that there is of an operation.

A line:

    Case("mul", torch.mul, PAIRS, steps=1, rounds=1, sent=16),

name, function, shapes of the operands, how far the result may be off, and what it costs.  `tests/ops/test_cases.py`
runs each line against torch in float64, values and gradients, as two holders do, as three, in the binary and the
decimal encoding, on windows of larger tensors, and under every suite; and holds the rounds and bytes to the last byte.
A new operation is a line of this table.  What a line may say, all of it optional but the name and the function:

    shapes      of one operand, or lists of shapes for several; runs other than those by two holders take the first
    low, high   bounds of the operands, which are uniform between them
    values      a function that makes an operand of a shape, in place of these
    steps       error allowed, in steps of the encoding; rtol: and relative to the result
    grad_steps  error allowed of gradients; as steps, where it is left out
    grad        False: gradients are not checked
    rounds      that the function takes on fresh secrets of two holders; left out: none, no message
    sent        bytes that a holder sends another meanwhile, an element of the first operand
    dealt       bytes that the provider deals, an element of the first operand; left out: anything
    costed      the shapes for which rounds and bytes are counted; left out: (64,) for each operand
    refused     names of the runs that must refuse the function (NotImplementedError)
    bounded     the public bound with which operands are encrypted
    shuffles    of which each takes a round more, and 8 bytes sent and dealt an element, for each holder beyond two

A function may return several results, each of which is compared.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from whole_numbers import integers

RESPONSE = torch.complex(torch.tensor([1.0, 0.75, 0.5, 0.25, 0.125]), torch.tensor([0.0, -0.5, 0.25, 0.5, 0.0]))
COSTED = (64,)
COLUMNS = (64, 3)


@dataclass(frozen=True)
class Case:
    """One operation; see above."""

    name: str
    fn: Callable
    shapes: Any = ((3,), (2, 5), (0,), ())
    low: float = -2.0
    high: float = 2.0
    values: Callable | None = None
    steps: float = 1.0
    grad_steps: float | None = None
    rtol: float = 0.0
    grad: bool = True
    rounds: int = 0
    sent: float = 0.0
    dealt: float | None = None
    costed: Any = None
    refused: tuple[str, ...] = ()
    bounded: float | None = None
    shuffles: int = 0

    def __str__(self):
        return self.name.replace(" ", "_")

    @property
    def first(self):
        """The shape, or shapes, of the first run."""
        return self.shapes[0]

    @property
    def counted(self):
        """The shapes for which rounds and bytes are counted."""
        if self.costed is not None:
            return self.costed
        return [COSTED] * len(self.first) if isinstance(self.first, list) else COSTED


# --- operands -----------------------------------------------------------------------

PAIRS = [[(3,), (3,)], [(2, 3), (3,)], [(2, 1), (1, 4)], [(), (3,)], [(0,), (0,)], [(), ()]]
ROWS = [(3,), (2, 3), (4, 1), ()]
SEVERAL = [(9,), (2, 5), (0,), ()]
PLAIN = torch.tensor([0.5, -1.25, 2.0])
PLAINS = {
    "float": PLAIN,
    "double": PLAIN.double(),
    "integers": torch.tensor([1, -2, 3]),
    "scalar": torch.tensor(2.0),
    "truths": torch.tensor([True, False, True]),
}
NUMBERS = [0, 1, -1, 3, 0.5, -1.25, 0.1, 1 / 3, -7]


def away(shape):
    """Nothing near 0, for divisors."""
    return (1 + 3 * torch.rand(shape, dtype=torch.float64)) * (1 - 2 * torch.randint(0, 2, shape))


def coarse(shape):
    """Few values, so that equal ones meet; all are representable in every encoding."""
    return torch.randint(-3, 4, shape).double() / 2


def truths(shape):
    return torch.rand(shape) < 0.5


def distinct(shape):
    """No two of equal magnitude, nor nearly: where equals share a gradient, torch divides it."""
    n = math.prod(shape)
    return ((torch.randperm(n) + 1) * (1 - 2 * torch.randint(0, 2, (n,))) * 0.25).double().reshape(shape)


def whole(shape):
    """Integers of every magnitude, and the edges."""
    return integers(torch.int64, max(math.prod(shape), 4))[: math.prod(shape)].reshape(shape)


def conditioned(shape):
    """Matrices of full rank, with singular values near 1; vectors are uniform."""
    if len(shape) < 2:
        return torch.rand(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(torch.rand(shape, dtype=torch.float64), full_matrices=False)
    return u @ torch.diag_embed(0.75 + 0.5 * torch.rand(u.shape[:-2] + u.shape[-1:], dtype=torch.float64)) @ v


def triangle(x):
    """A well-conditioned lower triangular matrix of a square one."""
    return x.tril(-1) + torch.diag_embed(x.diagonal(0, -2, -1) + 3)


def on(change):
    """A change in place, of a copy."""

    def in_place(x, *rest):
        out = x.clone()
        change(out, *rest)
        return out

    return in_place


def through(name, *args):
    """A method that changes a tensor, on a copy."""
    return on(lambda x, *rest: getattr(x, name)(*rest, *args))


# --- functions of a public operand, from every side ----------------------------------


def parts(*spectra):
    """Complex results by real and imaginary parts."""
    return tuple(torch.view_as_real(z.resolve_conj()) for z in spectra)


def sums(k):
    return lambda x: (x + k, k + x)


def gaps(k):
    return lambda x: (x - k, k - x)


def products(k):
    return lambda x: (x * k, k * x)


def quotients(k):
    return lambda x: x / k


def powers(n):
    return lambda x: x**n


def compared(fn, *others):
    return lambda x: [out for k in others for out in (fn(x, k), fn(k, x))]


def each(*fns):
    return lambda *xs: [out for fn in fns for out in _flat(fn(*xs))]


def _flat(out):
    return out if isinstance(out, tuple | list) else [out]


# fmt: off
# --- sums, products, quotients, powers ----------------------------------------------

REAL = {kind: y for kind, y in PLAINS.items() if kind != "truths"}
DIV = {"values": away, "steps": 16, "grad_steps": 64}
INVERSE = {"values": away, "steps": 4, "grad_steps": 16}
POWER = {"low": -1.5, "high": 1.5, "steps": 12, "grad_steps": 40}

ARITHMETIC = [
    Case("add", torch.add, PAIRS),
    Case("sub", torch.sub, PAIRS),
    Case("mul", torch.mul, PAIRS, rounds=1, sent=16, dealt=8),
    Case("add alpha", lambda x, y: torch.add(x, y, alpha=3), PAIRS),
    Case("sub alpha", lambda x, y: torch.sub(x, y, alpha=0.5), PAIRS),
    Case("rsub alpha", lambda x: torch.rsub(x, 1.5, alpha=2)),
    Case("add number alpha", lambda x: torch.add(x, 2, alpha=3)),
    *(Case(f"sums with {k:.3g}", each(sums(k), gaps(k)), steps=1.5) for k in NUMBERS),
    *(Case(f"products with {k:.3g}", products(k), steps=2) for k in NUMBERS),
    *(Case(f"quotients by {k:.3g}", quotients(k), steps=2) for k in NUMBERS if k),
    *(Case(f"sums with {kind}", sums(y), ROWS, steps=2, costed=COLUMNS) for kind, y in PLAINS.items()),
    *(Case(f"gaps to {kind}", gaps(y), ROWS, steps=2, costed=COLUMNS) for kind, y in REAL.items()),
    *(Case(f"products with {kind}", products(y), ROWS, steps=2, costed=COLUMNS) for kind, y in PLAINS.items()),
    *(Case(f"quotients by {kind}", quotients(y), ROWS, steps=4, costed=COLUMNS) for kind, y in REAL.items()),
    # 1 / y has the steps of the encoding, so that x / y is off by as many as x is large
    Case("div", torch.div, PAIRS, **DIV, rounds=43, sent=1096),
    Case("plain over secret", lambda y: PLAIN / y, ROWS, **DIV, costed=COLUMNS, rounds=43, sent=1096),
    Case("number over secret", lambda y: 1 / y, **INVERSE, rounds=35, sent=1024),
    Case("pow 0", powers(0), grad=False),
    Case("pow 1", powers(1)),
    Case("pow 2", powers(2), **POWER, rounds=1, sent=8),
    Case("pow 3", powers(3), **POWER, rounds=2, sent=16),
    Case("pow 4", powers(4), **POWER, rounds=2, sent=16),
    Case("pow 5", powers(5), **POWER, rounds=3, sent=24),
    Case("pow -1", powers(-1), low=1, high=4, steps=4, grad_steps=16, rounds=8, sent=201),
    Case("pow -2", powers(-2), low=1, high=4, steps=16, grad_steps=64, rounds=8, sent=201),
    Case("neg", each(torch.neg, operator.neg, operator.pos)),
    Case("square", torch.square, rounds=1, sent=8, dealt=8),
    Case("addcmul", lambda x, y, z: torch.addcmul(x, y, z, value=0.5), [[(3,)] * 3, [(2, 3), (3,), (2, 1)]], steps=2,
         rounds=1, sent=16),
    Case("lerp", lambda x, y: torch.lerp(x, y, 0.25), [[(3,), (3,)], [(2, 3), (2, 3)]], steps=2),
    # the same cell, offset and strides, but not the same shape: no square
    Case("slice by whole", lambda x: (x[:1] * x, x * x[:1]), [(3,), (4, 2)], rounds=1, sent=8.125),
    Case("slice by slice", lambda x: x[:2] * x[1:3], [(3,), (4, 2)], costed=(3,), rounds=1, sent=8),
    Case("by its transpose", lambda x: x * x.t(), [(3, 3)], rounds=1, sent=8, costed=(8, 8)),
    Case("by itself", lambda x: x * x, [(3,), (2, 5)], rounds=1, sent=8),
    Case("expanded by itself", lambda x: x.expand(4, 3) * x, [(3,)], costed=(3,), rounds=1, sent=8),
]

MASK = torch.tensor([True, False, True])
IN_PLACE = [
    Case("add_", through("add_"), [[(3,), (3,)], [(2, 3), (3,)], [(2, 3), ()]], steps=2),
    Case("sub_", through("sub_"), [[(3,), (3,)], [(2, 3), (3,)], [(2, 3), ()]], steps=2),
    Case("mul_", through("mul_"), [[(3,), (3,)], [(2, 3), (3,)], [(2, 3), ()]], steps=2, rounds=2, sent=24),
    Case("add_ of products", lambda x, y: on(lambda out: out.add_(x * y, alpha=-0.5))(x), [[(3,)] * 2], steps=2,
         rounds=1, sent=16),
    Case("add_ number", each(through("add_", 2.5), through("sub_", 0.5)), steps=2),
    Case("mul_ number", through("mul_", 2.5), steps=2, rounds=1, sent=8),
    Case("div_ number", through("div_", 2.5), steps=2),
    Case("add_ plain", through("add_", PLAIN), [(3,), (2, 3)], steps=2, costed=COLUMNS),
    Case("mul_ plain", through("mul_", PLAIN), [(3,), (2, 3)], steps=2, costed=COLUMNS, rounds=1, sent=8),
    Case("neg_", through("neg_")),
    Case("square_", through("square_"), steps=2, rounds=2, sent=16),
    Case("pow_", through("pow_", 2), steps=2, rounds=2, sent=16),
    Case("zero_", through("zero_"), grad=False),
    Case("fill_", through("fill_", 0.5), grad=False),
    Case("copy_", lambda x: on(lambda out: out.copy_(x * 2))(x), steps=2),
    Case("relu_", through("relu_"), rounds=4, sent=12.25),
    Case("hardtanh_", on(lambda x: F.hardtanh_(x)), steps=2, rounds=8, sent=24.5),
    Case("clamp_", through("clamp_", -1, 1), steps=2, rounds=8, sent=24.5),
    Case("clamp_min_", through("clamp_min_", 0.25), steps=2, rounds=4, sent=12.25),
    Case("abs_", through("abs_"), steps=2, rounds=4, sent=12.25),
    Case("sign_", through("sign_"), steps=2, values=coarse, rounds=4, sent=24.5),
    Case("lt_", through("lt_"), [[(9,), (9,)], [(2, 5), (5,)]], values=coarse, grad=False, rounds=4, sent=12.25),
    Case("eq_ number", through("eq_", 0.5), values=coarse, grad=False, rounds=4, sent=24.5),
    Case("tril_", through("tril_"), [(3, 3), (2, 3)], costed=(8, 8)),
    Case("cumsum_", through("cumsum_", 0), [(3,), (2, 3)], steps=2),
    Case("addcmul_", through("addcmul_", PLAIN, PLAIN), [(3,), (2, 3)], steps=2, costed=COLUMNS),
    Case("masked_fill_", through("masked_fill_", MASK, 1.5), [(3,), (2, 3)], steps=2, costed=COLUMNS),
]

# --- comparisons, and what is decided by a sign --------------------------------------

ORDER = [operator.lt, operator.le, operator.gt, operator.ge]
SAME = [operator.eq, operator.ne]
GRID = torch.tensor([0.0, 0.5, -0.5], dtype=torch.float64)
COARSE = {"values": coarse, "grad": False}
TWO = [[(9,), (9,)], [(2, 5), (5,)], [(0,), (0,)], [(), ()]]

COMPARISON = [
    *(Case(fn.__name__, fn, TWO, **COARSE, rounds=4, sent=12.25) for fn in ORDER),
    *(Case(fn.__name__, fn, TWO, **COARSE, rounds=4, sent=24.5) for fn in SAME),
    *(Case(f"{fn.__name__} numbers", compared(fn, 0, 0.5, -1, 1), [(9,), ()], **COARSE, rounds=8 * 4, sent=8 * 12.25)
      for fn in ORDER),
    *(Case(f"{fn.__name__} numbers", compared(fn, 0, 0.5, -1, 1), [(9,), ()], **COARSE, rounds=8 * 4, sent=8 * 24.5)
      for fn in SAME),
    *(Case(f"{fn.__name__} plain", compared(fn, GRID), [(3,), (4, 3)], **COARSE, costed=COLUMNS, rounds=8, sent=24.5)
      for fn in ORDER),
    *(Case(f"{fn.__name__} plain", compared(fn, GRID), [(3,), (4, 3)], **COARSE, costed=COLUMNS, rounds=8, sent=49)
      for fn in SAME),
    Case("relu", F.relu, [(9,), (2, 5), (0,), (), (65,)], rounds=4, sent=12.25, dealt=57.125),
    Case("relu of zeros", torch.relu, [(9,)], values=coarse, rounds=4, sent=12.25),  # the slope there is 0
    Case("relu of a product", lambda x: F.relu(x * x - 1), [(9,), (2, 5)], steps=2, grad_steps=4, rounds=5, sent=20.25),
    Case("relu transposed", lambda x: (F.relu(x).t(), F.relu(x.t()) * 2), [(3, 4)], steps=2, costed=(8, 8),
         rounds=8, sent=24.5),
    Case("relu sliced", lambda x: F.relu(x)[1:] * x[1:], [(5,)], steps=2, rounds=5, sent=28.25),
    Case("hardtanh", F.hardtanh, [(9,)], low=-3, high=3, steps=2, rounds=8, sent=24.5),
    Case("relu6", F.relu6, [(9,)], low=-9, high=9, steps=2, rounds=8, sent=24.5),
    Case("abs", each(torch.abs, abs), SEVERAL, rounds=8, sent=24.5),
    Case("abs of zeros", torch.abs, [(9,)], values=coarse, rounds=4, sent=12.25),
    Case("sign", torch.sign, SEVERAL, values=coarse, rounds=4, sent=24.5),
    Case("clamp", lambda x: x.clamp(-1, 1), SEVERAL, steps=2, rounds=8, sent=24.5),
    Case("clamp below", lambda x: (x.clamp(None, 0.5), x.clamp_max(0.25)), SEVERAL, steps=2, rounds=8, sent=24.5),
    Case("clamp above", lambda x: (x.clamp(-0.5, None), x.clamp_min(0.25)), SEVERAL, steps=2, rounds=8, sent=24.5),
    Case("clamp to a number", lambda x: x.clamp(0, 0), SEVERAL, steps=2, rounds=8, sent=24.5),
    Case("clamp of edges", lambda x: x.clamp(-1, 1), [(9,)], values=coarse, steps=2, rounds=8, sent=24.5),
    Case("clamp to tensors", lambda x: x.clamp(GRID - 0.5, GRID + 0.5), [(3,), (2, 3)], steps=2, costed=COLUMNS,
         rounds=8, sent=24.5),
    Case("maximum", torch.maximum, TWO, steps=2, rounds=4, sent=12.25),
    Case("minimum", torch.minimum, TWO, steps=2, rounds=4, sent=12.25),
    Case("maximum of equals", torch.maximum, [[(9,), (9,)]], values=coarse, steps=2, rounds=4, sent=12.25),
    Case("maximum with plain", lambda x: torch.maximum(x, GRID), [(3,)], steps=2, costed=COLUMNS, rounds=4, sent=12.25),
    Case("minimum with plain", lambda x: torch.minimum(GRID, x), [(3,)], steps=2, costed=COLUMNS, rounds=4, sent=12.25),
    Case("where, public", lambda x, y: torch.where(MASK, x, y), [[(3,), (3,)], [(2, 3), (3,)]], steps=2,
         costed=[COLUMNS, COLUMNS]),
    Case("where", lambda x, y: torch.where(x > y, x, y), [[(3,), (3,)], [(2, 3), (3,)], [(), ()]], steps=2,
         rounds=5, sent=20.25),
    Case("where or 0", lambda x: torch.where(x > 0, x, 0), [(3,), (2, 3)], steps=2, rounds=5, sent=20.25),
    Case("where or 1.5", lambda x: torch.where(x > 0, 1.5, x), [(3,), (2, 3)], steps=2, rounds=5, sent=20.25),
    Case("where of numbers", lambda x: torch.where(x > 0, 1.5, -2) * x, [(3,), (2, 3)], steps=2, rounds=5, sent=28.25),
    Case("where of a square", lambda x: torch.where(x > 0, x * x, -x), [(3,), (2, 3)], steps=2, grad_steps=3,
         rounds=7, sent=36.25),
    Case("where of plain", lambda x: torch.where(x > 0, torch.tensor(1.0), torch.tensor(-1.0)) * x, [(3,)], steps=2,
         rounds=5, sent=28.25),
    Case("where, outer", lambda x, y: torch.where(x[:, None] > y, x[:, None], y), [[(3,), (2,)]], steps=2,
         costed=[(8,), (8,)], rounds=5, sent=162),
    Case("by a comparison", lambda x: x * (x > 0), [(9,), (2, 5)], steps=2, rounds=5, sent=20.25),
    Case("masked_fill", lambda x: x.masked_fill(x < 0, 0.5), [(9,), (2, 5)], steps=2, rounds=5, sent=20.25),
    Case("truths as numbers", lambda x: (x > 0).to(x.dtype) * 2 - 1 + x * 0, [(9,)], steps=2, rounds=4, sent=12.25),
]

# --- truth values, and the bits of integers -------------------------------------------

BITWISE = [operator.and_, operator.or_, operator.xor]
LOGICAL = [torch.logical_and, torch.logical_or, torch.logical_xor]
FIVE = [[(5, 6), (6,)], [(3,), (3,)], [(0,), (0,)], [(), ()]]
TRUTHS = {"values": truths, "grad": False}
WHOLE = {"values": whole, "grad": False}

LOGIC = [
    *(Case(f"{fn.__name__} of truths", fn, FIVE, **TRUTHS, rounds=1, sent=0.25) for fn in [*BITWISE[:2], *LOGICAL[:2]]),
    *(Case(f"{fn.__name__} of truths", fn, FIVE, **TRUTHS, rounds=1, sent=0.125) for fn in [BITWISE[2], LOGICAL[2]]),
    *(Case(f"{fn.__name__} of truths", fn, FIVE, **TRUTHS, rounds=4, sent=24.5) for fn in SAME),
    *(Case(f"{fn.__name__} of truths, public", compared(fn, MASK), [(3,), (5, 3)], **TRUTHS, costed=COLUMNS)
      for fn in BITWISE),
    *(Case(f"{fn.__name__} of truths, public", compared(fn, MASK), [(3,), (5, 3)], **TRUTHS, costed=COLUMNS,
           rounds=8, sent=49) for fn in SAME),
    *(Case(f"{fn.__name__} of truths, numbers", compared(fn, True, False), [(5,), ()], **TRUTHS) for fn in BITWISE),
    Case("not", each(operator.invert, torch.logical_not), SEVERAL, **TRUTHS),
    Case("logic of comparisons", lambda x: (x > 0) & (x < 1) | ~(x > -1) ^ (x == 0), [(9,)], **COARSE,
         rounds=19, sent=61.875),
    *(Case(f"{fn.__name__} of integers", fn, [[(7, 9), (9,)], [(), ()]], **WHOLE, rounds=9, sent=232, refused=("mac",))
      for fn in BITWISE),
    *(Case(f"{fn.__name__} of integers, numbers", compared(fn, 0, 1, -1, 0xFF, -8), [(7,)], **WHOLE, rounds=17,
           sent=184, refused=("mac",)) for fn in BITWISE),
    Case("bits of integers", operator.invert, [(7,)], **WHOLE),
    Case("logical_not of integers", torch.logical_not, [(7,)], **WHOLE, rounds=4, sent=24.5),
    Case("any", each(torch.any, lambda x: x.any(0), lambda x: x.any(-1, keepdim=True)), [(4, 3)], **TRUTHS,
         costed=(8, 8), rounds=12, sent=14.875),
    Case("all", each(torch.all, lambda x: x.all(0), lambda x: x.all(-1, keepdim=True)), [(4, 3)], **TRUTHS,
         costed=(8, 8), rounds=12, sent=14.875),
]

# --- maxima and minima -----------------------------------------------------------------

LINES = [(7,), (1,), (2,), (3, 4), (2, 3, 5), (65,)]
APART = {"values": distinct, "steps": 2}

EXTREMA = [
    Case("max", torch.max, [*LINES, ()], **APART, rounds=12, sent=27.5),
    Case("min", torch.min, [*LINES, ()], **APART, rounds=12, sent=27.5),
    Case("max by all", lambda x: x.max() * x, [(7,), (3, 4)], values=distinct, steps=3, rounds=13, sent=35.625),
    Case("max along", lambda x: (x.max(-1).values, x.max(0, keepdim=True)[0]), LINES, **APART, rounds=24, sent=55),
    Case("min along", lambda x: (x.min(-1, keepdim=True).values, x.min(0)[0]), LINES, **APART, rounds=24, sent=55),
    Case("places of maxima", lambda x: (x.max(0).indices, x.max(0, keepdim=True).indices), LINES, **APART,
         rounds=24, sent=55),
    Case("places of minima", lambda x: (x.min(0).indices, x.min(0, keepdim=True).indices), LINES, **APART,
         rounds=24, sent=55),
    Case("places, no gradient", lambda x: (x.max(0).indices, x.min(-1).indices), LINES, **APART, grad=False,
         rounds=24, sent=55),
    Case("argmax", lambda x: (x.argmax(), x.argmax(-1), x.argmax(0, keepdim=True)), LINES, **APART, grad=False,
         rounds=39, sent=93.75),
    Case("argmin", lambda x: (x.argmin(), x.argmin(-1), x.argmin(0, keepdim=True)), LINES, **APART, grad=False,
         rounds=39, sent=93.75),
    Case("max of a view", lambda x: (x.t().max(), x.t().max(0).values), [(3, 4)], **APART, costed=(8, 8),
         rounds=20, sent=49.25),
    Case("max and min", lambda x: x[1:].max() + x.min(), [(5,), (3, 4)], values=distinct, steps=3,
         rounds=24, sent=54.875),
    Case("max of squares", lambda x: (x * x).max(1).values, [(3, 4)], values=distinct, steps=3, grad_steps=4,
         costed=(8, 8), rounds=10, sent=37.75),
    Case("amax", lambda x: x.amax(1), [(3, 4), (2, 3, 5)], **APART, costed=(8, 8), rounds=8, sent=21.75),
    Case("amin", lambda x: x.amin((0, 1), keepdim=True), [(3, 4), (2, 3, 5)], **APART, costed=(8, 8),
         rounds=12, sent=27.5),
    Case("amax of several", lambda x: (x.amax((0, -1)), x.amin()), [(3, 4), (2, 3, 5)], **APART, costed=(8, 8),
         rounds=24, sent=55),
]

# --- order, and secret positions -----------------------------------------------------------

SORTED = {"rounds": 6, "sent": 160, "dealt": 1332, "shuffles": 1}
ROWS_OF_ONE = [(7,), (1,), (2,), (65,)]
STEPS = GRID.sort().values

ORDER_OF = [
    Case("sort", lambda x: x.sort(0).values, LINES, **APART, **SORTED),
    Case("sort downwards", lambda x: x.sort(-1, descending=True).values, LINES, **APART, **SORTED),
    Case("argsort", lambda x: (x.argsort(-1), x.argsort(0, descending=True)), LINES, **APART, grad=False, rounds=12,
         sent=320, dealt=2664, shuffles=2),
    Case("sort of equals", lambda x: tuple(torch.sort(x, dim=-1, stable=True)), [(9,), (3, 8)], values=coarse, steps=2,
         rounds=6, sent=160, shuffles=1),
    Case("sort of squares", lambda x: (x * x).sort(-1).values, [(9,), (3, 8)], values=distinct, steps=3, grad_steps=6,
         rounds=8, sent=176, shuffles=1),
    Case("topk", lambda x: (*x.topk(2, -1), x.topk(1, 0, largest=False).values), [(7,), (3, 4), (2, 3, 5)], **APART,
         rounds=12, sent=320, shuffles=2),
    Case("kthvalue", lambda x: (*x.kthvalue(2, -1), x.kthvalue(1, 0, keepdim=True).values), [(7,), (3, 4)], **APART,
         rounds=12, sent=320, shuffles=2),
    Case("median", lambda x: (x.median(), x.median(-1).values, x.nanmedian(0, keepdim=True).values), LINES, **APART,
         rounds=18, sent=480, shuffles=3),
    Case("quantile", lambda x: (x.quantile(0.3), x.quantile(torch.tensor([0.0, 0.5], dtype=x.dtype), -1)),
         [(7,), (3, 4)], values=distinct, steps=4, rounds=14, sent=320.375, shuffles=2),
    Case("others in order", lambda x, y: (y.gather(-1, x.argsort(-1)), x.gather(-1, x.argsort(-1))),
         [[(7,), (7,)], [(3, 4), (3, 4)]], **APART, rounds=16, sent=352, shuffles=4),
    Case("mode", lambda x: tuple(x.mode(-1)), [(9,), (3, 8)], values=coarse, steps=2, costed=(8, 8), rounds=20,
         sent=162.75, shuffles=1),
    Case("running extrema", lambda x: (*x.cummax(-1), *x.cummin(0)), LINES, **APART, rounds=60, sent=211.5),
    Case("at a place that was found", lambda x: x[x.argmax(0, keepdim=True)], ROWS_OF_ONE, **APART, rounds=14,
         sent=31.375),
    Case("searchsorted", lambda x: (torch.searchsorted(STEPS, x.contiguous()), torch.bucketize(x.contiguous(), STEPS)),
         [(9,), (2, 5)], **COARSE, rounds=8, sent=73.5),
    Case("isin", lambda x: torch.isin(x, GRID), [(9,), (2, 5)], **COARSE, rounds=8, sent=85.75),
    Case("assigned by a mask", on(lambda out: out.__setitem__(out < 0, 0.5)), [(9,), (2, 5)], steps=2, rounds=5,
         sent=20.25),
]

# --- matrices ---------------------------------------------------------------------------

SQUARES = {"values": conditioned, "shapes": [(3, 3), (2, 4, 4), (1, 1)], "costed": (4, 4)}
SYSTEMS = {"values": conditioned, "shapes": [[(3, 3), (3, 2)], [(2, 3, 3), (2, 3, 1)]], "costed": [(4, 4), (4, 2)]}

MATRICES = [
    Case("inv", torch.linalg.inv, **SQUARES, steps=2, grad_steps=16, rounds=70, sent=1005.5),
    Case("solve", torch.linalg.solve, **{**SYSTEMS, "shapes": [[(3, 3), (3, 2)], [(3, 3), (3,)]]}, steps=2,
         grad_steps=16, rounds=71, sent=1013.5),
    Case("solve from the right", lambda a, b: torch.linalg.solve(a, b.mT, left=False), **SYSTEMS, steps=2,
         grad_steps=16, rounds=71, sent=1013.5),
    Case("pinv", lambda x: torch.linalg.pinv(x, rtol=0.0),
         **{**SQUARES, "shapes": [(4, 3), (2, 3), (2, 3, 3)]}, steps=2, grad_steps=24,
         rounds=70, sent=1005.5),
    Case("solve_triangular", lambda a, b: torch.linalg.solve_triangular(triangle(a), b, upper=False), **SYSTEMS,
         steps=2, grad_steps=16, rounds=23, sent=812),
    Case("solve_triangular, upper", lambda a, b: torch.linalg.solve_triangular(triangle(a).mT, b, upper=True),
         **SYSTEMS, steps=2, grad_steps=16, rounds=23, sent=812),
    Case("cholesky", lambda x: torch.linalg.cholesky(x @ x.mT + torch.eye(x.shape[-1])), **SQUARES, steps=2,
         grad_steps=16, rounds=53, sent=2172.5),
    Case("cholesky_solve", lambda a, b: torch.cholesky_solve(b, triangle(a)), **SYSTEMS, steps=3, grad_steps=24,
         rounds=46, sent=1624),
    Case("cholesky_inverse", lambda x: torch.cholesky_inverse(triangle(x)), **{**SQUARES, "shapes": [(3, 3)]}, steps=3,
         grad_steps=24, rounds=22, sent=825),
    Case("det", lambda x: torch.linalg.det(x), **SQUARES, steps=2, grad_steps=8, rounds=6, sent=49.5),
    Case("slogdet", lambda x: (*torch.linalg.slogdet(x), torch.logdet(x @ x.mT)), **SQUARES, steps=8, grad_steps=16,
         rounds=63, sent=2751),
    Case("qr", lambda x: tuple(torch.linalg.qr(x)), **{**SQUARES, "shapes": [(4, 3), (3, 3), (2, 2, 3)]}, steps=4,
         grad_steps=24, rounds=79, sent=1806),
    Case("lu", lambda x: torch.linalg.lu(x), **{**SQUARES, "shapes": [(3, 3), (4, 2), (2, 2, 3)]}, steps=4,
         grad_steps=24, rounds=89, sent=2484),
    Case("lu_factor", lambda x: torch.linalg.lu_factor(x), **SQUARES, steps=4, grad_steps=24, rounds=89, sent=2484),
    Case("lu_solve", lambda a, b: torch.linalg.lu_solve(*torch.linalg.lu_factor(a), b), **SYSTEMS, steps=6,
         grad_steps=24, rounds=129, sent=3389),
    Case("matrix_exp", torch.linalg.matrix_exp, **SQUARES, steps=4, grad_steps=16, rounds=22, sent=178),
    Case("matrix_power", lambda x: (torch.linalg.matrix_power(x, 3), torch.linalg.matrix_power(x, -2)),
         **{**SQUARES, "shapes": [(3, 3)]}, steps=6, grad_steps=48, rounds=72, sent=1015.5),
    Case("irfft", lambda x: (torch.fft.irfft(x), torch.fft.hfft(x, 5, norm="forward")), [(4,), (2, 3)], steps=2,
         grad_steps=4),
    Case("irfft2", lambda x: (torch.fft.irfft2(x), torch.fft.hfft2(x, norm="ortho")), [(3, 4), (2, 3, 3)], steps=4,
         grad_steps=8, costed=(8, 8), rounds=2, sent=32),
    Case("rfft", lambda x: parts(torch.fft.rfft(x), torch.fft.ihfft(x), torch.fft.fft(x, norm="ortho")),
         [(4,), (2, 3)], steps=2, grad_steps=6),
    Case("fft2", lambda x: parts(torch.fft.fft2(x, norm="ortho"), torch.fft.rfft2(x, norm="forward")),
         [(3, 4), (2, 3, 3)], steps=6, grad_steps=12, costed=(8, 8), rounds=2, sent=26),
    Case("filter", lambda x: torch.fft.irfft(torch.fft.rfft(x, n=8) * RESPONSE, n=8), [(8,), (2, 5)], steps=6,
         grad_steps=6, costed=(8, 8), rounds=2, sent=20),
    Case("circular convolution", lambda x, y: torch.fft.ifft(torch.fft.fft(x) * torch.fft.fft(y)).real,
         [[(4,), (4,)], [(2, 3), (3,)]], steps=24, grad_steps=48, costed=[(8, 8), (8, 8)], rounds=4, sent=80),
    Case("magnitudes", lambda x: (torch.fft.rfft(x, norm="ortho") + (8 - 6j)).abs(), [(4,), (2, 3)], steps=8,
         grad_steps=16, costed=(8, 8), rounds=11, sent=191.75),
    Case("cumprod", lambda x: x.cumprod(-1), LINES, low=-1.5, high=1.5, steps=16, grad_steps=64, rtol=2.0**-10,
         costed=(8, 8), rounds=6, sent=41),
    Case("cumprod with zeros", lambda x: torch.cumprod(x, 0), [(9,)], values=coarse, steps=16, grad_steps=64,
         rtol=2.0**-10, rounds=12, sent=88.125),
    Case("logcumsumexp", lambda x: torch.logcumsumexp(x, -1), [(7,), (2, 3), ()], steps=1.2, grad_steps=12,
         costed=(8, 8), rounds=20, sent=337.75),
]

# --- whole results ----------------------------------------------------------------------

WHOLES = [
    Case("to integers", lambda x: (x.long(), x.to(torch.int32)), [(9,), (2, 5), ()], grad=False, rounds=20, sent=89),
    Case("whole quotients", lambda x, y: (x // y, torch.div(x, y, rounding_mode="trunc")), TWO, values=away,
         grad=False, rounds=111, sent=2353),
    Case("remainders", lambda x, y: (x % y, torch.fmod(x, y)), TWO, values=away, steps=2, grad_steps=8,
         rounds=113, sent=2369),
    Case("whole quotients by plain", lambda x: (x // (GRID + 0.75), torch.fmod(x, GRID + 0.75)), [(3,), (4, 3)],
         low=-9, high=9, grad=False, steps=2, costed=COLUMNS, rounds=16, sent=101.08333333333333),
    Case("plain modulo secret", lambda y: 7 % y, [(9,), ()], values=away, steps=2, grad=False, rounds=51, sent=1156.25),
    Case("count_nonzero", lambda x: (torch.count_nonzero(x), torch.count_nonzero(x, 0)), [(9,), (2, 5)], **COARSE,
         rounds=8, sent=49),
]

# --- powers, logarithms, roots, softmax --------------------------------------------------

UPWARD = {"low": 0.5, "high": 4.0}
POWER = {"steps": 2, "grad_steps": 3, "rtol": 2.0**-15, "rounds": 5, "sent": 24.5, "dealt": 229.125}
LOGARITHM = {**UPWARD, "steps": 1.2, "grad_steps": 5, "rounds": 7, "sent": 171.75, "dealt": 798.125}
ROOT = {**UPWARD, "steps": 1.2, "grad_steps": 4, "rtol": 2.0**-16, "rounds": 9, "sent": 195.75, "dealt": 819.125}
QUOTIENTS = {"shapes": [(3, 4), (2, 5), (2, 0)], "steps": 1.2, "grad_steps": 12, "costed": (64, 1)}

EXPONENTIALS = [
    Case("exp", torch.exp, **POWER),
    Case("exp2", torch.exp2, **POWER),
    Case("expm1", torch.expm1, **POWER),
    Case("powers of a number", lambda x: 3.5**x, **POWER),
    Case("log", torch.log, **LOGARITHM),
    Case("log2", torch.log2, **{**LOGARITHM, "dealt": 801.125}),
    Case("log10", torch.log10, **{**LOGARITHM, "dealt": 801.125}),
    Case("log1p", torch.log1p, **LOGARITHM),
    Case("sqrt", torch.sqrt, **ROOT),
    Case("rsqrt", torch.rsqrt, **ROOT),
    Case("reciprocal", torch.reciprocal, **UPWARD, steps=1.2, grad_steps=16, rtol=2.0**-15, rounds=8, sent=201,
         dealt=927.125),
    Case("a real power", lambda x: x**1.5, **UPWARD, steps=2, grad_steps=6, rtol=2.0**-14, rounds=12, sent=196.25,
         dealt=1027.25),
    Case("softmax", lambda x: torch.softmax(x, -1), **QUOTIENTS, rounds=13, sent=72.5, dealt=658.25),
    Case("log_softmax", lambda x: torch.log_softmax(x, -1), **QUOTIENTS, rounds=12, sent=64.5, dealt=383.25),
    Case("logsumexp", lambda x: torch.logsumexp(x, -1), **{**QUOTIENTS, "shapes": [(3, 4), (2, 5)]}, rounds=12,
         sent=64.5, dealt=383.25),
]

# --- sines, their inverses, and their kin ------------------------------------------------

UNIT = {"low": -0.9, "high": 0.9}
PIECES = {"steps": 1.5, "grad_steps": 4, "rounds": 6}

CIRCULAR = [
    Case("tan", torch.tan, low=-1.2, high=1.2, steps=4, grad_steps=24, rtol=2.0**-15, rounds=10, sent=259,
         dealt=1161.125),
    Case("atan", torch.atan, low=-9, high=9, **PIECES, sent=243.0, dealt=1074.125),
    Case("asin", torch.asin, **UNIT, **PIECES, sent=243.0, dealt=914.125),
    Case("acos", torch.acos, **UNIT, **{**PIECES, "steps": 2}, sent=243.0, dealt=914.125),
    Case("atan2", torch.atan2, PAIRS, low=0.5, high=4, steps=1.5, grad_steps=16, rounds=15, sent=352.5, dealt=1163.5),
    Case("asinh", torch.asinh, low=-9, high=9, **PIECES, sent=445.5, dealt=2266.125),
    Case("acosh", torch.acosh, low=1.1, high=9, **{**PIECES, "grad_steps": 8}, sent=344.25, dealt=2478.125),
    Case("norm of cubes", lambda x: torch.norm(x, 3, -1), [(3, 4), (2, 0)], steps=6, grad_steps=6, rtol=2.0**-14,
         costed=(64, 4), rounds=34, sent=283.8125, dealt=1511.15625),
    Case("distances", lambda x, y: torch.cdist(x, y, p=3.0), [[(3, 4), (2, 4)]], steps=4, grad_steps=24, rtol=2.0**-12,
         costed=[(8, 4), (8, 4)], rounds=34, sent=2270.5),
    Case("renorm", lambda x: torch.renorm(x, 3, 0, 1.5), [(3, 4)], steps=4, grad_steps=24, rtol=2.0**-12,
         costed=(16, 4), rounds=84, sent=1519.75),
    Case("entr", torch.special.entr, **UPWARD, steps=3, grad_steps=8, rounds=8, sent=187.75),
    Case("xlog1py", torch.special.xlog1py, PAIRS, **UPWARD, steps=3, grad_steps=12, rounds=8, sent=187.75),
    Case("gaussian_nll_loss", lambda *xs: F.gaussian_nll_loss(*xs), [[(3, 4)] * 3], **UPWARD, steps=6, grad_steps=24,
         rounds=17, sent=240),
    Case("atanh", torch.atanh, **UNIT, **{**PIECES, "grad_steps": 8}, sent=243.0, dealt=1170.125),
]
# --- the same of values of which a bound is known ------------------------------------------

NEAR = {"low": -2.9, "high": 2.9, "bounded": 3.0}  # where x of a wider tensor is 1, it is in bounds, too
WITHOUT = {**NEAR, "steps": 2, "grad_steps": 7, "rounds": 2, "sent": 16}
FEWER = {"low": 0.5, "high": 4.0, "bounded": 4.0}

BOUNDED = [
    Case("exp, bounded", torch.exp, **{**WITHOUT, "rtol": 2.0**-15}, dealt=141),
    Case("exp2, bounded", torch.exp2, **{**WITHOUT, "rtol": 2.0**-15}, dealt=141),
    Case("expm1, bounded", torch.expm1, **{**WITHOUT, "rtol": 2.0**-15}, dealt=141),
    Case("powers of a number, bounded", lambda x: 3.5**x, **{**WITHOUT, "rtol": 2.0**-15}, dealt=141),
    Case("sigmoid, bounded", torch.sigmoid, **WITHOUT, dealt=301),
    Case("tanh, bounded", torch.tanh, **WITHOUT, dealt=301),
    Case("erf, bounded", torch.erf, **WITHOUT, dealt=189),
    Case("erfc, bounded", torch.erfc, **WITHOUT, dealt=189),
    Case("gelu, bounded", F.gelu, **WITHOUT, dealt=173),
    Case("gelu by tanh, bounded", lambda x: F.gelu(x, approximate="tanh"), **WITHOUT, dealt=173),
    Case("silu, bounded", F.silu, **WITHOUT, dealt=333),
    Case("mish, bounded", F.mish, **WITHOUT, dealt=397),
    Case("softplus, bounded", F.softplus, **WITHOUT, dealt=301),
    Case("softplus stretched, bounded", lambda x: F.softplus(x, 3), **WITHOUT, dealt=304),
    Case("softplus to a threshold within", lambda x: F.softplus(x, 1, 1), **{**WITHOUT, "rounds": 5, "sent": 24.5},
         dealt=397.125),
    Case("logsigmoid, bounded", F.logsigmoid, **WITHOUT, dealt=301),
    Case("log, bounded", torch.log, **FEWER, steps=1.2, grad_steps=5, rounds=7, sent=82.5, dealt=378.125),
    Case("log1p, bounded", torch.log1p, **FEWER, steps=1.2, grad_steps=5, rounds=7, sent=82.5, dealt=378.125),
    Case("sqrt, bounded", torch.sqrt, **FEWER, steps=1.2, grad_steps=4, rtol=2.0**-16, rounds=9, sent=106.5,
         dealt=399.125),
    Case("rsqrt, bounded", torch.rsqrt, **FEWER, steps=1.2, grad_steps=4, rtol=2.0**-16, rounds=9, sent=106.5,
         dealt=399.125),
    Case("reciprocal, bounded", torch.reciprocal, **FEWER, steps=1.2, grad_steps=16, rtol=2.0**-15, rounds=8, sent=133,
         dealt=607.125),
    Case("softmax, bounded", lambda x: torch.softmax(x, -1), **{**QUOTIENTS, **NEAR}, rounds=9, sent=77.25,
         dealt=662.125),
    Case("log_softmax, bounded", lambda x: torch.log_softmax(x, -1), **{**QUOTIENTS, **NEAR}, rounds=8, sent=69.25,
         dealt=406.125),
    Case("logsumexp, bounded", lambda x: torch.logsumexp(x, -1), **{**QUOTIENTS, "shapes": [(3, 4), (2, 5)], **NEAR},
         rounds=8, sent=69.25, dealt=406.125),
    Case("softmax of ten, bounded", lambda x: torch.softmax(x, -1), shapes=[(4, 10)], steps=1.2, grad_steps=12, **NEAR,
         costed=(64, 10), rounds=9, sent=29.75, dealt=425.5125),
    Case("softmax of ten, bounded beside its largest", lambda x: torch.softmax(x, -1), shapes=[(4, 10)], steps=1.2,
         grad_steps=12, low=-12, high=12, bounded=12.0, costed=(64, 10), rounds=17, sent=44.825, dealt=556),
    Case("log_softmax of ten, bounded", lambda x: torch.log_softmax(x, -1), shapes=[(4, 10)], steps=1.2, grad_steps=12,
         **NEAR, costed=(64, 10), rounds=8, sent=14.55, dealt=157.8125),
    # a bound goes on from one operation to the next
    Case("exp of a sigmoid", lambda x: torch.exp(torch.sigmoid(x)), low=-9, high=9, steps=6, grad_steps=12, rounds=7,
         sent=40.5),
    Case("sigmoid of a clamped value", lambda x: torch.sigmoid(x.clamp(-4, 4)), low=-9, high=9, steps=3, rounds=10,
         sent=40.5),
    Case("exp of a difference, bounded", lambda x, y: torch.exp((x - y) * 0.5), [[(3,), (3,)], [(2, 3), (3,)]],
         **{**NEAR, "steps": 12, "grad_steps": 12}, rounds=2, sent=16),
    Case("exp of a row's sum, bounded", lambda x: torch.exp(x.mean(-1)), [(2, 3), (4, 2)], **{**NEAR, "steps": 16,
         "grad_steps": 16}, costed=(64, 2), rounds=2, sent=8),
]
# fmt: on

CASES = [
    *(*ARITHMETIC, *IN_PLACE, *COMPARISON, *LOGIC, *EXTREMA, *ORDER_OF),
    *(*MATRICES, *WHOLES, *EXPONENTIALS, *CIRCULAR, *BOUNDED),
]
