"""The demo with real parties: alice, bob and the crypto provider as processes of their own, over mutual TLS.

The holders load their own items from their own files; this process, the driver, sees neither an item nor a share.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pysmpc as sy
from pysmpc.datasets import idx, mnist
from pysmpc.demo import main as local
from pysmpc.demo.settings import Settings
from pysmpc.demo.training import Batch, Fit, PlainSide, SecretSide
from pysmpc.remote.driver.connect import RemoteParties
from pysmpc.remote.driver.remote_pointers import DataPointer
from pysmpc.remote.local_workers import LocalWorkers
from pysmpc.session.stats import Stats

DRIVER_LIMIT = 2_000_000  # bytes through the driver in all, with the default settings


class Outcome(NamedTuple):
    """Of the remote training and its twin in one process: results, messages, bytes to and from the driver."""

    remote: Fit
    local: Fit
    plain: Fit
    remote_stats: Stats
    local_stats: Stats
    traffic: int


def files(folder: Path, settings: Settings) -> dict[str, dict[str, Any]]:
    """Write each holder's items, batches k, k + n, k + 2n, ... for holder k of n, and say where they are."""
    where = mnist.SAMPLE if settings.data is None else settings.data
    found: dict[str, dict[str, Any]] = {name: {} for name in settings.holders}
    for kind, stem, items in (("train", "train", settings.train_items), ("test", "t10k", settings.test_items)):
        split = idx.read_split(where, stem)
        images, labels = split.images[:items], split.labels[:items]
        turns = np.arange(len(images)) // settings.batch_size % settings.workers
        for rank, name in enumerate(settings.holders):
            path = folder / f"{name}-{kind}.npz"
            np.savez(path, images=images[turns == rank], labels=labels[turns == rank])
            found[name][kind] = {"path": str(path), "tags": ["#mnist", f"#{kind}"]}
    return found


def batches(parties: RemoteParties, kind: str, settings: Settings) -> list[Batch]:
    """Every batch as secrets, shared by the holder who has its items."""
    owned = []
    for name in settings.holders:
        pointers = {p.name.split("/")[1]: p for p in parties[name].search("#mnist", f"#{kind}")}
        owned.append(_cut(parties, pointers["images"], pointers["labels"], settings))
    turns = max(len(each) for each in owned)
    return [each[turn] for turn in range(turns) for each in owned if turn < len(each)]


def _cut(parties: RemoteParties, images: DataPointer, labels: DataPointer, settings: Settings) -> list[Batch]:
    pixels = images.scale(1 / (255 * mnist.DEVIATION), -mnist.MEAN / mnist.DEVIATION)
    found = []
    for start in range(0, len(images), settings.batch_size):
        part = slice(start, start + settings.batch_size)
        found.append(
            Batch(
                sy.encrypt(pixels[part], parties, **settings.precision),
                sy.encrypt(labels.one_hot(mnist.CLASSES)[part], parties, **settings.precision),
                sy.encrypt(labels[part].long(), parties),
            )
        )
    return found


Start = Callable[..., LocalWorkers]


def run(settings: Settings, *, verbose: bool, start: Start = LocalWorkers) -> Outcome:
    """Train with processes, then the same program in this process.  start: of the workers."""
    model = local.initial(settings)
    with (
        tempfile.TemporaryDirectory() as folder,
        start(settings.holders, data=files(Path(folder), settings)) as workers,
        workers.connect() as parties,
    ):
        data = local.Data(batches(parties, "train", settings), batches(parties, "test", settings))
        secret = sy.encrypt(model, parties, **settings.precision)
        side = SecretSide(parties, plaintext_model=False)
        remote = local.train(side, secret, data, settings, title="four processes", verbose=verbose)
        remote_stats, traffic = parties.stats.copy(), sum(parties.traffic)

    parties_here = sy.virtual(*settings.holders, provider="crypto_provider")
    data = local.encrypt(local.load(settings), parties_here, settings)
    secret = sy.encrypt(model, parties_here, **settings.precision)
    side = SecretSide(parties_here, plaintext_model=False)
    twin = local.train(side, secret, data, settings, title="one process", verbose=False)
    plain = local.train(PlainSide(), model, local.load(settings), settings, title="plain torch", verbose=False)
    return Outcome(remote, twin, plain, remote_stats, parties_here.stats.copy(), traffic)


def table(outcome: Outcome, settings: Settings) -> str:
    """What came of it."""
    fits = (outcome.remote, outcome.local, outcome.plain)

    def row(text: str, *columns: object) -> str:
        return f"{text:<36}" + "".join(f"{column:>16}" for column in columns)

    seconds = [statistics.median(fit.seconds) for fit in fits]
    here, there = outcome.local_stats, outcome.remote_stats
    return "\n".join(
        [
            "",
            row("", f"{settings.workers + 2} processes", "one process", "plain torch"),
            row(f"right of {settings.train_items} training items", *(fit.train_correct for fit in fits)),
            row(f"right of {settings.test_items} held-out items", *(fit.test_correct[-1] for fit in fits)),
            row("a step, median", *(f"{1000 * each:.2f} ms" for each in seconds)),
            row("to plain torch", *(f"{each / seconds[2]:.1f}" for each in seconds[:2])),
            row("rounds", there.rounds, here.rounds),
            row("bytes sent by a holder", there.sent, here.sent),
            row("bytes dealt by the provider", there.dealt, here.dealt),
            row("bytes through the driver", outcome.traffic),
            "",
            "TLS 1.3, mutual; each holder shared her own items; the driver's bytes are its program, the initial model "
            "and what was opened to it. A round more for each opening: the holders agree first.",
        ]
    )


def main(settings: Settings, start: Start = LocalWorkers) -> int:
    """Exit status 1 where a count differs or too much passed the driver."""
    outcome = run(settings, verbose=True, start=start)
    print(table(outcome, settings))
    here, there = outcome.local_stats, outcome.remote_stats
    consent = there.rounds - here.rounds  # a round of one word for each opening
    sent = here.sent + 8 * (settings.workers - 1) * consent
    same = consent >= 0 and (sent, here.dealt) == (there.sent, there.dealt)
    default = settings.epochs <= Settings().epochs and settings.train_items <= Settings().train_items
    return 0 if same and (outcome.traffic <= DRIVER_LIMIT or not default) else 1
