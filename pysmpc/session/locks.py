"""Who may compute with a session: one thread at a time, in the process that made it, while it goes on."""

from __future__ import annotations

import threading

from pysmpc.errors import PartyError
from pysmpc.mpc.interfaces import End
from pysmpc.session.forks import Process


class SessionLock:
    """Held by a thread for as long as an operation takes: a mask, its opening and the numbers of a recorded step
    belong together, and another thread's operation comes before or after.  The holder may take it again.

    one_thread: for a session whose processes each run the program.  Their threads would not
    take turns in the same order, so the first thread that computes with it is the only one.

    Taking it raises PartyError in a forked process and in another thread than the one it is
    for, and IntegrityError once a check has failed.
    """

    __slots__ = ("mutex", "process", "_end", "_one_thread", "_owner")

    def __init__(self, end: End, one_thread: bool = False) -> None:
        self.process = Process("this session")
        self._end = end
        self.mutex = threading.RLock()  # for whoever checks the rest once
        self._one_thread = one_thread
        self._owner: threading.Thread | None = None

    def __enter__(self) -> None:
        self.process.check()  # first: in a child, a thread that was not copied may hold the lock for ever
        self.mutex.acquire()
        if self._one_thread or self._end.reason:
            self._check()

    def __exit__(self, *error: object) -> None:
        self.mutex.release()

    @property
    def held(self) -> bool:
        """Whether this thread has it."""
        return self.mutex._is_owned()  # type: ignore[attr-defined]

    def _check(self) -> None:
        try:
            self._end.check()
            if self._one_thread:
                self._check_thread()
        except BaseException:
            self.mutex.release()
            raise

    def _check_thread(self) -> None:
        mine = threading.current_thread()
        if self._owner is None:
            self._owner = mine
        if self._owner is not mine:
            raise PartyError(
                f"this session belongs to the thread '{self._owner.name}', the first that computed with it, and this "
                f"is '{mine.name}': the ranks of a job compute in one order, which threads would not keep. Call from "
                f"'{self._owner.name}' alone"
            )
