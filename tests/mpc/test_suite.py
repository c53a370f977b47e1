"""How a suite is put together: by name, of typed functions, with capabilities that callers ask for."""

import re
import subprocess
import sys
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest
import torch
from protocol_cases import CASES
from settings import bounded_words, random_words

import pysmpc as sy
from pysmpc.mpc import mac
from pysmpc.mpc.additive import comparison, exact, products, sharing
from pysmpc.mpc.additive.short import short
from pysmpc.mpc.derived import derived_operations as makers
from pysmpc.mpc.fss import fss_comparison
from pysmpc.mpc.interfaces import declares_openings, opens_as
from pysmpc.mpc.operations import Bounded, Derived, Suite, derived
from pysmpc.mpc.securenn import securenn_signs
from pysmpc.mpc.suite import authenticated, authenticated_default, default, plaintext, snn, suites
from pysmpc.mpc.variants import variant_named
from pysmpc.session.offline import StoreDealer, dry_session
from pysmpc.session.session import plain_session, virtual_session

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-protocol.md").read_text()
DERIVED = {each.name for each in fields(Suite) if isinstance(each.default, Derived)}
EVERY = [*suites.values(), authenticated_default, plaintext]


def parts(suite, *but):
    """The arguments that a suite was built with."""
    return {each.name: getattr(suite, each.name) for each in fields(suite) if each.name not in but}


def operations(suite):
    return {name: value for name, value in vars(suite).items() if callable(value)}


# --- registration -----------------------------------------------------------------------


def test_an_unknown_name_raises():
    with pytest.raises(TypeError, match="'negativ'"):
        replace(default, name="misspelt", negativ=fss_comparison.negative)
    with pytest.raises(TypeError, match="'negativ'"):
        Suite(**parts(default, "negative"), negativ=fss_comparison.negative)


@pytest.mark.parametrize("name", sorted({e.name for e in fields(Suite) if e.default is MISSING}))
def test_a_missing_name_raises(name):
    with pytest.raises(TypeError, match=f"missing 1 required keyword-only argument: '{name}'"):
        Suite(**parts(default, name))


def test_a_name_registered_twice_raises():
    with pytest.raises(TypeError, match="multiple values for keyword argument 'mul'"):
        Suite(**parts(default), mul=products.mul)
    with pytest.raises(SyntaxError, match="keyword argument repeated: mul"):
        compile("Suite(mul=products.mul, mul=products.matmul)", "table", "eval")


def test_a_positional_argument_raises():
    with pytest.raises(TypeError, match="positional"):
        Suite("default", **parts(default, "name"))


#: What both backends make of their own comparison; products with thresholds they leave to `mul`.
COMPARED = {"relu", "larger", "largest", "regions", "thresholds", "scaled_thresholds"}


@pytest.mark.parametrize(
    ("suite", "own"),
    [
        ("fss", {"negative", "zero", "bit_share", "select", *COMPARED}),
        ("snn", {"negative", *COMPARED}),
    ],
)
def test_a_backend_has_what_it_registered_and_nothing_else(suite, own):
    other = operations(suites[suite])
    assert {name for name, function in operations(default).items() if other.get(name) is not function} == own


def test_operations_are_those_of_the_backend():
    assert suites["fss"].relu is fss_comparison.relu
    assert snn.negative is securenn_signs.negative
    assert snn.zero is comparison.zero
    assert authenticated_default.mul is mac.products_mac.mul
    assert default.neg is sharing.neg


def test_a_suite_is_equal_to_itself_alone():
    again = replace(default)
    assert again != default
    assert len({default, again, snn}) == 3
    assert repr(default) == "Suite('default')"


@pytest.mark.slow
def test_mypy_checks_each_function_against_its_signature(tmp_path):
    pytest.importorskip("mypy")
    overrides = {
        "negative=fss.negative": None,
        "square=derived(makers.square)": None,
        "negative=fss.relu": 'Argument "negative"',
        "negativ=fss.negative": 'Unexpected keyword argument "negativ"',
        "mul=lambda party, x: x": 'Argument "mul"',
        "larger=derived(makers.square)": 'Argument "larger"',
    }
    head = [
        "from dataclasses import replace",
        "from pysmpc.mpc.derived import derived_operations as makers; from pysmpc.mpc.fss import fss_comparison as fss",
        "from pysmpc.mpc.operations import derived",
        "from pysmpc.mpc.suite import default",
    ]
    path = tmp_path / "backend.py"
    path.write_text(
        "\n".join([*head, *(f"replace(default, name='other', bounded=None, {each})" for each in overrides)])
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(path)]
    done = subprocess.run(command, cwd=Path(sy.__file__).parents[1], capture_output=True, text=True, check=False)
    for line, (override, found) in enumerate(overrides.items(), len(head) + 1):
        errors = re.findall(rf"backend\.py:{line}: error: (.*)", done.stdout)
        assert bool(errors) == (found is not None), f"{override}: {done.stdout}{done.stderr}"
        assert found is None or found in errors[0]


