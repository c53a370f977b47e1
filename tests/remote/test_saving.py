"""Checkpoints of workers: their shares on their own disks, their owners' rules kept, nothing lost in between."""

import errno
import math
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from remotes import Workers
from torch.nn import functional as F
from twins import task

import pysmpc as sy
from pysmpc.errors import CheckpointError, OpenNotPermittedError, RemoteError
from pysmpc.remote.arguments import reference
from pysmpc.remote.program_messages import Keep, Recall, Restore, Slot
from pysmpc.remote.worker.checkpoint_store import CheckpointStore
from pysmpc.session import checkpoint_files

DRIVERS = {"drivers": {"scientist": ["compute", "open"], "stranger": ["compute", "open"]}}
DRIVERS["open"] = ["scientist", "stranger"]
ITEMS = np.random.default_rng().standard_normal((8, 5)).astype(np.float32)


def network(office, folder, holders=("alice", "bob"), **options):
    """Workers that keep checkpoints in a folder of the test; the same again after a restart."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "x.npy", ITEMS)
    own = {name: {"checkpoints": str(folder / name)} for name in holders}
    own[holders[0]]["data"] = {"x": {"path": str(folder / "x.npy")}}
    for name, more in options.items():
        own[name] |= more
    return Workers(office.folder, holders, options={"": DRIVERS, **own})


class Run:
    """A training run at workers, or in one process."""

    def __init__(self, parties, plain, momentum=0.9, **options):
        model, x, y = plain
        self.parties = parties
        self.model = sy.encrypt(model, parties, **options)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=momentum)
        self.x, self.y = sy.encrypt(x, parties, **options), sy.encrypt(y, parties, **options)

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


def shares(workers, run):
    """Every holder's words of the parameters."""
    run.parties.wait()
    found = {}
    for name in workers.holders:
        [attendance] = [a for a in workers.workers[name].attendances.values() if a.replay is not None]
        found[name] = [attendance.replay.cell(p.cell.slot).body.words.clone() for p in run.model.parameters()]
    return found


@pytest.fixture
def plain():
    return task(8, 5, 6, 3)


@pytest.mark.parametrize("holders", [("alice", "bob"), ("alice", "bob", "carol")])
def test_goes_on_as_if_nothing_had_happened(holders, office, tmp_path):
    """Every process started anew: with exact rounding the parameters end the same to the bit."""
    plain = task(8, 5, 6, 3)
    whole = Run(sy.virtual(*holders), plain, rounding="nearest").steps(5).parameters()
    with network(office, tmp_path, holders) as workers, workers.connect() as parties:
        run = Run(parties, plain, rounding="nearest").steps(3)
        run.save(tmp_path / "run1", epoch=3)
        before = shares(workers, run)
    with network(office, tmp_path, holders) as workers, workers.connect() as parties:
        again = Run(parties, (task(8, 5, 6, 3)[0], *plain[1:]), rounding="nearest")
        assert again.load(tmp_path / "run1") == {"epoch": 3}
        after = shares(workers, again)
        assert all(equal(after[name], before[name]) for name in holders)
        assert equal(again.steps(2).parameters(), whole)
        assert again.optimizer.param_groups[0]["momentum"] == 0.9


def test_files(office, tmp_path, plain):
    """Shares at their holders, facts at the driver, nothing at the provider; no round and nothing opened."""
    with network(office, tmp_path) as workers, workers.connect() as parties:
        run = Run(parties, plain).steps(1)
        run.parameters()  # updates that wait take a round
        parties.wait()
        before, traffic = parties.stats.copy(), parties.traffic
        with sy.ledger() as kept:
            run.save(tmp_path / "run1", epoch=1)
            run.load(tmp_path / "run1")
        assert kept.revealed == []
        assert parties.stats == before
        assert sum(parties.traffic) - sum(traffic) < 2500  # no share passes the driver: a holder's are 1,056 bytes
        words = shares(workers, run)
        run.save(tmp_path / "run1", epoch=2)
    for name in ("alice", "bob"):
        files = sorted((tmp_path / name / "scientist" / "run1").iterdir())
        assert [f.name.split("-")[:2] for f in files] == [["checkpoint", "00000002"], ["shares", "00000002"]]
        assert all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in files)
        assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700
        _, tensors = checkpoint_files.read(files[0].parent, files[0].stem.removeprefix("checkpoint-"), name)
        assert torch.equal(tensors["model.0.weight"], words[name][0][0])
    assert sorted(p.name for p in (tmp_path / "run1").iterdir()) == ["scientist"]
    public = b"".join(p.read_bytes() for p in (tmp_path / "run1").rglob("*") if p.is_file())
    assert all(each.numpy().tobytes()[:16] not in public for both in words.values() for each in both)


