"""The arithmetic of each optimizer's step, for secret parameters of one session.

A rule takes what torch's function of the same name takes, and does the same with operations that keep moments at fine
scales (`pysmpc.ops.optimizer_steps`).  Learning rates, steps and all other settings are public, as in torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from pysmpc.mpc.functions.moments import BOUND, GRADIENT, SQUARE
from pysmpc.ops.core import session_of
from pysmpc.ops.optimizer_steps import (
    carry_,
    deltas,
    descend_,
    gradients,
    largest_,
    moments_,
    norms_,
    over_root,
    rprop_,
    squares,
    step_,
    together,
)
from pysmpc.tensor.secret import SecretTensor

RULES: dict[str, Callable[..., None]] = {}
List = list[Any]

PLAIN = 1 << 10  # how much finer than a parameter a gradient that is a plain tensor is taken
SUM_BITS = 22  # of a gradient whose squares are summed without end


def rule(function: Callable[..., None]) -> Callable[..., None]:
    """The rule for torch's function of that name."""
    RULES[function.__name__] = function
    return function


# --- what rules have in common ---------------------------------------------------------


def number(value: Any, name: str) -> float:
    """A setting, which may be a public tensor."""
    if isinstance(value, SecretTensor):
        raise TypeError(f"{name} of an optimizer is public; open a secret one by name, sy.decrypt({name})")
    return float(value)


def _of_session(p: Any, g: Any) -> Any:
    """The gradient as a secret of the parameter's session, in which one that everybody knows is not yet."""
    if not isinstance(g, SecretTensor):
        return (torch.zeros_like(p) + g * PLAIN) / PLAIN
    return g if g.session is session_of(p, g) else torch.zeros_like(p) + g


def by_step(params: List, grads: List, steps: List, *states: List) -> Iterator[tuple[float, List, List, list[List]]]:
    """Yield (number of the step, parameters, gradients, states) of those which have made as many, then count it.

    A step that raises is not counted.
    """
    found: dict[float, list[int]] = {}
    grads = [_of_session(p, g) for p, g in zip(params, grads, strict=True)]
    for i, each in enumerate(steps):
        found.setdefault(float(each) + 1, []).append(i)
    for step, places in found.items():

        def part(values: List, places: list[int] = places) -> List:
            return [values[i] for i in places] if values else []

        yield step, part(params), part(grads), [part(values) for values in states]
        for i in places:
            steps[i] += 1


def decays(decoupled: bool, weight_decay: float, lr: float) -> tuple[float, float]:
    """(What of a parameter is added to its gradient, what of it a step takes away)."""
    return (0.0, lr * weight_decay) if decoupled else (weight_decay, 0.0)


def check_decays(name: str, mean: float, square: float) -> None:
    """ValueError where a mean of gradients may be any number of times the root of a mean of their squares."""
    if mean * mean >= square:
        raise ValueError(
            f"{name} on secret parameters needs beta1^2 < beta2, not {mean:g} and {square:g}: otherwise its steps have "
            "no bound"
        )
    most = (1 - mean) / math.sqrt((1 - square) * (1 - mean * mean / square))
    if most >= 1 << BOUND or 1 / math.sqrt(1 - square) >= 1 << BOUND:
        raise ValueError(f"{name} on secret parameters needs a beta2 of at most 0.9999, not {square:g}")


# --- Adam and kin ------------------------------------------------------------------------


