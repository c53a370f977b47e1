"""What a driver with the right to compute sees of errors says nothing of alice's values."""

import pytest
import torch
from client import load, plain, run


def outcome(scene, driver="scientist", **options):
    """What the driver sees of one request: who failed, and of what kind."""

    def attack(client):
        client.tell(load(0, **options))
        return {name: (each.kind, each.text) for name, each in client.wait().items()}

    return run(scene.workers, attack, driver=driver)


def fails(scene, **options):
    return bool(outcome(scene, **options))


def index(row):
    """The step that takes one row."""
    return "rows", plain(torch.tensor([row]))


def test_a_range_check_as_an_oracle(scene, witness):
    """Binary search for one element: a factor that takes it out of range ends the session, another does not.

    At 16 fractional bits values end at 2^46: x * f is out of range for |x| >= 2^46 / f.
    """
    low, high, bound = 0.0, 1.0, 2.0**46
    steps = lambda guess: [index(7), ("cut", 0, 1, None), ("scale", bound / guess, 0.0)]  # noqa: E731
    if fails(scene, data="x", shape=[1, 4], steps=steps(1e-9)) == fails(
        scene, data="x", shape=[1, 4], steps=steps(1e9)
    ):
        return
    for _ in range(10):
        middle = (low + high) / 2
        if fails(scene, data="x", shape=[1, 4], steps=steps(middle)):
            low = middle
        else:
            high = middle
    largest = float(scene.x[7].abs().max())
    if abs(largest - (low + high) / 2) < 2e-3:
        pytest.fail(f"read max |x[7]| = {(low + high) / 2:.3f} (it is {largest:.3f}) from which of 12 sessions failed")


def test_labels_by_one_hot(scene, witness):
    """`one_hot` with fewer classes than the label says so."""
    found = []
    for row in range(3):
        failures = [
            classes
            for classes in range(1, 11)
            if fails(scene, data="labels", shape=[1, classes], steps=[index(row), ("one_hot", classes)])
        ]
        found.append(max(failures, default=0))
    if found == scene.labels[:3].tolist() and any(found):
        pytest.fail(f"read alice's labels {found} from which classes were refused")


def test_flags_by_an_infinity(scene, witness):
    """A factor of 1e76 makes infinity of 1 and leaves 0."""
    found = []
    for row in range(6):
        steps = [index(row), ("scale", 1e38, 0.0), ("scale", 1e38, 0.0)]
        found.append(float(fails(scene, data="flags", shape=[1, 1], steps=steps)))
    if found == scene.flags[:6, 0].tolist() and len(set(found)) == 2:
        pytest.fail(f"read alice's flags {found} from which rows were refused")


STEPS = [
    ("none", "labels", [64, 1], [("one_hot", 1)]),
    ("none", "labels", [64, 4], [("one_hot", 4)]),
    ("zeros", "x", [64, 4], [("scale", 1e38, 0.0), ("scale", 1e38, 0.0)]),
    ("zeros", "x", [64, 4], [("divide", 0.0)]),
    ("zeros", "x", [64, 4], [("divide", 1e-30)]),
    ("zeros", "x", [64, 4], [("scale", 1e20, 0.0), ("long",)]),
]


@pytest.mark.parametrize(
    ("nothing", "data", "shape", "steps"), STEPS, ids=lambda each: str(each) if isinstance(each, str) else ""
)
def test_errors_are_those_of_other_values(scene, witness, nothing, data, shape, steps):
    """What a driver is told of alice's values is what it is told of zeros."""
    said = []
    for name in (nothing, data):
        digits = 0 if steps[-1] == ("long",) else 16
        found = outcome(scene, data=name, shape=shape, steps=steps, digits=digits)
        said.append({who: text.replace(name, "DATA") for who, (kind, text) in found.items() if "Channel" not in kind})
    if said[0] != said[1] and {*said[0]} | {*said[1]}:
        pytest.fail(f"read that the values are not all zero: {said[1]}, and of zeros {said[0]}")
