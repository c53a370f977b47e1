"""Training that goes on after a restart, and every way in which a checkpoint can be unfit."""

import errno
import json
import os
import random
import shutil
import stat

import pytest
import rank_programs as programs
import torch
from ranks import run_ranks
from torch import nn
from torch.nn import functional as F
from twins import task

import pysmpc as sy
from pysmpc.errors import CheckpointError, PartyError
from pysmpc.session import checkpoint_files
from pysmpc.transport import threads

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
    "own": lambda p: Own(p, {"lr": 0.05}),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, amsgrad=True, eps=1e-3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.05, momentum=0.5, centered=True, eps=1e-3),
}


class Own(torch.optim.Optimizer):
    """Gradient descent that keeps a little of everything."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["step"] = state.get("step", torch.tensor(0.0)) + 1
                state["count"] = int(state["step"])
                state["kinds"] = [0.5, True, None]
                state["last"] = p.grad * p.grad
                p.add_(p.grad, alpha=-group["lr"])


class Run:
    """A training run: a model, an optimizer and data among parties."""

    def __init__(self, plain, x, y, optimizer="nesterov", holders=("alice", "bob"), **options):
        self.parties = sy.virtual(*holders, **options)
        self.model = sy.encrypt(plain, self.parties)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.x, self.y = sy.encrypt(x, self.parties), sy.encrypt(y, self.parties)

    def steps(self, count):
        for _ in range(count):
            self.optimizer.zero_grad()
            F.mse_loss(self.model(self.x), self.y).backward()
            self.optimizer.step()
        return self

    def save(self, folder, **public):
        sy.save(self.model, self.optimizer, folder, **public)

    def load(self, folder):
        return sy.load(self.model, self.optimizer, folder)

    def parameters(self):
        return [sy.decrypt(p) for p in self.model.parameters()]


def equal(ours, theirs):
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def shares(run):
    return [p.window().words().clone() for p in run.model.parameters()]


@pytest.fixture
def plain():
    return task(8, 5, 6, 3)


@pytest.fixture
def saved(plain, tmp_path):
    """A run after three steps, and where it was saved."""
    run = Run(*plain).steps(3)
    run.save(tmp_path / "run", epoch=3)
    return run, tmp_path / "run"


@pytest.mark.parametrize("holders", [("alice", "bob"), ("a", "b", "c")])
@pytest.mark.parametrize("optimizer", ["sgd", "nesterov"])
def test_goes_on_as_if_nothing_had_happened(optimizer, holders, tmp_path):
    """With exact rounding nothing is random but what hides, so the parameters are the same to the bit."""
    plain = task(8, 5, 6, 3)
    whole = Run(*plain, optimizer, holders, rounding="nearest").steps(5)
    first = Run(*plain, optimizer, holders, rounding="nearest").steps(3)
    first.save(tmp_path)
    other = task(8, 5, 6, 3)[0]
    again = Run(other, *plain[1:], optimizer, holders, rounding="nearest")
    again.load(tmp_path)
    assert equal(again.steps(2).parameters(), whole.parameters())
    assert equal(first.steps(2).parameters(), whole.parameters())


def test_with_random_rounding_results_differ_as_two_runs_do(plain, saved):
    run, folder = saved
    again = Run(task(8, 5, 6, 3)[0], *plain[1:])
    again.load(folder)
    assert equal(shares(again), shares(run))  # what was saved is the state, to the bit
    for mine, theirs in zip(again.steps(1).parameters(), run.steps(1).parameters(), strict=True):
        assert float((mine - theirs).abs().max()) <= 2 * 2.0**-16


def test_state_of_any_kind(tmp_path, plain):
    """Counters, plain tensors, secrets of every scale, in the optimizer of somebody's own."""
    run = Run(*plain, "own").steps(2)
    run.save(tmp_path)
    again = Run(task(8, 5, 6, 3)[0], *plain[1:], "own")
    again.load(tmp_path)
    for p, q in zip(run.model.parameters(), again.model.parameters(), strict=True):
        mine, theirs = run.optimizer.state[p], again.optimizer.state[q]
        assert theirs["step"] == mine["step"] == 2
        assert theirs["count"] == 2
        assert theirs["kinds"] == [0.5, True, None]
        assert theirs["last"].cell.scale == mine["last"].cell.scale > 2**16
        assert torch.equal(theirs["last"].window().words(), mine["last"].window().words())


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_moments_at_their_scales(optimizer, tmp_path, plain):
    """Training goes on from the state as it was, to the bit; what is left between two runs is how they round."""
    run = Run(*plain, optimizer).steps(3)
    run.save(tmp_path)
    again = Run(task(8, 5, 6, 3)[0], *plain[1:], optimizer)
    again.load(tmp_path)
    kept = 0
    for p, q in zip(run.model.parameters(), again.model.parameters(), strict=True):
        mine, theirs = run.optimizer.state[p], again.optimizer.state[q]
        for name, value in mine.items():
            if isinstance(value, sy.SecretTensor):
                kept += 1
                assert (theirs[name].cell.scale, theirs[name].cell.unit) == (value.cell.scale, value.cell.unit)
                assert torch.equal(theirs[name].window().words(), value.window().words())
    assert kept == 3 * len(list(run.model.parameters()))
    for a, b in zip(run.steps(2).parameters(), again.steps(2).parameters(), strict=True):
        assert float((a - b).abs().max()) <= 2.0**-8


