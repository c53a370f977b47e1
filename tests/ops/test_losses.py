"""Losses: every reduction, public and secret targets, weights and classes, against torch with gradients."""

import pytest
import torch
from op_checks import SUITE_OPTIONS, encrypted, parties, plain
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import RevealError

N, C = 5, 4
PUBLIC = torch.Tensor


def real(*shape):
    return torch.randn(shape)


def indices(*shape):
    return torch.randint(0, C, shape)


def positive(*shape):
    return 0.1 + 0.8 * torch.rand(shape)


def truths(*shape):
    return (torch.rand(shape) < 0.5).float()


def signs(*shape):
    return 2 * truths(*shape) - 1


def some(n):
    """Classes of which one is -100."""
    out = indices(n)
    out[int(torch.randint(n, ()))] = -100
    return out


W = torch.tensor([0.5, 1.0, 2.0, 0.25])

#: name: (loss of (prediction, target, reduction=...), prediction, target)
LOSSES = {
    "cross entropy": (F.cross_entropy, lambda: real(N, C), lambda: indices(N)),
    "of one example": (F.cross_entropy, lambda: real(C), lambda: indices()),
    "of images": (F.cross_entropy, lambda: real(3, C, 2, 2), lambda: indices(3, 2, 2)),
    "smoothed": (lambda *a, **k: F.cross_entropy(*a, label_smoothing=0.1, **k), lambda: real(N, C), lambda: indices(N)),
    "weighted": (lambda x, t, **k: F.cross_entropy(x, t, W.to(x.dtype), **k), lambda: real(N, C), lambda: indices(N)),
    "images, weighted": (
        lambda x, t, **k: F.cross_entropy(x, t, W.to(x.dtype), **k), lambda: real(3, C, 2, 2), lambda: indices(3, 2, 2)
    ),
    "weighted, smoothed, some ignored": (
        lambda x, t, **k: F.cross_entropy(x, t, W.to(x.dtype), label_smoothing=0.2, **k),
        lambda: real(N, C), lambda: some(N),
    ),
    "images, weighted and smoothed": (
        lambda x, t, **k: F.cross_entropy(x, t, W.to(x.dtype), ignore_index=1, label_smoothing=0.1, **k),
        lambda: real(3, C, 2, 2), lambda: torch.cat([torch.zeros(1, 2, 2).long(), indices(2, 2, 2)]),
    ),
    "some ignored": (F.cross_entropy, lambda: real(N, C), lambda: some(N)),
    "a class ignored": (
        lambda x, t, **k: F.cross_entropy(x, t, W.to(x.dtype), ignore_index=2, **k),
        lambda: real(N, C), lambda: torch.tensor([2, 0, 1, 2, 3]),
    ),
    "ignored and smoothed": (
        lambda *a, **k: F.cross_entropy(*a, ignore_index=3, label_smoothing=0.2, **k),
        lambda: real(N, C), lambda: torch.tensor([2, 0, 3, 2, 3]),
    ),
    "probabilities": (F.cross_entropy, lambda: real(N, C), lambda: real(N, C).softmax(1)),
    "probabilities, weighted and smoothed": (
        lambda x, t, **k: F.cross_entropy(x, t, W.to(x.dtype), label_smoothing=0.1, **k),
        lambda: real(N, C), lambda: real(N, C).softmax(1),
    ),
    "nll": (F.nll_loss, lambda: real(N, C), lambda: indices(N)),
    "nll of images": (F.nll_loss, lambda: real(3, C, 2, 2), lambda: indices(3, 2, 2)),
    "multi margin": (F.multi_margin_loss, lambda: real(N, C), lambda: indices(N)),
    "multi margin, squares": (
        lambda x, t, **k: F.multi_margin_loss(x, t, p=2, margin=0.5, weight=W.to(x.dtype), **k),
        lambda: real(N, C), lambda: indices(N),
    ),
    "multi margin of one": (F.multi_margin_loss, lambda: real(C), lambda: indices()),
    "multilabel": (F.multilabel_soft_margin_loss, lambda: real(N, C), lambda: truths(N, C)),
    "divergence": (F.kl_div, lambda: real(N, C).log_softmax(1), lambda: real(N, C).softmax(1)),
    "divergence of logarithms": (
        lambda *a, **k: F.kl_div(*a, log_target=True, **k),
        lambda: real(N, C).log_softmax(1), lambda: real(N, C).log_softmax(1),
    ),
    "hinge": (F.hinge_embedding_loss, lambda: real(N), lambda: signs(N)),
    "soft margin": (F.soft_margin_loss, lambda: real(N), lambda: signs(N)),
    "ranking": (
        lambda x, t, **k: F.margin_ranking_loss(x, x.flip(0) * 0.5, t, margin=0.3, **k),
        lambda: real(N), lambda: signs(N),
    ),
    "cosine": (
        lambda x, t, **k: F.cosine_embedding_loss(x, x.flip(0), t, margin=0.1, **k),
        lambda: real(6, C), lambda: signs(6),
    ),
    "squares": (F.mse_loss, lambda: real(N, C), lambda: real(N, C)),
    "magnitudes": (F.l1_loss, lambda: real(N, C), lambda: real(N, C)),
    "smooth": (F.smooth_l1_loss, lambda: real(N, C), lambda: real(N, C)),
    "huber": (F.huber_loss, lambda: real(N, C), lambda: real(N, C)),
    "binary": (F.binary_cross_entropy, lambda: positive(N, C), lambda: truths(N, C)),
    "binary of logits": (
        lambda x, t, **k: F.binary_cross_entropy_with_logits(x, t, W.to(x.dtype), pos_weight=W.to(x.dtype), **k),
        lambda: real(N, C), lambda: truths(N, C),
    ),
    "poisson": (F.poisson_nll_loss, lambda: real(N, C), lambda: truths(N, C)),
}  # fmt: skip


