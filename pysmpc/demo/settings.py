"""What `pysmpc demo` can be told. Needs no torch, so that the command line can ask for it at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROTOCOLS = ("default", "fss", "snn")
PAIRS = ("fss", "snn")  # those for two holders
HOLDERS = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The defaults are the article's."""

    data: Path | None = None
    train_items: int = 640
    test_items: int = 640
    epochs: int = 20
    batch_size: int = 64
    lr: float = 0.02
    activation: str = "relu"
    seed: int = 1
    workers: int = 2
    protocol: str = "default"
    integrity: str | None = None
    plaintext_model: bool = False
    precision_fractional: int = 3
    frac_bits: int | None = None
    json: Path | None = None

    @property
    def holders(self) -> tuple[str, ...]:
        return HOLDERS[: self.workers]

    @property
    def precision(self) -> dict[str, Any]:
        """The encoding, as keywords of `encrypt`, with `options`."""
        if self.frac_bits is not None:
            return {"frac_bits": self.frac_bits, **self.options}
        return {"base": 10, "precision_fractional": self.precision_fractional, **self.options}

    @property
    def options(self) -> dict[str, Any]:
        """What is detected, as keywords of `encrypt`."""
        return {"integrity": self.integrity} if self.integrity else {}
