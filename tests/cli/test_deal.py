"""`pysmpc deal`, and a program that runs on what it dealt."""

import pytest
import torch

import pysmpc as sy
from pysmpc.cli import main
from pysmpc.errors import MaterialError
from pysmpc.mpc.suite import suites

PROGRAM = """
import torch
from torch import nn
import torch.nn.functional as F
import pysmpc as sy

def program(parties, x=torch.zeros(6, 3), y=torch.zeros(6, 2)):
    torch.manual_seed(3)
    x, y = sy.encrypt(x, parties), sy.encrypt(y, parties)
    net = sy.encrypt(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), parties)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
    return sy.decrypt(loss), sy.decrypt(net)
"""


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(PROGRAM)
    return path


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["deal", *map(str, arguments)])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("pysmpc deal: error: ")
    return line


@pytest.mark.parametrize("names", [["alice", "bob"], ["a", "b", "c"]])
def test_deal_and_run(names, train, tmp_path, capsys):
    out = tmp_path / "material"
    assert main(["deal", "--program", str(train), "--out", str(out), "--runs", "2", "--holders", ",".join(names)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("2 x Plan(")
    assert all(f"{name}.material" in text for name in names)

    space = {}
    exec(PROGRAM, space)
    x, y = torch.randn(6, 3), torch.randn(6, 2)
    provided = sy.virtual(*names)
    expected, net = space["program"](provided, x, y)
    for _ in range(2):
        parties = sy.virtual(*names, material=out)
        loss, trained = space["program"](parties, x, y)
        assert abs(float(loss - expected)) < 2**-8
        for mine, theirs in zip(trained.parameters(), net.parameters(), strict=True):
            assert float((mine - theirs).detach().abs().max()) < 2**-8
        assert parties.stats == provided.stats
    with pytest.raises(MaterialError, match="all 2 runs"):
        sy.virtual(*names, material=out)


def test_record_and_run(tmp_path):
    def program(parties):
        return sy.decrypt(sy.encrypt(torch.tensor([2.0, -3.0]), parties).relu() * 2)

    with sy.plan("alice", "bob") as plan:
        assert torch.equal(program(plan.parties), torch.zeros(2))
    assert repr(plan).startswith(f"Plan({plan.parties.stats.rounds} rounds, ")
    paths = plan.deal(tmp_path)
    assert [path.name for path in paths] == ["alice.material", "bob.material"]
    found = program(sy.virtual("alice", "bob", material=str(tmp_path)))
    assert float((found - torch.tensor([4.0, 0.0])).abs().max()) <= 2**-15


def small(parties):
    x = sy.encrypt(torch.tensor([1.5, -2.0, 0.25, -7.0]), parties)
    return sy.decrypt((x * x).relu() + x.relu()), sy.decrypt(x > 0)


@pytest.mark.parametrize("rounding", ["probabilistic", "nearest"])
@pytest.mark.parametrize("protocol", sorted({*suites} - {"snn"}))
def test_every_protocol_whose_provider_only_deals(protocol, rounding, tmp_path):
    with sy.plan("alice", "bob", protocol=protocol, rounding=rounding) as plan:
        small(plan.parties)
    plan.deal(tmp_path)
    parties = sy.virtual("alice", "bob", protocol=protocol, rounding=rounding, material=tmp_path)
    values, positive = small(parties)
    assert float((values - torch.tensor([3.75, 4.0, 0.3125, 49.0])).abs().max()) <= 2**-15
    assert positive.tolist() == [True, False, True, False]
    assert parties.stats == plan.parties.stats


def test_a_provider_that_takes_part_cannot_be_dealt_ahead():
    with sy.plan("alice", "bob", protocol="snn") as plan, pytest.raises(MaterialError, match="use another protocol"):
        small(plan.parties)


def test_mistakes_are_one_line(train, tmp_path, capsys):
    out = tmp_path / "material"
    assert "No such file" in refused(capsys, "--program", tmp_path / "none.py", "--out", out)
    assert "--out" in refused(capsys, "--program", train)
    assert "at least 1" in refused(capsys, "--program", train, "--out", out, "--runs", 0)
    assert "at least two" in refused(capsys, "--program", train, "--out", out, "--holders", "alice")
    assert "crypto provider and holder" in refused(capsys, "--program", train, "--out", out, "--provider", "bob")
    assert "telepathy" in refused(capsys, "--program", train, "--out", out, "--protocol", "telepathy")
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    assert "no function program(parties)" in refused(capsys, "--program", empty, "--out", out)
    assert not out.exists()
    main(["deal", "--program", str(train), "--out", str(out)])
    capsys.readouterr()
    assert "is there already" in refused(capsys, "--program", train, "--out", out)


def test_adam_on_what_was_dealt(tmp_path, capsys):
    """The steps of an adaptive optimizer are a program like any other: what they need can be dealt ahead."""
    text = PROGRAM.replace("SGD(", "Adam(").replace("momentum=0.9", "amsgrad=True")
    assert "Adam(net.parameters(), lr=0.1, amsgrad=True)" in text
    path, out = tmp_path / "adam.py", tmp_path / "material"
    path.write_text(text)
    assert main(["deal", "--program", str(path), "--out", str(out), "--holders", "alice,bob"]) == 0
    space = {}
    exec(text, space)
    x, y = torch.randn(6, 3), torch.randn(6, 2)
    expected, _ = space["program"](sy.virtual("alice", "bob"), x, y)
    parties = sy.virtual("alice", "bob", material=out)
    loss, _ = space["program"](parties, x, y)
    assert float(loss) == pytest.approx(float(expected), abs=0.01)
