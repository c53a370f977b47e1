"""A backend written outside of pysmpc, as docs/adding-a-protocol.md has it: it is checked, registered and used."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import toy_protocol
from torch import nn
from toy_protocol import toy

import pysmpc as sy
from pysmpc import protocols
from pysmpc.mpc.suite import suite_named, suites
from pysmpc.mpc.variants import forget_variants, variant_named


@pytest.fixture(scope="module", autouse=True)
def _registered():
    """For the tests of this file, and no others of the process."""
    assert protocols.register(toy) is toy
    yield
    del suites["toy"]
    forget_variants()


def _named(**operations):
    return replace(toy, name="other", **operations)


def test_it_is_written_with_the_public_interface_alone_and_short():
    text = Path(toy_protocol.__file__).read_text()
    assert len(text.splitlines()) <= 150
    imports = [line for line in text.splitlines() if line.startswith(("import ", "from ")) and "pysmpc" in line]
    assert imports == ["from pysmpc.protocols import ("]
    page = (Path(__file__).parents[2] / "docs" / "adding-a-protocol.md").read_text()
    assert "tests/support/toy_protocol.py" in page


def test_users_ask_for_it_by_name():
    assert suite_named("toy") is toy is variant_named("toy")
    assert variant_named("toy, nearest").base is toy
    parties = sy.virtual("alice", "bob", protocol="toy")
    assert sy.encrypt(torch.ones(2), parties, rounding="nearest").session.suite.name == "toy, nearest"
    with pytest.raises(sy.PartyError, match="protocol 'toy' is for 2 holders, not 3"):
        sy.virtual("alice", "bob", "carol", protocol="toy")
    with pytest.raises(ValueError, match="there are 'default', 'fss', 'snn', 'toy'"):
        sy.virtual("alice", "bob", protocol="tooy")


def test_a_network_trains_under_it(rng):
    """Beside torch in float64, with its own products, truncation and derived operations, and with others' ReLU."""
    x = torch.from_numpy(rng.normal(size=(16, 6)))
    y = torch.from_numpy(rng.normal(size=(16, 2)))
    plain = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    parties = sy.virtual("alice", "bob", protocol="toy")
    secret = sy.encrypt(copy.deepcopy(plain), parties, frac_bits=20)
    inputs = [sy.encrypt(each, parties, frac_bits=20) for each in (x, y)]
    for model, (given, right) in ((plain, (x, y)), (secret, inputs)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.125, momentum=0.5)
        for _ in range(4):
            optimizer.zero_grad()
            F.mse_loss(model(given), right).backward()
            optimizer.step()
    for found, right in zip(sy.decrypt(secret).parameters(), plain.parameters(), strict=True):
        assert float((found - right).detach().abs().max()) < 1e-4


def test_its_product_costs_what_it_declares_and_opens_nothing_twice(rng):
    parties = sy.virtual("alice", "bob", protocol="toy")
    session, seen = parties.session, []
    session.party.channel.observer = lambda cause, messages, opened: seen.append((cause, opened))
    x = toy.share(session.party, torch.full((50,), 3), (50,))
    before = session.stats.copy()
    for _ in range(2):
        product = toy.mul(session.party, x, x)
    assert (session.stats - before).cost == toy_protocol.mul_cost(2, 50) * 2
    assert torch.equal(toy.reveal(session.party, product)[0], torch.full((50,), 9))
    words = torch.cat([each for cause, opened in seen if cause == "mask" for each in opened], 1)[0]
    assert len(set(words.tolist())) == 200  # of one value, four times 50 masked words, all different


def test_the_checks_find_nothing():
    assert protocols.check(toy) == []


def without_de(party, x, y):
    """A product that forgets a term, which both holders' computing would have to be wrong about alike."""
    out = toy_protocol.mul(party, x, y)
    return protocols.Share.of(out.words() - (1 if party.rows == 2 else 0), out.shape, out.scale)


def undeclared(party, x, y):
    return toy_protocol.mul(party, x, y)


@protocols.declares_openings("mask")
def apart_only(party, x, y):
    """Alice takes a stream that nobody else takes: right in one process, and wrong between two."""
    if party.ranks == (0,):
        party.dealer.streams()
    return toy_protocol.mul(party, x, y)


@protocols.declares_openings("mask")
def one_sided(party, x, y):
    """Alice computes once more: her next message is none that bob waits for."""
    if party.ranks == (0,):
        party.channel.open([x.words(), x.words(), x.words()], "mask")
    return toy_protocol.mul(party, x, y)


@protocols.declares_openings("mask")
def shorter(party, x, y):
    out = toy_protocol.mul(party, x, y)
    return protocols.Share.of(out.words()[:, :-1].contiguous(), (out.numel - 1,), out.scale)


def rounds_twice(party, dividends):
    """Off by two steps at times."""
    return [
        toy.add(party, z, toy.public(party, torch.full(z.shape, 2), z.scale))
        for z in toy_protocol.truncate_all(party, dividends)
    ]


@pytest.mark.parametrize(
    ("operations", "finding"),
    [
        ({"mul": protocols.declares_openings("mask")(without_de)}, "mul is wrong by"),
        ({"mul": undeclared}, "mul opens or asks something that it does not declare: mask"),
        ({"mul": apart_only}, "mul is wrong by"),
        ({"mul": one_sided}, "mul raises"),
        ({"mul": shorter}, r"mul gives results of sizes \[\[11\]\], not \[\[12\]\]"),
        ({"square": lambda party: None}, r"square\(party\) is called with \(party, x\): too many positional arguments"),
        ({"relu": lambda party, x: x}, r"relu\(party, x\) is called with \(party, x, by=1\)"),
        ({"select": 3}, "select is 3, which is no function"),
        ({"truncate_all": rounds_twice}, "truncate_all is wrong by"),
        ({"add": lambda party, x, y: x}, "add is wrong by"),
        ({"zero": lambda party, x: 1 / 0}, "zero raises ZeroDivisionError"),
        ({"matmul": lambda party, x, y: toy.mul_public(party, x, 3)}, "matmul raises"),
        ({"name": "default"}, "there is another protocol 'default'"),
        ({"name": "mpc"}, "there is another protocol 'mpc'"),
        ({"name": "mac"}, "there is another protocol 'mac'"),
        ({"name": "Two, nearest"}, "its name is 'Two, nearest'; a name has small letters"),
        ({"authenticates": "nothing"}, "it authenticates 'nothing', which is not registered"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_backend_with_a_mistake_is_not_registered(operations, finding):
    broken = replace(toy, **{"name": "other", **operations})
    before = dict(suites)
    with pytest.raises(ValueError, match=rf"was not registered:\n(.*\n)*  .*{finding}"):
        protocols.register(broken)
    assert suites == before


def test_all_mistakes_are_listed_at_once():
    found = protocols.check(_named(zero=None, refresh=lambda: None))
    assert [each.split("(")[0].split()[0] for each in found] == ["refresh", "zero"]
    found = protocols.check(_named(add=lambda party, x, y: x, sub=lambda party, x, y: y))
    assert [each.split()[0] for each in found][:2] == ["add", "sub"]


def test_what_is_no_suite_is_refused():
    with pytest.raises(TypeError, match=r"a backend is a pysmpc\.protocols\.Suite, not a type"):
        protocols.register(type("Suite", (), {}))


def test_trying_a_backend_leaves_torchs_random_numbers_alone():
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    protocols.check(_named())
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("suite", [*suites.values(), protocols.authenticated_default], ids=lambda suite: suite.name)
def test_pysmpcs_own_pass_the_same_trials(suite):
    assert protocols.check(suite) == []
