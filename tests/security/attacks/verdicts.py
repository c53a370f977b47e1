"""What an attack came to."""

import pytest
import torch
from client import combined, released


def unread(found, secret, what, atol=2**-12):
    """Fail, and show it, if what the driver computed is alice's secret."""
    if found is None:
        return
    found, secret = torch.as_tensor(found).double().reshape(-1), secret.double().reshape(-1)
    if found.shape == secret.shape and torch.allclose(found, secret, atol=atol):
        shown = ", ".join(f"{each:.4f}" for each in found[:4].tolist())
        pytest.fail(f"read {what}: [{shown}{', ...' if found.numel() > 4 else ''}] of {found.numel()} numbers")


def kept(answers, what):
    """Fail, and show it, if any holder gave its share of something that its owner refuses."""
    for name, share in released(answers).items():
        pytest.fail(f"{name} released its share of {what}: {share.reshape(-1)[:3].tolist()}")


def closed(answers, secret, what):
    """Neither the value nor one share of it was given."""
    unread(combined(answers), secret, what)
    kept(answers, what)
