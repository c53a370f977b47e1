"""`sy.decrypt(x, to=...)` over TLS: one holder has the value in her own folder, if all owners let her."""

import json

import numpy as np
import pytest
import torch
from remotes import Office, Workers

import pysmpc as sy
from pysmpc.errors import ConfigurationError, OpenNotPermittedError, PartyError
from pysmpc.remote.worker import opened_values


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    return Office(tmp_path_factory.mktemp("receiver-office"))


@pytest.fixture(scope="module")
def scene(office, tmp_path_factory):
    """bob lets alice have numbers of 20 rows; alice lets bob have nothing."""
    folder = tmp_path_factory.mktemp("receiver")
    data = np.random.default_rng().normal(size=(30, 3)).astype(np.float32)
    np.save(folder / "x.npy", data)
    options = {
        "": {"open": []},
        "alice": {"state": str(folder / "alice"), "data": {"mine": {"path": str(folder / "x.npy")}}},
        "bob": {"state": str(folder / "bob"), "data": {"x": {"path": str(folder / "x.npy")}}},
    }
    options["bob"]["receivers"] = {"alice": {"min_items": 20}}
    with Workers(office.folder, options=options) as workers:
        yield workers, folder, torch.from_numpy(data)


@pytest.fixture
def parties(scene):
    with scene[0].connect() as found:
        yield found


def share(parties, owner="bob", name="x"):
    [pointer] = parties[owner].search(name)
    return sy.encrypt(pointer, parties)


def test_the_receiver_has_it(parties, scene):
    _, folder, data = scene
    secret = share(parties)
    kept = sy.decrypt(secret.mean(0), to="alice")
    assert kept.holder == "alice"
    file = folder / "alice" / "received" / f"{kept.name}.npy"
    np.testing.assert_allclose(np.load(file), data.mean(0), atol=1e-3)
    assert file.stat().st_mode & 0o077 == 0
    assert not list((folder / "bob").rglob(file.name))
    with pytest.raises(OpenNotPermittedError):
        sy.decrypt(secret.mean(0))
    lines = [json.loads(line) for line in (folder / "bob" / "openings.jsonl").read_text().splitlines()]
    assert any((line["what"], line["receiver"], line["permitted"]) == ("hand", "alice", True) for line in lines)


def test_her_rules(parties, scene):
    _, folder, _ = scene
    secret = share(parties)
    had = set((folder / "alice").rglob("*.npy"))
    with pytest.raises(OpenNotPermittedError, match="20 of its rows or more"):
        sy.decrypt(secret[:3], to="alice")
    with pytest.raises(OpenNotPermittedError, match="alice, whose data went into this value, lets bob have nothing"):
        sy.decrypt(share(parties, "alice", "mine").mean(0), to="bob")
    assert set((folder / "alice").rglob("*.npy")) == had
    both = share(parties, "alice", "mine").mean(0) + secret.mean(0)
    assert sy.decrypt(both, to="alice").holder == "alice"


def test_one_may_have_what_is_ones_own(parties, scene):
    _, folder, data = scene
    kept = sy.decrypt(share(parties, "alice", "mine"), to="alice")
    np.testing.assert_allclose(np.load(folder / "alice" / "received" / f"{kept.name}.npy"), data, atol=1e-4)


def test_a_model_of_the_drivers(parties, scene):
    _, folder, _ = scene
    model = torch.nn.Linear(3, 2)
    kept = sy.decrypt(sy.encrypt(model, parties), to="bob")
    found = np.load(folder / "bob" / "received" / f"{kept['weight'].name}.npy")
    np.testing.assert_allclose(found, model.weight.detach(), atol=1e-4)


def test_a_name_is_used_once(parties, scene):
    secret = share(parties).mean(0)
    parties.recorder.hand(secret, "alice", "once")
    for name, reason in (("once", "already"), ("../outside", "letters"), ("", "letters")):
        with pytest.raises(OpenNotPermittedError, match=reason):
            parties.recorder.hand(secret, "alice", name)
    sy.decrypt(secret, to="alice")


def test_who_cannot_receive(parties, office, tmp_path):
    with pytest.raises(PartyError, match="crypto_provider is no holder"):
        sy.decrypt(share(parties), to="crypto_provider")
    with Workers(office.folder) as workers, workers.connect() as others:
        secret = sy.encrypt(torch.ones(2), others)
        with pytest.raises(OpenNotPermittedError, match="`state`"):
            sy.decrypt(secret, to="bob")
    with pytest.raises(ConfigurationError, match="approval"):
        Workers(office.folder, options={"alice": {"receivers": {"bob": {"approve": True}}}})


def test_the_other_holder_opens_uniform_words(parties, scene, monkeypatch):
    opened = []
    hand = opened_values.hand

    def seen(replay, *arguments):
        found = hand(replay, *arguments)
        if replay.session.party.ranks == (1,):
            opened.append(found[0])
        return found

    monkeypatch.setattr(opened_values, "hand", seen)
    sy.decrypt(sy.encrypt(torch.zeros(4000, dtype=torch.int64), parties), to="alice")
    [words] = opened
    bits = torch.stack([words.reshape(-1) >> place & 1 for place in range(64)]).double().mean(1)
    assert ((bits - 0.5).abs() < 6 / (2 * 4000**0.5)).all()
