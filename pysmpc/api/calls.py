"""`encrypt` and `bounded`: tensors and models are shared.  `decrypting` opens them, `parties` says between whom.

Everything here works on tensors, modules, numbers and nested lists; `pysmpc.compat.pysyft.hook`
offers the same functions as methods of torch's classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, TypedDict, TypeVar, overload

import torch
from torch import nn
from typing_extensions import Unpack

import pysmpc.ops  # noqa: F401  (fills the table of operations)
from pysmpc.api.decrypting import replace_tensors, words_here
from pysmpc.api.parties import Parties, precision_of, under
from pysmpc.errors import EncodingError, PartyError, RangeError
from pysmpc.mpc.options import Protocol, protocol_of
from pysmpc.ops.arrays import is_array, plain
from pysmpc.ring.fixedpoint import (
    INTEGER,
    PIECE,
    Encoding,
    Integers,
    Precision,
    check_layout,
    encode,
)
from pysmpc.session.session import Session, plain_session
from pysmpc.tensor.locked_calls import watched
from pysmpc.tensor.secret import SecretTensor, lock_of
from pysmpc.torch_modes import undisturbed


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        check_layout(value)
        return value.detach() if value.is_meta else value.detach().cpu()
    if is_array(value):
        return plain(value, "cannot be encrypted")
    if isinstance(value, bool | int | float | list | tuple):
        try:
            return torch.tensor(value)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise EncodingError(
                f"this {type(value).__name__} is not a number or a regular nest of numbers: {error}"
            ) from None
    raise EncodingError(
        f"a {type(value).__name__} cannot be encrypted; tensors, arrays, columns, numbers, lists and modules can"
    )


def _encoded(values: torch.Tensor, unit: Precision, session: Session) -> Integers:
    """The integers of values, which must be as short as the session takes them to be."""
    large = values.is_floating_point() and values.numel() > PIECE
    words: Integers = Encoding(values, unit) if large else encode(values, unit)
    found, narrow = _extremes(words), session.suite.narrow
    if (
        narrow is not None
        and found.numel()
        and not -(1 << narrow.bits - 1) < int(found.min()) <= int(found.max()) < (1 << narrow.bits - 1)
    ):
        raise EncodingError(
            f"a value is not below {(1 << narrow.bits - 1) / unit.scale:.6g} in magnitude, as "
            f"compare_bits={narrow.bits} promises; encrypt with more compare_bits, or without"
        )
    return words


def _extremes(words: Integers) -> torch.Tensor:
    """Integers with the smallest and the largest among them."""
    return words.extremes if isinstance(words, Encoding) else words


SLACK = 8  # steps by which rounding may lead a result beyond what its user states of it


def _stated(bound: Any) -> float | None:
    """What a caller states of magnitudes, as a number."""
    if bound is None:
        return None
    number = isinstance(bound, int | float) and not isinstance(bound, bool)
    if not number or not 0 <= bound < math.inf:
        raise ValueError(f"bounded= is the largest magnitude that there may be, a number from 0 on, not {bound!r}")
    return float(bound)


def whole_steps(bound: float | None, scale: int) -> float | None:
    """A bound of real numbers, as one of what they are rounded to."""
    return None if bound is None else math.ceil(bound * scale) / scale


def check_stated(words: torch.Tensor, bound: float | None, scale: int, slack: int = 0) -> None:
    """Raise RangeError, which names no value, where integers are beyond what was stated."""
    if bound is None or not words.numel():
        return
    limit = math.ceil(bound * scale) + slack
    if limit < 1 << 63 and not -limit <= int(words.min()) <= int(words.max()) <= limit:
        raise RangeError(
            f"bounded={bound:g} states that no magnitude is above {bound:g}, and here is one that is; state a bound "
            "that holds for all elements, or leave it out"
        )


def _fitting(
    values: torch.Tensor, session: Session, unit: Precision, owner: str | None, owned: bool, bound: float | None
) -> Integers | None:
    """The owner's integers; None where its values are not.  Where a bound is stated, all ranks raise or none does."""
    own, error = None, None
    try:
        if owned and values.is_meta:
            raise EncodingError("the owner of an input must pass its values; a meta tensor has none")
        own = _encoded(values, unit, session) if owned else None
        if own is not None:
            check_stated(_extremes(own), bound, unit.scale)
    except EncodingError as found:
        error = found
    told = bound is None or session.told(owner, error is None)
    if error is not None:
        raise error
    if not told:
        raise RangeError(
            f"bounded={bound:g}: {owner or session.holders[0]} says that its values are not all within; state a bound "
            "that holds for all elements, or leave it out"
        )
    return own


