"""Every kernel reads and writes what it declares, and nothing else; and the door takes nothing for something else."""

import random
import threading

import pytest
import torch

from pysmpc import _beaver, _ring
from pysmpc._ring import launch
from pysmpc.ring import fss_keys, z2k
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.ring.threshold_kernels import Ends

N, M, K = 203, 5, 7
PACKED = z2k.packed_words(N)
MANY, FIRST = 1536, 512  # of keys of functions, and where the second begins
SYMBOLS = _ring.securenn_words(N)
STATE, *MESSAGES, DEALT = _beaver.compare_sizes(N, 4)
DIVISOR, FUNCTION = _beaver.Divisor(1 << 16), _beaver.Function(32, 1, True)
TRUNCATED = z2k.truncate_words(DIVISOR, N)
LANES = (N + 3) // 4


def words(n):
    return torch.randint(-(1 << 62), 1 << 62, (n,))


def below(n, limit):
    """Content that must stay below a limit."""
    return lambda: torch.randint(limit, (n,))


def reals():
    """Doubles, as words."""
    return torch.randn(N, dtype=torch.float64).view(torch.int64)


TOP = (1 << 63) - 1


def number():
    return random.getrandbits(63)


def product(x, y):
    """Two matrix products, of bodies of x and y words."""
    return {
        **{f"{name}_{each}": value for name, n, m, k in (("x", x, M, K), ("y", y, K, 3)) for each, value in {
            "shares": 2 * n, "opened": n, "n": n, "row": 0, "col": 0, "offsets": below(2, 9), "rows": below(m, 20),
            "cols": below(k, 20), "map": below(60, n), "row_run": 1, "col_run": 1, "size": 60,
        }.items()},
        "batch": 2, "m": M, "n": 3, "k": K, "corrections": 2 * M * 3, "z": 2 * 2 * M * 3,
    }  # fmt: skip


PRODUCT, OTHER = product(100, 130), product(130, 100)
MATRICES = {"a": M * K, "a_first": 0, "a_row": K, "a_col": 1, "b": 1 + K * 3, "b_first": 1, "b_row": 1, "b_col": K,
            "c": 2 + M * 3, "c_first": 0, "ldc": 3, "m": M, "n": 3, "k": K}  # fmt: skip
