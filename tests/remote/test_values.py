"""Nothing that a driver sees depends on a value of an owner's data: only on names, shapes and arguments."""

import contextlib
import logging
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parsers import Attending
from remotes import Workers

import pysmpc as sy
from pysmpc.errors import PysmpcError, RemoteError
from pysmpc.remote.arguments import NAMES
from pysmpc.remote.config import Bounds
from pysmpc.remote.data_steps import TINY, Items, apply
from pysmpc.remote.driver.answers import Answers
from pysmpc.remote.driver.remote_pointers import _shape_after
from pysmpc.remote.messages import Ack, Beat, Ready
from pysmpc.remote.worker import driver_connection
from pysmpc.remote.worker.data import checked
from pysmpc.ring.fixedpoint import BINARY16, INTEGER, LIMIT, Precision, encode, saturating

DTYPES = ["float16", "float32", "float64", "uint8", "int32", "int64", "bool"]
SHAPE = (5, 2, 3)
ENTRIES = ["aa", "bb"]  # of one length, as it is in the sizes of messages


def hard(rng, dtype, shape=SHAPE):
    """Values of every size that the dtype has, some of them at its ends."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith("float"):
        info = np.finfo(dtype)
        values = rng.standard_normal(shape) * 2.0 ** rng.integers(info.minexp, info.maxexp - 2, shape)
        ends = [0.0, info.max, info.min, info.tiny, info.tiny * 0.75, 1.0, -1.0]
    else:
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True) >> rng.integers(0, 8, shape)
        ends = [0, 1, info.max, info.min]
    values = values.astype(dtype)
    where = rng.random(shape) < 0.3
    values[where] = rng.choice(np.array(ends, dtype), int(where.sum()))
    return values


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two entries of every dtype: other values of the same shape."""
    rng, place = np.random.default_rng(), tmp_path_factory.mktemp("values")
    for entry in ENTRIES:
        np.savez(place / f"{entry}.npz", **{dtype: hard(rng, dtype) for dtype in DTYPES})
    np.save(place / "labels.npy", rng.integers(0, 10, 12, dtype=np.uint8))
    return place


@pytest.fixture(scope="module")
def owner(office, folder):
    data = {entry: {"path": str(folder / f"{entry}.npz")} for entry in ENTRIES}
    data["labels"] = {"path": str(folder / "labels.npy"), "classes": 10}
    with Workers(office.folder, options={"alice": {"data": data}}) as found:
        yield found


@pytest.fixture
def parties(owner):
    with owner.connect() as found:
        yield found


def pointer(parties, name):
    [found] = parties["alice"].search(name)
    return found


# --- what drivers tried -------------------------------------------------------------


def test_no_binary_search_by_what_is_out_of_range(parties, folder):
    """Which scale an element is out of range at would say how large it is."""
    values = torch.from_numpy(np.load(folder / "aa.npz")["float32"])
    values[values.abs() < TINY] = 0  # subnormal numbers of a file are zero for everybody: remote/worker/data.py
    whole = pointer(parties, "aa/float32")
    for power in range(-120, 121, 30):
        x = whole[1:2].scale(2.0**power).fix_precision(16, 2).share()
        parties.wait()
        expected = (values[1:2].double() * 2.0**power).clamp(-(2.0**46), 2.0**46)
        assert torch.allclose(sy.decrypt(x).double(), expected, atol=2.0**-16, rtol=2.0**-23)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_values_out_of_range_are_the_nearest_in_range(parties, folder, dtype):
    values = torch.from_numpy(np.load(folder / "bb.npz")[dtype])
    found = pointer(parties, f"bb/{dtype}")
    x = found.share() if dtype == "int64" else found.fix_precision(16, 2).share()
    limit = LIMIT - 1 if dtype == "int64" else 2.0**46
    expected = values.clamp(-limit, limit)
    assert torch.allclose(sy.decrypt(x).double(), expected.double(), atol=2.0**-16, rtol=2.0**-23)


def test_labels_are_not_found_by_one_hot(parties, folder):
    labels = torch.from_numpy(np.load(folder / "labels.npy")).long()
    whole = pointer(parties, "labels")
    for classes in range(1, 13):
        x = sy.encrypt(whole.one_hot(classes), parties)
        parties.wait()
        expected = (labels[:, None] == torch.arange(classes)).float()
        assert torch.equal(sy.decrypt(x), expected)


def test_values_beyond_the_promise_of_short_comparisons(owner, parties, folder):
    x = sy.encrypt(pointer(parties, "aa/int64")[:3], parties, compare_bits=12)
    values = torch.from_numpy(np.load(folder / "aa.npz")["int64"])[:3].clamp(-2047, 2047)
    assert torch.equal(sy.decrypt(x), values)
    assert torch.equal(sy.decrypt(x > 0), values > 0)


