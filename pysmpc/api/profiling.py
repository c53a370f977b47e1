"""`sy.profile`: where a program on secrets spends time, rounds and bytes, and what a network would add.

Costs are taken around every operation, by difference of the session's counters; what one
operation causes in another (an update that waited, a nested operation) is counted once,
with the inner one.  Layers come from torch's module hooks; in the backward pass from the
sequence numbers that autograd gave to the nodes of the forward pass.
"""

from __future__ import annotations

import json
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._C import _autograd
from torch.nn.modules import module as hooks
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from pysmpc.session.session import Session
from pysmpc.session.stats import Stats
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.watching import WATCHERS
from pysmpc.torch_modes import keep_promises

CPU = 0.95e-9  # seconds of both ends' processors a byte over TLS


class Network(NamedTuple):
    """A network between parties.  one_way: delay in seconds.  rate: bytes per second."""

    one_way: float
    rate: float

    def seconds(self, spent: Stats) -> float:
        """Time for messages: rounds * one_way + bytes / rate + 0.95 ms of processor time per megabyte."""
        sent = spent.sent + spent.asked + spent.answered
        return spent.rounds * self.one_way + sent / self.rate + sent * CPU


LAN = Network(0.25e-3, 125e6)  # 0.5 ms there and back, 1 Gbit/s
WAN = Network(25e-3, 12.5e6)  # 50 ms there and back, 100 Mbit/s


@dataclass
class Row:
    """One operation in one layer.  seconds: of each process of the session, this one's first where it is alone."""

    layer: str
    operation: str
    calls: int = 0
    seconds: list[float] = field(default_factory=lambda: [0.0])
    spent: Stats = field(default_factory=Stats)

    def add(self, calls: int, seconds: Iterable[float], spent: Stats) -> None:
        """Count more of the same."""
        self.calls += calls
        self.seconds = [a + b for a, b in zip(self.seconds, seconds, strict=True)]
        self.spent = self.spent + spent


@dataclass
class _Frame:
    session: Session | None
    before: Stats
    start: float
    inner_seconds: float = 0.0
    inner: Stats = field(default_factory=Stats)


class Event(NamedTuple):
    """One operation as it ran: seconds since the beginning of the block, and what it took, inner ones included."""

    layer: str
    operation: str
    start: float
    seconds: float
    spent: Stats


