"""An optimizer's operations make one row of several lists of tensors: lists that do not fit each other are refused."""

import pytest
import torch
from client import call, load, plain, ref, run
from verdicts import closed

from pysmpc.remote.program_messages import Call, Seq

SHAPE = [64, 4]
X, HERS = load(0, "x", SHAPE), ref(0, SHAPE)
ONE, SHORT, ANOTHER = ref(1, [4]), ref(1, [3]), ref(2, [4])
STRANGE = ref(1, [2, 2], 0, [1, 1])  # as many elements as there are, of which the last is none
FIT = ref(2, [2, 2])


def optimizer(name, *args, outs=0):
    """An operation of the library pysmpc."""
    given = [Seq(items=list(each)) if isinstance(each, list) else each for each in args]
    return Call(name=f"pysmpc.{name}.default", args=given, kwargs={}, outs=[10 + k for k in range(outs)])


LIES = {
    "fewer means": (optimizer("moments_", [ONE], [], [ONE, ANOTHER], 0.1, 0.1, False, 26), "for 2 parameters"),
    "fewer squares": (optimizer("moments_", [], [ONE], [ANOTHER, ANOTHER], 0.1, 0.1, False, 26), "for 2 parameters"),
    "no squares": (optimizer("descend_", [ONE], [ONE], [], [], 0.0, 0.0, -0.1, 0.0, 7), "for 1 parameters"),
    "fewer directions": (optimizer("step_", [ONE, ANOTHER], [ONE], -0.1, 0.0), "for 2 parameters"),
    "no parameters": (optimizer("squares", [[]][0], outs=0), "no secret among its arguments"),
    "a shorter mean": (optimizer("moments_", [SHORT], [], [ANOTHER], 0.1, 0.1, False, 26), "of shapes [3], [4]"),
    "her data beside less": (optimizer("together", [ONE], [HERS], 0.0, 1.0, outs=1), "of shapes [4], [64, 4]"),
    "less beside her data": (optimizer("together", [HERS], [ONE], 1.0, 1.0, outs=1), "of shapes [64, 4], [4]"),
    "another shape": (optimizer("largest_", [ref(1, [2, 2])], [ANOTHER], 26), "of shapes [2, 2], [4]"),
    "a strange window": (optimizer("moments_", [STRANGE], [], [FIT], 0.1, 0.1, False, 26), "of its own"),
    "a part": (optimizer("carry_", [ref(1, [2], 1)], [ref(2, [2])], 0.5), "of its own"),
    "a repeated element": (optimizer("norms_", [ref(1, [4], 0, [0])], [ANOTHER], 0.5), "of its own"),
    "public numbers": (optimizer("squares", [plain(torch.zeros(4)), ONE], outs=2), "no secret real number"),
    "no list": (optimizer("squares", ONE, outs=1), "list of secrets"),
    "many bits": (optimizer("largest_", [ONE], [ANOTHER], 1 << 40), "bits cannot be"),
    "fewer bits than none": (optimizer("largest_", [ONE], [ANOTHER], -1), "bits cannot be"),
    "no number": (optimizer("step_", [ONE], [ANOTHER], float("nan"), 0.0), "factor cannot be nan"),
    "no end": (optimizer("step_", [ONE], [ANOTHER], -0.1, float("inf")), "shrink cannot be inf"),
    "a list for a number": (optimizer("step_", [ONE], [ANOTHER], [ONE], 0.0), "factor is a public number"),
    "an argument more": (optimizer("squares", [ONE], 3, outs=1), "squares takes"),
    "terabytes": (optimizer("squares", [ref(1, [10**8], 0, [0])] * 1000, outs=1000), "limits.memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_lists_that_do_not_fit(scene, name):
    """Every party refuses, and says why; nothing has been computed, so no message went between them."""
    lie, says = LIES[name]

    def attack(client):
        client.tell(X)
        client.own(1, [4], 0.5)
        client.own(2, [4], 0.25)
        client.tell(lie)
        failed = client.wait()
        assert set(failed) == set(client.names), failed
        return {who: each.text for who, each in failed.items()}

    for text in run(scene.workers, attack).values():
        assert says in text


def test_what_fits_is_computed_and_stays_hers(scene, witness):
    """Her data, as gradients of the driver's parameters: the parameters are of both, and she lets neither be read."""

    def attack(client):
        client.tell(X)
        client.own(1, SHAPE)
        client.tell(optimizer("gradients", [HERS], [ref(1, SHAPE)], 0.0, False, 26, outs=1))
        client.tell(optimizer("step_", [ref(1, SHAPE)], [ref(10, SHAPE)], -1.0, 0.0))
        client.tell(call("alias.default", ref(1, SHAPE), out=2))
        return client.open(ref(2, SHAPE))

    closed(run(scene.workers, attack), -scene.x, "alice's rows, as a step")
    witness.names("scientist")
