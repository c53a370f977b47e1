"""Training loops that the tests of ranks run in every rank, repeated or operation by operation."""

import contextlib
import copy
import gc
import time
from dataclasses import astuple

import torch
import training_loops as loops
from torch import nn

import pysmpc as sy
from pysmpc.program.loop import following
from pysmpc.program.segment import Segment

HOLDERS = {2: ("alice", "bob"), 3: ("ann", "ben", "cleo")}


def several(holders, names, seed, eager):
    """The same of several kinds, one after another with the same parties."""
    parties = sy.distributed(*HOLDERS[holders], timeout=30, eager=eager)
    return [of_kind(parties, name, seed) for name in names]


def number(x):
    """What was opened; NaN at the provider, which learns nothing."""
    found = sy.decrypt(x.detach())
    return float("nan") if found.is_meta else float(found)


loops.opened = number


def of_kind(parties, name, seed):
    torch.manual_seed(seed)
    kind = getattr(loops, name)
    models, batches = (loops.network(), loops.network()), loops.batches_for(kind)
    weights, seen, repeats, cost = loops.run_on_secrets(kind, models, batches, parties)
    if parties.me == parties.provider:
        return None, None, repeats, astuple(cost)
    return [p.tolist() for p in weights], seen, repeats, astuple(cost)


def data(parties, inputs=3, units=4):
    """(model, x, y) of a small regression."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(inputs, units), loops.Square(), nn.Linear(units, 2))
    x, y = torch.rand(5, inputs), torch.rand(5, 2)
    hidden = sy.encrypt(copy.deepcopy(model), parties, frac_bits=loops.BITS)
    return hidden, *(sy.encrypt(each, parties, frac_bits=loops.BITS) for each in (x, y))


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02, eps=0.01),
}


def trained(parties, optimizer="momentum", steps=6, step_of=None, sizes=(), **events):
    """(weights, repetitions, rounds and bytes) of a loop in which something happens.

    events: by the name of a moment in a step, the name of a function of (parties, number of the step, loss).
    """
    model, x, y = data(parties, *sizes)
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    as_one = sy.TrainStep(model, optimizer, loops.F.mse_loss) if step_of == "TrainStep" else None
    before, repeats = parties.stats.copy(), 0

    def happens(moment, step, loss=None):
        if moment in events:
            EVENTS[events[moment]](parties, step, loss)

    with following() as repeated:
        for step in range(steps):
            happens("before", step)
            if as_one is not None:
                loss = as_one(x, y)
            else:
                optimizer.zero_grad()
                loss = ((model(x) - y) ** 2).mean()
                happens("forward", step, loss)
                loss.backward()
                happens("backward", step, loss)
                optimizer.step()
            happens("after", step, loss)
            repeats += repeated.repeats
    weights = [sy.decrypt(p.detach()) for p in model.parameters()]
    cost = astuple(parties.stats - before)
    return None if weights[0].is_meta else [p.tolist() for p in weights], repeats, cost


def each(holders, loops):
    """What `trained` tells of each of several loops: repeated, and operation by operation."""
    repeated, eager = (sy.distributed(*HOLDERS[holders], timeout=40, eager=eager) for eager in (False, True))
    return [(trained(repeated, **loop), trained(eager, **loop)) for loop in loops]


def at_the_end(holders):
    """Rounds of a loop of which nothing is opened; the first rank alone asks for them."""
    parties = sy.distributed(*HOLDERS[holders], timeout=40)
    model, x, y = data(parties)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    for _ in range(6):
        loops.descend(model, optimizer, x, y)
        optimizer.step()
    return parties.stats.rounds if first(parties) else None


def alone(holders, loop, seconds=0):
    """What `trained` tells, or the error; the first rank ends so much later."""
    parties = sy.distributed(*HOLDERS[holders], timeout=40)
    try:
        return trained(parties, **loop)
    finally:
        if first(parties):
            time.sleep(seconds)


def with_rates(holders, alone):
    """A loop with another rate in each step; of the steps that are repeated the first rank, if alone, has one more."""
    parties = sy.distributed(*HOLDERS[holders], timeout=40)
    model, x, y = data(parties)
    optimizer, repeats = OPTIMIZERS["sgd"](model.parameters()), 0
    with following() as repeated:
        for step in range(9):
            more = alone and first(parties) and step == 7
            optimizer.param_groups[0]["lr"] = 0.05 / (1 + step + more)
            loops.descend(model, optimizer, x, y)
            optimizer.step()
            assert parties.stats.rounds
            repeats += repeated.repeats
    return number(model[0].weight.sum()), repeats


def first(parties):
    return parties.me == parties.names[0]


def prints_counters(parties, step, loss):
    """At one rank."""
    if first(parties):
        assert parties.stats.rounds >= 0


def everybody_prints_counters(parties, step, loss):
    assert parties.stats.rounds > 0


def prints_loss(parties, step, loss):
    """Opened by all, shown by one."""
    opened = sy.decrypt(loss.detach())
    if first(parties):
        assert float(opened) >= 0


def shows_loss(parties, step, loss):
    """At one rank, the secret."""
    if first(parties):
        assert "size" in repr(loss)


def looks_at_shares(parties, step, loss):
    if first(parties):
        parties[parties.me].shares()


class Cycle:
    """Garbage that holds a secret until it is collected."""

    def __init__(self, secret):
        self.secret, self.self = secret, self


def leaves_garbage(parties, step, loss):
    """Which each rank collects at another time."""
    gc.disable()
    number = (*parties.names, parties.provider).index(parties.me)
    Cycle(loss)
    if step % (number + 1) == number:
        gc.collect()


def keeps_losses(parties, step, loss):
    """At one rank."""
    if first(parties):
        KEPT.append(loss)


KEPT = []


def fails(parties, step, loss):
    """At one rank, which goes on."""
    if first(parties) and step == 5:
        raise ValueError("an error of the user")


def fails_and_goes_on(parties, step, loss):
    with contextlib.suppress(ValueError):
        fails(parties, step, loss)


def sleeps(parties, step, loss):
    number = (*parties.names, parties.provider).index(parties.me)
    time.sleep(0.01 * ((number + step) % 3))


def profiles(parties, step, loss):
    if first(parties) and step == 5:
        with sy.profile(show=False):
            pass


def check_fails(parties, step, loss):
    """Of what the first rank repeats."""
    if first(parties):
        Segment.confirms = lambda self, other: False


def run_fails(parties, step, loss):
    """As an interrupt of the user would."""
    if first(parties) and step == 5:

        def run(self, *args, **kwargs):
            raise KeyboardInterrupt

        Segment.run = run


EVENTS = {
    each.__name__: each
    for each in (
        prints_counters, everybody_prints_counters, prints_loss, shows_loss, looks_at_shares, leaves_garbage,
        keeps_losses, fails, fails_and_goes_on, sleeps, profiles, check_fails, run_fails,
    )
}  # fmt: skip
