"""Protocol backends: the interface that code outside of pysmpc implements, and how users come to ask for it.

    from dataclasses import replace
    from pysmpc import protocols

    protocols.register(replace(protocols.default, name="mine", mul=my_mul, square=protocols.derived(...)))
    parties = sy.virtual("alice", "bob", protocol="mine")

A backend is a `Suite`: a typed function for every operation on shares, and what its shares can do. How one is written
is in docs/adding-a-protocol.md. A registered one is known in its process alone: a worker of another machine refuses a
driver that asks for it, unless its owner registers it there as well, and so decides by whose protocols it computes.
"""

from __future__ import annotations

import torch

from pysmpc.errors import ChannelError, PysmpcError
from pysmpc.mpc import trial
from pysmpc.mpc.derived import derived_operations as makers
from pysmpc.mpc.interfaces import (
    LOCAL,
    OPENING_REASONS,
    QUESTIONS,
    Channel,
    Cost,
    Dealer,
    Party,
    declares_openings,
    opening,
    opens_as,
)
from pysmpc.mpc.operations import Bounded, Suite, derived
from pysmpc.mpc.suite import add_suite, authenticated_default, default, names_taken, plaintext, suites
from pysmpc.mpc.variants import forget_variants
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import MaskedBit, Share
from pysmpc.session.ledger import ledger
from pysmpc.session.session import Session, plain_session, virtual_session
from pysmpc.torch_modes import undisturbed
from pysmpc.transport import threads

__all__ = [
    "LOCAL",
    "OPENING_REASONS",
    "QUESTIONS",
    "Bounded",
    "Channel",
    "Cost",
    "Dealer",
    "KeySet",
    "MaskedBit",
    "Party",
    "Share",
    "Suite",
    "authenticated_default",
    "check",
    "declares_openings",
    "default",
    "derived",
    "makers",
    "opening",
    "opens_as",
    "plaintext",
    "register",
    "suites",
]


@undisturbed
def register(suite: Suite) -> Suite:
    """Let users ask for a backend by its name, after it was tried: protocol=suite.name.  Returns the suite.

    A suite with `authenticates` is what integrity="mac" then means for the protocol of that name, which must be there.

    Raises TypeError for what is no `Suite`, and ValueError, which lists all that `check` finds, for one that does not
    do what its operations promise.
    """
    found = check(suite)
    if found:
        name = suite.name if isinstance(suite.name, str) else "this one"
        raise ValueError(f"protocol '{name}' was not registered:\n" + "\n".join(f"  {each}" for each in found))
    add_suite(suite)
    forget_variants()
    return suite


@undisturbed
def check(suite: Suite) -> list[str]:
    """All that is wrong with a backend, as sentences that name the operation; none where nothing was found.

    Its name is looked at, and whether every operation can be called as its signature says.  Then every operation is
    run on fresh small numbers, with all parties in this process and with each in a thread of its own, and compared
    with the plaintext suite; what it opens is compared with what it declares.  Nothing is proved by that about
    secrecy: docs/adding-a-protocol.md says which tests look for it.
    """
    if not isinstance(suite, Suite):
        raise TypeError(f"a backend is a pysmpc.protocols.Suite, not a {type(suite).__name__}")
    found = trial.misnamed(suite, names_taken(suite))
    if suite.authenticates is not None and suite.authenticates not in suites:
        found.append(f"it authenticates '{suite.authenticates}', which is not registered")
    found += trial.called_wrongly(suite)
    for name in trial.wanted(suite) if not found else ():
        found += _tried(suite, name)
    return found


def _tried(suite: Suite, name: str) -> list[str]:
    """What is wrong with one operation: with the parties in one process and, if nothing is there, with each apart."""
    holders = [f"holder{i}" for i in range(suite.holders or 2)]
    values = trial.operands(trial.TRIALS[name].bits)
    right = _run(plain_session, plaintext, name, values)
    try:
        with ledger() as kept:
            together = _run(virtual_session(holders, suite=suite), suite, name, values)
        undeclared = kept.causes - trial.declared(suite, name)
        asked = kept.questions - trial.declared(suite, name, "asks")
        if undeclared or asked:
            reasons = ", ".join(sorted(undeclared | asked))
            return [f"{name} opens or asks something that it does not declare: {reasons}"]
        if found := trial.tried(name, together, right):
            return found
        parties = threads.sessions(holders, suite=suite)
        apart = threads.run(parties, lambda session: _run(session, suite, name, values, session is parties[0]))
    except NotImplementedError as error:
        return [] if trial.TRIALS[name].refusable else [f"{name} is refused, and nothing can do without it: {error}"]
    except (PysmpcError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        hint = ", as the parties do not run the same program" if isinstance(error, ChannelError) else ""
        return [f"{name} raises {type(error).__name__}{hint}: {error}"]
    if found := [each for results in apart[:-1] for each in trial.tried(name, results, right)]:
        return [f"with every party apart, {found[0]}"]
    if len({str(session.stats) for session in parties}) > 1:
        return [f"{name} costs more at one party than at another: each of them must run the same program"]
    return []


def _run(
    session: Session, suite: Suite, name: str, values: tuple[torch.Tensor, torch.Tensor], owned: bool = True
) -> list[torch.Tensor]:
    """What a trial's results open to."""
    party = session.party
    x, y = (suite.share(party, each if owned else None, each.shape) for each in values)
    return suite.reveal(party, *trial.TRIALS[name].run(suite, party, x, y))
