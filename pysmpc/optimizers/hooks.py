"""Where torch's optimizers find the rules for secrets: in the functions that compute their steps.

`Adam.step` collects parameters, gradients and state, and calls `torch.optim.adam.adam` with them; so do its kin.
That function is replaced by one which hands secrets to a rule, and everything else to the original.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pysmpc.ops.registering import plain_target
from pysmpc.optimizers.update_rules import RULES
from pysmpc.tensor.secret import SecretTensor

Rule = Callable[..., None]


def install() -> None:
    """Replace the functions of torch.optim for which there is a rule, wherever they are named."""
    places = [vars(m) for name, m in sys.modules.items() if name.startswith("torch.optim") and m is not None]
    for name, rule in RULES.items():
        original = getattr(sys.modules[f"torch.optim.{name}"], name)
        replacement = _asking(original, rule)
        for place in places:
            for key, value in place.items():
                if value is original:
                    place[key] = replacement


def _asking(original: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def step(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        params = bound.arguments["params"]
        secret = [isinstance(p, SecretTensor) for p in params]
        others = _part(bound.arguments, [i for i, is_secret in enumerate(secret) if not is_secret])
        _check_plain(others)
        if not any(secret):
            return original(*args, **kwargs)
        bound.apply_defaults()
        for group in _sessions(params):
            rule(**_part(bound.arguments, group))
        return original(**others) if others["params"] else None

    return step


def _check_plain(arguments: Mapping[str, Any]) -> None:
    """Raise for a public parameter with a secret gradient, before anything is computed."""
    if any(isinstance(g, SecretTensor) for g in arguments["grads"]):
        raise plain_target("an optimizer's step")


def _sessions(params: list[Any]) -> list[list[int]]:
    """Places of the secret parameters, those of one session together."""
    found: dict[int, list[int]] = {}
    for i, p in enumerate(params):
        if isinstance(p, SecretTensor):
            found.setdefault(id(p.session), []).append(i)
    return list(found.values())


def _part(arguments: Mapping[str, Any], places: list[int]) -> dict[str, Any]:
    """The arguments for some of the parameters.  Lists that are empty are of state that is not kept."""
    n = len(arguments["params"])

    def part(value: Any) -> Any:
        return [value[i] for i in places] if isinstance(value, list) and len(value) == n else value

    return {name: part(value) for name, value in arguments.items()}