def test_settings_of_the_optimizer_and_what_is_public(plain, tmp_path):
    run = Run(*plain).steps(1)
    run.optimizer.param_groups[0]["lr"] = 0.0125
    run.save(tmp_path, epoch=7, history=[0.5, 0.25], name="first", best=None)
    again = Run(*plain)
    assert again.load(tmp_path) == {"epoch": 7, "history": [0.5, 0.25], "name": "first", "best": None}
    assert again.optimizer.param_groups[0]["lr"] == 0.0125
    assert again.optimizer.param_groups[0]["momentum"] == 0.9
    assert again.optimizer.param_groups[0]["params"] == list(again.model.parameters())


def test_nothing_is_opened_and_no_round_is_taken(saved, plain):
    run, folder = saved
    run.steps(1)
    next(run.model.parameters()).cell.body  # noqa: B018  (updates that wait take a round)
    again = Run(*plain)
    before, other = run.parties.stats.copy(), again.parties.stats.copy()
    with sy.ledger() as kept:
        run.save(folder)
        again.load(folder)
    assert kept.revealed == []
    assert (run.parties.stats, again.parties.stats) == (before, other)


def test_values_are_opened_under_fresh_masks(saved, plain):
    _, folder = saved
    again = Run(*plain)
    again.load(folder)
    assert all(p.cell.body.opened is None and p.cell.body.mask is None for p in again.model.parameters())


def test_tied_parameters_stay_tied(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    parties = sy.virtual("alice", "bob")
    secret, again = sy.encrypt(model, parties), sy.encrypt(model, parties)
    sy.save(secret, None, tmp_path)
    with torch.no_grad():
        again[0].weight.zero_()
    sy.load(again, None, tmp_path)
    assert again[2].weight is again[0].weight
    assert torch.equal(sy.decrypt(again[0].weight), sy.decrypt(secret[0].weight))
    assert again[0].weight.cell is again[2].weight.cell


def test_buffers_scales_and_precision(tmp_path):
    parties = sy.virtual("alice", "bob")
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[1].num_batches_tracked += 5
    with torch.no_grad():
        model[1].running_mean += torch.randn(4)
    secret = sy.encrypt(model, parties, precision_fractional=4)
    secret[0].weight.data = secret[0].weight.data * secret[0].weight.data  # at a finer scale than its unit
    assert secret[0].weight.cell.scale == 10**8
    sy.save(secret, None, tmp_path)
    again = sy.encrypt(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), parties)
    sy.load(again, None, tmp_path)
    assert again[0].weight.cell.scale == 10**8
    assert (again[0].weight.unit.base, again[0].weight.unit.digits) == (10, 4)
    assert int(again[1].num_batches_tracked) == 5
    assert torch.equal(sy.decrypt(again[1].running_mean), sy.decrypt(secret[1].running_mean))


