"""Who may open what: each owner's rules, her log, and approval by hand."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from remotes import Workers
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import OpenNotPermittedError, RemoteError
from pysmpc.remote.arguments import reference
from pysmpc.remote.config import read
from pysmpc.remote.program_messages import Call, Drop
from pysmpc.remote.worker import policy
from pysmpc.tensor.secret import SecretTensor

ITEMS = np.arange(200, dtype=np.float32).reshape(100, 2) / 100


def network(office, folder, items=ITEMS, **rules):
    """Workers whose alice has data and rules of her own."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "x.npy", items)
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
@pytest.mark.parametrize("older", [False, True])
def test_a_value_has_one_slot(office, tmp_path, alias, older):
    """A driver who gives its own value a second name, writes alice's by the one, and opens it by the other."""
    with network(office, tmp_path, open=[]) as workers, workers.connect() as parties:
        x = sy.encrypt(owned(parties), parties)
        mine = sy.encrypt(torch.zeros(100, 2), parties)
        second = sy.encrypt(torch.zeros(100, 2), parties)
        first = reference(mine)
        parties.link.send(Drop([second.cell.slot]), (), None)  # the driver still believes that it is there
        parties.link.send(Call(alias, [first], {}, [second.cell.slot]), (), None)
        target = reference(second if older else mine)
        parties.link.send(Call("aten.copy_.default", [target, reference(x)], {}, [-1]), (), None)
        with pytest.raises(RemoteError, match="cannot be in slot"):
            sy.decrypt(mine if older else second)
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
        # but not in what it was computed from, which is only read
        read = sy.encrypt(torch.ones(100, 2), parties)
        x.add_(read)
        assert torch.equal(sy.decrypt(read), torch.ones(100, 2))
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
        with pytest.raises(OpenNotPermittedError, match="64 of its rows or more behind each; here 1 of its rows is"):
            sy.decrypt(x)
        with pytest.raises(OpenNotPermittedError):
            sy.decrypt(x.sum(1))
        few = sy.encrypt(pointer[:63], parties)
        with pytest.raises(OpenNotPermittedError, match=r"here 63 of its rows are behind a number.*drop_last=True"):
            sy.decrypt(few.sum())
        more = sy.encrypt(pointer[60:], parties)
        with pytest.raises(OpenNotPermittedError, match="here 40 of its rows"):
            sy.decrypt(few.sum() + more.sum())
        sy.decrypt(torch.cat([few, more]).sum())  # 100 different rows
        twice = torch.cat([few, sy.encrypt(pointer[:50], parties)]).sum()
        with pytest.raises(OpenNotPermittedError, match="here 63 of its rows"):
            sy.decrypt(twice)
        same = sy.encrypt(pointer[torch.tensor([5] * 90)], parties)
        with pytest.raises(OpenNotPermittedError, match="here 1 of its rows"):
            sy.decrypt(same.sum())


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x):
        return self.cells(x)[0][:, -1]


NETWORKS = {
    "convolutions": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 4, 4)), nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.GELU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(12, 3),
    ),
    "attention": lambda: nn.Sequential(
        nn.Unflatten(1, (8, 4)), nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), nn.Flatten(),
        nn.LayerNorm(32), nn.Linear(32, 3), nn.Sigmoid(),
    ),
    "recurrent": lambda: nn.Sequential(nn.Unflatten(1, (8, 4)), Recurrent(), nn.Tanh()),
}  # fmt: skip


@pytest.mark.parametrize("layers", NETWORKS)
def test_networks_of_enough_items(office, tmp_path, layers):
    """What 64 rows trained may be opened where 64 are asked for, whatever its layers; an output may not."""
    rules, data = {"scientist": {"min_items": 64}}, torch.randn(100, 32).numpy()
    with network(office, tmp_path, data, open=rules) as workers, workers.connect() as parties:
        pointer = owned(parties)
        for items, opens in ((64, True), (63, False)):
            model = sy.encrypt(NETWORKS[layers](), parties)
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            x, labels = sy.encrypt(pointer[:items], parties), torch.arange(items) % 3
            out = model(x)
            loss = F.cross_entropy(out, labels)
            loss.backward()
            optimizer.step()
            made = [loss.detach(), *(p.grad for p in model.parameters()), *model.state_dict().values()]
            made = [each for each in made if isinstance(each, SecretTensor)]
            for each in made if opens else (made[0], made[1], made[-1]):
                if opens:
                    sy.decrypt(each)
                else:
                    with pytest.raises(OpenNotPermittedError, match="63 of its rows"):
                        sy.decrypt(each)
            with pytest.raises(OpenNotPermittedError, match="1 of its rows"):
                sy.decrypt(out)


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


