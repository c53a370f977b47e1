"""Rows behind each number of a value: each rule by itself, and random programs beside a model of sets.

The model knows nothing of row axes or caps.  A value is a list of terms, a term an array
with the set of rows of each number; it goes through every operation number by number.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pysmpc.remote.arguments import encode, results
from pysmpc.remote.program_messages import Call, Ref, Seq
from pysmpc.remote.worker import row_rules, rows
from pysmpc.remote.worker.origins import Origin, origin_of
from pysmpc.remote.worker.replay import Replay
from pysmpc.remote.worker.rows import PUBLIC, TABLE, Labels, Rows, loaded, made
from pysmpc.ring.fixedpoint import Precision
from pysmpc.ring.shares import dense_strides
from pysmpc.session.session import virtual_session
from pysmpc.tensor.secret import HANDLERS, SecretTensor

ALICE = frozenset(["alice"])


class Program:
    """Operations on a worker's values, and the model of each."""

    def __init__(self):
        self.session = virtual_session(["alice", "bob"])
        self.replay = Replay(self.session, "scientist", {}, {}, None)
        self.values = []  # of each: (slot, size, stride)
        self.model = {}  # by slot: terms, each an array of the sets of all of its memory
        self._slots = itertools.count()

    def load(self, shape, items=None, table=0):
        """A value of alice's, or (items=None) a public one."""
        slot, n = next(self._slots), math.prod(shape)
        words = torch.randint(-(1 << 12), 1 << 12, (n,))
        share = self.session.suite.share(self.session.party, words, tuple(shape), 1 << 16)
        cell = SecretTensor.of(share, self.session, Precision(2, 16), torch.float32).cell
        found = PUBLIC if items is None else loaded(tuple(shape), torch.tensor(items), table)
        self.replay.keep(
            slot, cell, Origin(ALICE if items else frozenset(), found, (tuple(shape), dense_strides(shape)))
        )
        term = empty(shape)
        for place in np.ndindex(*shape):
            if items is not None:
                term[place] = frozenset([(table, items[place[0]] if shape else 0)])
        self.model[slot] = [term.reshape(-1)] if items is not None else []
        value = slot, tuple(shape), dense_strides(shape)
        self.values.append(value)
        return ref(value)

    def call(self, name, *args, outs=1, **kwargs):
        """Run an operation; its results, as references."""
        overload = getattr(getattr(torch.ops.aten, name.split(".")[0]), name.split(".")[1])
        slots = [next(self._slots) for _ in range(outs)] if not overload._schema.is_mutable else [-1] * outs
        seen = []

        handler = HANDLERS[overload]

        def noted(*args, **kwargs):
            out = handler(*args, **kwargs)
            seen.extend(results(out))
            return out

        bodies = {slot: self.replay.cell(slot)._body for slot in self.model}
        sent = {key: encoded(value) for key, value in kwargs.items()}
        try:
            HANDLERS[overload] = noted
            self.replay.run(Call(f"aten.{name}", [encoded(each) for each in args], sent, slots), iter(()))
        finally:
            HANDLERS[overload] = handler
        bodies |= {slot: self.replay.cell(slot)._body for slot in self.model}
        found = []
        for slot, value in zip(slots, seen, strict=True):
            if slot < 0:
                continue
            size, stride, offset = tuple(value.size()), tuple(value.stride()), int(value.storage_offset())
            self.values.append((slot, size, stride))
            found.append(Ref(slot, list(size), list(stride), offset, "float32"))
            same = [
                other
                for other, body in bodies.items()
                if body is value.cell._body and (offset or math.prod(size) < body.n)
            ]
            self.model[slot] = self.model[same[0]] if same else None
        return found

    def terms(self, ref):
        """The model of a window: arrays of sets."""
        at = positions(ref)
        return [picked(term, at) for term in self.model[ref.slot]]

    def keep(self, ref, terms):
        """The model of a new value, unless it is a window on what was there before."""
        if self.model[ref.slot] is None:
            n = self.replay.cell(ref.slot)._body.n
            if n != math.prod(ref.size):  # memory that is computed of more than the window: nothing is said of it
                self.values = [value for value in self.values if value[0] != ref.slot]
                del self.model[ref.slot]
                return
            self.model[ref.slot] = [scattered(n, positions(ref), term) for term in terms]

    def write(self, ref, terms):
        """The model of a value that a window of which was written."""
        at, old = positions(ref), self.model[ref.slot]
        n = self.replay.cell(ref.slot)._body.n
        rest = np.ones(n, dtype=bool)
        rest[at.reshape(-1)] = False
        kept = [np.where(rest, term, frozenset()) for term in old] if rest.any() else []
        self.model[ref.slot] = kept + [scattered(n, at, term) for term in terms]

    def counted(self, ref):
        """Rows behind the number of a window that has the fewest: what the worker would say."""
        return self.replay.origin(ref).rows.least

    def expected(self, ref):
        """The same, of the model."""
        return min([len(rows) for term in self.terms(ref) for rows in term.reshape(-1) if rows], default=math.inf)


