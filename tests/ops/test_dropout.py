"""Dropout and its kin: public masks are torch's own, secret ones are nobody's."""

import copy

import pytest
import torch
from op_checks import SUITE_OPTIONS, encrypted, parties, plain
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.mpc.derived import coins
from pysmpc.session.ledger import ledger

LAYERS = {
    "Dropout": (nn.Dropout, (4, 6)),
    "Dropout1d": (nn.Dropout1d, (3, 4, 5)),
    "Dropout2d": (nn.Dropout2d, (3, 4, 2, 5)),
    "Dropout3d": (nn.Dropout3d, (2, 4, 2, 2, 3)),
    "AlphaDropout": (nn.AlphaDropout, (4, 6)),
    "FeatureAlphaDropout": (nn.FeatureAlphaDropout, (3, 4, 5)),
}


def seeded(*calls):
    """What each call gives after the same seed, a fresh one."""
    seed = int(torch.randint(1 << 40, ()))
    found = []
    for call in calls:
        torch.manual_seed(seed)
        found.append(call())
    torch.seed()
    return found


def alike(function, *shapes, atol=2**-12):
    """Values and gradients are plain torch's after the same seed; returns the plain value."""
    values = [torch.randn(shape) for shape in shapes]
    secrets = [encrypted(v).requires_grad_() for v in values]
    twins = [v.clone().requires_grad_() for v in values]
    found, expected = seeded(lambda: function(*secrets), lambda: function(*twins))
    assert torch.allclose(plain(found).float(), expected, atol=atol)
    found.square().sum().backward()
    expected.square().sum().backward()
    for mine, theirs in zip(secrets, twins, strict=True):
        assert torch.allclose(plain(mine.grad).float(), theirs.grad, atol=2**-8)
    return expected.detach()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_masks_are_torchs(name, p):
    kind, shape = LAYERS[name]
    alike(kind(p), shape)
    alike(lambda x: kind(p)(x.transpose(0, 1)), shape)
    alike(lambda x: kind(p, inplace=True)(x * 1), shape)


@pytest.mark.parametrize("p", [0.0, 0.9999, 1.0])
def test_all_or_nothing(p):
    alike(lambda x: F.dropout(x, p), (20, 7))
    alike(lambda x: F.dropout(x[:0], p).sum() + x.sum(), (3,))
    alike(lambda x: F.dropout(x, 0.5), ())


def test_native_dropout():
    alike(lambda x: torch.native_dropout(x, 0.25, True)[0], (5, 6))
    x = encrypted(torch.randn(4))
    assert torch.equal(plain(torch.native_dropout(x, 0.25, False)[0]), plain(x))


def test_a_public_mask_costs_nothing():
    x = encrypted(torch.randn(8, 8)).requires_grad_()
    before = parties().stats.copy()
    out = F.dropout(x, 0.3)
    out.sum().backward()
    assert (parties().stats - before).cost == sy.mpc.interfaces.Cost()
    mask = torch.empty_like(x).bernoulli_(0.5)
    assert torch.equal(plain(mask * 1.0 + 0), sy.decrypt(mask))
    assert mask.session.plain


def test_two_masks_differ():
    x = encrypted(torch.ones(40, 40))
    first, second = (plain(F.dropout(x, 0.5)) for _ in range(2))
    assert not torch.equal(first, second)


def test_what_is_filled_in_place_stays_a_secret():
    """A part of a secret, a parameter: their places hold public numbers, and can be written again."""
    x = encrypted(torch.full((4, 3), 5.0))
    x[1].bernoulli_(0.5)
    assert not x.session.plain
    assert set(sy.decrypt(x)[1].tolist()) <= {0.0, 1.0}
    assert bool((sy.decrypt(x)[[0, 2, 3]] == 5).all())
    p = nn.Parameter(encrypted(torch.zeros(3)))
    with torch.no_grad():
        p.zero_()
        p.bernoulli_(0.5)
        p.add_(x[0])
    assert bool((plain(p) >= 5).all())
    mine, theirs = seeded(
        lambda: plain(torch.empty_like(x).bernoulli_(torch.full((4, 3), 0.3))),
        lambda: torch.empty(4, 3).bernoulli_(torch.full((4, 3), 0.3)),
    )
    assert torch.equal(mine.float(), theirs)


def test_secret_probabilities_are_refused():
    x = encrypted(torch.rand(3))
    for call in (torch.bernoulli, lambda x: torch.empty(3).bernoulli_(x), lambda x: x.clone().bernoulli_(x)):
        with pytest.raises(NotImplementedError, match="bernoulli"):
            call(x)


