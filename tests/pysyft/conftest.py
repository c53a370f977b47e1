"""A hooked torch and workers without objects, for every test of the documents' vocabulary."""

import pytest
import torch

import pysmpc as sy


@pytest.fixture
def hook():
    active = sy.TorchHook(torch)
    yield active
    active.unhook()


def _worker(name):
    @pytest.fixture(name=name)
    def worker(hook):
        return sy.VirtualWorker(hook, id=name).clear_objects()

    return worker


alice, bob, charlie, james = (_worker(name) for name in ("alice", "bob", "charlie", "james"))


@pytest.fixture
def secret(alice, bob, james):
    """Shares a float tensor at precision 3, or the one named; integers as they are."""

    def share(values, precision_fractional=3, requires_grad=False):
        fixed = values.fix_precision(precision_fractional) if values.is_floating_point() else values
        return fixed.share(alice, bob, crypto_provider=james, requires_grad=requires_grad)

    return share


@pytest.fixture
def opened():
    """Plain values of whatever the vocabulary leaves."""

    def plain(value):
        return value.copy().get().float_precision()

    return plain