def ref(value, size=None, stride=None, offset=0):
    slot, own, steps = value
    return Ref(slot, list(own if size is None else size), list(steps if stride is None else stride), offset, "float32")


def encoded(value):
    if isinstance(value, Ref):
        return value
    if isinstance(value, list):
        return Seq([encoded(each) for each in value])
    return encode(value, [])


def empty(shape):
    found = np.empty(shape, dtype=object)
    found.fill(frozenset())
    return found


def positions(ref):
    n = ref.offset + sum((m - 1) * t for m, t in zip(ref.size, ref.stride, strict=True)) + 1
    return torch.arange(max(n, 1)).as_strided(ref.size, ref.stride, ref.offset).numpy()


def picked(term, at):
    """The sets at places; an array of them, though it be one."""
    found = empty(at.shape)
    found[...] = term[at]
    return found


def scattered(n, at, term):
    found = empty(n)
    found[at.reshape(-1)] = np.broadcast_to(term, at.shape).reshape(-1)
    return found


def united(term, axes, keep=False):
    """Sets united along axes."""
    for axis in sorted(axes, reverse=True):
        parts = np.moveaxis(term, axis, 0)
        out = empty(parts.shape[1:])
        for place in np.ndindex(*out.shape):
            out[place] = frozenset().union(*(parts[(k, *place)] for k in range(len(parts))))
        term = np.expand_dims(out, axis) if keep else out
    return term


def chosen(term, axis, keep):
    """A term for each place along an axis that the result may have come from."""
    parts = np.moveaxis(term, axis, 0)
    found = []
    for k in range(len(parts)):
        each = empty(parts.shape[1:])
        each[...] = parts[k]
        found.append(np.expand_dims(each, axis) if keep else each)
    return found


def multiplied(x, y, x_terms, y_terms):
    """[m, k] @ [k, n], sums over k."""
    left = [np.repeat(united(term, [1], True), y[1], 1) for term in x_terms]
    return left + [np.repeat(united(term, [0], True), x[0], 0) for term in y_terms]


# --- rules --------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def below_autograd():
    """As at a worker."""
    with torch._C._AutoDispatchBelowAutograd():
        yield


@pytest.fixture
def program():
    return Program()


def rows_of(program, name, *args, **kwargs):
    return [program.counted(each) for each in program.call(name, *args, **kwargs)]


def test_what_is_combined_has_as_many_rows_as_the_least(program):
    x = program.load((6, 2), [0, 1, 2, 3, 4, 5])
    w = program.load((6, 2))
    [mean] = program.call("mean.dim", x, [0], True)
    assert program.counted(x) == 1
    assert program.counted(mean) == 6
    assert rows_of(program, "add.Tensor", x, mean) == [1]
    assert rows_of(program, "mul.Tensor", mean, w) == [6]
    assert rows_of(program, "add.Tensor", w, w) == [math.inf]
    first = Ref(x.slot, [2], [1], 0, "float32")
    assert rows_of(program, "sub.Tensor", first, mean) == [1]
    assert rows_of(program, "where.self", torch.tensor([[True, False]]), first, mean) == [1]


