"""Arguments of operations as messages, and back.  Nothing but what is listed here travels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from pysmpc.errors import ChannelError
from pysmpc.remote.program_messages import INLINE, Changing, Dtype, Fixed, Option, Plain, Ref, Seq, Use, Value
from pysmpc.ring.fixedpoint import Precision
from pysmpc.ring.shares import Share
from pysmpc.ring.told import Number, Numbers
from pysmpc.session.session import plain_session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import Estimate, TensorStorage
from pysmpc.transport.wire import raw

_DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
)  # fmt: skip
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

_OPTIONS: dict[str, Any] = {
    str(x): x
    for x in (
        torch.device("cpu"), torch.strided, torch.contiguous_format, torch.preserve_format, torch.channels_last,
        torch.channels_last_3d,
    )
}  # fmt: skip


def dtype_of(name: str) -> torch.dtype:
    """A dtype by name; ChannelError for others than those of the table."""
    try:
        return DTYPES[name]
    except KeyError:
        raise ChannelError(f"{name!r} is no dtype that travels") from None


def leaves(values: Iterable[Any]) -> list[Any]:
    """What is inside lists and tuples."""
    found = []
    for value in values:
        if isinstance(value, list | tuple):
            found.extend(leaves(value))
        else:
            found.append(value)
    return found


def results(out: Any) -> list[Any]:
    """The results of an operation, which may be one or many."""
    return leaves(out) if isinstance(out, list | tuple) else [out]


# --- the driver's side --------------------------------------------------------------


def encode(value: Any, buffers: list[torch.Tensor]) -> Value:
    """An argument as a message; what is too long for one is appended to `buffers`."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Number):
        return Changing(value.place, value.now)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, SecretTensor):
        if value.session is plain_session:
            share = value.window()
            words = _plain(share.window(share.body.words)[0], buffers)
            unit = value.unit
            return Fixed(words, share.scale, unit.base, unit.digits, NAMES[value.dtype])
        return reference(value)
    if isinstance(value, torch.Tensor):
        return _plain(value, buffers)
    if isinstance(value, list | tuple):
        return Seq([encode(item, buffers) for item in value])
    if isinstance(value, torch.dtype):
        return Dtype(NAMES[value])
    if str(value) in _OPTIONS:
        return Option(str(value))
    raise NotImplementedError(f"a {type(value).__name__} cannot be sent to workers as an argument")


def reference(value: SecretTensor) -> Ref:
    """A secret, by the slot of its cell."""
    size, stride = list(value.size()), list(value.stride())
    grad = value.requires_grad and torch.is_grad_enabled()
    bound = value.cell.bound
    known = None if bound is None else float(bound), type(bound) is Estimate
    return Ref(value.cell.slot, size, stride, int(value.storage_offset()), NAMES[value.dtype], grad, *known)


def _plain(value: torch.Tensor, buffers: list[torch.Tensor]) -> Plain:
    """A public tensor; what it repeats by strides of zero is sent once, and repeated so again."""
    if value.dtype not in NAMES:
        raise NotImplementedError(f"tensors of {value.dtype} cannot be sent to workers")
    size = list(value.shape)
    for dim, (n, step) in enumerate(zip(value.shape, value.stride(), strict=True)):
        if n > 1 and step == 0:
            value = value.narrow(dim, 0, 1)
    value = value.detach().contiguous()
    data, digest = None, b""
    if value.numel() * value.element_size() <= INLINE:
        data = bytes(raw(value))
    else:
        buffers.append(value.clone())  # the caller may go on to change it
        digest = digest_of(buffers[-1])
    return Plain(NAMES[value.dtype], list(value.shape), size, data, digest)


def digest_of(buffer: torch.Tensor) -> bytes:
    """SHA-256 of the elements of a buffer."""
    return hashlib.sha256(raw(buffer)).digest()


# --- a worker's side ----------------------------------------------------------------


def buffers_of(value: Any) -> Iterator[Plain]:
    """The public tensors of an argument whose elements follow in buffers, in order."""
    if isinstance(value, Plain):
        if value.data is None:
            yield value
    elif isinstance(value, Fixed):
        yield from buffers_of(value.words)
    elif isinstance(value, Seq):
        for item in value.items:
            yield from buffers_of(item)


def size_of(plain: Plain) -> int:
    """Bytes of a buffer."""
    count = 1
    for n in plain.shape:
        if n < 0:
            raise ChannelError("a tensor of negative size")
        count *= n
    return count * dtype_of(plain.dtype).itemsize


def decode(
    value: Value, cell: Callable[[int], TensorStorage], buffers: Iterator[torch.Tensor], numbers: Numbers | None = None
) -> Any:
    """An argument from a message.  cell: what is in a slot.  numbers: of the step that is being recorded."""
    if isinstance(value, Ref):
        return window(value, cell(value.slot))
    if isinstance(value, Seq):
        return [decode(item, cell, buffers, numbers) for item in value.items]
    if isinstance(value, Plain):
        return decode_plain(value, buffers)
    if isinstance(value, Fixed):
        words = _elements(value.words, buffers).to(torch.int64)
        share = Share.of(words.reshape(1, -1), words.shape, value.scale).expand(value.words.size)
        return SecretTensor.of(share, plain_session, Precision(value.base, value.digits), dtype_of(value.dtype))
    if isinstance(value, Dtype):
        return dtype_of(value.name)
    if isinstance(value, Option):
        try:
            return _OPTIONS[value.name]
        except KeyError:
            raise ChannelError(f"{value.name!r} is no option that travels") from None
    if isinstance(value, Changing):
        if numbers is None or value.place != len(numbers.values) or not math.isfinite(value.value):
            raise ChannelError("a number that changes, out of its turn or outside of a step that is recorded")
        return numbers.number(value.value)
    if isinstance(value, Use):
        raise ChannelError("a place of a captured loop outside of one")
    return value


def window(ref: Ref, cell: TensorStorage) -> SecretTensor:
    """A tensor on a cell, if it stays inside; the bound of the cell is what the driver says."""
    n = len(ref.size)
    if len(ref.stride) != n or ref.offset < 0 or min([*ref.size, *ref.stride, 0]) < 0:
        raise ChannelError("a window with negative or missing sizes")
    last = ref.offset + sum((size - 1) * step for size, step in zip(ref.size, ref.stride, strict=True))
    if 0 not in ref.size and last >= cell._body.n:
        raise ChannelError("a window that reaches beyond its value")
    if ref.bound is not None and not 0 <= ref.bound < math.inf:
        raise ChannelError("a bound is a number from 0 on")
    cell.bound = Estimate(ref.bound) if ref.bound is not None and ref.estimate else ref.bound
    return SecretTensor(cell, ref.size, ref.stride, ref.offset, dtype_of(ref.dtype), ref.grad)


def decode_plain(value: Plain, buffers: Iterator[torch.Tensor]) -> torch.Tensor:
    """A public tensor."""
    return _elements(value, buffers).expand(value.size)


def _elements(value: Plain, buffers: Iterator[torch.Tensor]) -> torch.Tensor:
    dtype = dtype_of(value.dtype)
    if value.data is None:
        return next(buffers).reshape(value.shape)
    if len(value.data) != size_of(value):
        raise ChannelError("a tensor whose elements do not fit its shape")
    flat = torch.frombuffer(bytearray(value.data), dtype=dtype) if value.data else torch.empty(0, dtype=dtype)
    return flat.reshape(value.shape)
