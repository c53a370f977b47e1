"""Captured loops: what they compute, what is no loop at an owner, and the rule that all rows are treated alike."""

import contextlib
import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import RoundError
from pysmpc.federated import FedAvg, Loop, loops, scatter
from pysmpc.federated.loops import loop_operations, loop_program, loop_rows
from pysmpc.federated.loops.loop_program import Checked
from pysmpc.remote.program_messages import Dtype, LoopProgram, Plain, Ref, Seq, Step, Use
from pysmpc.remote.worker.drivers_loops import delta_of

ROWS = 8
MEMORY = 1 << 24


def steps(optimizer, loss, count=2):
    """A loop of so many steps."""

    def local(model, data, target):
        own = optimizer(model.parameters())
        for _ in range(count):
            own.zero_grad()
            loss(model(data), target).backward()
            own.step()

    return local


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01, eps=1e-2)


def squares(a, b):
    return ((a - b) ** 2).sum()


def images():
    return torch.randn(ROWS, 1, 8, 8), torch.randint(0, 3, (ROWS,))


def vectors():
    return torch.randn(ROWS, 4), torch.randint(0, 3, (ROWS,))


CONV = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 3))
NORM = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3))
CASES = {
    "linear": (nn.Linear(4, 3), sgd, squares, lambda: (torch.randn(ROWS, 4), torch.randn(ROWS, 3))),
    "classes": (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU()), sgd, F.cross_entropy, vectors),
    "adam": (nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), adam, F.cross_entropy, vectors),
    "images": (nn.Sequential(*CONV), sgd, F.cross_entropy, images),
    "norms": (nn.Sequential(*NORM), sgd, F.cross_entropy, images),
    "words": (
        nn.Sequential(nn.Embedding(5, 6), nn.Flatten(), nn.Linear(12, 3)), sgd, F.binary_cross_entropy_with_logits,
        lambda: (torch.randint(0, 5, (ROWS, 2)), torch.rand(ROWS, 3)),
    ),
}  # fmt: skip