@pytest.mark.parametrize("verb", ["scale", "rows", "reshape"])
def test_no_secret_in_a_step(parties, verb):
    """It would meet the owner's data, or be compared, at her alone."""
    secret = sy.encrypt(torch.tensor([1, 2]), parties)
    found = pointer(parties, "aa/float32")
    found._steps = (
        {"scale": ("scale", secret, 0.0), "rows": ("rows", secret), "reshape": ("reshape", [secret])}[verb],
    )
    found.fix_precision(16, 2).share()
    with pytest.raises(RemoteError, match=f"{verb}: .* public, and here is a secret"):
        parties.wait()


@pytest.mark.parametrize(
    "bad",
    [
        ("divide", 0.0), ("divide", -0.0), ("divide", float("nan")), ("divide", 1e-320), ("divide", 10**400),
        ("scale", float("inf"), 0.0), ("scale", 1.0, float("nan")), ("scale", 1e-40, 0.0), ("scale", 1e40, 0.0),
        ("scale", True, 0.0), ("scale", "1", 0.0), ("one_hot", 0), ("one_hot", True), ("one_hot", 2.0),
        ("rows", torch.tensor([5])), ("rows", torch.tensor([-1])), ("rows", torch.tensor(0)),
        ("rows", torch.ones(5, dtype=torch.bool)), ("rows", [0]), ("cut", 0, 1, 0), ("reshape", [7]),
    ],
    ids=lambda bad: f"{bad[0]} {bad[1:]}",
)  # fmt: skip
def test_arguments_are_refused_for_what_they_are(bad):
    said = set()
    for _ in range(3):
        values = torch.from_numpy(hard(np.random.default_rng(), "int32"))
        with pytest.raises(RemoteError) as found:
            apply(Items(values, torch.arange(5)), bad[0], bad[1:])
        said.add(str(found.value))
    assert len(said) == 1


def test_a_division_by_zero_is_a_mistake_of_the_driver(parties):
    with pytest.raises(RemoteError, match="divisor"):
        pointer(parties, "aa/float32") / 0
    assert len(pointer(parties, "aa/float32") / torch.tensor(2.0)) == 5


# --- what the owner's log says ------------------------------------------------------


def test_what_saturated_is_counted_in_the_log_of_its_owner(parties, folder, caplog):
    caplog.set_level(logging.INFO, "pysmpc.worker")
    values = torch.from_numpy(np.load(folder / "aa.npz")["int64"])
    pointer(parties, "aa/int64").share()
    pointer(parties, "aa/bool").share()
    sy.encrypt(pointer(parties, "labels").one_hot(4), parties)
    sy.encrypt(pointer(parties, "aa/int32").scale(2.0**40).long(), parties)
    parties.wait()
    lines = {line.data: line for line in caplog.records if line.getMessage() == "shared"}
    assert len(lines) == 4
    labels = np.load(folder / "labels.npy")
    ints = torch.from_numpy(np.load(folder / "aa.npz")["int32"]).double().float().double() * 2.0**40
    assert {name: line.saturated for name, line in lines.items()} == {
        "aa/int64": int((values.clamp(1 - LIMIT, LIMIT - 1) != values).sum()),
        "aa/bool": 0,
        "labels": int((labels >= 4).sum()),
        "aa/int32": int((ints.abs() >= LIMIT).sum()),
    }
    assert {line.peer for line in lines.values()} == {"scientist"}


# --- for any data and any steps -----------------------------------------------------

numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-1000, 1000),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0.0, 1.0, 2.0**-126, 2.0**126, -(2.0**100), 255]),
)
small = st.integers(-3, 7)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("rows"), st.lists(small, max_size=6).map(lambda x: torch.tensor(x, dtype=torch.int64))),
        st.tuples(st.just("rows"), st.lists(st.integers(0, 4), max_size=6).map(torch.LongTensor)),
        st.tuples(st.just("cut"), st.none() | small, st.none() | small, st.none() | small),
        st.tuples(st.just("flatten")),
        st.tuples(st.just("reshape"), st.sampled_from([[6], [3, 2], [-1], [2, 1, 3], [4], []])),
        st.tuples(st.just("float_")),
        st.tuples(st.just("long")),
        st.tuples(st.just("scale"), numbers, numbers),
        st.tuples(st.just("divide"), numbers),
        st.tuples(st.just("one_hot"), st.integers(-1, 12)),
        st.tuples(st.sampled_from(["eval", "long", "scale"]), small),
    ),
    max_size=5,
)
precisions = st.sampled_from([BINARY16, Precision(10, 3), Precision(2, 30), Precision(10, 9)])


def outcome(values, todo, precision):
    """What comes of steps and sharing, as far as a driver sees it."""
    found = Items(checked("data", torch.from_numpy(values), Bounds()), torch.arange(len(values)))
    try:
        for verb, *arguments in todo:
            found = apply(found, verb, arguments)
    except RemoteError as error:
        return str(error)
    unit = precision if found.values.is_floating_point() else INTEGER
    words, _ = saturating(found.values, unit)
    assert not words.numel() or (words.abs() < LIMIT).all()
    return words.shape, words.stride(), found.values.dtype, found.items.tolist()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(DTYPES), steps, precisions)
