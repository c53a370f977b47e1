"""Private steps at workers of other machines: as in one process, and no sampling that the driver could not hide."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from remotes import Workers
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import pysmpc as sy
from pysmpc.errors import OpenNotPermittedError, PrivacyError, RemoteError
from pysmpc.mpc.derived import secret_noise
from pysmpc.privacy.draws import slots_for
from pysmpc.privacy.engine import sensitivity
from pysmpc.program.loop import following
from pysmpc.remote.data_steps import Items, apply
from pysmpc.remote.worker.data import Draws
from pysmpc.ring.prg import fresh_key

BUDGET = {"target_epsilon": 1e6, "target_delta": 1e-3, "accountant": "rdp"}


def prepared(parties, net, x, y, noise="holders", sampling="given"):
    model = sy.encrypt(copy.deepcopy(net), parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loader = DataLoader(TensorDataset(sy.encrypt(x, parties), sy.encrypt(y, parties)), batch_size=len(x))
    engine = sy.privacy.Engine(**BUDGET, noise=noise, sampling=sampling)
    return engine.make_private(model, optimizer, loader, max_grad_norm=0.5, noise_multiplier=0.01)


@pytest.mark.parametrize("noise", ["holders", "provider"])
def test_a_step_there(parties, noise):
    net, x, y = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(10, 6), torch.randint(3, (10,))
    found = []
    for where in (parties, sy.virtual(*parties.names)):
        model, optimizer, loader = prepared(where, net, x, y, noise)
        for a, b in loader:
            F.cross_entropy(model(a), b).backward()
            optimizer.step()
        found.append(sy.decrypt([p.detach() for p in model.parameters()]))
    gaps = torch.cat([(mine - theirs).reshape(-1) for mine, theirs in zip(*found, strict=True)])
    # noise of 0.01 times 0.5 over 10, twice or four times: there, and new
    expected = 0.01 * 0.5 / 10 * (4 if noise == "holders" else 2) ** 0.5
    assert 0.6 * expected < float(gaps.square().mean().sqrt()) < 1.5 * expected


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["holders", "provider"])
def test_repeated_steps_draw_new_noise_there(workers, noise, monkeypatch):
    """Of the deviation, and of new keys in each step."""
    keys, steps, n = [], 7, 40 * 25 + 25
    monkeypatch.setattr(secret_noise, "fresh_key", lambda: keys.append(fresh_key()) or keys[-1])
    found, repeats = [], []
    # all workers record in one process: their hearts may beat late
    with workers.connect(silence=60.0) as parties, following() as loops:
        x, y = sy.encrypt(torch.randn(4, 40), parties), sy.encrypt(torch.zeros(4), parties)
        model = sy.encrypt(nn.Linear(40, 25), parties)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        engine = sy.privacy.Engine(**BUDGET, noise=noise)
        model, optimizer, loader = engine.make_private(model, optimizer, [(x, y)] * steps, noise_multiplier=1.0)
        for x, y in loader:
            optimizer.zero_grad()
            ((model(x) * 0).sum() + y.sum() * 0).backward()
            optimizer.step()
            now = sy.decrypt([p.detach() for p in model.parameters()])
            repeats.append(loops.repeats)
            found.append(torch.cat([each.double().reshape(-1) for each in now]))
    assert sum(repeats) >= 2
    assert engine.accountant.steps == steps
    moves = torch.stack(found).diff(dim=0) / sensitivity(n) * 4
    holders = 2 if noise == "holders" else 1
    assert all(float(each.square().mean()) == pytest.approx(holders, rel=0.3) for each in moves)
    for one, other in itertools.combinations(moves, 2):
        assert abs(float((one * other).mean())) < 6 * holders / math.sqrt(n)
    assert len(set(keys)) == len(keys) == 2 * steps * holders


def test_drivers_cannot_claim_that_nobody_sees_a_sample(parties):
    net, x, y = nn.Linear(6, 3), torch.randn(10, 6), torch.randint(3, (10,))
    with pytest.raises(PrivacyError, match="amplification needs that nobody sees it"):
        prepared(parties, net, x, y, sampling="poisson")


ROWS = 40


@pytest.fixture(scope="module")
def owners(office, tmp_path_factory):
    """alice and bob with rows of their own, each with her number in a column of its own."""
    folder, options = tmp_path_factory.mktemp("rows"), {}
    for first, name in enumerate(("alice", "bob")):
        x = np.zeros((ROWS, 4), dtype=np.float32)
        x[:, 0], x[:, 1:] = np.arange(ROWS) + 1 + 100 * first, np.random.default_rng().normal(size=(ROWS, 3))
        np.savez(folder / f"{name}.npz", x=x, y=np.arange(ROWS) % 3)
        options[name] = {"data": {"table": {"path": str(folder / f"{name}.npz"), "get": ["scientist"]}}}
    with Workers(office.folder, options=options) as found:
        yield found


def sources(parties):
    found = []
    for name in ("alice", "bob"):
        by_name = {p.name: p for p in parties[name].search()}
        found.append((by_name["table/x"], by_name["table/y"]))
    return found


def test_owners_draw_at_their_workers(owners):
    with owners.connect() as parties:
        loader = sy.privacy.OwnersLoader(sources(parties), 20, parties)
        shapes, numbers = set(), []
        for _ in range(5):
            (x, y), weights = loader.draw()
            shapes.add((x.shape, y.shape, weights.shape))
            x, y, weights = sy.decrypt(x), sy.decrypt(y), sy.decrypt(weights)
            assert set(weights.tolist()) == {0.0, 1.0}
            assert float(x[weights == 0].abs().max()) == 0
            rows = x[weights == 1][:, 0].round().long()
            assert len(rows.unique()) == len(rows)
            assert torch.equal((rows % 100 - 1) % 3, y[weights == 1])  # labels are those of the same rows
            assert int((rows < 100).sum()) < ROWS
            numbers.append(tuple(rows.tolist()))
        assert len(set(numbers)) == 5
        assert len(shapes) == 1
        assert 30 < sum(map(len, numbers)) < 180


def test_a_private_step_of_rows_that_owners_draw(owners):
    with owners.connect() as parties:
        scaled = [(x.scale(0.01), y) for x, y in sources(parties)]
        loader = sy.privacy.OwnersLoader(scaled, 20, parties)
        model = sy.encrypt(nn.Linear(4, 3), parties)
        before = sy.decrypt(model.weight.detach())
        engine = sy.privacy.Engine(target_epsilon=8, target_delta=1e-3, accountant="rdp", sampling="poisson")
        model, optimizer, private = engine.make_private(
            model, torch.optim.SGD(model.parameters(), lr=1.0), loader, epochs=1
        )
        for x, y in private:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        assert engine.accountant.history == {(engine.noise_multiplier, 20 / 80): 4}
        assert engine.epsilon() <= 8
        assert not torch.equal(sy.decrypt(model.weight.detach()), before)


def test_what_the_driver_sends_is_the_same_whatever_is_drawn(owners, monkeypatch):
    """Operations say a number, a rate and slots; and the transcript of all parties is of these."""
    sent = []
    for _ in range(2):
        with owners.connect() as parties:
            mine, queue = [], parties.recorder.queue

            def kept(operation, *more, mine=mine, queue=queue):
                mine.append(operation)
                return queue(operation, *more)

            monkeypatch.setattr(parties.recorder, "queue", kept)
            sy.privacy.OwnersLoader(sources(parties), 20, parties).draw()
            sent.append([repr(op) for op in mine])
    assert sent[0] == sent[1]
    assert any("'drawn', 1, 0.25" in op for op in sent[0])


def test_draws_are_neither_fetched_nor_repeated(owners):
    with owners.connect() as parties:
        [(x, _), _] = sources(parties)
        assert len(x.get()) == ROWS
        with pytest.raises(RemoteError, match="never fetched"):
            x.drawn(1, 0.5, 30).get()
        with pytest.raises(RemoteError, match="never fetched"):
            x.drawn(1, 0.5, 30).present().get()
        twice = [sy.decrypt(sy.encrypt(x.drawn(1, 0.5, 30), parties)) for _ in range(2)]
        assert torch.equal(*twice)
        assert sy.decrypt(sy.encrypt(x.drawn(2, 0.5, 30), parties)).shape == (30, 4)
        again = sy.encrypt(x.drawn(1, 0.5, 30), parties)
        with pytest.raises(RemoteError, match="draw 1 comes after draw 2"):
            sy.decrypt(again)


def test_rows_that_are_drawn_count_as_one(owners):
    """How many there are is her secret, so that a rule of rows cannot rely on more than one."""
    rule = {"scientist": {"min_items": 2}}
    for name in ("alice", "bob"):
        owners.reload(name, open=rule)
    try:
        with owners.connect() as parties:
            [(x, _), _] = sources(parties)
            assert sy.decrypt(sy.encrypt(x, parties).sum(0)).shape == (4,)
            with pytest.raises(OpenNotPermittedError, match="1 of"):
                sy.decrypt(sy.encrypt(x.drawn(1, 0.9, ROWS), parties).sum(0))
            with pytest.raises(OpenNotPermittedError, match="1 of"):
                sy.decrypt(sy.encrypt(x.drawn(2, 0.9, ROWS).present(), parties).sum(0))
    finally:
        for name in ("alice", "bob"):
            owners.reload(name, open=["scientist"])


@pytest.mark.parametrize("step", [(1, 0.5, 0), (1, 0.5, ROWS + 1), (1, 0.0, 5), (1, 1.5, 5), (1, 2, 5), (1.0, 0.5, 5)])
def test_draws_that_make_no_sense(step):
    found = Items(torch.randn(ROWS, 2), torch.arange(ROWS))
    with pytest.raises(RemoteError, match="rows are drawn"):
        Draws().take(found, *step)


def test_a_draw_is_of_the_same_rows_for_all_data():
    draws, slots, items = Draws(), slots_for(ROWS, 0.5), torch.arange(ROWS)
    values, seen = torch.arange(1.0, ROWS + 1), set()
    for number in (1, 2, 5, 9):
        images = draws.take(Items(values.reshape(-1, 1), items), number, 0.5, slots)
        labels = draws.take(Items(values * 10, items), number, 0.5, slots)
        assert images.values.shape == (slots, 1)
        assert torch.equal(images.values[:, 0] * 10, labels.values)
        assert torch.equal(images.values[:, 0] > 0, images.present)
        assert torch.equal(apply(labels, "present", []).values, images.present.float())
        assert torch.equal(apply(images, "cut", [1, 4, None]).present, images.present[1:4])
        assert images.items.tolist() == [0] * slots  # nobody counts rows by them
        seen.add(tuple(images.values[:, 0].tolist()))
    assert len(seen) == 4
    with pytest.raises(RemoteError, match="draw 5 comes after draw 9"):
        draws.take(Items(values, items), 5, 0.5, slots)
    with pytest.raises(RemoteError, match="never fetched"):
        apply(Items(values, items), "drawn", [1, 0.5, slots])
    with pytest.raises(RemoteError, match="only of rows that an owner draws"):
        apply(Items(values, items), "present", [])


def test_rows_that_are_listed_twice(owners):
    with owners.connect() as parties:
        (x, y), other = sources(parties)
        with pytest.raises(PrivacyError, match="rows that are listed twice"):
            sy.privacy.OwnersLoader([(x, y), (x, y), other], 4, parties)
        with pytest.raises(PrivacyError, match="more than once"):
            sy.privacy.OwnersLoader([(x[[0, 1, 1]], y[[0, 1, 2]]), other], 2, parties).draw()


def test_plain_tensors_are_not_drawn_for_others(parties):
    with pytest.raises(PrivacyError, match="this process's own"):
        sy.privacy.OwnersLoader([(torch.randn(8, 2), torch.zeros(8).long())], 4, parties)
