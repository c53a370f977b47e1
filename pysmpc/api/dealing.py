"""Dealing ahead: what a program needs of a crypto provider, found by a dry run and put on disk."""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pysmpc.api.parties import Parties, parties_of
from pysmpc.errors import MaterialError
from pysmpc.mpc.options import Protocol, protocol_of
from pysmpc.session.offline import deal, dry_session


class Plan:
    """The randomness that a program needs of a crypto provider, found by a dry run.

    parties: to run the program on.  They hold no data, and whatever is opened is zero.
    """

    def __init__(self, parties: Parties) -> None:
        self.parties = parties

    def deal(self, directory: str | Path, runs: int = 1) -> list[Path]:
        """Deal for `runs` runs of the program.  Returns one file for each holder, which no other party may see."""
        return deal(self.parties.session, Path(directory), runs)

    def __repr__(self) -> str:
        stats = self.parties.stats
        return f"Plan({stats.rounds} rounds, {stats.dealt} bytes dealt a run; for {', '.join(self.parties.names)})"


@contextmanager
def record(
    *names: str,
    provider: str = "crypto_provider",
    rounding: str | None = None,
    protocol: str | Protocol | None = None,
    compare_bits: int | None = None,
) -> Iterator[Plan]:
    """Find out by a dry run which randomness a program needs, without anybody's secrets.

    Only shapes matter, so the inputs may be zeros.  Whatever the program opens is zero.

    >>> with sy.record("alice", "bob") as plan:
    ...     train(plan.parties)
    >>> plan.deal("material", runs=10)
    """
    how = protocol_of(protocol, rounding, compare_bits=compare_bits)
    yield Plan(parties_of(dry_session(names or ("alice", "bob"), provider), how))


def deal_program(
    program: Path, out: Path, holders: Sequence[str], provider: str, runs: int, protocol: str | Protocol | None = None
) -> tuple[Plan, list[Path]]:
    """Run `program(parties)` of a Python file dry, and deal what it asked for."""
    found = runpy.run_path(str(program)).get("program")
    if not callable(found):
        raise MaterialError(f"{program} defines no function program(parties)")
    with record(*holders, provider=provider, protocol=protocol) as plan:
        found(plan.parties)
    return plan, plan.deal(out, runs)
