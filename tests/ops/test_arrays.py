"""NumPy arrays, NumPy numbers and pandas columns beside secrets, and as values to encrypt."""

import operator

import numpy as np
import pytest
import torch

import pysmpc as sy
from pysmpc.errors import EncodingError, RevealError

ATOL = 0.01


class Column:
    """What a pandas column is to others: an array behind `__array__`, which turns lists of elements to itself."""

    __pandas_priority__ = 3000

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)

    def _with(self, other):
        if getattr(other, "__pandas_priority__", 0) > self.__pandas_priority__:
            return NotImplemented
        raise AssertionError("pandas would take a secret for a list of numbers")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _with
    __matmul__ = __rmatmul__ = __lt__ = __le__ = __gt__ = __ge__ = _with


@pytest.fixture
def parties():
    return sy.virtual("alice", "bob")


def real(*shape):
    return (0.5 + 2 * np.random.default_rng().random(shape)).astype(np.float32)


OPERATORS = ["add", "sub", "mul", "truediv", "matmul", "lt", "le", "gt", "ge"]


@pytest.mark.parametrize("kind", [np.asarray, Column], ids=["array", "column"])
@pytest.mark.parametrize("secret_first", [True, False], ids=["secret, array", "array, secret"])
@pytest.mark.parametrize("name", OPERATORS)
def test_operators(parties, name, secret_first, kind):
    function = getattr(operator, name)
    a, b = real(3, 3), real(3, 3)
    x = sy.encrypt(torch.from_numpy(a), parties, requires_grad=True)
    found = function(x, kind(b)) if secret_first else function(kind(b), x)
    right = function(torch.from_numpy(a), torch.from_numpy(b)) if secret_first else function(*map(torch.tensor, (b, a)))
    assert isinstance(found, sy.SecretTensor)
    assert torch.allclose(sy.decrypt(found).double(), right.double(), atol=ATOL)
    assert found.requires_grad == found.is_floating_point(), "the graph is cut"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.int8, np.uint8, np.bool_])
def test_numbers_of_numpy(parties, dtype):
    a, number = torch.from_numpy(real(4)), dtype(3)
    x = sy.encrypt(a, parties)
    for found in (x * number, number * x, x + number, number + x):
        assert found.dtype == torch.float32
    assert torch.allclose(sy.decrypt(number * x), a * float(number), atol=ATOL)
    assert torch.allclose(sy.decrypt(number - x), float(number) - a, atol=ATOL)
    assert torch.equal(sy.decrypt(number > x), float(number) > a)


def test_functions_of_numpy(parties):
    a, b = real(2, 3), real(2, 3)
    x = sy.encrypt(torch.from_numpy(a), parties)
    for function in (np.add, np.subtract, np.multiply, np.maximum, np.minimum, np.less, np.greater_equal):
        assert np.allclose(sy.decrypt(function(x, b)).numpy(), function(a, b), atol=ATOL)
        assert np.allclose(sy.decrypt(function(b, x)).numpy(), function(b, a), atol=ATOL)
    assert np.allclose(sy.decrypt(np.matmul(b.T, x)).numpy(), b.T @ a, atol=ATOL)
    assert np.allclose(sy.decrypt(np.matmul(x, b.T.astype(np.float64))).numpy(), a @ b.T, atol=ATOL)
    assert np.allclose(sy.decrypt(np.negative(np.square(x))).numpy(), -(a**2), atol=ATOL)


@pytest.mark.parametrize(
    "use",
    [
        np.sum,
        np.mean,
        np.asarray,
        np.sort,
        np.unique,
        np.array_equal,
        np.cbrt,
        lambda x, *_: np.add.reduce(x),
        lambda x, y=None: np.where(np.array([True, False]), x, 0),
        lambda x, y=None: np.concatenate([x, x]),
        lambda x, y=None: np.dot(x, np.ones(2)),
    ],
)
def test_what_would_open_a_secret_is_refused(parties, use):
    x = sy.encrypt(torch.ones(2), parties)
    rounds = parties.stats.rounds
    with pytest.raises(RevealError, match="numpy"):
        use(x, x) if use is np.array_equal else use(x)
    assert parties.stats.rounds == rounds


def test_an_array_is_not_written_to(parties):
    out = np.zeros(2)
    with pytest.raises(TypeError, match="takes no out"):
        np.add(sy.encrypt(torch.ones(2), parties), 1.0, out=out)
    assert not out.any()


@pytest.mark.parametrize("values", [np.array(["a", "b"]), np.array([1j, 2]), np.array([object(), 1], dtype=object)])
def test_arrays_of_something_else(parties, values):
    x = sy.encrypt(torch.ones(2), parties)
    with pytest.raises(EncodingError, match=r"numbers and booleans can"):
        x * Column(values)
    with pytest.raises(EncodingError, match=r"numbers and booleans can"):
        sy.encrypt(Column(values), parties)


@pytest.mark.parametrize(
    "values",
    [
        real(3),
        real(2, 3).T,
        np.array([1, 2, 3]),
        np.array([True, False]),
        np.array([1, 2], dtype=object),
        real(4)[::-2],
    ],
    ids=["real", "transposed", "integers", "booleans", "objects", "strided"],
)
def test_columns_are_encrypted(parties, values):
    found = sy.decrypt(sy.encrypt(Column(values), parties))
    assert np.allclose(found.numpy(), values.astype(found.numpy().dtype), atol=1e-4)


def test_a_frame_of_pandas(parties):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.5, 2.5], "b": [-1.0, 0.25], "c": ["x", "y"]})
    numbers, values = frame[["a", "b"]], torch.tensor(frame[["a", "b"]].to_numpy())
    assert torch.allclose(sy.decrypt(sy.encrypt(numbers, parties)), values, atol=1e-4)
    x = sy.encrypt(values, parties)
    for found in (x * numbers, numbers * x):
        assert torch.allclose(sy.decrypt(found), values * values, atol=1e-3)
    for found in (x[:, 0] + frame["a"], frame["a"] + x[:, 0]):
        assert torch.allclose(sy.decrypt(found), values[:, 0] * 2, atol=1e-3)
    assert torch.equal(sy.decrypt(frame["b"] > x[:, 0]), values[:, 1] > values[:, 0])
    nullable = pandas.Series([1, 2], dtype="Int64")
    assert torch.equal(sy.decrypt(sy.encrypt(nullable, parties)), torch.tensor([1, 2]))
    with pytest.raises(EncodingError, match="numeric columns"):
        sy.encrypt(frame, parties)
    with pytest.raises(EncodingError):
        sy.encrypt(pandas.Series([1, None], dtype="Int64"), parties)
