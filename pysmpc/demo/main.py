"""From settings to figures: load, encrypt, train on secrets, train in plain, compare."""

from __future__ import annotations

import copy
from typing import NamedTuple

from torch import nn

import pysmpc as sy
from pysmpc.datasets import mnist
from pysmpc.demo import bars, report
from pysmpc.demo.models import MODELS
from pysmpc.demo.settings import Settings
from pysmpc.demo.training import Batch, Fit, PlainSide, SecretSide, Side, cut, fit, seeded


class Data(NamedTuple):
    train: list[Batch]
    test: list[Batch]


def load(settings: Settings) -> Data:
    items = mnist.load(settings.data, settings.train_items, settings.test_items)
    return Data(
        cut(items.train_images, items.train_labels, settings.batch_size),
        cut(items.test_images, items.test_labels, settings.batch_size),
    )


def encrypt(data: Data, parties: sy.Parties, settings: Settings) -> Data:
    """Every batch as secret shares. Holder k owns batches k, k + n, k + 2n, ... of the n holders' data and is the one
    who would call this for them; with alice and bob each owns half. A batch is shared once and serves every epoch."""

    def secret(batch: Batch) -> Batch:
        return Batch(
            sy.encrypt(batch.images, parties, **settings.precision),
            sy.encrypt(batch.targets, parties, **settings.precision),
            sy.encrypt(batch.labels, parties, **settings.options),
        )

    return Data([secret(batch) for batch in data.train], [secret(batch) for batch in data.test])


def initial(settings: Settings) -> nn.Module:
    with seeded(settings.seed):
        return MODELS[settings.model](settings.activation, settings.dropout)


def train(side: Side, model: nn.Module, data: Data, settings: Settings, *, title: str, verbose: bool) -> Fit:
    """`fit` under a progress bar, which stays away when stderr is not a terminal."""
    with bars.bar(settings.epochs * len(data.train), title, "step") as bar:

        def log(line: str) -> None:
            if verbose:
                bars.write(line)

        return fit(side, model, data.train, data.test, settings, log=log, tick=bar.update)


def main(settings: Settings) -> None:
    """Raises DatasetError for data that cannot be used, and OSError for a file of figures that cannot be written."""
    data = load(settings)
    model = initial(settings)
    parties = sy.virtual(*settings.holders, provider="crypto_provider", protocol=settings.protocol)
    secret_data = encrypt(data, parties, settings)
    secret_model = (
        copy.deepcopy(model) if settings.plaintext_model else sy.encrypt(model, parties, **settings.precision)
    )
    side = SecretSide(parties, plaintext_model=settings.plaintext_model)
    encrypted = train(side, secret_model, secret_data, settings, title="encrypted", verbose=True)
    plain = train(PlainSide(), model, data, settings, title="plain torch", verbose=False)

    figures = report.gather(settings, encrypted, plain)
    print(report.table(figures))
    if settings.json is not None:
        report.write(figures, settings.json)
