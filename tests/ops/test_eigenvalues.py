"""Eigenvalues and singular values with their vectors, pseudo-inverses by them, ranks, and least squares."""

import pytest
import torch
from op_checks import SUITE_OPTIONS, encrypted, parties, plain, represented

from pysmpc.ops.jacobi import pairs, sweeps
from pysmpc.ring.fixedpoint import BINARY16

STEP = 2.0**-16


def orthogonal(*shape):
    return torch.linalg.qr(torch.randn(*shape, dtype=torch.float64)).Q


def symmetric(values):
    """A symmetric matrix with such eigenvalues, as the encoding has it."""
    turn = orthogonal(len(values), len(values))
    x = represented(turn @ torch.diag(torch.as_tensor(values, dtype=torch.float64)) @ turn.mT, BINARY16)
    return (x + x.mT) / 2


def of_values(m, n, values):
    """A matrix [m, n] with such singular values."""
    k = min(m, n)
    return represented(orthogonal(m, m)[:, :k] * torch.as_tensor(values).double() @ orthogonal(n, n)[:k], BINARY16)


def spread(k):
    """Values at least 1 apart."""
    return torch.arange(1, k + 1) * 1.5 + 0.5 * torch.rand(k)


def off(found, expected):
    """The largest difference, in steps."""
    return float((plain(found) - expected.detach()).abs().max()) / STEP


def twins(x):
    return encrypted(x).requires_grad_(), x.clone().requires_grad_()


# --- the order of rotations -----------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9])
def test_every_pair_is_turned_once_in_a_sweep(n):
    met = [pair for p, q in pairs(n) for pair in zip(p, q, strict=True)]
    assert sorted(met) == [(i, j) for i in range(n) for j in range(i + 1, n)]
    assert all(len({*p, *q}) == 2 * len(p) for p, q in pairs(n))  # nobody twice in a step


@pytest.mark.parametrize("kind", ["random", "clustered", "one large"])
@pytest.mark.parametrize("n", [2, 3, 4, 6, 8])
def test_sweeps_are_enough(n, kind):
    """In plain numbers: after so many sweeps no two columns have a product of more than 2^-21."""
    turn = orthogonal(20, n, n)
    values = {
        "random": torch.randn(20, n),
        "clustered": torch.randn(20, n).sign() + 1e-4 * torch.randn(20, n),
        "one large": torch.rand(20, n) + torch.tensor([100.0] + [0.0] * (n - 1)),
    }[kind].double()
    w = (turn * values.unsqueeze(1)) @ turn.mT
    w = w / w.norm(dim=(1, 2), keepdim=True) + 2 * torch.eye(n)
    for _ in range(sweeps(n)):
        for p, q in pairs(n):
            gram = w.mT @ w
            d, e = gram[:, p, p] - gram[:, q, q], 2 * gram[:, p, q]
            half = torch.atan2(e * d.sign(), d.abs() + 2.0**-22) / 2
            c, s = half.cos().unsqueeze(1), half.sin().unsqueeze(1)
            w = w.clone()
            w[:, :, p], w[:, :, q] = w[:, :, p] * c + w[:, :, q] * s, w[:, :, q] * c - w[:, :, p] * s
    gram = w.mT @ w
    assert float((gram - torch.diag_embed(gram.diagonal(0, 1, 2))).abs().max()) < 2.0**-21


# --- eigenvalues ----------------------------------------------------------------------


def check_eigh(x, **options):
    values, vectors = (plain(each) for each in torch.linalg.eigh(encrypted(x, **options)))
    expected = torch.linalg.eigvalsh(x)
    n, norm = x.shape[-1], float(x.norm())
    assert float((values - expected).abs().max()) <= STEP + n * norm * 2.0**-22
    gaps = expected.diff().min() if n > 1 else torch.ones(())
    error = STEP + n * norm * 2.0**-20 / float(gaps)
    assert float((x @ vectors - vectors * values).abs().max()) <= 4 * norm * error
    assert float((vectors.mT @ vectors - torch.eye(n)).abs().max()) <= 4 * error


@pytest.mark.parametrize("n", [1, 2, 3])
def test_eigenvalues(n):
    check_eigh(symmetric(spread(n)))
    check_eigh(symmetric(spread(n) * (1 - 2 * torch.randint(0, 2, (n,)))))


@pytest.mark.parametrize("suite", SUITE_OPTIONS)
def test_eigenvalues_in_every_suite(suite):
    check_eigh(symmetric(spread(2)), **SUITE_OPTIONS[suite])


def test_equal_eigenvalues_and_none():
    for x in (2 * torch.eye(3), torch.zeros(2, 2)):
        values, vectors = torch.linalg.eigh(encrypted(x.double()))
        assert off(values, x.diagonal()) <= 1
        assert off(vectors.mT @ vectors, torch.eye(len(x))) <= 8
    values, vectors = torch.linalg.eigh(encrypted(torch.zeros(2, 0, 0)))
    assert (values.shape, vectors.shape) == ((2, 0), (2, 0, 0))


def test_one_half_of_the_matrix_is_read():
    x = symmetric(spread(2))
    for half in "LU":
        given = x + (torch.ones(2, 2).triu(1) if half == "L" else torch.ones(2, 2).tril(-1))
        assert off(torch.linalg.eigvalsh(encrypted(given), UPLO=half), torch.linalg.eigvalsh(x)) <= 2


