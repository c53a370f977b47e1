"""`kill -9` of every process in every phase of a round: a named error, and training that ends as if nothing had been.

    pytest -m slow -s tests/federated/test_kills.py

Owners, provider and aggregator are processes that talk over TLS.  What the aggregator was opened, and every byte that
any process received, is searched for the update of a single owner.
"""

import itertools
import json
import random
import threading

import hospital
import numpy as np
import pytest
import round_kills
import torch
from round_kills import OWNERS, PROVIDER, Driver, MortalWorkers, forms, saved, shows

from pysmpc.errors import ChannelError, RemoteError, RoundError

KILLS = 50
TRIES = 6  # until a run ends; one error, where the machine has time for everybody
FEW = [("carol", "consented"), ("driver", "part")]


class Trial:
    """Processes, and the model and sums of a run that nothing interrupts."""

    def __init__(self, folder):
        self.folder, self.numbers = folder, itertools.count()
        torch.save(hospital.network().state_dict(), folder / "start.pt")
        self.workers = MortalWorkers(folder)
        try:
            self.expected, _ = self.finished("whole")
        except BaseException:
            self.workers.stop()
            raise
        self.sums = {self.total(opened) for opened in saved(folder / "driver.sums")}

    @staticmethod
    def total(opened):
        return opened.sum(0).tobytes()

    def finished(self, run):
        """The model after all rounds, whoever has to be started again, and the errors on the way."""
        errors = []
        while len(errors) < TRIES:
            found = Driver(self.workers, run).end()
            for name, process in self.workers.processes.items():
                if process.poll() is not None:
                    self.workers.again(name)
            if isinstance(found, dict):
                return found, errors
            errors.append(found)
        raise AssertionError(errors)

    def killed(self, who, phase, after=1):
        """(model, errors) where a process ends in a phase; phase None: at some moment."""
        number = next(self.numbers)
        timer, struck = None, []

        def strike():
            struck.append(self.workers.processes[who])
            struck[0].kill()

        if phase is None and who != "driver":
            timer = threading.Timer(random.uniform(0, 2), strike)
            timer.start()
        elif phase is not None:
            order = {"id": number, "who": who, "phase": phase, "after": after}
            (self.folder / "kill.json").write_text(json.dumps(order))
        else:
            driver = Driver(self.workers, f"run{number}")
            timer = threading.Timer(random.uniform(0, 2), driver.process.kill)
            timer.start()
            driver.end()
        found = self.finished(f"run{number}")
        if timer is not None:
            timer.join()
        for process in struck:
            process.wait(30)  # it may have been after the end of the run
            if self.workers.processes[who] is process:
                self.workers.again(who)
        assert not (self.folder / "kill.json").exists(), f"{who} never got to {phase} {after} times"
        return found

    def check(self, who, phase, after=1):
        """The same model as if nothing had been, and errors that say what happened."""
        model, errors = self.killed(who, phase, after)
        assert set(model) == set(self.expected)
        assert all(np.array_equal(model[name], value) for name, value in self.expected.items()), (who, phase)
        for error in filter(None, errors):  # None: the driver itself was killed
            assert issubclass(error[0], ChannelError | RemoteError | RoundError), error
        return [error[0].__name__ if error else "killed" for error in errors]

    def singles(self):
        """Words of every update and score of one owner, of the runs so far."""
        return [words for name in OWNERS for words in saved(self.folder / f"{name}.words")]

    def no_single_update(self):
        """Nothing was opened but sums of all owners, of the models of the undisturbed run; no one was sent another."""
        singles, opened = self.singles(), saved(self.folder / "driver.sums")
        assert len(singles) > len(opened) > 0
        assert {self.total(each) for each in opened} == self.sums
        known = {words.tobytes() for words in singles}
        assert not known & self.sums
        by_size = {}
        for each in opened:
            by_size.setdefault(each.shape[1], []).append(each.sum(0))
        for totals in by_size.values():
            for one, other in itertools.permutations({each.tobytes(): each for each in totals}.values(), 2):
                assert (one - other).tobytes() not in known
        for holders in (part for count in (1, 2) for part in itertools.combinations(range(len(OWNERS)), count)):
            assert not known & {each[list(holders)].sum(0).tobytes() for each in opened}
        for name in (*OWNERS, PROVIDER, "driver"):
            content = (self.folder / f"{name}.got").read_bytes()
            assert not [words for words in singles if len(words) > 10 and shows(content, words)], name
        for file in self.workers.folder.glob("*.state/sums.jsonl"):
            for line in file.read_text().splitlines():
                assert json.loads(line)[3] == list(OWNERS)


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    found = Trial(tmp_path_factory.mktemp("kills"))
    yield found
    found.workers.stop()


@pytest.mark.timeout(600)
def test_killed_in_a_phase(trial):
    for who, phase in FEW:
        assert trial.check(who, phase, random.randint(1, 2))
    trial.no_single_update()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_in_each_phase_of_a_round(trial):
    points = list(round_kills.points())
    moments = [(who, None) for who in itertools.islice(itertools.cycle([*OWNERS, PROVIDER, "driver"]), KILLS)]
    kinds = {}
    for number, (who, phase) in enumerate([*points, *moments[: KILLS - len(points)]], 1):
        once = phase in ("session",)  # of a run
        for kind in trial.check(who, phase, 1 if once else random.randint(1, 3)) or ["it had ended"]:
            kinds[kind] = kinds.get(kind, 0) + 1
        if number % 10 == 0:
            print(f"{number} kills: {kinds}", flush=True)
    assert number >= KILLS
    trial.no_single_update()


def test_a_single_update_would_be_found(trial):
    words = next(each for each in trial.singles() if len(each) > 10)
    noise = np.random.default_rng().bytes(10_000)
    assert not shows(noise, words)
    for form in forms(words).values():
        assert shows(noise[:501] + form + noise[501:], words)
