"""torch.optim on secret parameters, beside plain torch with the same gradients; what is refused, saved and counted."""

import copy
import importlib
import math

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc.errors import RangeError, SessionMismatchError

ULP = 2.0**-16
STEPS = 10


def gradients(low=-6, high=1, n=60):
    """Ten gradients of mixed magnitudes and signs, and some that are 0 always, as multiples of 2^-16."""
    size = 2.0 ** (low + (high - low) * torch.rand(n, dtype=torch.float64))
    found = size * (torch.randn(STEPS, n, dtype=torch.float64) + torch.randn(n, dtype=torch.float64)).clamp(-3, 3)
    found[:, :3] = 0
    return (found / ULP).round() * ULP


def trained(optimizer, p, grads):
    for grad in grads:
        optimizer.zero_grad()
        p.grad = grad
        optimizer.step()
    return p


def both(name, grads, parties=None, finer=1.0, **options):
    """(weights of secrets, of plain torch in float64, where they began) after the same gradients times `finer`."""
    parties = parties or sy.virtual("alice", "bob")
    start = (torch.rand(grads.shape[1], dtype=torch.float64) / ULP).round() * ULP
    plain = nn.Parameter(start.clone())
    trained(getattr(torch.optim, name)([plain], **options), plain, [g * finer for g in grads])
    secret = nn.Parameter(sy.encrypt(start.float(), parties))
    trained(
        getattr(torch.optim, name)([secret], **options),
        secret,
        [sy.encrypt(g.float(), parties) * finer for g in grads],
    )
    return sy.decrypt(secret.detach()).double(), plain.detach(), start


def check(found, wanted, start, steps=8, relative=2.0**-7):
    """Within some steps of the encoding, and a part of the ways that weights went: some came back."""
    way = (wanted - start).abs()
    bound = steps * ULP + relative * (way + way.max() / 8)
    assert bool(((found - wanted).abs() <= bound).all()), float(((found - wanted).abs() - bound).max())
    assert float((wanted - start).abs().max()) > 100 * ULP


CASES = [
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": torch.tensor(0.01), "betas": (0.8, 0.97)}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("Adam", {"lr": 0.01, "maximize": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "foreach": True}),
    ("Adam", {"lr": 0.01, "foreach": False, "eps": 1e-3}),
    ("Adam", {"lr": 0.01, "eps": 0.1}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.5, "amsgrad": True, "maximize": True}),
    ("NAdam", {"lr": 0.01}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.1}),
    ("RAdam", {"lr": 0.01}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("Adamax", {"lr": 0.01}),
    ("Adamax", {"lr": 0.01, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.01, "centered": True, "alpha": 0.9, "maximize": True}),
    ("Adagrad", {"lr": 0.05}),
    ("Adagrad", {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.125}),
    ("Adadelta", {}),
    ("Adadelta", {"rho": 0.95, "weight_decay": 0.1, "maximize": True}),
    ("Rprop", {"lr": 0.01}),
    ("Rprop", {"lr": 0.03, "etas": (0.25, 1.5), "step_sizes": (0.02, 0.05), "maximize": True}),
    ("SGD", {"lr": 0.01, "momentum": 0.9}),
    ("ASGD", {"lr": 0.01}),
]


def named(case):
    return "-".join([case[0], *(str(k) for k in case[1])])


@pytest.mark.parametrize("case", CASES, ids=named)
def test_beside_plain_torch(case):
    name, options = case
    check(*both(name, gradients(), **options))


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RMSprop", "Adamax", "Adagrad"])
def test_gradients_of_a_hundred_thousandth(name):
    """What is far below a step of the parameters: the gradients are products that nobody has truncated yet."""
    sizes = 0.5 + torch.rand(STEPS, 60, dtype=torch.float64) / 2
    grads = ((sizes * torch.randn(STEPS, 60).sign()) / ULP).round() * ULP
    check(*both(name, grads, finer=2.0**-15, lr=0.01), steps=32, relative=2.0**-5)


