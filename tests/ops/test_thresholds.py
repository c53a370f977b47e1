"""Comparisons with public values are those of the exact numbers; and right up to the limits of the ring."""

import math
import operator
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from twins import opened

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.ring.fixedpoint import Precision, encode, fraction_in_steps, number_in_steps, tensor_in_steps
from pysmpc.session.session import plain_session
from pysmpc.tensor.secret import SecretTensor

ORDER = [operator.lt, operator.le, operator.gt, operator.ge]
COMPARE = [*ORDER, operator.eq, operator.ne]
EDGE = (1 << 62) - 1
SUITES = {
    "default": {},
    "fss": {"protocol": "fss"},
    "snn": {"protocol": "snn"},
    "mac": {"integrity": "mac"},
    "nearest": {"rounding": "nearest"},
    "short": {"compare_bits": 40},
    "three": {"names": ("alice", "bob", "carol")},
}
ENCODINGS = [(2, 16), (2, 3), (2, 30), (10, 0), (10, 3), (10, 7), (3, 5)]
_parties = {}


def among(suite):
    if suite not in _parties:
        options = dict(SUITES[suite])
        _parties[suite] = sy.virtual(*options.pop("names", ("alice", "bob")), **options)
    return _parties[suite]


def meant(t, scale):
    """The number that a threshold stands for: itself, or the decimal step that is this float."""
    if not isinstance(t, float) or not math.isfinite(t):
        return t
    near = round(Fraction(t) * scale)
    return Fraction(near, scale) if near / scale == t and abs(near) < 1 << 50 else Fraction(t)


def held(x, scale):
    """The values behind a secret, as fractions; they are below 2^52 steps."""
    return [Fraction(round(v * scale), scale) for v in opened(x).reshape(-1).tolist()]


def check(found, expected):
    assert isinstance(found, sy.SecretTensor)
    assert found.dtype == torch.bool
    opened = sy.decrypt(found).reshape(-1).tolist()
    assert opened == expected, f"{opened} != {expected}"


def near_steps(scale):
    """Numbers on, around and between steps."""
    step = st.integers(-(1 << 20), 1 << 20).map(lambda k: k / scale)
    beside = st.tuples(step, st.sampled_from([math.inf, -math.inf])).map(lambda p: math.nextafter(*p))
    between = st.tuples(step, st.floats(-1.5, 1.5)).map(lambda p: p[0] + p[1] / scale)
    tiny = st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1e-9, -1e-9, math.inf, -math.inf, math.nan])
    return st.one_of(step, beside, between, tiny, st.integers(-100, 100))


@pytest.mark.parametrize("suite", SUITES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_real_secrets_and_public_numbers(suite, data):
    base, digits = data.draw(st.sampled_from(ENCODINGS))
    scale = base**digits
    t = data.draw(near_steps(scale))
    finite = t if math.isfinite(t) else 0
    around = torch.arange(-2, 3) + round(finite * scale)
    x = sy.encrypt(around.double() / scale, among(suite), precision_fractional=digits, base=base)
    values, number = held(x, scale), meant(t, scale)
    for fn in COMPARE:
        check(fn(x, t), [fn(v, number) for v in values])
        check(fn(t, x), [fn(number, v) for v in values])
        check(fn(x, torch.tensor(t, dtype=torch.float64)), [fn(v, meant(float(t), scale)) for v in values])


@pytest.mark.parametrize("suite", SUITES)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_real_secrets_and_public_tensors(suite, data):
    base, digits = data.draw(st.sampled_from(ENCODINGS))
    scale = base**digits
    numbers = [float(t) for t in data.draw(st.lists(near_steps(scale), min_size=1, max_size=7))]
    t = torch.tensor(numbers, dtype=torch.float64)
    steps = data.draw(st.lists(st.integers(-3, 3), min_size=len(numbers), max_size=len(numbers)))
    around = torch.nan_to_num(t, 0, 0, 0) * scale
    x = sy.encrypt((around.round() + torch.tensor(steps)) / scale, among(suite), precision_fractional=digits, base=base)
    pairs = list(zip(held(x, scale), [meant(n, scale) for n in numbers], strict=True))
    for fn in COMPARE:
        check(fn(x, t), [fn(v, n) for v, n in pairs])
        check(fn(t, x), [fn(n, v) for v, n in pairs])


@pytest.mark.parametrize("suite", [s for s in SUITES if s != "short"])
@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.integers(-EDGE, EDGE) | st.integers(-3, 3), min_size=1, max_size=6),
    t=st.integers(-EDGE, EDGE) | st.integers(-3, 3) | st.floats(-4.0, 4.0) | st.floats(-(2.0**61), 2.0**61),
)
def test_integer_secrets(suite, values, t):
    """Up to the largest that can be encrypted, beside integers and real numbers of every size."""
    values = [*values, math.floor(t), math.ceil(t)]
    x = sy.encrypt(torch.tensor(values), among(suite))
    public = torch.tensor(t, dtype=torch.int64 if isinstance(t, int) else torch.float64)
    for fn in COMPARE:
        check(fn(x, t), [fn(v, Fraction(t)) for v in values])
        check(fn(t, x), [fn(Fraction(t), v) for v in values])
        check(fn(x, public), [fn(v, Fraction(t)) for v in values])
        check(fn(public.expand(len(values)), x), [fn(Fraction(t), v) for v in values])


