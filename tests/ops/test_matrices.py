"""Matrices beyond the table of cases: the edges of domains, what torch keeps for gradients, and refusals."""

import pytest
import torch
from op_checks import check_op, encrypted, plain, represented
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.ops.matrix_inverse import schedule
from pysmpc.ring.fixedpoint import BINARY16


def orthogonal(n):
    return torch.linalg.qr(torch.randn(n, n, dtype=torch.float64)).Q


def of_condition(ratio, n=4):
    """A matrix whose largest singular value is `ratio` times its smallest."""
    sizes = torch.logspace(0, -torch.log10(torch.tensor(float(ratio))), n, dtype=torch.float64)
    return represented(8 * orthogonal(n) @ torch.diag(sizes) @ orthogonal(n), BINARY16)


@pytest.mark.parametrize("ratio", [1, 30, 300])
def test_inverses_keep_their_bound(ratio):
    x = of_condition(ratio)
    found, expected = plain(torch.linalg.inv(encrypted(x))), torch.linalg.inv(x)
    condition = float(x.norm() * torch.linalg.matrix_norm(expected, 2))
    allowed = 2.0**-16 + 4 * condition * 2.0**-23 * float(expected.abs().max())
    assert float((found - expected).abs().max()) <= allowed


def test_the_iteration_takes_every_eigenvalue_to_one():
    for scale in (1 << 24, 256_000):
        values = torch.cat([torch.logspace(-5, 0, 50, dtype=torch.float64), torch.ones(1, dtype=torch.float64)])
        values = values[values >= 64 / scale]
        for more, factor in schedule(scale):
            values = float(factor) * values * (more / scale - values)
        assert float((values - 1).abs().max()) < 4 / scale


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (2, 5), (6, 4)])
def test_pseudo_inverses_of_equal_singular_values(shape):
    """Values of which a step makes 1, which the next one makes small again: rounding must not grow with them."""
    m, n = shape
    x = represented(2 * orthogonal(max(shape))[:m, :n], BINARY16)
    assert float((plain(torch.linalg.pinv(encrypted(x), rtol=0.0)) - torch.linalg.pinv(x)).abs().max()) <= 2.0**-15


def test_a_row_that_is_large_beside_the_others():
    x = torch.tensor([[100.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
    assert float((plain(torch.linalg.inv(encrypted(x))) - torch.linalg.inv(x)).abs().max()) < 2.0**-15


def test_a_determinant_of_zero_has_its_gradient():
    x = torch.tensor([[1.0, 2.0, 0.5], [2.0, 4.0, 1.0], [0.5, 0.25, 3.0]])
    secret, twin = encrypted(x).requires_grad_(), x.double().requires_grad_()
    torch.linalg.det(secret).backward()
    adjugate = torch.stack([torch.cross(twin[1], twin[2], dim=0), torch.cross(twin[2], twin[0], dim=0),
                            torch.cross(twin[0], twin[1], dim=0)])  # fmt: skip
    assert float((plain(secret.grad) - adjugate.detach()).abs().max()) < 2.0**-14


def test_signs_of_qr_are_those_of_torch_for_what_is_triangular():
    x = torch.tensor([[-2.0, 1.0, 0.5], [0.0, 3.0, -1.0], [0.0, 0.0, -0.5]], dtype=torch.float64)
    check_op(lambda a: tuple(torch.linalg.qr(a)), [(3, 3)], values=lambda shape: x, steps=4, grad=False)


def test_a_table_whose_rows_are_bounded():
    weight = torch.rand(6, 3, dtype=torch.float64) * 4
    secret, twin = encrypted(weight), represented(weight, BINARY16)
    index = torch.tensor([1, 4, 1])
    found, expected = (F.embedding(index, table, max_norm=1.5) for table in (secret, twin))
    assert float((plain(found) - expected).abs().max()) < 2.0**-13
    assert float((plain(secret) - twin).abs().max()) < 2.0**-13


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("transpose", [False, True])
def test_products_with_reflections(left, transpose):
    q, tau = torch.geqrf(torch.randn(4, 3))
    c = torch.randn(4, 2)
    c = c if left else c.mT.contiguous()
    found = torch.ormqr(encrypted(q), encrypted(tau), encrypted(c), left, transpose)
    assert float((plain(found) - torch.ormqr(q, tau, c, left, transpose)).abs().max()) < 2.0**-12


def test_pivots_are_torchs_and_secret():
    a = torch.tensor([[1.0, 2.0, 0.5], [-4.0, 1.0, 1.0], [2.0, 3.0, -3.0]])
    packed, pivots = torch.linalg.lu_factor(encrypted(a))
    assert torch.equal(sy.decrypt(pivots), torch.linalg.lu_factor(a).pivots)
    parts = torch.lu_unpack(packed, pivots)
    for mine, theirs in zip(parts, torch.linalg.lu(a), strict=True):
        assert float((plain(mine) - theirs).abs().max()) < 2.0**-13
    b = torch.randn(2, 3)
    for adjoint in (False, True):
        found = torch.linalg.lu_solve(packed, pivots, encrypted(b), left=False, adjoint=adjoint)
        assert float((plain(found) - torch.linalg.lu_solve(*torch.linalg.lu_factor(a), b, left=False, adjoint=adjoint))
                     .abs().max()) < 2.0**-12  # fmt: skip


def test_factors_without_pivots():
    a = torch.tensor([[4.0, 1.0], [2.0, 3.0]])
    _, lower, upper = torch.linalg.lu(encrypted(a), pivot=False)
    assert float((plain(lower) @ plain(upper) - a).abs().max()) < 2.0**-13


REFUSED = {
    "not square": (lambda x: torch.linalg.inv(x[:2]), RuntimeError, "square"),
    "a cut-off for least squares": (lambda x: torch.linalg.lstsq(x, x, 0.5), NotImplementedError, "pinv"),
    "no driver": (lambda x: torch.linalg.lstsq(x, x, driver="qr"), RuntimeError, "gelsy"),
    "rows of other numbers": (lambda x: torch.linalg.lstsq(x, x[:2]), RuntimeError, "3 and 2"),
    "a rank into a tensor": (lambda x: torch.linalg.matrix_rank(x, out=torch.zeros(())), TypeError, "out="),
    "a secret cut-off": (lambda x: torch.linalg.matrix_rank(x, rtol=x[0, 0]), NotImplementedError, "public numbers"),
    "many eigenvalues": (lambda x: torch.linalg.eigvalsh(x.repeat(11, 11)), NotImplementedError, "32 columns"),
    "eigenvalues of no square": (lambda x: torch.linalg.eigh(x[:2]), RuntimeError, "square"),
    "large determinants": (lambda x: torch.linalg.det(x.repeat(5, 5)), NotImplementedError, "up to 12 rows"),
    "factors of no matrix": (lambda x: torch.linalg.lu_factor(x[0]), RuntimeError, r"matrices|dimensions"),
    "reflections that do not fit": (lambda x: torch.ormqr(x, x[0], x[:2]), RuntimeError, "fit"),
    "complex eigenvalues": (lambda x: torch.linalg.eigvals(x), NotImplementedError, "linalg.eigh"),
    "samples": (lambda x: torch.normal(x, x), NotImplementedError, "torch.randn"),
    "quantiles": (lambda x: torch.erfinv(x), NotImplementedError, "ndtr"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    fn, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text):
        fn(encrypted(torch.rand(3, 3) + 2 * torch.eye(3)))
