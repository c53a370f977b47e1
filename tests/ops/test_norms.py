"""Norms of any power, distances, and what is made of them: right for vectors of every size, values and gradients."""

import pytest
import torch
from op_checks import SUITE_OPTIONS, check_op, encrypted, parties, plain
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.ring.fixedpoint import Precision

STEP = 2.0**-16
POWERS = [3, 4, 2.5, 1.5, 1.1, 0.5, -1, 20]


def off(fn, x, steps=4.0, rtol=2.0**-14, grad_steps=8.0):
    """Values within steps and rtol of float64's at the decoded argument, and gradients within grad_steps and rtol."""
    x = x.detach().requires_grad_()
    twin = plain(x.detach()).requires_grad_()
    out, expected = fn(x), fn(twin)
    assert out.shape == expected.shape
    out.sum().backward()
    expected.sum().backward()
    for found, wanted, allowed in ((out.detach(), expected.detach(), steps), (x.grad, twin.grad, grad_steps)):
        error = (plain(found) - wanted).abs() - rtol * wanted.abs()
        assert float(error.max()) <= allowed * STEP, f"off by {float(error.max()) / STEP:.1f} steps"


@pytest.mark.parametrize("size", [0.01, 1.0, 300.0, 1e6])
@pytest.mark.parametrize("p", POWERS)
def test_norms_of_vectors_of_every_size(p, size):
    """Also where no power of their elements has room, or is a step."""
    values = size * torch.randn(50, 6)
    values += (1 + size / 30) * values.sign() * (p < 1)  # where an element is 0, the gradient is not finite
    off(lambda x: torch.linalg.vector_norm(x, p, -1), encrypted(values), 4 if p > 1 else 40, 2.0**-13, 8 + 4 * (p < 1))


@pytest.mark.parametrize("shape", [(), (1,), (5, 1)], ids=str)
@pytest.mark.parametrize("p", [*POWERS, -2.1, 6])
def test_a_single_element(p, shape):
    """Its norm is its magnitude, exactly, and the derivative its sign, whatever the power."""
    values = torch.tensor([0.02, -0.4, 8.7, -9.0, 200.0])
    for value in values if shape != (5, 1) else [values.reshape(shape)]:
        off(
            lambda x: torch.linalg.vector_norm(x, p, -1 if shape else None),
            encrypted(value.reshape(shape)),
            2**-20,
            0.0,
            2**-20,
        )


@pytest.mark.parametrize("p", [3, 1.5])
def test_elements_that_are_zero(p):
    values = torch.randn(6, 5)
    values[0] = 0
    values[1, 2:] = 0
    values[2] = torch.tensor([0, STEP, 0, 0, 0])
    off(lambda x: torch.norm(x, p, -1), encrypted(values))


@pytest.mark.parametrize(
    ("dim", "keepdim"), [(0, False), (1, True), ((0, 2), False), ((2, 1), True), (None, False), (-1, False)]
)
def test_dimensions(dim, keepdim):
    values = torch.randn(3, 4, 5)
    off(lambda x: torch.linalg.vector_norm(x, 3, dim, keepdim), encrypted(values))
    off(lambda x: torch.norm(x.transpose(0, 1), 3, dim, keepdim), encrypted(values))


@pytest.mark.parametrize("suite", SUITE_OPTIONS)
def test_under_every_suite(suite):
    x = sy.encrypt(30 * torch.randn(3, 4), sy.virtual("alice", "bob"), **SUITE_OPTIONS[suite])
    off(lambda x: torch.norm(x, 3, -1), x)


@pytest.mark.parametrize("precision", [Precision(10, 3), Precision(2, 20)], ids=str)
def test_other_encodings(precision):
    x = encrypted(torch.randn(4, 6), 2, precision)
    found, expected = plain(torch.norm(x, 3, -1)), plain(x).norm(3, -1)
    assert torch.allclose(found, expected, atol=4 / min(precision.scale, 1 << 16), rtol=2.0**-12)


def test_three_holders_and_no_elements():
    off(lambda x: torch.norm(x, 4, 0), encrypted(torch.randn(5, 3), 3))
    assert torch.norm(encrypted(torch.randn(0, 3)), 3, 0).shape == (3,)


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_what_is_made_of_norms(size):
    other = size * torch.randn(4, 5)
    x = encrypted(size * torch.randn(4, 5))
    for fn in (
        lambda x: F.normalize(x, 3),
        lambda x: F.pairwise_distance(x, other.to(x.dtype), 3),
        lambda x: torch.dist(x, other.to(x.dtype), 4),
        lambda x: x.dist(other.to(x.dtype), p=4),
        lambda x: torch.renorm(x, 3, 0, 1.0),
        lambda x: nn.PairwiseDistance(2.5)(x, other.to(x.dtype)),
    ):
        off(fn, x, 6, 2.0**-12, 32)


@pytest.mark.parametrize("p", [3.0, 1.5, 0.7, float("inf")])
def test_distances(p):
    def cdist(x, y):
        return torch.cdist(x, y, p=p)

    # eighths are exact in both encodings: what is equal to the largest is that in float64, too
    values = (lambda shape: torch.randint(-16, 17, shape) / 8) if p == float("inf") else None
    check_op(cdist, shapes=[[(3, 4), (2, 4)]], steps=8, grad_steps=64, rtol=2.0**-9, values=values)
    check_op(lambda x: F.pdist(x, p=p), shapes=[(4, 3)], steps=8, grad_steps=64, rtol=2.0**-9, values=values)


