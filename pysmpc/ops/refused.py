"""Operations that are refused with a word of what to use in their place."""

from __future__ import annotations

from typing import Any

from pysmpc.ops.core import aten
from pysmpc.ops.decompositions import DRAWING, composes
from pysmpc.tensor.secret_errors import not_implemented

ALIGNED = (
    "its sums over alignments are not implemented; where each frame has a label of its own, use nn.CrossEntropyLoss"
)
COMPLEX = (
    "secrets are real; its real and imaginary parts are products with those of a public matrix: "
    "x @ torch.fft.fft(torch.eye(n)).real, and .imag"
)
PARTS = "secrets are real; keep real and imaginary parts as two secrets"
NO_FIT = "no protocol computes it; of a public argument compute it in plain torch, and multiply by that"
QUANTILE = "no protocol computes quantiles of the normal distribution; its distribution function is torch.special.ndtr"
NOISE = (
    "it would draw numbers that everybody knows; say so with mean + std * torch.randn(shape), and for noise that stays "
    "secret see docs/privacy.md"
)
LAYER = "use torch.nn.functional.batch_norm, which secrets take"
DENSE = "secrets are dense, as zeros would show; leave the tensor, or the layer's sparse=True, as it is without"

WHY = {
    aten._fft_r2c.default: COMPLEX,
    aten._fft_c2c.default: COMPLEX,
    aten.complex.default: PARTS,
    aten.polar.default: "secrets are real; keep r * torch.cos(a) and r * torch.sin(a) as two secrets",
    aten.view_as_complex.default: PARTS,
    aten.linalg_eig.default: "its results are complex; of symmetric matrices use torch.linalg.eigh",
    aten.geqrf.default: "use torch.linalg.qr, which gives Q and R themselves",
    aten.i0.default: NO_FIT,
    aten.special_i0e.default: NO_FIT,
    aten.special_i1.default: NO_FIT,
    aten.special_i1e.default: NO_FIT,
    aten.lgamma.default: NO_FIT,
    aten.digamma.default: NO_FIT,
    aten.polygamma.default: NO_FIT,
    aten.mvlgamma.default: NO_FIT,
    aten.erfinv.default: QUANTILE,
    aten.special_ndtri.default: QUANTILE,
    aten.special_log_ndtr.default: (
        "no protocol computes it to the last digits; torch.log(torch.special.ndtr(x)) does where x is above -3"
    ),
    aten.special_erfcx.default: (
        "no protocol computes it to the last digits; torch.exp(x * x) * torch.erfc(x) does where x is from -2 to 2"
    ),
    aten.frexp.Tensor: "secrets are fixed point, without exponents; torch.log2(x.abs()).floor() + 1 is that of floats",
    aten.nextafter.default: "secrets are fixed point: the next number is x + 2.0 ** -16 at 16 fractional bits",
    aten.normal.Tensor_Tensor: NOISE,
    aten.normal.Tensor_float: NOISE,
    aten.normal.float_Tensor: NOISE,
    aten._to_sparse.default: DENSE,
    aten._sparse_coo_tensor_with_dims_and_tensors.default: DENSE,
    aten.segment_reduce.default: "use torch.scatter_reduce, or index_add for sums, with each row's segment",
    aten._native_batch_norm_legit.default: LAYER,
    aten._batch_norm_with_update.default: LAYER,
    aten.resize_as_.default: "nn.CrossMapLRN2d makes room so; nn.LocalResponseNorm is for secrets, too",
    aten._ctc_loss.default: ALIGNED,
    aten._ctc_loss.Tensor: ALIGNED,
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
    if _why is NOISE:
        DRAWING.add(_overload)  # so that it is asked
