"""Workers and drivers to be killed: forked from a process that has the library, so that hundreds can be started.

Connections, configurations and the command are those of `LocalWorkers`.
"""

import functools
import multiprocessing
import os
import signal
import subprocess
from multiprocessing import forkserver
from pathlib import Path

import torch
from torch.nn import functional as F
from twins import mlp

import pysmpc as sy
from pysmpc import cli
from pysmpc.remote.driver.connect import RemoteParties
from pysmpc.remote.local_workers import LocalWorkers
from pysmpc.session import checkpoint_files

STEPS, EVERY = 8, 4  # of a TrainStep the third and the fourth are recorded, and the last four are repetitions

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    ["pysmpc.cli", "pysmpc.remote.worker.worker", "pysmpc.remote.driver.connect", "torch.nn.functional"]
)


class Forked:
    """A process, used like `subprocess.Popen`."""

    def __init__(self, target, *args):
        self._process = context.Process(target=target, args=args, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        return self._process.exitcode

    def wait(self, seconds=None):
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("worker", seconds)
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def terminate(self):
        self._process.terminate()

    def kill(self):
        self._process.kill()


class ForkedWorkers(LocalWorkers):
    """A forked process for each holder and the provider."""

    def start(self, name):
        self.processes[name] = Forked(work, str(self.folder / f"{name}.toml"), str(self.folder / f"{name}.log"))


def alive():
    """How many processes were forked and are there, as zombies too."""
    parent = forkserver._forkserver._forkserver_pid
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found += int(path.read_text().rpartition(") ")[2].split()[1]) == parent
        except OSError:
            continue
    return found


def work(config, log):
    """A worker."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, 2)
    os.close(file)
    cli.main(["worker", "--config", config])


def task():
    """(model, x, y), the same in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return mlp(8, 6, 3), torch.randn(12, 8), torch.randn(12, 3)


def train(parties, folder, driver="scientist", repeated=False):
    """STEPS steps in all, from the last checkpoint on; the parameters at the end.

    repeated: by a TrainStep.  Rounding is exact: the weights are the same, to the bit.
    """
    model, x, y = task()
    net = sy.encrypt(model, parties, rounding="nearest")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    done = 0
    if checkpoint_files.known(Path(folder) / driver):
        done = sy.load(net, optimizer, folder)["step"]
    a, b = (sy.encrypt(each, parties, rounding="nearest") for each in (x, y))
    step = sy.TrainStep(net, optimizer, F.mse_loss) if repeated else functools.partial(as_written, net, optimizer)
    for number in range(done, STEPS):
        loss = step(a, b)
        if number % EVERY == EVERY - 1:
            sy.save(net, optimizer, folder, step=number + 1)
            sy.decrypt(loss)
    assert not repeated or done or step.repeats, step.reason
    return [sy.decrypt(p) for p in net.parameters()]


def as_written(net, optimizer, x, y):
    """A step."""
    optimizer.zero_grad()
    loss = F.mse_loss(net(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()


def drive(config, folder, repeated, pipe):
    """A driver that is a process of its own."""
    torch.set_num_threads(1)
    pipe.send("up")
    with RemoteParties(config) as parties:
        found = train(parties, folder, repeated=repeated)
    pipe.send([each.numpy() for each in found])
