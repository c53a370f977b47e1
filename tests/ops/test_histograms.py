"""Histograms of secrets, and what is said in the place of those whose size would be secret."""

import pytest
import torch
from op_checks import encrypted, plain


@pytest.mark.parametrize("bins", [1, 4, 10])
def test_between_public_ends(bins):
    x = (torch.rand(5, 9) * 40).round() / 8 - 1 + 1 / 32  # no element on an edge
    found = torch.histc(encrypted(x), bins, min=-0.5, max=3)
    assert found.dtype == torch.float32
    assert torch.equal(plain(found).float(), torch.histc(x, bins, min=-0.5, max=3))


@pytest.mark.parametrize("bins", [1, 3, 10])
def test_between_the_elements_own_ends(bins):
    """No end is told; an element within a step of an edge may be on either side of it."""
    x = torch.randn(60)
    found = plain(torch.histc(encrypted(x), bins)).float()
    assert found.sum() == 60
    assert (found - torch.histc(x, bins)).abs().sum() <= 2


def test_counts_of_classes():
    x = encrypted(torch.tensor([1, 3, 1, 0]))
    with pytest.raises(NotImplementedError, match=r"bincount.*arange"):
        torch.bincount(x)
    assert plain((x.unsqueeze(1) == torch.arange(4)).sum(0)).tolist() == [1, 2, 0, 1]
