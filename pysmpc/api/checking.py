"""`sy.check`: what a model would need of secrets, before anything is shared or sent.

The model runs forward, backward and through an update on shares of no rows, as the crypto provider runs it
(`pysmpc.api.dealing`): shapes and scales decide what is computed, so such a run meets every operation that a real one
would, counts its rounds and bytes, and takes neither memory for shares nor anybody's secrets.  An operation that is
missing is noted and gets a stand-in for its result, a secret of the shape that torch's gives, so that the run goes on
to the next one.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from pysmpc.api.calls import encrypt
from pysmpc.api.check_report import Approximation, Problem, Report
from pysmpc.api.dealing import record
from pysmpc.api.parties import Parties
from pysmpc.api.profiling import LAN, WAN, Network, Profile
from pysmpc.errors import EncodingError, RangeError, RevealError
from pysmpc.mpc.options import Protocol
from pysmpc.ring.fixedpoint import BINARY16, INTEGER
from pysmpc.ring.shares import Share
from pysmpc.session.session import Session
from pysmpc.tensor.secret import HANDLERS, SecretTensor
from pysmpc.tensor.secret_errors import called
from pysmpc.tensor.storage import flush
from pysmpc.tensor.watching import WATCHERS

#: What says that an operation is not for secrets, or not for these.
REFUSALS = (NotImplementedError, RevealError, EncodingError, RangeError, TypeError)

#: Whose operations approximate, and say by how much in the first sentence of their docstrings.
APPROXIMATE = (
    "pysmpc.ops.functions", "pysmpc.ops.attention", "pysmpc.ops.normalisation", "pysmpc.ops.batch_normalisation",
    "pysmpc.ops.norms",
    "pysmpc.ops.matrix_inverse", "pysmpc.ops.triangular", "pysmpc.ops.determinants", "pysmpc.ops.orthogonal",
    "pysmpc.ops.matrix_exponential", "pysmpc.ops.eigenvalues",
)  # fmt: skip

#: What serves in the place of an operation, by the beginning of its name.
INSTEAD = {
    "_fft": "products with the real and the imaginary part of the public matrix torch.fft.fft(torch.eye(n))",
    "view_as_complex": "real and imaginary parts as tensors of their own",
    "complex": "real and imaginary parts as tensors of their own",
    "linalg_eig": "torch.linalg.eigh, if the matrix is symmetric",
    "embedding_renorm_": "max_norm=None; divide rows by their norms before they are shared",
    "bernoulli": "public draws: torch.rand(x.shape) < p",
    "normal": "public draws: mean + deviation * torch.randn(x.shape)",
    "lgamma": "a polynomial over the range of your data",
    "digamma": "a polynomial over the range of your data",
    "_ctc_loss": "a loss for each position, such as F.cross_entropy",
    "resize_as_": "nn.LocalResponseNorm for nn.CrossMapLRN2d",
    "item": "torch.where on the secret, or sy.decrypt(x) where the number may be known",
    "bool": "torch.where on the secret, or sy.decrypt(x) where the answer may be known",
    "float": "torch.where on the secret, or sy.decrypt(x) where the number may be known",
    "int": "torch.where on the secret, or sy.decrypt(x) where the number may be known",
    "tolist": "sy.decrypt(x) where the numbers may be known",
    "numpy": "sy.decrypt(x) where the numbers may be known",
    "LBFGS": "with sy.opened_line_search(), if the numbers it decides by may be known; torch.optim.Adam or SGD",
}


class _State(threading.local):
    examination: _Examination | None = None
    depth = 0  # of operations within one another, in this thread


_state = _State()


class Examined(SecretTensor):
    """A secret without shares whose missing operations are noted, and give a stand-in."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        examination = _state.examination
        _state.depth += 1
        try:
            return super().__torch_dispatch__(func, types, args, kwargs)
        except REFUSALS as error:
            if examination is None or _state.depth > 1:
                raise  # what it is part of is noted
            return examination.missing(func, args, kwargs or {}, error)
        finally:
            _state.depth -= 1

    def _noted(self, what: str, error: RevealError) -> None:
        if _state.examination is None:
            raise error
        _state.examination.note(what, error)

    def __bool__(self) -> bool:
        self._noted("bool", RevealError("a secret has no truth value that Python may branch on"))
        return False

    def _number(self, what: str) -> Any:
        self._noted(what, self._refuse(f"{what}()"))
        return torch.zeros(self.shape, dtype=self.dtype)

    def __float__(self) -> float:
        return float(self._number("float"))

    def __int__(self) -> int:
        return int(self._number("int"))

    def item(self) -> Any:
        """0, and a note."""
        return self._number("item").item()

    def tolist(self) -> Any:
        """Zeros, and a note."""
        return self._number("tolist").tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Zeros, and a note."""
        return self._number("numpy").numpy()


class _Examination:
    """One run of a model on empty shares."""

    def __init__(self, session: Session, profile: Profile) -> None:
        self.session, self.profile = session, profile
        self.problems: dict[tuple[str, str, str], Problem] = {}
        self.used: dict[str, tuple[str, dict[str, None]]] = {}  # by operation: what it computes, and in which layers
        self.most = 0

    def watch(self, func: Any, args: Any, kwargs: Any) -> None:
        """A watcher of operations: notes those that approximate."""
        handler = HANDLERS.get(func) if not isinstance(func, str) else None
        if handler is not None and handler.__module__.startswith(APPROXIMATE) and handler.__doc__:
            what = " ".join(handler.__doc__.partition("\n\n")[0].split()).partition(" Rounds of")[0]
            self.used.setdefault(_short(func), (what, {}))[1][self.profile.layer() or "the program"] = None

    def note(self, operation: str, error: BaseException) -> None:
        """A problem, where the program is."""
        layer, line = self.profile.layer(), _line()
        message = " ".join(str(error).partition("; rewrite it")[0].split())
        key = operation, layer, line
        if key not in self.problems:
            self.problems[key] = Problem(*key, message, _instead(operation))

    def missing(self, func: Any, args: Any, kwargs: Any, error: Exception) -> Any:
        """Note an operation, and give what stands in for its result.  Raises the error where there is nothing."""
        self.note(called(func).removeprefix("aten.").removesuffix(".default"), error)
        schema = func._schema
        if schema.is_mutable and isinstance(args[0] if args else None, SecretTensor):
            return args[0]
        for device in ("meta", "cpu"):  # the second for operations whose shapes torch does not know without values
            try:
                given = tree_map(lambda x, device=device: _without_values(x, device), (args, kwargs))
                if "device" in given[1]:
                    given[1]["device"] = torch.device(device)
                return tree_map(self._secret, func(*given[0], **given[1]))
            except (RuntimeError, NotImplementedError, ValueError, IndexError):
                continue
        raise error

    def _secret(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        unit = BINARY16 if x.dtype.is_floating_point else INTEGER
        dtype = torch.float32 if x.dtype.is_complex else x.dtype
        words = torch.empty((0, x.numel()), dtype=torch.int64)
        return SecretTensor.of(Share.of(words, tuple(x.shape), unit.scale), self.session, unit, dtype)

    def count(self) -> None:
        """Bytes of the values that are alive."""
        alive = (ref() for ref in self.session._bodies)
        self.most = max(self.most, sum(8 * body.n for body in alive if body is not None))


def _without_values(x: Any, device: str) -> Any:
    if not isinstance(x, torch.Tensor):
        return x
    if device == "meta":
        return torch.empty(x.shape, dtype=x.dtype, device="meta")
    return torch.ones(x.shape, dtype=x.dtype) if isinstance(x, SecretTensor) else x


def _short(func: Any) -> str:
    return str(func).removeprefix("aten.").partition(".")[0]


def _instead(operation: str) -> str:
    for name, what in INSTEAD.items():
        if operation.startswith(name):
            return what
    return ""


_OURS = tuple(str(Path(module.__file__ or "").parent) for module in (torch, sys.modules["pysmpc"]))


def _line() -> str:
    """The innermost line of the program that is neither torch's nor this package's, within the check."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not check.__code__:
        name = frame.f_code.co_filename
        if not name.startswith((*_OURS, "<")) and not name.endswith(("contextlib.py", "functools.py")):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def _shared(value: Any, parties: Parties) -> Any:
    """Real tensors as secrets; integers and truth values, such as tokens and masks, stay public."""

    def share(x: Any) -> Any:
        if isinstance(x, SecretTensor) or not isinstance(x, torch.Tensor) or not x.is_floating_point():
            return x
        return encrypt(x.detach(), parties)

    return tree_map(share, value)