def test_steps_end_alike_for_any_values(dtype, todo, precision):
    rng = np.random.default_rng()
    assert outcome(hard(rng, dtype), todo, precision) == outcome(hard(rng, dtype), todo, precision)


@contextlib.contextmanager
def hearing():
    """What any driver of this process hears of workers, but for how far they are, as that is a matter of time."""
    heard, real = [], Answers.on_message

    def on_message(answers, worker, message):
        if not isinstance(message, Ack | Beat):
            heard.append((worker.name, message))
        real(answers, worker, message)

    Answers.on_message = on_message
    try:
        yield heard
    finally:
        Answers.on_message = real


def seen(owner, entry, dtype, todo, precision):
    """All that a driver sees of sharing and opening data after steps: messages, errors, sizes."""
    until = time.monotonic() + 10
    while any(worker.attendances for worker in owner.workers.values()):  # of the one before
        assert time.monotonic() < until
        time.sleep(0.01)
    figures = []
    with hearing() as heard, owner.connect() as parties, contextlib.suppress(PysmpcError):
        found = pointer(parties, f"{entry}/{dtype}")
        like = found._like
        with contextlib.suppress(PysmpcError):
            for each in todo:
                like = _shape_after(like, each)
        found._steps, found._like = tuple(todo), like
        x = found.encrypted(parties.session, precision)
        sy.decrypt(x)
        parties.wait()
        for report in parties.status():
            [session] = report["sessions"]
            figures.append([session[name] for name in FIGURES])
    told = [
        (name, type(message).__name__, getattr(message, "number", 0), getattr(message, "text", ""),
         getattr(message, "size", 0))
        for name, message in heard
        if name == "alice" or isinstance(message, Ready)  # what the others say besides may come too late, if she fails
    ]  # fmt: skip
    return [repr(each).replace(f"{entry}/", "entry/") for each in (*sorted(told), figures)]


FIGURES = ("operations", "values", "share_bytes", "rounds", "sent_bytes", "received_bytes")


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(DTYPES), steps, precisions)
def test_a_driver_sees_the_same_for_any_values(owner, dtype, todo, precision):
    first, second = (seen(owner, entry, dtype, todo, precision) for entry in ENTRIES)
    assert first == second
    assert "Ready" in str(first)
    assert ("Failed" in str(first)) != ("Opened" in str(first))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["float32", "float64", "int64"]), st.lists(st.tuples(numbers, numbers), max_size=4))
def test_no_step_makes_subnormal_numbers(dtype, factors):
    """Processors are slower with them, by as much as a driver likes who takes one row a million times."""
    values = checked("data", torch.from_numpy(hard(np.random.default_rng(), dtype)), Bounds())
    found = Items(values, torch.arange(len(values)))
    for factor, offset in factors:
        with contextlib.suppress(RemoteError):
            found = apply(found, "scale", (factor, offset))
        with contextlib.suppress(RemoteError):
            found = apply(found, "divide", (factor,))
        size = found.values.double().abs()
        assert torch.isfinite(size).all()
        assert ((size == 0) | (size >= TINY) | (found.values.dtype == torch.float64)).all()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(DTYPES), precisions)
def test_what_is_in_range_is_encoded_as_ever(dtype, precision):
    values = torch.from_numpy(hard(np.random.default_rng(), dtype)).flatten()
    fits = []
    for each in values:
        with contextlib.suppress(PysmpcError):
            fits.append(encode(each, precision))
            assert torch.equal(saturating(each, precision)[0], fits[-1])
    words, count = saturating(values, precision)
    assert int(count) == len(values) - len(fits)
    assert NAMES[words.dtype] == "int64"


def test_division_is_that_of_torch(rng):
    """By the inverse in float64, for the time's sake: whole quotients stay whole, as base 10 cuts off."""
    whole = torch.from_numpy(rng.integers(-1000, 1000, 4096))
    for divisor in (3.0, 7.0, 10.0, 255.0, 49.0, 1000.0):
        found = apply(Items(whole, torch.arange(4096)), "divide", (divisor,)).values
        assert torch.allclose(found, whole.float() / divisor, rtol=2**-23, atol=0)
        times = apply(Items(whole * int(divisor), torch.arange(4096)), "divide", (divisor,)).values
        assert torch.equal(times, whole.float())


# --- time ---------------------------------------------------------------------------


def test_a_heartbeat_does_not_tell_how_long_something_was_computed(monkeypatch, rng):
    attending = Attending()
    clock = 0
    monkeypatch.setattr(driver_connection, "computed", lambda _: clock)
    try:
        before = attending._beat().moved
        for _ in range(20):
            clock += int(rng.integers(10**7, 10**12))
            assert attending._beat().moved == before + 1
            before += 1
        clock += 10 - clock % 10
        still = attending._beat().moved
        assert attending._beat().moved == still
    finally:
        attending.close()
