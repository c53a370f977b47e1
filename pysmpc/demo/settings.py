"""What `pysmpc demo` can be told. Needs no torch, so that the command line can ask for it at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROTOCOLS = ("default", "fss", "snn")
PAIRS = ("fss", "snn")  # those for two holders
MODELS = ("mlp", "lenet", "resnet8")
ACTIVATIONS = ("relu", "square")
LOSSES = ("mse", "cross-entropy")
#: Optimizers with the rate that each takes unless it is told one.
RATES = {
    "sgd": 0.02,
    "momentum": 0.02,
    "adam": 1e-3,
    "adamw": 1e-3,
    "nadam": 2e-3,
    "radam": 1e-3,
    "adamax": 2e-3,
    "rmsprop": 1e-3,
    "adagrad": 0.01,
    "adadelta": 1.0,
    "rprop": 0.01,
}
DIGITS = 3  # decimal ones, of the article's settings
#: Binary ones, of all others.  The gradients of a deep network are sums over images of much smaller numbers.
BITS = {"mlp": 16, "lenet": 16, "resnet8": 22}
HOLDERS = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The defaults are the article's."""

    data: Path | None = None
    train_items: int = 640
    test_items: int = 640
    epochs: int = 20
    batch_size: int = 64
    model: str = "mlp"
    activation: str = "relu"
    loss: str = "mse"
    optimizer: str = "sgd"
    lr: float | None = None
    loss_scale: int | None = None
    dropout: float = 0.0
    seed: int = 1
    workers: int = 2
    protocol: str = "default"
    integrity: str | None = None
    plaintext_model: bool = False
    precision_fractional: int | None = None
    frac_bits: int | None = None
    json: Path | None = None
    rounds: int = 20
    owners: int = 10
    alpha: float = 0.5

    @property
    def holders(self) -> tuple[str, ...]:
        return HOLDERS[: self.workers]

    @property
    def rate(self) -> float:
        return RATES[self.optimizer] if self.lr is None else self.lr

    @property
    def scale(self) -> int:
        """By what the loss is multiplied before the backward pass, and the gradients divided after it.

        Gradients of a mean over images are so much smaller than an image's; a deep network rounds them often.
        """
        if self.loss_scale is not None:
            return self.loss_scale
        return 1 << (4 * self.batch_size).bit_length() - 1 if self.model == "resnet8" else 1

    @property
    def decimals(self) -> int | None:
        """Digits after the point; None where they are binary ones."""
        if self.frac_bits is not None:
            return None
        articles = (self.model, self.loss, self.optimizer) == ("mlp", "mse", "sgd")
        return DIGITS if self.precision_fractional is None and articles else self.precision_fractional

    @property
    def precision(self) -> dict[str, Any]:
        """The encoding, as keywords of `encrypt`, with `options`."""
        if self.decimals is None:
            return {"frac_bits": self.frac_bits or BITS[self.model], **self.options}
        return {"base": 10, "precision_fractional": self.decimals, **self.options}

    @property
    def options(self) -> dict[str, Any]:
        """What is detected, as keywords of `encrypt`."""
        return {"integrity": self.integrity} if self.integrity else {}
