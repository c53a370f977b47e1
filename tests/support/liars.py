"""Random programs of a driver who lies, and a model of what may be opened.

A program is a list of operations.  It is told to all parties alike, or with slots that are in use
(a second name for a value, a value put where another one is), or to one party with a difference:
an operation dropped, doubled, altered, or exchanged with the next.

The model follows values, as sets of owners, through the list.  It forbids a holder's share where an
owner of the value does not let the driver open it, and where any party was told something else up to
that opening.  What the workers refuse beyond that is their business; what they release is not.
"""

import random
import re
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import torch
from client import PROVIDER, Again, Client, call, load, ref
from remotes import Office, Workers

from pysmpc.remote.program_messages import Drop, Open, Record, Recorded, Refresh, Repeat, Seq

HOLDERS = ("alice", "bob", "carol")
DRIVER = "scientist"
SHAPE = [4]
PROGRAMS = 40  # for one choice of rules
PURE = ("add.Tensor", "sub.Tensor", "mul.Tensor")
WRITES = ("add_.Tensor", "sub_.Tensor", "mul_.Tensor", "copy_.default")
ALIASES = ("detach.default", "alias.default")


class Own:
    """The driver shares numbers of its own."""

    def __init__(self, slot):
        self.slot = slot

    def __repr__(self):
        return f"Own({self.slot})"

    def __eq__(self, other):
        return isinstance(other, Own) and other.slot == self.slot


class Value:
    """Whose data went into a value."""

    def __init__(self, owners):
        self.owners = frozenset(owners)


class Model:
    """Owners by value: two slots may hold one."""

    def __init__(self):
        self._slots = {}
        self._steps = {}
        self._open = None

    def owners(self, slot):
        """Of what is in a slot; nobody's where there is none."""
        return self._slots[slot].owners if slot in self._slots else frozenset()

    def run(self, operation):
        """One operation, as far as it concerns owners."""
        if isinstance(operation, Own):
            self._slots[operation.slot] = Value([DRIVER])
        elif isinstance(operation, Record):
            self._open = operation, []
            for slot, argument in zip(operation.slots, operation.inputs, strict=True):
                self._slots[slot] = Value(self.owners(argument.slot))
        elif isinstance(operation, Recorded):
            if self._open is not None:
                record, body = self._open
                self._steps[record.step] = record, body, operation
                self._open = None
                for out, each in zip(operation.outs, operation.results, strict=True):
                    self._slots[out] = Value(self.owners(each.slot))
        elif isinstance(operation, Repeat):
            self._repeat(operation)
        elif isinstance(operation, Drop):
            for slot in operation.slots:
                self._slots.pop(slot, None)
        elif hasattr(operation, "owner"):
            self._slots[operation.slot] = Value([operation.owner])
        elif hasattr(operation, "outs"):
            self._call(operation)
            if self._open is not None:
                self._open[1].append(operation)

    def _repeat(self, operation):
        """The body again, with the new arguments in the place of the old."""
        if operation.step not in self._steps:
            return
        record, body, recorded = self._steps[operation.step]
        before = dict(self._slots)
        for slot, argument in zip(record.slots, operation.inputs, strict=True):
            self._slots[slot] = Value(before[argument.slot].owners if argument.slot in before else ())
        for each in body:
            self._call(each)
        results = [self.owners(each.slot) for each in recorded.results]
        kept = {slot: self._slots.get(slot) for slot in record.states}
        self._slots = before
        self._slots.update({slot: value for slot, value in kept.items() if value is not None})
        self._slots.update({out: Value(owners) for out, owners in zip(operation.outs, results, strict=True)})

    def _call(self, operation):
        given = [each.slot for each in operation.args if isinstance(each, type(ref(0, SHAPE)))]
        owners = frozenset().union(*(self.owners(slot) for slot in given))
        name = operation.name.removeprefix("aten.")
        if name in WRITES and given and given[0] in self._slots:
            self._slots[given[0]].owners |= owners
        for slot in operation.outs:
            if slot >= 0:
                alias = name in ALIASES or name.startswith("view")
                self._slots[slot] = self._slots.get(given[0], Value(owners)) if alias and given else Value(owners)


def window(slot):
    """What is in a slot, whole."""
    return ref(slot, SHAPE)


