"""What is around a call, and what is done to secrets as to tensors, where the shares are at workers."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import pysmpc as sy
from pysmpc.errors import PartyError


def test_another_default_device(parties):
    values = torch.randn(3, 3)
    with torch.device("meta"):
        x = sy.encrypt(values, parties)
        found = sy.decrypt((x @ x).relu() + x * 0.5)
    assert torch.allclose(found, (values @ values).relu() + values * 0.5, atol=0.01)


def test_a_mode_that_fakes_tensors(parties):
    values = torch.randn(3)
    x = sy.encrypt(values, parties)
    for use in (lambda: x * x, lambda: sy.decrypt(x), lambda: sy.encrypt(values, parties)):
        with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(NotImplementedError, match="FakeTensorMode"):
            use()
    assert torch.allclose(sy.decrypt(x * 2), values * 2, atol=1e-3)


def test_arrays_and_tiny_factors(parties):
    values = torch.randn(3).double() * 1e5
    x = sy.encrypt(values, parties)
    assert torch.allclose(sy.decrypt(values.numpy() - x), torch.zeros(3).double(), atol=1e-3)
    for found in (x * 1e-8, x / 1e8, x * torch.full((3,), 1e-8), x * torch.tensor([1e-8, 1e-8, 1e-8])):
        assert torch.allclose(sy.decrypt(found), values * 1e-8, rtol=1e-3, atol=1e-9)
    assert torch.allclose(sy.decrypt(x * 1e-8 * 1e8), values, atol=1e-2)
    assert sy.decrypt((x * 0).bool()).tolist() == [False] * 3


def test_copies(parties):
    net, x = nn.Linear(3, 2), torch.randn(4, 3)
    kept = {"parties": parties, "holder": parties["alice"], "model": sy.encrypt(net, parties)}
    other = copy.deepcopy(kept)
    assert other["parties"] is parties
    secret = sy.encrypt(x, other["parties"])
    vector = nn.utils.parameters_to_vector(kept["model"].parameters())
    nn.utils.vector_to_parameters(vector * 2, kept["model"].parameters())
    assert torch.allclose(sy.decrypt(kept["model"](secret)), 2 * net(x), atol=0.01)
    assert torch.allclose(sy.decrypt(other["model"](secret)), net(x), atol=0.01)
    assert torch.allclose(sy.decrypt(copy.copy(secret)), x, atol=1e-3)
    double = kept["model"].double()
    assert torch.allclose(sy.decrypt(double(secret.double())), 2 * net.double()(x.double()), atol=0.01)


def test_data_is_not_taken_from_another_kind_of_parties(parties):
    here, there = (sy.encrypt(torch.randn(2), p) for p in (sy.virtual("alice", "bob"), parties))
    for x, y in ((here, there), (there, here)):
        with pytest.raises(NotImplementedError, match="same kind of parties"):
            x.data = y


def test_a_worker_of_another_process_is_shown(parties, request):
    hook = sy.TorchHook(torch) if sy.TorchHook.active is None else sy.TorchHook.active
    request.addfinalizer(hook.unhook)
    sy.api.parties.use_session(parties.session)
    request.addfinalizer(sy.api.parties._sessions.clear)
    alice = sy.VirtualWorker(hook, id="alice")
    assert repr([alice]) == "[<VirtualWorker id:alice #objects:0 (and its shares, in a process of its own)>]"
    assert "alice" in repr(parties["alice"])
    with pytest.raises(PartyError, match="alice is another process"):
        alice.objects_count()
