"""Every party on a host of its own: a network namespace and an address each (bench/hosts.py)."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from remotes import Workers, bench

import pysmpc as sy
from pysmpc.demo import remote
from pysmpc.demo.settings import Settings
from pysmpc.remote.local_workers import LocalWorkers

hosts = bench("hosts")
NAMES = ["alice", "bob", "crypto_provider"]


@pytest.fixture
def apart():
    """Makes hosts; skips where that is not permitted."""
    if reason := hosts.missing():
        pytest.skip(reason)
    made = []

    def make(one_way=0.0, rate=0.0):
        made.append(hosts.Hosts([*NAMES, "scientist"], one_way, rate))
        return made[-1]

    yield make
    for each in made:
        each.close()
    there = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not any(space in there for each in made for space in each._spaces.values())


def started(there, holders=("alice", "bob"), **options):
    """Workers that listen to everybody, each on its host."""
    return LocalWorkers(
        holders,
        places={name: f"{there.addresses[name]}:7000" for name in NAMES},
        within={name: there.inside(name) for name in NAMES},
        options={"": {"threads": 1, "listen": "0.0.0.0:7000"}},
        **options,
    )


@pytest.mark.slow
def test_the_demo(apart):
    """Names are in the certificates, addresses in the files: no party is told to be where it is."""
    there = apart()
    with there.at("scientist"):
        outcome = remote.run(
            Settings(epochs=2), verbose=False, start=lambda names, **options: started(there, names, **options)
        )
    mine, theirs = outcome.local_stats, outcome.remote_stats
    consent = theirs.rounds - mine.rounds  # a round of one word for each opening
    assert 0 < consent < 100
    assert (mine.sent + 8 * consent, mine.dealt) == (theirs.sent, theirs.dealt)
    assert abs(outcome.remote.test_correct[-1] - outcome.local.test_correct[-1]) <= 64
    assert outcome.traffic < remote.DRIVER_LIMIT


@pytest.mark.slow
def test_nobody_is_reached_but_by_the_wire(apart):
    """The hosts do not share a loopback; the driver's status asks each at its address; a packet takes its time."""
    there = apart(one_way=0.02)
    with there.at("scientist"), started(there) as workers:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", 7000), timeout=5)
        before = time.monotonic()
        socket.create_connection((there.addresses["bob"], 7000), timeout=5).close()
        assert time.monotonic() - before >= 0.04
        values = {"name": "scientist", "holders": ["alice", "bob"]}
        (workers.folder / "parties.toml").write_text(
            "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
            + "\n[workers]\n"
            + "\n".join(f'{name} = "{where}"' for name, where in workers.addresses.items())
        )
        command = [sys.executable, "-m", "pysmpc.cli", "status", "--config", str(workers.folder / "parties.toml")]
        said = subprocess.run(
            [*there.inside("scientist"), *command], cwd=Path(__file__).parents[2], capture_output=True, text=True
        )
        assert said.returncode == 0, said
        assert [line.split(" ")[0] for line in said.stdout.splitlines() if line[:1].strip()] == NAMES
        with sy.connect(workers.folder / "parties.toml") as parties:
            x = sy.encrypt(torch.ones(4), parties)
            before = time.monotonic()
            assert torch.equal(sy.decrypt(x * x), torch.ones(4))
            assert time.monotonic() - before >= 3 * 0.02  # to the holders, between them, and back
        assert there.addresses["scientist"] in workers.log("alice")


def test_an_address_of_the_other_sort(office):
    """IPv6 addresses stand in brackets."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with Workers(office.folder, options={"": {"listen": "[::1]:0"}}) as workers, workers.connect() as parties:
        assert workers.addresses["alice"].startswith("[::1]:")
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), parties)), torch.ones(2))
