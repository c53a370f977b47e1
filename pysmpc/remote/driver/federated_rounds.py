"""Rounds of federated training with workers of other machines: the driver's end.

The model goes to owners who are holders of the session, or to clients who are none and leave shares with these.  Each
runs a task that she installed, and the sum of what they leave is opened to the driver, if all holders consent.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from pysmpc.api import decrypting
from pysmpc.errors import PartyError
from pysmpc.federated.clients import Answer, Ask
from pysmpc.federated.loops import Loop
from pysmpc.remote.arguments import NAMES, encode
from pysmpc.remote.program_messages import Collect, Invite, Plain


class RemoteClients:
    """Owners of remote parties, as a federation asks them.  outside: names of clients, who are no holders.

    task, score: names of tasks at every owner; the first returns the trained model, the second the means in `scores`.
    task may be a captured loop, which every owner repeats.
    """

    def __init__(
        self,
        parties: Any,
        owners: Sequence[str] | None,
        task: str | Loop,
        score: str | None,
        scores: Sequence[str],
        outside: Sequence[str] | None = None,
        secure: bool = True,
    ) -> None:
        if not secure:
            if outside is not None:
                raise TypeError("clients leave shares: secure=False is for owners who are holders")
            warnings.warn(
                "secure=False: this driver is sent each owner's update in the clear, where owners' files allow it, to "
                "measure against on data that are no secret",
                stacklevel=5,
            )
        self._clear = not secure
        self._parties, self._outside = parties, outside is not None
        self.names = list(parties.names if owners is None else owners) if outside is None else list(outside)
        if outside is not None:
            if owners is not None:
                raise TypeError("owners are holders, and clients are none: name one of the two")
            if within := [name for name in self.names if name in parties.names]:
                raise PartyError(f"{within[0]} is a holder of this session, and no client")
            if len(set(self.names)) != len(self.names):
                raise PartyError("each client may appear once in a federation")
        elif strangers := [name for name in self.names if name not in parties.names]:
            raise PartyError(f"{strangers[0]} is no holder of this session; {', '.join(parties.names)} are")
        self._task, self._score, self._means = task, score, list(scores)

    def scores(self, model: nn.Module) -> Mapping[str, tuple[int, ...]]:
        if self._score is None:
            raise TypeError("to evaluate, name a task that scores: Federation(parties, task=..., score=...)")
        return dict.fromkeys(self._means, ())

    def ask(self, model: nn.Module, ask: Ask) -> Answer:
        if ask.staying:
            raise NotImplementedError("what stays at an owner is her task's business: use another strategy than FedBN")
        parties, task = self._parties, self._task
        state = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
        double = any(value.dtype == torch.float64 for value in state.values())
        values = torch.cat(
            [value.reshape(-1).to(torch.float64 if double else torch.float32) for value in state.values()]
        )
        buffers: list[torch.Tensor] = []
        sent = encode(values, buffers)
        assert isinstance(sent, Plain)
        terms, before = ask.terms, sum(parties.traffic)

        def operation(slot: int) -> Collect:
            facts: dict[str, Any] = {
                "slot": slot,
                "owners": list(ask.chosen),
                "task": str(self._score) if not ask.update else task.name if isinstance(task, Loop) else task,
                "arguments": dict(ask.arguments),
                "names": list(state),
                "shapes": [list(value.shape) for value in state.values()],
                "dtypes": [NAMES[value.dtype] for value in state.values()],
                "values": sent,
                "gives": {name: list(shape) for name, shape in terms.shapes.items()},
                "less_start": ask.update,
                "max_norm": terms.max_norm,
                "max_value": terms.max_value,
                "max_rows": terms.max_rows,
                "deadline": ask.deadline or 0.0,
                "noise": terms.noise,
                "sharers": terms.sharers,
            }
            facts["clear"] = self._clear and ask.update
            if isinstance(task, Loop) and ask.update:
                facts["loop"] = task.program
                facts["arguments"]["shuffle"] = task.shuffle
            return Invite(**facts, minimum=ask.minimum) if self._outside else Collect(**facts)

        found, took_part = parties.recorder.collect(
            parties.session, terms, operation, buffers[0] if buffers else values, self._outside
        )
        ask.enough(took_part)
        words = found if self._clear and ask.update else decrypting.opened_words(found, "reveal")
        mean, rows = terms.mean(words)
        return Answer(mean, rows, took_part, sum(parties.traffic) - before)