def reals(model):
    return {name: value for name, value in model.state_dict().items() if value.is_floating_point()}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A loop, its function, a maker of models and one of batches."""
    model, optimizer, loss, batch = CASES[request.param]
    function = steps(optimizer, loss)
    captured = Loop("x", function, model, *batch(), shuffle=False)

    def fresh():
        own = copy.deepcopy(model)
        with torch.no_grad():
            for p in own.parameters():
                p.copy_(torch.randn_like(p) * 0.3)
        return own

    return captured, function, fresh, batch


def test_as_torch_computes_it(case):
    captured, function, fresh, batch = case
    here = fresh()
    there, given = copy.deepcopy(here), batch()
    captured(here, *given)
    function(there, *given)
    for name, value in reals(here).items():
        torch.testing.assert_close(value, reals(there)[name], atol=2e-5, rtol=1e-3)


def test_rows_are_treated_alike(case):
    """What the rule says of a program, on values: an order of rows is worth nothing to it."""
    captured, _, fresh, batch = case
    loop_rows.check(captured._checked)
    here, given, order = fresh(), batch(), torch.randperm(ROWS)
    there = copy.deepcopy(here)
    captured(here, *given)
    captured(there, *(each[order] for each in given))
    for name, value in reals(here).items():
        torch.testing.assert_close(value, reals(there)[name], atol=2e-4, rtol=1e-2)


def becomes(rule):
    """A loop whose model becomes what a rule makes of the rows."""

    def local(model, data, target):
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(p * 0 + rule(data))

    return local


APART = {
    "an element": lambda d: d[0, 0],
    "the first row, others zero": lambda d: (d * torch.eye(ROWS)[0][:, None]).sum(),
    "a part of the rows": lambda d: d[:4].sum(),
    "a weighted sum": lambda d: (d * torch.arange(float(ROWS))[:, None]).sum(),
    "a product with a mask": lambda d: (torch.eye(ROWS)[2:3] @ d).sum(),
    "a product with a mask on the right": lambda d: (d.t() @ torch.eye(ROWS)[:, 2:3]).sum(),
    "a view": lambda d: d.reshape(ROWS // 2, 8)[0].sum(),
    "a largest row": lambda d: d.amax(0).sum(),
    "rows beside each other": lambda d: (d @ d.t())[0].sum(),
    "a row by its place": lambda d: d.gather(0, torch.zeros(1, 4, dtype=torch.int64)).sum(),
    "zeros beside ones": lambda d: (d * F.pad(torch.ones(1, 1), (0, 0, 0, ROWS - 1))).sum(),
    "zeros after ones": lambda d: (d * torch.cat([torch.ones(1, 1), torch.zeros(ROWS - 1, 1)])).sum(),
    "rows as channels": lambda d: F.conv1d(d, torch.eye(ROWS)[:1, :, None]).sum(),
    "a cumulated sum of another order": lambda d: torch.cat([d, d])[0].sum(),
    "rows shifted": lambda d: (d * torch.cat([d[1:], d[:1]])).sum(),
}


@pytest.mark.parametrize("name", APART)
def test_programs_that_tell_rows_apart(name):
    captured = Loop("x", becomes(APART[name]), nn.Linear(4, 3), *vectors(), shuffle=False)
    with pytest.raises(RoundError, match=r"step \d+ of the loop, aten.*without noise"):
        loop_rows.check(captured._checked)
    data, target = vectors()
    found = []
    for order in (torch.arange(ROWS), torch.tensor([5, 1, 7, 3, 4, 0, 6, 2])):
        model = nn.Linear(4, 3)
        captured(model, data[order], target[order])
        found.append(model.weight.detach()[0, 0])
    assert (name == "a largest row") == torch.allclose(*found, rtol=1e-5, atol=1e-5)


def test_rows_that_are_left_in_the_model():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.p = nn.Parameter(torch.zeros(ROWS, 4))

    def local(model, data, target):
        with torch.no_grad():
            model.p.copy_(data)

    captured = Loop("x", local, Rows(), *vectors())
    with pytest.raises(RoundError, match="leaves single rows in the model"):
        loop_rows.check(captured._checked)


# --- programs that a driver wrote by hand -------------------------------------------


def program(*made, results, shapes=((ROWS, 4),), dtypes=("float32",)):
    """Of a model that is one [4] tensor, place 0; the batch is place 1, and steps follow."""
    return LoopProgram([list(each) for each in shapes], list(dtypes), list(made), list(results))


def checked(*made, **facts):
    return Checked(program(*made, **facts), [((4,), torch.float32)], MEMORY)


def call(name, *args, **kwargs):
    return Step(f"aten.{name}", list(args), kwargs)


SUM = call("sum.dim_IntList", Use(1), Seq([0]))


def test_a_program_by_hand():
    found = checked(SUM, results=[Use(2)])
    loop_rows.check(found)
    data = torch.randn(ROWS, 4)
    assert torch.equal(found.once([torch.zeros(4)], [data], lambda: False, [])[0], data.sum(0))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ([call("set_.source_Storage", Use(0), Use(1))], "no operation of a loop"),
        ([call("from_file.default", "/etc/passwd")], "no operation of a loop"),
        ([call("empty.memory_format", Seq([4]))], "no operation of a loop"),
        ([call("as_strided.default", Use(0), Seq([1 << 40]), Seq([1]))], "no operation of a loop"),
        ([call("add_.Tensor", Use(0), Use(0))], "no operation of a loop"),
        ([Step("os.system", ["true"], {})], "no operation of a loop"),
        ([call("full.default", Seq([1 << 40]), 0.0)], r"are allowed \(memory\)"),
        ([call("full.default", Seq([1 << 62, 1 << 62]), 0.0)], "step 0"),
        ([call("mm.default", Use(0), Use(1))], "step 0 of the loop, aten.mm.default"),
        ([call("add.Tensor", Use(0), Use(9))], "place 9"),
        ([call("add.Tensor", Use(0), Use(-1))], "place -1"),
        ([call("add.Tensor", Use(0), Use(2))], "place 2"),
        ([call("add.Tensor", Use(0, 1), Use(0))], "has no result 1"),
        ([call("add.Tensor", Use(0), Ref(0, [4], [1], 0, "float32"))], "no arguments of kind Ref"),
        ([call("add.Tensor", Use(0), Plain("float32", [4], [4], None))], "a constant of a loop is small"),
        ([call("add.Tensor", Use(0), Plain("float32", [4], [4], b"123"))], "do not fit its shape"),
        ([call("full.default", Seq([4]), 0.0, device="meta")], "no keyword device"),
        ([call("clone.default", Use(0), out=Use(1))], "no keyword out"),
        ([call("sum.dim_IntList", Use(1), Seq([1]))], "is the model again"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0].name,
)
def test_what_is_no_loop_at_an_owner(made, reason):
    with pytest.raises(RoundError, match=reason):
        checked(*made, results=[Use(2)])


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"shapes": []}, "one tensor or more"),
        ({"shapes": [[]]}, "one tensor or more"),
        ({"shapes": [[0, 4]]}, "one tensor or more"),
        ({"dtypes": ["float32", "int64"]}, "one tensor or more"),
        ({"dtypes": ["complex64"]}, "no dtype of a loop"),
        ({"shapes": [[4, 4], [5]], "dtypes": ["float32", "int64"]}, "different numbers of rows"),
        ({"results": [Use(7)]}, "place 7"),
        ({"results": []}, "is the model again"),
        ({"shapes": [[4, -1]]}, "no such shapes"),
    ],
)
def test_programs_that_are_none(facts, reason):
    with pytest.raises(RoundError, match=reason):
        checked(SUM, **{"results": [Use(2)], **facts})


SIZES = [Seq([2, 2]), Seq([2, 2]), Seq([0, 0]), Seq([1, 1]), False]


def test_indices_that_a_driver_made_up():
    """A kernel writes where they say: only those of the pooling itself are taken."""
    pooling = call("max_pool2d_with_indices.default", Use(1), *SIZES[:2])
    ones = call("full.default", Seq([ROWS, 1, 2, 2]), 1.0)
    own = call("full.default", Seq([ROWS, 1, 2, 2]), 1 << 40, dtype=Dtype("int64"))
    other = call("neg.default", Use(1))
    honest = [Use(3), Use(1), *SIZES, Use(2, 1)]
    checks = {"shapes": [(ROWS, 1, 4, 4)], "results": [Use(0)]}

    def backward(*args):
        return checked(pooling, ones, own, other, call("max_pool2d_with_indices_backward.default", *args), **checks)

    backward(*honest)
    lies = [(7, Use(4)), (7, Use(2)), (7, Use(2, 0)), (1, Use(5)), (2, Seq([1, 1])), (3, Seq([1, 1])), (4, Seq([1, 1]))]
    for place, value in lies:
        args = list(honest)
        args[place] = value
        with pytest.raises(RoundError, match=r"step 4 of the loop, aten.max_pool2d_with_indices_backward"):
            backward(*args)


def test_convolutions_that_do_not_fit():
    shape = {"shapes": [(ROWS, 1, 4, 4)], "results": [Use(0)]}
    weight = call("full.default", Seq([2, 1, 3, 3]), 1.0)
    sizes = [Seq([1, 1]), Seq([0, 0]), Seq([1, 1]), False, Seq([0, 0]), 1]

    def backward(gradient, sizes, mask=(True, True, True)):
        args = [Use(3), Use(1), Use(2), Seq([2]), *sizes, Seq(list(mask))]
        made = call("full.default", Seq(list(gradient)), 1.0)
        return checked(weight, made, call("convolution_backward.default", *args), **shape)

    backward((ROWS, 2, 2, 2), sizes)
    for gradient in [(ROWS, 2, 4, 4), (ROWS + 1, 2, 2, 2), (ROWS, 1, 2, 2), (1 << 20, 2, 1, 1)]:
        with pytest.raises(RoundError, match="convolution_backward"):
            backward(gradient, sizes)
    for place, value in [(0, Seq([0, 1])), (0, Seq([-1, 1])), (1, Seq([-1, 0])), (2, Seq([0, 0])), (5, 0), (5, -1)]:
        wrong = list(sizes)
        wrong[place] = value
        with pytest.raises(RoundError, match="whole numbers"):
            backward((ROWS, 2, 2, 2), wrong)


@pytest.mark.parametrize(
    "made",
    [
        [call("sum.dim_IntList", Use(1), 1), call("mul.Scalar", Use(2), 1.0)],
        [call("index_put.default", Use(0), Seq([None]), Use(1), True)],
        [call("conv_transpose.default", Use(1))],
        [call("slice_scatter.default", Use(1), Use(1), 0)],
    ],
    ids=["a number for dimensions", "an index of nothing", "another operation", "a part of the rows"],
)
def test_arguments_in_forms_that_nobody_traces(made):
    """Whatever torch takes, the rule takes no rows for summed that are not."""
    shape = {"shapes": [(4, 4)]}
    with pytest.raises(RoundError):
        loop_rows.check(checked(*made, results=[Use(1 + len(made))], **shape))


def test_rows_as_channels_by_hand():
    """Of one item that is not batched: shapes alone let it pass."""
    weight = call("full.default", Seq([1, 4, 1, 1]), 1.0)
    once = [Seq([1, 1]), Seq([0, 0]), Seq([1, 1]), False, Seq([0, 0]), 1]
    made = [weight, call("convolution.default", Use(1), Use(2), None, *once)]
    found = checked(*made, results=[Use(0)], shapes=[(ROWS, 4, 4)])
    with pytest.raises(RoundError, match="rows are channels; without noise"):
        loop_rows.check(found)


def test_indices_are_checked_by_torch():
    """Of those operations that take indices from values, each raises for one that is out of range."""
    x, table = torch.zeros(3, 4), torch.zeros(3, 4)
    for bad in (1 << 40, -(1 << 40), 5, -6):
        index = torch.full((3, 4), bad)
        run = loop_operations.OPERATIONS
        with pytest.raises((RuntimeError, IndexError)):
            run["aten.gather.default"](x, 1, index)
        with pytest.raises((RuntimeError, IndexError)):
            run["aten.scatter.value"](x, 1, index, 1.0)
        with pytest.raises((RuntimeError, IndexError)):
            run["aten.scatter.src"](x, 1, index, x)
        with pytest.raises((RuntimeError, IndexError)):
            run["aten.scatter_add.default"](x, 1, index, x)
        with pytest.raises((RuntimeError, IndexError)):
            run["aten.scatter_add.default"](table, 0, torch.full((3, 1), bad).expand(3, 4), x)
        with pytest.raises((RuntimeError, IndexError)):
            run["aten.embedding.default"](table, index)
        with pytest.raises((RuntimeError, IndexError)):
            run["aten.index_put.default"](table, [index[:, 0]], x, True)


def test_a_step_that_fails_shortens_nothing(monkeypatch):
    """All steps are computed, whatever the labels are, and then it is told: the time would say as much."""
    made = (
        call("gather.default", Use(0), 0, Use(1)),
        call("add.Tensor", Use(0), Use(2)),
        call("mul.Tensor", Use(3), 2.0),
    )
    loop = checked(*made, results=[Use(4)], shapes=((4,),), dtypes=("int64",))
    counted, outcomes = [], []
    apply = loop_program.apply
    monkeypatch.setattr(loop_program, "apply", lambda step, *rest: counted.append(step.name) or apply(step, *rest))
    for bad in (0, 7):
        counted.clear()
        labels = torch.tensor([0, 1, bad, 3] * 3)
        with contextlib.nullcontext() if not bad else pytest.raises((RuntimeError, IndexError), match="index"):
            loop.repeat({"w": torch.randn(4)}, [labels], 2, False, lambda: False)
        outcomes.append(list(counted))
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) == 2 * 3 * len(made)


# --- capturing ----------------------------------------------------------------------


def test_what_is_captured():
    def branches(model, data, target):
        if float(model(data).sum()) > 0:
            steps(sgd, F.cross_entropy)(model, data, target)

    with pytest.raises(RuntimeError, match="branches on a value"):
        Loop("x", branches, nn.Linear(4, 3), *vectors())
    drops = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    with pytest.raises(NotImplementedError, match=r"owners do not run aten.bernoulli.p in a loop"):
        Loop("x", steps(sgd, F.cross_entropy), drops, *vectors())


def test_virtual_workers_run_it():
    hook = sy.TorchHook(torch)
    try:
        workers = [sy.VirtualWorker(hook, id=f"loop{i}") for i in range(3)]
        data, targets = torch.randn(72, 4), torch.randint(0, 3, (72,))
        scatter(data, targets, workers)
        model = nn.Linear(4, 3)
        expected = copy.deepcopy(model)
        task = Loop("x", steps(sgd, F.cross_entropy), model, *vectors(), shuffle=False)
        fed = sy.Federation(workers, FedAvg(), task=task)
        states = []
        for worker in workers:
            own = copy.deepcopy(expected)
            x, y = fed.clients.data(worker.id)
            for start in range(0, 24, ROWS):
                steps(sgd, F.cross_entropy)(own, x[start : start + ROWS], y[start : start + ROWS])
            states.append(own.state_dict())
        fed.fit(model)
        for name, value in model.state_dict().items():
            mean = torch.stack([state[name] for state in states]).mean(0)
            torch.testing.assert_close(value, mean, atol=1e-5, rtol=1e-4)
    finally:
        hook.unhook()


# --- the budget ---------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [[0.8], [2.0, 2.0, 2.0], [1.5, 4.0, 30.0], [10.0] * 50])
def test_what_rounds_tell(rounds):
    """Beside the accountant, which composes loss distributions, and is 0.4 % above at most."""
    accountant = sy.privacy.Accountant()
    for z in rounds:
        accountant.step(z)
    epsilon, spent = accountant.epsilon(1e-5), math.fsum(z**-2 for z in rounds)
    assert delta_of(epsilon, spent) <= 1e-5 * (1 + 1e-6)
    assert delta_of(epsilon * 0.985, spent) > 1e-5


def test_every_operation_of_the_table_is_one_of_torch():
    assert loops.Loop is Loop
    for name, operation in loop_operations.OPERATIONS.items():
        assert name == str(operation) or name == "aten.view.default"
        written = [
            each for each in operation._schema.arguments if each.alias_info is not None and each.alias_info.is_write
        ]
        assert not written
