"""The federated demo: MNIST split among owners, trained where it is, and the same in plain torch.

Every owner has classes of her own (Dirichlet).  Three trainings from one start: updates as shares, updates in the
clear, and federated averaging written out in plain torch.  With `--remote`, three owners are processes of their own,
over mutual TLS, and the aggregator is this one; with `--in-the-clear`, also without secure aggregation, round by round
in turn.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import pysmpc as sy
from pysmpc.datasets import idx, mnist
from pysmpc.demo import bars
from pysmpc.demo.installed import BATCH
from pysmpc.demo.main import initial
from pysmpc.demo.settings import Settings
from pysmpc.federated import Round, dirichlet, score, train
from pysmpc.federated.splits import TAGS
from pysmpc.remote.driver.connect import RemoteParties
from pysmpc.remote.local_workers import LocalWorkers

LR = 0.1
REMOTE_OWNERS = ("alice", "bob", "carol")
SHARED, CLEAR = "as shares", "in the clear"
PATIENCE = 60.0  # seconds without a heartbeat
APART, TLS = "three processes", "in the clear, TLS"
Rows = list[tuple[Tensor, Tensor]]


class Outcome(NamedTuple):
    """Of one training: what is known of each round, and how many held-out items are right."""

    rounds: list[Round]
    correct: int


def split(labels: Tensor, owners: int, settings: Settings) -> list[Tensor]:
    """Numbers of each owner's items."""
    least = min(BATCH, max(1, len(labels) // owners // 2))
    return dirichlet(labels, owners, settings.alpha, least)


def correct(model: nn.Module, items: mnist.Mnist) -> int:
    found = score(model, items.test_images, items.test_labels)
    return round(float(found["accuracy"]) * len(items.test_labels))


def arguments(settings: Settings) -> dict[str, Any]:
    return {"lr": LR if settings.lr is None else settings.lr, "batch_size": BATCH}


def here(rows: Rows, start: nn.Module, items: mnist.Mnist, settings: Settings) -> dict[str, Outcome]:
    """With virtual workers: updates as shares, and in the clear, by turns, to compare times."""
    hook = sy.TorchHook(torch)
    try:
        workers = []
        for place, (images, labels) in enumerate(rows):
            worker = sy.VirtualWorker(hook, id=f"owner{place}").clear_objects()
            assert worker is not None
            worker.load_data([images.clone().tag(TAGS[0]), labels.clone().tag(TAGS[1])])  # type: ignore[attr-defined]
            workers.append(worker)
        models, rounds, feds = {}, {}, {}
        for name in (SHARED, CLEAR):
            models[name], rounds[name] = copy.deepcopy(start), list[Round]()
            feds[name] = sy.Federation(
                workers, arguments=arguments(settings), secure=name == SHARED, holders=workers[:3]
            )
        with bars.bar(settings.rounds, "as shares, and in the clear", "round") as bar:
            for _ in range(settings.rounds):
                for name, fed in feds.items():
                    rounds[name] += fed.fit(models[name])
                bar.update()
        return {name: Outcome(rounds[name], correct(model, items)) for name, model in models.items()}
    finally:
        hook.unhook()


def plain(rows: Rows, model: nn.Module, items: mnist.Mnist, settings: Settings) -> int:
    """Federated averaging in plain torch."""
    count = sum(len(labels) for _, labels in rows)
    for _ in range(settings.rounds):
        mean = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
        for images, labels in rows:
            own = copy.deepcopy(model)
            train(own, images, labels, **arguments(settings))
            for name, value in own.state_dict().items():
                mean[name] += value * (len(labels) / count)
        model.load_state_dict(mean)
    return correct(model, items)


def there(
    start: nn.Module, items: mnist.Mnist, parts: list[Tensor], settings: Settings, in_the_clear: bool
) -> dict[str, Outcome]:
    """With three processes.  in_the_clear: also without shares, by turns, which the owners' files allow then."""
    where = mnist.SAMPLE if settings.data is None else settings.data
    raw = idx.read_split(where, "train")
    options: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in zip(REMOTE_OWNERS, parts, strict=True):
            path = Path(folder) / f"{name}.npz"
            np.savez(path, images=raw.images[rows.numpy()], labels=raw.labels[rows.numpy()])
            task = {"function": "pysmpc.demo.installed:fit", "min_owners": 3}
            options[name] = {
                "data": {"train": {"path": str(path)}},
                "tasks": {"fit": task} | ({"alone": {**task, "in_the_clear": True}} if in_the_clear else {}),
                "drivers": {"scientist": ["compute", "open", "task:fit", *["task:alone"] * in_the_clear]},
            }
        with LocalWorkers(REMOTE_OWNERS, options=options) as workers, patient(workers) as parties:
            given = {"lr": float(arguments(settings)["lr"]), "model": settings.model}
            feds = {APART: sy.Federation(parties, task="fit", arguments=given)}
            if in_the_clear:
                feds[TLS] = sy.Federation(parties, task="alone", arguments=given, secure=False)
            models, rounds = {name: copy.deepcopy(start) for name in feds}, {name: list[Round]() for name in feds}
            with bars.bar(settings.rounds, APART, "round") as bar:
                for _ in range(settings.rounds):
                    for name, fed in feds.items():
                        rounds[name] += fed.fit(models[name])
                    bar.update()
            return {name: Outcome(rounds[name], correct(model, items)) for name, model in models.items()}


def patient(workers: LocalWorkers) -> RemoteParties:
    """All processes train on one machine at once: who is slow is not lost.  Who ends is known by the connection."""
    workers.config.silence = PATIENCE
    return workers.connect()


def main(settings: Settings, *, remote: bool = False, in_the_clear: bool = False) -> int:
    """Exit status 1 where accuracy is more than half a point below that of plain torch, on enough items to tell."""
    items = mnist.load(settings.data, settings.train_items, settings.test_items)
    parts = split(items.train_labels, len(REMOTE_OWNERS) if remote else settings.owners, settings)
    rows = [(items.train_images[part], items.train_labels[part]) for part in parts]
    start = initial(settings)
    outcomes: dict[str, Outcome] = {}
    if remote:
        outcomes |= there(start, items, parts, settings, in_the_clear)
    outcomes |= here(rows, start, items, settings)
    expected = plain(rows, copy.deepcopy(start), items, settings)
    print(table(outcomes, expected, [len(part) for part in parts], settings))
    worst = min(outcome.correct for outcome in outcomes.values())
    enough = settings.test_items >= 5000
    return 0 if not enough or expected - worst <= settings.test_items / 200 else 1


def table(outcomes: dict[str, Outcome], expected: int, counts: list[int], settings: Settings) -> str:
    """What came of it."""

    def row(text: str, *columns: object) -> str:
        return f"{text:<34}" + "".join(f"{column:>20}" for column in columns)

    times = {name: [r.seconds for r in outcome.rounds] for name, outcome in outcomes.items()}
    seconds = {name: statistics.median(each) for name, each in times.items()}
    # of pairs of rounds that ran one after the other; a machine's other work slows both
    beside = {name: times[TLS if TLS in times and name in (TLS, APART) else CLEAR] for name in times}
    ratios = [statistics.median(a / b for a, b in zip(times[name], beside[name], strict=True)) for name in times]
    sent = {name: statistics.median([r.sent for r in outcome.rounds]) for name, outcome in outcomes.items()}
    return "\n".join(
        [
            "",
            f"{len(counts)} owners of {min(counts)} to {max(counts)} items, Dirichlet({settings.alpha:g}); FedAvg, "
            f"{settings.rounds} rounds of one epoch",
            "",
            row("", *outcomes, "plain torch"),
            row(
                f"right of {settings.test_items} held-out items",
                *(outcome.correct for outcome in outcomes.values()),
                expected,
            ),
            row("a round, median", *(f"{each:.2f} s" for each in seconds.values())),
            row("to updates in the clear", *(f"{each:.2f}" for each in ratios)),
            row("bytes of updates a round", *(f"{each:,.0f}" for each in sent.values())),
            "",
            "As shares: each update is clipped and shared by its owner among three holders, and the sum alone is "
            "opened.",
        ]
    )