COMPARED = {"nodes": 4, "n": N, "offset": number(), "corrections": DEALT, "c": N, "state": 2 * STATE, "known": 0}
THRESHOLDS = Ends(0, 0, 21, 3, N)
ENDS = {"apart": 21, "count": 3, "nodes": 4, "known": 0, "n": N}
#: of each kernel, what its arguments are: a number, or of buffers how many words they have, or what makes them
SAMPLES = {
    **{name: {"x": N, "y": N, "z": N, "n": N} for name in ("add", "sub", "mul")},
    "scale": {"x": N, "factor": number(), "z": N, "n": N},
    **{name: {"x": 3 * N, "rows": 3, "z": N, "n": N} for name in ("rows_sum", "rows_xor")},
    "rows_extremes": {"x": 3 * N, "rows": 3, "n": N, "z": 2},
    "weighted": {"factors": 3 * N, "words": 2 * 3 * N, "rows": 2, "count": 3, "z": 2 * N, "n": N},
    "combinations": {
        "x": 2 * 3 * N, "rows": 2, "count": 3, "weights": 6, "constants": 2, "sums": 2, "lead": 0, "z": 6 * N + 5,
        "first": 5, "next": 3 * N, "n": N,
    },
    "encode": {"values": reals, "size": 8, "bits": 16, "z": N, "n": N},
    "gaussian": {"words": N, "thresholds": below(80, TOP), "count": 80, "factor": number(), "z": N, "tied": N, "n": N},
    "turns": {"phase": N, "count": 3, "z": 6 * N, "n": N},
    "turns_deal": {"step": number(), "terms": 3, "piece": 64, "shift": 15, "corrections": 6 * N, "n": N},
    "turns_combine": {
        "corrections": 6 * N, "c": N, "coefficients": below(6, 1 << 30), "step": number(), "terms": 3, "piece": 64,
        "shift": 36, "constant": 3, "z": 2 * N, "n": N,
    },
    "powers_dealt": {"r": N, "step": number(), "segments": 2, "shift": 22, "z": 4 * N, "n": N},
    "powers_public": {
        "c": N, "start": number(), "step": number(), "segments": 2, "mantissas": below(4, 1 << 29),
        "shifts": lambda: torch.randint(1, 60, (4,)), "z": 4 * N, "n": N,
    },
    "powers_deal": {
        "start": 0, "step": number(), "segments": 2, "shift": 22, "piece": 100, "corrections": 4 * N, "n": N,
    },
    "powers_combine": {
        "corrections": 4 * N, "c": N, "start": number(), "step": number(), "segments": 2, "shift": 1, "piece": 100,
        "mantissas": below(4, 1 << 29), "shifts": lambda: torch.randint(1, 60, (4,)), "constant": number(), "z": 2 * N,
        "n": N,
    },
    "truncate_local": {"z": N, "bits": 16, "lead": True, "x": N, "n": N},
    "pack_bits": {"x": N, "packed": PACKED, "n": N},
    "unpack_bits": {"packed": PACKED, "x": N, "n": N},
    "decompose": {"x": N, "planes": 64 * PACKED, "n": N},
    "matmul": MATRICES | {"c": M * 3},
    "matmul_add": MATRICES,
    "draw": {"corrections": N, "z": 2 * N, "n": N},
    "mask": {"x": 2 * N, "z": 2 * N, "n": N},
    "deal_sum": {"z": N, "n": N},
    "deal_take": {"z": N, "n": N},
    "beaver_mul": {"d": N, "y": 2 * N, "a": 2 * N, "e": N, "z": 2 * N, "n": N},
    "beaver_square": {"d": N, "x": 2 * N, "a": 2 * N, "z": 2 * N, "n": N},
    "product_deal": PRODUCT,
    "product_combine": PRODUCT,
    "product_masks": PRODUCT | {"z": 2 * M * 3},
    "product_part": PRODUCT,
    "product_combine, of a larger left factor": OTHER,
    "product_part, of a larger left factor": OTHER,
    "truncate_deal": {"corrections": TRUNCATED, "n": N, "owed": N, "factor": 3},
    # upper halves, of an odd number: the last half is not written
    "truncate_mask": {"offset": number(), "z": 2 * N, "message": N + 1, "n": N, "factor": 3, "halves": 2},
    "truncate_finish": {"c": N, "corrections": TRUNCATED, "z": 2 * N, "n": N, "x": 2 * N, "halves": 0},
    "add_lanes": {"x": N, "y": N, "z": N, "n": N},
    "reopen_deal": {"corrections": N + 2 * LANES, "n": N},
    "reopen_mask": {"z": 2 * N, "corrections": N + 2 * LANES, "message": 2 * N, "n": N},
    "reopen_finish": {"c": N, "corrections": N + 2 * LANES, "z": 2 * N, "n": N},
    "reopen_message": {"c": N, "v": 2 * N, "message": 2 * LANES, "n": N},
    "reopen_opened": {"c": N, "lanes": LANES, "z": N, "n": N},
    "affine_mul_deal": {"x_reopened": 1, "x_factor": 3, "y_reopened": 0, "y_factor": 5, "corrections": 4 * N, "n": N},
    "affine_square_deal": {"x_reopened": 0, "x_factor": 3, "corrections": 2 * N, "n": N},
    "affine_mul": {
        "x_factor": 3, "x_c": N, "y_factor": 5, "y_c": N, "x": 2 * N, "y": 2 * N, "corrections": 4 * N, "z": 2 * N,
        "n": N,
    },
    "affine_square": {"x_factor": 3, "x_c": N, "x": 2 * N, "corrections": 2 * N, "z": 2 * N, "n": N},
    "compare_deal": COMPARED | {"masks": N},
    "compare_chunks": COMPARED | {"message": 2 * MESSAGES[0]},
    "compare_nodes": COMPARED | {"opened": MESSAGES[0], "sign": 2 * PACKED, "message": 2 * MESSAGES[1]},
    "compare_root": COMPARED | {"opened": MESSAGES[1], "sign": 2 * PACKED, "message": 2 * MESSAGES[2]},
    "thresholds_deal": ENDS | {"corrections": THRESHOLDS.corrections()},
    "thresholds_chunks": ENDS | {
        "monomials": THRESHOLDS.corrections(), "c": N, "offsets": 3, "state": 6 * STATE, "message": 6 * MESSAGES[0],
    },
    "thresholds_nodes": ENDS | {
        "corrections": THRESHOLDS.corrections(), "opened": 3 * MESSAGES[0], "state": 6 * STATE, "sign": 6 * PACKED,
        "message": 6 * MESSAGES[1],
    },
    "thresholds_root": ENDS | {
        "corrections": THRESHOLDS.corrections(), "opened": 3 * MESSAGES[1], "sign": 6 * PACKED,
        "message": 6 * MESSAGES[2],
    },
    "thresholds_sums": ENDS | {
        "corrections": THRESHOLDS.corrections(), "betas": 3 * PACKED, "weights": 6, "constants": 2, "sums": 2, "row": N,
        "between": 2 * N, "z": 4 * N,
    },
    "bit_deal": {"corrections": N, "n": N},
    "bit_share": {"beta": PACKED, "rho": 2 * N, "z": 2 * N, "n": N},
    "select_deal": {"corrections": 4 * N, "n": N},
    "select_finish": {
        "flip": False, "c": N, "beta": PACKED, "rho": 2 * N, "corrections": 4 * N, "z": 2 * N, "n": N,
    },
    "fss_deal": {
        "alpha": below(N, 1 << 32), "values": N, "others": N, "n": N, "first": 0, "last": N,
        "key": fss_keys.FSS_SALT + FUNCTION.key_words * N,
    },
    # a key for the elements from FIRST on: those before stay
    "fss_eval": {
        "key": fss_keys.FSS_SALT + FUNCTION.key_words * (MANY - FIRST), "x": below(MANY, 1 << 32), "shift": 0,
        "n": MANY, "first": FIRST, "last": MANY, "z": 2 * MANY,
    },
    "fss_bits_deal": {"first": FIRST, "last": MANY, "key": fss_keys.fss_bits_words(FUNCTION, MANY - FIRST)},
    "fss_bits_eval": {
        "key": fss_keys.fss_bits_words(FUNCTION, MANY - FIRST), "x": below(MANY, 1 << 32), "shift": 0, "n": MANY,
        "first": FIRST, "last": MANY, "z": 2 * MANY // 64,
    },
    "securenn_bits": {"x": N, "z": SYMBOLS, "n": N},
    "securenn_compare": {"corrections": SYMBOLS, "r": 2 * N, "less": False, "message": 2 * SYMBOLS, "n": N},
    "securenn_found": {"messages": 2 * SYMBOLS, "z": PACKED, "n": N},
    "securenn_sum": {"x": 2 * N, "sum": N, "carry": N, "n": N},
    "securenn_answer": {"found": PACKED, "z": N, "n": N},
    "securenn_total": {"z": N, "n": N},
    "securenn_finish": {
        "before": number(), "after": number(), "a": 2 * N, "delta": N, "eta": N, "z": 2 * N, "n": N,
    },
    "securenn_double": {"y": 2 * N, "z": 2 * N, "n": N},
    "securenn_opened": {"rows": 2, "total": N, "messages": 2 * N, "z": 2 * N, "n": N},
    "wide_pack": {"sets": 2, "x": 8 * N, "m": 4 * N, "subtract": False, "z": 4 * N, "n": N},
    "wide_combine": {"sets": 2, "z": 4 * N, "x": 8 * N, "d": N, "a": 4 * N, "e": N, "loose": 8 * N, "n": N},
    "wide_affine": {"sets": 2, "v": N, "factors": 2, "dealt": 8 * N, "c": N, "z": 8 * N, "n": N},
    "wide_deal": {"first": 1, "v": N, "upper": False, "low": number(), "high": number(), "z": 2 * N, "n": N},
    "wide_matmul": {
        "sets": 2, "batch": 1, "m": M, "n": 3, "k": K, "d": M * K, "d_batch": 0, "d_row": K, "d_col": 1,
        "y": 4 * K * 3, "y_set": 2 * K * 3, "y_half": K * 3, "y_batch": 0, "y_row": 3, "y_col": 1, "left": False,
        "z": 4 * M * 3,
    },
    "wide_sums": {"parts": 2, "coins": N, "halves": [N, N, N, None], "z": 4 * 48, "n": N},
    "wide_leaves_deal": {"alpha": number(), "z": 2 * 97 * N, "n": N},
    "wide_leaves": {"corrections": 97 * N, "c": N, "factors": 2, "z": 2 * 64 * N, "top": 2 * N, "n": N},
    "wide_join_deal": {"alpha": number(), "z": 7 * N, "n": N},
    "wide_join": {"mask_corrections": 3 * N, "corrections": 2 * N, "x": 8 * N, "opened": 3 * N, "z": 4 * N, "n": N},
    "wide_factors": {
        "corrections": 3 * N, "x": 8 * N, "y": 8 * N, "packed": 2 * -(-3 * N // 64), "rest": 6 * N, "code": 6 * N,
        "n": N,
    },
    "wide_count": {"packed": 2 * PACKED, "rows": 2, "z": N, "n": N},
}  # fmt: skip
BUFFERS = ("in", "out", "inout", "view")


def contents(size):
    return size() if callable(size) else words(size)


class Arguments:
    """Of one kernel: a sample of what it takes."""

    def __init__(self, kernel, sample):
        self.kernel = kernel
        self.kinds = {name: kind.rstrip("?") for name, kind in kernel.parameters}
        self.sizes = {name: sample[name] for name, kind in self.kinds.items() if kind in (*BUFFERS, "list")}
        self.values = {name: self.other(name) for name in self.kinds}
        for name, value in sample.items():
            if self.kinds.get(name) == "number":
                self.values[name] = value

    def other(self, name):
        """Another value of an argument."""
        kind = self.kinds[name]
        if kind == "keys":
            return KeySet([fresh_key(), fresh_key()], 0, 1)
        if kind == "list":
            return [None if size is None else words(size) for size in self.sizes[name]]
        if kind in BUFFERS:
            found, before = contents(self.sizes[name]), getattr(self, "values", {}).get(name)
            while before is not None and len(found) and torch.equal(found, before):
                found = contents(self.sizes[name])  # few small numbers may be the same ones
            return found
        return {"stream": number, "divisor": lambda: DIVISOR, "function": lambda: FUNCTION, "number": int}[kind]()

    def run(self, **others):
        """Run it on buffers that lie amid other words: what it wrote.  Nothing else may be written."""
        rooms, args = [], []

        def placed(values):
            room = words(len(values) + 128)
            view = room[64 : 64 + len(values)]
            view.copy_(values)
            rooms.append((room, room.clone(), view))
            return view

        for name, kind in self.kinds.items():
            value = others.get(name, self.values[name])
            if kind in BUFFERS:
                args.append(placed(value))
            elif kind == "list":
                args.append([None if each is None else placed(each) for each in value])
            else:
                args.append(value.native if kind == "keys" else value)
        launch(self.kernel, *args)
        written = [x for x, kind in zip(args, self.kinds.values(), strict=True) if kind in ("out", "inout")]
        for room, before, view in rooms:
            after = room.clone()
            if any(view is each for each in written):
                after[64:-64] = before[64:-64]
            assert torch.equal(after, before), "it wrote to what it reads, or beside what it writes"
        return [x.clone() for x in written]


def same(a, b):
    return all(map(torch.equal, a, b))


@pytest.mark.parametrize("kernel", _ring.kernels, ids=lambda kernel: kernel.name)
def test_kernels_read_and_write_what_they_declare(kernel):
    cases = [Arguments(kernel, sample) for name, sample in SAMPLES.items() if name.split(",")[0] == kernel.name]
    first = [case.run() for case in cases]
    assert all(map(same, first, [case.run() for case in cases]))
    for name, kind in cases[0].kinds.items():
        if kind in ("number", "keys", "divisor", "function"):
            continue
        again = [case.run(**{name: case.other(name)}) for case in cases]
        if kind == "out":
            assert all(map(same, first, again)), f"{name} is written in full, whatever was in it"
        else:
            assert not all(map(same, first, again)), f"{name} is declared, and what is in it changes nothing"


def test_all_kernels_have_samples():
    assert [kernel.name for kernel in _ring.kernels] == list(dict.fromkeys(k.name for k in _ring.kernels))
    assert {kernel.name for kernel in _ring.kernels} == {name.split(",")[0] for name in SAMPLES}


def test_arguments_of_another_kind():
    x, keys = words(4), KeySet([fresh_key()], 0, 0).native
    with pytest.raises(TypeError, match="add: x is a in, not int"):
        launch(_ring.add, x.data_ptr(), x, x, 4)
    with pytest.raises(TypeError, match="add: y is a in, not NoneType"):
        launch(_ring.add, x, None, x, 4)
    with pytest.raises(TypeError, match="contiguous int64"):
        launch(_ring.add, x, x.double(), x, 4)
    with pytest.raises(TypeError, match="contiguous int64"):
        launch(_ring.add, x, words(8)[::2], x, 4)
    with pytest.raises(TypeError):
        launch(_ring.add, x, x, x, 4.0)
    with pytest.raises(TypeError):
        launch(_ring.add, x, x, x, z2k.Stream(4, 0))
    with pytest.raises(TypeError, match="add takes 4 arguments, not 3"):
        launch(_ring.add, x, x, x)
    with pytest.raises(TypeError, match="draw: h is a keys, not KeySet"):
        launch(_ring.draw, KeySet([fresh_key()]), 1, None, x, 4)
    with pytest.raises(TypeError, match="draw: a is a stream, not Tensor"):
        launch(_ring.draw, keys, x, None, x, 4)
    with pytest.raises(TypeError, match="truncate_deal: d is a divisor, not Function"):
        launch(_ring.truncate_deal, keys, 1, FUNCTION, words(8), 4, None, 1)
    with pytest.raises(TypeError, match="truncate_deal: d is a divisor, not NoneType"):
        launch(_ring.truncate_deal, keys, 1, None, words(8), 4, None, 1)


def test_numbers_are_taken_modulo_the_ring():
    x, outs = words(4), [words(4) for _ in range(3)]
    for factor, out in zip((-3, (1 << 64) - 3, (5 << 64) - 3), outs, strict=True):
        launch(_ring.scale, x, factor, out, 4)
        assert torch.equal(out, -3 * x)


def test_launches_that_were_made_ready():
    """Streams that were drawn since `first` move, older ones stay, and others are given."""
    keys = KeySet([fresh_key()])
    outs = [words(4).view(1, 4) for _ in range(4)]
    streams = [41, 42, 50, z2k.Stream(3, 1)]
    ready = z2k.Launches(
        [(_ring.draw, (keys.native, s, None, out, 4)) for s, out in zip(streams, outs, strict=True)], 42, 40
    )
    for first in (42, 1000, (7 << 40) + 5):
        ready.run(first, [0, 77])
        for out, stream in zip(outs, (41, first, first + 8, 77), strict=True):
            assert torch.equal(out, keys.draw(stream, 4))
    with pytest.raises(TypeError, match="arguments"):
        z2k.Launches([(_ring.add, outs[:3])], 0, 40)
    with pytest.raises(IndexError):
        ready.run(42, [0])


def test_who_is_told():
    """The thread's own recorder, after the kernel has run, with the arguments themselves."""
    told = []
    x, out = words(4), words(4)
    z2k.record_launches(lambda kernel, args: told.append((kernel, args, out.clone())))
    try:
        thread = threading.Thread(target=z2k.add, args=(x, x))
        thread.start()
        thread.join()
        assert told == []
        launch(_ring.scale, x, 3, out, 4)
        with pytest.raises(TypeError):
            launch(_ring.add, x, None, out, 4)
    finally:
        z2k.record_launches(None)
    launch(_ring.scale, x, 5, out, 4)
    [(kernel, args, then)] = told
    assert kernel is _ring.scale
    assert args[0] is x
    assert args[2] is out
    assert torch.equal(then, 3 * x)
