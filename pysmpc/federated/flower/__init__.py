"""Secure aggregation for Flower apps: the server sees sums of updates, and no single one.

Needs `flwr` (`pip install pysmpc[flower]`).  `group` says who takes part and on what terms, `sealing` encrypts keys
from clients to holders, `members` is what runs in a ClientApp, `strategy` what runs in a ServerApp.  Nothing else of
the package imports from here.  Start with `strategy`.
"""

from pysmpc.federated.flower.group import Group
from pysmpc.federated.flower.members import Member
from pysmpc.federated.flower.sealing import Identity
from pysmpc.federated.flower.strategy import SecureSum

__all__ = ["Group", "Identity", "Member", "SecureSum"]
