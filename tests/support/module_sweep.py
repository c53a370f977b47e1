"""Every layer and loss of torch.nn and every optimizer of torch.optim, each on secrets: forward, backward, steps.

The oracle is the same in float64, on what the encoding makes of the same values.
"""

import copy
import warnings

import torch
from op_checks import encrypted, parties, plain, represented
from op_sweep import GRADIENTS, NO_GRADIENT, REFUSED, RIGHT, VALUES, Outcome, Wrong, reason_of, refuses
from torch import nn
from twins import double_twin

import pysmpc as sy
from pysmpc.ring.fixedpoint import BINARY16

#: Not layers: containers, bases, and what makes one of the others at its first call.
NOT_LAYERS = {
    "Module", "Container", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "DataParallel",
    "RNNBase", "RNNCellBase",
}  # fmt: skip


def image(n, channels=2, size=6):
    """The shape of a small batch of images of n dimensions."""
    return (2, channels, *[size] * n)


ELEMENTWISE = """
CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh Identity LeakyReLU LogSigmoid Mish PReLU ReLU ReLU6 RReLU SELU
SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink Dropout AlphaDropout Flatten
"""


def _specs():
    rows = (3, 5)
    found = {name: ((), [rows]) for name in ELEMENTWISE.split()}
    found |= {"PairwiseDistance": ((), [rows, rows]), "CosineSimilarity": ((), [rows, rows])}
    found |= {name: ((1,), [rows]) for name in ("Softmax", "LogSoftmax", "Softmin")}
    found |= {
        "Linear": ((5, 4), [rows]), "LazyLinear": ((4,), [rows]), "Bilinear": ((5, 4, 3), [rows, (3, 4)]),
        "GLU": ((), [(3, 6)]), "Threshold": ((0.1, 0.5), [rows]), "LayerNorm": ((5,), [rows]),
        "RMSNorm": ((5,), [rows]), "GroupNorm": ((2, 4), [image(2, 4)]), "LocalResponseNorm": ((2,), [image(2, 4)]),
        "CrossMapLRN2d": ((2,), [image(2, 4)]), "Softmax2d": ((), [image(2)]), "Unflatten": ((1, (2, 3)), [(3, 6)]),
        "SyncBatchNorm": ((2,), [image(2)]), "Embedding": ((7, 4), [torch.tensor([[0, 3], [6, 3]])]),
        "EmbeddingBag": ((7, 4), [torch.tensor([[0, 3], [6, 3]])]),
        "AdaptiveLogSoftmaxWithLoss": ((5, 8, [4]), [rows, torch.tensor([1, 6, 3])]),
        "PixelShuffle": ((2,), [image(2, 4)]), "PixelUnshuffle": ((2,), [image(2)]),
        "ChannelShuffle": ((2,), [image(2, 4)]),
        "Fold": (((4, 4), 2), [(1, 8, 9)]), "Unfold": ((2,), [image(2)]), "Upsample": ((None, 2), [image(2)]),
        "UpsamplingBilinear2d": ((None, 2), [image(2)]), "UpsamplingNearest2d": ((None, 2), [image(2)]),
        "FractionalMaxPool2d": ((2, 3), [image(2)]), "FractionalMaxPool3d": ((2, 3), [image(3, 1, 5)]),
        "FeatureAlphaDropout": ((), [image(2)]),
        "MultiheadAttention": ((4, 2), [(3, 2, 4)] * 3), "Transformer": ((4, 2, 1, 1, 8), [(3, 2, 4)] * 2),
        "TransformerEncoderLayer": ((4, 2, 8), [(3, 2, 4)]), "TransformerDecoderLayer": ((4, 2, 8), [(3, 2, 4)] * 2),
        "TransformerEncoder": ((nn.TransformerEncoderLayer(4, 2, 8), 1), [(3, 2, 4)]),
        "TransformerDecoder": ((nn.TransformerDecoderLayer(4, 2, 8), 1), [(3, 2, 4)] * 2),
        "RNN": ((3, 4), [(2, 2, 3)]), "GRU": ((3, 4), [(2, 2, 3)]), "LSTM": ((3, 4), [(2, 2, 3)]),
        "RNNCell": ((3, 4), [(2, 3)]), "GRUCell": ((3, 4), [(2, 3)]), "LSTMCell": ((3, 4), [(2, 3)]),
    }  # fmt: skip
    for n in (1, 2, 3):
        x = image(n, 2, 4 if n == 3 else 6)
        found |= {f"{name}{n}d": ((2,), [x]) for name in ("AvgPool", "MaxPool", "BatchNorm", "InstanceNorm")}
        found |= {f"{name}{n}d": ((3,), [x]) for name in ("AdaptiveAvgPool", "AdaptiveMaxPool")}
        found |= {f"{name}{n}d": ((1,), [x]) for name in ("CircularPad", "ReflectionPad", "ReplicationPad", "ZeroPad")}
        found |= {f"{name}{n}d": ((2, 3, 2), [x]) for name in ("Conv", "ConvTranspose")}
        found |= {f"Lazy{name}{n}d": ((3, 2), [x]) for name in ("Conv", "ConvTranspose")}
        found |= {f"Lazy{name}{n}d": ((), [x]) for name in ("BatchNorm", "InstanceNorm")}
        found |= {f"ConstantPad{n}d": ((1, 0.5), [x]), f"Dropout{n}d": ((), [x]), f"LPPool{n}d": ((2, 2), [x])}
        found |= {f"MaxUnpool{n}d": ((2,), [(1, 1, *[2] * n), torch.arange(2**n).reshape(1, 1, *[2] * n)])}
    target, classes, other = rows, torch.tensor([1, 0, 4]), torch.tensor([1.0, -1, 1])
    found |= {f"{name}Loss": ((), [rows, target]) for name in ("L1", "MSE", "SmoothL1", "Huber")}
    found |= {f"{name}Loss": ((), [rows, classes]) for name in ("CrossEntropy", "NLL", "MultiMargin")}
    found |= {
        "NLLLoss2d": ((), [(2, 3, 4, 4), torch.zeros((2, 4, 4), dtype=torch.int64)]),
        "BCELoss": ((), ["unit", torch.ones(rows)]), "BCEWithLogitsLoss": ((), [rows, torch.ones(rows)]),
        "HingeEmbeddingLoss": ((), [(3,), other]), "SoftMarginLoss": ((), [(3,), other]),
        "MarginRankingLoss": ((), [(3,), (3,), other]), "CosineEmbeddingLoss": ((), [rows, rows, other]),
        "KLDivLoss": ((), [rows, torch.rand(rows)]), "PoissonNLLLoss": ((), [rows, torch.ones(rows)]),
        "GaussianNLLLoss": ((), [rows, rows, "unit"]), "TripletMarginLoss": ((), [rows] * 3),
        "TripletMarginWithDistanceLoss": ((), [rows] * 3),
        "MultiLabelMarginLoss": ((), [rows, torch.tensor([[1, 0, -1, 0, 0]] * 3)]),
        "MultiLabelSoftMarginLoss": ((), [rows, torch.ones(rows)]),
        "CTCLoss": ((), [(6, 1, 4), torch.tensor([[1, 2]]), torch.tensor([6]), torch.tensor([2])]),
        "LinearCrossEntropyLoss": ((5, 4), [rows, torch.tensor([1, 0, 3])]),
    }  # fmt: skip
    return found


