"""Parties of a program: `virtual` makes them in this process, and names of them find their session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import pysmpc.ops  # noqa: F401  (fills the table of operations)
from pysmpc.api import torch_guards
from pysmpc.errors import EncodingError
from pysmpc.mpc.options import Protocol, protocol_of
from pysmpc.ops.range_tests import TestedTensor
from pysmpc.ring.fixedpoint import (
    Precision,
)
from pysmpc.session.offline import StoreDealer
from pysmpc.session.session import Session, virtual_session
from pysmpc.session.stats import Stats
from pysmpc.session.store import take
from pysmpc.tensor import display
from pysmpc.torch_modes import keep_promises, undisturbed

DEFAULTS = Protocol()
_sessions: dict[tuple[frozenset[str], str], Session] = {}


def session_for(
    holders: Sequence[str],
    provider: str,
    protocol: Protocol = DEFAULTS,
) -> Session:
    """The in-process session of a set of holders and a provider; made at first use."""
    key = (frozenset(holders), provider)
    known = _sessions.get(key)
    if known is not None and known.me is None and known.recorder is None and known.lock.process.left:
        known = None  # of the process that this one is a fork of
    if known is None or len(holders) != len(set(holders)):
        torch_guards.install()
        _sessions[key] = virtual_session(holders, provider)
        _sessions[key].chains = True
    return under(_sessions[key], protocol)


def use_session(session: Session) -> None:
    """Let `share` among these holders, with this provider, use a session that was made elsewhere."""
    session.chains = True
    _sessions[frozenset(session.holders), session.provider] = session


def under(session: Session, protocol: Protocol) -> Session:
    """The session with the settings asked for; those that are None stay as they are."""
    return session.under(protocol.of(session.suite))


def session_of_name(name: str) -> list[Session]:
    """The sessions in which someone holds shares."""
    return [s for s in _sessions.values() if name in s.holders]


class Parties:
    """The share holders and their crypto provider, as `virtual`, `connect` and `distributed` return them.

    names: of the holders, in order.  provider: its name.  stats: rounds and bytes so far.
    parties["alice"]: one holder; its `.shares()` lists the shares that it keeps.
    """

    def __init__(self, session: Session) -> None:
        torch_guards.install()
        self.session = session

    @property
    def names(self) -> tuple[str, ...]:
        """The holders."""
        return self.session.holders

    @property
    def provider(self) -> str:
        """The name of the party that deals randomness."""
        return self.session.provider

    @property
    def me(self) -> str | None:
        """The party that this process is; None where all are in this process."""
        return self.session.me

    @property
    def stats(self) -> Stats:
        """Rounds and bytes so far.  Keep a `.copy()` to subtract from later counts."""
        return self.session.stats

    def close(self) -> None:
        """Wait until the others have received all that this process sent.  Called when the program ends, too."""
        self.session.close()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Holder:
        if name not in self.names:
            raise KeyError(f"no holder '{name}' here; there are {', '.join(self.names)}")
        return Holder(self.session, name)

    def __repr__(self) -> str:
        number = self.session.serial
        return f"Parties({', '.join(self.names)}; crypto provider {self.provider}; session number {number})"

    def _repr_html_(self) -> str:
        return display.parties(self.session)

    def __copy__(self) -> Parties:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Parties:
        return self  # the same parties: a copy of a trainer or a configuration goes on with them

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.session.__reduce_ex__(protocol)  # raises, and says why


class Holder:
    """One holder of an in-process session, to look at the shares that it keeps."""

    def __init__(self, session: Session, name: str) -> None:
        self.id = name
        self._session = session

    @undisturbed
    def shares(self) -> list[torch.Tensor]:
        """Its shares, oldest first: uniformly random words, which alone reveal nothing."""
        keep_promises()
        return [words for _, _, words in self._session.live(self.id)]

    def __repr__(self) -> str:
        return f"Holder({self.id})"


@undisturbed
def virtual(
    *names: str,
    provider: str = "crypto_provider",
    rounding: str | None = None,
    protocol: str | Protocol | None = None,
    integrity: str | None = None,
    compare_bits: int | None = None,
    material: str | Path | None = None,
    checked: bool | str = True,
    eager: bool = False,
) -> Parties:
    """Make parties that all live in this process, for development and tests.  Messages are counted, not sent.

    names: of the holders, two or more; alice and bob by default.  provider: the name of
    the party that deals randomness.
    rounding: how a value that lies between two steps of the encoding is rounded.
    "probabilistic", the default: up with a probability equal to its fraction, one round;
    "nearest": to the nearest step, halves upward, five rounds.
    protocol: "fss" or "snn", in place of the default (docs/protocols.md), or a `sy.Protocol`, which has these
    settings in one object.
    integrity="mac": detect a holder that alters what it sends before a result is
    returned (IntegrityError), at the price in docs/integrity.md.
    compare_bits: comparisons, ReLU and maxima look at this many bits only, rounded up to 16, 32 or
    48.  What is compared (for two values, their difference) must lie within 2^(compare_bits - 1)
    steps of its encoding, or the answer is wrong.  Values that are encrypted, and public
    values that they are compared with, are checked (EncodingError).
    material: a folder that `pysmpc deal` filled, in place of a provider that deals while
    the program runs.  It uses up one of the runs dealt there.  Raises MaterialError.
    checked: whether to check that products, sums and truncations fit into the ring, and
    raise RangeError where one does not (docs/ranges.md).  False: do not, for measurements of
    time.  "protocol": check by messages, as `sy.connect(..., checked=True)` does, and
    raise when a value is opened.
    eager: compute each operation where it stands. Otherwise a training loop that asks for the same operations again is
    computed at the end of each of its steps, from a recording: the same values, rounds and bytes in less time
    (docs/performance.md).

    >>> parties = sy.virtual("alice", "bob")
    """
    names = names or ("alice", "bob")

    def dealer(count: Callable[[int], None]) -> StoreDealer:
        return StoreDealer(take(Path(material or ""), names, provider, range(len(names))), count)

    how = protocol_of(protocol, rounding, integrity, compare_bits)
    if checked not in (True, False, "protocol"):
        raise ValueError(f"checked is True (the default), False or 'protocol', not {checked!r}")
    session = virtual_session(
        names,
        provider,
        dealer=None if material is None else dealer,
        checked=checked is True,
        tested=checked == "protocol",
    )
    session.eager = eager
    return parties_of(session, how)


def parties_of(session: Session, protocol: Protocol) -> Parties:
    """The parties of a session of which this process is a part, with the settings asked for."""
    if session.flags is not None:  # ranges are tested by messages
        session.tensor = TestedTensor
    return Parties(under(session, protocol))


def precision_of(frac_bits: int | None, base: int, precision_fractional: int | None) -> Precision:
    """The encoding that keywords of `encrypt` ask for.  Raises EncodingError, with the keyword's name."""
    given = {"frac_bits": frac_bits, "base": base, "precision_fractional": precision_fractional}
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise EncodingError(f"{name} is a whole number, not {value!r}")
    if base != 10 and precision_fractional is None:
        raise EncodingError(
            f"base={base} is that of precision_fractional, which is not given; give both, or frac_bits for base 2"
        )
    if precision_fractional is not None:
        if frac_bits is not None:
            raise EncodingError("give frac_bits (binary) or precision_fractional (base 10), not both")
        return Precision(base, precision_fractional)
    return Precision(2, 16 if frac_bits is None else frac_bits)
