"""Processes of federated training that end themselves, by SIGKILL, at a named point of a round, and note what they see.

FOLDER/kill.json   {"id", "who", "phase", "after"}: who it is ends at that point, when it gets there that often
FOLDER/NAME.words  the words of every update that an owner leaves, by `numpy.save`, one after another
FOLDER/NAME.got    every byte that a process receives, after TLS decrypted it
FOLDER/driver.sums what was opened to the driver: [holders, words], by `numpy.save`, one after another
"""

import itertools
import json
import os
import signal
import subprocess
from pathlib import Path

import hospital
import kills
import numpy as np
import torch

import pysmpc as sy
from pysmpc.errors import PysmpcError
from pysmpc.federated import FedAvg, round_files
from pysmpc.federated.opened_sums import Contributions
from pysmpc.federated.strategies import Strategy
from pysmpc.federated.updates import Terms
from pysmpc.remote.driver import driver
from pysmpc.remote.driver.connect import RemoteParties
from pysmpc.remote.driver.federated_rounds import RemoteClients
from pysmpc.remote.driver.recorder import Recorder
from pysmpc.remote.worker import consent_rounds
from pysmpc.remote.worker.session_openings import SessionOpenings
from pysmpc.remote.worker.session_sums import SessionSums
from pysmpc.remote.worker.tasks import Turn
from pysmpc.transport import establish
from pysmpc.transport.wire import Stream

OWNERS = ("alice", "bob", "carol")
PROVIDER = "crypto_provider"
ROUNDS = 3
SAID = ("present", "consent")  # in this order, of each sum
AT_WORKERS = ("session", "model", *SAID, "share", "open", "opened")  # of the provider, too
AT_OWNERS = (*AT_WORKERS, "task", "consented")
AT_DRIVERS = ("session", "ask", "told", "answered", "step", "save", "part", "saved")


def points():
    """Every (process, phase)."""
    yield from itertools.product(OWNERS, AT_OWNERS)
    yield from itertools.product([PROVIDER], AT_WORKERS)
    yield from itertools.product(["driver"], AT_DRIVERS)


class Death:
    """Ends this process where the file says so."""

    def __init__(self, folder, name):
        self._file, self._name, self._counts = Path(folder) / "kill.json", name, {}

    def at(self, phase):
        """This process is at a point of a round."""
        try:
            found = json.loads(self._file.read_text())
        except OSError:
            return
        if (found["who"], found["phase"]) != (self._name, phase):
            return
        self._counts[found["id"]] = count = self._counts.get(found["id"], 0) + 1
        if count == found["after"]:
            self._file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner, name, phase):
        """Each time that a function is called."""
        real = getattr(owner, name)

        def call(*args, **kwargs):
            self.at(phase() if callable(phase) else phase)
            return real(*args, **kwargs)

        setattr(owner, name, call)

    def after(self, owner, name, phase):
        """Each time that a function has returned."""
        real = getattr(owner, name)

        def call(*args, **kwargs):
            found = real(*args, **kwargs)
            self.at(phase)
            return found

        setattr(owner, name, call)


def note_received(path):
    """Keep what comes over any connection."""
    file = path.open("ab", buffering=0)
    real = Stream._read

    def read(stream, data, once):
        count = real(stream, data, once)
        file.write(data[:count])
        return count

    Stream._read = read


def note_words(path):
    """Keep the words of updates."""
    real = Terms.encoded

    def encoded(terms, values, rows):
        words = real(terms, values, rows)
        with path.open("ab") as file:
            np.save(file, words.numpy())
        return words

    Terms.encoded = encoded


def be_patient():
    """A machine that is busy with other work delays everybody; who was killed is known at once, by its connections."""
    driver.READY = establish.PATIENCE = 60.0


def work(folder, name, config, log):
    """A worker."""
    be_patient()
    folder, death = Path(folder), Death(folder, name)
    note_received(folder / f"{name}.got")
    note_words(folder / f"{name}.words")
    turns = itertools.cycle(SAID)
    death.before(establish, "establish", "session")
    death.before(SessionSums, "collect", "model")
    death.before(Turn, "_work", "task")
    death.before(consent_rounds, "said", lambda: next(turns))
    death.before(SessionSums, "_shared", "share")
    death.before(SessionOpenings, "open", "open")
    death.after(Contributions, "add", "consented")
    death.after(SessionOpenings, "open", "opened")
    kills.work(config, log)