def test_only_a_reduction_over_rows_unites_them(program):
    x = program.load((6, 2), [0, 1, 2, 3, 4, 5])
    assert rows_of(program, "sum.dim_IntList", x, [1]) == [1]
    assert rows_of(program, "sum.dim_IntList", x, [0]) == [6]
    assert rows_of(program, "sum.default", x) == [6]
    assert rows_of(program, "var.correction", x, [0], correction=1) == [6]
    for name in ("max.dim", "min.dim"):
        assert rows_of(program, name, x, 0, outs=2) == [1, 1]
    for name in ("max.default", "argmax.default"):
        assert rows_of(program, name, x) == [1]
    [running] = program.call("cumsum.default", x, 0)
    assert program.counted(Ref(running.slot, [], [], 10, "float32")) == 1
    [across] = program.call("cumsum.default", x, 1)
    assert rows_of(program, "sum.dim_IntList", across, [0]) == [6]


def test_a_row_counts_once(program):
    x = program.load((6, 2), [3] * 6)
    y = program.load((4,), [3, 4, 5, 6])
    z = program.load((4,), [3, 4, 5, 6], table=1)
    assert rows_of(program, "sum.default", x) == [1]
    [both] = program.call("cat.default", [y, y])
    assert rows_of(program, "sum.default", both) == [4]
    [other] = program.call("cat.default", [y, z])
    assert rows_of(program, "sum.default", other) == [8]
    assert rows_of(program, "sum.default", program.call("index_select.default", y, 0, torch.tensor([1] * 9))[0]) == [1]


def test_products(program):
    x = program.load((6, 3), list(range(6)))
    w = program.load((4, 3))
    y = program.load((6,), list(range(6)))
    turned = Ref(w.slot, [3, 4], [1, 3], 0, "float32")
    [out] = program.call("mm.default", x, turned)
    assert program.counted(out) == 1
    back = Ref(out.slot, [4, 6], [1, 4], 0, "float32")
    assert rows_of(program, "mm.default", back, x) == [6]
    assert rows_of(program, "mv.default", Ref(x.slot, [3, 6], [1, 3], 0, "float32"), y) == [6]
    assert rows_of(program, "dot.default", y, y) == [6]
    pair = Ref(x.slot, [2, 3], [3, 1], 0, "float32")
    assert rows_of(program, "mm.default", Ref(pair.slot, [3, 2], [1, 3], 0, "float32"), pair) == [2]
    # each number of x @ x.T is of two rows, one in each factor
    assert rows_of(program, "mm.default", x, Ref(x.slot, [3, 6], [1, 3], 0, "float32")) == [1]


def test_convolutions_and_pooling(program):
    x = program.load((5, 2, 6, 6), list(range(5)))
    w = program.load((3, 2, 3, 3))
    settings = [1, 1], [0, 0], [1, 1], False, [0, 0], 1
    [out] = program.call("convolution.default", x, w, None, *map(listed, settings))
    assert program.counted(out) == 1
    assert rows_of(program, "sum.default", out) == [5]
    assert rows_of(program, "sum.dim_IntList", out, [1, 2, 3]) == [1]
    pooled = program.call("max_pool2d_with_indices.default", out, [2, 2], [2, 2], [0, 0], [1, 1], False, outs=2)[0]
    assert program.counted(pooled) == 1
    assert rows_of(program, "mean.dim", pooled, [0]) == [5]
    grad = Ref(out.slot, out.size, out.stride, out.offset, "float32")
    found = program.call("convolution_backward.default", grad, x, w, [3], *map(listed, settings), [True] * 3, outs=3)
    assert [program.counted(each) for each in found] == [1, 5, 5]