@settings(max_examples=300, deadline=None)
@given(
    t=st.floats(-(2.0**60), 2.0**60) | st.floats(-4, 4),
    scale=st.sampled_from([1, 10, 1000, 10**9, 3 << 16, 1 << 30, 125 << 20]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
)
def test_steps_of_numbers_and_of_tensors_are_one(t, scale, dtype):
    values = torch.tensor([t, t / scale, round(t) / scale], dtype=dtype)
    values = values[values.isfinite()]
    if values.numel() and float(values.double().abs().max()) * scale < EDGE:
        low, high = tensor_in_steps(values, scale)
        assert list(zip(low.tolist(), high.tolist(), strict=True)) == [
            number_in_steps(v, scale, dtype) for v in values.tolist()
        ]
        for v, below, above in zip(values.tolist(), low.tolist(), high.tolist(), strict=True):
            assert above - below in (0, 1)
            if above != below or not scale & (scale - 1):
                assert (below, above) == (math.floor(Fraction(v) * scale), math.ceil(Fraction(v) * scale))


@pytest.mark.parametrize("scale", [1000, 10**7, 243, 3 << 16])
def test_floats_beside_decimal_steps(scale):
    """The float next to a step lies between steps, even where the product with the scale is rounded to one."""
    steps = [(k, k / scale) for k in range(1, 2000)]
    for towards in (math.inf, -math.inf):
        beside = [math.nextafter(v, towards) for _, v in steps]
        low, high = tensor_in_steps(torch.tensor(beside, dtype=torch.float64), scale)
        assert low.tolist() == [math.floor(Fraction(v) * scale) for v in beside]
        assert high.tolist() == [math.ceil(Fraction(v) * scale) for v in beside]
    low, high = tensor_in_steps(torch.tensor([v for _, v in steps], dtype=torch.float64), scale)
    assert low.tolist() == high.tolist() == [k for k, _ in steps]


@given(st.lists(st.integers(-EDGE, EDGE), max_size=5), st.fractions(min_value=Fraction(1, 1 << 40), max_value=1))
def test_steps_of_fixed_point(integers, by):
    low, high = fraction_in_steps(torch.tensor(integers, dtype=torch.int64), by, 1)
    assert low.tolist() == [math.floor(v * by) for v in integers]
    assert high.tolist() == [math.ceil(v * by) for v in integers]


@pytest.mark.parametrize("suite", SUITES)
def test_a_threshold_is_not_rounded(suite):
    x = sy.encrypt(torch.tensor([0.0, 0.125, -0.125]), among(suite))
    check(x < 1e-6, [True, False, True])
    check(x > -1e-6, [True, True, False])
    check(x < 0.125001, [True, True, True])
    check(x >= 0.125001, [False, False, False])
    check(x <= -0.125001, [False, False, False])
    check(x == 0.1250001, [False, False, False])
    check(x != 0.1250001, [True, True, True])
    # 1/8 + 2^-24 is a float32, and 2^-8 of a step more
    t = torch.tensor([1e-6, 0.125 + 2.0**-24, -0.125])
    check(x < t, [True, True, False])
    check(x == t, [False, False, True])
    check(t <= x, [False, False, True])


def test_decimal_steps():
    """0.3 is no float, and is three tenths where tenths are steps."""
    x = sy.encrypt(torch.tensor([0.3, 0.299, 0.301]), among("default"), precision_fractional=3, base=10)
    assert [v * 1000 for v in held(x, 1000)] == [300, 299, 301]
    for t in (0.3, torch.tensor(0.3), torch.tensor([0.3] * 3, dtype=torch.float64)):
        for fn in COMPARE:
            check(fn(x, t), [fn(v, 300) for v in (300, 299, 301)])
    check(x == 0.3000001, [False, False, False])
    check(x < 0.3000001, [True, True, False])
    check(x == torch.tensor(0.3, dtype=torch.bfloat16), [False, False, False])  # that is 0.30078125


@pytest.mark.parametrize("suite", SUITES)
def test_infinities_and_nan(suite):
    """As torch has it, from every value, for nothing where all are known."""
    parties = among(suite)
    x = sy.encrypt(torch.tensor([1.5, -2.0, 1e9 if suite != "short" else 1e6]), parties)
    plain = sy.decrypt(x).double()
    for t in (math.inf, -math.inf, math.nan):
        mixed = torch.tensor([t, 0.0, -t], dtype=torch.float64)
        for fn in COMPARE:
            before = parties.stats.copy()
            found = fn(x, t), fn(t, x), fn(x, torch.tensor(t))
            assert (parties.stats - before).cost.rounds == 0
            for out, expected in zip(found, (fn(plain, t), fn(t, plain), fn(plain, t)), strict=True):
                check(out, expected.tolist())
            check(fn(x, mixed), fn(plain, mixed).tolist())
            check(fn(mixed, x), fn(mixed, plain).tolist())
    check(torch.isfinite(x), [True] * 3)
    out = torch.where(x < math.inf, x, -x)
    assert torch.equal(opened(out), plain)


@pytest.mark.parametrize("suite", SUITES)
def test_what_a_threshold_costs(suite):
    """Between steps and among infinities as on a step; equality with what is between steps, nothing."""
    parties = among(suite)
    x = sy.encrypt(torch.randn(50), parties)
    strange = torch.zeros(50)
    strange[:3] = torch.tensor([math.inf, math.nan, 1e-6])

    def cost(run):
        before = parties.stats.copy()
        run()
        return (parties.stats - before).cost

    for fn in COMPARE:
        assert cost(lambda: fn(x, torch.zeros(50))) == cost(lambda: fn(x, 0))  # noqa: B023
        assert cost(lambda: fn(x, strange)) == cost(lambda: fn(x, 0))  # noqa: B023
    for fn in ORDER:
        assert cost(lambda: fn(x, 1e-6)) == cost(lambda: fn(x, 0))  # noqa: B023
    assert cost(lambda: x == 1e-6).rounds == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool])
