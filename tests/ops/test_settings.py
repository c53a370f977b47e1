"""Sequences, attention, indices, order, linear algebra and functions in every setting and every deployment."""

import random

import features
import pytest
import rank_programs
from features import differences
from ranks import run_ranks
from remotes import Office, Workers

import pysmpc as sy
from pysmpc.tensor.secret import SecretTensor

SETTINGS = {
    "default": sy.Protocol("default"),
    "nearest": sy.Protocol(rounding="nearest"),
    "fss": sy.Protocol("fss"),
    "fss, nearest": sy.Protocol("fss", rounding="nearest"),
    "snn": sy.Protocol("snn"),
    "mac": sy.Protocol(integrity="mac"),
    "mac, nearest": sy.Protocol(integrity="mac", rounding="nearest"),
    "32 bits": sy.Protocol(compare_bits=32),
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("setting", SETTINGS)
def test_in_one_process(setting):
    assert differences(sy.virtual("alice", "bob", protocol=SETTINGS[setting])) == {}


def test_of_three_holders():
    assert differences(sy.virtual("alice", "bob", "carol")) == {}


@pytest.mark.parametrize("setting", SETTINGS)
def test_at_workers(setting, tmp_path):
    with Workers(Office(tmp_path).folder) as workers, workers.connect(protocol=SETTINGS[setting]) as parties:
        assert differences(parties) == {}


@pytest.mark.parametrize("setting", SETTINGS)
def test_at_ranks(setting):
    seed = random.getrandbits(32)
    outcomes = run_ranks(3, rank_programs.features, ["alice", "bob"], SETTINGS[setting], seed, patience=1000)
    assert outcomes == [{}] * 3


def test_what_is_off_is_found(monkeypatch):
    def wrong(x):
        return x + isinstance(x, SecretTensor)

    monkeypatch.setattr(features, "FEATURES", {"wrong": features.call(wrong, (3,)), "right": features.FEATURES["exp"]})
    assert features.differences(sy.virtual("alice", "bob")).keys() == {"wrong"}
