"""`sy.profile`: its rows add up to what the session counted, and say where it was."""

import json
import random
import threading
from dataclasses import astuple

import pytest
import rank_programs as programs
import torch
from ranks import run_ranks
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as hooks
from torch.optim import optimizer as optim

import pysmpc as sy
from pysmpc.api.profiling import CPU
from pysmpc.mpc.additive.comparison import relu_cost, select_cost
from pysmpc.session.stats import Stats
from pysmpc.tensor.watching import WATCHERS


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.block = nn.Sequential(nn.Linear(5, 4), nn.ReLU())
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.block(F.relu(self.first(x))))


@pytest.fixture(params=[2, 3])
def setup(request):
    parties = sy.virtual(*"abc"[: request.param])
    model = sy.encrypt(Net(), parties)
    x, y = (sy.encrypt(torch.randn(7, n), parties) for n in (6, 2))
    return parties, model, x, y, torch.optim.SGD(model.parameters(), lr=0.05)


def step(model, x, y, optimizer):
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    return sy.decrypt(loss)


def profiled(setup, **options):
    parties, *rest = setup
    before = parties.stats.copy()
    with sy.profile(show=False, **options) as profile:
        step(*rest)
    return profile, parties.stats - before


def only(rows, **wanted):
    [row] = [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]
    return row


def test_rows_add_up(setup):
    profile, spent = profiled(setup)
    assert spent.rounds > 10
    assert profile.stats == profile.total().spent == spent
    assert sum(row.seconds[0] for row in profile.rows) == pytest.approx(profile.seconds)
    assert all(row.seconds[0] >= 0 for row in profile.rows)
    for names in (("layer",), ("operation",), ("layer", "operation")):
        rows = profile.by(*names)
        assert sum((row.spent for row in rows), Stats()) == spent
        assert sum(row.calls for row in rows) == sum(row.calls for row in profile.rows)


def test_where_it_was(setup):
    holders = len(setup[0])
    profile, _ = profiled(setup)
    rows = profile.rows
    assert only(rows, layer="Net", operation="relu").spent.cost == relu_cost(holders, 35, True)
    assert only(rows, layer="block.1", operation="relu").spent.cost == relu_cost(holders, 28, True)
    for layer, n in (("Net backward", 35), ("block.1 backward", 28)):
        assert only(rows, layer=layer, operation="threshold_backward").spent.cost == select_cost(holders, n, True)
    assert {row.layer for row in rows if row.operation == "addmm"} == {"first", "block.0", "last"}
    assert {row.layer for row in rows if row.operation == "mm"} == {
        "first backward", "block.0 backward", "last backward",
    }  # fmt: skip
    assert only(rows, layer="last backward", operation="mm").calls == 2  # of the weight and of the input
    assert only(rows, layer="first backward", operation="mm").calls == 1
    assert {row.layer for row in rows if row.operation == "add_"} == {"SGD"}
    assert only(rows, layer="", operation="decrypt").spent.rounds == 1


def test_updates_that_wait_have_a_row(setup):
    """They are counted once, and not with the operation that had to wait for them."""
    _, model, x, y, optimizer = setup
    step(model, x, y, optimizer)
    profile, spent = profiled(setup)
    update = only(profile.by("operation"), operation="update")
    assert (update.calls, update.spent.rounds) == (1, 1)
    assert only(profile.by("operation"), operation="addmm").calls == 3
    assert profile.stats == spent


def test_encrypting(setup):
    parties = setup[0]
    with sy.profile(show=False) as profile:
        sy.encrypt(torch.ones(5), parties)
        sy.encrypt(nn.Linear(3, 2), parties)
    row = only(profile.rows, operation="encrypt")
    assert row.calls == 3
    assert row.spent == Stats(shared=8 * 13)


def test_two_sessions(setup):
    one, other = setup[0], sy.virtual("x", "y")
    x, y = (sy.encrypt(torch.ones(4), parties) for parties in (one, other))
    before = one.stats.copy(), other.stats.copy()
    with sy.profile(show=False) as profile:
        sy.decrypt(x * x)
        sy.decrypt(y > 0)
    assert profile.stats == (one.stats - before[0]) + (other.stats - before[1])


