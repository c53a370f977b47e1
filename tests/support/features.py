"""What a model is made of: sequences, attention, indices, order, linear algebra, functions, each against plain torch.

`differences` runs all of it with given parties, whatever their settings and wherever they compute.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

Layer = nn.TransformerEncoderLayer


def layer(make, *shapes, off=2e-2):
    """A layer's result, and the gradients of its parameters."""

    def run(encrypt):
        plain, data = make(), [torch.randn(shape) / 2 for shape in shapes]
        secret = encrypt(copy.deepcopy(plain))
        pairs = []
        for net, given in ((plain, data), (secret, [encrypt(x) for x in data])):
            out = net(*given)
            out = out[0] if isinstance(out, tuple) else out
            (out * out).sum().backward()
            pairs.append([out, *(p.grad for p in net.parameters())])
        return list(zip(*pairs, strict=True)), off

    return run


def call(function, *given, off=2e-2):
    """A function of arguments that are shapes of random values, or make them."""

    def run(encrypt):
        data = [torch.randn(x) if isinstance(x, tuple) else x() for x in given]
        return [(function(*data), function(*(encrypt(x) for x in data)))], off

    return run


def trained(encrypt):
    """Parameters after four steps of Adam with cross-entropy."""
    net = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 3))
    x, labels, secret = torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2]), encrypt(copy.deepcopy(net))
    for model, data in ((net, x), (secret, encrypt(x))):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(data), labels).backward()
            optimizer.step()
    return list(zip(net.parameters(), secret.parameters(), strict=True)), 3e-2


def masked(encrypt):
    """Values that are replaced where a secret says so."""
    plain = torch.randn(5, 4)
    plain += plain.sign() * 0.05
    secret = encrypt(plain)
    secret[secret < 0] = 0
    return [(plain.clamp(min=0), secret)], 1e-2


def spaced():
    return torch.randperm(12) / 2 - 3


def positive():
    return torch.rand(5) * 3 + 0.1


def matrix():
    return torch.randn(4, 4) * 0.2 + torch.eye(4) * 1.5


def symmetric():
    x = torch.randn(4, 4) * 0.3
    return x @ x.T + torch.eye(4)


def numbers(below, *shape):
    return lambda: torch.randint(below, shape)