N = 5  # rows
IMAGE, ITEMS = (N, 4, 6, 6), (N, 3, 4)
WEIGHT = (4,)
LAYERS = [
    ("sigmoid.default", [ITEMS], []),
    ("gelu.default", [ITEMS], []),
    ("log.default", [ITEMS], []),
    ("tanh_backward.default", [ITEMS, ITEMS], []),
    ("atan2.default", [ITEMS, WEIGHT], []),
    ("cumprod.default", [ITEMS], [2]),
    ("_softmax.default", [ITEMS], [-1, False]),
    ("_log_softmax.default", [ITEMS], [1, False]),
    ("_log_softmax_backward_data.default", [ITEMS, ITEMS], [1, torch.float32]),
    ("logsumexp.default", [ITEMS], [[1]]),
    ("avg_pool2d.default", [IMAGE], [[2, 2]]),
    ("max_pool3d_with_indices.default", [(N, 2, 4, 4, 4)], [[2, 2, 2]]),
    ("_adaptive_avg_pool2d.default", [IMAGE], [[2, 2]]),
    ("adaptive_max_pool2d.default", [IMAGE], [[2, 2]]),
    ("upsample_bilinear2d.default", [IMAGE], [[8, 8], False]),
    ("upsample_nearest1d.default", [ITEMS], [[8]]),
    ("upsample_nearest1d_backward.default", [(N, 3, 8)], [[8], [N, 3, 4]]),
    ("reflection_pad2d.default", [IMAGE], [[1, 1, 2, 0]]),
    ("replication_pad1d_backward.default", [(N, 3, 6), ITEMS], [[1, 1]]),
    ("native_layer_norm.default", [ITEMS, WEIGHT, WEIGHT], [1e-5], [1, [4]]),
    (
        "native_layer_norm_backward.default",
        [ITEMS, ITEMS, (N, 3, 1), (N, 3, 1), WEIGHT, WEIGHT],
        [[True] * 3],
        [2, [4]],
    ),
    ("_fused_rms_norm.default", [ITEMS, WEIGHT], [1e-5], [1, [4]]),
    ("native_group_norm.default", [IMAGE, WEIGHT, WEIGHT], [N, 4, 36, 2, 1e-5]),
    ("native_group_norm_backward.default", [IMAGE, IMAGE, (N, 2), (N, 2), WEIGHT], [N, 4, 36, 2, [True] * 3]),
    ("native_batch_norm.default", [IMAGE, WEIGHT, WEIGHT], [None, None, True, 0.1, 1e-5]),
    ("native_batch_norm_backward.default", [IMAGE, IMAGE, *[WEIGHT] * 5], [True, 1e-5, [True] * 3]),
]


def test_what_is_computed_across_rows_is_of_one_for_good(program):
    x = program.load(ITEMS, list(range(N)))
    for name, *rest in (("_softmax.default", 0, False), ("cumprod.default", 0)):
        [out] = program.call(name, x, *rest)
        assert rows_of(program, "sum.default", out) == [1]
    normal, *_ = program.call("native_layer_norm.default", x, [*ITEMS], None, None, 1e-5, outs=3)
    assert rows_of(program, "sum.default", normal) == [1]


def arguments(data, rest, inner=None):
    return [*data[: inner[0]], inner[1], *data[inner[0] :], *rest] if inner else [*data, *rest]


def influences(name, shapes, *rest):
    """Of each number of torch's results, how many rows of the operands change it."""
    function = getattr(getattr(torch.ops.aten, name.split(".")[0]), name.split(".")[1])

    def drawn(shape):
        return torch.rand(shape) * 3 + 0.1

    def run(data):
        return function(*arguments(data, *rest))

    data = [drawn(shape) for shape in shapes]
    counts = None
    for row in range(N):
        others = [x.clone() for x in data]
        for x in others:
            if len(x) == N:
                x[row] = drawn(x.shape[1:])
        pairs = list(zip(results(run(data)), results(run(others)), strict=True))
        differ = [(a != b).int() * a.is_floating_point() for a, b in pairs if isinstance(a, torch.Tensor)]
        counts = differ if counts is None else [x + y for x, y in zip(counts, differ, strict=True)]
    return counts


@pytest.mark.parametrize(("name", "shapes", "rest"), [(name, shapes, rest) for name, shapes, *rest in LAYERS])
def test_layers(program, name, shapes, rest):
    data = [program.load(shape, list(range(N)) if shape[0] == N else None) for shape in shapes]
    counts = [each for each in influences(name, shapes, *rest) if each.numel()]
    found = program.call(name, *arguments(data, *rest), outs=len(counts))
    for result, truth in zip(found, counts, strict=True):
        if truth.any():  # places of maxima may be the same
            assert 1 <= program.counted(result) <= truth.min()
            assert rows_of(program, "sum.default", result) == [N]


