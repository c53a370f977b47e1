"""Mistakes and failures: a clear error that names the thing, and nothing changed by it."""

import contextlib
import importlib
import pkgutil
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch
from settings import Setting
from torch import nn

import pysmpc as sy
import pysmpc.mpc
import pysmpc.ring.shares
import pysmpc.ring.z2k
import pysmpc.session
from pysmpc.errors import ChannelError, EncodingError, PartyError, PysmpcError, RevealError, SessionMismatchError
from pysmpc.session.session import virtual_session
from pysmpc.transport import threads


def state(parties, *secrets):
    """All that a failed call might have changed: counts, streams, shares, values."""
    party = parties.session.party
    streams = party.dealer._next_stream, party.owner._next_stream
    shares = [[words.tolist() for words in parties[name].shares()] for name in parties.names]
    layout = [(s.shape, s.stride(), s.cell.scale, s.requires_grad, id(s.cell.body)) for s in secrets]
    return parties.stats.copy(), streams, shares, layout


@contextlib.contextmanager
def refused(error, match, parties, *secrets):
    before = state(parties, *secrets)
    with pytest.raises(error, match=match) as caught:
        yield
    text = str(caught.value)
    assert len(text) > 15
    assert "0x" not in text, "an address tells nobody anything"
    assert state(parties, *secrets) == before


@pytest.fixture
def parties():
    return sy.virtual("alice", "bob", provider="dealer")


@pytest.fixture
def x(parties):
    return sy.encrypt(torch.tensor([[1.5, -2.0], [3.25, 4.0]]), parties)


# --- parties -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "provider", "match"),
    [
        (("alice",), "dealer", "at least two holders, got 1"),
        (("alice", "alice"), "dealer", "once"),
        (("alice", "bob"), "bob", "'bob' cannot be crypto provider and holder"),
    ],
)
def test_wrong_parties(names, provider, match):
    with pytest.raises(PartyError, match=match):
        sy.virtual(*names, provider=provider)
    with pytest.raises(PartyError, match=match):
        threads.sessions(names, provider)


def test_a_holder_that_is_not_one(parties):
    with pytest.raises(KeyError, match=r"no holder 'carol'.*alice, bob"):
        parties["carol"]


@pytest.mark.parametrize("wrong", [None, "alice", ["alice", "bob"], 2, {}], ids=repr)
def test_something_else_than_parties(wrong, parties):
    with refused(PartyError, r"must be parties, such as sy\.virtual", parties):
        sy.encrypt(torch.ones(2), wrong)


def test_an_unknown_protocol_or_rounding():
    with pytest.raises(ValueError, match="unknown protocol 'telepathy'"):
        sy.virtual("alice", "bob", protocol="telepathy")
    with pytest.raises(ValueError, match="up"):
        sy.virtual("alice", "bob", rounding="up")


# --- tensors of different sessions -------------------------------------------------------

TWO = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "matmul": lambda a, b: a @ b,
    "less": lambda a, b: a < b,
    "where": lambda a, b: torch.where(a > 0, a, b),
    "cat": lambda a, b: torch.cat([a, b]),
    "stack": lambda a, b: torch.stack([a, b]),
    "in place": lambda a, b: a.add_(b),
    "setitem": lambda a, b: a.__setitem__(0, b[0]),
    "linear": lambda a, b: nn.functional.linear(a, b),
    "loss": lambda a, b: nn.functional.mse_loss(a, b),
    "maximum": lambda a, b: torch.maximum(a, b),
    "div": lambda a, b: a / b,
}


@pytest.mark.parametrize("name", TWO)
def test_secrets_of_different_parties(name, parties, x):
    other = sy.virtual("alice", "carol", provider="dealer")
    y = sy.encrypt(torch.ones(2, 2), other)
    before = state(other, y)
    # a comparison in between may have run on the one secret: what must not change is the secrets
    values = sy.decrypt(x)
    with pytest.raises(SessionMismatchError, match=r"(?s)alice.*carol|carol.*alice"):
        TWO[name](x, y)
    assert torch.equal(sy.decrypt(x), values)
    assert state(other, y) == before


def test_equal_names_are_not_equal_parties(x):
    """Two sessions of the same holders have keys of their own."""
    others = sy.virtual("alice", "bob", provider="dealer")
    y = sy.encrypt(torch.ones(2, 2), others)
    for use in (lambda: x + y, lambda: x.add_(y), lambda: torch.cat([x, y])):
        with pytest.raises(SessionMismatchError) as caught:
            use()
        assert {f"number {s.session.serial}" in str(caught.value) for s in (x, y)} == {True}
    assert f"number {others.session.serial}" in repr(others)