def test_a_checkpoint_that_counted_otherwise(tmp_path, monkeypatch):
    """What was saved before rows were counted for each number has one behind each."""
    counted = [{"items": {"x": "ff"}}, {"rows": 8}, {"rows": None}]
    origins = [{"owners": ["alice"], **each} for each in counted]
    values = {str(place): [[1], 1, 2, 16, "float32", place] for place in range(3)}
    facts = {
        "driver": "scientist",
        "holders": ["alice", "bob"],
        "digest": "",
        "transcript": "",
        "values": values,
        "origins": origins,
    }
    words = {name: torch.zeros(1, dtype=torch.int64) for name in values}
    monkeypatch.setattr(checkpoint_files, "read", lambda *args: (facts, words))
    part = CheckpointStore("alice", str(tmp_path)).read(
        "scientist", "run", "00000001-" + "0" * 16, "", ["alice", "bob"]
    )
    slot = Slot(0, [1], 1, 2, 16, "float32")
    assert [part.take(name, slot)[1].rows.least for name in values] == [1, 8, math.inf]


def test_consent_outlives_a_restart(office, tmp_path):
    """Whose data went into a value, and how many rows, is in each holder's part and asked for when it is opened."""
    model = torch.nn.Linear(5, 1, bias=False)
    for part, least in (("first", 9), ("second", 9), ("third", 8)):
        with (
            network(office, tmp_path, alice={"open": {"scientist": {"min_items": least}}}) as workers,
            workers.connect() as parties,
        ):
            net = sy.encrypt(model, parties)
            if part == "first":
                [pointer] = parties["alice"].search()
                net(sy.encrypt(pointer, parties)).mean().backward()
                net.weight.data = net.weight.detach() - net.weight.grad
                sy.save(net, None, tmp_path / "run1")
            else:
                assert sy.decrypt(net.weight).shape == (1, 5)  # before: the driver's own
                sy.load(net, None, tmp_path / "run1")
            if least > 8:
                with pytest.raises(OpenNotPermittedError, match="here 8 of its rows are behind a number"):
                    sy.decrypt(net.weight)
                with pytest.raises(OpenNotPermittedError):
                    sy.decrypt(net.weight.sum())
                continue
            total = sy.decrypt(net.weight.sum())
            expected = model.weight.detach().sum() - torch.from_numpy(ITEMS).mean(0).sum()
            assert abs(float(total - expected)) < 2**-10
    with network(office, tmp_path, alice={"open": []}) as workers, workers.connect() as parties:
        net = sy.encrypt(model, parties)
        sy.load(net, None, tmp_path / "run1")
        with pytest.raises(OpenNotPermittedError, match="alice, whose data"):
            sy.decrypt(net.weight.sum())


def test_another_driver_finds_nothing(office, tmp_path, plain):
    with network(office, tmp_path) as workers:
        with workers.connect() as parties:
            run = Run(parties, plain).steps(1)
            run.save(tmp_path / "run1")
        shutil.copytree(tmp_path / "run1" / "scientist", tmp_path / "run1" / "stranger")
        [name] = checkpoint_files.known(tmp_path / "run1" / "scientist")
        facts, tensors = checkpoint_files.read(tmp_path / "run1" / "scientist", name, "scientist")
        checkpoint_files.write(tmp_path / "run1" / "stranger", name, "stranger", facts, tensors)
        with workers.connect("stranger") as parties:
            again = Run(parties, plain)
            with pytest.raises(CheckpointError, match=f"alice, bob has not run1's checkpoint {name}"):
                again.load(tmp_path / "run1")
            link, recorder = parties.link, parties.recorder
            for run in ("run1", "../scientist/run1", "../../alice/scientist/run1", "", ".", "x/y"):
                assert set(link.told(recorder.tell(Recall(run, name, "")))) == {"alice", "bob"}
            for wrong in ("../../scientist/run1/x", "00000001", ""):
                keep = Keep("run1", wrong, "", {"x": reference(again.model[0].weight)})
                assert set(link.told(recorder.tell(keep))) == {"alice", "bob"}
            assert len(again.parameters()) == 4
        assert not [p for name in ("alice", "bob") for p in (tmp_path / name / "stranger").rglob("*")]


