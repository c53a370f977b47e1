"""How secrets, parties and encrypted models are shown: one line in Python, a small table in Jupyter.

What is shown is public: shape, dtype, encoding, holders, bounds.  A value never is.
"""

from __future__ import annotations

import sys
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from pysmpc.session.session import Session


def encoding(secret: Any) -> str:
    """The fixed-point encoding of a secret, as a keyword of `sy.encrypt`; empty for integers and truth values."""
    unit = secret.unit
    if unit.scale == 1:
        return ""
    return f"frac_bits={unit.digits}" if unit.base == 2 else f"base={unit.base}, precision_fractional={unit.digits}"


def line(secret: Any) -> str:
    """A secret in torch's style: SecretTensor(..., size=(2, 3), frac_bits=16, holders=('alice', 'bob'), ...)."""
    session = secret.session
    parts = ["...", f"size={tuple(secret.shape)}"]
    if secret.dtype not in (torch.get_default_dtype(), torch.int64, torch.bool) or secret.unit.scale == 1:
        parts.append(f"dtype={secret.dtype}")
    parts += [text for text in (encoding(secret),) if text]
    parts += [f"holders={session.holders}", f"provider={session.provider!r}"]
    if secret.grad_fn is not None:
        parts.append(f"grad_fn=<{type(secret.grad_fn).__name__}>")
    elif secret.requires_grad:
        parts.append("requires_grad=True")
    return f"SecretTensor({', '.join(parts)})"


def rows(title: str, facts: dict[str, object]) -> str:
    """A table of two columns."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table><caption style='text-align:left'><b>{escape(title)}</b></caption>{cells}</table>"


def table(secret: Any) -> str:
    """A secret: what is public about it."""
    session, bound = secret.session, secret.cell.bound
    facts: dict[str, object] = {"shape": tuple(secret.shape), "dtype": secret.dtype}
    facts["encoding"] = encoding(secret) or "whole numbers"
    if session.plain:
        facts["held by"] = "this process, not shared"
    else:
        facts |= {"holders": ", ".join(session.holders), "crypto provider": session.provider}
    if bound is not None:
        facts["magnitude at most"] = f"{float(bound):.6g}"
    facts["requires grad"] = secret.requires_grad
    return rows("Parameter of shares" if getattr(secret, "_is_param", False) else "SecretTensor", facts)


def parties(session: Session) -> str:
    """The parties of a session, and what they have exchanged so far."""
    stats = session.stats
    return rows(
        "Parties",
        {
            "holders": ", ".join(session.holders),
            "crypto provider": session.provider,
            "protocol": session.suite.name,
            "this process": session.me or "all of them",
            "rounds": f"{stats.rounds:,}",
            "sent by a holder": f"{stats.sent:,} bytes",
            "sent by the provider": f"{stats.dealt:,} bytes",
        },
    )


def model(module: nn.Module) -> str | None:
    """A model with secret parameters, a row for each; None for others, which are shown as torch shows them."""
    named = list(module.named_parameters())
    if not any(hasattr(parameter, "cell") for _, parameter in named):
        return None
    facts: dict[str, object] = {}
    for name, parameter in named:
        secret = hasattr(parameter, "cell")
        shape = " x ".join(map(str, parameter.shape)) or "one number"
        facts[name] = f"{shape}, secret, {encoding(parameter)}" if secret else f"{shape}, public"
    return rows(type(module).__name__, facts)


def install() -> None:
    """Tell IPython, where this process is one, how encrypted models are shown."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        shell.display_formatter.formatters["text/html"].for_type(nn.Module, model)
