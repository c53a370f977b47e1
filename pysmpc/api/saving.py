"""`sy.save` and `sy.load`: training that goes on after any or all processes were restarted.

Every holder writes its own shares to its own folder, `run1/alice`, and reads them there;
no share leaves its holder and nothing is opened.  A checkpoint counts once all have it.
Workers on other machines do so on theirs: `pysmpc.remote.driver.remote_checkpoints`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pysmpc.errors import CheckpointError, PartyError, SessionMismatchError
from pysmpc.ring.fixedpoint import kept
from pysmpc.ring.shares import Share
from pysmpc.session import checkpoint_files
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import Estimate, flush
from pysmpc.torch_modes import undisturbed

OFFERED = 4  # checkpoints of each party that are considered
DTYPES = {
    str(d): d
    for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64, torch.bool)
}


@undisturbed
def save(model: nn.Module, optimizer: torch.optim.Optimizer | None, folder: str | Path, **public: Any) -> None:
    """Write the secrets of a model and its optimizer, each holder's shares to a folder of its own.

    folder: `folder/alice/...` for each holder of this process (mode 0600).  A provider that is
    a process of its own keeps public facts: shapes, scales, settings of the optimizer.
    public: more to keep, as JSON, such as epoch=3.  All processes call this at the same
    point.  Masks and openings are not kept: keys are new after a restart, and a value under
    a fresh mask reveals no more than before.  Where ranges are tested by protocol, open some
    value after the last step first, as outcomes of tests are opened together with values.

    The previous checkpoint is removed once every party has the new one.  No round, except
    for updates that are still pending.  Where a party cannot write, raises CheckpointError
    and keeps the previous checkpoint.
    """
    session = _session(model, optimizer)
    flush(session)
    _check_tested(session)
    writer = _Writer(session)
    facts: dict[str, Any] = {
        "holders": list(session.holders),
        "model": {name: writer.of(value, f"model.{name}") for name, value in _tensors(model).items()},
        "optimizer": None,
        "public": writer.of(public, "public"),
    }
    if optimizer is not None:
        facts["optimizer"] = {
            "class": type(optimizer).__qualname__,
            "state": writer.of(optimizer.state_dict(), "optimizer"),
        }
    if session.recorder is not None:
        plain = {key: words.contiguous() for key, (words, secret) in writer.tensors.items() if not secret}
        session.recorder.checkpoints.save(Path(folder), facts, writer.secrets, plain)
        return
    folders = _folders(session, folder)
    serial = 1 + max(
        (checkpoint_files.serial_of(known) for f in folders.values() for known in checkpoint_files.known(f)), default=0
    )
    said = session.gather(torch.tensor([serial, secrets.randbits(63), _digest(facts)]))
    _same(session, [int(row[2]) for row in said], "what they are to save")
    name = checkpoint_files.new_id(
        max(int(row[0]) for row in said), b"".join(row[1:2].numpy().tobytes() for row in said)
    )

    def write() -> None:
        for row, (party, place) in enumerate(folders.items()):
            tensors = {key: (words[row] if secret else words) for key, (words, secret) in writer.tensors.items()
                       if session.party.rows or not secret}  # fmt: skip
            checkpoint_files.write(
                place, name, party, facts, {key: words.contiguous() for key, words in tensors.items()}
            )

    try:
        _all(session, write)
    except BaseException as error:
        if isinstance(error, Exception):
            for place in folders.values():
                checkpoint_files.remove(place, name)
        raise
    for place in folders.values():
        checkpoint_files.keep_only(place, name)


def _check_tested(session: Session) -> None:
    """Raise CheckpointError while it is open whether the state is right: who loads it would not be told."""
    if session.flags is not None:
        session.flags.check()
        if session.flags.pending:
            raise CheckpointError(
                "ranges were tested in this session, and what came of it is not open yet: open a value, such as the "
                "loss, and save then"
            )


@undisturbed
def load(model: nn.Module, optimizer: torch.optim.Optimizer | None, folder: str | Path) -> dict[str, Any]:
    """Restore what `save` wrote into a model and its optimizer; returns the `public` values.

    model: encrypted among the same holders; its values are replaced.  optimizer: of the same
    class, for the model's parameters, or None if none was saved.  Uses the newest checkpoint
    that all parties have.  No round, and nothing is opened; the shares are bit for bit those
    that were saved.

    Raises CheckpointError, and leaves model and optimizer unchanged, if a party has no
    checkpoint, files are damaged, parts are of different runs, or holders or model are others.
    """
    session = _session(model, optimizer)
    flush(session)
    state = (_read if session.recorder is None else _recall)(session, model, optimizer, folder)
    targets = _tensors(model)
    for key, value in state["model"].items():
        if isinstance(value, SecretTensor):
            targets[key].data = value
        else:
            targets[key].data.copy_(value)
    if optimizer is not None:
        optimizer.load_state_dict(state["optimizer"])
    public: dict[str, Any] = state["public"]
    return public


def _read(
    session: Session, model: nn.Module, optimizer: torch.optim.Optimizer | None, folder: str | Path
) -> dict[str, Any]:
    """The state in the folders of this process's parties."""
    folders = _folders(session, folder)
    name = _newest(session, folders)
    state: dict[str, Any] = {}
    digests: list[int] = []

    def read() -> None:
        parts = [checkpoint_files.read(place, name, party) for party, place in folders.items()]
        facts = parts[0][0]
        digests.extend({_digest(other) for other, _ in parts})
        if len(digests) > 1:
            raise CheckpointError(f"the parties' parts of checkpoint {name} do not fit each other")
        _check(session, facts, model, optimizer)
        state.update(_Reader(session, [tensors for _, tensors in parts]).state(facts, optimizer))

    _all(session, read)
    _same(session, [int(row[0]) for row in session.gather(torch.tensor(digests))], "checkpoints")
    return state


