"""Training loops that the tests of ranks run in every rank, repeated or operation by operation."""

import copy
import gc
import time
from dataclasses import astuple

import torch
import training_loops as loops
from torch import nn

import pysmpc as sy
from pysmpc.program.loop import LOOPS, following

HOLDERS = {2: ("alice", "bob"), 3: ("ann", "ben", "cleo")}


def kind_of_loop(holders, name, seed, eager):
    """(weights, opened numbers, repetitions, rounds and bytes) of a kind of `training_loops`."""
    parties = sy.distributed(*HOLDERS[holders], timeout=30, eager=eager)
    return of_kind(parties, name, seed)


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
