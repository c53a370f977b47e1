"""What the tests of `sy.distributed` run in every rank; results travel as lists and tuples of numbers."""

import os
import signal
import threading
import time
from contextlib import nullcontext
from dataclasses import astuple
from datetime import timedelta
from pathlib import Path

import torch
from features import differences
from torch.nn import functional as F
from twins import task

import pysmpc as sy
from pysmpc.errors import RangeError
from pysmpc.ring.shares import Share
from pysmpc.session import checkpoint_files
from pysmpc.transport.rank_wires import FIRST

STEPS = 4


def data(seed):
    torch.manual_seed(seed)
    return task(16, 12, 16, 8, 4)


def train(parties, model, x, y, owner=None, steps=STEPS):
    """(losses, parameters after a step, counts): the program of the documentation."""

    def mine(values, name):
        return values if parties.me in (None, name) else torch.empty_like(values, device="meta")

    a = sy.encrypt(mine(x, owner), parties, owner=owner)
    b, hidden = sy.encrypt(y, parties), sy.encrypt(model, parties)
    optimizer = torch.optim.SGD(hidden.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(hidden(a), b)
        loss.backward()
        optimizer.step()
        losses.append(sy.decrypt(loss))
        if len(losses) == 1:
            opened = sy.decrypt(hidden)
    counts = astuple(parties.stats)
    if parties.me == parties.provider:
        return [loss.device.type for loss in losses], {p.device.type for p in opened.parameters()}, counts
    return [float(loss) for loss in losses], [p.tolist() for p in opened.parameters()], counts


def descend(parties, model, x, y):
    """(losses, counts) of two steps without an optimizer, whose import takes seconds."""
    a, b, hidden = sy.encrypt(x, parties), sy.encrypt(y, parties), sy.encrypt(model, parties)
    losses = []
    for _ in range(2):
        loss = F.mse_loss(hidden(a), b)
        gradients = torch.autograd.grad(loss, list(hidden.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(hidden.parameters(), gradients, strict=True):
                parameter -= 0.125 * gradient
        losses.append(sy.decrypt(loss.detach()))
    return [None if loss.is_meta else float(loss) for loss in losses], astuple(parties.stats)


def bounded(holders, options, other=None):
    """(values, counts) of functions of bounded values.  other: what bob states in place of the same."""
    parties = sy.distributed(*holders, timeout=20, **options)
    return functions_of_bounded(parties, 4.0 if other is None or parties.me != "bob" else other)


def wrongly_bounded(value):
    """What each rank is told of a bound that bob's values do not keep, and what it computes after that."""
    parties = sy.distributed("alice", "bob", timeout=20)
    values = torch.tensor([value, 0.5]) if parties.me == "bob" else torch.empty(2, device="meta")
    try:
        sy.encrypt(values, parties, owner="bob", bounded=1.0)
        told = None
    except sy.errors.EncodingError as error:
        told = f"{type(error).__name__}: {error}"
    doubled = sy.decrypt(sy.encrypt(torch.ones(2), parties, owner="bob", bounded=1.0) * 2)
    return told, None if doubled.is_meta else doubled.tolist(), astuple(parties.stats)


def functions_of_bounded(parties, bound):
    """The same in one process."""
    x = torch.linspace(-4, 4, 9)
    secret = sy.encrypt(x if parties.me in (None, "alice") else torch.empty(9, device="meta"), parties, bounded=bound)
    product = sy.bounded(secret * secret, bound * bound)
    found = sy.decrypt(torch.exp(secret) + torch.sigmoid(product * 0.5))
    return None if found.is_meta else found.tolist(), astuple(parties.stats)


def factors(holders, seed, options, parties=None):
    """(what factors of matrices and transforms come to, one number after another, counts)."""
    parties = parties or sy.distributed(*holders, **options)
    generator = torch.Generator().manual_seed(seed)
    # apart, or rounding decides in which direction an eigenvector or a coefficient of a transform lies
    matrix = torch.rand(2, 2, generator=generator) / 4 + torch.diag(torch.tensor([1.0, 1.75]))
    right = torch.rand(2, 2, generator=generator) + torch.tensor([[0.0], [2.0]])
    a, b = (sy.encrypt(each, parties).requires_grad_(True) for each in (matrix, right))
    solved = torch.linalg.lu_solve(*torch.linalg.lu_factor(a), b)
    values = [torch.linalg.eigvalsh(a @ a.mT), torch.linalg.svdvals(a), torch.fft.rfft(b.mT).abs()]
    (sum(x.sum() for x in values) + (solved * solved).sum()).backward()
    found = [sy.decrypt(x.detach()) for x in (solved, *values, a.grad, b.grad)]
    numbers = None if parties.me == parties.provider else torch.cat([x.reshape(-1) for x in found]).tolist()
    return numbers, astuple(parties.stats)


def adam(holders, seed, options, parties=None):
    """(parameters after three steps of Adam, counts)."""
    parties = parties or sy.distributed(*holders, **options)
    model, x, y = data(seed)
    a, b, hidden = sy.encrypt(x, parties), sy.encrypt(y, parties), sy.encrypt(model, parties)
    optimizer = torch.optim.Adam(hidden.parameters(), lr=0.02, eps=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(hidden(a), b).backward()
        optimizer.step()
    opened = [sy.decrypt(p.detach()) for p in hidden.parameters()]
    counts = astuple(parties.stats)
    return (None if parties.me == parties.provider else [p.tolist() for p in opened]), counts


def training(holders, owner, seed, options):
    parties = sy.distributed(*holders, **options)
    return train(parties, *data(seed), owner)


def ranged_training(holders, seed):
    """(losses, counts) of steps of which the ranges are tested."""
    return descend(sy.distributed(*holders, timeout=60, checked=True), *data(seed))


def ranged():
    """(sum of squares of what has room, counts, the error for what has not): on every rank."""
    parties = sy.distributed("alice", "bob", timeout=20, checked=True)
    return too_large(parties)


def too_large(parties):
    """The same in one process."""
    x = sy.encrypt(torch.tensor([3.0, 4.0]), parties)
    found = sy.decrypt((x * x).sum())
    counts = astuple(parties.stats)
    try:
        sy.decrypt(x * 20000 * x)
    except RangeError as error:
        return None if found.is_meta else float(found), counts, str(error)


def ranged_on_one():
    """Ranks of which alice alone tests ranges."""
    sy.distributed("alice", "bob", timeout=20, checked=os.environ["RANK"] == "0")


def resumed(folder, seed, steps, killed, parties=None):
    """(where it began, parameters): trains up to `steps`, from the checkpoint where there is one.

    killed: one step later bob dies between the two files of a second checkpoint.
    """
    parties = parties or sy.distributed("alice", "bob", timeout=20)
    model, x, y = data(seed)
    exact = {"rounding": "nearest"}
    a, b, hidden = sy.encrypt(x, parties, **exact), sy.encrypt(y, parties, **exact), sy.encrypt(model, parties, **exact)
    optimizer = torch.optim.SGD(hidden.parameters(), lr=0.05, momentum=0.9)
    mine = parties.me or "alice"
    begun = sy.load(hidden, optimizer, folder)["done"] if checkpoint_files.known(Path(folder) / mine) else 0
    for done in range(begun, steps + killed):
        if done == steps:
            sy.save(hidden, optimizer, folder, done=done)
            if parties.me == "bob":
                checkpoint_files._place = dies_after_one(checkpoint_files._place)
        optimizer.zero_grad()
        F.mse_loss(hidden(a), b).backward()
        optimizer.step()
    sy.save(hidden, optimizer, folder, done=steps + killed)
    opened = [sy.decrypt(p) for p in hidden.parameters()]
    return begun, None if parties.me == parties.provider else [p.tolist() for p in opened]


def profiled(seed, parties=None):
    """What `sy.profile` tells of a step: parties, (layer, operation, calls, counts, number of times) a row."""
    parties = parties or sy.distributed("alice", "bob")
    model, x, y = data(seed)
    a, b, hidden = sy.encrypt(x, parties), sy.encrypt(y, parties), sy.encrypt(model, parties)
    with sy.profile(show=False) as profile:
        loss = F.mse_loss(hidden(a), b)
        loss.backward()
        sy.decrypt(loss)
    rows = [(r.layer, r.operation, r.calls, astuple(r.spent), len(r.seconds)) for r in profile.rows]
    return profile.parties, rows, min(min(row.seconds) for row in profile.rows[:-1]) > 0, profile.table("layer")


def dies_after_one(place):
    calls = []

    def placing(*args):
        if calls:
            os.kill(os.getpid(), signal.SIGKILL)
        calls.append(args)
        place(*args)

    return placing


def join(*holders, **options):
    parties = sy.distributed(*holders, **options)
    return parties.me, parties.names, parties.provider, parties.session.party.ranks


def impatient(seconds):
    """Parties that met in peace, and from now on wait so long for one another."""
    parties = sy.distributed("alice", "bob")
    for wire in parties.session._wires:
        wire._timeout = timedelta(seconds=seconds)
    return parties


def other_names():
    return join("alice", "bob" if os.environ["RANK"] == "0" else "bill")


def large_messages():
    """Beyond what a receiver is ready for, in both directions and from the provider."""
    parties = sy.distributed("alice", "bob")
    n = 5 * FIRST
    x = torch.arange(n, dtype=torch.int64) - n // 2
    secret = sy.encrypt(x, parties, owner="alice")
    product = sy.decrypt(secret * secret)
    return None if product.is_meta else bool((product == x * x).all())


def owner_without_values():
    parties = impatient(2)
    return str(sy.encrypt(torch.empty(3, device="meta"), parties, owner="bob").shape)


def unknown_owner():
    parties = sy.distributed("alice", "bob")
    sy.encrypt(torch.ones(3), parties, owner="carol")


def other_shares():
    """What one rank may not look at."""
    parties = sy.distributed("alice", "bob")
    x = sy.encrypt(torch.ones(3), parties)
    own = [len(parties[name].shares()) for name in parties.names if name == parties.me]
    other = next(name for name in parties.names if name != parties.me)
    try:
        parties[other].shares()
    except sy.errors.PartyError as error:
        return own, str(error), len(x)
    return own, "seen", len(x)


def asks():
    """A provider that takes part: it doubles what the holders show it, for one of them and for all."""
    parties = sy.distributed("alice", "bob")
    party, suite = parties.session.party, parties.session.suite
    x = suite.share(party, torch.arange(5), (5,))
    results = []
    for public in (False, True):
        stream = party.dealer.streams()

        def answer(keys, asked, out, public=public, stream=stream):
            out.copy_(2 * asked.sum(0))
            if not public:
                keys.take(stream, out)

        found = party.dealer.ask(x.words(), "convert", 5, answer, public)
        if not public:
            share = Share.of(party.dealer.keys.draw(stream, 5, found), (5,))
            [found] = suite.reveal(party, share)
        results.append(None if parties.me == parties.provider else found.tolist())
    spread = party.dealer.broadcast(3, lambda keys, out: out.fill_(7))
    results.append(None if spread is None else spread.tolist())
    return results, astuple(parties.stats)


def second_thread():
    """What a thread is told that computes beside the program, which goes on."""
    parties = sy.distributed("alice", "bob", timeout=20)
    x, told = sy.encrypt(torch.full((3,), 3.0), parties), []

    def work():
        try:
            told.append(repr(x * x))
        except sy.errors.PartyError as error:
            told.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    opened = sy.decrypt(x * x)
    return told[0], None if opened.is_meta else opened.tolist()


def only_one_opens():
    parties = sy.distributed("alice", "bob", timeout=20)
    x = sy.encrypt(torch.ones(3), parties)
    if parties.me == "alice":
        sy.decrypt(x)
    return sy.decrypt(torch.relu(x)).is_meta


def other_public_values():
    parties = sy.distributed("alice", "bob", timeout=20)
    torch.seed()
    x = sy.encrypt(torch.ones(3), parties)
    return sy.decrypt(x * torch.rand(3)).is_meta


def dropped(seed, secretly=False):
    """What dropout made of ones at this rank; every rank draws the same public mask after the same seed."""
    parties = sy.distributed("alice", "bob", timeout=20)
    torch.manual_seed(seed)
    x = sy.encrypt(torch.ones(20, 20), parties)
    with sy.secret_masks() if secretly else nullcontext():
        out = sy.decrypt(torch.nn.functional.dropout(x, 0.5))
    return None if out.is_meta else out.tolist()


def other_masks():
    """Each rank draws a mask of its own."""
    parties = sy.distributed("alice", "bob", timeout=20)
    torch.seed()
    x = sy.encrypt(torch.ones(20, 20), parties)
    return sy.decrypt(torch.nn.functional.dropout(x, 0.5)).is_meta


def other_scalars():
    parties = sy.distributed("alice", "bob", timeout=20)
    x = sy.encrypt(torch.ones(3), parties)
    return sy.decrypt(x * (1.25 if parties.me == "bob" else 1.5)).is_meta


def other_shapes():
    parties = sy.distributed("alice", "bob", timeout=20)
    shape = (2, 3) if parties.me == "bob" else (3, 2)
    return sy.decrypt(sy.encrypt(torch.ones(shape), parties)).is_meta


def other_provider():
    """The provider's program differs; the receiver of corrections notices."""
    parties = impatient(3)
    x = sy.encrypt(torch.ones(3), parties)
    return sy.decrypt(x * x if parties.me != parties.provider else torch.relu(x)).is_meta


def one_dies():
    parties = sy.distributed("alice", "bob", timeout=20)
    x = sy.encrypt(torch.ones(3), parties)
    sy.decrypt(x * x)
    if parties.me == "bob":
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(3):
        sy.decrypt(torch.relu(x))
    return "went on"


def one_hangs():
    parties = impatient(1)
    x = sy.encrypt(torch.ones(3), parties)
    sy.decrypt(x * x)
    if parties.me == "bob":
        time.sleep(4)
        return "slept"
    sy.decrypt(torch.relu(x))
    return "went on"


def features(holders, protocol, seed):
    """What differs from plain torch (tests/support/features.py)."""
    torch.manual_seed(seed)
    return differences(sy.distributed(*holders, protocol=protocol))
