"""Values that were opened to this holder alone: files of her `state` folder, one for each name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import torch

from pysmpc.errors import RemoteError
from pysmpc.remote.arguments import dtype_of
from pysmpc.remote.program_messages import Ref
from pysmpc.ring.fixedpoint import decode

FOLDER = "received"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Received:
    """One worker's values.  state: the folder; None where nothing can be received.  limit: bytes of all, 0 for any."""

    def __init__(self, me: str, state: Path | None, limit: int = 0) -> None:
        self._me, self._limit = me, limit
        self._folder = None if state is None else state / FOLDER

    def refusal(self, name: str, count: int) -> str:
        """Why nothing of so many numbers can be received under a name, or nothing."""
        if self._folder is None:
            return f"{self._me} keeps no values: its file names no `state` folder"
        if not _NAME.fullmatch(name):
            return "a value is kept under a name of up to 100 letters, digits, dots, dashes and underscores"
        if self._file(name).exists():
            return f"{self._me} has a value named {name} already; give it another name"
        taken = sum(each.stat().st_size for each in self._folder.glob("*.npy"))
        if self._limit and taken + 8 * count > self._limit:
            return f"{self._me} has no room for this value beside others in {FOLDER} (limits.disk in its file)"
        return ""

    def _file(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{name}.npy"

    def put(self, name: str, words: torch.Tensor, ref: Ref, scale: int) -> None:
        """Decode and keep a value; RemoteError where the disk does not take it."""
        dtype = dtype_of(ref.dtype)
        if dtype.is_floating_point:
            value = decode(words, scale).to(dtype)
        else:
            value = (words != 0) if dtype == torch.bool else torch.div(words, scale, rounding_mode="floor").to(dtype)
        array = (value.float() if dtype in (torch.bfloat16, torch.half) else value).reshape(ref.size).numpy()
        file = self._file(name)
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as to:
                np.save(to, array)
        except OSError as error:
            if not isinstance(error, FileExistsError):
                file.unlink(missing_ok=True)
            raise RemoteError(f"{self._me} could not keep {name}: {error.strerror}") from None
