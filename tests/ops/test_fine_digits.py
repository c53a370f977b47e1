"""What fixed point would lose: digits of public gradients, of small summands, of weights of attention."""

import copy

import pytest
import torch
import torch.nn.functional as F
from op_checks import encrypted, parties, plain, represented, uniform
from torch import nn

import pysmpc as sy
from pysmpc.errors import EncodingError, RangeError
from pysmpc.ops import known
from pysmpc.ring.fixedpoint import BINARY16

STEP = 2.0**-16


def numbers(shape, low, high):
    return represented(uniform(shape, low, high), BINARY16)


def gradients(fn, *values):
    """(of secrets, of their twins) of a function to a number."""
    secrets = [encrypted(v).requires_grad_() for v in values]
    twins = [v.clone().requires_grad_() for v in values]
    fn(*secrets).backward()
    fn(*twins).backward()
    return [(plain(s.grad), t.grad) for s, t in zip(secrets, twins, strict=True)]


def assert_near(found, expected, relative):
    assert bool(((found - expected).abs() <= relative * expected.abs().clamp(min=1)).all()), (found, expected)


def test_a_public_gradient_leaves_room_for_what_it_is_multiplied_with():
    """A weight of a loss times one is a product of public numbers, whose scale is that of a product."""
    weights = numbers((50,), 0.5, 1)
    found, expected = gradients(lambda x: (x**3 * weights).sum(), numbers((50,), 90, 140))[0]
    assert_near(found, expected, 2.0**-12)  # up to 60,000: 2^16


def test_a_small_public_gradient_keeps_its_digits():
    """1/1000 of a weight of 1/50 is a step or two, and multiplied by numbers of some thousands."""
    weight = numbers((), 0.01, 0.02)
    x = numbers((1000,), 6, 9)
    found, expected = gradients(lambda x: (torch.exp(x).mean() * weight).sum(), x)[0]
    assert bool(((found - expected).abs() <= 2 * STEP + 2.0**-14 * expected).all())


@pytest.mark.parametrize("factor", [0.3, -1e-3, 7])
def test_products_of_public_numbers_are_nearly_exact(factor):
    x = torch.ones_like(encrypted(torch.zeros(20))) * numbers((20,), 1e-3, 1e-2)  # public, at the scale of a product
    assert x.session.plain
    for y in (factor, torch.full((20,), factor), uniform((20,), 0, 1e-4), x):
        twin = plain(y) if isinstance(y, sy.SecretTensor) else y
        expected = plain(x) * (twin.double() if isinstance(twin, torch.Tensor) else twin)
        # the largest factor has 16 significant bits or more, and results have steps of 2^-40
        error = float((plain(x * y) - expected).abs().max())
        assert error <= 2.0**-15 * float(plain(x).abs().max()) * float(abs(torch.as_tensor(twin)).max()) + 2.0**-40


def test_a_public_product_that_no_word_holds_is_refused():
    x = torch.ones_like(encrypted(torch.zeros(2))) * torch.ones(2)
    large = sy.SecretTensor.of(x.window().at(3**20), x.session, x.unit, x.dtype)
    with pytest.raises(EncodingError, match="fewer fractional bits"):
        known.product(large, large, x.dtype)


def test_where_between_public_branches_is_exact_and_costs_nothing():
    mask = encrypted(torch.randn(30)) > 0
    grad = torch.ones_like(encrypted(torch.zeros(30))) * numbers((30,), 1e-3, 1e-2)
    before = parties().stats.copy()
    out = torch.where(mask, torch.zeros(()), grad)
    assert not (parties().stats - before).cost.rounds
    expected = torch.where(sy.decrypt(mask), 0, plain(grad))
    assert float((plain(out) - expected).abs().max()) < 2.0**-30


@pytest.mark.parametrize("eps", [1e-4, 0.0003, -1.5 * STEP])
def test_a_small_summand_keeps_its_digits_in_a_logarithm(eps):
    values = numbers((200,), 3 * STEP, 40 * STEP)
    x = encrypted(values).requires_grad_()
    twin = values.clone().requires_grad_()
    out, expected = torch.log(x + eps), torch.log(twin + eps)
    assert float((plain(out) - expected.detach()).abs().max()) < 2 * STEP + 2.0**-22 / float((values + eps).min())
    out.sum().backward()
    expected.sum().backward()
    assert_near(plain(x.grad), twin.grad, 2.0**-7)  # 2^-23 of two and a half steps of 2^-16, and 2^-13


def test_poisson_losses_of_small_expectations():
    x, target = numbers((100,), 10 * STEP, 0.01), numbers((100,), 0, 9)
    for options in ({"eps": 0.00047}, {"eps": 0.0005, "full": True}):
        found, expected = gradients(
            lambda x, options=options: F.poisson_nll_loss(x, target.to(x.dtype), log_input=False, **options), x
        )[0]
        assert_near(found, expected, 2.0**-9)


def test_a_derivative_by_next_to_nothing_says_so():
    """Of a logarithm of 0 and a little: where the quotient leaves the ring, and what to write."""
    x = encrypted(torch.zeros(2), requires_grad=True)
    loss = F.poisson_nll_loss(x, encrypted(torch.full((2,), 9.0)), log_input=False)
    with pytest.raises(RangeError, match=r"(?s)^div .*poisson_nll_loss.* below 2\^\d+: .*clamp\(min=2\*\*-10\)"):
        loss.backward()
    found, expected = gradients(
        lambda x: F.poisson_nll_loss(x.clamp(min=2**-10), torch.full((2,), 9.0), log_input=False), torch.zeros(2)
    )[0]
    assert_near(found, expected, 2.0**-9)


