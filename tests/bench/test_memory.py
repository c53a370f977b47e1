"""What a training step needs: memory at its peak against the shares that are alive, and neither time nor memory that
grows faster than the batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import ctypes, json, sys, time
import torch
from models import lenet, mlp, step
import pysmpc as sy
from pysmpc.tensor.watching import WATCHERS

def status(field):
    [line] = [line for line in open("/proc/self/status") if line.startswith(field)]
    return 1024 * int(line.split()[1])

def shares():
    '''Bytes of the shares of values and of bits that are alive.'''
    bodies = [body for ref in parties.session._bodies if (body := ref()) is not None]
    known = {id(body): body for body in bodies if isinstance(body.held, torch.Tensor)}.values()
    bits = {id(bit): bit for body in known for bit in (body.bit, body.sign) if bit is not None}.values()
    return 8 * (sum(body.held.numel() for body in known) + sum(bit.rho.numel() for bit in bits))

def watch(func, args, kwargs):
    alive.append(shares())
    return lambda out: alive.append(shares())

def run():
    step(model, optimizer, x, y)
    next(model.parameters()).cell.body

torch.set_num_threads(1)
name, batch = sys.argv[1], int(sys.argv[2])
image = (1, 28, 28) if name == "lenet" else (784,)
parties = sy.virtual("alice", "bob")
model = sy.encrypt(lenet() if name == "lenet" else mlp(128, 64), parties)
x, y = (sy.encrypt(torch.randn(batch, *shape), parties) for shape in (image, (10,)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
alive = []
run()
run()
WATCHERS.append(watch)
run()
WATCHERS.remove(watch)
ctypes.CDLL(None).malloc_trim(0)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
rest, before = status("VmRSS") - shares(), time.process_time()
run()
spent = time.process_time() - before
print(json.dumps({"peak": status("VmHWM") - rest, "shares": max(alive), "seconds": spent}))
"""


def measured(name, batch):
    command = [sys.executable, "-c", PROGRAM, name, str(batch)]
    path = f"{ROOT}:{ROOT / 'bench'}"
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell a process its peak")
@pytest.mark.parametrize(("name", "batches"), [("mlp", (256, 1024))])
def test_peak_of_a_step(name, batches):
    """At most three times the shares alive, and no more an item of a larger batch: small ones share less overhead."""
    small, large = (measured(name, batch) for batch in batches)
    assert large["peak"] <= 3 * large["shares"], large
    assert large["peak"] / batches[1] <= 1.05 * small["peak"] / batches[0], (small, large)
    assert large["shares"] / batches[1] <= small["shares"] / batches[0]
