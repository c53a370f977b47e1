import itertools

import pytest
import torch

import pysmpc as sy

numbers = itertools.count(1)


@pytest.fixture
def hook():
    hook = sy.TorchHook(torch)
    yield hook
    hook.unhook()


@pytest.fixture
def make(hook):
    """Makes so many workers of new names, which no demo that runs in this process has."""

    def workers(count, stem="keeper"):
        return [sy.VirtualWorker(hook, id=f"{stem}{next(numbers)}") for _ in range(count)]

    return workers
