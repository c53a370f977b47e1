"""A default device, or a mode that fakes tensors, around a call: no crash, and nothing made elsewhere."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import pysmpc as sy
from pysmpc.errors import EncodingError


def mean_square(out, target):
    return ((out - target) ** 2).mean()


class Program:
    """What a user does with secrets, on values made beforehand; every call gives plain values and what is right."""

    def __init__(self):
        self.parties = sy.virtual("alice", "bob")
        self.x, self.w = torch.randn(6, 4), torch.randn(4, 3)
        self.net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
        self.target = torch.randn(6, 1)
        self.a, self.b = sy.encrypt(self.x, self.parties), sy.encrypt(self.w, self.parties)

    def decrypt(self):
        return sy.decrypt(self.a), self.x

    def encrypt(self):
        return sy.decrypt(sy.encrypt(self.x, self.parties)), self.x

    def encrypt_list(self):
        return sy.decrypt(sy.encrypt([[1.5, -2.0]], self.parties)), torch.tensor([[1.5, -2.0]], device="cpu")

    def new_parties(self):
        return sy.decrypt(sy.encrypt(self.x, sy.virtual("alice", "bob", "carol", protocol=None))), self.x

    def products(self):
        return sy.decrypt((self.a @ self.b).relu() * self.a[:, :3] + 1), (self.x @ self.w).relu() * self.x[:, :3] + 1

    def comparisons(self):
        return sy.decrypt((self.a > 0.25).float().sum(0)), (self.x > 0.25).float().sum(0)

    def quotients(self):
        return sy.decrypt(1 / (self.a * self.a + 1)), 1 / (self.x * self.x + 1)

    def extrema(self):
        return sy.decrypt(self.a.max(1).values), self.x.max(1).values

    def movements(self):
        return sy.decrypt(torch.cat([self.a, self.a]).flip(0)), torch.cat([self.x, self.x]).flip(0)

    def shares(self):
        return sum(each[:0].sum() for each in self.parties["alice"].shares()), torch.tensor(0, device="cpu")

    def fixed_precision(self):
        return sy.api.steps.float_precision(sy.api.steps.fix_precision(self.x, 4)), self.x

    def training(self):
        def train(model, x, target, repeated):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
            step = sy.TrainStep(model, optimizer, mean_square)
            for _ in range(6):
                if repeated:
                    step(x, target)
                else:
                    optimizer.zero_grad()
                    mean_square(model(x), target).backward()
                    optimizer.step()
            return step.repeats

        plain, secret = copy.deepcopy(self.net), sy.encrypt(self.net, self.parties)
        train(plain, self.x, self.target, False)
        assert train(secret, self.a, sy.encrypt(self.target, self.parties), True)
        return sy.decrypt(secret[0].weight), plain[0].weight


CALLS = [name for name in vars(Program) if not name.startswith("_")]


@pytest.mark.parametrize("name", CALLS)
def test_another_default_device(name):
    program = Program()
    with torch.device("meta"):
        found, right = getattr(program, name)()
    assert found.device.type == "cpu"
    assert torch.allclose(found.detach().double(), right.detach().double(), atol=0.01)


def test_the_default_device_of_the_caller_stays():
    program = Program()
    with torch.device("meta"):
        program.products()
        assert torch.ones(1).is_meta


def test_saving_under_another_default_device(tmp_path):
    program = Program()
    model = sy.encrypt(program.net, program.parties)
    before = sy.decrypt(model[0].weight)
    with torch.device("meta"):
        sy.save(model, None, tmp_path / "run", epoch=3)
        with torch.no_grad():
            model[0].weight.zero_()
        assert sy.load(model, None, tmp_path / "run") == {"epoch": 3}
    assert torch.equal(sy.decrypt(model[0].weight), before)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("shares", "fixed_precision")])
def test_a_mode_that_fakes_tensors_is_refused(name):
    program = Program()
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(NotImplementedError, match="FakeTensorMode"):
        getattr(program, name)()
    assert torch.allclose(sy.decrypt(program.a), program.x, atol=1e-4)


def test_what_traces_is_refused():
    program = Program()
    from torch.fx.experimental.proxy_tensor import make_fx

    with pytest.raises(NotImplementedError, match="cannot be traced or faked"):
        make_fx(lambda x: x * program.a)(program.x)


@pytest.mark.parametrize("use", [torch.mul, torch.add, torch.sub, torch.gt], ids=lambda f: f.__name__)
def test_public_operands_without_memory_here_are_refused(use):
    program = Program()
    with pytest.raises(EncodingError, match="device meta"):
        use(program.a, torch.empty(6, 4, device="meta"))


def test_autocast_changes_no_more_than_the_dtype():
    program = Program()
    with torch.autocast("cpu"):
        found = sy.decrypt(program.a @ program.b)
    assert torch.allclose(found.float(), program.x @ program.w, atol=0.05)
