"""Workers and protocols that are not pysmpc's own: registered at every worker, or refused."""

import pytest
import torch
from toy_protocol import toy

import pysmpc as sy
from pysmpc import protocols
from pysmpc.mpc.suite import suites
from pysmpc.mpc.variants import forget_variants


def test_workers_refuse_what_their_owners_did_not_register(parties):
    """Here the workers are of this process: what is taken from the driver's table is taken from theirs."""
    protocols.register(toy)
    x = sy.encrypt(torch.tensor([1.5, -2.0]), parties, protocol="toy")
    assert sy.decrypt(x * x).tolist() == [2.25, 4.0]
    y = sy.encrypt(torch.tensor([1.5, -2.0]), parties, protocol="toy")
    del suites["toy"]
    forget_variants()
    product = y * y
    with pytest.raises(sy.RemoteError, match="no protocols named 'toy' here; workers register those of others"):
        sy.decrypt(product)


def test_a_session_takes_the_settings_of_every_deployment(workers):
    with workers.connect(protocol=sy.Protocol("fss", rounding="nearest")) as parties:
        assert parties.session.suite.name == "fss, nearest"
        x = sy.encrypt(torch.tensor([1.5, -2.0]), parties)
        assert sy.decrypt((x * 0.3).relu() * 2).tolist() == pytest.approx([0.9, 0.0], abs=1e-4)