@rule
def adam(
    params: List,
    grads: List,
    exp_avgs: List,
    exp_avg_sqs: List,
    max_exp_avg_sqs: List,
    state_steps: List,
    decoupled_weight_decay: bool,
    amsgrad: bool,
    beta1: Any,
    beta2: Any,
    lr: Any,
    weight_decay: float,
    eps: float,
    maximize: bool,
    **others: Any,
) -> None:
    """Adam and, with decoupled weight decay, AdamW: p -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)."""
    lr, beta1, beta2 = number(lr, "lr"), number(beta1, "beta1"), number(beta2, "beta2")
    decay, shrink = decays(decoupled_weight_decay, weight_decay, lr)
    check_decays("Adam", beta1, beta2)
    for t, p, g, (m, v, largest) in by_step(params, grads, state_steps, exp_avgs, exp_avg_sqs, max_exp_avg_sqs):
        root = math.sqrt(1 - beta2**t)
        fine = gradients(g, p, decay, maximize, GRADIENT)
        moments_(m, v, fine, 1 - beta1, 1 - beta2, False, GRADIENT)
        if amsgrad:
            largest_(largest, v, SQUARE)
        descend_(p, m, largest if amsgrad else v, [], eps * root, 0.0, -lr * root / (1 - beta1**t), shrink, BOUND)


