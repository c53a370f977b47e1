"""Datasets, loaders, plans and averages under the names of PySyft 0.2's tutorials."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import pysmpc as sy
from pysmpc.compat.pysyft.pysyft_errors import WorkerNotFoundException


def rows(n=11):
    return torch.randn(n, 3), torch.arange(n)


def test_every_row_comes_once(make):
    data, targets = rows()
    for shuffle in (False, True):
        loader = sy.FederatedDataLoader(sy.BaseDataset(data, targets).federate(make(2)), batch_size=4, shuffle=shuffle)
        got = [(x.location, x.copy().get(), y.copy().get()) for x, y in loader]
        assert len(got) == len(loader) == 4
        order = torch.cat([y for _, _, y in got])
        assert sorted(order.tolist()) == list(range(11))
        torch.testing.assert_close(torch.cat([x for _, x, _ in got]), data[order])
        assert len({worker.id for worker, _, _ in got}) == 2


def test_batches_of_each_worker_at_once(make):
    workers = make(3)
    parts = sy.BaseDataset(*rows(10)).federate(workers)
    loader = sy.FederatedDataLoader(parts, batch_size=2, iter_per_worker=True)
    turns = list(loader)
    assert [[worker.id for worker in turn] for turn in turns] == [parts.workers, parts.workers[:2]]
    assert len(turns) == len(loader)
    few = sy.FederatedDataLoader(parts, batch_size=2, num_iterators=2)
    assert len(list(few)) == len(few)
    assert all(len(turn) <= 2 for turn in few)


def test_whole_batches_alone(make):
    loader = sy.FederatedDataLoader(sy.BaseDataset(*rows()).federate(make(2)), batch_size=4, drop_last=True)
    assert [len(x) for x, _ in loader] == [4] * len(loader) == [4, 4]


def test_any_dataset_of_torch(make):
    data, targets = rows(7)
    parts = TensorDataset(data, targets).federate(make(2))
    assert len(parts) == 7
    first = parts.workers[0]
    torch.testing.assert_close(parts.get_dataset(first).data, data[:4])
    assert len(parts) == 3
    with pytest.raises(WorkerNotFoundException, match=first):
        parts[first]


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"num_iterators": 0}])
def test_a_loader_of_nothing(make, bad):
    with pytest.raises(ValueError, match="at least 1"):
        sy.FederatedDataLoader(sy.BaseDataset(*rows()).federate(make(2)), **bad)


def test_targets_that_are_not_in_step():
    with pytest.raises(ValueError, match="one target a row"):
        sy.BaseDataset(torch.zeros(3, 1), torch.zeros(2))


# --- plans --------------------------------------------------------------------------


class Net(sy.Plan):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x):
        return torch.log_softmax(self.second(torch.relu(self.first(x))), -1)


def test_a_function():
    @sy.func2plan()
    def double(x):
        return x * 2 + 1

    with pytest.raises(RuntimeError, match="not built"):
        double(torch.ones(3))
    double.build(torch.ones(3))
    x = torch.randn(3)
    torch.testing.assert_close(double(x), x * 2 + 1)
    assert "mul" in double.code


def test_what_runs_is_what_was_captured():
    calls = []

    @sy.func2plan(args_shape=[(3,)])
    def counted(x):
        calls.append(1)
        return x + 1

    before = len(calls)
    for _ in range(3):
        counted(torch.randn(3))
    assert len(calls) == before


def test_state(make):
    bias = torch.randn(1)

    @sy.func2plan(args_shape=[(1,)], state=(bias,))
    def distance(x, state):
        (start,) = state.read()
        return (x - start).abs()

    [worker] = make(1)
    x = torch.randn(1)
    there = distance.send(worker)
    torch.testing.assert_close(there(x.send(worker)).get(), (x - bias).abs())
    torch.testing.assert_close(there.get()(x), (x - bias).abs())


def test_a_branch_on_a_value_is_refused():
    @sy.func2plan()
    def branches(x):
        return x if x.sum() > 0 else -x

    with pytest.raises(RuntimeError, match="branches on a value"):
        branches.build(torch.ones(2))


def test_a_module_here_at_a_worker_and_on_secrets(make):
    net, x = Net(), torch.randn(4, 2)
    net.build(x)
    expected = net.forward(x).detach()
    torch.testing.assert_close(net(x).detach(), expected)
    alice, bob = make(2)
    pointer = net.send(bob)
    result = pointer(x.send(bob))
    assert result.location == bob
    torch.testing.assert_close(result.get().detach(), expected)
    pointer(x.send(bob)).sum().backward()
    assert all(p.grad is not None for p in pointer.parameters())
    parties = sy.virtual("north", "south")
    torch.testing.assert_close(sy.decrypt(net(sy.encrypt(x, parties))), expected, atol=1e-3, rtol=1e-3)
    shared = copy.deepcopy(net).fix_precision(precision_fractional=4).share(alice, bob)
    out = shared(x.fix_precision(precision_fractional=4).share(alice, bob)).get().float_precision()
    torch.testing.assert_close(out, expected, atol=1e-2, rtol=1e-2)


def test_fetched_with_what_it_learned(make):
    net, x = Net(), torch.randn(4, 2)
    net.build(x)
    [bob] = make(1)
    twin = copy.deepcopy(net)
    pointer = net.send(bob)
    optimizer = torch.optim.SGD(pointer.parameters(), lr=0.1)
    pointer(x.send(bob)).sum().backward()
    optimizer.step()
    twin.forward(x).sum().backward()
    torch.optim.SGD(twin.parameters(), lr=0.1).step()
    for got, wanted in zip(pointer.get().parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(got, wanted)


# --- averages -----------------------------------------------------------------------


def test_a_mean_of_models():
    models = [nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(3)]
    for model in models:
        model(torch.randn(5, 3))
    weights = [1.0, 2.0, 5.0]
    mean = sy.fed_avg(models, weights)
    for name, value in mean.state_dict().items():
        if value.is_floating_point():
            wanted = sum(w * m.state_dict()[name] for w, m in zip(weights, models, strict=True)) / 8
            torch.testing.assert_close(value, wanted)
    same = sy.fed_avg({"a": models[0], "b": models[0]})
    torch.testing.assert_close(same[0].weight, models[0][0].weight)


def test_a_mean_of_secret_models():
    parties = sy.virtual("alice", "bob")
    models = [nn.Linear(3, 2) for _ in range(2)]
    mean = sy.decrypt(sy.fed_avg([sy.encrypt(m, parties) for m in models]))
    torch.testing.assert_close(mean.weight, (models[0].weight + models[1].weight) / 2, atol=1e-4, rtol=0)


def test_models_that_have_no_mean(make):
    with pytest.raises(ValueError, match="differ in weight"):
        sy.fed_avg([nn.Linear(3, 2), nn.Linear(2, 2)])
    with pytest.raises(ValueError, match="not all 0"):
        sy.fed_avg([nn.Linear(3, 2)], [0.0])
    with pytest.raises(ValueError, match="is at a worker"):
        sy.fed_avg([nn.Linear(3, 2).send(make(1)[0])])


def test_momentum_goes_where_the_model_goes(make):
    workers = make(2)
    model, data, targets = nn.Linear(2, 1), torch.randn(8, 2), torch.randn(8, 1)
    twin = copy.deepcopy(model)
    here = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    there = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for turn in range(4):
        part, worker = slice(turn % 2 * 4, turn % 2 * 4 + 4), workers[turn % 2]
        here.zero_grad()
        (twin(data[part]) - targets[part]).pow(2).mean().backward()
        here.step()
        x, y = data[part].send(worker), targets[part].send(worker)
        model.send(worker)
        there.zero_grad()
        (model(x) - y).pow(2).mean().backward()
        there.step()
        model.get()
    torch.testing.assert_close(model.weight, twin.weight)