@pytest.mark.parametrize("holders", [2, 3])
def test_large_gradients(holders):
    parties = sy.virtual(*["alice", "bob", "charlie"][:holders])
    check(*both("Adam", gradients(2, 3), parties, lr=0.01))


@pytest.mark.parametrize("options", [{"protocol": "fss"}, {"protocol": "snn"}, {"rounding": "nearest"}], ids=str)
@pytest.mark.parametrize("name", ["Adam", "Rprop", "RMSprop"])
def test_every_protocol(options, name):
    more = {"centered": True, "momentum": 0.5} if name == "RMSprop" else {}
    check(*both(name, gradients()[:4], sy.virtual("alice", "bob", **options), lr=0.01, **more))


def test_under_codes():
    check(*both("Adam", gradients(n=12)[:3], sy.virtual("alice", "bob", integrity="mac"), lr=0.01), relative=2.0**-6)


def test_decimals():
    start = torch.tensor([0.5, -0.25, 1.0])
    parties = sy.virtual("alice", "bob")
    p = nn.Parameter(sy.encrypt(start, parties, precision_fractional=4))
    optimizer = torch.optim.Adam([p], lr=0.01)
    for _ in range(3):
        p.grad = sy.encrypt(torch.tensor([1.0, -0.5, 0.25]), parties, precision_fractional=4)
        optimizer.step()
    wanted = start - 0.03 * torch.tensor([1.0, -1.0, 1.0])
    assert float((sy.decrypt(p.detach()) - wanted).abs().max()) < 4e-4


# --- eps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [0.0, 1e-10, 1e-8, 3e-8, 1e-7, 1e-5, 1e-2, 1.0])
def test_eps_acts(eps):
    """One step from a second moment of every size, down to some steps of its encoding."""
    parties = sy.virtual("alice", "bob")
    v = 2.0 ** torch.linspace(-44, 2, 200, dtype=torch.float64)
    m = (v.sqrt() * (2 * torch.rand(200, dtype=torch.float64) - 1)).clamp(-16, 16)
    secret = nn.Parameter(sy.encrypt(torch.zeros(200), parties))
    zero = sy.encrypt(torch.zeros(200), parties)
    optimizer = torch.optim.Adam([secret], lr=0.5, betas=(0.5, 0.75), eps=eps)
    secret.grad = zero
    optimizer.step()
    state = optimizer.state[secret]
    for key, value, bits in (("exp_avg", m, 36), ("exp_avg_sq", v, 52)):
        session = secret.session
        words = (value * 2.0**bits).round().to(torch.int64)
        share = session.suite.share(session.party, words, words.shape, 1 << bits)
        state[key].cell.replace(share.body, 1 << bits)
    secret.grad = zero
    optimizer.step()
    quotient = (m / 2 / (1 - 0.25)) / ((0.75 * v / (1 - 0.75**2)).sqrt() + eps)
    found = sy.decrypt(secret.detach()).double() / -0.5
    steps = 0.75 * v * 2.0**52
    bound = 4 * ULP + (2.0**-7 + 2 / steps) * quotient.abs() + 2.0**-12
    assert bool(((found - quotient).abs() <= bound).all()), float(((found - quotient).abs() - bound).max())


def test_zero_by_zero_is_zero():
    parties = sy.virtual("alice", "bob")
    for name in ("Adam", "RMSprop", "Adagrad", "Adamax", "NAdam", "Rprop"):
        p = nn.Parameter(sy.encrypt(torch.ones(4), parties))
        optimizer = getattr(torch.optim, name)([p], lr=0.1)
        p.grad = sy.encrypt(torch.zeros(4), parties)
        optimizer.step()
        # averages round at random: now and then a quotient is a step of a parameter, and never more
        assert (sy.decrypt(p.detach()) - 1).abs().max() <= 2**-16


