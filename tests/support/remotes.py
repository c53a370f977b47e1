"""Workers of a test in threads of its process: real connections, real configurations, quick to start."""

import functools
import importlib.util
import threading
from pathlib import Path

from networks import NAMES, Office

from pysmpc.api.parties import DEFAULTS
from pysmpc.mpc.interfaces import opening
from pysmpc.remote.config import DriverConfig, WorkerConfig, parse
from pysmpc.remote.driver.connect import RemoteParties
from pysmpc.remote.worker.worker import Worker


def without_consent(there, here, holders=2):
    """Whether remote parties had the cost of others, and a round of one word more for some openings."""
    rounds = there.rounds - here.rounds
    return rounds > 0 and there == here + opening(holders, 1) * rounds


class Workers:
    """A worker for each holder and the provider.  options: of their configurations; those under "" are for all."""

    def __init__(self, folder, holders=("alice", "bob"), provider="crypto_provider", options=None):
        self.folder, self.holders, self.provider = folder, list(holders), provider
        options = options or {}
        self.workers, self.values = {}, {}
        for name in (*holders, provider):
            values = {
                "name": name,
                "listen": "127.0.0.1:0",
                "role": "provider" if name == provider else "holder",
                "providers": [provider],
                "drivers": {"scientist": ["compute", "open"]},
                "open": ["scientist"],
                **options.get("", {}),
                **options.get(name, {}),
            }
            self.values[name] = values
            self.workers[name] = Worker(parse(values, WorkerConfig, folder), source=functools.partial(self._read, name))
        for name, worker in self.workers.items():
            others = {other: w.address for other, w in self.workers.items() if other != name}
            worker.config.peers = {**others, **worker.config.peers}
        self._threads = [threading.Thread(target=w.serve, daemon=True) for w in self.workers.values()]
        for thread in self._threads:
            thread.start()

    def _read(self, name):
        """What `Worker.reload` reads in the place of a file."""
        others = {other: w.address for other, w in self.workers.items() if other != name}
        values = self.values[name]
        return parse({**values, "peers": {**others, **values.get("peers", {})}}, WorkerConfig, self.folder)

    def reload(self, name, /, **changes):
        """Change a worker's configuration and let it read that."""
        self.values[name] = {**self.values[name], **changes}
        return self.workers[name].reload()

    @property
    def addresses(self):
        return {name: worker.address for name, worker in self.workers.items()}

    def config(self, driver="scientist", **changes):
        values = {"name": driver, "holders": self.holders, "provider": self.provider, "workers": self.addresses}
        return parse({**values, **changes}, DriverConfig, self.folder)

    def connect(self, driver="scientist", protocol=DEFAULTS, eager=False, **changes):
        return RemoteParties(self.config(driver, **changes), protocol=protocol, eager=eager)

    def stop(self):
        for worker in self.workers.values():
            worker.stop()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()


def bench(name):
    """A module of the folder `bench`."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", Path(__file__).parents[2] / "bench" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


__all__ = ["NAMES", "Office", "Workers", "bench"]