def test_gradients_of_eigenvalues():
    secret, twin = twins(symmetric(spread(3)))
    weights = torch.rand(3, 3, dtype=torch.float64)
    for x in (secret, twin):
        values, vectors = torch.linalg.eigh(x)
        (values.square().sum() + (vectors.square() * weights).sum()).backward()
    assert off(secret.grad, twin.grad) <= 64


def test_rounds_of_eigenvalues():
    """As the table of functions says, for two holders."""
    for n in (2, 3):
        x = encrypted(symmetric(spread(n)))
        before = parties().stats.copy()
        torch.linalg.eigvalsh(x)
        rounds = (parties().stats - before).cost.rounds
        assert rounds <= sweeps(n) * (25 * (n - 1 + n % 2) + 6) + 60


# --- singular values ------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 2), (2, 3)])
@pytest.mark.parametrize("full", [False, True])
def test_singular_values(shape, full):
    x = of_values(*shape, spread(2))
    u, values, vh = torch.linalg.svd(encrypted(x), full_matrices=full)
    expected = torch.linalg.svd(x, full_matrices=full)
    assert (u.shape, vh.shape) == (expected.U.shape, expected.Vh.shape)
    assert off(values, expected.S) <= 3
    u, vh = plain(u), plain(vh)
    assert off((u[:, :2] * plain(values)) @ vh[:2], x) <= 24
    for each in (u.mT @ u, vh @ vh.mT):
        assert off(each, torch.eye(len(each))) <= 12


def test_gradients_of_singular_values():
    secret, twin = twins(of_values(3, 2, spread(2)))
    weights = torch.rand(3, 2, dtype=torch.float64)
    for x in (secret, twin):
        u, values, _ = torch.linalg.svd(x, full_matrices=False)
        (values.square().sum() + (u.square() * weights).sum()).backward()
    assert off(secret.grad, twin.grad) <= 64


def test_norms_of_singular_values():
    x = of_values(3, 2, spread(2))
    for of in ("nuc", 2, -2):
        assert off(torch.linalg.matrix_norm(encrypted(x), of), torch.linalg.matrix_norm(x, of)) <= 6
    assert off(torch.linalg.cond(encrypted(x)), torch.linalg.cond(x)) <= 24


def test_singular_values_of_nothing():
    u, values, vh = torch.linalg.svd(encrypted(torch.zeros(2, 3, 0)))
    assert (u.shape, values.shape, vh.shape) == ((2, 3, 3), (2, 0), (2, 0, 0))
    assert torch.linalg.svdvals(encrypted(torch.zeros(0, 2, 2))).shape == (0, 2)


# --- pseudo-inverses, ranks -----------------------------------------------------------


def test_the_pseudo_inverse_of_a_matrix_that_has_no_full_rank():
    x = of_values(3, 2, [4.0, 0.0])
    secret = encrypted(x)
    assert off(torch.linalg.pinv(secret), torch.linalg.pinv(x, rtol=1e-3)) <= 16
    assert int(plain(torch.linalg.matrix_rank(secret))) == 1


def test_cut_offs():
    x = of_values(2, 2, [4.0, 1.0])
    for options in ({}, {"rtol": 0.5}, {"atol": 2.0}):
        assert off(torch.linalg.pinv(encrypted(x), **options), torch.linalg.pinv(x, **options)) <= 16
    assert int(plain(torch.linalg.matrix_rank(encrypted(x), 2.0))) == 1
    assert int(plain(torch.linalg.matrix_rank(encrypted(symmetric([3.0, -2.0])), hermitian=True))) == 2


# --- least squares --------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (2, 3)])
def test_least_squares(shape):
    m, n = shape
    a, b = of_values(m, n, torch.ones(min(m, n)) + torch.rand(min(m, n))), represented(torch.randn(m, 2), BINARY16)
    given, expected = [twins(each) for each in (a, b.double())], []
    weights = torch.rand(n, 2, dtype=torch.float64)
    for side in range(2):
        found = torch.linalg.lstsq(*(pair[side] for pair in given), driver="gelsd")
        ((found.solution * weights).sum() + found.residuals.sum()).backward()
        expected.append(found)
    mine, theirs = expected
    assert off(mine.solution, theirs.solution) <= 3
    assert off(mine.singular_values, theirs.singular_values) <= 3
    assert (mine.rank, mine.residuals.shape) == (theirs.rank, theirs.residuals.shape)
    if m > n:
        assert off(mine.residuals, theirs.residuals) <= 24
    for secret, twin in given:
        assert off(secret.grad, twin.grad) <= 48


def test_least_squares_of_vectors_and_of_public_matrices():
    a, b = of_values(3, 2, [1.0, 2.0]), represented(torch.randn(3, dtype=torch.float64), BINARY16)
    expected = torch.linalg.lstsq(a, b.unsqueeze(1)).solution.squeeze(1)
    for x, y in ((encrypted(a), encrypted(b)), (a.float(), encrypted(b)), (encrypted(a), b.float())):
        assert off(torch.linalg.lstsq(x, y.unsqueeze(1)).solution.squeeze(1), expected) <= 4


def test_systems_of_tensors():
    x, b = orthogonal(6, 6).reshape(2, 3, 6), torch.randn(2, 3, dtype=torch.float64)
    assert off(torch.linalg.tensorsolve(encrypted(x), encrypted(b)), torch.linalg.tensorsolve(x, b)) <= 6
