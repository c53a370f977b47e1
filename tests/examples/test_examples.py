"""Every program under examples/ runs, is short, and comes to what plain torch comes to."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
PAGE = FOLDER.parent / "docs" / "examples.md"

#: By program: its arguments, how far its results may be from plain torch's, and a library that it needs.
PROGRAMS = {
    "logistic_regression": (("rows",), 1, "sklearn"),
    "logistic_regression by columns": (("columns",), 1, "sklearn"),
    "k_means": ((), 2**-8, None),
    "pca": ((), 2**-8, None),
    "cnn": ((), 0.02, None),
    "private_inference": ((), 0, None),
    "lstm_sensors": ((), 0.06, None),  # Adam takes a sign where a gradient is small: 0.022 of 20 runs
    "transformer": ((), 0.01, None),
    "text_generation": ((), 0, "transformers"),
    "secure_statistics": ((), 0.01, None),
    "fine_tuning": ((), 2, None),
}
NAMES = {name.split()[0] for name in PROGRAMS}


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")
def test_it_comes_to_what_plain_torch_does(program, capsys):
    arguments, apart, library = PROGRAMS[program]
    if library is not None:
        pytest.importorskip(library)
    found, expected = load(program.split()[0]).main(*arguments)
    assert found.shape == expected.shape
    assert bool(((found.double() - expected.double()).abs() <= apart).all()), (found, expected)
    printed = capsys.readouterr().out
    assert "secret" in printed
    assert "plain torch" in printed


def test_all_are_here_short_and_have_a_section():
    assert {path.stem for path in FOLDER.glob("*.py")} == NAMES | {"train_distributed"}
    page = PAGE.read_text(encoding="utf-8")
    for name in NAMES:
        assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 60
        assert f"`examples/{name}.py" in page