def test_rrelu_in_training():
    """Slopes between the bounds where x is negative, another for each element; the gradient goes by them."""
    x = torch.randn(300)
    secret = encrypted(x).requires_grad_()
    out = F.rrelu(secret, 0.25, 0.5, training=True)
    out.sum().backward()
    slope = plain(secret.grad).float()
    assert torch.allclose(plain(out).float(), slope * x, atol=2**-12)
    assert bool((slope[x > 0] == 1).all())
    below = slope[x < -(2**-10)]
    assert 0.25 - 2**-10 < below.min() < 0.3
    assert 0.45 < below.max() < 0.5 + 2**-10
    assert below.unique().numel() > below.numel() // 2
    y = encrypted(x)
    F.rrelu(y, 0.25, 0.5, training=True, inplace=True)
    assert bool(((plain(y) - x).abs() < 2**-10)[x > 0].all())
    assert bool((plain(y).float() / x)[x < -0.1].sub(0.375).abs().lt(0.126).all())
    with sy.secret_masks(), pytest.raises(NotImplementedError, match="rrelu"):
        F.rrelu(secret, training=True)


@pytest.mark.parametrize(
    "layer",
    [
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3),
        nn.TransformerDecoderLayer(8, 2, 16, dropout=0.3, batch_first=True),
        nn.MultiheadAttention(8, 2, dropout=0.3),
    ],
)
def test_attention_in_training(layer):
    layer, secret = copy.deepcopy(layer), sy.encrypt(layer, parties())
    count = {nn.TransformerEncoderLayer: 1, nn.TransformerDecoderLayer: 2}.get(type(layer), 3)
    values = [torch.randn(3, 2, 8) for _ in range(count)]
    found, expected = seeded(lambda: secret(*map(encrypted, values)), lambda: layer(*values))
    if isinstance(found, tuple):
        found, expected = found[0], expected[0]
    assert torch.allclose(plain(found).float(), expected, atol=2**-10)
    weights = torch.rand(expected.shape)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, theirs in zip(secret.parameters(), layer.parameters(), strict=True):
        assert torch.allclose(plain(mine.grad).float(), theirs.grad, atol=2**-7)


# --- secret masks --------------------------------------------------------------------------


@pytest.mark.parametrize("suite", ["default", *SUITE_OPTIONS])
@pytest.mark.parametrize("p", [0.25, 0.9])
def test_secret_masks(suite, p):
    options = SUITE_OPTIONS.get(suite, {})
    x = encrypted(torch.ones(60, 50), **options).requires_grad_()
    with sy.secret_masks():
        out = F.dropout(x, p)
    out.sum().backward()
    found = plain(out).float()
    kept = found > 0.5
    assert torch.allclose(found, kept * (1 / (1 - p)), atol=2**-12)
    assert abs(float(kept.float().mean()) - (1 - p)) < 6 * (p * (1 - p) / kept.numel()) ** 0.5
    assert torch.allclose(plain(x.grad).float(), found, atol=2**-12)


@pytest.mark.parametrize("name", LAYERS)
def test_secret_masks_of_every_layer(name):
    kind, shape = LAYERS[name]
    x = torch.randn(shape)
    with sy.secret_masks():
        found = plain(kind(0.5)(encrypted(x))).float()
    if "Alpha" in name:
        a = ((1 + 1.7580993408473766**2 * 0.5) * 0.5) ** -0.5
        kept, dropped = x * a + 1.7580993408473766 * a * 0.5, torch.tensor(-1.7580993408473766 * a * 0.5)
    else:
        kept, dropped = 2 * x, torch.tensor(0.0)
    is_kept, is_dropped = ((found - each).abs() < 2**-10 for each in (kept, dropped))
    assert bool((is_kept | is_dropped).all())


def test_a_secret_mask_is_nobodys():
    """Neither torch's generator nor what is opened tells it; it is drawn anew each time, and opens nothing."""
    x = encrypted(torch.ones(500))

    def masked():
        with sy.secret_masks():
            return plain(F.dropout(x, 0.5))

    assert not torch.equal(*seeded(masked, masked))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with ledger() as kept, sy.secret_masks():
        mask = torch.empty_like(x).bernoulli_(0.5)
    assert torch.equal(torch.get_rng_state(), state)
    assert not mask.session.plain
    assert not list(kept), "something was opened"
    torch.seed()


@pytest.mark.parametrize("n", [2, 3])
def test_shares_of_a_secret_mask_are_uniform(n):
    session = parties(n).session
    share = coins.random_bits(session.suite, session.party, (4000,), 0.5)
    words = share.words()
    assert set((words.sum(0)).tolist()) == {0, 1}
    for row in words:
        high = (row >> 62) & 3  # two bits of a share: each as often as others
        assert all(abs(int((high == each).sum()) - 1000) < 200 for each in range(4))


def test_the_cost_of_coins():
    for n in (2, 3):
        stats, session = parties(n).stats, parties(n).session
        before = stats.copy()
        coins.random_bits(session.suite, session.party, (33,), 0.1)
        assert (stats - before).cost == coins.random_bits_cost(n, 33)
    with pytest.raises(RuntimeError, match="probability"):
        coins.random_bits(session.suite, session.party, (3,), 1.5)


def test_the_choice_is_of_a_block():
    assert not sy.ops.dropout.masks_are_secret()
    with sy.secret_masks(), sy.secret_masks():
        assert sy.ops.dropout.masks_are_secret()
    with pytest.raises(KeyError), sy.secret_masks():
        raise KeyError
    assert not sy.ops.dropout.masks_are_secret()