def honest(choose):
    """A program: whoever's data, operations on them, and openings."""
    operations = [Own(0), Own(1), load(2, "data", SHAPE, owner=choose.choice(HOLDERS))]
    operations.append(load(3, "data", SHAPE, owner=choose.choice(HOLDERS)))
    there, free, steps = [0, 1, 2, 3], 4, 0
    for _ in range(choose.randint(2, 8)):
        kind = choose.random()
        a, b = choose.choice(there), choose.choice(there)
        if kind < 0.35:
            operations.append(call(choose.choice(PURE), window(a), window(b), out=free))
            there.append(free)
            free += 1
        elif kind < 0.65:
            operations.append(call(choose.choice(WRITES), window(a), window(b)))
        elif kind < 0.72:
            operations.append(call("clone.default", window(a), out=free))
            there.append(free)
            free += 1
        elif kind < 0.77:
            operations.append(Refresh(ref=window(a)))
        elif kind < 0.82 and len(there) > 3:
            there.remove(a)
            operations.append(Drop(slots=[a]))
        elif kind < 0.9:
            steps += 1
            argument, out, copy, again = range(free, free + 4)
            state = [b] if b != a and choose.random() < 0.5 else []
            operations.append(Record(step=steps, inputs=[window(a)], slots=[argument], states=state, check=-1))
            operations.append(call("mul.Tensor", window(argument), 2.0, out=out))
            if state:
                operations.append(call("add_.Tensor", window(b), window(argument)))
            operations.append(Recorded(results=[window(out)], outs=[copy], keep=True))
            operations.append(Repeat(step=steps, inputs=[window(choose.choice(there))], outs=[again]))
            there += [argument, out, copy, again]
            free += 4
        else:
            operations.append(Open(ref=window(a), state=[], receiver="scientist"))
    operations += [Open(ref=window(choose.choice(there)), state=[], receiver="scientist") for _ in range(2)]
    return operations


def aliased(choose, operations):
    """A second name for a value, or a value where another one is; then it is used."""
    place = choose.randint(4, len(operations) - 2)
    a, b = choose.sample(range(4), 2)
    kind = choose.randrange(4)
    if kind == 0:
        extra = [Drop(slots=[b]), call(choose.choice(ALIASES), window(a), out=b)]
    elif kind == 1:
        extra = [call("view.default", window(a), Seq(items=SHAPE), out=40)]
    elif kind == 2:
        extra = [load(a, "data", SHAPE, owner=choose.choice(HOLDERS))]
    else:
        extra = [Own(a)]
    source, opened = choose.randrange(4), (b if kind == 0 else 40 if kind == 1 else a)
    extra += [
        call("copy_.default", window(a), window(source)),
        Open(ref=window(opened), state=[], receiver="scientist"),
    ]
    return [*operations[:place], *extra, *operations[place:]]


def altered(choose, operation):
    """Another operation that looks like this one."""
    if isinstance(operation, Own):
        return operation
    if isinstance(operation, Open | Refresh):
        return msgspec.structs.replace(operation, ref=window(choose.randrange(4)))
    if hasattr(operation, "owner"):
        return msgspec.structs.replace(operation, owner=choose.choice(HOLDERS))
    if hasattr(operation, "outs"):
        args = list(operation.args)
        place = choose.randrange(len(args))
        args[place] = window(choose.randrange(4)) if not isinstance(args[place], float) else args[place] + 1.0
        if choose.random() < 0.3 and operation.name.removeprefix("aten.") in PURE:
            return msgspec.structs.replace(operation, name=f"aten.{choose.choice(PURE)}")
        return msgspec.structs.replace(operation, args=args)
    if isinstance(operation, Repeat):
        return msgspec.structs.replace(operation, inputs=[window(choose.randrange(4))])
    return operation


def different(choose, operations):
    """What one party is told instead."""
    operations = list(operations)
    place = choose.randrange(len(operations) - 1)
    kind = choose.randrange(5)
    if kind == 0:
        del operations[place]
    elif kind == 1:
        operations.insert(place, operations[place])
    elif kind == 2:
        operations[place : place + 2] = operations[place : place + 2][::-1]
    elif kind == 3:
        operations.insert(place, Refresh(ref=window(choose.randrange(2))))
    else:
        operations[place] = altered(choose, operations[place])
    return operations


def programs(choose, names):
    """What each party is told."""
    common = honest(choose)
    if choose.random() < 0.4:
        common = aliased(choose, common)
    told = dict.fromkeys(names, common)
    if choose.random() < 0.5:
        who = choose.choice(names)
        told[who] = different(choose, common)
    return told


def plainly(operations):
    """To compare, and to show."""
    return [_WHOLE.sub(r"[\1]", repr(each)) for each in operations]


_WHOLE = re.compile(r"Ref\(slot=(\d+), size=\[4\], stride=\[1\], offset=0, dtype='float32', grad=False\)")


