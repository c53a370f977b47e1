"""Every code sample of the two reference documents, run as printed."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent / "samples"
TRAIN_LINE = re.compile(r"Train Epoch: (\d+) \[(\d+)/640 \((\d+)%\)\]\tLoss: (\d\.\d{6})\tTime: \d+\.\d{3}s")
TEST_LINE = re.compile(r"Test set: Accuracy: (\d+)\.0/640 \((\d+)%\)")
CHAIN = (
    r"{head}>AutogradTensor>FixedPrecisionTensor>\[AdditiveSharingTensor\]\n"
    r"\t-> \[PointerTensor \| me:\d+ -> worker1:\d+\]\n"
    r"\t-> \[PointerTensor \| me:\d+ -> worker2:\d+\]\n"
    r"\t\*crypto provider: crypto_provider\*"
)

# Runs files one after the other in one namespace; of expressions, as in a notebook, it prints the value.
RUNNER = r"""
import ast, sys
namespace = {"__name__": "__main__"}
for source in sys.argv[1:]:
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), "<sample>", "eval"), namespace)
            if value is not None:
                print(repr(value))
        else:
            exec(compile(ast.Module([statement], []), "<sample>", "exec"), namespace)
"""


def source(name, **replaced):
    text = (SAMPLES / f"{name}.py").read_text()
    for old, new in replaced.items():
        assert old in text
        text = re.sub(rf"{old} = \d+", f"{old} = {new}", text)
    return text


def output(*sources):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER, *sources],
        capture_output=True,
        text=True,
        timeout=250,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_log(log, epochs):
    """The lines have the article's form; returns losses of all steps and the last number of correct items."""
    lines = [TRAIN_LINE.fullmatch(line) for line in log.splitlines() if line.startswith("Train")]
    assert len(lines) == 10 * epochs
    assert all(lines)
    assert [(int(m[1]), int(m[2]), int(m[3])) for m in lines] == [
        (epoch, 64 * i, 10 * i) for epoch in range(1, epochs + 1) for i in range(10)
    ]
    tests = [TEST_LINE.fullmatch(line) for line in log.splitlines() if line.startswith("Test")]
    assert len(tests) == epochs
    assert all(tests)
    return [float(m[4]) for m in lines], int(tests[-1][1])


def test_encrypted_training():
    log = output(source("encrypted_training", **{"self.epochs": 2}), source("printing"))
    losses, correct = check_log(log, 2)
    assert losses[0] == pytest.approx(1.1, abs=0.2)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert correct > 640 // 4
    assert re.search(r"Parameter containing:\n" + CHAIN.format(head="Parameter"), log)
    assert re.search(CHAIN.format(head=r"\(Wrapper\)"), log)


@pytest.mark.slow
def test_encrypted_training_of_twenty_epochs():
    training = "print(sum((model(d).argmax(1) == t.argmax(1)).sum() for d, t in private_train_loader).get())"
    log = output(source("encrypted_training"), training)
    losses, correct = check_log(log, 20)
    assert losses[-1] < 0.4
    assert correct >= 0.75 * 640
    assert int(re.search(r"tensor\((\d+)\)", log)[1]) >= 0.9 * 640


def test_gradient():
    use = """
import torch, pysmpc as sy
parties = sy.virtual("alice", "bob")
x, y = (sy.encrypt(torch.tensor(v), parties, requires_grad=True) for v in ([1.5, -2.0], [3.0, 0.25]))
MulBackward.apply(torch.mul, x, y).sum().backward()
sy.decrypt(x.grad), sy.decrypt(y.grad)
"""
    assert output(source("gradient"), use) == "(tensor([3.0000, 0.2500]), tensor([ 1.5000, -2.0000]))\n"


def test_federated():
    assert output(source("federated")) == "tensor([4, 6])\n"


def test_spdz():
    assert output(source("spdz")) == "4\n"


def test_shares():
    lines = dict(line.split(":  ") for line in output(source("shares")).splitlines())
    values = {name: int(re.fullmatch(r"tensor\(\[(-?\d+)\]\)", text)[1]) for name, text in lines.items()}
    assert values["Adding both shares of x (==25)"] == 25
    assert values["Manual reconstruction of x + y"] == 30
    assert values["Automatic reconstruction of x + y"] == 30
    modulus = 1 << 64
    assert (values["Bob share of x (==25)"] + values["Alice share of x (==25)"]) % modulus == 25
    assert (values["Bob share of x+y (==30)"] + values["ALice share of x+y (==30)"]) % modulus == 30
    assert values["Bob share of x (==25)"] not in (0, 25)


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_sample_is_run(path):
    ast.parse(path.read_text())
    assert f'source("{path.stem}"' in Path(__file__).read_text()
