"""`sy.encrypt_file` and `sy.encrypted_tensors`: a safetensors file is shared tensor by tensor, and may exceed memory.

The file is opened anew for each tensor: what was mapped into memory of one is given back before the next is read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from typing_extensions import Unpack

from pysmpc.api.calls import Model, Options, check_public, encrypt
from pysmpc.api.decrypting import replace_tensors
from pysmpc.api.parties import Parties
from pysmpc.errors import CheckpointError
from pysmpc.tensor.secret import SecretTensor
from pysmpc.torch_modes import undisturbed

Shapes = dict[str, tuple[int, ...]]


@undisturbed
def encrypt_file(path: str | Path, parties: Parties, model: Model, **options: Unpack[Options]) -> Model:
    """A copy of a model with the parameters and buffers of a safetensors file, secret.

    The model's own values are not used; it may be made without any, on the device "meta":

    >>> with torch.device("meta"):
    ...     model = Net()
    >>> secret = sy.encrypt_file("model.safetensors", parties, model)

    Values are converted to the dtypes of the model.  Parameters that are one tensor under several names may be in the
    file under any of them.  Integer buffers stay public, as with `encrypt`.

    options: those of `encrypt` for a tensor; requires_grad: by default, that of each parameter.
    Memory: the shares that this process keeps (8 bytes an element and holder), and twice the largest tensor.
    Costs no round; owners send what they send with `encrypt`.  Where every party is a process of its own, all pass a
    file of the same names and shapes, of which only the owner's values are used.

    Raises CheckpointError, before anything is shared, for what is no such file and where names or shapes are not those
    of the model, and as `encrypt`.
    """
    check_public(model)
    made = copy.deepcopy(model)
    shapes = _shapes(path)
    names = _names(made, shapes, path)
    wanted = options.pop("requires_grad", None)

    def change(value: torch.Tensor) -> Any:
        name = names[id(value)]
        return encrypt(value if name is None else _read(path, name).to(value.dtype), parties, **options)

    for part in made.modules():
        for key, buffer in part._buffers.items():
            if buffer is not None and not buffer.is_floating_point():
                name = names[id(buffer)]
                part._buffers[key] = buffer if name is None else _read(path, name).to(buffer.dtype).clone()
    return replace_tensors(made, change, wanted)  # type: ignore[return-value]


@undisturbed
def encrypted_tensors(
    path: str | Path, parties: Parties, **options: Unpack[Options]
) -> Iterator[tuple[str, SecretTensor]]:
    """The tensors of a safetensors file by name, each shared when it is asked for.

    So a model whose shares do not fit in memory is used layer by layer:

    >>> for name, weight in sy.encrypted_tensors("model.safetensors", parties):
    ...     x = x @ weight

    options: those of `encrypt`.  Memory: the shares of one tensor and its values, if the caller keeps none.
    Raises CheckpointError for what is no such file, and as `encrypt`.
    """
    names = _shapes(path)
    return ((name, encrypt(_read(path, name), parties, **options)) for name in names)


def _opened(path: str | Path) -> Any:
    try:
        return safe_open(str(path), framework="pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as a safetensors file: {error}") from None


def _shapes(path: str | Path) -> Shapes:
    """Of all tensors in a file, in the order of their names."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}


def _read(path: str | Path, name: str) -> torch.Tensor:
    with _opened(path) as file:
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor


def _names(model: nn.Module, shapes: Shapes, path: str | Path) -> dict[int, str | None]:
    """By the id of each parameter and buffer, under what name it is in a file; None: it keeps its own value.

    Raises CheckpointError for a file of another model.
    """
    known: dict[int, tuple[torch.Tensor, list[str]]] = {}
    for name, tensor in (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)):
        known.setdefault(id(tensor), (tensor, []))[1].append(name)
    saved = set(model.state_dict(keep_vars=True))
    found: dict[int, str | None] = {}
    missing = []
    for key, (tensor, titles) in known.items():
        here = [title for title in titles if title in shapes]
        found[key] = here[0] if here else None
        if not here and (tensor.is_meta or any(title in saved for title in titles)):
            missing.append(titles[0])
        for title in here:
            if shapes[title] != tuple(tensor.shape):
                raise CheckpointError(
                    f"{path} is of another model: its {title} is of shape {shapes[title]}, the model's of "
                    f"{tuple(tensor.shape)}"
                )
    odd = [*missing, *(name for name in shapes if not any(name in titles for _, titles in known.values()))]
    if odd:
        raise CheckpointError(
            f"{path} is of another model: only one of the two has values for {', '.join(sorted(odd)[:5])}"
        )
    return found
