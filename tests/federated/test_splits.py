"""Splits for simulations: every row once, and as unlike as was asked for."""

import pytest
import torch

from pysmpc.federated import dirichlet, evenly, scatter


@pytest.mark.parametrize("alpha", [0.05, 0.5, 100.0])
def test_every_row_goes_to_one_part(alpha):
    labels = torch.randint(0, 10, (500,))
    parts = dirichlet(labels, 8, alpha, least=3)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(500))
    assert min(map(len, parts)) >= 3
    assert torch.equal(torch.cat(evenly(500, 8)).sort().values, torch.arange(500))


def test_a_small_alpha_gives_classes_of_their_own():
    labels = torch.arange(10).repeat(400)

    def spread(alpha):
        parts = dirichlet(labels, 10, alpha)
        shares = torch.stack([labels[part].bincount(minlength=10).double() / len(part) for part in parts])
        return float(shares.var(1).mean())

    assert spread(0.1) > 5 * spread(100.0)


def test_scattered(make):
    workers = make(4)
    data, targets = torch.randn(100, 3), torch.randint(0, 5, (100,))
    counts = scatter(data, targets, workers, alpha=0.5, least=2)
    assert sum(counts) == 100
    for worker, count in zip(workers, counts, strict=True):
        [x], [y] = worker.search("#data"), worker.search("#targets")
        assert len(x) == len(y) == count


@pytest.mark.parametrize("bad", [{"alpha": 0.0}, {"parts": 0}, {"parts": 11}, {"parts": 4, "least": 3}])
def test_splits_that_there_are_not(bad):
    with pytest.raises(ValueError, match=r"alpha|split"):
        dirichlet(torch.zeros(10, dtype=torch.int64), **{"parts": 2, **bad})
