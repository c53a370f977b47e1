"""TorchHook adds names and replaces none."""

import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc import errors
from pysmpc.compat.pysyft import pysyft_errors
from pysmpc.compat.pysyft.hook import ADDED, Attribute

HOOKED = (torch.Tensor, nn.Module, torch.optim.Optimizer)
UNTOUCHED = (nn.Parameter, torch._C.TensorBase, nn.Linear, torch.optim.SGD)


def names(cls):
    return dict(vars(cls))


def test_it_only_adds_names_to_three_classes():
    before = {cls: names(cls) for cls in HOOKED + UNTOUCHED}
    modules = (torch, nn.functional, torch.nn.utils, torch.autograd)
    module_names = [dict(vars(module)) for module in modules]
    hook = sy.TorchHook(torch)
    try:
        for cls in HOOKED:
            now = names(cls)
            assert all(now[name] is value for name, value in before[cls].items())
            assert set(now) - set(before[cls]) == set(dict(ADDED)[cls])
        assert all(names(cls) == before[cls] for cls in UNTOUCHED)
        assert [dict(vars(module)) for module in modules] == module_names
    finally:
        hook.unhook()
    assert {cls: names(cls) for cls in HOOKED + UNTOUCHED} == before


def test_importing_patches_nothing():
    program = """
import torch
from torch import nn
classes = (torch.Tensor, nn.Module, torch.optim.Optimizer)
before = [dict(vars(c)) for c in classes]
import pysmpc, pysmpc.sandbox
assert [dict(vars(c)) for c in classes] == before
assert not hasattr(torch.Tensor, "share")
"""
    assert subprocess.run([sys.executable, "-W", "error", "-c", program]).returncode == 0


def test_a_second_call_warns_and_gives_the_same_hook(hook):
    with pytest.warns(UserWarning, match="hooked already"):
        assert sy.TorchHook(torch) is hook


def test_a_name_that_exists_is_not_replaced(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "share", "theirs", raising=False)
    with pytest.raises(pysyft_errors.HookError, match="Tensor has share"):
        sy.TorchHook(torch)
    assert torch.Tensor.share == "theirs"
    assert not hasattr(nn.Module, "share")


def test_it_takes_torch():
    with pytest.raises(TypeError, match="the module torch"):
        sy.TorchHook(nn)


@pytest.mark.parametrize("option", [{"verbose": True}, {"seed": 1}, {"is_client": False}, {"local_worker": "me"}])
def test_options_without_effect_raise(option):
    with pytest.raises(NotImplementedError):
        sy.TorchHook(torch, **option)
    assert not hasattr(torch.Tensor, "share")


def test_local_worker(hook):
    assert sy.local_worker is hook.local_worker
    assert sy.local_worker.id == "me"


def test_without_a_hook_there_is_no_local_worker():
    with pytest.raises(pysyft_errors.HookError, match="call hook"):
        sy.local_worker  # noqa: B018
    with pytest.raises(pysyft_errors.HookError, match="call hook"):
        sy.sandbox.connect_to_workers(2)


def test_attributes_give_way_to_those_of_users(hook):
    class Place(nn.Module):
        def __init__(self):
            super().__init__()
            self.location = nn.Linear(2, 2)
            self.owner = "someone"
            self.get = 3

    place = Place()
    assert (place.owner, place.get) == ("someone", 3)
    assert isinstance(place.location, nn.Linear)
    x = torch.ones(1)
    x.id = 5
    assert x.id == 5


def test_torch_can_list_and_save_what_is_hooked(hook, tmp_path):
    torch.overrides._get_overridable_functions.cache_clear()
    assert torch.overrides.get_overridable_functions()
    torch.overrides._get_overridable_functions.cache_clear()
    x = torch.ones(2).tag("#x").describe("two ones")
    torch.save(x, tmp_path / "x.pt")
    loaded = torch.load(tmp_path / "x.pt")
    assert (loaded.tags, loaded.description) == ({"#x"}, "two ones")
    assert torch.equal(pickle.loads(pickle.dumps(x)), x)


def test_every_name_has_a_meaning(hook):
    for _, added in ADDED:
        for name, value in added.items():
            assert isinstance(value, Attribute) or callable(value)
            assert value.__doc__ or name in ("private_tensor", "allow", "numpy_tensor", "virtual_get")


@pytest.mark.parametrize("name", ["private_tensor", "allow", "numpy_tensor", "virtual_get"])
def test_what_is_not_available_says_so(hook, name):
    with pytest.raises(NotImplementedError, match=name):
        getattr(torch.ones(1), name)()


def test_errors_have_one_base():
    known = {**vars(errors), **vars(pysyft_errors)}
    found = [e for e in known.values() if isinstance(e, type) and issubclass(e, Exception)]
    assert all(issubclass(e, errors.PysmpcError) for e in found)
    assert {
        "InvalidTensorForRemoteGet",
        "WorkerNotFoundException",
        "TensorsNotCollocatedException",
        "SendNotPermittedError",
        "GetNotPermittedError",
        "ObjectNotFoundError",
    } <= {e.__name__ for e in found}