@watched("encrypt")
def share_tensor(
    values: torch.Tensor,
    session: Session,
    precision: Precision,
    owner: str | None = None,
    bound: float | None = None,
) -> SecretTensor:
    """Encode and share a plain tensor; integers and booleans stay exact."""
    floating = values.is_floating_point() or values.is_complex()
    unit = precision if floating else INTEGER
    dtype = torch.float32 if values.is_complex() else values.dtype
    if not floating and dtype not in (torch.bool, torch.int32):
        dtype = torch.int64
    if session.recorder is not None:
        words = _encoded(values, unit, session)
        check_stated(_extremes(words), bound, unit.scale)
        remote: SecretTensor = session.recorder.share(session, owner, words, values.shape, unit, unit.scale, dtype)
        remote.cell.bound = whole_steps(bound, unit.scale)
        return remote
    party, owned = session.sharing(owner, tuple(values.shape), values.dtype, unit.scale, bound)
    own = _fitting(values, session, unit, owner, owned, bound)
    out = SecretTensor.of(session.suite.share(party, own, values.shape, unit.scale), session, unit, dtype)
    out.cell.bound = whole_steps(bound, unit.scale)
    return out


class Options(TypedDict, total=False):
    """Keywords of `encrypt`."""

    frac_bits: int | None
    base: int
    precision_fractional: int | None
    requires_grad: bool | None
    rounding: str | None
    protocol: str | Protocol | None
    integrity: str | None
    compare_bits: int | None
    owner: str | None
    bounded: float | None


Model = TypeVar("Model", bound=nn.Module)


@overload
def encrypt(
    value: Model,
    parties: Parties,
    *,
    private_layers: Iterable[str | nn.Module] | None = None,
    **options: Unpack[Options],
) -> Model: ...


@overload
def encrypt(value: Any, parties: Parties, **options: Unpack[Options]) -> SecretTensor: ...


@undisturbed
def encrypt(
    value: Any,
    parties: Parties,
    *,
    frac_bits: int | None = None,
    base: int = 10,
    precision_fractional: int | None = None,
    requires_grad: bool | None = None,
    rounding: str | None = None,
    protocol: str | Protocol | None = None,
    integrity: str | None = None,
    compare_bits: int | None = None,
    owner: str | None = None,
    bounded: float | None = None,
    private_layers: Iterable[str | nn.Module] | None = None,
) -> Any:
    """Secret-share a tensor, array, number, list or module: each holder gets one share, which alone reveals nothing.

    Real numbers become fixed point, with 16 fractional bits, with `frac_bits` of them, or with
    `precision_fractional` digits of `base`.  Integers and booleans stay exact: int32 stays
    int32, other integers become int64, and both wrap around as in torch when they are opened
    (docs/integers.md).  A module is copied, and the parameters and floating-point buffers of the
    copy are secret.  Costs no round; the owner sends 8 bytes an element.

    requires_grad: of the result; by default that of the tensor, or of each parameter.
    rounding, protocol, integrity, compare_bits: for everything computed from the result, as for `virtual`.
    Secrets with different settings cannot be combined.
    owner: the holder to whom the value belongs; the first by default.  Where every party is a
    process of its own (`sy.distributed`), the others pass any tensor of the same shape and dtype,
    such as torch.empty(shape, device="meta"); its content is ignored.
    bounded: a public bound of all magnitudes, as for `sy.bounded`; for a module, of each parameter and
    buffer.  RangeError where a value in this process exceeds it.
    private_layers: for a module, the parts that become secret, by name (`"body.0"`) or as modules.  The others
    stay public and plain torch; those before the first secret one cost nothing on public data (docs/layers.md).

    Raises EncodingError for NaN, infinity and magnitudes that the ring cannot hold, for sparse
    tensors, and for tensors that are secret already.

    >>> x = sy.encrypt(torch.tensor([1.5, -2.0]), sy.virtual("alice", "bob"))
    """
    if not isinstance(parties, Parties):
        raise PartyError(
            f"the second argument must be parties, such as sy.virtual('alice', 'bob'), not {type(parties).__name__}"
        )
    precision = precision_of(frac_bits, base, precision_fractional)
    session = under(parties.session, protocol_of(protocol, rounding, integrity, compare_bits))
    bound = _stated(bounded)
    if isinstance(value, nn.Module):
        check_public(value)
        private = None if private_layers is None else _private_names(value, private_layers)
        module = copy.deepcopy(value)
        replace_tensors(module, lambda t: _shared(t, session, precision, owner, bound), requires_grad, private)
        return module
    if private_layers is not None:
        raise EncodingError(f"private_layers is for modules; a {type(value).__name__} has no layers")
    if isinstance(value, torch.Tensor):
        secret = _shared(value, session, precision, owner, bound)
    elif hasattr(value, "encrypted"):  # a pointer to data of a worker of another machine, who shares them herself
        secret = value.encrypted(session, precision, bound)
    else:
        secret = share_tensor(_tensor(value), session, precision, owner, bound)
    wanted = value.requires_grad if requires_grad is None and isinstance(value, torch.Tensor) else bool(requires_grad)
    return secret.requires_grad_() if wanted else secret


