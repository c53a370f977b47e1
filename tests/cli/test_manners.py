"""How the command behaves in a shell: quick, interruptible, without colours or bars where nobody sees them."""

import shutil
import signal
import subprocess
import sys

import pytest

from pysmpc import completion
from pysmpc.cli import build_parser, main

PYSMPC = [sys.executable, "-m", "pysmpc"]


def test_the_package_runs_as_a_module():
    done = subprocess.run([*PYSMPC, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pysmpc ")


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["worker", "--help"], ["completion", "bash"]])
def test_help_needs_no_torch(arguments):
    program = (
        "import sys\nfrom pysmpc.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'numpy', 'cryptography', 'msgspec'} & set(sys.modules), 'imported'"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_interrupted_is_one_line_and_130():
    command = [*PYSMPC, "demo", "--epochs", "1000"]
    pipe = subprocess.PIPE
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background ignores it
    try:
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, heard)
    try:
        assert process.stdout.readline().startswith("Train Epoch: 1 ")
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err == "pysmpc demo: interrupted\n"


@pytest.fixture
def colourful(monkeypatch):
    """Whatever the terminal could show: NO_COLOR is not set."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_reader_that_goes_away_is_no_error(colourful):
    command = [*PYSMPC, "demo", "--epochs", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        line = process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert err == b""  # no bar either
    assert line.startswith(b"Train Epoch: 1 ")
    assert not set(line) & {0x1B, 0x0D}
    assert process.returncode == 141


def test_no_codes_in_a_pipe(colourful, capfdbinary):
    assert main(["demo", "--epochs", "1", "--train-items", "64", "--test-items", "10"]) == 0
    out, err = capfdbinary.readouterr()
    assert out.startswith(b"Train Epoch: 1 ")
    assert not set(out + err) & {0x1B, 0x0D}


@pytest.mark.parametrize("days", ["-1", "0", "many", "99999999999"])
def test_days_that_make_no_sense(days, tmp_path, capsys):
    for arguments in (["init", tmp_path], ["issue", tmp_path, "alice"], ["renew", tmp_path, "alice"]):
        with pytest.raises(SystemExit) as stopped:
            main(["certs", *map(str, arguments), "--days", days])
        assert stopped.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "is not a number of days" in line


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_names_every_verb_and_option(shell, capsys):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    for path, parser in completion.parsers(build_parser()):
        assert path.split()[-1:] == [] or path.split()[-1] in text
        for action in parser._actions:
            for option in action.option_strings:
                assert option.lstrip("-") in text


def test_completion_in_bash():
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    script = completion.script(build_parser(), "bash")

    def completed(*words):
        line = " ".join(f"'{word}'" for word in words)
        program = f"{script}\nCOMP_WORDS=({line}) COMP_CWORD={len(words) - 1}\n_pysmpc\necho ${{COMPREPLY[@]}}"
        return subprocess.run([bash, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert completed("pysmpc", "de") == ["demo", "deal"]
    assert set(completed("pysmpc", "demo", "--optimizer", "ad")) == {"adam", "adamw", "adamax", "adagrad", "adadelta"}
    assert "--frac-bits" in completed("pysmpc", "demo", "--fr")
    assert completed("pysmpc", "certs", "re") == ["renew"]
    assert "--keep-key" in completed("pysmpc", "certs", "renew", "--k")


def test_flags_that_name_data_which_are_not_there(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["worker", "--id", "alice", "--get", "images=scientist", "--check"])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--get 'images': there are no data of this name" in line
