"""Every error that pysmpc raises on purpose; each message says what to do next."""


class PysmpcError(Exception):
    """Base of the errors below."""


class EncodingError(PysmpcError, ValueError):
    """A value that the ring cannot hold: NaN, infinity, or out of range."""


class RangeError(EncodingError, OverflowError):
    """A value beyond the bound that was stated for it, or a result that its encoding cannot hold."""


class DeviationError(PysmpcError, ArithmeticError):
    """Under `sy.debug()`: an operation on secrets whose result is not what plain torch gives."""


class SessionMismatchError(PysmpcError, ValueError):
    """Secrets of different holders or providers met in one operation."""


class RevealError(PysmpcError, TypeError):
    """A secret was used as a plain value; opening it must be asked for by name."""


class PartyError(PysmpcError, ValueError):
    """A wrong set of holders or provider."""


class ChannelError(PysmpcError, RuntimeError):
    """The parties' messages do not fit each other, or a party is gone."""


class IntegrityError(PysmpcError, RuntimeError):
    """What was opened is not what was shared: a holder deviated from the protocol."""


class PeerLost(ChannelError):
    """The connection to a peer ended, or it stayed silent for too long."""


class WorkerLost(ChannelError):
    """A worker is gone: its process, its machine or the way to it.  Its shares went with it."""


class RefusedError(ChannelError):
    """The other side does not take this connection: certificate, name or role."""


class RemoteError(PysmpcError, RuntimeError):
    """A worker failed at an operation; the message says who, at what, and why."""


class OpenNotPermittedError(PysmpcError, PermissionError):
    """An owner of the data behind a secret does not let it be opened to the caller."""


class ConfigurationError(PysmpcError, ValueError):
    """A configuration file that cannot be used as it stands."""


class CheckpointError(PysmpcError, ValueError):
    """A checkpoint that is missing, damaged, of another run, or of another model."""


class MaterialError(PysmpcError, RuntimeError):
    """Dealt randomness on disk that is used up, damaged, missing, or of another program."""


class PrivacyError(PysmpcError, RuntimeError):
    """What was asked would not be differentially private, or not as private as was said."""


class BudgetSpentError(PrivacyError):
    """Another step would exceed the budget of differential privacy."""