def shown(told):
    """A program, and those that differ from it."""
    lines, seen = [], {}
    for name, operations in told.items():
        seen.setdefault("\n    ".join(plainly(operations)), []).append(name)
    for text, names in seen.items():
        lines.append(f"  {', '.join(names)}:\n    {text}")
    return "\n".join(lines)


def forbidden(told, name, place, rules):
    """Why a holder may not release its share at the operation of that place in its list, or nothing."""
    mine = plainly(told[name][: place + 1])
    others = [other for other in told if plainly(told[other][: place + 1]) != mine]
    if others:
        return f"{', '.join(others)} had been told another program"
    model = Model()
    for operation in told[name][:place]:
        model.run(operation)
    refusing = [owner for owner in sorted(model.owners(told[name][place].ref.slot)) if not rules.get(owner, True)]
    return f"{', '.join(refusing)} would not let the driver open it" if refusing else ""


def tell(client, told):
    """Send all; {(name, place in its list): what came}."""
    sent, place_of, opens = {}, {}, dict.fromkeys(told, 0)
    words = torch.randint(-(1 << 20), 1 << 20, (len(max(told.values(), key=len)), *SHAPE))
    for name, operations in told.items():
        client._inputs, client._opens = 0, 0
        for place, operation in enumerate(operations):
            if isinstance(operation, Own):
                client.input(operation.slot, words[place % len(words)], only=[name])
            elif isinstance(operation, Open):
                client._opens = opens[name]
                opens[name] += 1
                asked, numbers = client.ask_open(operation.ref, only=[name])
                place_of[name, asked] = place
                sent.setdefault(asked, {})[name] = numbers[name]
            else:
                client.tell(operation, only=[name])
    found = {}
    for asked, numbers in sent.items():
        for name, answer in client.opened(asked, numbers).items():
            found[name, place_of[name, asked]] = answer
    return found


class Office3:
    """Workers of three holders under rules of chance."""

    def __init__(self, folder):
        self.office, self.folder = Office(folder), folder
        path = folder / "data.npy"
        np.save(path, np.random.default_rng().uniform(-1, 1, SHAPE).astype(np.float32))
        self.data = {"data": {"path": str(path)}}

    def workers(self, rules):
        options = {name: {"data": self.data, "open": [DRIVER] if may else []} for name, may in rules.items()}
        options[""] = {"drivers": {DRIVER: ["compute", "open"]}}
        workers = Workers(self.office.folder, HOLDERS, options=options)
        for worker in workers.workers.values():
            worker.attacker = {DRIVER: self.office.tls(DRIVER)}
        return workers


def one(workers, rules, choose):
    """One program.  (shares released, openings refused, what was wrong)."""
    holders = list(HOLDERS[: choose.choice([2, 3])])
    names = [*holders, PROVIDER]
    told = programs(choose, names)
    # what holders do not take part in, they do not own
    told = {
        name: [
            msgspec.structs.replace(each, owner=holders[HOLDERS.index(each.owner) % len(holders)])
            if hasattr(each, "owner")
            else each
            for each in operations
        ]
        for name, operations in told.items()
    }
    states, wrong, came = {}, [], {}
    for _ in range(16):
        client = Client(workers, driver=DRIVER, holders=holders, states=states, patience=2.0)
        try:
            came = tell(client, told)
            break
        except Again:
            continue
        finally:
            client.close()
    released = {key for key, answer in came.items() if isinstance(answer, torch.Tensor)}
    for name, place in released:
        if reason := forbidden(told, name, place, rules):
            slot = told[name][place].ref.slot
            wrong.append(f"{name} released its share of [{slot}] at operation {place} of its program: {reason}")
    if wrong:
        wrong.append(f"  who lets the driver open: {rules}\n{shown(told)}")
    return len(released), len(came) - len(released), wrong


def fuzz(seconds, most=0, show=print):
    """Programs until the time is over, or `most` of them.  (programs, released, refused, what was wrong)."""
    choose, until, count, released, refused, wrong = random.SystemRandom(), time.monotonic() + seconds, 0, 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        office = Office3(Path(folder))
        while time.monotonic() < until and not wrong and (not most or count < most):
            rules = {name: choose.random() < 0.6 for name in HOLDERS}
            with office.workers(rules) as workers:
                for _ in range(PROGRAMS):
                    if time.monotonic() > until or wrong or (most and count >= most):
                        break
                    came, kept, wrong = one(workers, rules, choose)
                    count, released, refused = count + 1, released + came, refused + kept
    show(f"lies: {count} programs, {released} shares released, {refused} refused, {len(wrong)} forbidden")
    for each in wrong:
        show(each)
    return count, released, refused, wrong
