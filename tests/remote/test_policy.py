"""Who may open what: each owner's rules, her log, and approval by hand."""

import json

import numpy as np
import pytest
import torch
from remotes import Workers

import pysmpc as sy
from pysmpc.errors import OpenNotPermittedError, RemoteError
from pysmpc.remote import policy
from pysmpc.remote.arguments import reference
from pysmpc.remote.messages import Call, Drop

ITEMS = np.arange(200, dtype=np.float32).reshape(100, 2) / 100


def network(office, folder, **rules):
    """Workers whose alice has data and rules of her own."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "x.npy", ITEMS)
    data = {"x": {"path": str(folder / "x.npy"), "tags": ["#x"]}}
    options = {name: {"state": str(folder / f"{name}.state")} for name in ("alice", "bob")}
    options["alice"] |= {"data": data, **rules}
    options["bob"]["data"] = data
    return Workers(office.folder, options=options)


def owned(parties, name="alice"):
    [pointer] = parties[name].search("#x")
    return pointer


def lines(folder, name):
    path = folder / f"{name}.state" / policy.LOG
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("alias", ["aten.detach.default", "aten.alias.default"])
def test_a_value_has_one_slot(office, tmp_path, alias):
    """A driver who gives its own value a second name, writes alice's into the one, and opens the other."""
    with network(office, tmp_path, open=[]) as workers, workers.connect() as parties:
        x = sy.encrypt(owned(parties), parties)
        mine = sy.encrypt(torch.zeros(100, 2), parties)
        second = sy.encrypt(torch.zeros(100, 2), parties)
        first = reference(mine)
        parties.link.send(Drop([second.cell.slot]), (), None)  # the driver still believes that it is there
        parties.link.send(Call(alias, [first], {}, [second.cell.slot]), (), None)
        parties.link.send(Call("aten.copy_.default", [first, reference(x)], {}, [-1]), (), None)
        with pytest.raises(RemoteError, match="cannot be in slot"):
            sy.decrypt(second)
        assert not any(line["permitted"] for line in lines(tmp_path, "alice"))


def test_an_owner_who_lets_nobody_open(office, tmp_path):
    with network(office, tmp_path, open=[]) as workers, workers.connect() as parties:
        x = sy.encrypt(owned(parties), parties)
        y = sy.encrypt(owned(parties, "bob"), parties)
        own = sy.encrypt(torch.ones(3), parties)
        assert torch.equal(sy.decrypt(own), torch.ones(3))
        assert torch.allclose(sy.decrypt(y), torch.from_numpy(ITEMS), atol=2**-15)
        derived = own + 1
        for secret in (x, x.sum(), x * 2 - x, (x[0] * own[:2]).t(), y + x, torch.cat([y, x]), x > 0, x.max(0).values):
            with pytest.raises(OpenNotPermittedError, match="alice, whose data"):
                sy.decrypt(secret)
        # what is written into a value stays in it
        target = sy.encrypt(torch.zeros(100, 2), parties)
        target.copy_(x)
        waiting = sy.encrypt(torch.zeros(100, 2), parties)
        waiting.add_(x, alpha=0.1)
        view = sy.encrypt(torch.zeros(100, 2), parties)
        view[3] = x[3]
        for secret in (target, waiting, view):
            with pytest.raises(OpenNotPermittedError):
                secret.reveal()
        # and nothing else is held up
        assert torch.equal(sy.decrypt(derived), torch.full((3,), 2.0))
    refused = [line for line in lines(tmp_path, "alice") if not line["permitted"]]
    assert len(refused) == 11
    assert all(line["driver"] == "scientist" and "alice" in line["owners"] for line in refused)
    # bob, who lets the scientist open, says so; his share alone opens nothing
    assert all(line["permitted"] for line in lines(tmp_path, "bob"))


def test_sums_over_enough_items(office, tmp_path):
    with network(office, tmp_path, open={"scientist": {"min_items": 64}}) as workers, workers.connect() as parties:
        pointer = owned(parties)
        x = sy.encrypt(pointer, parties)
        assert torch.allclose(sy.decrypt(x.sum()), torch.tensor(float(ITEMS.sum())), atol=0.01)
        with pytest.raises(OpenNotPermittedError, match="64 of its items"):
            sy.decrypt(x)
        with pytest.raises(OpenNotPermittedError):
            sy.decrypt(x.sum(1))
        few = sy.encrypt(pointer[:63], parties)
        with pytest.raises(OpenNotPermittedError, match="63 items went into 1 numbers"):
            sy.decrypt(few.sum())
        more = sy.encrypt(pointer[60:], parties)
        sy.decrypt(few.sum() + more.sum())  # 100 different items
        same = sy.encrypt(pointer[torch.tensor([5] * 90)], parties)
        with pytest.raises(OpenNotPermittedError, match="1 items"):
            sy.decrypt(same.sum())


def test_a_driver_without_the_right_to_open(office, tmp_path):
    rights = {"drivers": {"scientist": ["compute", "open"], "stranger": ["compute"]}}
    with Workers(office.folder, options={"": rights}) as workers, workers.connect("stranger") as parties:
        x = sy.encrypt(torch.ones(3), parties)
        with pytest.raises(OpenNotPermittedError, match="compute, not open"):
            sy.decrypt(x * 2)
        with workers.connect() as other:
            assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), other)), torch.ones(2))


def test_the_log_is_only_appended_to(office, tmp_path):
    for _ in range(2):
        with network(office, tmp_path) as workers, workers.connect() as parties:
            sy.decrypt(sy.encrypt(torch.ones(3), parties))
            sy.decrypt(sy.encrypt(owned(parties), parties).mean())
    found = lines(tmp_path, "alice")
    assert len(found) == 4
    assert [line["owners"] for line in found] == [["scientist"], ["alice"]] * 2
    assert [line["items"] for line in found] == [0, 100] * 2
    assert all(line["shape"] in ([3], []) for line in found)
    assert (tmp_path / "alice.state" / policy.LOG).stat().st_mode & 0o777 == 0o600