def test_files(saved):
    run, folder = saved
    assert sorted(p.name for p in folder.iterdir()) == ["alice", "bob"]
    totals = {}
    for row, party in enumerate(("alice", "bob")):
        [facts, words] = sorted((folder / party).iterdir())
        assert {stat.S_IMODE(p.stat().st_mode) for p in (facts, words)} == {0o600}
        assert json.loads(facts.read_text())["checkpoint"]["party"] == party
        [name] = checkpoint_files.known(folder / party)
        _, tensors = checkpoint_files.read(folder / party, name, party)
        for key, p in run.model.named_parameters():
            mine = tensors[f"model.{key}"]
            assert torch.equal(mine.flatten(), p.window().words()[row])
            totals[key] = totals.get(key, 0) + mine
    for key, p in run.model.named_parameters():
        assert torch.equal(totals[key].view(p.shape) / 2**16, sy.decrypt(p).double())


def test_the_older_checkpoint_goes_when_all_have_the_new(saved, plain):
    run, folder = saved
    run.steps(1).save(folder, epoch=4)
    for party in ("alice", "bob"):
        assert len(list((folder / party).iterdir())) == 2
    assert Run(*plain).load(folder) == {"epoch": 4}


class Killed(BaseException):
    """Like a signal: nothing cleans up."""


@pytest.mark.parametrize("call", ["fsync", "replace", "unlink"])
def test_killed_anywhere_between_files(saved, plain, call, monkeypatch):
    """Whatever had been written when the process died, one whole checkpoint is found."""
    run, folder = saved
    old, new = shares(run), shares(run.steps(1))
    real, kill_at, outcomes = getattr(os, call), 0, []
    while True:
        kill_at += 1
        left = [kill_at]

        def counting(*args, left=left, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return real(*args, **kwargs)

        place = folder.with_name(f"{call}{kill_at}")
        shutil.copytree(folder, place)
        with monkeypatch.context() as patch:
            patch.setattr(os, call, counting)
            try:
                run.save(place, epoch=4)
                finished = True
            except Killed:
                finished = False
        again = Run(*plain)
        epoch = again.load(place)["epoch"]
        assert equal(shares(again), old if epoch == 3 else new)
        assert epoch == 4 or not finished
        outcomes.append(epoch)
        run.save(place, epoch=5)  # and the next save clears up
        assert Run(*plain).load(place) == {"epoch": 5}
        assert all(len(list((place / party).iterdir())) == 2 for party in ("alice", "bob"))
        if finished:
            break
    assert kill_at > 4
    assert outcomes == sorted(outcomes)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_full_disk_leaves_what_was_there(saved, plain, at, monkeypatch):
    run, folder = saved
    old = shares(run)
    run.steps(1)
    before = sorted(folder.rglob("*"))
    left = [at]

    def full(descriptor):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "_sync", full)
        with pytest.raises(CheckpointError, match=r"could not be written.*No space left.*untouched"):
            run.save(folder, epoch=4)
    assert sorted(folder.rglob("*")) == before
    again = Run(*plain)
    assert again.load(folder) == {"epoch": 3}
    assert equal(shares(again), old)