@rule
def nadam(
    params: List,
    grads: List,
    exp_avgs: List,
    exp_avg_sqs: List,
    mu_products: List,
    state_steps: List,
    decoupled_weight_decay: bool,
    maximize: bool,
    beta1: float,
    beta2: float,
    lr: float,
    weight_decay: float,
    momentum_decay: float,
    eps: float,
    **others: Any,
) -> None:
    """NAdam: Adam whose numerator is a sum of the gradient and its mean, weighted by the next step's momentum."""
    lr = number(lr, "lr")
    decay, shrink = decays(decoupled_weight_decay, weight_decay, lr)
    check_decays("NAdam", beta1, beta2)
    found = by_step(params, grads, state_steps, exp_avgs, exp_avg_sqs, mu_products)
    for t, p, g, (m, v, products) in found:
        now, after = (beta1 * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
        product = float(products[0]) * now
        root = math.sqrt(1 - beta2**t)
        fine = gradients(g, p, decay, maximize, GRADIENT)
        moments_(m, v, fine, 1 - beta1, 1 - beta2, False, GRADIENT)
        top = together(fine, m, (1 - now) / (1 - product), after / (1 - product * after))
        descend_(p, top, v, [], eps * root, 0.0, -lr * root, shrink, BOUND)
        for each in products:
            each *= now


@rule
def radam(
    params: List,
    grads: List,
    exp_avgs: List,
    exp_avg_sqs: List,
    state_steps: List,
    decoupled_weight_decay: bool,
    maximize: bool,
    beta1: float,
    beta2: float,
    lr: float,
    weight_decay: float,
    eps: float,
    **others: Any,
) -> None:
    """RAdam: steps by the mean alone until the mean of squares says enough, and rectified ones from then on."""
    lr = number(lr, "lr")
    decay, shrink = decays(decoupled_weight_decay, weight_decay, lr)
    check_decays("RAdam", beta1, beta2)
    longest = 2 / (1 - beta2) - 1
    for t, p, g, (m, v) in by_step(params, grads, state_steps, exp_avgs, exp_avg_sqs):
        fine = gradients(g, p, decay, maximize, GRADIENT)
        moments_(m, v, fine, 1 - beta1, 1 - beta2, False, GRADIENT)
        rest = 1 - beta2**t
        length = longest - 2 * t * beta2**t / rest
        rate = -lr / (1 - beta1**t)
        if length > 5:
            rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            descend_(p, m, v, [], eps, 0.0, rate * math.sqrt(rest * rectified), shrink, BOUND)
        else:
            step_(p, m, rate, shrink)


@rule
def adamax(
    params: List,
    grads: List,
    exp_avgs: List,
    exp_infs: List,
    state_steps: List,
    maximize: bool,
    eps: float,
    beta1: float,
    beta2: float,
    lr: float,
    weight_decay: float,
    **others: Any,
) -> None:
    """Adamax: p -= lr m / (1 - beta1^t) / (u + eps) with u = max(beta2 u, |g|).

    Torch adds eps to each |g|: the two denominators are at most eps apart.
    """
    lr = number(lr, "lr")
    check_decays("Adamax", beta1, beta2)
    for t, p, g, (m, u) in by_step(params, grads, state_steps, exp_avgs, exp_infs):
        fine = gradients(g, p, weight_decay, maximize, GRADIENT)
        moments_(m, [], fine, 1 - beta1, 0.0, False, GRADIENT)
        norms_(u, fine, beta2)
        descend_(p, m, squares(u), [], eps, 0.0, -lr / (1 - beta1**t), 0.0, BOUND)


# --- others ------------------------------------------------------------------------------


@rule
def rmsprop(
    params: List,
    grads: List,
    square_avgs: List,
    grad_avgs: List,
    momentum_buffer_list: List,
    state_steps: List,
    maximize: bool,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    **others: Any,
) -> None:
    """RMSprop: p -= lr g / (sqrt(v) + eps), v less the square of the mean gradient where centered; with momentum."""
    lr = number(lr, "lr")
    check_decays("RMSprop", 0.0, alpha)
    bound = BOUND + 3 if centered else BOUND
    found = by_step(params, grads, state_steps, square_avgs, grad_avgs, momentum_buffer_list)
    for _, p, g, (v, means, buffers) in found:
        fine = gradients(g, p, weight_decay, maximize, GRADIENT)
        moments_(means if centered else [], v, fine, 1 - alpha, 1 - alpha, False, GRADIENT)
        centers = means if centered else []
        if momentum > 0:
            carry_(buffers, over_root(fine, v, centers, eps, 0.0, bound), momentum)
            step_(p, buffers, -lr, 0.0)
        else:
            descend_(p, fine, v, centers, eps, 0.0, -lr, 0.0, bound)


@rule
def adagrad(
    params: List,
    grads: List,
    state_sums: List,
    state_steps: List,
    has_sparse_grad: bool,
    lr: float,
    weight_decay: float,
    lr_decay: float,
    eps: float,
    maximize: bool,
    **others: Any,
) -> None:
    """Adagrad: p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(sum of squares) + eps)."""
    lr = number(lr, "lr")
    for t, p, g, (sums,) in by_step(params, grads, state_steps, state_sums):
        fine = gradients(g, p, weight_decay, maximize, SUM_BITS)
        moments_([], sums, fine, 0.0, 1.0, True, SUM_BITS)
        descend_(p, fine, sums, [], eps, 0.0, -lr / (1 + (t - 1) * lr_decay), 0.0, BOUND)


@rule
def adadelta(
    params: List,
    grads: List,
    square_avgs: List,
    acc_deltas: List,
    state_steps: List,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
    **others: Any,
) -> None:
    """Adadelta: p -= lr d with d = g sqrt(mean of d^2 + eps) / sqrt(mean of g^2 + eps)."""
    lr = number(lr, "lr")
    check_decays("Adadelta", 0.0, rho)
    for _, p, g, (v, accumulated) in by_step(params, grads, state_steps, square_avgs, acc_deltas):
        fine = gradients(g, p, weight_decay, maximize, GRADIENT)
        moments_([], v, fine, 0.0, 1 - rho, False, GRADIENT)
        d = deltas(fine, v, accumulated, eps)
        moments_([], accumulated, d, 0.0, 1 - rho, False, GRADIENT)
        step_(p, d, -lr, 0.0)


@rule
def rprop(
    params: List,
    grads: List,
    prevs: List,
    step_sizes: List,
    state_steps: List,
    maximize: bool,
    step_size_min: float,
    step_size_max: float,
    etaminus: float,
    etaplus: float,
    **others: Any,
) -> None:
    """Rprop: p -= sign(g) s, where s grows while the sign stays and shrinks when it changes."""
    for _, p, g, (before, sizes) in by_step(params, grads, state_steps, prevs, step_sizes):
        fine = gradients(g, p, 0.0, maximize, GRADIENT)
        rprop_(p, fine, before, sizes, etaminus, etaplus, step_size_min, step_size_max)