class MortalWorkers(kills.ForkedWorkers):
    """Three owners with rows and tasks, and the provider."""

    def __init__(self, folder):
        self.notes = folder
        options = {"": {"drivers": {"scientist": ["compute", "open", "task:fit", "task:score"]}}}
        for name in OWNERS:
            data = np.random.default_rng().normal(size=(30, 4)).astype(np.float32)
            np.savez(folder / f"{name}.npz", data=data, targets=np.random.default_rng().integers(0, 3, len(data)))
            options[name] = {
                "data": {"rows": {"path": str(folder / f"{name}.npz")}},
                "tasks": {"fit": "hospital:fit", "score": "hospital:evaluate"},
            }
        options[PROVIDER] = {"drivers": {"scientist": ["compute", "open"]}}
        super().__init__(OWNERS, options=options)

    def start(self, name):
        paths = (str(self.notes), name, str(self.folder / f"{name}.toml"), str(self.folder / f"{name}.log"))
        self.processes[name] = kills.Forked(work, *paths)

    def again(self, name):
        """Start a worker that was killed."""
        self.processes[name].wait(30)
        self.start(name)
        self.ready()


def drive(config, folder, run, pauses, pipe):
    """The aggregator: trains from the last checkpoint on; tells the model, or the error.

    pauses: after each round it says "round", and waits for a word.
    """
    torch.set_num_threads(1)
    be_patient()
    config.silence = 60.0
    folder, death = Path(folder), Death(folder, "driver")
    note_received(folder / "driver.got")
    real = driver.Link.opened

    def opened(link, number, words):
        found = real(link, number, words)
        with (folder / "driver.sums").open("ab") as file:
            np.save(file, torch.stack(found).numpy())
        return found

    driver.Link.opened = opened
    death.before(RemoteParties, "__init__", "session")
    death.before(RemoteClients, "ask", "ask")
    death.after(RemoteClients, "ask", "answered")
    death.after(Recorder, "collect", "told")
    death.before(Strategy, "step", "step")
    death.before(round_files, "save", "save")
    death.after(round_files, "save", "saved")
    death.before(Path, "replace", "part")
    model = hospital.network()
    model.load_state_dict(torch.load(folder / "start.pt"))
    try:
        with RemoteParties(config) as parties:
            strategy = FedAvg(momentum=0.5)  # has a state of its own, which must come back, too
            fed = sy.Federation(parties, strategy, task="fit", score="score", checkpoints=folder / run)
            log = (lambda _: (pipe.send("round"), pipe.recv())) if pauses else None
            fed.fit(model, rounds=ROUNDS, evaluate=True, resume=True, log=log)
    except PysmpcError as error:
        pipe.send((type(error), str(error)))
    else:
        pipe.send({name: value.numpy() for name, value in model.state_dict().items()})


class Driver:
    """A driver's process."""

    def __init__(self, workers, run, pauses=False):
        self.pipe, there = kills.context.Pipe()
        self.process = kills.Forked(drive, workers.config, str(workers.notes), run, pauses, there)
        there.close()

    def end(self, seconds=240):
        """The model; an error's type and text; or None for one that was killed."""
        try:
            found = self.pipe.recv() if self.pipe.poll(seconds) else "nothing"
        except EOFError:
            found = None
        assert found != "nothing", "the driver hangs"
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.pipe.close()
        return found


def saved(path):
    """All arrays of a file, in order.  The last may be cut off, where its process was killed."""
    found = []
    if path.exists():
        with path.open("rb") as file, np.errstate(all="ignore"):
            while file.peek(1):
                try:
                    found.append(np.load(file))
                except (ValueError, EOFError):
                    break
    return found


def shows(content, words):
    """Whether an update is there: its words, or the numbers that they stand for, weighted or not.

    A finding is three numbers in a row, none of them zero, of the start, the middle or the end.
    """
    return any(pattern in content for pattern in forms(words).values())


def forms(words):
    """{what: bytes} that would show the update of these words, the last of which is the number of rows."""
    flat = words[:-1]
    runs = [flat[i : i + 3] for i in range(len(flat) - 2) if flat[i : i + 3].all()]
    found = {}
    for place, run in enumerate(runs[:: max(1, len(runs) // 2)]):
        for scale, what in ((2**24, "weighted"), (2**24 * max(int(words[-1] / 2**24), 1), "as trained")):
            numbers = run / scale
            found |= {f"{what} {kind}, run {place}": numbers.astype(kind).tobytes() for kind in ("<f8", "<f4")}
        found[f"words, run {place}"] = run.tobytes()
    assert found, "an update of zeros"
    return found
