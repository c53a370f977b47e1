"""docs/adding.md: what it says is added in these tests, as it says, and the lists that it names agree."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pipe_transport
import pytest
import torch
from op_checks import check_op
from protocol_cases import CASES

import pysmpc as sy
from pysmpc.errors import ChannelError
from pysmpc.mpc.suite import authenticated_default, suites
from pysmpc.ops.core import result
from pysmpc.ops.functions.argument import applied, argument, made
from pysmpc.ops.operands import pair
from pysmpc.ops.registering import implements
from pysmpc.session.session import virtual_session
from pysmpc.tensor.secret import HANDLERS, SecretTensor
from pysmpc.transport import threads

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", PAGE, re.M))


def test_every_file_that_it_names_exists():
    named = set(re.findall(r"`([\w/.]+/[\w.]+\.(?:py|c|h|pyi|md))[`:]", PAGE))
    assert len(named) > 15
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "pysmpc" / name).exists() or "NAME" in name, name


def test_every_kind_has_a_section():
    assert set(SECTIONS) == {"An operation of torch", "A nonlinear function", "A transport", "A kernel", "A CPU target"}


# --- an operation -------------------------------------------------------------------------


@pytest.fixture
def heat():
    """An operation that nobody has, registered as the page says: x * y + x."""
    library = torch.library.Library("adding", "DEF")
    library.define("heat(Tensor x, Tensor y) -> Tensor")
    library.impl("heat", lambda x, y: x * y + x, "CompositeExplicitAutograd")
    operation = torch.ops.adding.heat.default

    @implements(operation)
    def heat(x, y):
        """x * y + x.  One round; 8 bytes an element and peer for each factor."""
        both = pair(x, y)
        x, y, party = both.x, both.y, both.session.party
        if not isinstance(y, SecretTensor):
            raise NotImplementedError("heat of a public tensor")
        suite = both.session.suite
        one = suite.scale_by(party, x.window(), y.cell.scale)
        product = suite.mul(party, x.window(), y.window())
        return result(suite.add(party, product, one.at(product.scale)), both.session, x.unit, both.dtype)

    yield operation
    del HANDLERS[operation]


def test_an_operation(heat):
    check_op(heat, [[(3, 4), (3, 4)]], steps=2, grad=False)
    parties = sy.virtual("a", "b")
    x, y = (sy.encrypt(torch.full((5,), value), parties) for value in (1.5, -2.0))
    before = parties.stats.copy()
    z = heat(x, y)
    spent = parties.stats - before
    assert (spent.rounds, spent.sent) == (1, 2 * 8 * 5)
    assert sy.decrypt(z).tolist() == [-1.5] * 5
    with pytest.raises(NotImplementedError, match="heat of a public tensor"):
        heat(x, torch.ones(5))


def test_without_a_handler_an_operation_is_refused():
    library = torch.library.Library("adding_nothing", "DEF")
    library.define("cold(Tensor x) -> Tensor")
    with pytest.raises(NotImplementedError, match="cold"):
        torch.ops.adding_nothing.cold(sy.encrypt(torch.ones(3), sy.virtual("a", "b")))


# --- a nonlinear function -----------------------------------------------------------------


@pytest.fixture
def hump(monkeypatch, capsys):
    """1 / cosh(x / 2)^2, whose numbers are those that the tool prints; it is below a step beyond 14.5."""
    spec = importlib.util.spec_from_file_location("fit_functions", ROOT / "tools" / "fit_functions.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(tool, "ROUNDS", 8)
    monkeypatch.setattr(tool, "FITS", {"HUMP": (lambda x: 1 / np.cosh(x / 2) ** 2, -14.5, 14.5, 36, 20, 0, 0, 0)})
    tool.main()
    printed = {}
    exec(capsys.readouterr().out, printed)
    fit = printed["HUMP"]
    library = torch.library.Library("adding_functions", "DEF")
    library.define("hump(Tensor x) -> Tensor")
    library.impl("hump", lambda x: 1 / torch.cosh(x / 2) ** 2, "CompositeExplicitAutograd")
    operation = torch.ops.adding_functions.hump.default

    @implements(operation)
    def hump(x):
        """1 / cosh(x / 2)^2."""
        x = argument(x, "hump", integers=False)
        return made(x, applied(x, fit))

    yield operation, fit
    del HANDLERS[operation]


def test_a_nonlinear_function(hump, rng):
    operation, fit = hump
    assert fit.error < 2**-13
    edges = [fit.lo, fit.hi, 0.0, 1e-4, 4 * fit.hi, -4 * fit.hi]
    x = torch.from_numpy(np.concatenate([rng.uniform(-20, 20, 4000), edges]))
    x = torch.round(x * (1 << 16)) / (1 << 16)
    for parties in (sy.virtual("a", "b"), sy.virtual("a", "b", "c"), sy.virtual("a", "b", protocol="fss")):
        found = sy.decrypt(operation(sy.encrypt(x, parties))).double()
        assert float((found - 1 / torch.cosh(x / 2) ** 2).abs().max()) < fit.error + 8 / (1 << 16)
    with pytest.raises(NotImplementedError, match="hump is for real numbers"):
        operation(sy.encrypt(torch.arange(3), sy.virtual("a", "b")))


# --- a transport --------------------------------------------------------------------------


def run(session, case, values, owned):
    suite, party = session.suite, session.party
    shares = [suite.share(party, each if owned else None, each.shape, case.scale) for each in values]
    out = case.run(suite, party, *shares)
    return suite.reveal(party, *(out if isinstance(out, list) else [out]))


@pytest.mark.parametrize(
    ("suite", "holders", "name"),
    [
        *(("default", n, name) for n in (2, 3) for name in ("mul", "matmul", "truncate", "relu", "larger", "arrange")),
        *(("fss", 2, name) for name in ("relu", "zero")),
        *(("snn", 2, name) for name in ("relu", "select")),
        *(("mac", 2, name) for name in ("mul", "relu")),
    ],
)
def test_a_transport(suite, holders, name, rng):
    """Protocols over pipes, beside the same in one process: values, rounds and bytes."""
    names = [f"holder{i}" for i in range(holders)]
    used = authenticated_default if suite == "mac" else suites[suite]
    case = CASES[name]
    if name in ("larger", "select"):
        case = type(case)(case.protocols, case.run, case.inputs, 40, case.scale)
    values = case.values(rng)
    together = virtual_session(names, suite=used)
    expected = run(together, case, values, True)
    parties = pipe_transport.sessions(names, suite=used)
    found = threads.run(parties, lambda session: run(session, case, values, session is parties[0]))
    for results in found[:-1]:
        for a, b in zip(results, expected, strict=True):
            assert int((a - b).abs().max()) <= 1  # a truncation rounds at random
    assert all(session.stats == together.stats for session in parties)


def test_a_transport_says_who_stopped_and_why():
    parties = pipe_transport.sessions(["alice", "bob"])

    def program(session):
        suite, party = session.suite, session.party
        x = suite.share(party, torch.arange(4) if session is parties[0] else None, (4,))
        if session is parties[1]:
            raise KeyError("bob's own mistake")
        return suite.reveal(party, x)

    with pytest.raises(KeyError, match="bob's own mistake"):
        threads.run(parties, program)


def test_a_transport_finds_parties_that_run_different_programs():
    parties = pipe_transport.sessions(["alice", "bob"])

    def program(session):
        suite, party = session.suite, session.party
        x = suite.share(party, torch.arange(4) if session is parties[0] else None, (4,))
        return suite.reveal(party, x) if session is parties[0] else suite.truncate(party, x, 8)

    with pytest.raises(ChannelError, match=r"the parties run different programs|stopped"):
        threads.run(parties, program)


# --- kernels and CPU targets: lists that have to agree ------------------------------------


def kernels():
    return set(re.findall(r"^\s*K\((\w+),", (ROOT / "src" / "c" / "launch.c").read_text(), re.M))


def test_a_kernel_has_all_that_the_page_lists():
    names = kernels()
    assert len(names) > 50
    stub = (ROOT / "pysmpc" / "_ring.pyi").read_text()
    samples = (ROOT / "tests" / "kernels" / "test_launch.py").read_text()
    for name in names:
        assert re.search(rf"\b{name}\b", stub), f"{name} is not in _ring.pyi"
        assert re.search(rf"\b{name}\b", samples), f"{name} has no sample in test_launch.py"


def test_a_target_has_all_that_the_page_lists():
    source = ROOT / "src" / "c"
    header, table = (source / "dispatch.h").read_text(), (source / "dispatch.c").read_text()
    tiles = (ROOT / "tests" / "kernels" / "test_targets.py").read_text()
    targets = {path.stem.removeprefix("target_") for path in source.glob("target_*.c")}
    assert {"avx2", "vaes256"} <= targets
    for name in targets:
        text = (source / f"target_{name}.c").read_text()
        assert f'psm_kernels psm_kernels_{name} = PSM_KERNELS("{name}");' in text
        assert f"psm_kernels_{name}" in header, f"{name} is not declared in dispatch.h"
        assert f"psm_kernels_{name}" in table, f"{name} has no row in dispatch.c"
    assert "PYSMPC_TARGET" in tiles
