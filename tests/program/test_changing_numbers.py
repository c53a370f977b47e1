"""Numbers that are others in each step: what follows from them is made anew for each run."""

import random

import pytest
import torch
from op_checks import plain
from torch import nn

import pysmpc as sy
from pysmpc import _ring
from pysmpc.errors import EncodingError, RangeError
from pysmpc.mpc.additive.truncation import divisor
from pysmpc.program.changing import CHANGING
from pysmpc.program.loop import LOOPS, following
from pysmpc.ring import told, z2k
from pysmpc.tensor.secret import HANDLERS


@pytest.fixture(autouse=True)
def loops():
    """They begin anew in each test."""
    with following() as found:
        yield found


# --- what follows from numbers ----------------------------------------------------------


def test_what_follows_is_made_again():
    book = told.Numbers()
    a, b = book.number(0.5), book.number(2.0)
    form, [product, quotient] = told.follow(lambda x, y: (x > 0, (int(8 * x * y), int(8 * y / x))), a, b)
    _, [doubled] = told.follow(lambda x: (None, (2 * x,)), product)
    table = told.tensor([1, product, doubled])
    book.end()
    assert (form, product, quotient, doubled, book.refused) == (True, 8, 32, 16, None)
    assert book.take([0.25, 4.0])
    assert (told.now(product), told.now(quotient), told.now(doubled)) == (8, 128, 16)
    assert book.take([1.0, 3.0])
    assert (told.now(product), told.now(doubled), table.tolist()) == (24, 48, [1, 24, 48])
    assert product == 8  # to whoever reads it as an integer it is what it was
    assert not book.take([-1.0, 3.0])  # another form
    assert not book.take([0.0, 1.0])  # what a function cannot be made of
    assert book.take([0.5, 2.0])
    assert table.tolist() == [1, 8, 16]
    with pytest.raises(ValueError, match="shorter"):
        book.take([1.0])


def test_without_numbers_nothing_is_kept():
    form, found = told.follow(lambda x: ("any", (round(x),)), 2.4)
    assert (form, found, type(found[0])) == ("any", (2,), int)
    assert told.tensor([3, 4]).tolist() == [3, 4]


def test_a_number_that_nothing_follows_from_is_refused():
    book = told.Numbers()
    used, _ = book.number(1.0), book.number(2.0)
    told.follow(lambda x: (None, ()), used)
    book.end()
    assert "does not say what follows" in book.refused


def test_each_operation_that_may_have_other_numbers_is_one_of_ours():
    for func, names in CHANGING.items():
        assert func in HANDLERS
        floats = {a.name for a in func._schema.arguments if str(a.type) in ("float", "number", "Scalar")}
        assert names <= floats, func


# --- kernels ------------------------------------------------------------------------------


def test_kernels_are_given_what_a_number_is_now():
    book = told.Numbers()
    number = book.number(3.0)
    _, [factor] = told.follow(lambda x: (None, (-int(x),)), number)
    x = torch.randint(-(2**62), 2**62, (9,))
    out = torch.empty_like(x)
    calls = z2k.Launches([(_ring.scale, (x, factor, out, 9))], 0, 16)
    for value in (3.0, 5.0, 2.0**62):
        assert book.take([value])
        calls.run(0, ())
        expected = torch.tensor([z2k.wrap(int(v) * -int(value)) for v in x])
        assert torch.equal(out, expected)
        out.zero_()
        z2k.launch(_ring.scale, x, factor, out, 9)
        assert torch.equal(out, expected)


