"""Elements put to, and taken from, public positions; joins at positions; grids."""

import pytest
import torch
from op_checks import check_op, encrypted
from torch.nn import functional as F

from pysmpc.errors import RevealError

pytestmark = [
    pytest.mark.filterwarnings("ignore:index_reduce"),
    pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter"),
]

INDEX = torch.tensor([[0, 2, 0], [1, 1, 2]])
MASK = torch.tensor([[True, False, True], [False, True, False]])
PLACED = {
    "scatter": lambda x, y: x.scatter(1, INDEX[:, :2], y[:, 1:]),
    "scatter_value": lambda x, y: x.scatter(1, INDEX[:1], 0.5) + y,
    "masked_select": lambda x, y: x[MASK] + torch.masked_select(y, MASK.flip(0)),
    "masked_scatter": lambda x, y: x.masked_scatter(MASK, y),
    "take": lambda x, y: x.take(INDEX) * y,
    "put": lambda x, y: x.put(torch.tensor([0, 4]), y[0, :2]),
    "put_added": lambda x, y: x.put(torch.tensor([-1, 4, 4]), y[0], accumulate=True),
    "index_copy": lambda x, y: x.index_copy(1, torch.tensor([2, 0]), y[:, :2]),
    "index_fill": lambda x, y: x.index_fill(0, torch.tensor([1]), -0.5) * y,
    "select_scatter": lambda x, y: x.select_scatter(y[0], 0, 1),
    "slice_scatter": lambda x, y: x.slice_scatter(y[:, :2], 1, 0, 3, 2),
    "diagonal_scatter": lambda x, y: x.diagonal_scatter(y[0, :2]),
    "sum": lambda x, y: x.scatter_reduce(1, INDEX, y, "sum"),
    "mean": lambda x, y: x.scatter_reduce(1, INDEX, y, "mean", include_self=False),
    "amax": lambda x, y: x.scatter_reduce(1, INDEX, y, "amax"),
    "amin": lambda x, y: x.scatter_reduce(1, INDEX, y, "amin", include_self=False),
    "index_mean": lambda x, y: x.index_reduce(0, torch.tensor([1, 1]), y, "mean"),
    "index_amax": lambda x, y: x.index_reduce(0, torch.tensor([1, 1]), y, "amax"),
}


@pytest.mark.parametrize("name", PLACED)
def test_placed(name):
    check_op(PLACED[name], shapes=[[(2, 3), (2, 3)]], steps=3, grad_steps=5)


@pytest.mark.parametrize("reduce", ["prod", "multiply"])
def test_products_at_positions(reduce):
    def function(x, y):
        if reduce == "prod":
            return x.scatter_reduce(1, INDEX, y, "prod")
        return x.scatter(1, INDEX, y, reduce="multiply")

    check_op(function, shapes=[[(2, 3), (2, 3)]], steps=12, grad=False)
    if reduce == "prod":
        with pytest.raises(NotImplementedError, match="gradient of products"):
            function(encrypted(torch.rand(2, 3)).requires_grad_(True), torch.rand(2, 3))


@pytest.mark.parametrize(
    "call",
    [
        lambda x, i: x.masked_select(i > 0),
        lambda x, i: x.scatter_reduce(1, i, x, "mean"),
        lambda x, i: F.grid_sample(x.reshape(1, 1, 2, 3), (i * 1.0)[..., :2].reshape(1, 1, 2, 2), align_corners=False),
    ],
)
def test_secret_positions_are_refused(call):
    with pytest.raises((RevealError, NotImplementedError)):
        call(encrypted(torch.rand(2, 3)), encrypted(INDEX))


@pytest.mark.parametrize(("shape", "points"), [((2, 2, 3, 4), (2, 2, 3, 2)), ((1, 1, 2, 3, 3), (1, 2, 2, 2, 3))])
@pytest.mark.parametrize("options", [{}, {"mode": "nearest"}, {"padding_mode": "border", "align_corners": True}])
def test_grids(shape, points, options):
    grid = torch.rand(points) * 2.4 - 1.2
    options = {"align_corners": False} | options
    check_op(lambda x: F.grid_sample(x, grid.to(x.dtype) if x.dtype == torch.float64 else grid, **options),
             shapes=[shape], steps=30, grad_steps=30)  # fmt: skip
