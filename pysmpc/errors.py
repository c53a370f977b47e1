"""The errors that pysmpc raises on purpose.  Each message says what to do next."""


class PysmpcError(Exception):
    """Base of the errors below."""


class EncodingError(PysmpcError, ValueError):
    """A value that the ring cannot hold: NaN, infinity, or too large."""


class RangeError(EncodingError, OverflowError):
    """A value that exceeds its stated bound, or a result that its encoding cannot hold."""


class DeviationError(PysmpcError, ArithmeticError):
    """Under `sy.debug()`: an operation on secrets whose result is not what plain torch gives."""


class SessionMismatchError(PysmpcError, ValueError):
    """An operation got secrets of different holders or providers."""


class RevealError(PysmpcError, TypeError):
    """A secret was used as a plain value.  Opening needs an explicit call, such as sy.decrypt."""


class PartyError(PysmpcError, ValueError):
    """The holders or the provider are not those that are needed."""


class ChannelError(PysmpcError, RuntimeError):
    """Messages of the parties do not fit together, or a party is gone."""


class IntegrityError(PysmpcError, RuntimeError):
    """What was opened is not what was shared: a holder deviated from the protocol."""


class PeerLost(ChannelError):
    """The connection to a peer ended, or it stayed silent for too long."""


class WorkerLost(ChannelError):
    """A worker is gone: its process, its machine or the way to it.  Its shares went with it."""


class RefusedError(ChannelError):
    """The other side does not accept this connection because of its certificate, name or role."""


class RemoteError(PysmpcError, RuntimeError):
    """A worker failed at an operation; the message says who, at what, and why."""


class OpenNotPermittedError(PysmpcError, PermissionError):
    """An owner of the data behind a secret does not let it be opened to the caller."""


class ConfigurationError(PysmpcError, ValueError):
    """A configuration file has a mistake."""


class CheckpointError(PysmpcError, ValueError):
    """A checkpoint is missing, damaged, or of another run or model."""


class MaterialError(PysmpcError, RuntimeError):
    """Dealt randomness on disk is used up, damaged, missing, or for another program."""


class PrivacyError(PysmpcError, RuntimeError):
    """What was asked would not be differentially private, or not as private as was said."""


class BudgetSpentError(PrivacyError):
    """Another step would exceed the budget of differential privacy."""


class ObjectNotFoundError(PysmpcError, LookupError):
    """A worker does not hold the object (any more)."""


class GetNotPermittedError(PysmpcError, PermissionError):
    """The owner does not let this tensor be fetched."""


class RoundError(PysmpcError, RuntimeError):
    """A round of federated training that cannot be finished: too few took part, or what they left does not fit."""
