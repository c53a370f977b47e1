"""The documents' simulation helpers: workers in this process that hold MNIST.

workers = connect_to_workers(n_workers=2)
crypto_provider = connect_to_crypto_provider()
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence

import torch

from pysmpc.api.parties import use_session
from pysmpc.compat.pysyft import verbs
from pysmpc.compat.pysyft.hook import TorchHook, active_hook
from pysmpc.compat.pysyft.workers import VirtualWorker
from pysmpc.datasets import load
from pysmpc.remote.local_workers import LocalWorkers

Batch = tuple[torch.Tensor, torch.Tensor]

CLASSES = 10


def connect_to_workers(
    n_workers: int = 2, ids: Sequence[str] | None = None, hook: TorchHook | None = None, remote: bool = False
) -> list[VirtualWorker]:
    """Virtual workers worker1, worker2, ..., or of the ids given.

    remote: each is a process of this machine that holds its shares alone, and so is a
    crypto provider named "crypto_provider"; they end with this program.
    """
    names = list(ids) if ids is not None else [f"worker{i + 1}" for i in range(n_workers)]
    if ids is not None and n_workers not in (2, len(names)):
        raise ValueError(f"{n_workers} workers wanted, {len(names)} ids given")
    if remote:
        processes = LocalWorkers(names)
        atexit.register(processes.stop)
        use_session(processes.connect().session)
    return [VirtualWorker(hook or active_hook(), id=name) for name in names]


def connect_to_crypto_provider(id: str = "crypto_provider", hook: TorchHook | None = None) -> VirtualWorker:
    """The worker that deals the randomness."""
    return VirtualWorker(hook or active_hook(), id=id)


def get_private_data_loaders(
    precision_fractional: int = 3,
    workers: Sequence[VirtualWorker] = (),
    crypto_provider: VirtualWorker | None = None,
    dataset_sizes: tuple[int, int] = (640, 640),
    batch_size: int = 64,
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[list[Batch], list[Batch]]:
    """Secret batches of MNIST: (data, target) for training, and for testing.

    Batches belong to the workers in turn, who share them among all.  Training targets
    are one-hot; test targets are class numbers.  The sample inside the package has 640
    items of each; data_dir is a folder of the original files.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; at least 1 is needed")
    train_items, test_items = dataset_sizes
    mnist = load(data_dir, train_items, test_items)
    one_hot = torch.nn.functional.one_hot(mnist.train_labels, CLASSES).float()

    def secret(values: torch.Tensor) -> torch.Tensor:
        if values.is_floating_point():
            values = verbs.fix_precision(values, precision_fractional)
        shared: torch.Tensor = verbs.share(values, *workers, crypto_provider=crypto_provider)
        shared.chained = True  # type: ignore[attr-defined]
        return shared

    def batches(images: torch.Tensor, targets: torch.Tensor) -> list[Batch]:
        pairs = zip(torch.split(images.unsqueeze(1), batch_size), torch.split(targets, batch_size), strict=True)
        return [(secret(data), secret(target)) for data, target in pairs]

    return batches(mnist.train_images, one_hot), batches(mnist.test_images, mnist.test_labels)