# --- rows behind each number, by the file that ships -----------------------------------


@pytest.fixture
def shipped(office, tmp_path):
    """alice by deploy/alice.toml, with 650 small digits, and the driver's parties."""
    values, _ = read(Path(__file__).parents[2] / "deploy" / "alice.toml")
    for name in ("certificate", "key", "ca", "peers"):
        del values[name]
    rng = np.random.default_rng()
    images, labels = rng.integers(0, 256, (650, 2, 3), dtype=np.uint8), rng.integers(0, 4, 650, dtype=np.uint8)
    np.savez(tmp_path / "digits.npz", images=images, labels=labels)
    values["data"]["digits"]["path"] = str(tmp_path / "digits.npz")
    values |= {"listen": "127.0.0.1:0", "state": str(tmp_path / "alice.state"), "checkpoints": str(tmp_path / "kept")}
    with Workers(office.folder, options={"alice": values}) as workers, workers.connect() as parties:
        yield parties


def digits(parties):
    """alice's images and labels, as they are shared."""
    found = {pointer.name: pointer for pointer in parties["alice"].search("#mnist")}
    return (found["digits/images"] / 255).flatten().fix_precision(), found["digits/labels"].one_hot(4).fix_precision()


def refused(*secrets, match="alice lets scientist open numbers with 64 of its rows or more behind each"):
    for secret in secrets:
        with pytest.raises(OpenNotPermittedError, match=match):
            sy.decrypt(secret)


def learner(parties):
    model = sy.encrypt(torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4)), parties)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)


def squares(out, target):
    return ((out - target) ** 2).mean()


def steps(model, optimizer, loss, recorded):
    if recorded:
        return sy.TrainStep(model, optimizer, loss)

    def step(x, y):
        optimizer.zero_grad()
        found = loss(model(x), y)
        found.backward()
        optimizer.step()
        return found.detach()

    return step


def test_numbers_of_few_rows_stay_closed(shipped):
    """Whatever a driver makes of 64 permitted rows."""
    images, labels = digits(shipped)
    x, y = images[:64].share(), labels[:64].share()
    one_hot = torch.eye(64)[:1]
    refused(x, x[3, 0], x[3], x[:63].sum(), x[0] + x.mean(), x[0, 0] + x.mean() * 0, x.sum(1), x * x.mean(), y[5])
    refused(x.max(0).values, x.max(), x.cumsum(0)[-1], x.flip(0)[0], torch.stack([x[0]] * 64).sum(0))
    refused(torch.where(torch.zeros(6, dtype=torch.bool), x.mean(0), x[0]), torch.cat([x.mean(0), x[0]]), x @ x.t())
    refused(
        images[torch.tensor([7] * 64)].share().sum(0), x[torch.tensor([7] * 64)].mean(0), x[:1].expand(64, 6).sum(0)
    )
    # the same rows by two names, of one file, and a batch that two reads of 32 make up
    half = labels[:32].share()
    refused(x[:32].sum() + half.sum(), torch.cat([x[:32, :4], half]).sum())
    # in place, part by part
    target = sy.encrypt(torch.zeros(6), shipped)
    target.copy_(x.mean(0))
    sy.decrypt(target)
    target[2] = x[0, 2]
    refused(target, target[0])
    # what min_items cannot stop, as the documents say: a sum in which all rows but one weigh nothing
    assert torch.allclose(sy.decrypt(sy.encrypt(one_hot, shipped) @ x).sum(), sy.decrypt(one_hot @ x).sum(), atol=1e-3)