FEATURES = {
    "rnn": layer(lambda: nn.RNN(4, 3, batch_first=True), (2, 3, 4)),
    "lstm": layer(lambda: nn.LSTM(4, 3, 2, bidirectional=True, batch_first=True), (2, 3, 4)),
    "gru": layer(lambda: nn.GRU(4, 3, batch_first=True), (2, 3, 4)),
    "attention": layer(lambda: nn.MultiheadAttention(4, 2, batch_first=True), *[(2, 3, 4)] * 3),
    "encoder": layer(lambda: Layer(4, 2, 8, dropout=0.0, batch_first=True), (2, 3, 4), off=4e-2),
    "decoder": layer(lambda: nn.TransformerDecoderLayer(4, 2, 8, dropout=0.0), (2, 3, 4), (2, 3, 4), off=4e-2),
    "causal": call(lambda *x: F.scaled_dot_product_attention(*x, is_causal=True), *[(1, 2, 3, 4)] * 3),
    "layer norm": layer(lambda: nn.LayerNorm(6), (3, 6)),
    "batch norm": layer(lambda: nn.BatchNorm2d(2), (3, 2, 4, 4), off=4e-2),
    "convolution": layer(lambda: nn.Conv3d(1, 2, 2), (1, 1, 3, 3, 3)),
    "adam": trained,
    "masked": masked,
    "embedding": call(lambda i: nn.functional.embedding(i, torch.arange(44.0).view(11, 4) / 8), numbers(11, 2, 2)),
    "gather": call(lambda x, i: x.gather(1, i), (3, 5), numbers(5, 3, 2)),
    "index_select": call(lambda x, i: x.index_select(0, i), (5, 3), numbers(5, 2)),
    "take": call(torch.take, (3, 4), numbers(12, 3)),
    "scatter": call(lambda x, i, y: x.scatter(1, i, y), (3, 5), lambda: torch.rand(3, 5).argsort(1)[:, :2], (3, 2)),
    "scatter_add": call(lambda x, i, y: x.scatter_add(1, i, y), (3, 5), numbers(5, 3, 2), (3, 2)),
    "one_hot": call(lambda i: F.one_hot(i, 5), numbers(5, 4)),
    "isin": call(lambda x, y: torch.isin(x, y).float(), numbers(5, 6), numbers(5, 3)),
    "bucketize": call(lambda x: torch.bucketize(x, torch.arange(4.0)).float(), positive),
    "searchsorted": call(
        lambda x, y: torch.searchsorted(x, y).float(), lambda: spaced().sort()[0], lambda: spaced() + 0.2
    ),
    "sort": call(lambda x: x.sort()[0], spaced),
    "argsort": call(lambda x: x.argsort().float(), spaced),
    "topk": call(lambda x: x.topk(3)[0], spaced),
    "kthvalue": call(lambda x: x.kthvalue(3)[0], spaced),
    "median": call(torch.median, spaced),
    "quantile": call(lambda x: x.quantile(0.3), spaced),
    "mode": call(lambda x: x.mode()[0], lambda: torch.tensor([1.0, 2, 2, 3, 1, 2])[torch.randperm(6)]),
    "histc": call(lambda x: torch.histc(x, 4, -4, 4), lambda: spaced() + 0.2),
    "cumsum": call(lambda x: x.cumsum(0), (5,)),
    "cumprod": call(lambda x: x.cumprod(0), positive),
    "cummax": call(lambda x: x.cummax(0)[0], spaced),
    "logcumsumexp": call(lambda x: x.logcumsumexp(0), (5,)),
    "inverse": call(torch.linalg.inv, matrix, off=5e-2),
    "solve": call(torch.linalg.solve, matrix, (4, 2), off=5e-2),
    "determinant": call(torch.linalg.det, matrix, off=5e-2),
    "cholesky": call(torch.linalg.cholesky, symmetric, off=5e-2),
    "qr": call(lambda x: torch.linalg.qr(x)[1].abs(), matrix, off=5e-2),
    "matrix_exp": call(lambda x: torch.matrix_exp(x / 4), matrix, off=5e-2),
    "distances": call(torch.cdist, (3, 4), lambda: torch.randn(2, 4) + 3, off=5e-2),
    "fourier": call(lambda x: torch.view_as_real(torch.fft.rfft(x)), (8,)),
    "softmax": call(lambda x: x.softmax(1), (3, 5)),
    "gelu": call(F.gelu, (3, 4)),
    "exp": call(torch.exp, (3, 4)),
    "log": call(torch.log, positive),
    "sqrt": call(torch.sqrt, positive),
    "quotient": call(torch.div, (5,), positive, off=5e-2),
    "sine": call(torch.sin, (5,)),
    "angle": call(torch.atan2, positive, positive),
    "where": call(lambda x, y: torch.where(x > y, x, y * 2), spaced, lambda: spaced() + 0.2),
    "pooling": call(lambda x: F.max_pool2d(x, 2), (1, 1, 4, 4)),
    "deviation": call(torch.std, (9,)),
    "floor": call(torch.floor, lambda: spaced() + 0.2),
    "huber": call(F.huber_loss, (4,), (4,)),
}


def differences(parties):
    """By name: what was refused, or is off by more than it may be."""
    found = {}
    for name, run in FEATURES.items():
        try:
            pairs, off = run(lambda x: sy.encrypt(x, parties))
            for plain, secret in pairs:
                opened = sy.decrypt(secret)
                if opened.is_meta:  # at a provider
                    continue
                by = (opened.double() - plain.detach().double()).abs().max() / plain.detach().abs().max().clamp(min=1)
                if opened.shape != plain.shape or not by <= off:
                    found[name] = f"off by {by:.3g}"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found
