"""What the command prints, and exit status 2 with one line for every mistake."""

import gzip
import json
import re
import shutil
import ssl
import subprocess
import sys

import pytest

from pysmpc import __version__
from pysmpc.cli import main
from pysmpc.datasets.mnist import SAMPLE
from pysmpc.demo import models
from pysmpc.demo import settings as settings_module
from pysmpc.demo.settings import HOLDERS, Settings
from pysmpc.ring import z2k


@pytest.fixture
def run(capsys):
    """run(*arguments): what `pysmpc ARGUMENTS` prints."""

    def call(*arguments):
        assert main([str(argument) for argument in arguments]) == 0
        out, err = capsys.readouterr()
        assert err == ""  # the progress bar is for terminals
        return out

    return call


@pytest.fixture
def refused(capsys):
    """refused(*arguments): the one line that `pysmpc ARGUMENTS` says before it exits with status 2."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        assert stopped.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("pysmpc")
        return line

    return call


@pytest.fixture
def folder(tmp_path):
    for path in SAMPLE.glob("*.gz"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["--version"], f"pysmpc {__version__}\n"),
        (["--help"], "usage: pysmpc"),
        (["demo", "--help"], "usage: pysmpc demo"),
        (["info", "--help"], "usage: pysmpc info"),
    ],
)
def test_help(arguments, start, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(start)


def test_info(run):
    names = [line.split()[0] for line in run("info").splitlines()]
    assert names == [
        "pysmpc",
        "target",
        "supported",
        "products",
        "threads",
        "encryption",
        "compiler",
        "torch",
        "python",
    ]


@pytest.mark.parametrize(("forced", "words"), [("", "the best supported"), ("portable", "forced by PYSMPC_TARGET")])
def test_info_says_why(run, monkeypatch, forced, words):
    monkeypatch.setenv("PYSMPC_TARGET", forced)
    assert words in run("info").splitlines()[1]


@pytest.mark.parametrize(
    ("version", "target", "hint"),
    [((3, 0), "avx512vaes", True), ((3, 1), "avx512vaes", False), ((3, 0), "avx2", False)],
)
def test_info_knows_which_openssl_is_fast(run, monkeypatch, version, target, hint):
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", version)
    monkeypatch.setattr(z2k, "target", lambda: target)
    [line] = [line for line in run("info").splitlines() if line.startswith("encryption")]
    assert ssl.OPENSSL_VERSION in line
    assert ("3.1" in line.replace(ssl.OPENSSL_VERSION, "")) == hint


def test_the_module_info_is_the_verb(run):
    result = subprocess.run([sys.executable, "-m", "pysmpc.info"], capture_output=True, text=True, check=True)
    assert result.stdout == run("info")


def test_a_mistake_seen_from_outside():
    command = [sys.executable, "-m", "pysmpc.cli", "demo", "--data", "/nowhere"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "pysmpc demo: error: /nowhere: no such folder\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required"),
        (["dance"], "invalid choice"),
        (["demo", "--epochs", "0"], "0 is not a whole number of at least 1"),
        (["demo", "--epochs", "many"], "'many' is not a whole number"),
        (["demo", "--train-items", "0"], "--train-items"),
        (["demo", "--test-items", "-3"], "--test-items"),
        (["demo", "--batch-size", "0"], "--batch-size"),
        (["demo", "--batch-size", "641"], "--batch-size 641 is more than the 640 training items"),
        (["demo", "--train-items", "63"], "--batch-size 64 is more than the 63 training items"),
        (["demo", "--lr", "0"], "'0' is not a positive number"),
        (["demo", "--lr", "nan"], "--lr"),
        (["demo", "--lr", "fast"], "--lr"),
        (["demo", "--workers", "1"], "1 is not a whole number from 2 to 8"),
        (["demo", "--workers", "9"], "9 is not a whole number from 2 to 8"),
        (["demo", "--activation", "tanh"], "--activation"),
        (["demo", "--model", "vgg"], "--model"),
        (["demo", "--loss", "hinge"], "--loss"),
        (["demo", "--optimizer", "lion"], "--optimizer"),
        (["demo", "--dropout", "1"], "'1' is not a number from 0 up to, but not including, 1"),
        (["demo", "--dropout", "half"], "--dropout"),
        (["demo", "--loss-scale", "3"], "'3' is not a power of two from 1 to 65536"),
        (["demo", "--frac-bits", "40"], "--frac-bits"),
        (["demo", "--precision-fractional", "0"], "--precision-fractional"),
        (["demo", "--frac-bits", "16", "--precision-fractional", "3"], "not allowed with"),
        (["demo", "--seed", "-1"], "--seed"),
        (["demo", "--json", "/nowhere/at/all.json"], "/nowhere/at: no such folder"),
        (["demo", "--json", "/"], "/ is a folder"),
        (["demo", "--data", "/nowhere"], "/nowhere: no such folder"),
        (["demo", "--data", "/dev/null"], "/dev/null: not a folder"),
        (
            ["demo", "--integrity", "mac", "--protocol", "fss"],
            "--integrity mac is for the default protocol, not for fss",
        ),
        (["demo", "--integrity", "mac", "--remote"], "--remote goes with none of"),
        (["demo", "--train-items", "641"], "641 training items wanted, the sample has 640"),
        (["demo", "--test-items", "641"], "641 test items wanted, the sample has 640"),
    ],
)
def test_mistakes(refused, arguments, words):
    assert words in refused(*arguments)


def test_a_folder_without_mnist(refused, tmp_path):
    assert "no train-images-idx3-ubyte" in refused("demo", "--data", tmp_path)


def test_truncated_data(refused, folder):
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    assert f"{path}: truncated" in refused("demo", "--data", folder)


def test_mismatched_data(refused, folder):
    shutil.copy(folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz")
    assert "train-labels-idx1-ubyte.gz: begins with 00000803" in refused("demo", "--data", folder)


def test_the_defaults_are_the_articles():
    settings = Settings()
    assert (settings.train_items, settings.test_items, settings.epochs, settings.batch_size) == (640, 640, 20, 64)
    assert (settings.model, settings.loss, settings.optimizer, settings.rate) == ("mlp", "mse", "sgd", 0.02)
    assert settings.precision == {"base": 10, "precision_fractional": 3}
    assert settings.holders == ("alice", "bob")
    assert Settings(frac_bits=16, workers=3).precision == {"frac_bits": 16}
    assert Settings(workers=len(HOLDERS)).holders == HOLDERS


def test_other_settings():
    """The article's three decimal digits are too few for what divides, so that all else has binary ones."""
    assert Settings(model="resnet8").precision == {"frac_bits": 22}
    for other in ({"model": "lenet"}, {"loss": "cross-entropy"}, {"optimizer": "adam"}):
        assert Settings(**other).precision == {"frac_bits": 16}
        assert Settings(**other, precision_fractional=4).precision == {"base": 10, "precision_fractional": 4}
    assert Settings(optimizer="adam").rate == 1e-3
    assert Settings(optimizer="adam", lr=0.5).rate == 0.5
    assert (Settings().scale, Settings(model="resnet8").scale, Settings(loss_scale=8).scale) == (1, 256, 8)


