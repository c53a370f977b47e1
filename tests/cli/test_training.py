"""The training loop of the demo on plain tensors, where it is ordinary torch."""

from dataclasses import replace

import pytest
import torch

import pysmpc as sy
from pysmpc.datasets import mnist
from pysmpc.demo.main import Data, encrypt, initial, load
from pysmpc.demo.settings import Settings
from pysmpc.demo.training import PlainSide, SecretSide, cut, fit


def train(settings, lines=None, ticks=None, rows=slice(None)):
    """rows: of the images."""
    data = mnist.load(None, settings.train_items, settings.test_items)
    model = initial(settings)
    result = fit(
        PlainSide(),
        model,
        cut(data.train_images[..., rows, :], data.train_labels, settings.batch_size),
        cut(data.test_images[..., rows, :], data.test_labels, settings.batch_size),
        settings,
        log=(lines if lines is not None else []).append,
        tick=lambda: ticks.append(1) if ticks is not None else None,
    )
    return model, result


def test_the_articles_settings_learn():
    _, result = train(Settings())
    assert result.train_correct >= 595
    assert result.test_correct[-1] >= 490
    assert len(result.losses) == 200


@pytest.mark.parametrize("activation", ["relu", "square"])
def test_the_seed_decides_everything(activation):
    settings = Settings(train_items=100, test_items=10, epochs=2, batch_size=30, activation=activation, seed=3)
    (one, first), (two, second) = train(settings), train(settings)
    assert first.losses == second.losses
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    other = train(Settings(train_items=100, test_items=10, epochs=2, batch_size=30, activation=activation, seed=4))[1]
    assert first.losses != other.losses


@pytest.mark.parametrize(
    "options",
    [
        {"model": "mlp", "loss": "cross-entropy", "lr": 0.01, "dropout": 0.3},
        {"model": "mlp", "loss": "cross-entropy", "optimizer": "adam"},
        {"model": "lenet", "lr": 0.01},
        {"model": "resnet8", "loss": "cross-entropy", "lr": 0.01},
        {"model": "lstm", "loss": "cross-entropy", "optimizer": "adam"},
        {"model": "transformer", "loss": "cross-entropy", "optimizer": "adam"},
    ],
    ids=lambda options: " ".join(str(value) for value in options.values()),
)
def test_models_on_plain_tensors_and_on_secrets(options):
    """One step of few items, the loss before it and the one after it."""
    settings = Settings(train_items=6, test_items=2, epochs=2, batch_size=6, **options)
    rows = slice(10, 18) if settings.model == "lstm" else slice(None)  # it takes images row by row
    _, plain = train(settings, rows=rows)
    parties = sy.virtual("alice", "bob")
    batches = [[each._replace(images=each.images[..., rows, :]) for each in some] for some in load(settings)]
    data = encrypt(Data(*batches), parties, settings)
    secret = sy.encrypt(initial(settings), parties, **settings.precision)
    side = SecretSide(parties, plaintext_model=False)
    found = fit(side, secret, data.train, data.test, settings, log=lambda line: None, tick=lambda: None)
    assert found.losses == pytest.approx(plain.losses, rel=2**-8)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_scaled_loss_trains_the_same(optimizer):
    """Powers of two are exact in floats: the same losses and the same weights, to the bit."""
    settings = Settings(train_items=60, test_items=10, epochs=2, batch_size=20, optimizer=optimizer)
    (one, first), (two, second) = train(settings), train(replace(settings, loss_scale=256))
    assert first.losses == second.losses
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("model", ["mlp", "lenet", "resnet8", "lstm", "transformer"])
def test_what_is_dropped_follows_from_the_seed(model):
    settings = Settings(train_items=12, test_items=4, epochs=3, batch_size=12, model=model, dropout=0.5)
    losses = [train(each)[1].losses for each in (settings, settings, replace(settings, dropout=0.0))]
    assert losses[0] == losses[1] != losses[2]


def test_initial_weights_leave_torchs_generator_alone():
    before = torch.get_rng_state()
    initial(Settings())
    assert torch.equal(before, torch.get_rng_state())


def test_lines_are_the_articles():
    lines, ticks = [], []
    train(Settings(train_items=128, test_items=64, epochs=1), lines, ticks)
    first, second, accuracy = lines
    assert first.startswith("Train Epoch: 1 [0/128 (0%)]\tLoss: ")
    assert second.startswith("Train Epoch: 1 [64/128 (50%)]\tLoss: ")
    assert second.endswith("s")
    assert accuracy.startswith("\nTest set: Accuracy: ")
    assert accuracy.endswith("%)\n")
    assert len(ticks) == 2


def test_batches_cover_the_items_in_order():
    data = mnist.load(None, 100, 1)
    batches = cut(data.train_images, data.train_labels, 32)
    assert [len(batch.labels) for batch in batches] == [32, 32, 32, 4]
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.train_labels)
    assert all(torch.equal(batch.targets.argmax(1), batch.labels) for batch in batches)