def listed(value):
    return list(value) if isinstance(value, list) else value


def test_movements(program):
    x = program.load((6, 2), list(range(6)))
    for name, *rest in (
        ("flip.default", [0]),
        ("roll.default", [1], [0]),
        ("repeat.default", [1, 3]),
        ("constant_pad_nd.default", [1, 1, 2, 2], 7.0),
        ("index.Tensor", [torch.tensor([4, 0, 2, 3, 1, 5])]),
        ("index.Tensor", [torch.tensor([True] * 6)]),
        ("index.Tensor", [torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([0, 1, 0])]),
        ("index_select.default", 0, torch.arange(6)),
        ("gather.default", 0, torch.tensor([[0, 1], [2, 3], [4, 5], [5, 5]])),
        ("slice_backward.default", [9, 2], 0, 1, 7, 1),
    ):
        [out] = program.call(name, x, *rest)
        assert program.counted(out) == 1, name
        [total] = program.call("sum.default", out)
        assert program.counted(total) == 6, name
    [few] = program.call("index.Tensor", x, [torch.tensor([4, 0, 4])])
    assert rows_of(program, "sum.default", few) == [2]
    # what has no rule has as many rows as the fewest numbers of its operands
    [put] = program.call("index_put.default", x, [torch.tensor([0])], Ref(x.slot, [2], [1], 0, "float32"))
    assert rows_of(program, "sum.default", put) == [1]


def test_what_is_written_in_place(program):
    x = program.load((6, 2), list(range(6)))
    [mean] = program.call("mean.dim", x, [0])
    own = program.load((2,))
    program.call("copy_.default", own, mean)
    assert program.counted(own) == 6
    program.call("add_.Tensor", own, Ref(x.slot, [2], [1], 4, "float32"), alpha=-1)
    assert program.counted(own) == 1
    program.call("copy_.default", own, mean)  # all of it is another value now
    assert program.counted(own) == 6
    part = program.load((2,))
    program.call("copy_.default", Ref(part.slot, [1], [1], 1, "float32"), Ref(x.slot, [1], [1], 4, "float32"))
    assert program.counted(part) == 1
    program.call("copy_.default", Ref(part.slot, [1], [1], 0, "float32"), Ref(mean.slot, [1], [1], 0, "float32"))
    assert program.counted(Ref(part.slot, [], [], 1, "float32")) == 1
    program.call("zero_.default", part)
    assert program.counted(part) == math.inf


def test_a_failed_write_counts_as_a_write(program):
    x = program.load((3, 2), [0, 1, 2])
    own = program.load((2,))
    wide = Ref(x.slot, [3, 2], [2, 1], 0, "float32")
    program.replay.run(Call("aten.copy_.default", [own, wide], {}, [], True), iter(()))
    assert program.counted(own) == 1
    assert program.replay.origin(own).owners == ALICE


def test_a_view_that_cannot_be_followed_has_the_fewest_rows(program):
    x = program.load((6, 4), list(range(6)))
    sliding = Ref(x.slot, [3, 4], [5, 1], 0, "float32")  # a row of it is of two
    assert rows_of(program, "sum.dim_IntList", sliding, [1]) == [1]
    merged = Ref(x.slot, [12, 2], [2, 1], 0, "float32")
    assert rows_of(program, "sum.dim_IntList", merged, [0]) == [6]
    assert rows_of(program, "sum.dim_IntList", Ref(x.slot, [3, 4], [8, 1], 4, "float32"), [0]) == [3]
    assert rows_of(program, "sum.dim_IntList", Ref(x.slot, [7, 4], [0, 1], 4, "float32"), [0]) == [1]


def test_a_window_that_runs_over_the_ends_of_rows(program):
    """Two numbers of each of its rows are of one row of alice's, two of the next, which two of them share."""
    x = program.load((4, 4), [0, 1, 2, 2])
    [total] = program.call("sum.dim_IntList", Ref(x.slot, [3, 4], [4, 1], 2, "float32"), [0])
    assert program.counted(total) == 1


