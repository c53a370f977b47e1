"""Adaptive optimizers whose steps are computed by workers of other machines."""

import copy

import pytest
import torch
from remotes import Workers, without_consent
from torch import nn

import pysmpc as sy

ULP = 2.0**-16


def program(parties, name, options, start, grads):
    """What parameters and the state after these gradients open to."""
    model = sy.encrypt(copy.deepcopy(start), parties)
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.02, **options)
    for each in grads:
        for p, g in zip(model.parameters(), each, strict=True):
            p.grad = sy.encrypt(g, parties)
        optimizer.step()
    state = [v for v in optimizer.state[model.weight].values() if isinstance(v, sy.SecretTensor)]
    return [sy.decrypt(each.detach()) for each in (*model.parameters(), *state)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {"amsgrad": True}),
        ("AdamW", {"eps": 1e-4}),
        ("NAdam", {}),
        ("RMSprop", {"momentum": 0.5, "centered": True}),
        ("Adamax", {}),
        ("Adadelta", {}),
        ("Rprop", {}),
    ],
)
def test_steps_of_workers_are_those_of_one_process(workers, parties, name, options):
    here, start = sy.virtual(*parties.names), nn.Linear(4, 3)
    signs = [[torch.randn(p.shape).sign() for p in start.parameters()] for _ in range(3)]
    grads = [[sign * (0.25 + torch.rand(sign.shape)) for sign in each] for each in signs]
    before = parties.stats.copy()
    found, wanted = (program(where, name, options, start, grads) for where in (parties, here))
    cost = (parties.stats - before).cost
    assert cost == here.stats.cost or without_consent(cost, here.stats.cost, len(parties.names))
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(mine.double(), theirs.double(), atol=16 * ULP, rtol=2.0**-7)


def test_state_is_saved_by_workers_at_its_scale(office, tmp_path):
    own = {name: {"checkpoints": str(tmp_path / name)} for name in ("alice", "bob")}
    with Workers(office.folder, options=own) as workers, workers.connect() as parties:
        saved_and_loaded(parties, tmp_path / "run")


def saved_and_loaded(parties, folder):
    model = sy.encrypt(nn.Linear(2, 2), parties)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x = sy.encrypt(torch.randn(4, 2), parties)

    def step():
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    step()
    kept = sy.decrypt(optimizer.state[model.weight]["exp_avg_sq"])
    sy.save(model, optimizer, folder)
    step()
    sy.load(model, optimizer, folder)
    state = optimizer.state[model.weight]
    assert (state["exp_avg"].cell.unit.digits, state["exp_avg_sq"].cell.unit.digits) == (36, 52)
    assert torch.equal(sy.decrypt(state["exp_avg_sq"]), kept)
    step()