def test_a_public_parameter_with_a_secret_gradient_is_found_before_secret_ones_are_stepped():
    parties = sy.virtual("alice", "bob")
    secret, public = sy.encrypt(nn.Linear(2, 2), parties), nn.Linear(2, 1)
    optimizer = torch.optim.Adam([*secret.parameters(), *public.parameters()])
    before = [sy.decrypt(p.detach()) for p in secret.parameters()]
    public(secret(torch.ones(1, 2))).sum().backward()
    with pytest.raises(TypeError, match=r"gradients of a public model.*encrypt the model"):
        optimizer.step()
    assert all(torch.equal(sy.decrypt(p.detach()), v) for p, v in zip(secret.parameters(), before, strict=True))
    assert all(optimizer.state[p]["step"] == 0 for p in secret.parameters())


# --- cost -----------------------------------------------------------------------------------


def cost_of_a_step(name, n, **options):
    parties = sy.virtual("alice", "bob")
    p = nn.Parameter(sy.encrypt(torch.ones(n), parties))
    optimizer = getattr(torch.optim, name)([p], **options)
    for _ in range(2):
        p.grad = sy.encrypt(torch.ones(n), parties) * 2.0**-20  # finer than 26 bits
        before = parties.stats.copy()
        optimizer.step()
        p.cell.body  # noqa: B018  (the update)
    found = parties.stats - before
    return found.rounds, found.sent / n / 2, found.dealt / n


def test_cost():
    """At most 400 bytes dealt a parameter; the rounds do not depend on how many there are."""
    rounds, sent, dealt = cost_of_a_step("Adam", 4096, lr=0.001)
    assert rounds == 19
    assert sent <= 126
    assert dealt <= 400
    assert cost_of_a_step("AdamW", 4096, lr=0.001)[2] <= 400
    assert cost_of_a_step("RMSprop", 4096, lr=0.001)[2] <= 400
    assert cost_of_a_step("Adagrad", 4096, lr=0.001)[2] <= 400


def test_many_parameters_take_the_rounds_of_one():
    parties = sy.virtual("alice", "bob")
    rounds = []
    for count in (1, 5):
        parameters = [nn.Parameter(sy.encrypt(torch.ones(3, 2 + i), parties)) for i in range(count)]
        optimizer = torch.optim.Adam(parameters, lr=0.01)
        for p in parameters:
            p.grad = sy.encrypt(torch.ones(p.shape), parties)
        before = parties.stats.copy()
        optimizer.step()
        parameters[0].cell.body  # noqa: B018
        rounds.append((parties.stats - before).rounds)
    assert rounds[0] == rounds[1]


# --- state ----------------------------------------------------------------------------------