SPECS = _specs()


def layers():
    """Names of all layers and losses of torch.nn."""
    return [
        name for name, each in vars(nn).items()
        if isinstance(each, type) and issubclass(each, nn.Module) and name not in NOT_LAYERS
    ]  # fmt: skip


def optimizers():
    """Names of all optimizers of torch.optim."""
    found = vars(torch.optim).items()
    return [k for k, v in found if isinstance(v, type) and issubclass(v, torch.optim.Optimizer) and k != "Optimizer"]


def _values(spec):
    if isinstance(spec, torch.Tensor):
        return spec
    if spec == "unit":
        return represented(0.1 + 0.8 * torch.rand(3, 5).double(), BINARY16).float()
    return represented(torch.randn(spec).double(), BINARY16).float()


def _twin(x):
    return x.double() if x.is_floating_point() else x


def layer_outcome(name):
    """What becomes of a layer or a loss, of secret parameters, on secrets."""
    arguments, shapes = SPECS[name]
    values = [_values(shape) for shape in shapes]
    secret = [not isinstance(shape, torch.Tensor) for shape in shapes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = getattr(nn, name)(*arguments)
        if name == "RReLU":
            module.eval()  # its slopes are drawn for other elements than torch's
        seed = int(torch.randint(1 << 40, ()))
        try:
            if name.startswith("Lazy"):
                module(*values)
            # its windows lie at random numbers of the input's dtype
            wide = not name.startswith("Fractional")
            twin = double_twin(module) if wide else copy.deepcopy(module)
            mine = sy.encrypt(copy.deepcopy(module), parties())
            given = [encrypted(v).requires_grad_(True) if s else v for v, s in zip(values, secret, strict=True)]
            torch.manual_seed(seed)
            found = _results(mine(*given))
        except Exception as error:
            return _refusal(error)
        twins = [(_twin(v) if wide else v.clone()).requires_grad_(s) for v, s in zip(values, secret, strict=True)]
        torch.manual_seed(seed)
        expected = _results(twin(*twins))
        torch.seed()
        worst = max(_close(name, a, b, VALUES) for a, b in zip(found, expected, strict=True))
        weights = [represented(torch.rand(b.shape).double(), BINARY16).to(b.dtype) for b in expected]
        _total(expected, weights).backward()
        try:
            _total(found, weights).backward()
        except Exception as error:
            return _refusal(error, NO_GRADIENT)
        pairs = [*zip(given, twins, strict=True), *zip(mine.parameters(), twin.parameters(), strict=True)]
        slopes = [_close(f"gradient of {name}", a.grad, b.grad, GRADIENTS) for a, b in pairs if b.grad is not None]
    return Outcome(RIGHT, values=worst, gradients=max(slopes, default=0.0))


def _results(out):
    found = out if isinstance(out, tuple | list) else [out]
    flat = [x for each in found for x in (_results(each) if isinstance(each, tuple | list) else [each])]
    return [x for x in flat if isinstance(x, torch.Tensor) and x.dtype.is_floating_point]


def _total(results, weights):
    return sum((x * w).sum() for x, w in zip(results, weights, strict=True))


def _refusal(error, state=REFUSED):
    if not refuses(error):
        raise error
    return Outcome(state, reason_of(error))


def _close(name, found, expected, tolerance):
    a, b = plain(found).double(), expected.detach()
    off = float(((a - b).abs() / b.abs().clamp(min=1)).max()) if b.numel() else 0.0
    if not (a.shape == b.shape and off <= tolerance):
        raise Wrong(f"{name}: off by {off:.3g}")
    return off


def optimizer_outcome(name):
    """What becomes of three steps of an optimizer on the secret parameters of a small model."""
    worst = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(300):
            module, x, y = nn.Linear(4, 3), _values((5, 4)), _values((5, 3))
            twin = double_twin(module)
            try:
                least = _steps(name, twin, x.double(), y.double())
            except Exception as error:
                return Outcome(REFUSED, f"takes no dense parameters of this model: {type(error).__name__}")
            if least >= 2.0**-5 or name == "LBFGS":  # some optimizers divide by a gradient's size, or follow its sign
                break
        mine = sy.encrypt(copy.deepcopy(module), parties())
        try:
            _steps(name, mine, encrypted(x), encrypted(y))
        except Exception as error:
            return _refusal(error)
        for a, b in zip(mine.parameters(), twin.parameters(), strict=True):
            worst = max(worst, _close(name, a, b, GRADIENTS))
    return Outcome(RIGHT, values=worst)


def _steps(name, model, x, y):
    """Three steps; the least size of a gradient, where they are public."""
    kind, sizes = getattr(torch.optim, name), []
    optimizer = kind(model.parameters(), lr=0.05)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        if not isinstance(loss, sy.SecretTensor):
            sizes.extend(float(p.grad.abs().min()) for p in model.parameters())
        return loss

    for _ in range(3):
        optimizer.step(closure)
    return min(sizes, default=0.0)