def _damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _spoil(kind, folder, plain):
    [facts, words] = sorted((folder / "bob").iterdir())
    if kind == "no folder of bob":
        shutil.rmtree(folder / "bob")
    elif kind == "no shares of bob":
        words.unlink()
    elif kind == "damaged shares":
        _damage(words)
    elif kind == "damaged facts":
        facts.write_text(facts.read_text().replace('"scale": 65536', '"scale": 65537', 1))
    elif kind == "cut facts":
        facts.write_text(facts.read_text()[:100])
    elif kind == "another run":
        other = Run(*plain)
        other.save(folder.with_name("other"))
        shutil.rmtree(folder / "bob")
        shutil.copytree(folder.with_name("other") / "bob", folder / "bob")
    elif kind == "alice's files for bob":
        shutil.rmtree(folder / "bob")
        shutil.copytree(folder / "alice", folder / "bob")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no folder of bob", "no checkpoint of bob in .*run"),
        ("no shares of bob", "bob's shares are missing"),
        ("damaged shares", "is damaged: its checksum"),
        ("damaged facts", "is damaged: its checksum"),
        ("cut facts", "cannot be read"),
        ("another run", "different runs and none in common"),
        ("alice's files for bob", "is alice's part of .*, not bob's"),
    ],
)
def test_unfit_files(saved, plain, kind, message):
    _, folder = saved
    _spoil(kind, folder, plain)
    again = Run(*plain)
    before = shares(again)
    with pytest.raises(CheckpointError, match=message):
        again.load(folder)
    assert equal(shares(again), before)
    assert not again.optimizer.state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run, plain: Run(*plain, holders=("alice", "carol")), "no checkpoint of carol"),
        (lambda run, plain: Run(*plain, holders=("alice", "bob", "carol")), "no checkpoint of carol"),
        (lambda run, plain: Run(*plain, "own"), "the checkpoint has SGD, not Own"),
        (lambda run, plain: Run(*task(8, 5, 7, 3)), "another model: its 0.weight is secret"),
        (lambda run, plain: Run(*task(8, 5, 6, 4, 3)), "another model: only one of the two has 4.bias"),
    ],
)
def test_another_session_model_or_optimizer(saved, plain, change, message):
    run, folder = saved
    again = change(run, plain)
    before = shares(again)
    with pytest.raises(CheckpointError, match=message):
        again.load(folder)
    assert equal(shares(again), before)


def test_fewer_holders_than_were_saved(plain, tmp_path):
    Run(*plain, holders=("a", "b", "c")).save(tmp_path)
    with pytest.raises(CheckpointError, match="is of a, b, c, the session of a, b"):
        Run(*plain, holders=("a", "b")).load(tmp_path)


def test_other_groups(saved, plain):
    _, folder = saved
    again = Run(*plain)
    first, *rest = again.model.parameters()
    again.optimizer = torch.optim.SGD([{"params": [first]}, {"params": rest}], lr=0.1)
    with pytest.raises(CheckpointError, match=r"groups of \[4\] parameters, this one of \[1, 3\]"):
        again.load(folder)


def test_what_cannot_be_saved(plain, tmp_path):
    run = Run(*plain)
    with pytest.raises(PartyError, match="encrypt it first"):
        sy.save(plain[0], None, tmp_path)
    with pytest.raises(CheckpointError, match=r"public.thing is a object"):
        run.save(tmp_path, thing=object())
    with pytest.raises(CheckpointError, match="of other parameters"):
        sy.save(run.model, torch.optim.SGD([torch.ones(3)], lr=1), tmp_path)
    other = Run(*plain)
    mixed = nn.ModuleList([run.model, other.model])
    with pytest.raises(ValueError, match="a checkpoint is of one session"):
        sy.save(mixed, None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def _in_threads(holders, program):
    """program(parties) in a thread a party, with the model's values known to the first."""
    sessions = threads.sessions(holders)

    def run(session):
        parties = sy.Parties(session)
        owned = session is sessions[0]
        session.sharing = lambda owner, *facts: (session.party, owned)
        return program(parties)

    return threads.run(sessions, run)


@pytest.mark.parametrize("holders", [["alice", "bob"], ["a", "b", "c"]])
def test_each_party_keeps_its_own(holders, tmp_path):
    model, x, y = task(8, 5, 6, 3)
    other = task(8, 5, 6, 3)[0]

    def build(parties, plain):
        hidden = sy.encrypt(plain, parties)
        return hidden, torch.optim.SGD(hidden.parameters(), lr=0.05, momentum=0.9)

    def step(parties, hidden, optimizer):
        F.mse_loss(hidden(sy.encrypt(x, parties)), sy.encrypt(y, parties)).backward()
        optimizer.step()

    def opened(session, hidden):
        return [session.suite.reveal(session.party, p.detach().window())[0] for p in hidden.parameters()]

    def first(parties):
        hidden, optimizer = build(parties, model)
        step(parties, hidden, optimizer)
        sy.save(hidden, optimizer, tmp_path, epoch=1)
        return opened(parties.session, hidden)

    def second(parties):
        hidden, optimizer = build(parties, other)
        public = sy.load(hidden, optimizer, tmp_path)
        values = opened(parties.session, hidden)
        step(parties, hidden, optimizer)
        return public, values, opened(parties.session, hidden)

    before = _in_threads(holders, first)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*holders, "crypto_provider"])
    after = _in_threads(holders, second)
    for public, values, _ in after[:-1]:
        assert public == {"epoch": 1}
        assert equal(values, before[0])
    for _, _, values in after[1:-1]:
        assert equal(values, after[0][2])
    # one party's failure is everybody's, and names it
    [words] = (tmp_path / holders[1]).glob("shares-*")
    _damage(words)
    with pytest.raises(CheckpointError):
        _in_threads(holders, second)


