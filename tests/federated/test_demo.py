"""`pysmpc demo --federated`: it runs, and says what it must."""

import pytest

from pysmpc import cli

FEW = ["demo", "--federated", "--rounds", "2", "--train-items", "120", "--test-items", "60"]


def test_in_one_process(capsys):
    assert cli.main([*FEW, "--owners", "4"]) == 0
    out = capsys.readouterr().out
    assert "4 owners of" in out
    assert "right of 60 held-out items" in out
    assert "as shares" in out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:secure=False")
@pytest.mark.parametrize("more", [[], ["--in-the-clear"]], ids=str)
def test_with_owners_as_processes(capsys, more):
    assert cli.main([*FEW, "--remote", *more]) == 0
    out = capsys.readouterr().out
    assert "three processes" in out
    assert ("in the clear, TLS" in out) == bool(more)


def test_in_the_clear_without_processes(capsys):
    with pytest.raises(SystemExit):
        cli.main([*FEW, "--in-the-clear"])
    assert "--in-the-clear goes with --remote" in capsys.readouterr().err


def test_more_owners_than_items(capsys):
    with pytest.raises(SystemExit):
        cli.main([*FEW, "--owners", "121"])
    assert "more than the 120 training items" in capsys.readouterr().err
