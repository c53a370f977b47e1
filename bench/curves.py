"""Time and memory of a training step against batch and width, beside plain torch: docs/curves.svg and docs/curves.json.

    make curves

784 - width - width - 10 with ReLU, two holders and the provider in one process.  Every
point is a process of its own, so that its peak memory is its own.  Times are minima: the
machine's other work only adds.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
BATCHES = [16, 32, 64, 128, 256, 512, 1024]
WIDTHS = [64, 128, 256, 512, 1024, 2048]
BATCH, WIDTH = 64, 128  # the one that is fixed while the other moves


def point(batch, width, secret, steps):
    """A step's least seconds, and the process's peak memory beyond that of its imports, in bytes."""
    import torch
    from models import mlp, step

    import pysmpc as sy

    torch.set_num_threads(int(os.environ.get("PYSMPC_BENCH_THREADS", "1")))
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)  # imports much, which is not the step's
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model, x, y = mlp(width, width), torch.randn(batch, 784), torch.randn(batch, 10)
    if secret:
        parties = sy.virtual("alice", "bob")
        model, x, y = (sy.encrypt(each, parties) for each in (model, x, y))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    times = []
    for _ in range(steps + 2):
        begin = time.perf_counter()
        step(model, optimizer, x, y)
        if secret:
            next(model.parameters()).cell.body  # noqa: B018  (updates that wait are part of the step)
        times.append(time.perf_counter() - begin)
    found = {"seconds": min(times[2:]), "peak": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)}
    if secret:
        before = parties.stats.copy()
        step(model, optimizer, x, y)
        next(model.parameters()).cell.body  # noqa: B018
        spent = parties.stats - before
        found.update(rounds=spent.rounds, sent=spent.sent, dealt=spent.dealt)
    return found


def measure(batch, width, steps):
    """{"secret": ..., "plain": ...} of a point."""
    found = {"batch": batch, "width": width}
    for kind in ("secret", "plain"):
        command = [sys.executable, __file__, "--point", str(batch), str(width), kind, "--steps", str(steps)]
        path = os.pathsep.join([str(ROOT), str(ROOT / "bench")])
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
        )
        found[kind] = json.loads(done.stdout)
    print(
        f"batch {batch:5d} width {width:5d}: {1e3 * found['secret']['seconds']:9.2f} ms, plain "
        f"{1e3 * found['plain']['seconds']:8.2f} ms, {found['secret']['peak'] / 1e6:7.0f} MB, "
        f"plain {found['plain']['peak'] / 1e6:5.0f} MB",
        flush=True,
    )
    return found


def plot(curves, path, setting):
    """Four panels: time and memory, by batch and by width."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "curves", "svg.fonttype": "none", "font.size": 9})
    figure, panels = pyplot.subplots(2, 2, figsize=(8.5, 6), layout="constrained")
    for column, axis in enumerate(("batch", "width")):
        points = curves[axis]
        for row, (figure_name, unit, label) in enumerate((("seconds", 1e3, "ms a step"), ("peak", 1e-6, "peak MB"))):
            panel = panels[row][column]
            for kind, colour in (("secret", "tab:blue"), ("plain", "tab:gray")):
                values = [unit * p[kind][figure_name] for p in points]
                panel.plot([p[axis] for p in points], values, "o-", color=colour, label=f"{kind}", markersize=4)
            if figure_name == "seconds":
                for p in points:
                    ratio = p["secret"]["seconds"] / p["plain"]["seconds"]
                    place = (p[axis], unit * p["secret"]["seconds"])
                    panel.annotate(f"{ratio:.0f}x", place, (0, 5), textcoords="offset points", ha="center", fontsize=7)
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.minorticks_off()
            panel.set_xticks([p[axis] for p in points], [str(p[axis]) for p in points])
            panel.set_xlabel(f"{axis} ({'width ' + str(WIDTH) if axis == 'batch' else 'batch ' + str(BATCH)})")
            panel.set_ylabel(label)
            panel.grid(alpha=0.3)
    panels[0][0].legend()
    figure.suptitle(setting, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--point", nargs=3, metavar=("BATCH", "WIDTH", "KIND"), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--replot", action="store_true", help="draw curves.json again, measure nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of curves.svg and curves.json")
    options = parser.parse_args()
    if options.point:
        batch, width, kind = options.point
        print(json.dumps(point(int(batch), int(width), kind == "secret", options.steps)))
        return 0
    if options.replot:
        curves = json.loads((options.out / "curves.json").read_text())
        plot(curves, options.out / "curves.svg", curves["setting"])
        return 0
    sys.path.insert(0, str(ROOT))
    from pysmpc.ring import z2k

    threads = os.environ.get("PYSMPC_BENCH_THREADS", "1")
    setting = (
        f"784 - width - width - 10, two holders and the provider in one process, {threads} thread(s), {z2k.target()}"
    )
    curves = {
        "setting": setting,
        "batch": [measure(batch, WIDTH, options.steps) for batch in BATCHES],
        "width": [measure(BATCH, width, options.steps) for width in WIDTHS],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "curves.json").write_text(json.dumps(curves, indent=1) + "\n")
    plot(curves, options.out / "curves.svg", setting)
    return 0


if __name__ == "__main__":
    sys.exit(main())
