"""The networks of the demo. Each takes images [items, 28, 28] and returns a number for each of the 10 digits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def square(x: Tensor) -> Tensor:
    return x**2


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "square": square}


class Network(nn.Module):
    """What the networks have in common.  dropout: of what a last layer, or a fully connected one, takes."""

    title: str

    def __init__(self, activation: str = "relu", dropout: float = 0.0) -> None:
        super().__init__()
        self.activation, self.dropout = ACTIVATIONS[activation], dropout

    def dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Net(Network):
    """The article's network: 784-128-64-10."""

    title = "784-128-64-10"

    def __init__(self, activation: str = "relu", dropout: float = 0.0) -> None:
        super().__init__(activation, dropout)
        self.fc1 = nn.Linear(28 * 28, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 28 * 28)
        x = self.dropped(self.activation(self.fc1(x)))
        x = self.dropped(self.activation(self.fc2(x)))
        out: Tensor = self.fc3(x)
        return out


class LeNet(Network):
    """Convolutions of 20 and 50 channels, maxima of 2 x 2, 800-500-10 (LeCun et al., 1998, as Caffe has it)."""

    title = "LeNet 20-50-500-10"

    def __init__(self, activation: str = "relu", dropout: float = 0.0) -> None:
        super().__init__(activation, dropout)
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(F.max_pool2d(self.conv1(x.unsqueeze(1)), 2))
        x = self.activation(F.max_pool2d(self.conv2(x), 2))
        out: Tensor = self.fc2(self.dropped(self.activation(self.fc1(x.flatten(1)))))
        return out


class Block(nn.Module):
    """Two convolutions of 3 x 3 with batch norms, and what came in added to what they give (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.bn1(self.conv1(x)))
        return self.activation(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet8(Network):
    """Three blocks of 16, 32 and 64 channels on images padded to 32 x 32."""

    title = "ResNet-8"

    def __init__(self, activation: str = "relu", dropout: float = 0.0) -> None:
        super().__init__(activation, dropout)
        self.conv = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        widths = (16, 16, 32, 64)
        self.blocks = nn.Sequential(
            *(Block(widths[k], widths[k + 1], 1 if k == 0 else 2, self.activation) for k in range(3))
        )
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.bn(self.conv(F.pad(x, (2, 2, 2, 2)).unsqueeze(1))))
        out: Tensor = self.fc(self.dropped(self.blocks(x).mean(dim=(2, 3))))
        return out


class Lstm(Network):
    """An LSTM that reads an image row by row (Hochreiter and Schmidhuber, 1997), and its last state by a layer."""

    title = "LSTM 28-32-10"

    def __init__(self, activation: str = "relu", dropout: float = 0.0) -> None:
        super().__init__(activation, dropout)
        self.lstm = nn.LSTM(28, 32, batch_first=True)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        out: Tensor = self.fc(self.dropped(states[:, -1]))
        return out


class Transformer(Network):
    """Two layers of an encoder over the rows of an image (Vaswani et al., 2017), their mean, and a layer."""

    title = "transformer, 2 layers of 32"

    def __init__(self, activation: str = "relu", dropout: float = 0.0) -> None:
        super().__init__(activation, dropout)
        self.rows = nn.Linear(28, 32)
        self.places = nn.Parameter(0.1 * torch.randn(28, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, self.activation, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(self.rows(x) + self.places)
        out: Tensor = self.fc(self.dropped(x.mean(1)))
        return out


MODELS: dict[str, type[Network]] = {
    "mlp": Net,
    "lenet": LeNet,
    "resnet8": ResNet8,
    "lstm": Lstm,
    "transformer": Transformer,
}


def squared_error(output: Tensor, targets: Tensor) -> Tensor:
    """Of an item: the sum over its ten numbers, which is what the article minimises."""
    return ((output - targets) ** 2).sum() / len(targets)


def cross_entropy(output: Tensor, targets: Tensor) -> Tensor:
    """Of an item, with its digit as a vector of one 1 and nine 0, so that the digit stays secret."""
    return F.cross_entropy(output, targets)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": squared_error, "cross-entropy": cross_entropy}

Optimizer = Callable[..., torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": torch.optim.SGD,
    "momentum": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adamax": torch.optim.Adamax,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "rprop": torch.optim.Rprop,
}
