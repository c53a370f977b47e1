"""Steps that are split over threads give the same words however many there are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pysmpc.ring import comparison_kernels, product_kernels, z2k
from pysmpc.ring.prg import KeySet, fresh_key

N = 3 * 4096 + 77

once = pytest.mark.skipif("PYSMPC_KERNEL_TESTS" in os.environ, reason="the same whatever the target (test_targets.py)")


def steps(keys, every, z):
    """Every word that dealer and holders compute for a truncation, a sign and a selection."""
    seen = []

    def note(*tensors):
        seen.extend(t.reshape(-1) for t in tensors)
        return tensors[0] if len(tensors) == 1 else tensors

    by = z2k.Divisor(1000)
    dealt = torch.zeros(2 * N, dtype=torch.int64)
    z2k.truncate_deal(every, 0, by, z.shape[1], dealt)
    [c] = [z2k.rows_sum(note(z2k.truncate_mask(keys, 0, by.offset, z)))]
    note(dealt, z2k.truncate_finish(keys, 0, by, c, dealt))

    circuit = torch.zeros(comparison_kernels.compare_sizes(N)[4], dtype=torch.int64)
    comparison_kernels.compare_deal(every, 16, N, circuit)
    c = z2k.rows_sum(note(z2k.truncate_mask(keys, 16, by.offset, z)))
    state, message = note(*comparison_kernels.compare_chunks(keys, 16, circuit, c, by.offset))
    sign, message = note(*comparison_kernels.compare_nodes(keys, 16, circuit, z2k.rows_xor(message), state, N))
    beta = z2k.rows_xor(note(comparison_kernels.compare_root(keys, 16, circuit, z2k.rows_xor(message), sign, N)))
    rest = torch.zeros(comparison_kernels.compare_sizes(N, known=True)[4], dtype=torch.int64)
    comparison_kernels.compare_deal(every, 48, N, rest, known=True)
    note(rest, *comparison_kernels.compare_chunks(keys, 48, circuit, c, 5, known=16))

    bits, chosen = torch.zeros(N, dtype=torch.int64), torch.zeros(4 * N, dtype=torch.int64)
    comparison_kernels.bit_deal(every, 16 + 14, 16 + 5, bits)
    comparison_kernels.select_deal(every, 16, 16 + 14, by, chosen)
    rho = keys.draw(16 + 5, N, bits)
    note(circuit, bits, chosen, comparison_kernels.select_finish(keys, 16, by, False, c, beta, rho, chosen))
    a, e = note(keys.draw(40, N), every.total(41, N).reshape(1, -1))
    note(
        product_kernels.beaver_mul(keys, c, z, a, e, z.clone()), product_kernels.beaver_square(keys, c, z, a, z.clone())
    )
    return torch.cat(seen)


def test_threads_agree(threads, rng):
    raw = [fresh_key() for _ in range(3)]
    z = torch.from_numpy(rng.integers(-(1 << 60), 1 << 60, (3, N)))
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(steps(KeySet(raw, 0, 2), KeySet(raw), z))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def alone(program):
    """What a program of its own prints, with two threads and `work`, which needs both."""
    common = """
import os, torch
from pysmpc.ring import z2k as ring
torch.set_num_threads(2)
ring.use_torch_threads()
x = torch.ones(1 << 20, dtype=torch.int64)
def work():
    assert (ring.add(x, x).numpy() == 2).all()
"""
    done = subprocess.run([sys.executable, "-c", common + program], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@once
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads by /proc")
@pytest.mark.skipif(not torch.backends.openmp.is_available(), reason="torch has no team of OpenMP")
def test_kernels_compute_with_torchs_threads():
    before, after = alone("""
x + x
for _ in range(2):
    print(len(os.listdir("/proc/self/task")))
    work()
""")
    assert before == after


@once
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
def test_a_child_has_threads_of_its_own():
    assert alone("""
work()
if (child := os.fork()) == 0:
    for _ in range(3):
        work()
    os._exit(0)
print(os.waitpid(child, 0)[1])
""") == ["0"]
