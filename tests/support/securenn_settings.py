"""The settings of `settings.py` for SecureNN: two holders, and a provider that takes part."""

from dataclasses import dataclass

from settings import Setting

from pysmpc.mpc.suite import snn
from pysmpc.session.session import virtual_session
from pysmpc.transport import threads


@dataclass(frozen=True)
class SecureNN(Setting):
    """A setting of two holders under this suite."""

    def sessions(self):
        names = [f"holder{i}" for i in range(self.holders)]
        if self.name == "threads":
            return threads.sessions(names, suite=snn)
        return [virtual_session(names, suite=snn)]


SECURENN = [SecureNN("virtual", 2), SecureNN("threads", 2)]
