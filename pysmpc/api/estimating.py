"""`sy.estimate`: rounds, bytes and time of a forward pass or a training step, before parties are connected.

Rounds and bytes come of a run on shares of no rows, as in `sy.check`, and are exact.  Times come of a few runs on this
machine, for a second or so: in one process; on empty shares, which take what Python takes; and of the provider's part
alone.  What a holder's kernels take follows from the difference.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from pysmpc.api.calls import encrypt
from pysmpc.api.dealing import plan
from pysmpc.api.example import Example
from pysmpc.api.parties import Parties, virtual
from pysmpc.api.profiling import Network, Profile, Row
from pysmpc.api.receiving import decrypt
from pysmpc.api.wires import Wire, measured_wire
from pysmpc.mpc.options import Protocol
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.session.offline import Deal, Recorder
from pysmpc.session.stats import Stats
from pysmpc.session.store import Request
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import flush
from pysmpc.torch_modes import keep_promises

#: Networks of the table: no delay, and one way of 1 and of 25 ms; without a bound on bytes a second.
NETWORKS = tuple(Network(delay, float("inf")) for delay in (0.0, 1e-3, 25e-3))

SETTLED = 4  # runs after the first, at most, until one costs what the one before does
WAYS = 3  # of an opening that a driver waits for, beside its round
#: How often the Python of a run on empty shares an operation takes at a worker or a driver, who also send, receive and
#: check what is asked for: measured once (`bench/estimates.py --parts`), on one processor.
APART = 2.5
RECORDED = 5  # steps of a loop, until the next one is a repetition
LEAST = 3  # runs of each kind that are measured, however long one takes


@dataclass(frozen=True)
class Work:
    """Seconds of one run on this machine.

    together: all parties, one after another in one process.  python: what each party takes beside its kernels.
    holder, provider: kernels of one holder, and of the provider.
    """

    together: float
    python: float
    holder: float
    provider: float


@dataclass(eq=False)
class Estimate:
    """What `sy.estimate` found.

    stats: rounds and bytes of a run, when they no longer change.  first: of the first one, which opens all of the model
    and makes an optimizer's state.  rows: by
    layer, of `stats`; seconds: in one process.  work, wire: what was measured of this machine.  opened: values.
    """

    stats: Stats
    first: Stats
    rows: list[Row]
    work: Work
    wire: Wire
    holders: int
    opened: int
    networks: tuple[Network, ...]

    @property
    def seconds(self) -> float:
        """In one process."""
        return self.work.together

    def over(self, network: Network, cores: int | None = None) -> float:
        """Seconds over TLS, where every party is a process.

        cores: of this machine, if all of them share it; without it each has a machine of its own that is like this one.

        1. A holder's Python and kernels, its messages' encryption, and for each round a delay and a message's handling.
        2. Not less than the provider takes, who is ahead otherwise, nor than all of them take with these cores, and
           the delays.
        3. For each opened value three ways on top: the driver's request, the provider's word to the holders that it
           has heard of it, and theirs to one another (a round of 8 bytes that `stats` does not count).
        """
        work, wire, spent = self.work, self.wire, self.stats
        sent = spent.sent + spent.asked + spent.answered
        # 1. a holder, who sends as much as it receives; the last one receives what is dealt
        python = APART * work.python
        busy = python + work.holder + (2 * sent + spent.dealt) * wire.byte / 2
        handled = busy + spent.rounds * wire.message
        delays = spent.rounds * network.one_way + sent / network.rate  # in which everybody waits
        apart = handled + delays
        # 2. the provider and the driver
        dealing = python + work.provider + spent.dealt * (wire.byte / 2)
        least = max(dealing, spent.dealt / network.rate)
        if cores is not None:
            others = (self.holders - 1) * spent.dealt * wire.byte / 2  # who receive none of what is dealt
            least = max(least, delays + (self.holders * handled - others + dealing + python) / cores)
        # 3. openings
        return max(apart, least) + self.opened * WAYS * (network.one_way + wire.message)

    def __str__(self) -> str:
        head = ["layer", "rounds", "kB sent", "kB dealt", "ms here"]
        head += [f"TLS {1e3 * each.one_way:g} ms" for each in self.networks]
        lines = [head, *map(self._cells, self.rows)]
        total = Row("total", "", 0, [self.seconds], self.stats)
        lines.append([*self._cells(total)[:5], *(f"{1e3 * self.over(each):.1f}" for each in self.networks)])
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
        first = f"The first run takes {self.first.rounds} rounds and sends {self.first.sent / 1e3:.1f} kB."
        return "\n".join(
            [*text, f"{first} ms here: all parties in one process, measured. TLS: machines like this one."]
        )

    def _cells(self, row: Row) -> list[str]:
        """Of a layer: over a network its part of the computing, and its own messages."""
        spent, part = row.spent, row.seconds[0] / self.seconds if self.seconds else 0.0
        still = Network(0.0, float("inf"))
        computing = self.over(still) - spent_on(self.stats, self.wire, still) - self.opened * WAYS * self.wire.message
        sent = spent.sent + spent.asked + spent.answered
        times = [part * computing + spent_on(spent, self.wire, each) for each in self.networks]
        figures = [str(spent.rounds), f"{sent / 1e3:.1f}", f"{spent.dealt / 1e3:.1f}", f"{1e3 * row.seconds[0]:.1f}"]
        return [row.layer or "elsewhere", *figures, *(f"{1e3 * each:.1f}" for each in times)]


def spent_on(spent: Stats, wire: Wire, network: Network) -> float:
    """Seconds of messages between holders."""
    sent = spent.sent + spent.asked + spent.answered
    return spent.rounds * (network.one_way + wire.message) + sent * wire.byte + sent / network.rate


class _Running:
    """A program on some parties."""

    def __init__(self, program: Example, parties: Parties, private_layers: Any, opened: bool) -> None:
        self.program, self.parties, self.opened, self.values = program, parties, opened, 0
        self.model = encrypt(program.model, parties, private_layers=private_layers)
        self.optimizer = program.optimizer(self.model)

    def run(self) -> float:
        """One step, or one pass; its seconds."""
        given, named, target = self.program.given(self.parties)
        start = time.perf_counter()
        if self.program.trains:
            self.model.zero_grad()
        with self.program.gradients():
            out = self.model(*given, **named)
        if self.program.trains:
            out = self.program.loss(out, target)
            out.backward()
        if self.optimizer is not None:
            self.optimizer.step()
            keep_promises()  # a loop that is followed is computed when somebody looks
            flush(self.parties.session)
        if self.opened:
            results = [x.detach() for x in tree_leaves(out) if isinstance(x, SecretTensor)]
            self.values = len(results)
            decrypt(results)
        return time.perf_counter() - start

    def begin(self, seconds: float) -> None:
        """Run once, and as often as a loop needs to be recorded, unless that takes more than so many seconds."""
        until = time.perf_counter() + seconds
        for _ in range(RECORDED):
            self.run()
            if time.perf_counter() > until:
                break

    def typical(self, seconds: float) -> float:
        """The median of runs for some seconds."""
        return median_of(self.run, seconds)


def median_of(run: Callable[[], float], seconds: float) -> float:
    """Of what it gives, called for so many seconds and `LEAST` times at least."""
    found: list[float] = []
    until = time.perf_counter() + seconds
    while len(found) < LEAST or time.perf_counter() < until:
        found.append(run())
    return statistics.median(found)


def _dealing(asked: Sequence[tuple[Request, Deal]], holders: int) -> float:
    """Seconds of the provider's kernels for what was asked for, once more on fresh keys."""
    keys = KeySet([fresh_key() for _ in range(holders)])
    begin = time.perf_counter()
    for request, answer in asked:
        answer(keys, torch.empty(request.words, dtype=torch.int64))
    return time.perf_counter() - begin


