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


def test_zeros_by_a_division(scene, witness):
    """0 / 0 is no number, x / 0 is infinite: what is said of one must not differ from what is said of the other."""
    said = set()
    zero = int((scene.holes == 0).any(1).nonzero()[0])
    other = int((scene.holes != 0).all(1).nonzero()[0]) if bool((scene.holes != 0).all(1).any()) else None
    if other is None:
        pytest.skip("every row has a hole this time")
    for row in (zero, other):
        # 1e38 * 1e38 is infinite for what is not zero
        steps = [index(row), ("scale", 1e38, 0.0), ("scale", 1e38, 0.0), ("scale", 0.0, 0.0)]
        said.add(str(sorted(outcome(scene, data="holes", shape=[1, 4], steps=steps).items())))
    if len(said) > 1:
        pytest.fail(f"read whether row {other} has a zero: {said}")


def test_texts_carry_no_values(scene, witness):
    """Errors of steps say what the driver sent, and nothing that was found."""
    for steps in ([("one_hot", 1)], [("scale", 1e60, 0.0)], [("divide", 0.0)]):
        data = "labels" if steps[0][0] == "one_hot" else "x"
        shape = [64, 1] if data == "labels" else [64, 4]
        for kind, text in outcome(scene, data=data, shape=shape, steps=steps).values():
            if kind in ("ChannelError", "PeerLost"):
                continue
            pytest.fail(f"read from an error that depends on alice's values: {kind}: {text}")