def _takes_target(loss: Callable[..., Any]) -> bool:
    try:
        given = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters.values()
    except (TypeError, ValueError):
        return True
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in given) > 1


def _optimizer(optimizer: Any, model: nn.Module) -> Any:
    """The optimizer of the same settings over other parameters."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        return optimizer(model.parameters())
    taken = inspect.signature(type(optimizer)).parameters
    return type(optimizer)(
        model.parameters(), **{name: value for name, value in optimizer.defaults.items() if name in taken}
    )


def check(
    model: nn.Module,
    example: Any,
    *,
    loss: Callable[..., Any] | None = None,
    target: Any = None,
    optimizer: Any = None,
    holders: tuple[str, ...] = ("alice", "bob"),
    protocol: str | Protocol | None = None,
    rounding: str | None = None,
    compare_bits: int | None = None,
    private_layers: Any = None,
    lan: Network = LAN,
    wan: Network = WAN,
) -> Report:
    """Check whether a model runs on secrets: lists all that is missing at once, all approximations, and the costs.

    >>> print(sy.check(model, (x, y), loss=F.cross_entropy, optimizer=torch.optim.Adam))

    model: the plain model.  example: its arguments (a tensor, a tuple, or a dict of keywords) in the shapes that
    they will have; their values do not matter.  Floating-point tensors count as secrets; integers, such as tokens and
    class numbers, stay public.  loss: called as loss(model(x), target), or as loss(model(x)) if it takes no target.
    target: by default the last element of the tuple.  optimizer: a class, such as torch.optim.Adam, a function that
    makes one from parameters, or an optimizer of the plain model, whose settings are used.  Without loss and optimizer
    only the forward pass is checked, in the model's mode, and in evaluation without gradients.  holders, protocol,
    rounding, compare_bits, private_layers: as for `sy.virtual` and `sy.encrypt`.  lan, wan: as for `sy.profile`.

    The model is not changed, and nothing is computed on values or sent.  Where the program asks for the value of a
    secret (`if x > 0`, `x.item()`), it gets 0, and the report says so.
    """
    if any(isinstance(p, SecretTensor) for p in model.parameters()):
        raise EncodingError("sy.check takes the plain model, before it is encrypted; sy.decrypt(model) gives it back")
    positional, keywords = (), {}
    if isinstance(example, Mapping):
        keywords = dict(example)
    else:
        positional = tuple(example) if isinstance(example, tuple | list) else (example,)
    with_target = loss is not None and _takes_target(loss)
    if with_target and target is None:
        if len(positional) < 2:
            raise TypeError("this loss takes a target: check(model, (x, y), loss=...), or target=y")
        positional, target = positional[:-1], positional[-1]
    trains = loss is not None or optimizer is not None
    with record(*holders, protocol=protocol, rounding=rounding, compare_bits=compare_bits) as plan:
        parties, session = plan.parties, plan.parties.session
        session.tensor = Examined
        profile = Profile(lan, wan, show=False)
        examination = _Examination(session, profile)
        with profile:
            WATCHERS.append(examination.watch)
            before, _state.examination = _state.examination, examination
            try:
                secret = encrypt(model, parties, private_layers=private_layers)
                given, named, right = (_shared(each, parties) for each in (positional, keywords, target))
                with torch.set_grad_enabled(trains or model.training):
                    out = secret(*given, **named)
                examination.count()
                if trains:
                    made = loss(out, right) if loss and with_target else loss(out) if loss else out.sum()
                    made.backward()
                    examination.count()
                if optimizer is not None:
                    steps = _optimizer(optimizer, secret)
                    steps.step()
                    flush(session)
                    examination.count()
            except Exception as error:
                if not isinstance(error, REFUSALS) and not examination.problems:
                    raise  # the model's own mistake
                examination.note("what comes next, which was not reached,", error)
            finally:
                _state.examination = before
                WATCHERS.remove(examination.watch)
    approximations = [Approximation(name, tuple(layers), what) for name, (what, layers) in examination.used.items()]
    return Report(model, list(examination.problems.values()), approximations, profile, examination.most, lan, wan)