def test_memory_around_a_result(program):
    """A change of scale is a window on the memory of its operand: a driver may refer to all of it."""
    x = program.load((6, 2), list(range(6)))
    [total] = program.call("sum.dim_IntList", x, [0], True)
    [both] = program.call("cat.default", [total, x])
    [out] = program.call("mul.Scalar", Ref(both.slot, [2], [1], 0, "float32"), 0.5)
    assert program.counted(out) == 6
    assert program.replay.cell(out.slot)._body.n == 14
    assert program.counted(Ref(out.slot, [], [], 5, "float32")) == 1


def test_many_terms_and_long_ones():
    labels = [Labels(np.arange(4).reshape(4, 1) + 10 * k) for k in range(20)]
    many = made(math.inf, [((0,), each) for each in labels])
    assert len(many.terms) == 8
    assert many.cap == 1
    assert made(5, [((0,), labels[0])] * 3) == Rows(5, many.terms[:1])
    assert int(loaded((1,), torch.tensor([3]), 2).least) == 1
    assert loaded((2,), torch.tensor([3, 4]), 2).terms[0].labels.array.tolist() == [
        [(2 << TABLE) + 3],
        [(2 << TABLE) + 4],
    ]


def test_labels_that_would_take_much_memory(program):
    """A driver chooses the shapes: what is too large is not followed."""
    x = program.load((2000,), list(range(2000)))
    column, row = Ref(x.slot, [2000, 1], [1, 0], 0, "float32"), Ref(x.slot, [1, 2000], [0, 1], 0, "float32")
    [table] = program.call("mul.Tensor", column, row)
    assert rows_of(program, "sum.default", table) == [2000]
    wide = rows.Rows(math.inf, (rows.Term((0,), Labels(np.arange(1 << 20).reshape(4, -1))),))
    assert rows.taken(wide, 0, torch.tensor([0] * 9)) == Rows(1 << 18)
    assert rows.moved(wide, (4,), lambda at: at.repeat(9)) == Rows(1 << 18)
    assert rows.seen(wide, ((4,), (1,)), (3, 4), (0, 1), 0).terms == (rows.Term((1,), wide.terms[0].labels),)
    assert rows.seen(wide, ((4,), (1,)), (3, 2), (1, 1), 0) == Rows(1 << 18)
    assert rows.concatenated([rows.Operand(wide, (4,))] * 2, 0) == Rows(1 << 18)


def test_every_rule_is_of_an_operation_that_there_is():
    names = {func._opname for func in HANDLERS}
    assert {name for name in row_rules.RULES if name not in names and f"{name}_" not in names} == set()


# --- random programs beside the model -----------------------------------------------

ELEMENTWISE = ["add.Tensor", "sub.Tensor", "mul.Tensor", "lt.Tensor", "maximum.default"]
UNARY = ["neg.default", "relu.default", "clone.default", "mul.Scalar", "abs.default", "sigmoid.default"]
REDUCTIONS = ["sum.dim_IntList", "mean.dim", "var.correction"]
MOVES = ["flip", "roll", "repeat", "pad", "index", "mask", "index_select", "tril", "select_backward"]
KINDS = "elementwise unary reduce extreme softmax cumsum mm addmm cat stack move write add_ zero".split()  # noqa: SIM905
VIEWS = "transpose select slice unsqueeze flat expand strided".split()  # noqa: SIM905
MOST = 60  # terms of the model
NOSHRINK = [p for p in Phase if p is not Phase.shrink and p is not Phase.explain]