def test_a_secret_does_not_move_by_encrypting_it_again(parties, x):
    with refused(EncodingError, "decrypt it first", parties, x):
        sy.encrypt(x, sy.virtual("carol", "dave"))


@pytest.mark.parametrize("kind", ["parameter", "buffer"])
def test_a_secret_module_is_not_encrypted_again(kind, parties):
    net = nn.BatchNorm1d(2) if kind == "buffer" else nn.Linear(3, 2)
    secret = sy.encrypt(net, parties)
    if kind == "buffer":
        secret.weight, secret.bias = None, None
    with refused(EncodingError, rf"secret already, its {kind} '\w+'.*decrypt it first", parties):
        sy.encrypt(secret, sy.virtual("carol", "dave"))


# --- values ------------------------------------------------------------------------------


SPARSE = {
    "sparse_coo": torch.Tensor.to_sparse,
    "sparse_csr": torch.Tensor.to_sparse_csr,
    "sparse_csc": torch.Tensor.to_sparse_csc,
}


@pytest.mark.filterwarnings("ignore:Sparse CS. tensor support")
@pytest.mark.parametrize("layout", SPARSE)
def test_sparse_tensors(layout, parties, x):
    with refused(EncodingError, rf"sparse, torch\.{layout}.*to_dense", parties, x):
        sy.encrypt(SPARSE[layout](torch.eye(2)), parties)
    with refused(EncodingError, rf"sparse, torch\.{layout}.*to_dense", parties, x):
        sy.api.steps.fix_precision(SPARSE[layout](torch.eye(2)))
    module = nn.Linear(2, 2)
    module.register_buffer("adjacency", SPARSE[layout](torch.eye(2)))
    with pytest.raises((EncodingError, NotImplementedError), match=r"(?i)sparse"):
        sy.encrypt(module, parties)


@pytest.mark.parametrize("use", [torch.mul, torch.add, torch.matmul], ids=lambda f: f.__name__)
def test_sparse_operands(use, parties, x):
    with refused((EncodingError, NotImplementedError, RuntimeError), "(?i)sparse", parties, x):
        use(x, torch.eye(2).to_sparse())


STEPS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.125, foreach=False),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.125, momentum=0.5, foreach=False),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.125, foreach=False),
}


@pytest.mark.parametrize("name", STEPS)
def test_an_optimizer_of_a_public_model_whose_gradients_are_secret(name, parties, x):
    model = nn.Linear(2, 1)
    optimizer = STEPS[name](model.parameters())
    before = model.weight.detach().clone()
    model(x).sum().backward()
    with refused(TypeError, r"gradients of a public model.*encrypt the model.*p\.grad = sy\.decrypt", parties, x):
        optimizer.step()
    assert torch.equal(model.weight, before)
    for p in model.parameters():
        p.grad = sy.decrypt(p.grad)
    STEPS[name](model.parameters()).step()
    assert not torch.equal(model.weight, before)


# --- values that cannot be shared ---------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        torch.tensor([1.0, float("-inf")]),
        1e30,
        2.0**60,
        "word",
        object,
        [1, [2, 3]],
        np.array(["a"]),
        torch.tensor([complex(1.0, float("inf"))]),
        None,
    ],
    ids=lambda v: str(v)[:20],
)
def test_values_that_cannot_be_shared(value, parties, x):
    with refused((EncodingError, TypeError), None, parties, x):
        sy.encrypt(value, parties)