def test_what_was_recalled_goes_where_it_was(office, tmp_path, plain):
    """A driver cannot give a value another shape or scale than it was saved with, nor restore what was not read."""
    with network(office, tmp_path) as workers:
        with workers.connect() as parties:
            Run(parties, plain).save(tmp_path / "run1")
        for recalled, key, shape, scale in (
            (True, "model.0.weight", [6, 5], 1), (True, "model.0.weight", [5, 6], 65536), (True, "x", [1], 1),
            (False, "model.0.weight", [6, 5], 65536),
        ):  # fmt: skip
            parties = workers.connect()
            if recalled:
                parties.recorder.checkpoints.find(tmp_path / "run1")
            slot = Slot(0, shape, scale, 2, 16, "float32")
            parties.recorder._send(Restore("default", {key: slot}), (), None)
            with pytest.raises(RemoteError, match="was not saved as" if recalled else "no checkpoint was recalled"):
                parties.wait()
            parties.close()


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("who", ["bob", "run1"])
def test_a_full_disk_leaves_what_was_there(office, tmp_path, plain, who, at, monkeypatch):
    """At a holder or at the driver: an error that names who, all parts gone, the session and the old save whole."""
    left = [at]

    def full(descriptor):
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_relative_to(tmp_path / who):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with network(office, tmp_path) as workers, workers.connect() as parties:
        run = Run(parties, plain, rounding="nearest").steps(1)
        run.save(tmp_path / "run1", epoch=1)
        old = run.parameters()
        run.steps(1)
        files = sorted(p for p in tmp_path.rglob("*-*") if p.is_file())
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint_files, "_sync", full)
            name = who.replace("run1", "scientist")
            with pytest.raises(
                CheckpointError, match=rf"{name}.*could not be written.*No space left.*untouched"
            ) as told:
                run.save(tmp_path / "run1", epoch=2)
            assert str(tmp_path / "bob") not in str(told.value)
        assert sorted(p for p in tmp_path.rglob("*-*") if p.is_file()) == files
        later = run.parameters()
        assert run.load(tmp_path / "run1") == {"epoch": 1}
        assert equal(run.parameters(), old)
        assert equal(run.steps(1).parameters(), later)


def _damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _spoil(kind, folder, plain, workers):
    place = folder / "bob" / "scientist" / "run1"
    [facts, words] = sorted(place.iterdir())
    if kind == "no folder":
        shutil.rmtree(place)
    elif kind == "no shares":
        words.unlink()
    elif kind == "half a write":
        facts.rename(place / f".new-{facts.name}")
    elif kind == "damaged shares":
        _damage(words)
    elif kind == "damaged facts":
        facts.write_text(facts.read_text().replace('"owners"', '"owner"', 1))
    elif kind == "alice's files":
        shutil.copytree(folder / "alice" / "scientist" / "run1", place, dirs_exist_ok=True)
    elif kind == "another save":  # whole, of this driver and run, but under the id of the one that the others have
        with workers.connect() as parties:
            Run(parties, plain).save(folder / "other" / "run1")
        [other] = [p for p in place.glob("checkpoint-*") if p != facts]
        name, new = facts.stem.removeprefix("checkpoint-"), other.stem.removeprefix("checkpoint-")
        body, tensors = checkpoint_files.read(place, new, "bob")
        checkpoint_files.write(place, name, "bob", body, tensors)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no folder", "bob has not run1's checkpoint"),
        ("half a write", "bob has not run1's checkpoint"),
        ("no shares", "bob: bob's shares are missing: bob:checkpoints/scientist/run1/shares"),
        ("damaged shares", "bob: .* is damaged: its checksum"),
        ("damaged facts", "bob: .* is damaged: its checksum"),
        ("alice's files", "bob: .* is alice's part of .*, not bob's"),
        ("another save", "bob: bob's part of checkpoint .* is of another one"),
    ],
)
def test_unfit_files(office, tmp_path, plain, kind, message):
    """Nothing changes at anybody, and the session goes on."""
    with network(office, tmp_path) as workers:
        with workers.connect() as parties:
            Run(parties, plain).save(tmp_path / "run1")
        _spoil(kind, tmp_path, task(8, 5, 6, 3), workers)
        with workers.connect() as parties:
            again = Run(parties, plain)
            before = shares(workers, again)
            with pytest.raises(CheckpointError, match=message):
                again.load(tmp_path / "run1")
            assert all(equal(after, before[name]) for name, after in shares(workers, again).items())
            again.save(tmp_path / "run1", epoch=2)  # whatever was there, a new save is whole
            assert again.load(tmp_path / "run1") == {"epoch": 2}