def test_a_party_that_cannot_write_stops_the_others(tmp_path, monkeypatch):
    model = task(8, 5, 6, 3)[0]
    real = checkpoint_files.write

    def write(folder, name, party, facts, tensors):
        if party == "bob":
            raise CheckpointError("bob's disk is full")
        real(folder, name, party, facts, tensors)

    monkeypatch.setattr(checkpoint_files, "write", write)
    told = {}

    def program(parties):
        hidden = sy.encrypt(model, parties)
        try:
            sy.save(hidden, None, tmp_path)
        except CheckpointError as error:
            told[parties.session.party.ranks] = str(error)

    _in_threads(["alice", "bob"], program)
    assert told[(1,)] == "bob's disk is full"
    assert told[(0,)] == told[()] == "bob failed, and so nobody went on; see the error of that process"
    assert not list(tmp_path.rglob("*-*"))


def test_a_party_that_is_gone_is_noticed(tmp_path):
    model = task(8, 5, 6, 3)[0]

    def program(parties):
        hidden = sy.encrypt(model, parties)
        if parties.session.party.ranks == (1,):
            raise ZeroDivisionError
        sy.save(hidden, None, tmp_path)

    with pytest.raises(ZeroDivisionError):
        _in_threads(["alice", "bob"], program)


def test_shares_alone_say_nothing(plain, tmp_path):
    """A holder's file is uniform: the same model saved by two runs has nothing in common."""
    words = []
    for name in ("one", "two"):
        Run(*plain).save(tmp_path / name)
        [found] = checkpoint_files.known(tmp_path / name / "alice")
        _, tensors = checkpoint_files.read(tmp_path / name / "alice", found, "alice")
        words.append(torch.cat([tensors[key].flatten() for key in sorted(tensors)]))
    assert not bool((words[0] == words[1]).any())


def test_ranks_of_which_one_was_killed_while_saving(tmp_path):
    """All are started anew, find the checkpoint that all have, and end where an uninterrupted run does."""
    seed = random.getrandbits(32)
    alice, bob, _ = run_ranks(3, programs.resumed, str(tmp_path), seed, 2, True)
    assert bob == "died"
    assert alice == "ChannelError: rank 1 (bob) is gone: its connection was closed"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alice", "bob", "crypto_provider"]
    assert len(checkpoint_files.known(tmp_path / "bob")) == 1
    alice, bob, provider = run_ranks(3, programs.resumed, str(tmp_path), seed, 4, False)
    assert alice == bob
    assert provider == (2, None)
    whole = programs.resumed(str(tmp_path / "other"), seed, 4, False, sy.virtual("alice", "bob"))
    assert alice == (2, whole[1])
    assert len(checkpoint_files.known(tmp_path / "alice")) == 1


def test_public_bounds_are_kept(tmp_path):
    parties = sy.virtual("alice", "bob")
    model = sy.encrypt(nn.Linear(3, 2), parties, bounded=4.0)
    model.register_buffer("sums", model.weight.detach().sum(0))
    model.register_buffer("unknown", sy.encrypt(torch.ones(2), parties))
    sy.save(model, None, tmp_path)
    again = sy.encrypt(nn.Linear(3, 2), parties)
    again.register_buffer("sums", sy.encrypt(torch.zeros(3), parties))
    again.register_buffer("unknown", sy.encrypt(torch.zeros(2), parties, bounded=0.0))
    sy.load(again, None, tmp_path)
    for name in ("weight", "sums", "unknown"):
        mine, theirs = getattr(again, name).cell.bound, getattr(model, name).cell.bound
        assert (mine, type(mine)) == (theirs, type(theirs))
    assert again.unknown.cell.bound is None