@pytest.mark.parametrize("fn", COMPARE, ids=lambda f: f.__name__)
def test_public_integers_of_every_dtype(fn, dtype):
    if dtype == torch.bool:
        t = torch.tensor([True, False, True])
    else:
        info = torch.iinfo(dtype)
        t = torch.tensor([max(info.min, -EDGE), 3, min(info.max, EDGE)], dtype=dtype)
    for secret in (torch.tensor([1, 3, -2]), torch.tensor([0.0, 3.0, 1.0]), torch.tensor([True, False, False])):
        if dtype == torch.int64 and secret.is_floating_point():
            continue
        x = sy.encrypt(secret, among("default"))
        check(fn(x, t), fn(secret.double(), t.double()).tolist())
        check(fn(t, x), fn(t.double(), secret.double()).tolist())


def test_at_the_scale_that_a_value_has():
    parties = among("default")
    steps = torch.arange(-3, 4).double()
    x = sy.encrypt(steps, parties) * sy.encrypt(torch.full((7,), 2.0**-16), parties)
    x = x * sy.encrypt(torch.full((7,), 0.5), parties)  # steps of 2^-32 or finer until it is settled
    before = parties.stats.copy()
    values = (steps * 2.0**-17).tolist()
    assert x.cell.scale >= 1 << 32
    for t in (0.0, 2.0**-17, 2.0**-17 + 2.0**-40, -(2.0**-18)):
        for fn in COMPARE:
            check(fn(x, t), [fn(v, t) for v in values])
            check(fn(x, torch.full((7,), t, dtype=torch.float64)), [fn(v, t) for v in values])
    assert x.cell.scale >= 1 << 32, "settled, which takes a round and rounds"
    assert (parties.stats - before).cost.rounds < 6 * 2 * 4 * 6
    # where there is no room for the threshold at that scale, there is at the nominal one
    check(x < 2.0**40, [True] * 7)


def test_beside_fixed_point_that_was_not_shared():
    parties = among("default")
    for base, digits in ENCODINGS:
        x = sy.encrypt(torch.tensor([-1.0, 0.0, 0.125, 1.0]), parties)
        precision = Precision(base, digits)
        words = encode(torch.tensor([-1.0, 2.0**-3, 0.125, 0.999]), precision)
        share = plain_session.suite.public(plain_session.party, words, precision.scale)
        t = SecretTensor.of(share, plain_session, precision, torch.float32)
        numbers = held(t, base**digits)
        for fn in COMPARE:
            check(fn(x, t), [fn(v, n) for v, n in zip(held(x, 1 << 16), numbers, strict=True)])
            check(fn(t, x), [fn(n, v) for v, n in zip(held(x, 1 << 16), numbers, strict=True)])
        for fn in ORDER:  # and itself beside a number
            check(fn(t, 0.1251), [fn(n, Fraction(0.1251)) for n in numbers])


