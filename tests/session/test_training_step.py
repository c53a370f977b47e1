"""One training program in one process and in a thread a party: equal rounds and bytes, and
parameters within two steps of float."""

import copy

import pytest
import torch
from settings import Setting
from torch.nn import functional as F
from twins import Owner, double_twin, opened, representable, task

from pysmpc.tensor.storage import flush

ULP = 2.0**-16


def train(session, owner, model, x, y, steps, **options):
    """The program of every party: the module and the loop are torch's own."""
    mine = Owner(session, owner)
    a, b, net = mine.share(x), mine.share(y), mine.module(copy.deepcopy(model))
    optimizer = torch.optim.SGD(net.parameters(), **options)
    before = session.stats.copy()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(net(a), b)
        loss.backward()
        optimizer.step()
    flush(session)  # with the updates of the last step, which a loop that is followed ends with
    cost = (session.stats - before).cost
    return cost, opened(loss), [opened(p) for p in net.parameters()]


def float_train(model, x, y, steps, **options):
    net = double_twin(model)
    optimizer = torch.optim.SGD(net.parameters(), **options)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(net(representable(x)), representable(y))
        loss.backward()
        optimizer.step()
    return loss.detach(), [p.detach() for p in net.parameters()]


OPTIONS = [{"lr": 0.05}, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=["sgd", "nesterov"])
@pytest.mark.parametrize("holders", [2, 3])
def test_a_step_in_every_setting(holders, options):
    model, x, y = task(16, 12, 16, 8, 4)
    loss, parameters = float_train(model, x, y, 1, **options)
    costs = set()
    for name in ("virtual", "threads"):
        outcomes = Setting(name, holders).everywhere(
            lambda session, owner: train(session, owner, model, x, y, 1, **options)
        )
        for session, (cost, found_loss, found) in outcomes:
            costs.add(cost)
            if not session.party.rows:
                assert found == [None] * len(parameters)
                continue
            assert abs(float(found_loss - loss)) <= 16 * ULP
            for mine, theirs in zip(found, parameters, strict=True):
                assert float((mine - theirs).abs().max()) <= 2 * ULP
    assert len(costs) == 1, costs


def test_several_steps_cost_the_same_everywhere():
    model, x, y = task(8, 6, 5, 3)
    costs = {
        cost
        for name in ("virtual", "threads")
        for _, (cost, _, _) in Setting(name, 2).everywhere(
            lambda session, owner: train(session, owner, model, x, y, 4, lr=0.1, momentum=0.5)
        )
    }
    assert len(costs) == 1, costs
