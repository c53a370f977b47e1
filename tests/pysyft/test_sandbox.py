"""The documents' simulation helpers."""

import pytest
import torch

import pysmpc as sy
from pysmpc.datasets import DatasetError, load
from pysmpc.sandbox import connect_to_crypto_provider, connect_to_workers, get_private_data_loaders


@pytest.fixture
def parties(hook):
    workers, provider = connect_to_workers(n_workers=2), connect_to_crypto_provider()
    for worker in workers:
        worker.clear_objects()
    return {"workers": workers, "crypto_provider": provider}


def test_workers(hook):
    assert [w.id for w in connect_to_workers(3)] == ["worker1", "worker2", "worker3"]
    assert [w.id for w in connect_to_workers(ids=["alice", "bob"])] == ["alice", "bob"]
    assert connect_to_crypto_provider().id == "crypto_provider"
    with pytest.raises(ValueError, match="3 workers wanted, 2 ids"):
        connect_to_workers(3, ids=["alice", "bob"])


def test_loaders(parties):
    train, test = get_private_data_loaders(precision_fractional=3, dataset_sizes=(10, 5), batch_size=4, **parties)
    mnist = load(None, 10, 5)
    assert [tuple(data.shape) for data, _ in train] == [(4, 1, 28, 28), (4, 1, 28, 28), (2, 1, 28, 28)]
    assert [len(target) for _, target in test] == [4, 1]
    data, target = train[1]
    assert isinstance(data, sy.SecretTensor)
    assert torch.allclose(data.copy().get().float_precision()[:, 0], mnist.train_images[4:8], atol=1e-3)
    assert torch.equal(target.get().float_precision(), torch.nn.functional.one_hot(mnist.train_labels[4:8], 10).float())
    assert torch.equal(torch.cat([target.get() for _, target in test]), mnist.test_labels)


def test_items_are_shown_as_in_the_article_without_costing_gradients(parties):
    train, _ = get_private_data_loaders(dataset_sizes=(2, 1), **parties)
    data = train[0][0]
    assert repr(data).startswith("(Wrapper)>AutogradTensor>FixedPrecisionTensor>[AdditiveSharingTensor]\n\t-> [Pointer")
    assert "*crypto provider: crypto_provider*" in repr(data)
    assert not data.requires_grad


def test_workers_hold_uniform_words_only(parties):
    train, _ = get_private_data_loaders(dataset_sizes=(64, 1), **parties)
    [words, *_] = parties["workers"][0]._tensors.values()
    assert words.shape == train[0][0].shape
    assert words.unique().numel() == words.numel()


def test_errors(parties):
    with pytest.raises(DatasetError, match="640"):
        get_private_data_loaders(dataset_sizes=(641, 1), **parties)
    with pytest.raises(ValueError, match="batch_size"):
        get_private_data_loaders(batch_size=0, **parties)
    with pytest.raises(ValueError, match="two holders"):
        get_private_data_loaders(workers=[], dataset_sizes=(1, 1))