def test_numbers_of_enough_rows_are_opened(shipped):
    images, labels = digits(shipped)
    x, y = images[10:74].share(), labels[10:74].share()
    assert sy.decrypt(x.mean(0)).shape == (6,)
    assert sy.decrypt(x.var()) >= 0
    assert sy.decrypt(torch.cat([x[:32], images[200:240].share()]).mean(0)).shape == (6,)
    assert sy.decrypt(x.t() @ y).shape == (6, 4)
    for loss in (squares, torch.nn.functional.mse_loss):
        assert sy.decrypt(loss(learner(shipped)[0](x), y)) >= 0
    assert sy.decrypt((learner(shipped)[0](x).argmax(1) == 2).sum()) >= 0
    convolved = torch.nn.functional.conv2d(x.view(64, 1, 2, 3), sy.encrypt(torch.randn(2, 1, 2, 2), shipped))
    refused(convolved)
    assert sy.decrypt(convolved.mean(0)).shape == (2, 1, 2)


@pytest.mark.parametrize("recorded", [False, True], ids=["as written", "recorded"])
def test_a_model_trained_on_whole_batches(shipped, recorded):
    model, optimizer = learner(shipped)
    step = steps(model, optimizer, squares, recorded)
    loader = sy.PrivateDataLoader([digits(shipped)], batch_size=64, shuffle=True, drop_last=True)
    for x, y in loader:
        loss = step(x, y)
        assert sy.decrypt(loss) >= 0
    assert not recorded or step.repeats
    for parameter in model.parameters():
        assert sy.decrypt(parameter.detach()).isfinite().all()
    refused(model(x))
    assert sy.decrypt(model(x).mean(0)).shape == (4,)
    # ten rows stay in what they trained, and in what that trains
    images, labels = digits(shipped)
    short = images[640:].share(), labels[640:].share()
    match = r"here 10 of its rows are behind a number.*drop_last=True"
    refused(step(*short), *(parameter.detach() for parameter in model.parameters()), match=match)
    refused(step(x, y), match=match)


def adaptive(model, name):
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01)

    def step(x, y):
        optimizer.zero_grad()
        loss = squares(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return optimizer, step


@pytest.mark.parametrize("name", ["Adam", "Adamax"])
def test_a_model_that_an_adaptive_optimizer_has_trained(shipped, name):
    """Steps and state count the rows of gradients, as those of gradient descent do."""
    model, _ = learner(shipped)
    optimizer, step = adaptive(model, name)
    for x, y in itertools.islice(sy.PrivateDataLoader([digits(shipped)], batch_size=64, drop_last=True), 2):
        step(x, y)
    state = [v for p in model.parameters() for v in optimizer.state[p].values() if isinstance(v, sy.SecretTensor)]
    for value in (*model.parameters(), *state):
        assert sy.decrypt(value.detach()).isfinite().all()
    images, labels = digits(shipped)
    step(images[640:].share(), labels[640:].share())
    match = r"here 10 of its rows are behind a number.*drop_last=True"
    refused(*(value.detach() for value in (*model.parameters(), *state)), match=match)


def test_a_recorded_step_on_one_row(shipped):
    """Recorded on batches that may be opened, and repeated on one that may not; and on one row for a batch."""
    images, labels = digits(shipped)
    batches = [(images[k : k + 64].share(), labels[k : k + 64].share()) for k in (0, 64, 128, 192, 256)]
    repeated = images[torch.tensor([7] * 64)].share(), labels[torch.tensor([7] * 64)].share()
    model, optimizer = learner(shipped)
    step = steps(model, optimizer, squares, True)
    for batch in batches:
        assert sy.decrypt(step(*batch)) >= 0
    assert step.repeats
    refused(step(*repeated), match="here 1 of its rows is")
    assert step.repeats
    refused(next(model.parameters()).detach(), step(*batches[0]), match="here 1 of its rows is")
    model, optimizer = learner(shipped)
    step = steps(model, optimizer, squares, True)
    (x, y), *_ = batches
    for _ in range(5):
        refused(step(x[:1].expand(64, 6), y), match="here 1 of its rows is")
    assert step.repeats