def compare(loss, prediction, target, secret_prediction, secret_target, atol=2**-9, **options):
    twin = prediction.double().requires_grad_()
    mine = (
        encrypted(prediction, **options).requires_grad_() if secret_prediction else prediction.clone().requires_grad_()
    )
    expected = loss(twin, target.double() if target.is_floating_point() else target)
    found = loss(mine, encrypted(target, **options) if secret_target else target)
    assert found.shape == expected.shape
    assert torch.allclose(plain(found.detach()).double(), expected.detach(), atol=atol)
    weights = torch.rand(expected.shape)
    (found * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    if secret_prediction:
        assert torch.allclose(plain(mine.grad).double(), twin.grad, atol=atol)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("secret_target", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, reduction, secret_target):
    loss, prediction, target = LOSSES[name]

    def reduced(x, t):
        return loss(x, t, reduction=reduction)

    compare(reduced, prediction(), target(), True, secret_target)


@pytest.mark.parametrize("name", ["cross entropy", "weighted", "multi margin, squares"])
@pytest.mark.parametrize("suite", SUITE_OPTIONS)
def test_secret_classes_of_every_suite(name, suite):
    loss, prediction, target = LOSSES[name]
    compare(loss, prediction(), target(), True, True, **SUITE_OPTIONS[suite])


@pytest.mark.parametrize("factor", [0.9757851, 1.7001, 37.77, 0.00123])
def test_a_mean_of_some_examples_times_a_number(factor):
    """Its gradient is finer than the encoding when it comes, and is divided by a secret count."""

    def loss(x, t):
        return factor * F.cross_entropy(x, t, ignore_index=3, label_smoothing=0.2)

    compare(loss, real(N, C), torch.tensor([2, 0, 3, 2, 3]), True, True, atol=2**-9 * max(factor, 1))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_secret_weights(reduction):
    x, t = real(N, C), indices(N)
    for secret in (False, True):
        mine, twin = encrypted(x).requires_grad_(), x.clone().requires_grad_()
        found = F.cross_entropy(mine, encrypted(t) if secret else t, encrypted(W), reduction=reduction)
        expected = F.cross_entropy(twin, t, W, reduction=reduction)
        assert torch.allclose(plain(found.detach()).float(), expected.detach(), atol=2**-9)
        found.sum().backward()
        expected.sum().backward()
        assert torch.allclose(plain(mine.grad).float(), twin.grad, atol=2**-9)


def test_a_secret_class_of_public_predictions():
    x, t = real(N, C), indices(N)
    assert torch.allclose(plain(F.cross_entropy(x, encrypted(t))).float(), F.cross_entropy(x, t), atol=2**-10)
    assert torch.allclose(plain(F.multi_margin_loss(x, encrypted(t))).float(), F.multi_margin_loss(x, t), atol=2**-10)


@pytest.mark.parametrize("n", [128, 5000])
@pytest.mark.parametrize("weight", [None, W])
def test_means_of_many_examples_keep_their_digits(n, weight):
    """1 / n is few steps of the encoding: the gradient is that of torch to a step, and not to a part of itself."""
    x, t = real(n, C), indices(n)
    mine, twin = encrypted(x).requires_grad_(), plain(encrypted(x)).double().requires_grad_()
    found, expected = (
        F.cross_entropy(a, b, None if weight is None else weight.to(a.dtype))
        for a, b in ((mine, encrypted(t)), (twin, t))
    )
    assert abs(float(plain(found.detach())) - float(expected.detach())) < 2**-9
    (found * n).backward()
    (expected * n).backward()
    assert (plain(mine.grad) - twin.grad).abs().max() < 2**-9


def test_rounds_of_secret_classes():
    """Beside those of public ones: four for the vector, choices by it, and the number of those that count."""
    found = []
    for secret in (False, True):
        x, t = encrypted(real(N, C)).requires_grad_(), encrypted(indices(N)) if secret else indices(N)
        before = parties().stats.copy()
        loss = F.cross_entropy(x, t)
        middle = parties().stats.copy()
        loss.backward()
        found.append(((middle - before).rounds, (parties().stats - middle).rounds))
    (forward, backward), (with_secret, back_with_secret) = found
    assert with_secret - forward <= 8
    assert back_with_secret - backward <= 5


def test_a_class_that_is_none_counts_as_nothing():
    x = real(3, C)
    found = F.cross_entropy(encrypted(x), encrypted(torch.tensor([0, C, -7])), reduction="none")
    assert torch.equal(plain(found)[1:], torch.zeros(2))
    one = F.cross_entropy(encrypted(x), encrypted(torch.tensor([0, C, -7])))
    assert torch.allclose(plain(one).float(), F.cross_entropy(x[:1], torch.tensor([0])), atol=2**-9)


def test_what_is_refused():
    x = encrypted(real(N, C))
    with pytest.raises(RevealError, match="multilabel_margin_loss"):
        F.multilabel_margin_loss(x, encrypted(torch.zeros(N, C, dtype=torch.int64)))
    lengths = torch.tensor([6]), torch.tensor([2])
    with pytest.raises(NotImplementedError, match="ctc_loss"):
        F.ctc_loss(encrypted(real(6, 1, C)).log_softmax(2), torch.tensor([[1, 2]]), *lengths)


def test_secret_weights_of_smoothed_secret_classes():
    x, t = real(N, C), indices(N)
    loss = nn.CrossEntropyLoss(encrypted(W), label_smoothing=0.1)
    found = loss(encrypted(x), encrypted(t))
    assert torch.allclose(plain(found).float(), F.cross_entropy(x, t, W, label_smoothing=0.1), atol=2**-9)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_cross_entropy_of_plain_tensors_is_torchs():
    """Also in a script, where torch compiles what it finds in the place of its function."""
    x, t = real(N, C), indices(N)
    loss = nn.CrossEntropyLoss(W, label_smoothing=0.1)
    assert torch.equal(torch.jit.script(loss)(x, t), loss(x, t))


def test_a_repeated_step_of_secret_classes():
    """Each batch has its own classes, also where a vector of one was made before."""
    net = nn.Linear(6, C)
    twin, secret = nn.Linear(6, C).double(), sy.encrypt(net, parties())
    twin.load_state_dict({k: plain(v).double() for k, v in secret.state_dict().items()})
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.5) for each in (secret, twin)]
    step = sy.TrainStep(secret, optimizers[0], F.cross_entropy)
    data = [(torch.randn(8, 6), torch.randint(0, C, (8,))) for _ in range(9)]
    shared = [(encrypted(x), encrypted(t)) for x, t in data]
    for turn in range(9):
        loss = step(*shared[turn])
        optimizers[1].zero_grad()
        expected = F.cross_entropy(twin(data[turn][0].double()), data[turn][1])
        expected.backward()
        optimizers[1].step()
        assert abs(float(plain(loss)) - float(expected.detach())) < 2**-8
    assert step.repeats, step.reason
    for a, b in zip(secret.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(plain(a.detach()), b.detach(), atol=2**-8)


def test_gradients_of_cross_entropies_of_probabilities_near_their_ends():
    """x (1 - x) keeps few digits there; the two quotients keep theirs."""
    x = encrypted(torch.cat([torch.rand(30) * 0.01 + 0.001, 1 - torch.rand(30) * 0.01 - 0.001])).requires_grad_()
    truth = torch.randint(0, 2, (60,)).double()
    twin = plain(x.detach()).requires_grad_()
    F.binary_cross_entropy(x, truth.to(x.dtype), reduction="sum").backward()
    F.binary_cross_entropy(twin, truth, reduction="sum").backward()
    assert torch.allclose(plain(x.grad), twin.grad, atol=4 * 2.0**-16, rtol=2.0**-12)
    ends = encrypted(torch.tensor([0.0, 1.0])).requires_grad_()
    F.binary_cross_entropy(ends, torch.tensor([1.0, 0.0]), reduction="sum").backward()
    assert plain(ends.grad).tolist() == [-65536, 65536]
