"""What a suite that is made elsewhere has to do before users may ask for it: every operation, on small numbers.

`problems` lists all that is wrong at once: an operation that cannot be called as its signature says, that computes
something else than the plaintext suite, or that opens what it does not declare. `pysmpc.protocols` runs it, in one
process and with every party apart.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from pysmpc.mpc import operations as forms
from pysmpc.mpc.interfaces import Party
from pysmpc.mpc.operations import Suite
from pysmpc.ring.shares import Share

N = 12  # elements of an operand: rows of 3 and columns of 4
MAGNITUDE = 1 << 20
Run = Callable[[Suite, Party, Share, Share], Sequence[Share]]


@dataclass(frozen=True)
class Trial:
    """One run of operations on two secrets.

    uses: names of the operations of a suite that it is made of. error: steps by which a result may be off.
    bits: whether the secrets are 0 and 1. refusable: a suite may raise NotImplementedError instead.
    """

    uses: str
    run: Run
    error: int = 0
    bits: bool = False
    refusable: bool = False


def _matrices(x: Share, y: Share) -> tuple[Share, Share]:
    return Share(x.body, (3, 4), x.scale), Share(y.body, (4, 3), y.scale)


def _contract(suite: Suite, party: Party, x: Share, y: Share) -> list[Share]:
    a, b = _matrices(x, y)
    return [Share.of(suite.contract(party, x, a.matrices(), y, b.matrices()), (3, 3))]


def _bits(suite: Suite, party: Party, x: Share, y: Share) -> list[Share]:
    return [suite.bit_share(party, suite.negative(party, x), x.shape)]


def _larger(suite: Suite, party: Party, x: Share, y: Share) -> list[Share]:
    most, bit = suite.larger(party, x, y)
    return [most, suite.bit_share(party, bit, x.shape)]


def _select(suite: Suite, party: Party, x: Share, y: Share) -> list[Share]:
    bit = suite.negative(party, x)
    return [suite.select(party, bit, y, 1), suite.select(party, bit, y, 1000)]


def _updates(suite: Suite, party: Party, x: Share, y: Share) -> list[Share]:
    return suite.update_all(party, [(x, y, -3, 1 << 8), (y, x, 5, 1000)])


def _function(suite: Suite, party: Party, x: Share, y: Share) -> list[Share]:
    """3 (c - r) + 7 for c = x + r, of words that the dealer shares about r."""
    masked = suite.mask_open(party, x)
    dealt = suite.deal_words(party, masked, 2, lambda r: torch.stack([torch.ones_like(r), -3 * r]))
    return [suite.combine(party, masked, dealt, lambda c: torch.stack([3 * c, torch.ones_like(c)]), 7)]


def _arranged(suite: Suite, party: Party, x: Share, y: Share) -> list[Share]:
    """Rows sorted, and put back."""
    assert suite.arrange is not None
    values, how = suite.arrange(party, _matrices(x, y)[0])
    return [values, how.back(values)]


def _one_hot(suite: Suite, party: Party, x: Share, y: Share) -> list[Share]:
    assert suite.one_hot is not None
    return [suite.one_hot(party, x, 2)]


def _public(n: int = N) -> torch.Tensor:
    return torch.arange(n) - 5


#: In the order of `Suite`. What a suite may leave out (None) is not tried where it has.
TRIALS = {
    "share": Trial("share", lambda suite, party, x, y: [x, y]),
    "public": Trial("public", lambda suite, party, x, y: [suite.public(party, _public())]),
    "refresh": Trial("refresh", lambda suite, party, x, y: [suite.refresh(party, x)]),
    "add": Trial("add", lambda suite, party, x, y: [suite.add(party, x, y)]),
    "sub": Trial("sub", lambda suite, party, x, y: [suite.sub(party, x, y)]),
    "scale_by": Trial("scale_by", lambda suite, party, x, y: [suite.scale_by(party, x, -5)]),
    "neg": Trial("neg", lambda suite, party, x, y: [suite.neg(party, x)]),
    "mul_public": Trial("mul_public", lambda suite, party, x, y: [suite.mul_public(party, x, _public())]),
    "matmul_public": Trial(
        "matmul_public",
        lambda suite, party, x, y: [suite.matmul_public(party, _matrices(x, y)[0], _public().reshape(4, 3))],
    ),
    "mul": Trial("mul", lambda suite, party, x, y: [suite.mul(party, x, y)]),
    "mul_at_once": Trial("mul_at_once", lambda suite, party, x, y: [suite.mul_at_once(party, x, y)]),
    "square": Trial("square", lambda suite, party, x, y: [suite.square(party, x)]),
    "matmul": Trial("matmul", lambda suite, party, x, y: [suite.matmul(party, *_matrices(x, y))]),
    "contract": Trial("contract", _contract),
    "truncate_all": Trial(
        "truncate_all", lambda suite, party, x, y: suite.truncate_all(party, [(x, 1 << 8), (y, 1 << 4)]), error=1
    ),
    "truncate": Trial("truncate", lambda suite, party, x, y: [suite.truncate(party, x, 1 << 8)], error=1),
    "update_all": Trial("update_all", _updates, error=2),
    "negative": Trial("negative bit_share", _bits),
    "zero": Trial("zero", lambda suite, party, x, y: [suite.zero(party, x)]),
    "relu": Trial("relu", lambda suite, party, x, y: [suite.relu(party, x), suite.relu(party, y, 1 << 8)], error=1),
    "larger": Trial("larger bit_share", _larger),
    "select": Trial("negative select", _select, error=1),
    "mask_open": Trial("mask_open deal_words combine", _function),
    "thresholds": Trial(
        "thresholds", lambda suite, party, x, y: [suite.thresholds(party, x, [-(1 << 10), 0, 1 << 10])]
    ),
    "arrange": Trial("arrange", _arranged),
    "one_hot": Trial("one_hot", _one_hot, bits=True),
    "logical_and": Trial("logical_and", lambda suite, party, x, y: [suite.logical_and(party, x, y)], bits=True),
    "logical_xor": Trial("logical_xor", lambda suite, party, x, y: [suite.logical_xor(party, x, y)], bits=True),
    "bitwise_and": Trial("bitwise_and", lambda suite, party, x, y: [suite.bitwise_and(party, x, y)], refusable=True),
    "bitwise_and_public": Trial(
        "bitwise_and_public",
        lambda suite, party, x, y: [suite.bitwise_and_public(party, x, _public())],
        refusable=True,
    ),
    "shift_right_each": Trial(
        "shift_right_each",
        lambda suite, party, x, y: [suite.shift_right_each(party, x, _public() + 5)],
        refusable=True,
    ),
}


def called_wrongly(suite: Suite) -> list[str]:
    """Operations that cannot be called with the arguments of their signature."""
    found = []
    for each in fields(suite):
        given, form = getattr(suite, each.name), vars(forms).get(str(each.type).partition(" ")[0])
        if given is None or not getattr(form, "_is_protocol", False):
            continue
        wanted = vars(form)["__call__"]
        if not callable(given):
            found.append(f"{each.name} is {given!r}, which is no function")
            continue
        parameters = [p for p in inspect.signature(wanted).parameters.values() if p.name != "self"]
        least = [p for p in parameters if p.kind != p.VAR_POSITIONAL and p.default is p.empty]
        try:
            signature = inspect.signature(given)
            for count in {len(least), len(parameters)}:
                signature.bind(*range(count))
        except TypeError as error:
            names = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters)
            found.append(f"{each.name}{signature} is called with ({names}): {error}")
    return found


def misnamed(suite: Suite, taken: Sequence[str]) -> list[str]:
    """What is wrong with the suite's name."""
    if not isinstance(suite.name, str) or not re.fullmatch(r"[a-z][a-z0-9_-]*", suite.name):
        return [f"its name is {suite.name!r}; a name has small letters, digits, - and _, and begins with a letter"]
    if suite.name in taken:
        return [f"there is another protocol '{suite.name}'; pass name= with one of its own"]
    return []