# --- operations that follow from others ---------------------------------------------------


def test_what_has_a_default():
    assert {name for name in DERIVED if f"`{name}`" in PAGE.split("These are derived:")[1].split("\n4.")[0]} == DERIVED
    bare = Suite(**parts(default, *DERIVED))
    assert all(getattr(bare, name).derived_by is not None for name in DERIVED)


@pytest.mark.parametrize("name", sorted(DERIVED))
def test_defaults_compute_what_the_default_computes(name, rng):
    case = replace(CASES[name], bits=20)
    bare = Suite(**parts(default, *DERIVED))
    session = virtual_session(["a", "b", "c"], suite=bare)
    party = session.party
    values = case.values(rng)
    with sy.ledger() as kept:
        shares = [bare.share(party, v, v.shape, case.scale) for v in values]
        out = case.run(bare, party, *shares)
    assert kept.causes == case.declared(bare)
    clear = [plaintext.share(plain_session.party, v, v.shape, case.scale) for v in values]
    expected = case.run(plaintext, plain_session.party, *clear)
    several = out if isinstance(out, list) else [out]
    wanted = expected if isinstance(expected, list) else [expected]
    for found, right in zip(bare.reveal(party, *several), plaintext.reveal(plain_session.party, *wanted), strict=True):
        assert int((found - right).abs().max()) <= (1 if "trunc" in name or "update" in name else 0)


def test_what_was_derived_is_made_again(rng):
    calls = []

    @declares_openings(*fss_comparison.relu.opens)
    def relu(party, x, by=1):
        calls.append(x.shape)
        return fss_comparison.relu(party, x, by)

    other = replace(suites["fss"], name="other", relu=relu)
    session = virtual_session(["a", "b"], suite=other)
    x, y = bounded_words(rng, 40, 9), bounded_words(rng, 40, 9)
    larger, _ = other.larger(session.party, *(other.share(session.party, v, (9,)) for v in (x, y)))
    assert calls == [(9,)]
    assert torch.equal(other.reveal(session.party, larger)[0], torch.maximum(x, y))


def test_ones_own_is_kept():
    def larger(party, x, y):
        raise AssertionError

    other = replace(default, name="other", larger=larger)
    assert replace(other, name="another", relu=fss_comparison.relu).larger is larger


def test_what_is_not_made_yet_cannot_be_a_part():
    with pytest.raises(TypeError, match="stands before it"):
        replace(default, name="other", neg=derived(lambda suite: opens_as(suite.square)), square=derived(makers.square))


def test_the_backend_of_the_page(rng):
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names = {}
    exec(code, names)
    local = names["local"]
    session = virtual_session(["a", "b"], suite=local)
    party = session.party
    x, z = bounded_words(rng, 30, 50), bounded_words(rng, 30, 50)  # a wrong one in 2^34
    a, b = (local.share(party, v, v.shape) for v in (x, z))
    found = local.reveal(
        party, local.truncate(party, a, 1 << 10), *local.update_all(party, [(a, b, 3, 1 << 8)]), local.relu(party, a)
    )
    assert session.stats.rounds == 4 + 1  # the ReLU and the opening
    for each, right in zip(found, (x >> 10, x + (3 * z >> 8), x.clamp(min=0)), strict=True):
        assert int((each - right).abs().max()) <= 1
    assert local.update_all.opens == ()


# --- capabilities -------------------------------------------------------------------------


def test_the_table_of_the_page_has_every_capability():
    table = PAGE.split("| field |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == {e.name for e in fields(Suite)} - {
        *operations(authenticated_default),
        *operations(default),
        *DERIVED,
    }