def test_state_is_secret_and_fine():
    parties = sy.virtual("alice", "bob")
    model = sy.encrypt(nn.Linear(3, 2), parties)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, amsgrad=True)
    model(sy.encrypt(torch.randn(4, 3), parties)).square().sum().backward()
    grad = sy.decrypt(model.weight.grad)
    optimizer.step()
    state = optimizer.state[model.weight]
    assert type(state["step"]) is torch.Tensor
    assert float(state["step"]) == 1
    assert [state[k].cell.unit.digits for k in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")] == [36, 52, 52]
    assert torch.allclose(sy.decrypt(state["exp_avg"]), grad * 0.1, atol=2.0**-25)
    assert torch.allclose(sy.decrypt(state["exp_avg_sq"]), grad**2 * 0.001, atol=2.0**-30, rtol=1e-4)
    assert torch.equal(sy.decrypt(state["max_exp_avg_sq"]), sy.decrypt(state["exp_avg_sq"]))


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RMSprop", "Adamax", "Adagrad", "Adadelta", "Rprop"])
def test_a_state_dict_goes_on_where_another_was(name):
    grads, parties = gradients(), sy.virtual("alice", "bob")
    p = nn.Parameter(sy.encrypt(torch.ones(grads.shape[1]), parties))
    optimizer = getattr(torch.optim, name)([p], lr=0.01)
    trained(optimizer, p, [sy.encrypt(g.float(), parties) for g in grads[:5]])
    other = copy.deepcopy(p)
    again = getattr(torch.optim, name)([other], lr=0.5)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for key, value in optimizer.state[p].items():
        if isinstance(value, sy.SecretTensor):
            copied = again.state[other][key]
            assert copied.cell.unit == value.cell.unit
            assert copied.cell.scale == value.cell.scale
            assert torch.equal(copied.window().words(), value.window().words())
    for mine, parameter in ((optimizer, p), (again, other)):
        trained(mine, parameter, [sy.encrypt(g.float(), parties) for g in grads[5:]])
    gap = (sy.decrypt(p.detach()) - sy.decrypt(other.detach())).abs()
    assert float(gap.max()) <= 16 * ULP


def test_parameters_that_begin_later():
    """Steps are counted for each parameter, and each has the correction of its own count."""
    parties = sy.virtual("alice", "bob")
    grad = torch.tensor([1.0, -2.0])
    ends = []
    for hide in (lambda x: x, lambda x: sy.encrypt(x, parties)):
        first, second = (nn.Parameter(hide(torch.zeros(2))) for _ in range(2))
        optimizer = torch.optim.Adam([first, second], lr=0.1)
        for i in range(3):
            first.grad = hide(grad)
            second.grad = hide(grad * 0.5) if i else None
            optimizer.step()
        ends.append([first.detach(), second.detach()])
    for mine, theirs in zip(ends[1], ends[0], strict=True):
        assert torch.allclose(sy.decrypt(mine), theirs, atol=0.002)


def test_plain_and_secret_parameters_of_one_optimizer():
    parties = sy.virtual("alice", "bob")
    plain, secret = nn.Parameter(torch.zeros(2)), nn.Parameter(sy.encrypt(torch.zeros(2), parties))
    optimizer = torch.optim.Adam([plain, secret], lr=0.1)
    plain.grad, secret.grad = torch.tensor([1.0, -1.0]), sy.encrypt(torch.tensor([1.0, -1.0]), parties)
    optimizer.step()
    assert torch.allclose(plain.detach(), torch.tensor([-0.1, 0.1]))
    assert torch.allclose(sy.decrypt(secret.detach()), torch.tensor([-0.1, 0.1]), atol=1e-3)


def test_columns_first():
    """Parameters whose elements are not in row-major order."""
    parties = sy.virtual("alice", "bob")
    values = torch.randn(3, 4)
    p = nn.Parameter(sy.encrypt(values, parties).t())
    optimizer = torch.optim.Adam([p], lr=0.1)
    p.grad = sy.encrypt(values, parties).t()
    optimizer.step()
    assert torch.allclose(sy.decrypt(p.detach()), values.t() - 0.1 * values.t().sign(), atol=1e-3)
    assert torch.allclose(sy.decrypt(optimizer.state[p]["exp_avg"]), 0.1 * values.t(), atol=1e-4)


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("LBFGS", {}),
        ("SparseAdam", {}),
        ("Adafactor", {}),
        ("Muon", {}),
        ("Adam", {"capturable": True}),
        ("Adam", {"differentiable": True}),
        ("Adagrad", {"differentiable": True}),
    ],
)
def test_refused_by_name(name, options):
    parties = sy.virtual("alice", "bob")
    p = nn.Parameter(sy.encrypt(torch.ones(2, 2), parties))
    optimizer = getattr(torch.optim, name)([p], **options)
    p.grad = sy.encrypt(torch.ones(2, 2), parties)
    with pytest.raises(NotImplementedError, match=next(iter(options), name)):
        optimizer.step(lambda: torch.zeros(()))
    assert torch.equal(sy.decrypt(p.detach()), torch.ones(2, 2))
    assert not any(float(each["step"]) for each in optimizer.state.values() if each)