def test_nothing_is_left_behind(setup):
    places = (
        hooks._global_forward_hooks,
        hooks._global_forward_pre_hooks,
        optim._global_optimizer_pre_hooks,
        optim._global_optimizer_post_hooks,
    )
    before, hooked = list(WATCHERS), [dict(place) for place in places]
    profiled(setup)
    with pytest.raises(ZeroDivisionError), sy.profile(show=False):
        raise ZeroDivisionError
    assert before == WATCHERS
    assert hooked == [dict(place) for place in places]


def test_a_layer_that_fails_is_left(setup):
    _, model, x, _, _ = setup
    with sy.profile(show=False) as profile:
        with pytest.raises(RuntimeError):
            model(x[:, :3])
        x + x
    assert only(profile.rows, operation="add").layer == ""


def test_other_threads_are_not_counted(setup):
    _, _, x, y, _ = setup
    with sy.profile(show=False) as profile:
        thread = threading.Thread(target=lambda: x * x)
        thread.start()
        thread.join()
        y + y
    assert [row.operation for row in profile.rows] == ["add", "outside of operations"]


def test_estimates(setup):
    network = sy.Network(one_way=0.125, rate=1e4)
    profile, spent = profiled(setup, wan=network)
    expected = profile.seconds + spent.rounds * 0.125 + spent.sent / 1e4 + spent.sent * CPU
    assert profile.estimate(network) == pytest.approx(expected)
    assert network.seconds(Stats(rounds=2, asked=1000, answered=500)) == pytest.approx(0.25 + 0.15 + 1500 * CPU)
    assert profile.estimate(profile.lan) < profile.estimate(profile.wan)
    assert profile.table("layer").splitlines()[-2].split()[-1] == f"{1e3 * expected:.2f}"


def test_what_is_printed(setup, capsys):
    _, *rest = setup
    with sy.profile() as profile:
        step(*rest)
    printed = capsys.readouterr().out.rstrip("\n")
    assert printed == str(profile)
    head, _, *lines = printed.splitlines()
    assert head.split()[:4] == ["layer", "operation", "calls", "ms"]
    assert lines[-2].startswith("total")
    assert str(profile.stats.rounds) in lines[-2].split()
    assert not any(str(value) in printed for value in sy.decrypt(rest[0].last.weight).flatten().tolist())
    with sy.profile(show=False):
        step(*rest)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("names", [(), ("value",), ("layer", "time")])
def test_what_rows_can_be_summed_by(setup, names):
    profile, _ = profiled(setup)
    with pytest.raises(ValueError, match="'layer' and 'operation'"):
        profile.by(*names)


def test_each_rank_has_a_column():
    seed = random.getrandbits(32)
    alice, bob, provider = run_ranks(3, programs.profiled, seed)
    assert alice[0] == ("alice", "bob", "crypto_provider")
    assert alice[1] == bob[1] == provider[1]
    assert alice[2]
    assert "alice ms  bob ms  crypto_provider ms" in alice[3].splitlines()[0]
    assert alice[3] == bob[3] == provider[3]
    _, rows, _, _ = programs.profiled(seed, sy.virtual("alice", "bob"))
    assert [row[:4] for row in rows] == [row[:4] for row in alice[1]]
    assert {row[4] for row in alice[1]} == {3}
    assert sum(row[3][0] for row in rows) == astuple(Stats(*map(sum, zip(*(row[3] for row in rows), strict=True))))[0]


def test_chrome_trace_and_bars(setup, tmp_path):
    profile, spent = profiled(setup)
    path = tmp_path / "trace.json"
    profile.export_chrome_trace(path)
    events = json.loads(path.read_text())["traceEvents"]
    assert len(events) == sum(row.calls for row in profile.rows)
    ends = [(event["ts"], event["ts"] + event["dur"], event["args"]) for event in events]
    assert all(0 <= start <= end <= 1e6 * profile.seconds for start, end, _ in ends)
    outer = [
        args
        for start, end, args in ends
        if not any(a <= start and end <= b and (a, b) != (start, end) for a, b, _ in ends)
    ]
    assert sum(args["rounds"] for args in outer) == spent.rounds
    assert sum(args["sent_bytes"] for args in outer) == spent.sent
    text = profile._repr_html_()
    assert "block.1" in text
    assert text.count("<tr>") == 1 + len(profile.by("layer"))