def test_every_choice_is_there():
    assert tuple(models.MODELS) == settings_module.MODELS
    assert tuple(models.LOSSES) == settings_module.LOSSES
    assert tuple(models.ACTIVATIONS) == settings_module.ACTIVATIONS
    assert tuple(models.OPTIMIZERS) == tuple(settings_module.RATES)


# --- the job itself, small ----------------------------------------------------

ARTICLE = re.compile(r"Train Epoch: [12] \[\d+/150 \(\d+%\)\]\tLoss: \d\.\d{6}\tTime: \d\.\d{3}s")


def test_demo_prints_the_articles_lines_and_writes_its_figures(run, tmp_path):
    file = tmp_path / "figures.json"
    sizes = ["--train-items", 150, "--test-items", 70, "--epochs", 2, "--json", file]
    lines = run("demo", *sizes).splitlines()
    steps = [line for line in lines if line.startswith("Train Epoch: ")]
    assert len(steps) == 6
    assert all(ARTICLE.fullmatch(line) for line in steps), steps
    assert sum(line.startswith("Test set: Accuracy: ") for line in lines) == 2

    figures = json.loads(file.read_text())
    assert figures["settings"]["train_items"] == 150
    for side in ("encrypted", "plain"):
        assert len(figures[side]["losses"]) == len(figures[side]["seconds"]) == 6
        assert 0 <= figures[side]["test_correct"] <= 70
    assert figures["encrypted"]["losses"] == pytest.approx(figures["plain"]["losses"], abs=0.02)
    assert figures["encrypted"]["step"]["rounds"] > 0
    assert figures["encrypted"]["step"]["bytes_sent_by_a_holder"] > 0
    assert figures["plain"]["step"]["rounds"] == 0
    assert figures["ratio_of_medians"] > 0


@pytest.mark.parametrize(
    "options",
    [
        ["--frac-bits", "16"],
        ["--frac-bits", "16", "--activation", "square", "--workers", "3"],
        ["--plaintext-model", "--frac-bits", "16"],
        ["--integrity", "mac", "--frac-bits", "16"],
    ],
    ids=" ".join,
)
def test_options_of_the_demo(run, tmp_path, options):
    file = tmp_path / "figures.json"
    out = run("demo", "--train-items", 64, "--test-items", 10, "--epochs", 3, "--json", file, *options)
    figures = json.loads(file.read_text())
    assert figures["encrypted"]["losses"] == pytest.approx(figures["plain"]["losses"], abs=0.004)
    opens = "opens the gradients to the model's owner" in out
    assert opens == ("--plaintext-model" in options)
