"""The closing table, and the same figures as JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from pysmpc import info
from pysmpc.demo.models import MODELS
from pysmpc.demo.settings import Settings
from pysmpc.demo.training import Fit


@dataclass(frozen=True)
class Figures:
    settings: Settings
    environment: info.Info
    encrypted: Fit
    plain: Fit


def gather(settings: Settings, encrypted: Fit, plain: Fit) -> Figures:
    return Figures(settings, info.gather(), encrypted, plain)


def ratios(figures: Figures) -> tuple[float, float]:
    """Encrypted to plain seconds a step, of medians and of means."""
    secret, plain = figures.encrypted.seconds, figures.plain.seconds
    return statistics.median(secret) / statistics.median(plain), statistics.fmean(secret) / statistics.fmean(plain)


def per_step(fit: Fit) -> dict[str, float]:
    """Seconds and messages of one step. Bytes are means: the first epoch opens the images under their masks and the
    others use those openings again. Rounds are the median: testing opens some weights before the next step does."""
    return {
        "median_seconds": statistics.median(fit.seconds),
        "mean_seconds": statistics.fmean(fit.seconds),
        "rounds": statistics.median(s.rounds for s in fit.stats),
        "bytes_sent_by_a_holder": statistics.fmean(s.sent for s in fit.stats),
        "bytes_sent_by_the_provider": statistics.fmean(s.dealt + s.answered for s in fit.stats),
    }


def table(figures: Figures) -> str:
    settings, secret, plain = figures.settings, figures.encrypted, figures.plain
    medians, means = ratios(figures)
    each, plain_each = per_step(secret), per_step(plain)

    def accuracy(correct: int, items: int) -> str:
        return f"{correct} ({100 * correct / items:.1f} %)"

    def milliseconds(seconds: float) -> str:
        return f"{1000 * seconds:.2f} ms"

    rows = [
        ("", "encrypted", "plain torch", "ratio"),
        (
            f"right of {settings.train_items} training items",
            accuracy(secret.train_correct, settings.train_items),
            accuracy(plain.train_correct, settings.train_items),
            "",
        ),
        (
            f"right of {settings.test_items} held-out items",
            accuracy(secret.test_correct[-1], settings.test_items),
            accuracy(plain.test_correct[-1], settings.test_items),
            "",
        ),
        (
            "a step, median",
            milliseconds(each["median_seconds"]),
            milliseconds(plain_each["median_seconds"]),
            f"{medians:.1f}",
        ),
        (
            "a step, mean",
            milliseconds(each["mean_seconds"]),
            milliseconds(plain_each["mean_seconds"]),
            f"{means:.1f}",
        ),
        ("all steps", f"{sum(secret.seconds):.2f} s", f"{sum(plain.seconds):.2f} s", ""),
        ("rounds a step", f"{each['rounds']:g}", "", ""),
        ("sent a step by a holder", f"{each['bytes_sent_by_a_holder'] / 1e6:.2f} MB", "", ""),
        ("sent a step by the provider", f"{each['bytes_sent_by_the_provider'] / 1e6:.2f} MB", "", ""),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    lines.insert(1, "-" * (sum(widths) + 6))
    return "\n".join(["", *lines, "", *setting(figures)])


def setting(figures: Figures) -> list[str]:
    """The setting that the figures hold for."""
    settings, environment = figures.settings, figures.environment
    encoding = settings.precision
    precision = f"2^-{encoding['frac_bits']}" if settings.decimals is None else f"10^-{settings.decimals}"
    protocol = "" if settings.protocol == "default" else f", protocol {settings.protocol}"
    protocol += f", integrity {settings.integrity}" if settings.integrity else ""
    loss = "squared error" if settings.loss == "mse" else "cross-entropy"
    dropout = f", dropout {settings.dropout:g}" if settings.dropout else ""
    loss += f" times {settings.scale}" if settings.scale != 1 else ""
    lines = [
        f"{MODELS[settings.model].title}, {settings.activation}, {loss}{dropout}, batches of {settings.batch_size}, "
        f"{settings.epochs} epochs, {settings.optimizer} {settings.rate:g}, precision {precision}, "
        f"seed {settings.seed}.",
        f"{', '.join(settings.holders)} and the crypto provider{protocol}, all in this process; "
        "no network in the times.",
        f"Kernels for {environment.target}, torch {environment.torch}, {environment.threads} threads for either. "
        "A step is forward, backward, update and opening the loss.",
    ]
    if settings.plaintext_model:
        lines.append("The model is public, the data secret: every step opens the gradients to the model's owner.")
    return lines


def as_json(figures: Figures) -> dict[str, object]:
    medians, means = ratios(figures)
    settings = asdict(figures.settings)
    del settings["json"]
    settings["lr"], settings["loss_scale"] = figures.settings.rate, figures.settings.scale
    settings["precision"] = figures.settings.precision
    settings["data"] = None if figures.settings.data is None else str(figures.settings.data)
    result: dict[str, object] = {
        "settings": settings,
        "environment": figures.environment._asdict(),
        "ratio_of_medians": medians,
        "ratio_of_means": means,
    }
    for name, fit in (("encrypted", figures.encrypted), ("plain", figures.plain)):
        result[name] = {
            "train_correct": fit.train_correct,
            "test_correct": fit.test_correct[-1],
            "test_correct_by_epoch": fit.test_correct,
            "step": per_step(fit),
            "losses": fit.losses,
            "seconds": fit.seconds,
        }
    return result


def write(figures: Figures, path: Path) -> None:
    path.write_text(json.dumps(as_json(figures), indent=1) + "\n", encoding="utf-8")
