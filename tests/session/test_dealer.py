"""Corrections to one holder and to all: who gets what, and what is counted."""

import pytest
import torch
from settings import Setting

from pysmpc.errors import PartyError
from pysmpc.mpc.suite import Suite, default, suite_named
from pysmpc.session.session import virtual_session


@pytest.mark.parametrize("name", ["virtual", "threads"])
@pytest.mark.parametrize("holders", [2, 3])
def test_corrections_and_broadcasts_arrive_in_order(name, holders):
    def program(session, owner):
        dealer = session.party.dealer
        first = dealer.broadcast(3, lambda keys, out: out.copy_(torch.arange(3) + keys.rows))
        one = dealer.corrections(2, lambda keys, out: out.fill_(7))
        last = dealer.broadcast(1, lambda keys, out: out.fill_(9))
        return first, one, last

    for session, (first, one, last) in Setting(name, holders).everywhere(program):
        hosts = session.party.ranks
        assert session.stats.dealt == 8 * (4 * holders + 2)
        if hosts:
            assert torch.equal(first, torch.arange(3) + holders)
            assert last.item() == 9
        else:
            assert first is None
            assert last is None
        assert (one is not None) == (holders - 1 in hosts)


def test_names_of_protocols():
    assert suite_named(None) is suite_named("mpc") is suite_named("default") is default
    with pytest.raises(ValueError, match="unknown protocol 'magic'; there are 'default'"):
        suite_named("magic")


def test_a_protocol_for_some_holders_only():
    fields = {name: getattr(default, name) for name in Suite.__dataclass_fields__}
    pair = Suite(**{**fields, "name": "pair", "holders": 2})
    assert virtual_session(["a", "b"], suite=pair).suite is pair
    with pytest.raises(PartyError, match="'pair' is for 2 holders, not 3; leave protocol out for the default"):
        virtual_session(["a", "b", "c"], suite=pair)