def _recall(
    session: Session, model: nn.Module, optimizer: torch.optim.Optimizer | None, folder: str | Path
) -> dict[str, Any]:
    """The state whose public part is in the driver's folder, and whose shares are at the workers."""
    checkpoints, made = session.recorder.checkpoints, {}
    facts, plain = checkpoints.find(Path(folder))
    try:
        _check(session, facts, model, optimizer)
        reader = _Reader(session, [plain])
        state = reader.state(facts, optimizer)
        made = reader.made
    finally:
        checkpoints.restore(session, made)
    return state


class _Writer:
    """Turns a state into facts for JSON, and collects its tensors under their names.

    A tensor becomes {"secret" or "plain": name, ...}; other objects than tensors, numbers,
    strings, lists, tuples and dicts are refused.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: dict[tuple[int, object], dict[str, Any]] = {}
        self.tensors: dict[str, tuple[torch.Tensor, bool]] = {}
        self.secrets: dict[str, SecretTensor] = {}

    def of(self, value: Any, path: str) -> Any:
        """The facts of a value at a path."""
        if isinstance(value, SecretTensor):
            return self._secret(value, path)
        if isinstance(value, torch.Tensor):
            self.tensors[path] = (value.detach().clone(), False)
            return {"plain": path, "shape": list(value.shape), "dtype": str(value.dtype)}
        if isinstance(value, dict):
            return {"items": [[self.of(k, path), self.of(v, f"{path}.{k}")] for k, v in value.items()]}
        if isinstance(value, list | tuple):
            return {type(value).__name__: [self.of(v, f"{path}.{i}") for i, v in enumerate(value)]}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise CheckpointError(f"{path} is a {type(value).__name__}, which a checkpoint cannot hold")

    def _secret(self, value: SecretTensor, path: str) -> dict[str, Any]:
        if value.session is not self._session:
            raise SessionMismatchError(
                f"{path} is held by {value.session!r}, the model by {self._session!r}; a checkpoint is of one session"
            )
        share = value.detach().window()
        same = (id(share.body), share.layout)
        if same not in self._seen:
            unit = value.unit
            self._seen[same] = {
                "secret": path, "shape": list(value.shape), "dtype": str(value.dtype),
                "scale": share.scale, "unit": [unit.base, unit.digits],
            }  # fmt: skip
            bound = value.cell.bound
            if bound is not None:
                self._seen[same]["bound"] = [float(bound), type(bound) is Estimate]
            self.tensors[path] = (share.words(), True)
            self.secrets[path] = value
        return self._seen[same]


class _Reader:
    """Builds a state from facts and the tensors of the hosted parties."""

    def __init__(self, session: Session, parts: list[dict[str, torch.Tensor]]) -> None:
        self._session = session
        self._parts = parts
        self.made: dict[str, SecretTensor] = {}

    def state(self, facts: dict[str, Any], optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
        """Of the model, of an optimizer that it fits, and what was public."""
        state = {
            "model": {key: self.of(fact) for key, fact in facts["model"].items()},
            "optimizer": self.of(facts["optimizer"]["state"]) if facts["optimizer"] else None,
            "public": self.of(facts["public"]),
        }
        _check_groups(optimizer, state["optimizer"])
        return state

    def of(self, fact: Any) -> Any:
        """The value that facts stand for."""
        if not isinstance(fact, dict):
            return fact
        if "secret" in fact:
            return self._secret(fact)
        if "plain" in fact:
            return self._parts[0][fact["plain"]]
        if "items" in fact:
            return {self.of(key): self.of(value) for key, value in fact["items"]}
        [(kind, values)] = fact.items()
        return {"list": list, "tuple": tuple}[kind](self.of(value) for value in values)

    def _secret(self, fact: dict[str, Any]) -> SecretTensor:
        path = fact["secret"]
        if path not in self.made:
            shape = tuple(fact["shape"])
            if self._session.party.rows:
                words = torch.stack([part[path] for part in self._parts])
            else:
                words = torch.empty((0, torch.Size(shape).numel()), dtype=torch.int64)
            share = Share.of(words, shape, fact["scale"])
            made = SecretTensor.of(share, self._session, kept(*fact["unit"]), DTYPES[fact["dtype"]])
            bound, estimate = fact.get("bound", (None, False))
            made.cell.bound = Estimate(bound) if estimate else bound
            self.made[path] = made
        return self.made[path]


def _session(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Session:
    found = next((v.session for v in _tensors(model).values() if isinstance(v, SecretTensor)), None)
    if found is None or found.plain:
        raise PartyError("this model has no secret parameters; encrypt it first: model = sy.encrypt(model, parties)")
    if not found.suite.storable:
        raise NotImplementedError(
            'checkpoints of secrets under integrity="mac" are not available: their codes are of a key that ends with '
            "the session; save what sy.decrypt gives, or leave integrity out"
        )
    if optimizer is not None:
        ours = {id(p) for p in model.parameters()}
        if any(id(p) not in ours for group in optimizer.param_groups for p in group["params"]):
            raise CheckpointError("the optimizer is of other parameters than the model's")
    return found


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = model.state_dict(keep_vars=True)
    for name, value in found.items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{name} is a {type(value).__name__} (extra state of a module), which is not saved")
    return found


def _folders(session: Session, folder: str | Path) -> dict[str, Path]:
    """By party of this process."""
    parties = [session.holders[rank] for rank in session.party.ranks] or [session.provider]
    return {party: Path(folder) / party for party in parties}


def _digest(facts: Any) -> int:
    return int.from_bytes(hashlib.sha256(checkpoint_files.canonical(facts)).digest()[:8], "little") >> 1


def _same(session: Session, values: list[int], what: str) -> None:
    if len(set(values)) > 1:
        raise CheckpointError(f"the parties ({', '.join((*session.holders, session.provider))}) differ in {what}")


def _all(session: Session, work: Callable[[], None]) -> None:
    """Do something in every process; if it fails in one, it has failed in all."""
    failure: CheckpointError | None = None
    try:
        work()
    except CheckpointError as error:
        failure = error
    said = session.gather(torch.tensor([failure is None]).long())
    if failure is not None:
        raise failure
    names = (*session.holders, session.provider)
    bad = [names[i] for i, row in enumerate(said) if not int(row[0])]
    if bad:
        raise CheckpointError(f"{', '.join(bad)} failed, and so nobody went on; see the error of that process")


def _newest(session: Session, folders: dict[str, Path]) -> str:
    """The newest checkpoint that all parties have."""
    offers = {party: checkpoint_files.known(place)[-OFFERED:] for party, place in folders.items()}
    common = [name for name in next(iter(offers.values())) if all(name in offer for offer in offers.values())]
    # every process says how many it has and which its parties have in common
    row = [min(map(len, offers.values())), *(int(name[9:], 16) >> 1 for name in common)]
    said = session.gather(torch.tensor(row + [-1] * (OFFERED + 1 - len(row))))
    everywhere = [n for n in common if all(int(n[9:], 16) >> 1 in other[1:].tolist() for other in said)]
    if everywhere:
        return everywhere[-1]
    names = list(offers) if len(said) == 1 else [*session.holders, session.provider]
    counts = [len(offer) for offer in offers.values()] if len(said) == 1 else [int(other[0]) for other in said]
    missing = [name for name, count in zip(names, counts, strict=True) if not count]
    if missing:
        raise CheckpointError(f"no checkpoint of {', '.join(missing)} in {next(iter(folders.values())).parent}")
    raise CheckpointError(
        f"the parties have checkpoints of different runs and none in common ({', '.join(names)}): "
        "give each its folder of the same run"
    )


def _check(session: Session, facts: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """Raise CheckpointError unless facts are of these holders, this model and this optimizer."""
    if set(facts["holders"]) != set(session.holders):
        raise CheckpointError(
            f"the checkpoint is of {', '.join(facts['holders'])}, the session of {', '.join(session.holders)}"
        )
    targets = _tensors(model)
    if set(targets) != set(facts["model"]):
        odd = sorted(set(targets) ^ set(facts["model"]))
        raise CheckpointError(f"the checkpoint is of another model: only one of the two has {', '.join(odd[:5])}")
    for key, target in targets.items():
        fact, secret = facts["model"][key], isinstance(target, SecretTensor)
        if ("secret" in fact) != secret or (fact["shape"], fact["dtype"]) != (list(target.shape), str(target.dtype)):
            kind = "secret" if "secret" in fact else "plain"
            raise CheckpointError(
                f"the checkpoint is of another model: its {key} is {kind}, {fact['dtype']} {tuple(fact['shape'])}; the "
                f"model's {'secret' if secret else 'plain'}, {target.dtype} {tuple(target.shape)}"
            )
    saved, given = facts["optimizer"], optimizer and type(optimizer).__qualname__
    if (saved and saved["class"]) != given:
        raise CheckpointError(
            f"the checkpoint has {saved['class'] if saved else 'no optimizer'}, not {given or 'none'}"
        )


def _check_groups(optimizer: torch.optim.Optimizer | None, state: Any) -> None:
    if optimizer is None:
        return
    saved, given = ([len(g["params"]) for g in s["param_groups"]] for s in (state, optimizer.state_dict()))
    if saved != given:
        raise CheckpointError(f"the checkpoint's optimizer has groups of {saved} parameters, this one of {given}")