def operands(bits: bool, n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    """Two vectors of fresh integers, with 0, 1, -1 and the largest among them; they leave torch's generator alone."""
    source = torch.Generator()
    source.seed()
    least, most = (0, 2) if bits else (-MAGNITUDE, MAGNITUDE + 1)
    x, y = (torch.randint(least, most, (n,), generator=source) for _ in range(2))
    if not bits:
        x[:4], y[1:5] = torch.tensor([0, 1, -1, -MAGNITUDE]), torch.tensor([0, 1, MAGNITUDE, -1])
    return x, y


def tried(name: str, found: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> list[str]:
    """How results, as they were revealed, differ from those of the plaintext suite."""
    trial = TRIALS[name]
    if [tuple(each.shape) for each in found] != [tuple(each.shape) for each in right]:
        shapes = [[list(each.shape) for each in several] for several in (found, right)]
        return [f"{name} gives results of sizes {shapes[0]}, not {shapes[1]}"]
    worst = max(int((a - b).abs().max()) for a, b in zip(found, right, strict=True))
    if worst > trial.error:
        return [f"{name} is wrong by {worst}, where {trial.error} is allowed"]
    return []


def wanted(suite: Suite) -> list[str]:
    """The trials of the operations that the suite has."""
    return [
        name
        for name, trial in TRIALS.items()
        if all(getattr(suite, operation) is not None for operation in trial.uses.split())
    ]


def declared(suite: Suite, name: str, what: str = "opens") -> set[Any]:
    """The reasons that the operations of a trial declare, for openings or for questions (`asks`)."""
    operations = ("share", *TRIALS[name].uses.split(), "reveal")
    return {reason for each in operations for reason in getattr(getattr(suite, each), what, ())}
