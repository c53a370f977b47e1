"""Every error that pysmpc raises on purpose; each message says what to do next."""


class PysmpcError(Exception):
    """Base of the errors below."""


class EncodingError(PysmpcError, ValueError):
    """A value that the ring cannot hold: NaN, infinity, or out of range."""


class SessionMismatchError(PysmpcError, ValueError):
    """Secrets of different holders or providers met in one operation."""


class RevealError(PysmpcError, TypeError):
    """A secret was used as a plain value; opening it must be asked for by name."""


class PartyError(PysmpcError, ValueError):
    """A wrong set of holders or provider."""


class ChannelError(PysmpcError, RuntimeError):
    """The parties' messages do not fit each other, or a party is gone."""