@pytest.mark.parametrize("suite", EVERY, ids=lambda suite: suite.name)
def test_capabilities_are_what_the_shares_do(suite, rng):
    session = virtual_session(["a", "b"], suite=suite) if suite is not plaintext else plain_session
    party = session.party
    values = random_words(rng, 7)
    x = suite.share(party, values, (7,))
    assert x.body.rows == party.rows * suite.lanes
    assert (suite.additive and torch.equal(x.words().sum(0), values)) or suite.lanes > 1
    assert session.plain == suite.plaintext == (party.rows == 1)
    assert suite.authenticated == bool(party.integrity)
    before = session.stats.copy()
    suite.share(party, values, (7,))
    if suite is not plaintext:
        assert (session.stats - before).shared == 8 * 7 * (len(session.holders) if suite.inputs_to_all else 1)


@pytest.mark.parametrize("base", [default, suites["fss"], snn, authenticated_default], ids=lambda suite: suite.name)
def test_exact_rounding_is_a_variant(base):
    suite = exact.nearest(base)
    assert suite.exact_rounding
    assert not base.exact_rounding
    assert suite.probabilistic is base is base.probabilistic
    assert exact.nearest(suite) is suite
    assert suite.authenticated == base.authenticated
    assert (suite.bounded is None) == (base.bounded is None)


def test_bounded_comparisons_are_of_ones_own():
    with pytest.raises(ValueError, match="of another suite's `negative`"):
        replace(default, name="other", negative=fss_comparison.negative)
    other = replace(default, name="other", negative=fss_comparison.negative, bounded=None)
    with pytest.raises(NotImplementedError, match="not for 'other'"):
        short(other, 32)
    with pytest.raises(NotImplementedError, match="not for 'default, 32 bits'"):
        short(short(default, 32), 16)

    def negative(party, x, bits=64):
        return comparison.negative(party, x, bits)

    bounded = Bounded(negative, comparison.relu)
    assert short(replace(default, name="other", negative=negative, bounded=bounded), 8).narrow.bits == 8


def test_the_largest_of_groups_is_of_suites_that_say_so():
    """All others find maxima by pairs: None, and nothing of another suite's."""
    having = {suite.name for suite in EVERY if suite.largest is not None}
    assert having == {"default"}
    assert {suite.name for suite in EVERY if suite.count_reciprocals is not None} == {
        "default", "fss", "snn", "plaintext",
    }  # fmt: skip
    assert exact.nearest(default).largest is default.largest is default.bounded.largest
    for suite in (default, exact.nearest(default)):
        assert short(suite, 20).narrow.largest.opens == ("compare",)
    bounded = Bounded(comparison.negative, comparison.relu)
    assert short(replace(default, name="other", bounded=bounded, largest=None), 20).narrow.largest is None


def test_codes_are_for_the_suite_that_they_name():
    assert authenticated(default) is authenticated_default is authenticated(authenticated_default)
    for suite in (suites["fss"], snn, exact.nearest(default), replace(default, name="other")):
        with pytest.raises(NotImplementedError, match="for the default protocol, not for"):
            authenticated(suite)


def test_a_bit_of_other_protocols_has_no_codes(rng):
    session = virtual_session(["a", "b"], suite=authenticated_default)
    x = authenticated_default.share(session.party, random_words(rng, 3), (3,))
    plain = virtual_session(["a", "b"])
    bit = default.negative(plain.party, default.share(plain.party, random_words(rng, 3), (3,)))
    with pytest.raises(AssertionError, match="no codes"):
        authenticated_default.select(session.party, bit, x)


def test_dealers_say_whether_they_dealt_ahead():
    assert dry_session(["a", "b"]).party.dealer.dealt_ahead
    assert StoreDealer.dealt_ahead
    assert not virtual_session(["a", "b"]).party.dealer.dealt_ahead


# --- names --------------------------------------------------------------------------------


def test_every_variant_is_found_by_its_name():
    bases = [*suites.values(), authenticated_default]
    whole = [*bases, *map(exact.nearest, bases)]
    cut = [short(suite, bits) for suite in (default, exact.nearest(default)) for bits in (2, 9, 32, 63)]
    for suite in (*whole, *cut):
        assert variant_named(suite.name) is suite
    assert len({suite.name for suite in (*whole, *cut)}) == len(whole) + len(cut)


@pytest.mark.parametrize(
    "name",
    [
        "", "plaintext", "mpc", "Default", "default, 1 bits", "default, 64 bits", "default, 032 bits", "fss, 8 bits",
        "default, 8 bits, 8 bits", "nearest, nearest", "default\n", "mac, 16 bits",
    ],
)  # fmt: skip
def test_other_names_are_of_no_variant(name):
    assert variant_named(name) is None