def _shared(
    value: torch.Tensor, session: Session, precision: Precision, owner: str | None, bound: float | None = None
) -> SecretTensor:
    """A public tensor as a secret; EncodingError where it is one."""
    if not isinstance(value, SecretTensor):
        return share_tensor(_tensor(value), session, precision, owner, bound)
    if value.session is not plain_session:
        raise EncodingError("this tensor is secret already; to move it to other holders, decrypt it first")
    return share_public(value.detach(), session, owner, bound)


@undisturbed
def bounded(value: Any, bound: float) -> SecretTensor:
    """State a public bound: the same secret, no element of which is larger than `bound` in magnitude.

    With a bound, many functions take fewer rounds, and a result that the ring has no room for raises RangeError
    before it is computed (docs/ranges.md).  The bound is carried along through views, sums, products and
    functions, and is dropped where values of unknown size come in.  Costs no round; `value` is not changed.

    The bound is the caller's claim, and public.  In one process it is checked (RangeError), except for secrets
    with integrity="mac"; between machines nobody can check it.  If it is wrong, results of functions are wrong;
    no more is opened than otherwise.
    """
    if not isinstance(value, SecretTensor):
        raise TypeError(f"a {type(value).__name__} is no secret; encrypt it with its bound, sy.encrypt(x, parties, "
                        f"bounded={bound})")  # fmt: skip
    size = _stated(bound)
    assert size is not None
    session = value.session
    session.note("bounded", tuple(value.shape), size)
    out: SecretTensor = value.clone()
    with lock_of((value,)):
        scale = out.cell.scale
        slack = SLACK * max(1, scale // out.unit.scale) if out.dtype.is_floating_point else 0
        words = words_here(out)
        if words is not None:
            check_stated(words, size, scale, slack)
        out.cell.bound = (math.ceil(size * scale) + slack) / scale
    return out


def check_public(module: nn.Module) -> None:
    """Raise EncodingError, naming it, where a parameter or buffer of a module is secret."""
    for kind, named in ("parameter", module.named_parameters()), ("buffer", module.named_buffers()):
        for name, tensor in named:
            if isinstance(tensor, SecretTensor) and tensor.session is not plain_session:
                raise EncodingError(
                    f"this module is secret already, its {kind} '{name}' for one; to move it to other holders, decrypt "
                    "it first: sy.encrypt(sy.decrypt(module), parties)"
                )


def _private_names(module: nn.Module, layers: Iterable[str | nn.Module]) -> set[str]:
    """Names of the layers, and of all that is within them.

    Raises EncodingError for what is no part of the module, and where a public part has a parameter or buffer of a
    private one.
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    names = {id(part): name for name, part in reversed(parts.items())}
    found: set[str] = set()
    for layer in [layers] if isinstance(layers, str | nn.Module) else layers:
        name = layer if isinstance(layer, str) else names.get(id(layer))
        if name is None or name not in parts:
            known = ", ".join(repr(each) for each in parts if each) or "none"
            what = repr(layer) if isinstance(layer, str) else f"this {type(layer).__name__}"
            raise EncodingError(f"{what} is no layer of this module; its layers are {known}")
        within = {id(part) for part in parts[name].modules()}
        found.update(each for each, part in parts.items() if id(part) in within)

    def own(name: str) -> list[tuple[str, Any]]:
        kinds = parts[name]._parameters, parts[name]._buffers
        return [(key, tensor) for kind in kinds for key, tensor in kind.items() if tensor is not None]

    kept = {id(tensor): name for name in found for _, tensor in own(name)}
    for name in set(parts) - found:
        for key, tensor in own(name):
            if id(tensor) in kept:
                raise EncodingError(
                    f"'{name}.{key}' is also a part of '{kept[id(tensor)]}', which is private; make both private, or "
                    "neither"
                )
    return found


@watched("encrypt")
def share_public(
    value: SecretTensor, session: Session, owner: str | None = None, bound: float | None = None
) -> SecretTensor:
    """Share a public fixed-precision tensor among a session's holders."""
    share = value.window()
    check_stated(share.words(), bound, share.scale)
    if session.recorder is not None:
        plain = share.window(share.body.words)[0]
        remote: SecretTensor = session.recorder.share(
            session, owner, plain, share.shape, value.unit, share.scale, value.dtype
        )
        remote.cell.bound = whole_steps(bound, share.scale)
        return remote
    party, owned = session.sharing(owner, share.shape, value.dtype, share.scale, bound)
    words = share.window(share.body.words)[0] if owned else None
    shared = session.suite.share(party, words, share.shape, share.scale)
    out = SecretTensor.of(shared, session, value.unit, value.dtype)
    out.cell.bound = whole_steps(bound, share.scale)
    return out
