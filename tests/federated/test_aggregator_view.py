"""What an aggregator's memory and connections hold while it trains: sums, and no update of a single owner.

The aggregator is a process.  Its memory is read by /proc after each round, and all that it received is kept.  The
search is the same where updates are added up in the clear, and there it finds them.
"""

import aggregators
import hospital
import numpy as np
import pytest
import round_kills
import torch
from aggregators import NAMES, SIZE
from memories import holds, memory
from round_kills import OWNERS, PROVIDER, ROUNDS, Driver, MortalWorkers, forms, saved, shows

from pysmpc.federated.aggregation import shares_of


@pytest.mark.slow
def test_training_over_tls(tmp_path):
    torch.save(hospital.network().state_dict(), tmp_path / "start.pt")
    with MortalWorkers(tmp_path) as workers:
        rounds = 0
        driver = Driver(workers, "run", pauses=True)
        try:
            readable(driver.process.pid)
            while rounds < ROUNDS:
                assert driver.pipe.poll(240)
                assert driver.pipe.recv() == "round"
                rounds += 1
                updates, sums = left(tmp_path)
                found = holds(driver.process.pid, {**patterns(updates), **patterns(sums)})
                assert not found & set(patterns(updates))
                assert found & set(patterns(sums))  # the search finds what is there: the sum that was opened
                driver.pipe.send("on")
            assert isinstance(driver.end(), dict)
        finally:
            driver.process.kill()
        updates, sums = left(tmp_path)
        assert len(updates) == len(OWNERS) * ROUNDS
        for name in ("driver", *OWNERS, PROVIDER):
            content = (tmp_path / f"{name}.got").read_bytes()
            assert len(content) > 1000
            assert not [who for who, words in updates.items() if shows(content, words)], name


def left(folder):
    """{what: words}: of every owner's updates, and of their sums."""
    owners = [[words for words in saved(folder / f"{name}.words") if len(words) > 10] for name in OWNERS]
    updates = {f"{n} {place}": w for n, own in zip(OWNERS, owners, strict=True) for place, w in enumerate(own)}
    return updates, {f"sum {place}": sum(parts) for place, parts in enumerate(zip(*owners, strict=True))}


def patterns(updates):
    return {f"{who}: {what}": form for who, words in updates.items() for what, form in forms(words).items()}


def as_words(updates):
    """Patterns of the words alone: nobody gives this aggregator anything else."""
    return {what: pattern for what, pattern in patterns(updates).items() if ": words" in what}


def readable(pid):
    try:
        next(memory(pid))
    except PermissionError:
        pytest.skip("may not read the memory of other processes")


# --- one aggregator, in the clear and with shares -----------------------------------


@pytest.mark.parametrize("secure", [True, False])
def test_an_aggregator_that_adds_up(secure):
    here, there = round_kills.kills.context.Pipe()
    process = round_kills.kills.Forked(aggregators.add_up, secure, there)
    there.close()
    try:
        assert here.recv() == "up"
        readable(process.pid)
        updates = {name: np.random.default_rng().integers(-(2**30), 2**30, SIZE) for name in NAMES}
        seen = set()
        for name, words in updates.items():
            here.send(shares_of(torch.from_numpy(words.copy()), 3)[-1].numpy() if secure else words)
            assert here.recv() == name
            seen |= holds(process.pid, as_words({name: words}))
        for name in NAMES:
            assert any(each.startswith(name) for each in seen) != secure, name
        here.send("on")
        assert np.array_equal(here.recv(), sum(updates.values())) != secure
    finally:
        process.kill()
        here.close()
