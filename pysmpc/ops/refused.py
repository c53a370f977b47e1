"""Operations that are refused with a word of what to use in their place."""

from __future__ import annotations

from typing import Any

from pysmpc.ops.core import aten
from pysmpc.ops.decompositions import composes
from pysmpc.tensor.secret import not_implemented

WHY = {
    aten.resize_as_.default: "nn.CrossMapLRN2d makes room so; nn.LocalResponseNorm is for secrets, too",
    aten._ctc_loss.default: "its sums over alignments are not implemented",
    aten._ctc_loss.Tensor: "its sums over alignments are not implemented",
    aten._amp_foreach_non_finite_check_and_unscale_.default: (
        "a GradScaler looks for infinities, which secrets, as fixed point, never are; leave the scaler out, or make it "
        "with enabled=False"
    ),
    aten._local_scalar_dense.default: (
        "it would open one number; where a secret scalar is a position, x[i], read there with "
        "x.index_select(0, i.reshape(1))"
    ),
    aten._unique2.default: (
        "the size of its result would show how many different values there are; sort, and count with "
        "(s[1:] != s[:-1]).sum() + 1"
    ),
}


def _refused(overload: Any, why: str) -> None:
    @composes(overload)
    def way(*args: Any, **kwargs: Any) -> Any:
        raise not_implemented(overload, why)


for _overload, _why in WHY.items():
    _refused(_overload, _why)
