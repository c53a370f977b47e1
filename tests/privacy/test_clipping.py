"""Clipping on secrets: each example's gradient is no longer than the norm, and nothing is lost of shorter ones."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import PrivacyError
from pysmpc.privacy.clipping import LARGEST, LARGEST_INPUT, LARGEST_OUTPUT, Taps, factors
from pysmpc.privacy.layers import Squares

EXACT = 2.0**-10


@pytest.fixture
def parties():
    return sy.virtual("alice", "bob")


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(9, 6, padding_idx=0), nn.Linear(6, 4)

    def forward(self, x):
        return self.out(self.table(x).mean(1))


MODELS = {
    "linear": (lambda: nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4, bias=False)), (12,)),
    "sequence": (lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Flatten(), nn.Linear(18, 4)), (3, 5)),
    "conv2d": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), nn.ReLU(), nn.Flatten(),
            nn.Linear(36, 4),
        ),
        (2, 7, 5),
    ),
    "conv1d": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)),
        (2, 6),
    ),
    "norms": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 4)),
        (2, 6),
    ),
    "embedding": (Tokens, None),
}  # fmt: skip


def drawn(name):
    """A model and inputs of which no ReLU comes so near to 0 that rounding turns it: that is another gradient."""
    make, shape = MODELS[name]
    while True:
        model, nearest = make(), [1.0]
        x = torch.randint(9, (6, 5)) if shape is None else torch.randn(6, *shape)
        hooks = [
            layer.register_forward_pre_hook(
                lambda _, given, nearest=nearest: nearest.append(float(given[0].abs().min()))
            )
            for layer in model.modules()
            if isinstance(layer, nn.ReLU)
        ]
        with torch.no_grad():
            model(x)
        for hook in hooks:
            hook.remove()
        if min(nearest) > 2.0**-11:
            return model, x


def one_by_one(model, x, y):
    """Gradients of each example in plain torch, [examples, parameters]."""
    found = []
    for i in range(len(x)):
        model.zero_grad()
        F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        found.append(torch.cat([p.grad.reshape(-1).double() for p in model.parameters()]))
    return torch.stack(found)


def clipped(model, x, y, parties, norm):
    """(factors, sums in units of the norm) on secrets."""
    secret = sy.encrypt(copy.deepcopy(model), parties)
    taps = Taps(secret)
    given = sy.encrypt(x, parties) if x.is_floating_point() else x
    F.cross_entropy(secret(given), sy.encrypt(y, parties)).backward()
    times = len(x) / norm
    found = factors(taps.squares(times))
    sums = taps.clipped_sums(found)
    return sy.decrypt(found).double(), torch.cat(
        [sy.decrypt(sums[p]).reshape(-1).double() for p in secret.parameters()]
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("norm", [0.5, 1.0, 20.0])
def test_as_one_by_one(name, norm, parties):
    (model, x), y = drawn(name), torch.randint(4, (6,))
    if name == "embedding":
        x[0] = 3  # the same word again and again
    each = one_by_one(model, x, y)
    norms = each.norm(dim=1)
    found, sums = clipped(model, x, y, parties, norm)
    expected = (norm / norms).clamp(max=1)
    # b itself has errors of some 2^-16, which a layer's input magnifies
    assert torch.allclose(found, expected, rtol=4 * EXACT, atol=EXACT)
    assert torch.allclose(sums, (each * expected.unsqueeze(1)).sum(0) / norm, atol=0.01)


def test_factors_bring_every_norm_to_one(parties):
    """Over the whole range, from above never and from below by less than 2^-10."""
    n = 4000
    norms = torch.exp2(torch.empty(n, dtype=torch.float64).uniform_(-4, 8))
    first = torch.exp2(torch.empty(n, dtype=torch.float64).uniform_(-4, 4))
    first, second = first.float(), (norms.square() / first).float()
    inside = second < LARGEST_OUTPUT * 0.99
    found = factors([Squares(sy.encrypt(first, parties), sy.encrypt(second, parties))])
    reached = sy.decrypt(found).double() * norms
    assert bool((reached <= 1 + 2.0**-16).all())
    short = (norms < 0.995) & inside
    assert bool(((sy.decrypt(found).double()[short] - 1).abs() <= EXACT).all())
    usual = inside & (first >= 0.25) & (second >= 0.25) & (norms > 1.005)
    assert bool((reached[usual] >= 1 - EXACT).all())


def test_norms_beyond_the_range_count_for_nothing(parties):
    """A square that is too large gives its example the factor 0, and no other."""
    beyond = [
        ([2 * LARGEST_INPUT, 1.0], [1.0, 1.0], [0.0, 0.0]),
        ([1.0, 1.0], [2 * LARGEST_OUTPUT, 1.0], [0.0, 0.0]),
        ([1.0, 1.0], [1.0, 1.0], [2 * LARGEST, 0.0]),
        ([LARGEST_INPUT, 1.0], [LARGEST_OUTPUT, 1.0], [0.0, 0.0]),  # their product
        ([1.0, 1.0], [1.0, 1.0], [2.0**29, 0.0]),
    ]
    for first, second, alone in beyond:
        a, b, c = (sy.encrypt(torch.tensor(x), parties) for x in (first, second, alone))
        found = sy.decrypt(factors([Squares(a, b), Squares(c)]))
        assert found[0] == 0
        assert found[1] == pytest.approx(1, abs=EXACT)


def test_many_layers(parties):
    squares = [Squares(sy.encrypt(torch.full((3,), 2.0), parties), sy.encrypt(torch.ones(3), parties))] * 32
    assert torch.allclose(sy.decrypt(factors(squares)), torch.full((3,), 1 / 8.0), atol=EXACT / 8)


def test_nothing_is_opened(parties):
    model = sy.encrypt(nn.Linear(4, 3), parties)
    taps = Taps(model)
    x, y = sy.encrypt(torch.randn(5, 4), parties), sy.encrypt(torch.randint(3, (5,)), parties)
    with sy.ledger() as kept:
        F.cross_entropy(model(x), y).backward()
        taps.clipped_sums(factors(taps.squares(5.0)))
    assert kept.revealed == []


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "'1' .BatchNorm1d.: it mixes the examples"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)), "'1' .BatchNorm1d.: it mixes"),
        (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), "it has groups"),
        (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding="same")), "give its padding as numbers"),
        (lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 3)), "only nn.Conv1d and nn.Conv2d"),
        (lambda: nn.Sequential(nn.LSTM(4, 4)), "there is no clipping rule for it; freeze"),
        (lambda: nn.Sequential(nn.Embedding(4, 4, max_norm=1.0)), "leave out max_norm"),
        (Shared, "'b' .Linear.: it shares a parameter with 'a'"),
        (lambda: nn.ReLU(), "no trained parameter"),
    ],
)
def test_layers_without_a_rule(model, words):
    made = model()
    with pytest.raises(PrivacyError, match=words):
        Taps(made)
    assert not any("forward" in vars(layer) for layer in made.modules())


def test_all_problems_at_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.LSTM(2, 2))
    with pytest.raises(PrivacyError, match="'1'") as found:
        Taps(model)
    assert "'2'" in str(found.value)
    for p in [*model[1].parameters(), *model[2].parameters()]:
        p.requires_grad_(False)
    model[1].eval()
    Taps(model)


def test_evaluation_and_removal(parties):
    model = sy.encrypt(nn.Linear(3, 2), parties)
    x = sy.encrypt(torch.randn(4, 3), parties)
    taps = Taps(model)
    model.eval()
    out = sy.decrypt(model(x))
    with pytest.raises(PrivacyError, match="no gradient to clip"):
        taps.squares(1.0)
    model.train()
    model(x).sum().backward()
    assert model.weight.grad is None
    assert math.isfinite(float(sy.decrypt(factors(taps.squares(1.0))).sum()))
    copied = copy.deepcopy(model)
    copied(x).sum().backward()
    assert len(taps._kept[""].found) == 1
    taps.remove()
    assert torch.allclose(sy.decrypt(model(x)), out, atol=2**-12)
    model(x).sum().backward()
    assert model.weight.grad is not None
