"""The tools that compare and count: what they say moved has moved."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent.parent / "bench"


def load(name):
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(**seconds):
    """A file as pytest-benchmark writes it: {name: (ours, plain, rounds, sent)}."""
    return {
        "benchmarks": [
            {
                "name": name,
                "stats": {"min": ours, "median": 2 * ours},
                "extra_info": {"plain_min": plain, "rounds": rounds, "sent": sent, "dealt": 0},
            }
            for name, (ours, plain, rounds, sent) in seconds.items()
        ]
    }


def compared(tmp_path, capsys, old, new, *options):
    for name, content in (("old", old), ("new", new)):
        (tmp_path / name).write_text(json.dumps(content))
    assert load("compare").main([str(tmp_path / "old"), str(tmp_path / "new"), *options]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_times_that_moved(tmp_path, capsys):
    old = run(same=(1.0, 0.5, 4, 80), slower=(1.0, 0.5, 4, 80), busy=(1.0, 0.5, 4, 80))
    new = run(same=(1.04, 0.5, 4, 80), slower=(1.5, 0.5, 4, 80), busy=(2.0, 1.0, 4, 80))
    lines = compared(tmp_path, capsys, old, new)
    assert [(line[0], line[1], line[-2]) for line in lines] == [
        ("busy", "ms", "+100.0"),
        ("slower", "ms", "+50.0"),
        ("slower", "ratio", "+50.0"),
    ]
    assert len(compared(tmp_path, capsys, old, new, "--least", "1")) == 5


def test_counts_that_moved_at_all(tmp_path, capsys):
    lines = compared(tmp_path, capsys, run(a=(1, 1, 4, 80000)), run(a=(1, 1, 3, 80008)))
    assert {(line[1], line[2], line[4]) for line in lines} == {
        ("rounds", "4.000", "3.000"),
        ("sent", "80000.000", "80008.000"),
    }


def test_what_is_new_or_gone(tmp_path, capsys):
    lines = compared(tmp_path, capsys, run(a=(1, 1, 1, 1), b=(1, 1, 1, 1)), run(a=(1, 1, 1, 1), c=(1, 1, 1, 1)))
    assert [" ".join(line) for line in lines] == [
        "nothing moved by 5 % or more, and no count changed", "only in the first: b", "only in the second: c",
    ]  # fmt: skip


def test_instructions(tmp_path, capsys):
    old = {"instructions_an_element": {"avx2": {"add": 1.5, "mul": 3.5}}}
    new = {"instructions_an_element": {"avx2": {"add": 1.5, "mul": 3.25}}}
    [line] = compared(tmp_path, capsys, old, new)
    assert line[:3] == ["mul", "(avx2)", "instructions"]
    assert line[-2] == "-7.1"


@pytest.mark.skipif(not Path("/usr/include/valgrind/callgrind.h").exists(), reason="needs Valgrind's headers")
@pytest.mark.skipif(not shutil.which("gcc"), reason="needs a C compiler")
def test_the_program_that_is_counted_fits_the_kernels():
    root = BENCH.parent
    command = ["gcc", "-std=gnu11", "-fsyntax-only", "-Wall", "-Werror", f"-I{root / 'src/c'}", str(BENCH / "count.c")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("valgrind") or not shutil.which("gcc"), reason="needs valgrind and a C compiler")
def test_counting(tmp_path, capsys, monkeypatch):
    """Twice the same to a hundredth of an instruction, and every kernel costs something."""
    found = []
    for name in ("one", "two"):
        monkeypatch.setattr(sys, "argv", ["count.py", "--json", str(tmp_path / name)])
        assert load("count").main() == 0
        found.append(json.loads((tmp_path / name).read_text())["instructions_an_element"])
    assert "matmul" in capsys.readouterr().out
    for target, kernels in found[0].items():
        for kernel, count in kernels.items():
            assert count > 0.5
            assert found[1][target][kernel] == pytest.approx(count, abs=0.01)


def test_where_the_time_of_a_step_goes(capsys, monkeypatch):
    where = load("where")
    for module in where.KERNELS:
        monkeypatch.setattr(module, "launch", module.launch)  # what it puts in their place goes with the test
    watchers = where.WATCHERS
    try:
        where.main(["--steps", "2", "--batch", "4"])
    finally:
        watchers[:] = [each for each in watchers if not isinstance(each, where.Watcher)]
    out = capsys.readouterr().out
    assert "product_combine" in out
    assert "aten.addmm.default" in out
    assert "mlp, batch 4, 1 threads" in out