# --- functions that torch takes apart --------------------------------------------------


def test_rms_norm_of_every_size():
    for size, weight in ((0.05, 1.0), (1.0, 9.0), (900.0, 900.0)):
        module = nn.RMSNorm(8, dtype=torch.float64)
        module.weight.data = numbers((8,), weight / 2, weight)
        values, weights = numbers((6, 8), -size, size), numbers((6, 8), -1, 1)
        own = nn.RMSNorm(8)
        own.weight = nn.Parameter(encrypted(module.weight.detach()))
        x, twin = encrypted(values).requires_grad_(), values.clone().requires_grad_()
        out, expected = own(x), F.rms_norm(twin, (8,), module.weight, torch.finfo(torch.float32).eps)
        assert_near(plain(out), expected.detach(), 2.0**-11)
        (out * weights).sum().backward()
        (expected * weights).sum().backward()
        if size < 1:  # a step of what is multiplied with the square of the inverse root, which is 20 to 80 here
            assert bool(((plain(x.grad) - twin.grad).abs() <= STEP / values.square().mean(1, keepdim=True)).all())
        else:
            assert_near(plain(x.grad), twin.grad, 2.0**-12)
        assert_near(plain(own.weight.grad), module.weight.grad, 2.0**-11)


def test_rms_norm_of_no_rows_and_of_a_wrong_shape():
    assert F.rms_norm(encrypted(torch.zeros(0, 3)), (3,)).shape == (0, 3)
    with pytest.raises(RuntimeError, match="does not fit"):
        F.rms_norm(encrypted(torch.zeros(2, 3)), (4,))


def test_rms_norm_of_a_secret_weight_and_public_rows():
    x, weight = numbers((4, 5), -3, 3), numbers((5,), -2, 2)
    found = F.rms_norm(x.float(), (5,), encrypted(weight))
    assert_near(plain(found), F.rms_norm(x, (5,), weight), 2.0**-13)


@pytest.mark.parametrize("secret_target", [False, True])
def test_cosine_embedding_loss(secret_target):
    a, b = numbers((20, 6), -9, 9), numbers((20, 6), -9, 9)
    target = torch.where(torch.rand(20) < 0.5, 1.0, -1.0)
    hidden = encrypted(target) if secret_target else target

    def loss(x, y):
        return F.cosine_embedding_loss(x, y, hidden if isinstance(x, sy.SecretTensor) else target, 0.1, reduction="sum")

    for found, expected in gradients(loss, a, b):
        assert_near(found, expected, 2.0**-12)
    with pytest.raises(RuntimeError, match="a target for each row"):
        F.cosine_embedding_loss(encrypted(a), encrypted(b), torch.ones(()))


@pytest.mark.parametrize("mask", ["none", "public", "secret", "truth values"])
def test_attention_with_weights(mask):
    """Scores of some hundreds, where a step of a query is a step of its score times a key."""
    module = nn.MultiheadAttention(4, 2, dtype=torch.float64)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(numbers(p.shape, -3, 3))
    values = numbers((3, 5, 4), -3, 3)
    added = {"none": None, "public": numbers((3, 3), -9, 9), "secret": numbers((3, 3), -9, 9),
             "truth values": torch.ones(3, 3, dtype=torch.bool).triu(1)}[mask]  # fmt: skip
    hidden = encrypted(added) if mask == "secret" else added
    x, twin = encrypted(values).requires_grad_(), values.clone().requires_grad_()
    for own in (True, False):
        out, weights = module(twin, twin, twin, attn_mask=added, average_attn_weights=own)
        found, of_mine = module(x, x, x, attn_mask=hidden, average_attn_weights=own)
        assert found.shape == out.shape
        assert of_mine.shape == weights.shape
        assert_near(plain(of_mine), weights.detach(), 2.0**-10)
        assert_near(plain(found), out.detach(), 2.0**-10)
    (found.sum() + of_mine.square().sum()).backward()
    (out.sum() + weights.square().sum()).backward()
    assert_near(plain(x.grad), twin.grad, 2.0**-8)


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_with_dropout_is_as_fine(need_weights):
    """Of large queries and keys; the mask is the one that torch draws."""
    module, x = nn.MultiheadAttention(4, 2, dropout=0.5), torch.rand(3, 4) * 6 - 3
    secret, twin = sy.encrypt(copy.deepcopy(module), parties()), copy.deepcopy(module).double()
    with torch.no_grad():
        for mine, theirs in zip(secret.parameters(), twin.parameters(), strict=True):
            theirs.copy_(plain(mine))
    given = encrypted(x).requires_grad_()
    known = plain(given.detach()).requires_grad_()
    seed = int(torch.randint(1 << 40, ()))
    for model, operand in ((secret, given), (twin, known)):
        torch.manual_seed(seed)
        out, _ = model(operand, operand, operand, need_weights=need_weights)
        out.sum().backward()
    assert (plain(given.grad) - known.grad).abs().max() < 2**-9


def test_plain_tensors_take_torch_s_own_functions():
    parties()
    x = torch.randn(3, 2, 4)
    for module in (nn.RMSNorm(4), nn.MultiheadAttention(4, 2)):
        args = (x,) * (1 if isinstance(module, nn.RMSNorm) else 3)
        found = module(*args)
        assert type(found[0]) is torch.Tensor
    assert torch.equal(torch.rms_norm(x, (4,)), x * (x.square().mean(-1, keepdim=True) + 1.1920929e-07).rsqrt())
    assert torch.rms_norm.__name__ == "rms_norm"