class Profile:
    """The costs of a block of code.

    rows: one for each layer and operation, in order of first use.  stats: counters of all
    sessions that took part.  seconds: of the whole block.  parties: for whom the rows have
    times; one entry if all parties are in one process.
    """

    def __init__(self, lan: Network = LAN, wan: Network = WAN, show: bool = True) -> None:
        self.lan, self.wan, self.show = lan, wan, show
        self.rows: list[Row] = []
        self.events: list[Event] = []
        self.seconds = 0.0
        self._begin = 0.0
        self.parties: tuple[str, ...] = ("all",)
        self._rows: dict[tuple[str, str], Row] = {}
        self._frames: list[_Frame] = []
        self._layers: list[tuple[nn.Module, str]] = []
        self._paths: dict[int, str] = {}  # of modules and parameters, by id, under the root that is running
        self._changes: list[tuple[int, str]] = [(-1, "")]  # (sequence number, layer from there on)
        self._sessions: list[Session] = []
        self._undo: list[Callable[[], object]] = []
        self._thread = 0

    @property
    def stats(self) -> Stats:
        """The sum of the rows."""
        return sum((row.spent for row in self.rows), Stats())

    def __enter__(self) -> Profile:
        keep_promises()  # what came before is not part of it
        self._thread = threading.get_ident()
        self._undo = [
            hooks.register_module_forward_pre_hook(self._enter).remove,
            hooks.register_module_forward_hook(self._leave, always_call=True).remove,
            register_optimizer_step_pre_hook(self._step).remove,
            register_optimizer_step_post_hook(self._stepped).remove,
            lambda: WATCHERS.remove(self._watch),
        ]
        WATCHERS.append(self._watch)
        self._begin = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._begin
        for undo in self._undo:
            undo()
        self.rows = list(self._rows.values())
        outside = self.seconds - sum(row.seconds[0] for row in self.rows)
        self.rows.append(Row("", "outside of operations", 0, [outside]))
        if kind is None:
            self._compare()
            if self.show:
                print(self)

    def _compare(self) -> None:
        """Where parties are processes of their own, put their times side by side."""
        if any(session.recorder is not None for session in self._sessions):
            self.parties = ("driver",)
            return
        for session in self._sessions[:1]:
            mine = torch.tensor([int(1e9 * row.seconds[0]) for row in self.rows])
            said = session.gather(mine)
            if len(said) > 1:
                self.parties = (*session.holders, session.provider)
                for index, row in enumerate(self.rows):
                    row.seconds = [float(times[index]) / 1e9 for times in said]

    # --- where the program is

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        if not self._layers:
            for name, part in module.named_modules(remove_duplicate=False):
                self._paths[id(part)] = name or type(module).__name__
            for name, parameter in module.named_parameters():
                self._paths[id(parameter)] = name.rpartition(".")[0] or type(module).__name__
        self._layers.append((module, self._paths.get(id(module), type(module).__name__)))
        self._changed()

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() == self._thread and self._layers:
            self._layers.pop()
            self._changed()

    def _step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._layers.append((optimizer, type(optimizer).__name__))

    def _stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._layers.pop()

    def _changed(self) -> None:
        here = self._layers[-1][1] if self._layers else ""
        self._changes.append((_autograd._get_sequence_nr(), here))

    def layer(self) -> str:
        """The layer that the program is in, with " backward" in the backward pass."""
        node = torch._C._current_autograd_node()
        if node is None:
            return self._layers[-1][1] if self._layers else ""
        variable = getattr(node, "variable", None)
        if variable is not None:  # the end of the graph: a gradient is added to
            return f"{self._paths.get(id(variable), '')} backward".strip()
        found = self._changes[bisect_right(self._changes, node._sequence_nr(), key=lambda change: change[0]) - 1][1]
        return f"{found} backward".strip()

    # --- what it does

    def _watch(self, func: Any, args: Any, kwargs: Any) -> Callable[[Any], object] | None:
        if threading.get_ident() != self._thread:
            return None
        session = _session((*args, *kwargs.values()))
        if session is not None and session not in self._sessions:
            self._sessions.append(session)
        key = (self.layer(), func if isinstance(func, str) else str(func).split(".")[1])
        frame = _Frame(session, session.stats.copy() if session else Stats(), time.perf_counter())
        self._frames.append(frame)

        def done(out: Any) -> None:
            seconds = time.perf_counter() - frame.start
            spent = session.stats - frame.before if session else Stats()
            self._frames.pop()
            self.events.append(Event(*key, frame.start - self._begin, seconds, spent))
            if key not in self._rows:
                self._rows[key] = Row(*key)
            self._rows[key].add(1, [seconds - frame.inner_seconds], spent - frame.inner)
            if self._frames:
                self._frames[-1].inner_seconds += seconds
                self._frames[-1].inner = self._frames[-1].inner + spent

        return done

    # --- what is shown

    def by(self, *names: str) -> list[Row]:
        """Rows summed by "layer", by "operation", or by both, in the order in which they came."""
        if not names or set(names) - {"layer", "operation"}:
            raise ValueError(f"rows can be summed by 'layer' and 'operation', not by {', '.join(names) or 'nothing'}")
        found: dict[tuple[str, str], Row] = {}
        for row in self.rows:
            key = (row.layer if "layer" in names else "", row.operation if "operation" in names else "")
            if key not in found:
                found[key] = Row(*key, 0, [0.0] * len(row.seconds))
            found[key].add(row.calls, row.seconds, row.spent)
        return list(found.values())

    def total(self) -> Row:
        """The whole block."""
        whole = Row("total", "", 0, [0.0] * len(self.parties))
        for row in self.rows:
            whole.add(row.calls, row.seconds, row.spent)
        return whole

    def estimate(self, network: Network, row: Row | None = None) -> float:
        """Seconds on a network: the longest time of a party here, and what its messages take there."""
        row = row or self.total()
        return max(row.seconds) + network.seconds(row.spent)

    def table(self, *names: str) -> str:
        """Rows summed as by `by`, as text; those that cost neither rounds, bytes nor 1 % of the time in one line."""
        whole = self.total()
        shown, small = [], Row("", "(small)", 0, [0.0] * len(self.parties))
        for row in self.by(*names):
            if row.spent == Stats() and max(row.seconds) < 0.01 * max(whole.seconds):
                small.add(row.calls, row.seconds, row.spent)
            else:
                shown.append(row)
        times = [f"{party} ms" for party in self.parties] if len(self.parties) > 1 else ["ms"]
        head = ["layer", "operation", "calls", *times, "rounds", "kB sent", "kB dealt", "LAN ms", "WAN ms"]
        lines = [head] + [self._cells(row) for row in [*shown, *([small] if small.calls else []), whole]]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        left = 2
        text = [
            "  ".join(
                [*map(str.ljust, line[:left], widths[:left]), *map(str.rjust, line[left:], widths[left:])]
            ).rstrip()
            for line in lines
        ]
        rule = "-" * (sum(widths) + 2 * (len(head) - 1))
        return "\n".join([text[0], rule, *text[1:-1], rule, text[-1], *self._notes()])

    def __str__(self) -> str:
        return self.table("layer", "operation")

    def _repr_html_(self) -> str:
        """Bars: seconds, rounds and bytes of each layer, as parts of the whole."""
        whole = self.total()
        kinds: dict[str, Callable[[Row], float]] = {
            "ms": lambda row: 1e3 * max(row.seconds),
            "rounds": lambda row: row.spent.rounds,
            "kB sent": lambda row: (row.spent.sent + row.spent.asked + row.spent.answered) / 1e3,
        }
        lines = ["<tr><th>layer</th>" + "".join(f"<th>{kind}</th>" for kind in kinds) + "</tr>"]
        for row in self.by("layer"):
            cells = "".join(_bar(amount(row), amount(whole)) for amount in kinds.values())
            lines.append(f"<tr><td style='text-align:left'>{escape(row.layer or 'elsewhere')}</td>{cells}</tr>")
        return f"<table>{''.join(lines)}</table>"

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the operations as they ran, for `chrome://tracing` or Perfetto: JSON, times in microseconds.

        Of this process alone.  An event's arguments are its rounds and bytes, those of operations within it included.
        """
        events = [
            {
                "name": event.operation,
                "cat": event.layer or "elsewhere",
                "ph": "X",
                "ts": 1e6 * event.start,
                "dur": 1e6 * event.seconds,
                "pid": 0,
                "tid": 0,
                "args": {
                    "layer": event.layer,
                    "rounds": event.spent.rounds,
                    "sent_bytes": event.spent.sent,
                    "dealt_bytes": event.spent.dealt,
                },
            }
            for event in self.events
        ]
        Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))

    def _cells(self, row: Row) -> list[str]:
        spent = row.spent
        return [
            row.layer,
            row.operation,
            str(row.calls),
            *(f"{1e3 * seconds:.2f}" for seconds in row.seconds),
            str(spent.rounds),
            f"{(spent.sent + spent.asked + spent.answered) / 1e3:.1f}",
            f"{spent.dealt / 1e3:.1f}",
            f"{1e3 * self.estimate(self.lan, row):.2f}",
            f"{1e3 * self.estimate(self.wan, row):.2f}",
        ]

    def _notes(self) -> list[str]:
        where = {
            "all": "all parties, one after another in this process",
            "driver": "the driver, who waits for the workers only where something is opened",
        }.get(self.parties[0], "all parties, each in its own process")
        networks = ", ".join(
            f"{name} {1e3 * network.one_way:g} ms one way, {network.rate / 1e6:g} MB/s"
            for name, network in (("LAN", self.lan), ("WAN", self.wan))
        )
        return [f"ms: {where}. kB sent: by one holder. {networks}: estimates from ms, rounds and kB."]


def _bar(amount: float, whole: float) -> str:
    """A cell of a table with a bar behind its number."""
    part = 100 * amount / whole if whole else 0
    style = f"background:linear-gradient(90deg,#b2dfdb {part:.1f}%,transparent {part:.1f}%);text-align:right"
    return f"<td style='{style};min-width:8em'>{amount:.4g}</td>"


def profile(*, lan: Network = LAN, wan: Network = WAN, show: bool = True) -> Profile:
    """Profile a block: time, rounds and bytes by layer and operation, and estimates for networks.

    >>> with sy.profile() as profile:
    ...     loss = F.mse_loss(model(x), y)
    ...     loss.backward()
    ...     optimizer.step()
    ...     sy.decrypt(loss)

    A table is printed at the end of the block; with show=False only print(profile) shows it.
    lan, wan: two networks to estimate for, `sy.Network(seconds one way, bytes per second)`.
    Where every party is a process of its own, all enter the block at the same point, and the
    table has a column of times for each.
    """
    return Profile(lan, wan, show)


def _session(values: Iterable[Any]) -> Session | None:
    found: Session | None = None
    for value in values:
        if isinstance(value, Session):
            return value
        if isinstance(value, SecretTensor):
            found = value.session
        elif isinstance(value, list | tuple):
            found = _session(value) or found
        if found is not None and not found.plain:
            return found
    return found