def test_unbounded_betas():
    parties = sy.virtual("alice", "bob")
    p = nn.Parameter(sy.encrypt(torch.ones(2), parties))
    p.grad = sy.encrypt(torch.ones(2), parties)
    with pytest.raises(ValueError, match="beta1"):
        torch.optim.Adam([p], betas=(0.9, 0.5)).step()
    with pytest.raises(ValueError, match="beta2"):
        torch.optim.Adam([p], betas=(0.9, 0.99999)).step()
    assert torch.equal(sy.decrypt(p.detach()), torch.ones(2))


@pytest.mark.parametrize(("name", "large"), [("Adam", 33.0), ("RMSprop", 100.0), ("Adamax", 40.0), ("Adagrad", 600.0)])
def test_gradients_without_room(name, large):
    parties = sy.virtual("alice", "bob")
    p = nn.Parameter(sy.encrypt(torch.ones(2), parties))
    optimizer = getattr(torch.optim, name)([p], lr=0.1)
    p.grad = sy.encrypt(torch.tensor([large, 1.0]), parties)
    with pytest.raises(RangeError, match="clip gradients"):
        optimizer.step()
    assert torch.equal(sy.decrypt(p.detach()), torch.ones(2))
    assert float(optimizer.state[p]["step"]) == 0


def test_secret_gradients_of_public_parameters():
    p = nn.Parameter(torch.ones(2))
    secret = sy.encrypt(torch.ones(2), sy.virtual("alice", "bob"))
    adam = importlib.import_module("torch.optim.adam").adam
    with pytest.raises(TypeError, match="encrypt the model"):
        adam(
            [p], [secret], [torch.zeros(2)], [torch.zeros(2)], [], [torch.tensor(0.0)], amsgrad=False, beta1=0.9,
            beta2=0.999, lr=0.1, weight_decay=0, eps=1e-8, maximize=False,
        )  # fmt: skip


def test_gradients_of_other_parties():
    p = nn.Parameter(sy.encrypt(torch.ones(2), sy.virtual("alice", "bob")))
    p.grad = sy.encrypt(torch.ones(2), sy.virtual("carol", "dave"))
    with pytest.raises(SessionMismatchError):
        torch.optim.Adam([p]).step()


def test_plain_torch_is_as_it_was():
    for name in ("Adam", "RMSprop", "Adagrad"):
        p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, dtype=torch.float64))
        for each in (p, q):
            each.grad = torch.tensor([1.0, -2.0, 0.0]).to(each.dtype)
            getattr(torch.optim, name)([each], lr=0.1).step()
        assert torch.allclose(p.double(), q, atol=1e-6)


# --- what goes with optimizers ------------------------------------------------------------------


def model_of(parties, seed_model):
    return sy.encrypt(copy.deepcopy(seed_model), parties)


@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("norm", [2.0, 1.0, math.inf])
def test_clip_grad_norm(foreach, norm):
    parties = sy.virtual("alice", "bob")
    grads = [torch.randn(3, 2), torch.randn(4)]
    plain = [nn.Parameter(torch.zeros(g.shape)) for g in grads]
    secret = [nn.Parameter(sy.encrypt(torch.zeros(g.shape), parties)) for g in grads]
    for p, q, g in zip(plain, secret, grads, strict=True):
        p.grad, q.grad = g.clone(), sy.encrypt(g, parties)
    wanted = nn.utils.clip_grad_norm_(plain, 0.5, norm, foreach=foreach)
    found = nn.utils.clip_grad_norm_(secret, 0.5, norm, foreach=foreach)
    assert torch.allclose(sy.decrypt(found), wanted, atol=1e-3)
    for p, q in zip(plain, secret, strict=True):
        assert torch.allclose(sy.decrypt(q.grad), p.grad, atol=1e-3)


