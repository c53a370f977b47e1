"""Torch's catalogue of operations, each on a secret: torch's result or a refusal, never
something else."""

import pytest
import torch
from op_checks import encrypted
from op_sweep import operations, outcome, samples, usable

#: what must be right for at least one sample of the catalogue: refusing it is a loss
IMPLEMENTED = {
    "__getitem__",
    "__radd__",
    "__rdiv__",
    "__rmatmul__",
    "__rmul__",
    "__rsub__",
    "abs",
    "add",
    "addcmul",
    "addmm",
    "addmv",
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "as_strided",
    "atleast_1d",
    "baddbmm",
    "bmm",
    "broadcast_to",
    "cat",
    "ceil",
    "chunk",
    "clamp",
    "clone",
    "column_stack",
    "constant_pad_nd",
    "contiguous",
    "cumsum",
    "diagonal",
    "div",
    "dot",
    "double",
    "einsum",
    "eq",
    "expand",
    "expand_as",
    "flatten",
    "flip",
    "float",
    "floor",
    "floor_divide",
    "fmod",
    "frac",
    "full_like",
    "gather",
    "ge",
    "gt",
    "index_add",
    "index_put",
    "index_select",
    "isnan",
    "kron",
    "le",
    "lerp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "masked_fill",
    "matmul",
    "maximum",
    "mean",
    "minimum",
    "mm",
    "movedim",
    "mul",
    "mv",
    "narrow",
    "ne",
    "neg",
    "new_zeros",
    "nn.functional.conv2d",
    "nn.functional.hardtanh",
    "nn.functional.l1_loss",
    "nn.functional.linear",
    "nn.functional.mse_loss",
    "nn.functional.relu",
    "nn.functional.relu6",
    "ones_like",
    "outer",
    "permute",
    "positive",
    "ravel",
    "reciprocal",
    "remainder",
    "repeat",
    "reshape",
    "roll",
    "rsub",
    "scatter_add",
    "select",
    "sgn",
    "sign",
    "slice",
    "split",
    "square",
    "squeeze",
    "stack",
    "sub",
    "sum",
    "t",
    "take_along_dim",
    "tensordot",
    "tile",
    "transpose",
    "tril",
    "triu",
    "true_divide",
    "trunc",
    "unbind",
    "unflatten",
    "unfold",
    "unsqueeze",
    "var",
    "vdot",
    "view",
    "view_as",
    "where",
    "zeros_like",
}
CASES = [
    pytest.param(info, id=f"{info.name}{'.' * bool(info.variant_test_name)}{info.variant_test_name}")
    for info in operations()
]


@pytest.mark.parametrize("info", CASES)
def test_right_or_refused(info):
    """The first sample; several where that is implemented."""
    outcomes = []
    for sample in samples(info, 6):
        if usable(sample):
            outcomes.append(outcome(info, sample))
            if outcomes[0] == "refused" and info.name not in IMPLEMENTED:
                break
    if info.name in IMPLEMENTED and "rounding" not in info.variant_test_name:
        assert "right" in outcomes, f"{info.name} is implemented, and refused every sample"


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (torch.erfinv, "erfinv"),
        (torch.linalg.inv, "inv"),
        (torch.bernoulli, "bernoulli"),
        (lambda x: torch.sort(x), "sort"),
        (lambda x: torch.nextafter(x, x), "nextafter"),
        (lambda x: torch.round(x), "round"),
        (lambda x: x.random_(), "random_"),
        (lambda x: torch.nonzero(x), "nonzero"),
    ],
)
def test_a_refusal_names_the_operation(call, name):
    with pytest.raises(NotImplementedError, match=name):
        call(encrypted(torch.rand(2, 2)))