def test_a_module_with_one_bad_parameter_is_left_alone(parties):
    net = nn.Linear(3, 2)
    with torch.no_grad():
        net.bias[1] = float("nan")
    kept = {name: p.clone() for name, p in net.named_parameters()}
    with pytest.raises(EncodingError, match=r"NaN|nan"):
        sy.encrypt(net, parties)
    for name, parameter in net.named_parameters():
        assert type(parameter) is nn.Parameter
        assert torch.equal(parameter.nan_to_num(), kept[name].nan_to_num())


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("float", float),
        ("item", lambda x: x[0, 0].item()),
        ("bool", lambda x: bool(x[0, 0] > 0)),
        ("numpy", lambda x: x.numpy()),
        ("list", lambda x: x.tolist()),
        ("index", lambda x: [1, 2, 3][x[0, 0]]),
        ("if", lambda x: 1 if (x > 0).all() else 0),
    ],
)
def test_a_secret_is_no_plain_value(name, call, parties, x):
    value = x.sum() if name == "float" else x
    rounds = parties.stats.rounds
    with pytest.raises((RevealError, TypeError, NotImplementedError)) as caught:
        call(value)
    assert parties.stats.rounds - rounds <= 8, "something was opened on the way"
    assert not any(str(v) in str(caught.value) for v in (1.5, 3.25, 6.75))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: x @ x[:, :1].t(), (ValueError, RuntimeError)),
        (lambda x: x + x[:, :1].reshape(-1)[:0].reshape(0, 3), (ValueError, RuntimeError)),
        (lambda x: x.view(3), (ValueError, RuntimeError)),
        (lambda x: x[5], IndexError),
        (lambda x: torch.special.i0(x), (NotImplementedError, RuntimeError)),
        (lambda x: torch.linalg.eigvals(x), (NotImplementedError, RuntimeError)),
        (lambda x: x / 0, (ValueError, ZeroDivisionError, ArithmeticError)),
        (lambda x: x * float("nan"), EncodingError),
    ],
    ids=["matmul", "shapes", "view", "index", "bessel", "eigenvalues", "by zero", "nan"],
)
def test_operations_that_cannot_be_done(call, error, parties, x):
    with refused(error, None, parties, x):
        call(x)
    assert torch.equal(sy.decrypt(x), torch.tensor([[1.5, -2.0], [3.25, 4.0]]))


# --- parties that are gone, or run something else ---------------------------------------------


@pytest.mark.parametrize("gone", [0, 1, 2, None], ids=["first", "middle", "last", "provider"])
def test_a_party_that_stops(gone, monkeypatch):
    """The others stop too, with an error that is not theirs, and none of them waits for ever."""
    monkeypatch.setattr(threads, "PATIENCE", 5.0)
    sessions = threads.sessions(["alice", "bob", "carol"])
    ended = {}

    def program(session):
        suite, party = session.suite, session.party
        me = party.ranks[0] if party.ranks else None
        try:
            x = suite.share(party, torch.arange(8) if me == 0 else None, (8,), 1)
            y = suite.square(party, x)
            if me == gone:
                raise KeyboardInterrupt
            suite.reveal(party, suite.relu(party, suite.mul(party, y, x)))
        except BaseException as error:
            ended[me] = error
            raise

    with pytest.raises(KeyboardInterrupt):
        threads.run(sessions, program)
    assert isinstance(ended.pop(gone), KeyboardInterrupt)
    # the provider deals ahead and may be done before anybody stops
    assert {0, 1, 2} - {gone} <= set(ended)
    assert all(isinstance(error, ChannelError) for error in ended.values())


def test_a_provider_that_never_came(monkeypatch):
    monkeypatch.setattr(threads, "PATIENCE", 0.3)
    *holders, _ = threads.sessions(["alice", "bob"])

    def program(session):
        suite, party = session.suite, session.party
        x = suite.share(party, torch.arange(8) if party.ranks == (0,) else None, (8,), 1)
        suite.reveal(party, suite.square(party, x))

    with pytest.raises(ChannelError, match="is gone"):
        threads.run(holders, program)


@pytest.mark.parametrize("holders", [2, 3])
def test_a_channel_counts_nothing_that_it_refuses(holders):
    session = virtual_session([str(i) for i in range(holders)])
    before = session.stats.copy()
    with pytest.raises(PysmpcError):
        session.party.channel.open([torch.zeros((holders, 3), dtype=torch.int64)], "curiosity")
    assert session.stats == before


def test_a_value_that_nobody_owns():
    """In every process but the owner's the values are None; if the owner has none, nothing travels."""

    def program(session, owner):
        streams = session.party.owner._next_stream
        if owner:
            with pytest.raises(ValueError, match="owner of an input must pass"):
                session.suite.share(session.party, None, (3,))
        return streams

    Setting("virtual", 2).everywhere(program)


# --- what is shown --------------------------------------------------------------------------


def _parts(package):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def test_parts_of_a_protocol_show_no_words():
    """A dataclass shows its fields, and so would shares and masks in a traceback or a log."""
    modules = [pysmpc.ring.shares, pysmpc.ring.z2k, *_parts(pysmpc.mpc), *_parts(pysmpc.session)]
    kinds = {
        kind for module in modules for kind in vars(module).values() if isinstance(kind, type) and is_dataclass(kind)
    }
    holding = {kind for kind in kinds if any("Tensor" in str(field.type) for field in fields(kind))}
    assert len(holding) > 8
    shown = {kind.__name__ for kind in holding if kind.__dataclass_params__.repr}
    assert not shown, f"repr=False is missing: {shown}"