def test_powers_of_a_norm_and_of_a_magnitude_are_what_they_are_elsewhere():
    """What is noted of them for the derivative changes nothing for others who ask."""
    x = encrypted(torch.randn(4, 5))
    n, v = torch.norm(x, 3, -1), plain(x)
    expected = v.norm(3, -1)
    for found, wanted in (
        (n**2, expected**2),
        (x.abs() ** 1, v.abs()),
        (x * x.abs(), v * v.abs()),
        (2 / n**2, 2 / expected**2),
        (encrypted(torch.ones(4)) / n**2, 1 / expected**2),
        ((x * x.abs()) * (encrypted(torch.ones(4)) / n**2)[:, None], v * v.abs() / (expected**2)[:, None]),
    ):
        assert torch.allclose(plain(found), wanted, atol=24 * STEP, rtol=2.0**-12)


@pytest.mark.parametrize("p", [1.5, 3.0])
def test_steps_of_one_norm_are_no_part_of_another(p):
    """x |x|^(p - 2) of one argument over a power of the norm of another."""
    x, other = encrypted(torch.rand(4, 4) + 0.5), encrypted(torch.rand(4, 4) + 2)

    def made(x, other):
        torch.norm(x, p)
        weight = x.abs().pow(p - 2 if p > 2 else p - 1)
        return (x * weight) * (torch.ones(()) / torch.norm(other, p).pow(p - 1))

    assert torch.allclose(plain(made(x, other)), made(plain(x), plain(other)), atol=1e-3, rtol=2.0**-9)


@pytest.mark.parametrize("p", [0.5, 1.5, 3.0])
def test_other_views_of_what_a_norm_was_taken_of(p):
    """Its transpose, and other shapes of a step of the derivative, are no parts of it."""
    x = encrypted(torch.rand(4, 4) + 0.5)

    def made(x, transposed, shape):
        norm = torch.norm(x, p)
        weight = x.abs().pow(p - 2 if p > 2 else p - 1)
        other = x.t() if transposed else x
        over = norm.pow(1 - p) if p < 1 else torch.ones(()) / norm.pow(p - 1)
        return (other * weight).reshape(shape) * over, (other.reshape(shape) * weight.reshape(shape)) * over

    for transposed in (False, True):
        for shape in ((4, 4), (2, 8)):
            for got, expected in zip(made(x, transposed, shape), made(plain(x), transposed, shape), strict=True):
                assert got.shape == expected.shape
                assert torch.allclose(plain(got), expected, atol=1e-3, rtol=2.0**-9)


def test_what_norms_refuse():
    x = encrypted(torch.randn(3))
    with pytest.raises(EncodingError, match="infinity"):
        torch.norm(x, 1000)
    with pytest.raises(EncodingError, match="larger p"):
        torch.norm(encrypted(torch.randn(100)), 0.1)


# --- losses of secret variances --------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"full": True, "reduction": "none"}, {"reduction": "sum", "eps": 0.5}], ids=str
)
@pytest.mark.parametrize("shape", [(5, 3), (5, 1), (5,)])
def test_gaussian_nll_loss_of_secret_variances(options, shape):
    """And nothing is opened, though torch asks whether a variance is negative."""
    given = [torch.randn(5, 3), torch.randn(5, 3), 0.1 + torch.rand(shape)]
    secrets = [encrypted(each).requires_grad_() for each in given]
    twins = [plain(each.detach()).requires_grad_() for each in secrets]
    with sy.ledger() as kept:
        out = nn.GaussianNLLLoss(**options)(*secrets)
        out.sum().backward()
    assert "reveal" not in kept.causes
    expected = F.gaussian_nll_loss(*twins, **options)
    expected.sum().backward()
    assert torch.allclose(plain(out.detach()), expected.detach(), atol=2.0**-10, rtol=2.0**-12)
    for secret, twin in zip(secrets, twins, strict=True):
        assert torch.allclose(plain(secret.grad), twin.grad, atol=2.0**-8, rtol=2.0**-8)


def test_gaussian_nll_loss_of_what_is_public_is_torchs():
    x, y, var = torch.randn(4), torch.randn(4), torch.rand(4)
    assert torch.equal(nn.GaussianNLLLoss()(x, y, var), F.gaussian_nll_loss(x, y, var))
    with pytest.raises(ValueError, match="negative"):
        F.gaussian_nll_loss(x, y, -var)
    secret = encrypted(x)
    found = plain(F.gaussian_nll_loss(secret, y, var + 0.1))
    assert torch.allclose(found, F.gaussian_nll_loss(plain(secret), y, var + 0.1).double(), atol=2.0**-10)
    with pytest.raises(ValueError, match="incorrect size"):
        F.gaussian_nll_loss(secret, y, encrypted(var[:3]))
    with pytest.raises(ValueError, match="not valid"):
        F.gaussian_nll_loss(secret, y, encrypted(var), reduction="some")


def test_variances_below_eps_count_as_eps():
    x, var = encrypted(torch.randn(3)), encrypted(torch.tensor([-1.0, 0.0, 0.25]))
    found = plain(F.gaussian_nll_loss(x, torch.zeros(3), var, eps=0.5, reduction="none"))
    assert torch.allclose(found, 0.5 * (torch.tensor(0.5).log() + plain(x) ** 2 / 0.5), atol=2.0**-13)


def test_entropies():
    check_op(torch.special.entr, shapes=[(5,), (2, 3)], low=0.1, high=4, steps=3, grad_steps=8)
    check_op(torch.special.xlog1py, shapes=[[(5,), (5,)]], low=0.1, high=3, steps=3, grad_steps=12)
    assert float(plain(torch.special.entr(encrypted(torch.zeros(2)))).abs().max()) == 0


def test_parties_are_untouched_by_a_refusal():
    x = encrypted(torch.randn(4))
    before = parties().stats.copy()
    with pytest.raises(EncodingError):
        torch.linalg.vector_norm(x, 513)
    assert (parties().stats - before).cost.rounds == 0