def window_of(draw, program):
    """A view of some value, as a driver may make it."""
    slot, size, stride = draw(st.sampled_from(program.values))
    layout = torch.empty_strided(size, stride, device="meta")
    for _ in range(draw(st.integers(0, 2))):
        if not layout.dim():
            break
        axis = draw(st.integers(0, layout.dim() - 1))
        n, what = (
            layout.shape[axis],
            draw(st.sampled_from(VIEWS)),
        )
        if what == "transpose":
            layout = layout.transpose(axis, draw(st.integers(0, layout.dim() - 1)))
        elif what == "select":
            layout = layout.select(axis, draw(st.integers(0, n - 1)))
        elif what == "slice":
            start = draw(st.integers(0, n - 1))
            layout = layout[
                (slice(None),) * axis + (slice(start, draw(st.integers(start + 1, n)), draw(st.integers(1, 2))),)
            ]
        elif what == "unsqueeze" and layout.dim() < 4:
            layout = layout.unsqueeze(axis)
        elif what == "flat" and layout.is_contiguous():
            layout = layout.view(-1)
        elif what == "expand" and n == 1:
            layout = layout.expand([2 if d == axis else m for d, m in enumerate(layout.shape)])
        elif what == "strided":
            room = program.replay.cell(slot)._body.n
            a, step = draw(st.integers(1, 3)), draw(st.integers(0, 4))
            start = draw(st.integers(0, room - 1))
            if start + (a - 1) * step + (2 if start + (a - 1) * step + 1 < room else 1) <= room:
                b = 2 if start + (a - 1) * step + 1 < room else 1
                layout = layout.as_strided((a, b), (step, 1), start)
    return Ref(slot, list(layout.shape), list(layout.stride()), int(layout.storage_offset()), "float32")


def step_of(draw, program):
    """One operation more, if it fits, and its model."""
    kind = draw(st.sampled_from(KINDS))
    a = window_of(draw, program)
    x, shape = program.terms(a), tuple(a.size)
    if len(x) > MOST:
        return
    if kind == "elementwise":
        b = window_of(draw, program)
        try:
            wide = np.broadcast_shapes(shape, tuple(b.size))
        except ValueError:
            return
        terms = [np.broadcast_to(term, wide) for term in [*x, *program.terms(b)]]
        [out] = program.call(draw(st.sampled_from(ELEMENTWISE)), a, b)
        program.keep(out, terms)
    elif kind == "unary":
        name = draw(st.sampled_from(UNARY))
        [out] = program.call(name, a, *([0.5] if name == "mul.Scalar" else []))
        program.keep(out, x)
    elif kind == "reduce" and shape:
        axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
        name, keep = draw(st.sampled_from(REDUCTIONS)), draw(st.booleans())
        if name == "var.correction":
            [out] = program.call(name, a, axes, correction=0, keepdim=keep)
        else:
            [out] = program.call(name, a, axes, keep)
        program.keep(out, [united(term, axes, keep) for term in x])
    elif kind == "extreme" and shape:
        axis, keep = draw(st.integers(0, len(shape) - 1)), draw(st.booleans())
        if shape[axis] == 1:
            return  # it is the operand itself
        terms = [each for term in x for each in chosen(term, axis, keep)]
        for out in program.call("max.dim", a, axis, keep, outs=2):
            program.keep(out, terms)
    elif kind == "softmax" and shape:
        axis = draw(st.integers(0, len(shape) - 1))
        each = [(term, k) for term in x for k in range(shape[axis])]  # any number along the axis went into it
        [out] = program.call("_softmax.default", a, axis, False)
        program.keep(out, [np.broadcast_to(term.take([k], axis), shape) for term, k in each])
    elif kind == "cumsum" and shape:
        axis = draw(st.integers(0, len(shape) - 1))
        terms = []
        for term in x:
            parts = [united(term.take(range(k + 1), axis), [axis], True) for k in range(shape[axis])]
            terms.append(np.concatenate(parts, axis))
        [out] = program.call("cumsum.default", a, axis)
        program.keep(out, terms)
    elif kind in ("mm", "addmm"):
        b = window_of(draw, program)
        if len(shape) != 2 or len(b.size) != 2 or shape[1] != b.size[0]:
            return
        terms = multiplied(shape, b.size, x, program.terms(b))
        if kind == "mm":
            [out] = program.call("mm.default", a, b)
        else:
            c = window_of(draw, program)
            try:
                if np.broadcast_shapes((shape[0], b.size[1]), tuple(c.size)) != (shape[0], b.size[1]):
                    return
            except ValueError:
                return
            terms = [*terms, *(np.broadcast_to(term, (shape[0], b.size[1])) for term in program.terms(c))]
            [out] = program.call("addmm.default", c, a, b)
        program.keep(out, terms)
    elif kind == "cat" and shape:
        axis = draw(st.integers(0, len(shape) - 1))
        b = window_of(draw, program)
        rest = [m for d, m in enumerate(shape) if d != axis]
        if len(b.size) != len(shape) or [m for d, m in enumerate(b.size) if d != axis] != rest:
            return
        pairs = itertools.product(x or [empty(shape)], program.terms(b) or [empty(b.size)])
        terms = [np.concatenate(pair, axis) for pair in pairs]
        [out] = program.call("cat.default", [a, b], axis)
        program.keep(out, terms)
    elif kind == "stack":
        axis = draw(st.integers(0, len(shape)))
        pairs = itertools.product(x or [empty(shape)], repeat=2)
        [out] = program.call("stack.default", [a, a], axis)
        program.keep(out, [np.stack(pair, axis) for pair in pairs])
    elif kind == "move" and shape:
        move(draw, program, a, x, shape)
    elif kind in ("write", "add_", "zero"):
        target = window_of(draw, program)
        if any(m > 1 and t == 0 for m, t in zip(target.size, target.stride, strict=True)):
            return  # torch refuses: more than one element in a place
        if len(np.unique(positions(target))) < math.prod(target.size):
            return
        try:
            if np.broadcast_shapes(tuple(target.size), shape) != tuple(target.size):
                return
        except ValueError:
            return
        terms = [np.broadcast_to(term, tuple(target.size)) for term in x]
        if kind == "zero":
            terms = []
            program.call("zero_.default", target)
        elif kind == "write":
            program.call("copy_.default", target, a)
        else:
            terms = [*terms, *program.terms(target)]
            program.call("add_.Tensor", target, a)
        program.write(target, terms)


