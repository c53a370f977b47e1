"""The client is understood: what is permitted is done, so that a refusal of an attack says something."""

import torch
from client import call, combined, load, ref, run


def test_a_value_of_the_drivers_own(scene):
    values = torch.randint(-1000, 1000, (3, 4)) << 16

    def program(client):
        client.input(0, values)
        client.tell(call("mul.Tensor", ref(0, [3, 4]), ref(0, [3, 4]), out=1))
        return client.open(ref(1, [3, 4]))

    found = combined(run(scene.workers, program), 1 << 32)
    assert torch.equal(found.reshape(3, 4), (values >> 16).double() ** 2)


def test_a_mean_that_alice_permits(scene):
    def program(client):
        client.tell(load(0, "x", [64, 4]), call("sum.default", ref(0, [64, 4]), out=1))
        return client.open(ref(1, []))

    found = combined(run(scene.workers, program, driver="erin"))
    assert torch.allclose(found, scene.x.sum().double(), atol=0.01)
