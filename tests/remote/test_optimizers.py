"""Adaptive optimizers whose steps are computed by workers of other machines."""

import pytest
import torch
from remotes import without_consent
from torch import nn

import pysmpc as sy

ULP = 2.0**-16


def program(parties, name, options):
    """What parameters and the state of three steps open to."""
    torch.manual_seed(3)
    model = sy.encrypt(nn.Linear(4, 3), parties)
    x, y = sy.encrypt(torch.randn(6, 4), parties), sy.encrypt(torch.randn(6, 3), parties)
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.02, **options)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
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
    here = sy.virtual(*parties.names)
    before = parties.stats.copy()
    found, wanted = program(parties, name, options), program(here, name, options)
    cost = (parties.stats - before).cost
    assert cost == here.stats.cost or without_consent(cost, here.stats.cost, len(parties.names))
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(mine.double(), theirs.double(), atol=16 * ULP, rtol=2.0**-7)


def test_state_is_saved_by_workers_at_its_scale(workers, parties, tmp_path):
    model = sy.encrypt(nn.Linear(2, 2), parties)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x = sy.encrypt(torch.randn(4, 2), parties)

    def step():
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    step()
    kept = sy.decrypt(optimizer.state[model.weight]["exp_avg_sq"])
    sy.save(model, optimizer, tmp_path)
    step()
    sy.load(model, optimizer, tmp_path)
    state = optimizer.state[model.weight]
    assert (state["exp_avg"].cell.unit.digits, state["exp_avg_sq"].cell.unit.digits) == (36, 52)
    assert torch.equal(sy.decrypt(state["exp_avg_sq"]), kept)
    step()