def move(draw, program, a, x, shape):
    axis = draw(st.integers(0, len(shape) - 1))
    index = draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=5))
    mask = torch.tensor(draw(st.lists(st.booleans(), min_size=shape[axis], max_size=shape[axis])))
    kind = draw(st.sampled_from(MOVES))
    before = [None] * axis
    name, rest = {
        "flip": ("flip.default", [[axis]]),
        "roll": ("roll.default", [[1], [axis]]),
        "repeat": ("repeat.default", [[2, *([1] * len(shape))]]),
        "pad": ("constant_pad_nd.default", [[1, 2]]),
        "index": ("index.Tensor", [[*before, torch.tensor(index)]]),
        "mask": ("index.Tensor", [[*before, mask]]),
        "index_select": ("index_select.default", [axis, torch.tensor(index)]),
        "tril": ("tril.default", []),
        "select_backward": ("select_backward.default", [[*shape[:axis], 3, *shape[axis:]], axis, 1]),
    }[kind]
    if (kind == "tril" and len(shape) < 2) or (kind == "mask" and not bool(mask.any())):
        return
    operation = getattr(getattr(torch.ops.aten, name.split(".")[0]), name.split(".")[1])
    at = operation(torch.arange(1, math.prod(shape) + 1).reshape(shape), *rest).numpy()
    [out] = program.call(name, a, *rest)
    terms = []
    for term in x:
        flat = empty(term.size + 1)
        flat[1:] = term.reshape(-1)
        terms.append(picked(flat, at))
    program.keep(out, terms)


@settings(deadline=None, max_examples=150, phases=NOSHRINK, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_worker_never_counts_more_rows_than_the_model(data):
    draw = data.draw
    program = Program()
    n = draw(st.integers(2, 5))
    items = draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    program.load((n, 3), items)
    program.load((n,), draw(st.sampled_from([items, items[::-1]])))
    program.load((3, 2), draw(st.lists(st.integers(0, 9), min_size=3, max_size=3)), table=1)
    program.load((3, n))
    program.load((2, 3))
    for _ in range(draw(st.integers(1, 10))):
        if draw(st.booleans()):
            step_of(draw, program)
        step_of(draw, program)
    for value in program.values:
        for _ in range(2):
            window = window_of(draw, program)
            if len(program.terms(window)) <= 4 * MOST:
                assert program.counted(window) <= program.expected(window)
        assert program.counted(ref(value)) <= program.expected(ref(value))
        assert origin_of(program.replay.cell(value[0])).rows.least >= 1