def estimate(
    model: nn.Module,
    example: Any,
    *,
    loss: Callable[..., Any] | None = None,
    target: Any = None,
    optimizer: Any = None,
    holders: tuple[str, ...] = ("alice", "bob"),
    protocol: str | Protocol | None = None,
    rounding: str | None = None,
    compare_bits: int | None = None,
    private_layers: Any = None,
    opened: bool = True,
    networks: tuple[Network, ...] = NETWORKS,
    seconds: float = 1.0,
) -> Estimate:
    """Rounds, bytes and time of a forward pass or, with a loss or an optimizer, of a training step.

    >>> print(sy.estimate(model, (x, y), loss=F.mse_loss, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)))

    model, example, loss, target, optimizer, holders, protocol, rounding, compare_bits, private_layers: as for
    `sy.check`.  opened: whether what the model gives, or the loss, is opened at the end.  networks: over which times
    are wanted, each `sy.Network(seconds one way, bytes per second)`.  seconds: for which runs are measured on this
    machine, a third of them each in one process, without tests of ranges, and on empty shares; at least 3 of each.
    With these come two to four runs to begin with, the provider's part, and half a second for what TLS takes.

    Rounds and bytes are those of a real run.  Times are as near as this machine's are from run to run; parties on
    other machines take what those take.  The model's and the example's values are shared in this process, which takes
    a step's memory; nothing is sent.  Raises what the program raises on secrets: see `sy.check` for all of it at once.
    """
    program = Example("estimate", model, example, loss, target, optimizer)
    count, settings = len(holders), {"protocol": protocol, "rounding": rounding, "compare_bits": compare_bits}
    # what it costs
    with plan(*holders, **settings) as planned:  # type: ignore[arg-type]
        dry = _Running(program, planned.parties, private_layers, opened)
        stats, recorder = planned.parties.stats, planned.parties.session.party.dealer
        assert isinstance(recorder, Recorder)
        first = spent = _counted(dry, stats)
        for _ in range(SETTLED):
            before, start = spent, len(recorder.requests)
            with Profile(show=False) as profile:
                spent = _counted(dry, stats)
            if spent == before:
                break
        asked = list(zip(recorder.requests, recorder.deals, strict=True))[start:]
        provider = min(_dealing(asked, count) for _ in range(2))
        python = dry.typical(seconds / 3)
    # what it takes
    together = _Running(program, virtual(*holders, **settings), private_layers, opened)  # type: ignore[arg-type]
    together.begin(seconds)
    whole = together.typical(seconds / 3)
    with Profile(show=False) as timed:
        together.run()
    # by operation, as the run on empty shares is
    unchecked = virtual(*holders, **settings, checked=False, eager=True)  # type: ignore[arg-type]
    plainly = _Running(program, unchecked, private_layers, opened)
    plainly.run()
    kernels = max(0.0, plainly.typical(seconds / 3) - python - provider)
    work = Work(whole, python, kernels / count, provider)
    return Estimate(
        spent, first, _rows(profile, timed, whole), work, measured_wire(), count, dry.values, tuple(networks)
    )


def _counted(running: _Running, stats: Stats) -> Stats:
    """What one more run costs; inputs are shared in it, which takes no round."""
    before = stats.copy()
    running.run()
    return stats - before


def _rows(counted: Profile, timed: Profile, whole: float) -> list[Row]:
    """By layer: what it costs, and its part of the whole time."""
    found = {row.layer: row.spent for row in counted.by("layer")}
    times = timed.by("layer")
    total = sum(row.seconds[0] for row in times)
    rows = [
        Row(row.layer, "", row.calls, [whole * row.seconds[0] / total], found.pop(row.layer, Stats())) for row in times
    ]
    return rows + [Row(layer, "", 0, [0.0], spent) for layer, spent in found.items()]


def cores() -> int:
    """Of this machine, as many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
