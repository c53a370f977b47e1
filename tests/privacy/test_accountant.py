"""What steps spend: against formulas, against dp-accounting where it is installed, and against what cannot be."""

import math

import pytest

from pysmpc.privacy import Accountant, noise_multiplier_for
from pysmpc.privacy.loss_distribution import epsilon_of_steps

#: noise multiplier, sample rate, steps, delta; epsilon by the PLDAccountant and RdpAccountant of dp-accounting 0.6.0.
KNOWN = [
    (1.1, 256 / 60000, 2340, 1e-5, 0.9181855926585002, 1.098149585504958),
    (0.7, 0.01, 1000, 1e-5, 4.618291445333158, 5.423257444041017),
    (2.0, 0.2, 300, 1e-6, 10.329424184283386, 11.092867447709992),
    (5.0, 1.0, 20, 1e-5, 3.8486102850967567, 4.161624306053592),
    (0.5, 0.001, 100, 1e-5, 2.1086455696941737, 3.5981250152851576),
    (1.0, 0.5, 5, 1e-7, 9.418945652086716, 10.174751720799945),
]


def spent(method, noise, rate, steps, delta):
    accountant = Accountant(method)
    accountant.step(noise, rate, steps)
    return accountant.epsilon(delta)


@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "pld", "rdp"), KNOWN)
def test_known_values(noise, rate, steps, delta, pld, rdp):
    assert pld * 0.9999 <= spent("prv", noise, rate, steps, delta) <= pld * 1.01
    assert rdp * 0.99 <= spent("rdp", noise, rate, steps, delta) <= rdp * 1.01


def test_dp_accounting_agrees(rng):
    accounting = pytest.importorskip("dp_accounting")
    for _ in range(3):
        noise, rate = float(rng.uniform(0.6, 3)), float(10 ** rng.uniform(-3, -0.3))
        steps, delta = int(rng.integers(1, 1000)), 1e-5
        event = accounting.SelfComposedDpEvent(
            accounting.PoissonSampledDpEvent(rate, accounting.GaussianDpEvent(noise)), steps
        )
        oracle = accounting.pld.PLDAccountant(value_discretization_interval=1e-4).compose(event).get_epsilon(delta)
        found = spent("prv", noise, rate, steps, delta)
        assert oracle * 0.99 - 0.001 <= found <= oracle * 1.01 + 0.001


def test_without_sampling_the_gaussian_is_exact(rng):
    def above(x):
        return math.erfc(x / math.sqrt(2)) / 2

    delta = 1e-5
    # the last is far out, where a distribution function of absolute precision is 0
    drawn = zip(rng.uniform(1, 10, 20).tolist(), rng.integers(1, 50, 20).tolist(), strict=True)
    for noise, steps in (*drawn, (1.2, 25)):
        epsilon = spent("prv", noise, 1.0, steps, delta)
        shift = math.sqrt(steps) / noise
        reached = above(epsilon / shift - shift / 2) - math.exp(epsilon) * above(epsilon / shift + shift / 2)
        assert reached == pytest.approx(delta, rel=1e-6)
    # the grid comes to the same, from a rate that is all but 1
    assert spent("prv", noise, 1 - 1e-9, steps, delta) == pytest.approx(epsilon, rel=0.01)


def test_steps_of_different_noise_add_up(rng):
    noises, steps = rng.uniform(1, 3, 2), rng.integers(10, 200, 2)
    together = epsilon_of_steps({(float(a), 0.05): int(k) for a, k in zip(noises, steps, strict=True)}, 1e-5)
    all_of = [epsilon_of_steps({(float(a), 0.05): int(steps.sum())}, 1e-5) for a in noises]
    assert min(all_of) * 0.99 <= together <= max(all_of) * 1.01
    one = Accountant()
    for _ in range(3):
        one.step(2.0, 0.1)
    assert one.epsilon(1e-5) == spent("prv", 2.0, 0.1, 3, 1e-5)


def test_more_costs_more(rng):
    noise, rate, steps = float(rng.uniform(0.7, 2)), float(rng.uniform(0.01, 0.2)), int(rng.integers(5, 100))
    for method in ("prv", "rdp"):
        base = spent(method, noise, rate, steps, 1e-5)
        assert spent(method, noise, rate, 2 * steps, 1e-5) > base
        assert spent(method, noise * 1.2, rate, steps, 1e-5) < base
        assert spent(method, noise, min(1, rate * 1.5), steps, 1e-5) > base
        assert spent(method, noise, rate, steps, 1e-7) > base
    assert Accountant().epsilon(1e-5) == 0.0


@pytest.mark.parametrize(("rate", "method"), [(1.0, "prv"), (0.02, "prv"), (0.02, "rdp")])
def test_noise_for_a_budget(rate, method):
    noise = noise_multiplier_for(2.0, 1e-5, 50, rate, method)
    assert spent(method, noise, rate, 50, 1e-5) <= 2.0
    assert spent(method, noise * 0.99, rate, 50, 1e-5) > 2.0


def test_checkpoints():
    first, second = Accountant("rdp"), Accountant()
    first.step(1.5, 0.1, 7)
    first.step(2.0, 1.0)
    second.load_state_dict(first.state_dict())
    assert second.epsilon(1e-6) == first.epsilon(1e-6)
    assert second.steps == 8
    with pytest.raises(ValueError, match="noise multiplier"):
        second.load_state_dict({"method": "prv", "steps": [[0.0, 1.0, 1]]})
    assert second.steps == 8
    assert second.method == "rdp"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Accountant("moments"), "unknown accountant 'moments'"),
        (lambda: Accountant().step(0.0), "a noise multiplier is a positive number"),
        (lambda: Accountant().step(1.0, 1.5), "a sample rate is a probability"),
        (lambda: Accountant().step(1.0, 0.5, -1), "not given back"),
        (lambda: Accountant().epsilon(0.0), "delta is between 0 and 1"),
        (lambda: noise_multiplier_for(0.0, 1e-5, 10), "target epsilon is a positive number"),
        (lambda: noise_multiplier_for(float("nan"), 1e-5, 10), "target epsilon is a positive number"),
        (lambda: noise_multiplier_for(1.0, 1e-5, 0), "at least one step"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_steps_with_and_without_sampling_together():
    """A history may have both: a checkpoint of passes in an engine that draws."""
    exact, bound = Accountant(), Accountant("rdp")
    for each in (exact, bound):
        each.step(2.0, 1.0, 2)
        each.step(1.1, 0.01, 100)
    alone = Accountant()
    alone.step(2.0, 1.0, 2)
    assert alone.epsilon(1e-5) < exact.epsilon(1e-5) < bound.epsilon(1e-5)