@pytest.mark.parametrize("moment", ["before the driver's part", "before the older ones are removed"])
def test_a_driver_that_dies_while_saving(office, tmp_path, plain, moment, monkeypatch):
    """The save counts once the driver's part is there; what a save left behind goes with the next one."""
    real = checkpoint_files.write, checkpoint_files.keep_only

    def write(folder, name, party, *rest):
        if party == "scientist" and moment == "before the driver's part":
            raise KeyboardInterrupt
        real[0](folder, name, party, *rest)

    def keep_only(folder, *rest):
        raise KeyboardInterrupt

    with network(office, tmp_path) as workers:
        with workers.connect() as parties:
            run = Run(parties, plain, rounding="nearest").steps(1)
            run.save(tmp_path / "run1", epoch=1)
            old = run.parameters()
            run.steps(1)
            with monkeypatch.context() as patch:
                patch.setattr(checkpoint_files, "write", write)
                if moment != "before the driver's part":
                    patch.setattr(parties.link, "ask", keep_only)
                with pytest.raises(KeyboardInterrupt):
                    run.save(tmp_path / "run1", epoch=2)
            new = run.parameters()
        assert len(checkpoint_files.known(tmp_path / "bob" / "scientist" / "run1")) == 2
        with workers.connect() as parties:
            again = Run(parties, plain, rounding="nearest")
            if moment == "before the driver's part":
                assert again.load(tmp_path / "run1") == {"epoch": 1}
                assert equal(again.parameters(), old)
            else:
                assert again.load(tmp_path / "run1") == {"epoch": 2}
                assert equal(again.parameters(), new)
            again.save(tmp_path / "run1", epoch=3)
        for name in ("alice", "bob"):
            assert len(checkpoint_files.known(tmp_path / name / "scientist" / "run1")) == 1


def test_runs_of_one_name_do_not_remove_each_other(office, tmp_path, plain):
    """Two folders of the driver that end in the same name are one folder at a holder, of two lineages."""
    with network(office, tmp_path) as workers, workers.connect() as parties:
        first, second = Run(parties, plain).steps(1), Run(parties, plain)
        for epoch in (1, 2):
            first.save(tmp_path / "one" / "run1", epoch=epoch)
            second.save(tmp_path / "two" / "run1", epoch=-epoch)
        assert len(checkpoint_files.known(tmp_path / "alice" / "scientist" / "run1")) == 2
        mine, theirs = first.parameters(), second.parameters()
        assert second.load(tmp_path / "one" / "run1") == {"epoch": 2}
        assert first.load(tmp_path / "two" / "run1") == {"epoch": -2}
        assert equal(second.parameters(), mine)
        assert equal(first.parameters(), theirs)


def test_masks_and_streams_are_new(office, tmp_path, plain):
    """What two sessions open of one checkpoint under masks has nothing in common, nor have their keys."""
    seen = []
    with network(office, tmp_path) as workers:
        with workers.connect() as parties:
            Run(parties, plain).save(tmp_path / "run1")
        for _ in range(2):
            with workers.connect() as parties:
                run = Run(parties, plain)
                run.load(tmp_path / "run1")
                parties.wait()
                [attendance] = [a for a in workers.workers["alice"].attendances.values() if a.replay is not None]
                channel, words = attendance.replay.session.party.channel, []
                channel.observer = lambda cause, messages, opened, words=words: (
                    words.extend([*messages, *opened]) if cause != "consent" else None
                )
                bodies = [attendance.replay.cell(p.cell.slot).body for p in run.model.parameters()]
                assert all(body.mask is None and body.opened is None for body in bodies)
                sy.decrypt(run.model(run.x).sum())
                seen.append(torch.cat([each.flatten() for each in words]))
    assert len(seen[0]) > 100
    assert not np.intersect1d(*(each.numpy() for each in seen)).size


def test_holders_without_a_folder_say_so(office, tmp_path, plain):
    with network(office, tmp_path, bob={"checkpoints": ""}) as workers, workers.connect() as parties:
        run = Run(parties, plain)
        with pytest.raises(CheckpointError, match="bob: bob keeps no checkpoints: its configuration names no"):
            run.save(tmp_path / "run1")
        assert not list((tmp_path / "alice").rglob("*-*"))
        with pytest.raises(CheckpointError, match="no checkpoint of scientist"):
            run.load(tmp_path / "run1")
        for name in (".hidden", "a b", "x" * 101):
            with pytest.raises(CheckpointError, match="holders keep no run named"):
                run.save(tmp_path / name)
        assert len(run.parameters()) == 4