@pytest.mark.parametrize("foreach", [None, True, False])
def test_clip_grad_value(foreach):
    parties = sy.virtual("alice", "bob")
    p = nn.Parameter(sy.encrypt(torch.zeros(4), parties))
    p.grad = sy.encrypt(torch.tensor([-2.0, -0.25, 0.25, 2.0]), parties)
    nn.utils.clip_grad_value_([p], 0.5, foreach=foreach)
    assert sy.decrypt(p.grad).tolist() == [-0.5, -0.25, 0.25, 0.5]


def test_a_norm_is_not_asked_whether_it_is_finite():
    """Nobody can know without looking, and no secret is infinite or NaN."""
    parties = sy.virtual("alice", "bob")
    p = nn.Parameter(sy.encrypt(torch.zeros(2), parties))
    p.grad = sy.encrypt(torch.tensor([3.0, 4.0]), parties)
    found = nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert float(sy.decrypt(found)) == pytest.approx(5, abs=1e-3)
    assert torch.allclose(sy.decrypt(p.grad), torch.tensor([0.6, 0.8]), atol=1e-3)


SCHEDULERS = [
    lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
    lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 5),
    lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.0001, total_iters=3),
    lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.05, total_steps=6, cycle_momentum=True),
    lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: min(1.0, k / 3)),
    lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0),
]


@pytest.mark.parametrize("make", SCHEDULERS)
def test_schedulers(make):
    parties, grads = sy.virtual("alice", "bob"), gradients(n=8)[:5]
    ends = []
    for hide in (lambda x: x, lambda x: sy.encrypt(x, parties)):
        p = nn.Parameter(hide(torch.ones(8)))
        optimizer = torch.optim.Adam([p], lr=0.02)
        scheduler = make(optimizer)
        for g in grads:
            p.grad = hide(g.float())
            optimizer.step()
            scheduler.step(1.0) if "Plateau" in type(scheduler).__name__ else scheduler.step()
        ends.append(p.detach())
    assert torch.allclose(sy.decrypt(ends[1]), ends[0], atol=1e-3)


@pytest.mark.parametrize("average", ["swa", "ema"])
def test_averaged_models(average):
    parties = sy.virtual("alice", "bob")
    start = nn.Linear(3, 2)
    options = {"multi_avg_fn": torch.optim.swa_utils.get_ema_multi_avg_fn(0.75)} if average == "ema" else {}
    x, y = torch.randn(6, 3), torch.randn(6, 2)
    ends = []
    for hide, model in (
        (lambda t: t, copy.deepcopy(start)),
        (lambda t: sy.encrypt(t, parties), model_of(parties, start)),
    ):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        averaged = torch.optim.swa_utils.AveragedModel(model, **options)
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(hide(x)), hide(y)).backward()
            optimizer.step()
            averaged.update_parameters(model)
        ends.append([p.detach() for p in averaged.parameters()])
    for mine, theirs in zip(ends[1], ends[0], strict=True):
        assert torch.allclose(sy.decrypt(mine), theirs, atol=2e-3)


def test_recorded_steps_are_told_their_corrections():
    """A step of Adam has other numbers each time: its corrections of the moments."""
    parties = sy.virtual("alice", "bob")
    start, x, y = nn.Linear(3, 2), torch.randn(6, 3), torch.randn(6, 2)
    plain, secret = copy.deepcopy(start), model_of(parties, start)
    theirs, mine = (torch.optim.Adam(m.parameters(), lr=0.02) for m in (plain, secret))
    step = sy.TrainStep(secret, mine, nn.functional.mse_loss)
    hx, hy = sy.encrypt(x, parties), sy.encrypt(y, parties)
    for _ in range(7):
        theirs.zero_grad()
        nn.functional.mse_loss(plain(x), y).backward()
        theirs.step()
        step(hx, hy)
    assert step.repeats, step.reason
    for p, q in zip(secret.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(sy.decrypt(p.detach()), q.detach(), atol=2e-3)
