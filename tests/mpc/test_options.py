"""`sy.Protocol`: what may be asked for, what comes of it, and that every deployment takes it."""

import inspect
import itertools

import pytest
import torch

import pysmpc as sy
from pysmpc.compat.pysyft import verbs
from pysmpc.mpc.options import Protocol, protocol_of
from pysmpc.mpc.suite import authenticated_default, default, suites
from pysmpc.mpc.variants import variant_named
from pysmpc.remote.driver.connect import connect

SETTINGS = ("rounding", "protocol", "integrity", "compare_bits")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"name": "fsss"}, ValueError, "unknown protocol 'fsss'; there are 'default', 'fss', 'snn'"),
        ({"name": ["fss"]}, TypeError, r"protocol is the name of a protocol.*sy\.Protocol"),
        ({"rounding": "near"}, ValueError, "rounding is 'probabilistic'"),
        ({"integrity": True}, ValueError, "integrity is None"),
        ({"compare_bits": 1}, ValueError, "compare_bits is a number of bits from 2 to 64, not 1"),
        ({"compare_bits": True}, ValueError, "compare_bits is a number of bits"),
        ({"compare_bits": 8.0}, ValueError, "compare_bits is a number of bits"),
        ({"name": "snn", "integrity": "mac"}, NotImplementedError, "integrity='mac' is for the default protocol"),
        ({"name": "fss", "compare_bits": 8}, NotImplementedError, "compare_bits is for the default protocol"),
        ({"integrity": "mac", "compare_bits": 8}, NotImplementedError, "compare_bits is for the default protocol"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_made(settings, error, message):
    with pytest.raises(error, match=message):
        Protocol(**settings)


def test_a_setting_beside_a_protocol_is_refused():
    with pytest.raises(TypeError, match=r"rounding= is given beside protocol=sy\.Protocol"):
        sy.virtual("a", "b", protocol=sy.Protocol("fss"), rounding="nearest")
    assert protocol_of(Protocol("fss")) == Protocol("fss")
    assert protocol_of("fss", "nearest") == Protocol("fss", "nearest")


def test_none_leaves_what_there_is():
    for name, rounding, bits in itertools.product(suites, (None, "probabilistic", "nearest"), (None, 24)):
        if name != "default" and bits:
            continue
        present = Protocol(name, rounding, None, bits).of(default)
        assert Protocol().of(present) is present
    assert Protocol().of(authenticated_default) is authenticated_default


def test_settings_may_be_asked_for_one_by_one_in_any_order():
    settings = {"rounding": "nearest", "compare_bits": 24}
    wanted = Protocol(**settings).of(default)
    for order in itertools.permutations(settings):
        suite = default
        for name in order:
            suite = Protocol(**{name: settings[name]}).of(suite)
        assert suite is wanted
        assert variant_named(suite.name) is suite
    assert wanted.exact_rounding
    assert wanted.narrow.relu.opens == wanted.narrow.whole.relu.opens


def test_settings_may_be_taken_back():
    wanted = Protocol(rounding="nearest", compare_bits=24).of(default)
    assert Protocol(compare_bits=64).of(wanted) is Protocol(rounding="nearest").of(default)
    assert Protocol(rounding="probabilistic").of(wanted) is Protocol(compare_bits=24).of(default)
    assert Protocol(compare_bits=40).of(wanted) is Protocol(rounding="nearest", compare_bits=40).of(default)
    assert Protocol("default").of(wanted) is default


def test_comparisons_of_few_bits_round_as_was_asked(rng):
    """A ReLU of bounded values, asked for after them, to the nearest step each time."""
    values = torch.from_numpy(rng.normal(size=500) * 3).float()
    x = sy.encrypt(values, sy.virtual("a", "b", compare_bits=40), rounding="nearest")
    steps = torch.round(values.double() * (1 << 16)).clamp(min=0)
    found = sy.decrypt((x * 0.25).relu()).double() * (1 << 16)
    assert torch.equal(found, torch.floor(steps / 4 + 0.5))


def test_every_deployment_takes_them():
    for function in (sy.virtual, sy.distributed, sy.encrypt, connect, verbs.share):
        found = inspect.signature(function).parameters
        assert set(SETTINGS) <= set(found), function
        assert all(found[name].default is None for name in SETTINGS)
        assert "Protocol" in str(found["protocol"].annotation)
    parties = sy.virtual("a", "b", protocol=sy.Protocol("fss", rounding="nearest"))
    assert parties.session.suite.name == "fss, nearest"
    assert sy.encrypt(torch.ones(2), parties, protocol=Protocol("snn")).session.suite.name == "snn"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"frac_bits": "16"}, "frac_bits is a whole number, not '16'"),
        ({"frac_bits": True}, "frac_bits is a whole number"),
        ({"precision_fractional": 2.0}, "precision_fractional is a whole number"),
        ({"base": 7}, "base=7 is that of precision_fractional, which is not given"),
        ({"frac_bits": 40}, "digits=40 is not usable"),
        ({"frac_bits": 4, "precision_fractional": 2}, "not both"),
    ],
)
def test_an_encoding_is_checked_before_anything_is_shared(keywords, message):
    parties = sy.virtual("a", "b")
    with pytest.raises(sy.EncodingError, match=message):
        sy.encrypt(torch.ones(3), parties, **keywords)
    assert parties.stats.shared == 0
