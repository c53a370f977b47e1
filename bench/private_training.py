"""Private training on secrets beside Opacus with the same total noise: accuracy, cost of a step, clipping, noise.

    python bench/private_training.py train --data FOLDER [--epochs 3] [--steps N] [--noise provider|holders]
    python bench/private_training.py curve --data FOLDER [--epsilons 1 3 8] [--figure FILE]
    python bench/private_training.py cost
    python bench/private_training.py exact

`train`: 784-128-64-10 on MNIST, Poisson batches of 256 expected, epsilon 3 at delta 1e-5.  The same rows of each batch
are trained on by Opacus (in plain torch where it is not installed), with noise of the same deviation.  --steps ends
early, after so many steps; the noise is that of the whole training all the same.  --every: a line after so many steps,
beside those of the passes.  --log: each line as JSON.
`curve`: accuracy against epsilon, in plain torch.  `cost`: a step with and without
privacy, in turn.  `exact`: errors of clipping, Kolmogorov-Smirnov distance of noise at
a million samples, and epsilon beside dp-accounting, where that is installed.
"""

import argparse
import copy
import json
import math
import statistics
import sys
import time
import warnings

import torch
from models import mlp
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import pysmpc as sy
from pysmpc.datasets import mnist
from pysmpc.mpc.derived.discrete_gaussian import Sampler
from pysmpc.privacy import Accountant, noise_multiplier_for
from pysmpc.privacy.clipping import Taps, factors
from pysmpc.privacy.engine import sensitivity
from pysmpc.privacy.loaders import drawn
from pysmpc.program.loop import LOOPS

DELTA = 1e-5


class Plain:
    """DP-SGD in plain torch: norms of examples' gradients by layer, clipped sums, and Gaussian noise."""

    def __init__(self, model, lr, norm, deviation, batch):
        self.model, self.norm, self.deviation, self.batch = model, norm, deviation, batch
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        self.kept = []
        for layer in model:
            if isinstance(layer, torch.nn.Linear):
                layer.register_forward_hook(lambda layer, given, out: self.kept.append((layer, given[0], out)))

    def step(self, x, y):
        self.kept.clear()
        loss = F.cross_entropy(self.model(x), y, reduction="sum")
        back = torch.autograd.grad(loss, [out for _, _, out in self.kept])
        pairs = [(layer, given.detach(), b) for (layer, given, _), b in zip(self.kept, back, strict=True)]
        squares = sum((given.square().sum(1) + 1) * b.square().sum(1) for _, given, b in pairs)
        weights = (self.norm / squares.sqrt()).clamp(max=1).unsqueeze(1)
        for layer, given, b in pairs:
            for p, total in ((layer.weight, (weights * b).t() @ given), (layer.bias, (weights * b).sum(0))):
                p.grad = (total + torch.randn_like(total) * self.deviation) / self.batch
        self.optimizer.step()
        self.kept.clear()


class Opacus:
    """The same by Opacus."""

    def __init__(self, model, lr, norm, deviation, batch):
        import opacus

        warnings.simplefilter("ignore")
        self.model = opacus.GradSampleModule(model)
        self.optimizer = opacus.optimizers.DPOptimizer(
            torch.optim.SGD(self.model.parameters(), lr=lr), noise_multiplier=deviation / norm, max_grad_norm=norm,
            expected_batch_size=batch,
        )  # fmt: skip

    def step(self, x, y):
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()


def beside(*arguments):
    """(its name, the training to compare with)."""
    try:
        return "opacus", Opacus(*arguments)
    except ImportError:
        return "plain torch", Plain(*arguments)


def right(model, images, labels):
    """Percent."""
    with torch.no_grad():
        return 100 * float((model(images).argmax(1) == labels).double().mean())


