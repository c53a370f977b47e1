"""`sy.distributed`: one party a rank of torch.distributed."""

from __future__ import annotations

import atexit
import sys
from datetime import timedelta
from typing import Any

import torch

from pysmpc.api.parties import Parties, parties_of
from pysmpc.mpc.options import Protocol, protocol_of
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.watching import WITNESSES
from pysmpc.torch_modes import undisturbed
from pysmpc.transport.rank_wires import Program
from pysmpc.transport.torch_distributed import DistributedSession, join


@undisturbed
def distributed(
    *names: str,
    provider: str = "crypto_provider",
    rounding: str | None = None,
    protocol: str | Protocol | None = None,
    integrity: str | None = None,
    compare_bits: int | None = None,
    timeout: float = 300.0,
    checked: bool = False,
    eager: bool = False,
) -> Parties:
    """Make each rank of torch.distributed a party, for scripts under torchrun, SLURM or Kubernetes.

    Every rank runs the whole script, and makes the same calls with the same public values.
    Ranks 0 .. n-1 are the holders (`names`, by default rank0, rank1, ...); the last rank is the
    crypto provider, which sees no share and no opened value.  `parties.me` is this rank's name.
    rounding, protocol, integrity, compare_bits: as for `virtual`.  timeout: seconds that a rank
    waits for another before it raises ChannelError.  checked: test by messages whether values
    leave their range; if one did, every rank raises RangeError instead of opening a value
    (docs/ranges.md).  eager: compute each operation where it stands; otherwise training loops are
    repeated as in `virtual`, and a rank that looks at what others do not look at within a step gets
    a ChannelError (docs/distributed.md).  Messages are not encrypted: use it inside one trusted network.

    Raises PartyError outside of a job, or where the job's ranks do not fit the names.
    """
    how = protocol_of(protocol, rounding, integrity, compare_bits)
    session = join(names, provider, timedelta(seconds=timeout), checked, eager)
    if _agree not in WITNESSES:
        WITNESSES.append(_agree)
    atexit.register(_leave, session)
    return parties_of(session, how)


def _leave(session: DistributedSession) -> None:
    if getattr(sys, "last_value", None) is None:  # a rank that fails does not wait for the others
        session.close()


def _agree(func: Any, args: Any, kwargs: Any) -> None:
    """Add an operation to its session's program."""
    program = _program((*args, *kwargs.values()))
    if program is not None:
        program.note(str(func), _facts(program, args), sorted(kwargs), _facts(program, kwargs.values()))


def _program(values: Any) -> Program | None:
    for value in values:
        if isinstance(value, SecretTensor) and isinstance(value.session, DistributedSession):
            return value.session.program
        if isinstance(value, list | tuple) and (found := _program(value)) is not None:
            return found
    return None


def _facts(program: Program, values: Any) -> list[Any]:
    """What ranks can compare of operands: values where they are public, shapes where they are secret."""
    facts: list[Any] = []
    for value in values:
        if isinstance(value, list | tuple):
            facts.append(_facts(program, value))
        elif isinstance(value, torch.Tensor):
            facts.append((tuple(value.shape), value.dtype))
            if not isinstance(value, SecretTensor):
                program.note_values(value)
            elif value.session.plain:
                program.note_values(value.window().words())
        elif value is None or isinstance(value, bool | int | float | str | torch.dtype):
            facts.append(value)
    return facts
