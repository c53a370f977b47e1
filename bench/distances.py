"""How far training on secrets leads from the same training in plain torch, weight by weight.

    python bench/distances.py --model mlp --loss cross-entropy --optimizer adam --data DIR

That a loss falls says little: a step can be wrong and still go down.  So the weights are compared after each run:
their distance from plain torch's, beside the way that plain torch's weights went from where they started.
Beside the secret one, plain torch with every gradient rounded to the secret one's step, and plain torch in float64:
how far apart two trainings end that differ by rounding alone.

--loss-scale S multiplies the loss by S before the backward pass and divides the gradients by it after: gradients of
activations are so rounded to a finer step (Micikevicius et al., 2018).  S is a power of two.
"""

import argparse
import copy
import statistics
import time
from pathlib import Path

import torch
from torch.nn.utils import parameters_to_vector
from tqdm import tqdm

import pysmpc as sy
from pysmpc import info
from pysmpc.datasets import mnist
from pysmpc.demo.models import LOSSES, MODELS, OPTIMIZERS
from pysmpc.demo.settings import BITS, RATES


def train(model, batches, steps, optimizer, loss_of, *, name, rounded=None, scale=1):
    """Losses of every step, opened; seconds of a step in the median."""
    losses, seconds = [], []
    for step in tqdm(range(steps), desc=name, disable=None):
        start = time.perf_counter()
        optimizer.zero_grad()
        x, y = batches[step % len(batches)]
        loss = loss_of(model(x), y)
        (loss if scale == 1 else loss * scale).backward()
        for parameter in model.parameters() if scale != 1 else ():
            parameter.grad = parameter.grad / scale
        if rounded is not None:
            for parameter in model.parameters():
                parameter.grad = (parameter.grad * 2**rounded).round() / 2**rounded
        optimizer.step()
        losses.append(float(sy.decrypt(loss.detach())) if isinstance(loss, sy.SecretTensor) else float(loss.detach()))
        seconds.append(time.perf_counter() - start)
    return losses, statistics.median(seconds)


def compare(start, plain, other):
    """Distance beside plain's way, and the share of weights that are more than 0.02 off."""
    start, plain, other = (parameters_to_vector(m.parameters()).detach().double() for m in (start, plain, other))
    off = other - plain
    return float(off.norm() / (plain - start).norm()), float((off.abs() > 0.02).double().mean())


def bits_of(arguments):
    return arguments.frac_bits or BITS[arguments.model]


def run(arguments, seed):
    torch.manual_seed(seed)
    items = mnist.load(arguments.data, arguments.items, 1)
    order = torch.randperm(arguments.items)
    images = items.train_images[order].split(arguments.batch_size)
    labels = torch.nn.functional.one_hot(items.train_labels[order], 10).float().split(arguments.batch_size)
    batches = list(zip(images, labels, strict=True))[: arguments.steps]
    start = MODELS[arguments.model]()
    rate = arguments.lr or RATES[arguments.optimizer]
    loss_of, bits = LOSSES[arguments.loss], bits_of(arguments)

    def plainly(dtype=torch.float32, **how):
        model = copy.deepcopy(start).to(dtype)
        optimizer = OPTIMIZERS[arguments.optimizer](model.parameters(), lr=rate)
        given = [(x.to(dtype), y.to(dtype)) for x, y in batches]
        return model, *train(model, given, arguments.steps, optimizer, loss_of, **how)

    plain, losses, plain_seconds = plainly(name="plain torch")
    rounded, rounded_losses, _ = plainly(name="rounded gradients", rounded=bits)
    double, double_losses, _ = plainly(torch.float64, name="float64")
    parties = sy.virtual(*[f"holder{k}" for k in range(arguments.workers)])
    secret = sy.encrypt(start, parties, frac_bits=bits)
    data = [tuple(sy.encrypt(each, parties, frac_bits=bits) for each in batch) for batch in batches]
    optimizer = OPTIMIZERS[arguments.optimizer](secret.parameters(), lr=rate)
    secret_losses, seconds = train(
        secret, data, arguments.steps, optimizer, loss_of, name="secret", scale=arguments.loss_scale
    )

    def apart(found):
        return max(abs(a - b) / max(abs(b), 1e-3) for a, b in zip(found, losses, strict=True))

    return [
        (*compare(start, plain, sy.decrypt(secret)), apart(secret_losses), seconds / plain_seconds),
        (*compare(start, plain, rounded), apart(rounded_losses), 1.0),
        (*compare(start, plain, double), apart(double_losses), 1.0),
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--loss", choices=LOSSES, default="cross-entropy")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    parser.add_argument("--lr", type=float, help="default: that of `pysmpc demo`")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3, help="how many runs, of which the median is told")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--items", type=int, default=640, help="of MNIST, in random order, again and again")
    parser.add_argument("--data", type=Path, help="folder of MNIST's files instead of the sample of 640")
    parser.add_argument("--frac-bits", type=int, help="default: that of `pysmpc demo`")
    parser.add_argument("--loss-scale", type=int, default=1, help="of the secret training")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    runs = [run(arguments, seed) for seed in range(1, arguments.seeds + 1)]
    environment = info.gather()
    print(
        f"{arguments.model}, {arguments.loss}, {arguments.optimizer}, {arguments.steps} steps of "
        f"{arguments.batch_size}, 2^-{bits_of(arguments)}, {environment.target}, torch {environment.torch}; "
        f"median of {arguments.seeds}"
    )
    print(f"{'':28}{'distance / way':>16}{'further than 0.02':>20}{'loss apart':>12}{'time ratio':>12}")
    for row, name in enumerate(("secret", "plain, gradients rounded", "plain, float64")):
        distance, share, apart, ratio = (statistics.median(r[row][k] for r in runs) for k in range(4))
        print(f"{name:28}{distance:>16.4f}{100 * share:>18.3f} %{100 * apart:>10.2f} %{ratio:>12.1f}")


if __name__ == "__main__":
    main()