def test_a_divisor_becomes_another():
    book = told.Numbers()
    _, [by] = told.follow(lambda x: (None, (int(x),)), book.number(1000.0))
    mine = divisor(by)
    assert divisor(1000) is divisor(1000)
    assert mine is not divisor(1000)
    assert book.take([7777.0])
    assert (mine.value, mine.offset) == (7777, divisor(7777).offset)
    assert (divisor(1000).value, divisor(1000).offset) == (1000, 2**62 // 1000 * 1000)
    assert not book.take([2.0**20])  # of which less is dealt
    assert not book.take([1.0])  # none
    assert book.take([1001.0])


def test_a_check_goes_by_what_a_number_is_now():
    parties = sy.virtual("a", "b")
    x = sy.encrypt(torch.full((2,), 2.0**20), parties)
    checks, book = x.session.checks, told.Numbers()
    _, [factor] = told.follow(lambda value: (None, (int(value),)), book.number(3.0))
    check = checks.update(2, (x.window(), x.window(), factor, 1 << 16))
    operands = checks.operand(x.window()), checks.operand(x.window())
    check(*operands)
    assert book.take([2.0**44])
    with pytest.raises(RangeError):
        check(*operands)
    assert book.take([5.0])
    check(*operands)


# --- loops ----------------------------------------------------------------------------------


def trained(parties, rates, make=torch.optim.SGD, **options):
    """(weights, how often a step was repeated, counts) of a regression whose rate is another in each step."""
    torch.manual_seed(7)
    model = sy.encrypt(nn.Linear(5, 3), parties, frac_bits=20)
    x, y = (sy.encrypt(torch.rand(4, n), parties, frac_bits=20) for n in (5, 3))
    optimizer, repeats = make(model.parameters(), lr=0.1, **options), 0
    before = parties.stats.copy()
    LOOPS.begin_anew()
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        ((model(x) - y) ** 2).mean().backward()
        optimizer.step()
        assert parties.stats.rounds
        repeats += LOOPS.repeats
    return [plain(p.detach()) for p in model.parameters()], repeats, parties.stats - before


def check(rates, least, **options):
    found, repeats, cost = trained(sy.virtual("a", "b"), rates, **options)
    wanted, never, eager = trained(sy.virtual("a", "b", eager=True), rates, **options)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2**-12)
    assert cost == eager
    assert repeats >= least
    assert not never


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}, {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01}])
def test_any_rate_of_each_step(options):
    """Those that are of another form (nothing, a power of two, the other sign, tiny) are written out, or recorded."""
    strange = [0.0, -0.05, 1e-9, 2.0**-4, 1e-5, 0.3]
    rates = [random.uniform(0.01, 0.1) for _ in range(7)]
    for each in random.sample(strange, 3):
        rates += [each, *(random.uniform(0.01, 0.1) for _ in range(3))]
    check(rates, 3, **options)


def test_a_rate_that_falls_by_itself():
    """Through several binades: what it is made of has the same form in all of them."""
    check([0.2 * 0.8**i for i in range(16)], 11)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (torch.optim.AdamW, {"eps": 1e-3, "weight_decay": 0.1}),
        (torch.optim.NAdam, {"eps": 1e-3}),
        (torch.optim.Adagrad, {"eps": 1e-3}),
    ],
    ids=["AdamW", "NAdam", "Adagrad"],
)
def test_optimizers_with_a_schedule(make, options):
    check([0.02 * (1 + i) / 10 for i in range(9)], 4, make=make, **options)


@pytest.mark.parametrize("setting", [{"rounding": "nearest"}, {"protocol": "fss"}, {"protocol": "snn"}], ids=str)
def test_other_settings_repeat_or_say_why_not(setting):
    rates = [0.1 - i / 100 for i in range(8)]
    found, repeats, _ = trained(sy.virtual("a", "b", **setting), rates)
    reason = LOOPS.reason
    wanted, _, _ = trained(sy.virtual("a", "b", eager=True, **setting), rates)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2**-12)
    assert repeats or "a public number changes" in reason


def test_numbers_of_other_operations_are_written_out():
    parties = sy.virtual("a", "b")
    weight = sy.encrypt(torch.ones(4), parties).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for i in range(8):
        optimizer.zero_grad()
        (weight * (1 + i / 8)).sum().backward()
        optimizer.step()
        assert parties.stats.rounds
        assert not LOOPS.repeats
    expected = 1 - 0.1 * sum(1 + i / 8 for i in range(8))
    torch.testing.assert_close(plain(weight.detach()), torch.full((4,), expected).double(), rtol=0, atol=2**-12)


