"""Operations that a driver sends to the workers of a session, and what they are written with.

An operation names values by slots: numbers that the driver gives to cells and takes
back when they are dropped.  Slots are used again, so that one step of a training reads
like the one before, and compresses to almost nothing.
"""

from __future__ import annotations

import msgspec

INLINE = 1 << 10  # bytes of a public tensor that travel inside an operation


class Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Base of all: fields by position, and nothing beyond them."""


class Ref(Message, tag=0):
    """A window on the value in a slot.  grad: a gradient of it may be asked for later.

    bound: what is publicly known of the magnitudes in the slot, as the driver keeps account of it; estimate: of which
    kind (`pysmpc.tensor.storage.Estimate`).  All parties follow the driver in this, and so run the same protocols.
    """

    slot: int
    size: list[int]
    stride: list[int]
    offset: int
    dtype: str
    grad: bool = False
    bound: float | None = None
    estimate: bool = False


class Plain(Message, tag=1):
    """A public tensor: its elements, or (None) the next buffer; `size` is what `shape` expands to.

    digest: SHA-256 of the next buffer, so that operations say all that is public of a program.
    """

    dtype: str
    shape: list[int]
    size: list[int]
    data: bytes | None
    digest: bytes = b""


class Fixed(Message, tag=2):
    """A public tensor at fixed precision."""

    words: Plain
    scale: int
    base: int
    digits: int
    dtype: str


class Dtype(Message, tag=3):
    """A torch.dtype, by name."""

    name: str


class Seq(Message, tag=4):
    """A list of arguments."""

    items: list[Value]


class Option(Message, tag=5):
    """A torch.device, torch.layout or torch.memory_format, by name."""

    name: str


class Use(Message, tag=6):
    """In a captured loop: what came of an earlier step, or an input.  item: which of several results; -1 for one."""

    place: int
    item: int = -1


class Changing(Message, tag=7):
    """In a step that is recorded: a number of which each repetition is told another.  place: among those numbers."""

    place: int
    value: float


Value = None | bool | int | float | str | Ref | Plain | Fixed | Dtype | Seq | Option | Use | Changing


class Call(Message, tag=10):
    """An aten operation of the table.  outs: slots of its results, -1 for those that need none.

    failed: it raised at the driver, and does so everywhere.  backward: autograd asked for it.
    """

    name: str
    args: list[Value]
    kwargs: dict[str, Value]
    outs: list[int]
    failed: bool = False
    backward: bool = False


class Input(Message, tag=11):
    """The driver shares a value; the words follow in a buffer to the receiver alone, or to every holder."""

    suite: str
    slot: int
    shape: list[int]
    scale: int
    base: int
    digits: int
    dtype: str
    everyone: bool = False


class Flush(Message, tag=12):
    """Apply the updates that wait."""

    suite: str


class Refresh(Message, tag=13):
    """Fresh shares of the same value."""

    ref: Ref


class Drop(Message, tag=14):
    """These slots are free again."""

    slots: list[int]


class Open(Message, tag=15):
    """Send the shares of a value to the receiver.  state: where the program stands, to be compared."""

    ref: Ref
    state: list[int]
    receiver: str


class Load(Message, tag=16):
    """The owner shares items of her own data.  steps: what is done to them before, by name."""

    suite: str
    slot: int
    shape: list[int]
    scale: int
    base: int
    digits: int
    dtype: str
    owner: str
    data: str
    steps: list[list[Value]]


class Fetch(Message, tag=17):
    """The owner sends items of her own data to the driver, in the clear."""

    owner: str
    data: str
    steps: list[list[Value]]
    shape: list[int]
    dtype: str


class Step(Message):
    """An operation of a captured loop (`pysmpc.federated.loops.loop_operations`)."""

    name: str
    args: list[Value]
    kwargs: dict[str, Value]


class LoopProgram(Message):
    """A driver's loop over a batch, as torch's operations, which an owner repeats on batches of her rows.

    shapes, dtypes: of the batch's tensors, rows first.  Places: the model's tensors in their order, the batch's, then
    the steps.  results: the model after the batch, in the same order.
    """

    shapes: list[list[int]]
    dtypes: list[str]
    steps: list[Step]
    results: list[Use]


class Collect(Message, tag=18):
    """Owners run a task each, and what they leave is added up.  The sum goes to the slot, if all of them consent.

    names, shapes, dtypes, values: the model, flat.  gives: names and shapes of what a task leaves, each less the model
    if `less_start`, clipped together to max_norm.  deadline: seconds, 0 for none.  noise, sharers: of a private sum, of
    which each owner adds a part (`pysmpc.federated.updates.Terms`).  loop: what they run is this, and `task` is what
    their files call data and terms of such loops.  clear: nothing is shared, and the driver is sent each one's.
    """

    slot: int
    owners: list[str]
    task: str
    arguments: dict[str, bool | int | float | str]
    names: list[str]
    shapes: list[list[int]]
    dtypes: list[str]
    values: Plain
    gives: dict[str, list[int]]
    less_start: bool
    max_norm: float | None
    max_value: float
    max_rows: int
    deadline: float
    noise: float = 0.0
    sharers: int = 1
    loop: LoopProgram | None = None
    clear: bool = False


class Invite(Collect, tag=47):
    """The same of clients, who are no holders: they leave shares with all holders of the session.  owners: the clients.

    minimum: how many must have left theirs for a sum.
    """

    minimum: int = 1


class Hand(Message, tag=19):
    """Open a value to a holder alone, who keeps it under a name.  state: where the program stands, to be compared."""

    ref: Ref
    state: list[int]
    receiver: str
    name: str


class Keep(Message, tag=40):
    """Holders write their shares of these values to their own disks.  digest: of the driver's part."""

    run: str
    checkpoint: str
    digest: str
    values: dict[str, Ref]


class Recall(Message, tag=41):
    """Holders read their part of a checkpoint, and check it."""

    run: str
    checkpoint: str
    digest: str


class Slot(Message):
    """Where a value goes, and what it is."""

    slot: int
    shape: list[int]
    scale: int
    base: int
    digits: int
    dtype: str


class Restore(Message, tag=42):
    """What was recalled goes to slots; what is not named is forgotten."""

    suite: str
    values: dict[str, Slot]


class Record(Message, tag=43):
    """What follows is a step that will be repeated.  slots: for copies of its arguments, which it is run on.

    states: slots of what it changes.  check: a recording of the same step to hold against this one, or -1.
    """

    step: int
    inputs: list[Ref]
    slots: list[int]
    states: list[int]
    check: int


class Recorded(Message, tag=44):
    """The end of it.  results: None if it failed.  outs: slots for copies.  keep: whether it can be repeated."""

    results: list[Ref] | None
    outs: list[int]
    keep: bool


class Repeat(Message, tag=45):
    """A recorded step, with other arguments.  outs: slots of its results.  numbers: those that may change, as now."""

    step: int
    inputs: list[Ref]
    outs: list[int]
    numbers: list[float] = []


class Forget(Message, tag=46):
    """These steps will not be repeated any more."""

    steps: list[int]


Operation = (
    Call | Input | Flush | Refresh | Drop | Open | Load | Fetch | Collect | Invite | Hand | Keep | Recall | Restore
    | Record | Recorded | Repeat | Forget
)  # fmt: skip


class Batch(Message):
    """Operations in a row; the first has this number."""

    first: int
    operations: list[Operation]