def train(options):
    data = mnist.load(options.data, options.items, options.test_items)
    x, test = data.train_images.flatten(1), data.test_images.flatten(1)
    parties = sy.virtual("alice", "bob")
    start = mlp(128, 64)
    model = sy.encrypt(copy.deepcopy(start), parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr)
    engine = sy.privacy.Engine(
        target_epsilon=options.epsilon, target_delta=DELTA, sampling="poisson", noise=options.noise
    )
    # rows are drawn by the engine; a batch is encrypted when its turn comes, and so are its numbers kept for the other
    loader = DataLoader(TensorDataset(torch.arange(len(x))), batch_size=options.batch)
    model, optimizer, loader = engine.make_private(
        model, optimizer, loader, max_grad_norm=options.norm, epochs=options.epochs, loss_reduction="sum"
    )
    count = sum(p.numel() for p in start.parameters())
    deviation = engine.noise_multiplier * sensitivity(count) * options.norm
    if options.noise == "holders":
        deviation *= math.sqrt(2)
    name, other = beside(copy.deepcopy(start), options.lr, options.norm, deviation, options.batch)

    def report(steps, seconds):
        opened = copy.deepcopy(start)
        opened.load_state_dict({k: sy.decrypt(v) for k, v in model.state_dict().items()})
        line = {
            "noise": options.noise, "target": options.epsilon, "steps": steps, "epsilon": round(engine.epsilon(), 3),
            "multiplier": round(engine.noise_multiplier, 4), "secret": round(right(opened, test, data.test_labels), 2),
            name: round(right(other.model, test, data.test_labels), 2), "ms a step": round(1e3 * seconds),
        }  # fmt: skip
        print(json.dumps(line), flush=True)
        if options.log:
            with open(options.log, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    steps, seconds = 0, []
    for _ in range(options.epochs):
        for [rows] in loader:
            images, labels = x[rows], data.train_labels[rows]
            a, b = sy.encrypt(images, parties), sy.encrypt(labels, parties)
            begun = time.perf_counter()
            optimizer.zero_grad()
            F.cross_entropy(model(a), b, reduction="sum").backward()
            optimizer.step()
            seconds.append(time.perf_counter() - begun)
            other.step(images, labels)
            steps += 1
            if steps == options.steps or (options.every and steps % options.every == 0):
                report(steps, statistics.median(seconds))
            if steps == options.steps:
                return
        report(steps, statistics.median(seconds))


def curve(options):
    """Accuracy against epsilon, by the same steps in plain torch; without privacy first."""
    data = mnist.load(options.data, options.items, options.test_items)
    x, test = data.train_images.flatten(1), data.test_images.flatten(1)
    rate, steps = options.batch / len(x), options.epochs * math.ceil(len(x) / options.batch)
    sizes = sum(p.numel() for p in mlp(128, 64).parameters())

    def trained(deviation, norm):
        side = Plain(mlp(128, 64), options.lr if norm < 1e6 else options.lr / 4, norm, deviation, options.batch)
        for _ in range(steps):
            rows = drawn(len(x), rate)
            side.step(x[rows], data.train_labels[rows])
        return right(side.model, test, data.test_labels)

    without = trained(0.0, 1e9)
    print(f"without privacy: {without:.1f} %", flush=True)
    rows = []
    for epsilon in options.epsilons:
        multiplier = noise_multiplier_for(epsilon, DELTA, steps, rate)
        each = multiplier * sensitivity(sizes) * options.norm
        found = [trained(each * math.sqrt(holders), options.norm) for holders in (1, 2)]
        print(
            f"epsilon {epsilon:g}, noise multiplier {multiplier:.3f}: {found[0]:.1f} % with the provider's noise, "
            f"{found[1]:.1f} % with that of two holders",
            flush=True,
        )
        rows.append((epsilon, *found))
    if options.figure:
        draw(options.figure, without, rows)


def draw(file, without, rows):
    """Accuracy against epsilon, as a picture."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "pysmpc"  # the same picture of the same numbers
    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    epsilons, *lines = zip(*rows, strict=True)
    for line, name in zip(lines, ("provider's noise", "noise of two holders"), strict=True):
        axes.plot(epsilons, line, marker="o", label=name)
    axes.axhline(without, color="grey", linestyle="--", label="without privacy")
    axes.set_xscale("log")
    axes.set_xticks(epsilons, [f"{each:g}" for each in epsilons])
    axes.minorticks_off()
    axes.set_xlabel(f"epsilon, at delta {DELTA:g}")
    axes.set_ylabel("right of held-out items, %")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})


def cost(options):
    """In turn, so that a machine that is not idle treats both alike; of steps that are recorded, the repetitions."""
    parties, first = sy.virtual("alice", "bob", eager=options.eager), 2 if options.eager else 6
    if options.repeat <= first:
        raise SystemExit(f"--repeat is more than {first}: steps before that are noted and recorded")
    sides = {}
    for kind in ("without", "provider", "holders"):
        model = sy.encrypt(mlp(128, 64), parties)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x, y = torch.randn(options.batch, 784), torch.randint(10, (options.batch,))
        batches = [(sy.encrypt(x, parties), sy.encrypt(y, parties)) for _ in range(options.repeat)]
        if kind != "without":
            engine = sy.privacy.Engine(target_epsilon=1e9, target_delta=DELTA, noise=kind, accountant="rdp")
            model, optimizer, batches = engine.make_private(model, optimizer, batches, noise_multiplier=1.0)
        sides[kind] = model, optimizer, iter(batches)
    found = {kind: [] for kind in sides}
    for _ in range(options.repeat):
        for kind, (model, optimizer, batches) in sides.items():
            x, y = next(batches)
            before, begun, worked = parties.stats.copy(), time.perf_counter(), time.process_time()
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            next(model.parameters()).cell.body  # noqa: B018  (updates that wait are part of the step)
            spent = time.process_time() - worked, time.perf_counter() - begun
            found[kind].append((*spent, parties.stats - before, LOOPS.repeats))
    base = None
    for kind, steps in found.items():
        worked, seconds = (statistics.median(step[place] for step in steps[first:]) for place in (0, 1))
        stats, repeated = steps[-1][2], sum(step[3] for step in steps[first:])
        base = base or (worked, seconds)
        print(
            f"{kind:9s} {1e3 * seconds:7.1f} ms ({seconds / base[1]:.2f}), {1e3 * worked:.1f} of the processor "
            f"({worked / base[0]:.2f})  {stats.rounds} rounds, {stats.sent / 1e6:.2f} MB a holder, "
            f"{stats.dealt / 1e6:.2f} MB dealt; {repeated} of {len(steps) - first} repeated"
        )


def exact(options):
    # clipping: the norm of what is left of each example's gradient, as it was computed
    parties, batch = sy.virtual("alice", "bob"), 512
    images = mnist.load(options.data).train_images.flatten(1)
    x, y = images[torch.randint(len(images), (batch,))], torch.randint(10, (batch,))
    secret = sy.encrypt(mlp(128, 64), parties)
    taps = Taps(secret)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        F.cross_entropy(secret(sy.encrypt(x, parties)), sy.encrypt(y, parties), reduction="sum").backward()
    for norm in (0.5, 1.0, 4.0, 8.0):
        left = sy.decrypt(factors(taps.squares(1 / norm))).double()
        squares = torch.zeros(batch, dtype=torch.float64)
        for _, seen, b in taps._once():
            given, scaled = sy.decrypt(seen).double(), sy.decrypt(taps._scaled[id(b)]).double()
            squares += (given.square().sum(1) + 1) * scaled.square().sum(1)
        norms = squares.sqrt()
        kept, wanted = left * norms, norms.clamp(max=1)
        print(
            f"clipping to {norm}: {int((norms > 1).sum())} of {batch} examples above, up to {float(norms.max()):.1f} "
            f"times; largest excess {float((kept - wanted).max()) * 1024:+.3f} x 2^-10, largest lack "
            f"{float((wanted - kept).max()) * 1024:.3f} x 2^-10"
        )
    # noise
    n, sigma = 10**6, 2.0**16
    for who, dealt in (("provider", True), ("holders", False)):
        zero = sy.encrypt(torch.zeros(n), parties)
        noise = sy.decrypt(torch.ops.pysmpc.gaussian_noise(zero, 1.0, dealt)).double()
        deviation = 1.0 if dealt else math.sqrt(2)
        at = torch.special.ndtr(noise.sort().values / deviation)
        places = torch.arange(n, dtype=torch.float64) / n
        distance = float(torch.maximum(at - places, places + 1 / n - at).max())
        root = math.sqrt(n) * distance
        p = 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * root * root) for k in range(1, 100))
        print(f"noise of the {who}: Kolmogorov-Smirnov at {n} samples: distance {distance:.2g}, p = {min(1, p):.2f}")
    print(f"  its total variation from the discrete Gaussian is below 2^{math.log2(Sampler(sigma).distance):.0f}")
    # epsilon
    try:
        import dp_accounting
    except ImportError:
        print("epsilon: dp-accounting is not installed")
        return
    for multiplier, rate, steps in (
        (0.6, 256 / 60000, 705),
        (1.1, 256 / 60000, 2340),
        (4.0, 1.0, 10),
        (0.8, 0.01, 1000),
    ):
        theirs = dp_accounting.pld.PLDAccountant()
        event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(multiplier))
        theirs.compose(event, steps)
        accountant = Accountant()
        accountant.step(multiplier, rate, steps)
        mine, expected = accountant.epsilon(DELTA), theirs.get_epsilon(DELTA)
        print(
            f"epsilon, noise {multiplier}, rate {rate:.4f}, {steps} steps: {mine:.4f}, dp-accounting {expected:.4f} "
            f"({100 * (mine / expected - 1):+.2f} %)"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "curve", "cost", "exact"])
    parser.add_argument("--data", help="folder of MNIST's files (default: the sample)")
    parser.add_argument("--items", type=int, default=640)
    parser.add_argument("--test-items", type=int, default=640)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--every", type=int, default=0, help="report after so many steps, too")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.5, 1.0, 3.0, 8.0])
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--norm", type=float, default=1.0)
    parser.add_argument("--noise", choices=["provider", "holders"], default="provider")
    parser.add_argument("--repeat", type=int, default=24, help="steps of `cost`")
    parser.add_argument("--eager", action="store_true", help="`cost` operation by operation")
    parser.add_argument("--log")
    parser.add_argument("--figure", help="`curve`: write an SVG picture, too (matplotlib)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"train": train, "curve": curve, "cost": cost, "exact": exact}[options.what](options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
