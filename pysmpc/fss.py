"""Function secret sharing for two parties: keys of point and comparison functions.

Somebody who knows alpha and beta makes two keys and gives one to each of two parties.
Neither key tells anything of alpha or beta; what the parties get when each evaluates
its own at a public x are additive shares mod 2^64 of the function's value there.

    f = Dcf(bits=32)                        # beta where x < alpha, 0 elsewhere
    first, second = f.keygen(alpha, beta)   # int64 tensors of one shape: a function an element
    f.eval(0, first, x) + f.eval(1, second, x)

Points are unsigned: for bits = 64, an int64 stands for its value mod 2^64.  The
construction is that of src/c/fss.inc.h; `protocol="fss"` uses it to compare.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from pysmpc.ring import fss_keys, z2k
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.torch_modes import undisturbed


@dataclass(frozen=True, eq=False)
class Key:
    """One party's key for functions of `shape`.

    seed: 16 bytes for this party alone.  corrections: int64 words, the same in both keys.
    """

    seed: bytes = field(repr=False)
    corrections: torch.Tensor = field(repr=False)
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole key."""
        return len(self.seed) + 8 * self.corrections.numel()


class _Functions:
    less = False

    def __init__(self, bits: int = 64, words: int = 1) -> None:
        """bits: of a point, 1 to 64.  words: ring words of a value, 1 to 4.  ValueError for others."""
        self._f = z2k.Function(bits, words, self.less)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(bits={self.bits}, words={self.words})"

    @property
    def bits(self) -> int:
        """Of a point."""
        return self._f.bits

    @property
    def words(self) -> int:
        """Of a value."""
        return self._f.words

    @property
    def key_bytes(self) -> int:
        """Bytes of a key an element; 32 more for all elements of a key."""
        return 8 * self._f.key_words

    @undisturbed
    def keygen(self, alpha: torch.Tensor, beta: torch.Tensor | int = 1) -> tuple[Key, Key]:
        """Keys of the functions with these alpha [*shape] and beta: an integer, or [*shape], or [*shape, words].

        Raises ValueError for an alpha of more bits and for shapes that do not fit.
        """
        n = alpha.numel()
        points = self._points(alpha, "alpha")
        shape = (*alpha.shape, self.words) if self.words > 1 else tuple(alpha.shape)
        values = torch.as_tensor(beta, dtype=torch.int64)
        if values.dim() and tuple(values.shape) != shape:
            raise ValueError(f"beta of shape {tuple(values.shape)} does not fit alpha: expected {shape}")
        flat = values.expand(shape).reshape(n, self.words).t().contiguous()
        seeds = fresh_key(), fresh_key()
        corrections = z2k.empty(fss_keys.FSS_SALT + self._f.key_words * n)
        fss_keys.fss_deal(KeySet(seeds), 0, self._f, points, flat, torch.zeros_like(flat), 0, n, corrections)
        first, second = (Key(seed, corrections, tuple(alpha.shape)) for seed in seeds)
        return first, second

    @undisturbed
    def eval(self, party: int, key: Key, x: torch.Tensor) -> torch.Tensor:
        """Party 0's or 1's shares of the values at x [*shape]: of that shape, [*shape, words] for words > 1.

        Raises ValueError for an x of more bits or of another shape than the key's.
        """
        if party not in (0, 1):
            raise ValueError(f"a key is for party 0 or 1, not {party!r}")
        if tuple(x.shape) != key.shape or key.corrections.numel() != fss_keys.FSS_SALT + self._f.key_words * x.numel():
            raise ValueError(f"{self} at points of shape {tuple(x.shape)} needs another key than one for {key.shape}")
        out = z2k.empty(1, self.words, x.numel())
        mine = KeySet([key.seed], 0 if party == 0 else -1)
        fss_keys.fss_eval(mine, 0, self._f, key.corrections, self._points(x, "x").reshape(1, -1), 0, 0, out)
        return out[0, 0].reshape(x.shape) if self.words == 1 else out[0].t().reshape(*x.shape, self.words)

    def _points(self, x: torch.Tensor, name: str) -> torch.Tensor:
        if x.dtype != torch.int64:
            raise TypeError(f"{name} must be an int64 tensor, not {x.dtype}")
        if self.bits < 64 and bool((x >> self.bits != 0).any()):
            raise ValueError(f"{name} must be in [0, 2**{self.bits})")
        return x.reshape(-1).contiguous()


class Dpf(_Functions):
    """Distributed point functions: beta where x = alpha, 0 elsewhere."""


class Dcf(_Functions):
    """Distributed comparison functions: beta where x < alpha, 0 elsewhere."""

    less = True
