"""Differential privacy: how much of a result may depend on one example.

`engine` makes an ordinary training loop on secrets private; `clipping` and `layers` bound what each example
contributes; `loaders` and `draws` say which examples a step sees; `accountant`, `renyi` and `loss_distribution` say
what steps spend; `noise_shares` is for clients of a federated training.  May import `pysmpc.api.calls` and
everything below it; start reading at `engine`.
"""

from pysmpc.privacy.accountant import Accountant, noise_multiplier_for
from pysmpc.privacy.engine import Engine
from pysmpc.privacy.loaders import OwnersLoader
from pysmpc.privacy.noise_shares import noise_share

__all__ = ["Accountant", "Engine", "OwnersLoader", "noise_multiplier_for", "noise_share"]
