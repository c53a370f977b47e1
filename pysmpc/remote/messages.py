"""What driver and workers say to each other: messages of known types.

Those that are a program's are in `program_messages`.
"""

from __future__ import annotations

from typing import Any

from pysmpc.remote.program_messages import Invite, Message

# --- control ------------------------------------------------------------------------


class Setup(Message, tag=20):
    """Take part in a session.  owner_key: for what the driver itself shares; the provider's is for codes of that.

    checked: ranges are tested by protocol, and what comes of it is opened before each value.
    """

    session: str
    holders: list[str]
    provider: str
    owner_key: bytes = b""
    checked: bool = False


class Search(Message, tag=21):
    """Which of your data carry these tags?"""

    number: int
    tags: list[str]


class Ask(Message, tag=22):
    """How are you?"""

    number: int


class Bye(Message, tag=23):
    """The driver is done."""


class Shelve(Message, tag=24):
    """Which checkpoints of a run are there?  Remove those before `keep`, and `drop`, where they are not ''."""

    number: int
    run: str
    keep: str
    drop: str


class Until(Message, tag=25):
    """Say when this operation is done (Ack), at once if it is."""

    number: int


Down = Setup | Search | Ask | Bye | Shelve | Until


class Ready(Message, tag=30):
    """The session stands.  steps: how many recorded ones this worker keeps of it, 0 for as many as any does."""

    steps: int = 0


class Ack(Message, tag=31):
    """Operations up to this one are done."""

    number: int


class Beat(Message, tag=32):
    """Alive, and at this operation.  moved: changes as long as anything is done for it."""

    number: int
    moved: int = 0


class Opened(Message, tag=33):
    """Words (or elements) follow, so many bytes."""

    number: int
    size: int


class Denied(Message, tag=34):
    """An opening was not permitted; nothing else happened."""

    number: int
    kind: str
    text: str


#: The kind of a Denied of a holder who would consent: another does not, and tells why.
WITHHELD = "Withheld"


class Failed(Message, tag=35):
    """An operation failed; this worker has left the session."""

    number: int
    kind: str
    text: str


class Found(Message, tag=36):
    """What was searched for."""

    number: int
    data: list[DataInfo]


class DataInfo(Message):
    """Data at a worker, described.  bound: of magnitudes, by the owner's file (`min`, `max`, `classes`)."""

    name: str
    shape: list[int]
    dtype: str
    tags: list[str]
    description: str
    bound: float | None = None


class Report(Message, tag=37):
    """Answer to Ask."""

    number: int
    figures: dict[str, Any]


class Shelved(Message, tag=38):
    """Answer to Shelve: ids, oldest first."""

    number: int
    checkpoints: list[str]


class Kept(Message, tag=39):
    """A part of a checkpoint was written, or read."""

    number: int


Up = Ready | Ack | Beat | Opened | Denied | Failed | Found | Report | Shelved | Kept


# --- clients who are no holders -----------------------------------------------------


class Look(Message, tag=50):
    """To which round is this client invited?  Wait so many seconds for one.  round: only this; done: none of these."""

    seconds: float
    round: bytes
    done: list[bytes]


class Offer(Message, tag=51):
    """This one.  holders: with whom shares are to be left, in this order."""

    round: bytes
    driver: str
    holders: list[str]
    invite: Invite


class Nothing(Message, tag=52):
    """There is none."""


class Bring(Message, tag=53):
    """The model of a round, please."""

    round: bytes


class Model(Message, tag=54):
    """So many bytes of a model follow."""

    size: int


class Leave(Message, tag=55):
    """A client's part: a key, or so many bytes of words that follow."""

    round: bytes
    key: bytes
    size: int


class Taken(Message, tag=56):
    """A part is there."""


class NotTaken(Message, tag=57):
    """It is not."""

    reason: str


class Decline(Message, tag=58):
    """This client takes no part in a round."""

    round: bytes


ClientSays = Look | Bring | Leave | Decline