@pytest.mark.parametrize("suite", SUITES)
def test_out_of_range(suite):
    parties = among(suite)
    whole, real = sy.encrypt(torch.tensor([1, -2]), parties), sy.encrypt(torch.tensor([1.0, -2.0]), parties)
    cases = [(whole, 1 << 62), (whole, -(1 << 62)), (whole, 1e19), (real, 2.0**46), (real, -1e300), (real, 1 << 46)]
    for x, t in cases:
        kind = torch.int64 if isinstance(t, int) else torch.float64
        for operand in (t, torch.tensor(t, dtype=kind), torch.tensor([0, t], dtype=kind)):
            for fn in COMPARE:
                with pytest.raises(EncodingError, match="public value that a secret is compared with is out of range"):
                    fn(x, operand)
                with pytest.raises(EncodingError, match="out of range"):
                    fn(operand, x)
    if suite == "short":
        return
    for x, t in ((whole, EDGE), (whole, -EDGE), (real, 2.0**46 - 2.0**-6), (real, -(2.0**46) + 2.0**-6)):
        check(x < t, [t > 0] * 2)
        check(x >= t, [t < 0] * 2)


@pytest.mark.parametrize("suite", [s for s in SUITES if s != "short"])
def test_differences_up_to_the_limit(suite):
    """Secrets less than 2^63 apart; equality and the sign, everywhere."""
    parties = among(suite)
    a = torch.tensor([EDGE, -EDGE, EDGE, -EDGE, 0, EDGE - 1, 1 - EDGE, 5])
    b = torch.tensor([-EDGE, EDGE, EDGE, -EDGE, -EDGE, EDGE, -EDGE, 4])
    x, y = sy.encrypt(a, parties), sy.encrypt(b, parties)
    for fn in COMPARE:
        check(fn(x, y), fn(a, b).tolist())
    for fn in (torch.maximum, torch.minimum):
        assert torch.equal(sy.decrypt(fn(x, y)), fn(a, b))
    both, secret = torch.stack([a, b]), torch.stack([x, y])
    assert torch.equal(sy.decrypt(secret.argmax(0)), both.argmax(0))
    assert torch.equal(sy.decrypt(secret.max(0).values), both.max(0).values)
    assert torch.equal(sy.decrypt(secret.amin(1)), both.amin(1))
    assert torch.equal(sy.decrypt(x.clamp(-EDGE, EDGE)), a)
    large, plain = x + y + x.sign(), a + b + a.sign()  # up to 2^63 - 1
    for fn in (torch.abs, torch.sign, torch.relu):
        assert torch.equal(sy.decrypt(fn(large)), fn(plain))
    # what only arithmetic reaches
    rest = torch.tensor([-(1 << 63), (1 << 63) - 1, -1, 0])
    z = sy.encrypt(rest >> 2, parties) * 4 + (rest & 3)
    check(z < 0, [True, False, True, False])
    for value in (0, -1, 3):
        check(z == value, (rest == value).tolist())
    check(z == z.clone(), [True] * 4)
    check(z == 0.5, [False] * 4)
    check(z == torch.tensor([0.5, math.inf, -1.0, math.nan], dtype=torch.float64), [False, False, True, False])


def test_bounds():
    parties = among("default")
    values = torch.tensor([-3.0, -0.5, 0.0, 0.25, 6.0, 7.0])
    x = sy.encrypt(values, parties)
    for bounds in ((-math.inf, 0.5), (-0.5, math.inf), (-math.inf, math.inf), (-1, 6)):
        assert torch.equal(sy.decrypt(x.clamp(*bounds)), values.clamp(*bounds))
        assert torch.equal(sy.decrypt(F.hardtanh(x, *bounds)), F.hardtanh(values, *bounds))
    for fn in (F.relu6, lambda v: F.hardtanh(v, -0.5 + 1e-7, 0.25 + 1e-7), lambda v: v.clamp(-0.5, 0.25 - 1e-7)):
        mine, theirs = x.clone().requires_grad_(), values.double().requires_grad_()
        fn(mine).sum().backward()
        fn(theirs).sum().backward()
        assert torch.equal(opened(mine.grad), theirs.grad)
    assert torch.equal(opened(torch.where(x < 1e-7, x, -x)), torch.where(values < 1e-7, values, -values).double())
    assert torch.equal(opened(x.masked_fill(x > -1e-7, 1.0)), values.masked_fill(values > -1e-7, 1.0).double())