def test_a_step_too_large_is_found_at_its_line_in_a_repeated_step():
    parties = sy.virtual("a", "b")
    weight = sy.encrypt(torch.ones(4), parties).requires_grad_()
    x, optimizer = sy.encrypt(torch.full((4,), 3.0), parties), torch.optim.SGD([weight], lr=0.1)

    def turn(rate):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()
        return parties.stats.rounds

    for i in range(6):
        turn(0.1 + i / 100)
    assert LOOPS.repeats
    before = plain(weight.detach())
    for rate, error in ((2.0**46, EncodingError), (6e13, RangeError), (6e13, RangeError)):
        with pytest.raises(error):
            turn(rate)
        assert torch.equal(plain(weight.detach()), before)
    turn(0.25)
    torch.testing.assert_close(plain(weight.detach()), before - 0.75, rtol=0, atol=2**-14)


@pytest.mark.parametrize("steps", [2, 7], ids=["first noted", "repeated"])
@pytest.mark.parametrize("rate", [float("nan"), float("inf")])
def test_a_rate_that_is_no_number_raises_at_its_line(steps, rate):
    parties = sy.virtual("a", "b")
    model = sy.encrypt(nn.Linear(5, 3), parties)
    x, y = (sy.encrypt(torch.rand(4, n), parties) for n in (5, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        ((model(x) - y) ** 2).mean().backward()
        optimizer.step()
    before = [plain(p.detach()) for p in model.parameters()]
    ((model(x) - y) ** 2).mean().backward()
    optimizer.param_groups[0]["lr"] = rate
    with pytest.raises(EncodingError, match="cannot be encoded"):
        optimizer.step()
    assert all(map(torch.equal, before, [plain(p.detach()) for p in model.parameters()]))


def test_a_number_whose_form_changes_in_each_step_is_written_out():
    """Recording such steps would cost more than they do."""
    parties = sy.virtual("a", "b")
    recorded, repeats = 0, 0
    model = sy.encrypt(nn.Linear(5, 3), parties)
    x, y = (sy.encrypt(torch.rand(4, n), parties) for n in (5, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    LOOPS.begin_anew()
    for i in range(40):
        optimizer.param_groups[0]["lr"] = 0.0 if i % 2 else 0.1
        optimizer.zero_grad()
        ((model(x) - y) ** 2).mean().backward()
        optimizer.step()
        assert parties.stats.rounds
        recorded += LOOPS.reason == "the loop is being recorded"
        repeats += LOOPS.repeats
    assert recorded <= 12
    assert "changes too often" in LOOPS.reason or recorded


def test_a_step_that_ends_early_after_a_number_has_changed():
    """What was recorded with the number of before is not run any more."""
    weights = []
    for eager in (False, True):
        torch.manual_seed(5)
        parties = sy.virtual("a", "b", eager=eager)
        first, second, x = (sy.encrypt(torch.rand(4), parties, frac_bits=20) for _ in range(3))
        optimizer = torch.optim.SGD([first.requires_grad_(), second.requires_grad_()], lr=0.1)
        repeats = []
        for i in range(14):
            optimizer.param_groups[0]["lr"] = 0.1 if i < 6 else 0.07
            optimizer.zero_grad()
            (((first + second) * x).sum() ** 2).backward()
            if i == 6:
                second.grad = None
            optimizer.step()
            assert parties.stats.rounds
            repeats.append(LOOPS.repeats)
        weights.append([plain(p.detach()) for p in (first, second)])
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2**-14)


def test_numbers_of_a_step_that_was_left_are_those_of_its_operations():
    """An update with a new rate is followed, and then something else comes."""
    weights = []
    for eager in (False, True):
        torch.manual_seed(6)
        parties = sy.virtual("a", "b", eager=eager)
        model = sy.encrypt(nn.Linear(5, 3), parties, frac_bits=20)
        x = sy.encrypt(torch.rand(4, 5), parties, frac_bits=20)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        step = sy.TrainStep(model, optimizer, lambda out, _: (out**2).mean())
        handles = []
        for i in range(14):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + i // 5)
            if i == 5:  # the first step with another rate

                def more(*_, weight=model.weight):
                    with torch.no_grad():
                        weight.mul_(0.5)

                handles = [optimizer.register_step_post_hook(more)]
            elif i == 6:
                handles[0].remove()
            step(x, x)
        weights.append([plain(p.detach()) for p in model.parameters()])
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2**-14)
