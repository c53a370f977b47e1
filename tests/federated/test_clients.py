"""Clients who are no holders: over TLS they leave shares with two holders and go, and the driver gets the sum."""

import copy
import functools
import logging
import threading

import hospital
import numpy as np
import pytest
import torch
from remotes import Office, Workers

import pysmpc as sy
from pysmpc.errors import ChannelError, ConfigurationError, OpenNotPermittedError, PartyError, RefusedError, RoundError
from pysmpc.federated.clients import Ask
from pysmpc.federated.updates import Terms
from pysmpc.remote.client import Client
from pysmpc.remote.config import ClientConfig, WorkerConfig, parse
from pysmpc.remote.messages import Decline, Leave, Look, Nothing, NotTaken, Offer, Taken
from pysmpc.remote.program_messages import Invite, Plain
from pysmpc.remote.worker.outside_clients import Gathering
from pysmpc.transport import certificates
from pysmpc.transport.tls import CLIENT, dial
from pysmpc.transport.wire import tensor_frames

NAMES = ("phone1", "phone2", "phone3")
RIGHTS = {"scientist": ["task:fit", "task:score", "task:total"]}
TASKS = {"fit": "hospital:fit", "score": "hospital:evaluate", "total": "hospital:total"}


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    office = Office(tmp_path_factory.mktemp("phones-office"))
    for name in (*NAMES, "phone4"):
        certificates.issue(office.folder, name)
    return office


@pytest.fixture(scope="module")
def workers(office):
    with Workers(office.folder, options={name: {"clients": list(NAMES)} for name in ("alice", "bob")}) as found:
        yield found


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """(data, targets) of each client, in its file, too; the first target of phone3 alone is 1."""
    folder, found = tmp_path_factory.mktemp("phones"), {}
    for place, name in enumerate((*NAMES, "phone4")):
        data = np.random.default_rng().normal(size=(12 + 5 * place, 4)).astype(np.float32)
        targets = np.random.default_rng().integers(0, 3, len(data))
        targets[0] = name == "phone3"
        np.savez(folder / f"{name}.npz", data=data, targets=targets)
        found[name] = torch.from_numpy(data), torch.from_numpy(targets)
    return folder, found


@pytest.fixture
def client(office, workers, rows):
    """Makes a client."""

    def make(name, **changes):
        values = {
            "name": name,
            "workers": {holder: workers.addresses[holder] for holder in ("alice", "bob")},
            "drivers": RIGHTS,
            "tasks": TASKS,
            "data": {"rows": {"path": str(rows[0] / f"{name}.npz")}},
            **changes,
        }
        return Client(parse(values, ClientConfig, office.folder))

    return make


@pytest.fixture
def serving():
    """Lets clients serve in threads, until the test is over."""
    over, threads = threading.Event(), []

    def serve(*clients):
        for each in clients:
            each.take_part = functools.partial(each.take_part, 0.5)  # how long it looks, and so how soon it stops
            threads.append(threading.Thread(target=each.serve, args=(over.is_set,), daemon=True))
            threads[-1].start()

    yield serve
    over.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def asked(parties, names=NAMES, minimum=2, deadline=60.0, model=None, gives=None, **arguments):
    """The mean of the clients' rows."""
    fed = sy.Federation(parties, task="total", score="total", clients=names)
    terms = Terms(gives or {"mean": (4,)}, len(names), max_rows=1000)
    ask = Ask(1, list(names), terms, False, arguments, frozenset(), deadline, minimum)
    return fed.clients.ask(model or torch.nn.Linear(2, 2), ask)


def nobody_else_comes(office, workers, *names):
    """Each of these declines where a round still waits for it, so that nobody waits for the deadline."""
    for name in names:
        for holder in ("alice", "bob"):
            stream = dial(office.tls(name), holder, workers.addresses[holder], CLIENT)
            stream.send(Look(0.0, b"", []))
            offer = stream.receive(Offer | Nothing, 30)
            if isinstance(offer, Offer):
                stream.send(Decline(offer.round))
                stream.send(Look(0.0, b"", []))  # in order: it was heard
                assert isinstance(stream.receive(Offer | Nothing, 30), Nothing)
            stream.close()


def mean(rows, names):
    return torch.cat([rows[1][name][0] for name in names]).double().mean(0)


def test_training_as_in_plain_torch(workers, client, serving, rows):
    model = hospital.network()
    expected = copy.deepcopy(model)
    for _ in range(2):
        states = []
        for name in NAMES:
            own = copy.deepcopy(expected)
            hospital.whole_batch(own, *rows[1][name], 1, 0.2)
            states.append((len(rows[1][name][0]), own.state_dict()))
        count = sum(n for n, _ in states)
        for name, value in expected.state_dict().items():
            if value.is_floating_point():
                value.copy_(sum(n * state[name].double() for n, state in states) / count)
    serving(*map(client, NAMES))
    with workers.connect() as parties:
        fed = sy.Federation(parties, task="fit", score="score", clients=NAMES, arguments={"lr": 0.2})
        found = fed.fit(model, rounds=2, deadline=60.0)
        assert set(fed.evaluate(model)) == {"loss", "accuracy"}
    assert [(r.asked, r.took_part, r.rows) for r in found] == [(3, 3, count)] * 2
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], atol=2e-5, rtol=1e-4)


def test_a_model_that_is_too_long_for_a_message(workers, client, serving, rows):
    serving(*map(client, NAMES))
    with workers.connect() as parties:
        answer = asked(parties, model=torch.nn.Linear(40, 40))
    torch.testing.assert_close(answer.mean["mean"], mean(rows, NAMES), atol=1e-5, rtol=1e-4)
    assert answer.took_part == list(NAMES)


@pytest.mark.parametrize("kind", ["nan", "raise"])
def test_who_leaves_says_why_in_her_own_log_alone(workers, client, serving, rows, caplog, kind):
    caplog.set_level(logging.INFO, "pysmpc.worker")
    serving(*map(client, NAMES))
    with workers.connect() as parties:
        answer = asked(parties, deadline=60.0, kind=kind)
    assert answer.took_part == ["phone1", "phone2"]
    torch.testing.assert_close(answer.mean["mean"], mean(rows, NAMES[:2]), atol=1e-5, rtol=1e-4)
    [record] = [record for record in caplog.records if record.message == "left the round"]
    assert record.worker == "phone3"


def test_too_few(workers, client, serving):
    serving(client("phone1"))
    with workers.connect() as parties:
        for deadline in (1.0, 20.0):  # the second where the machine is slow
            with pytest.raises(RoundError, match=r"2 clients or more; [01] took part") as error:
                asked(parties, names=NAMES[:2], deadline=deadline)
            if "1 took part" in str(error.value):
                break
        else:
            pytest.fail("phone1 did not take part")
        with pytest.raises(RoundError, match="2 clients or more; 0 took part"):
            asked(parties, names=NAMES[1:], deadline=0.1)
        x = sy.encrypt(torch.tensor([1.5]), parties)  # the session goes on
        torch.testing.assert_close(sy.decrypt(x + x), torch.tensor([3.0]), atol=1e-3, rtol=0)


def test_whom_the_holders_do_not_know(office, workers, client):
    with workers.connect() as parties, pytest.raises(RoundError, match="phone4 is not among the clients of"):
        asked(parties, names=("phone1", "phone4"))
    with pytest.raises(RefusedError, match="not among the clients"):
        client("phone4").take_part(0.1)
    with pytest.raises(RefusedError, match="not among the clients"):
        dial(office.tls("stranger"), "alice", workers.addresses["alice"], CLIENT)


def test_no_second_sum_of_a_model_with_other_clients(workers, client, serving):
    serving(*map(client, NAMES))
    model = torch.nn.Linear(2, 2)
    with workers.connect() as parties:
        asked(parties, model=model)
        with pytest.raises(RoundError, match="the two would tell their difference"):
            asked(parties, names=NAMES[:2], model=model)


# --- what a client refuses ----------------------------------------------------------


def refused(office, workers, client, match):
    """A client that is asked, beside another who takes part, and why it leaves nothing."""
    with workers.connect() as parties:
        found = []

        def ask():
            with pytest.raises(RoundError) as error:
                asked(parties, names=NAMES[:2])
            found.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        with pytest.raises(Exception, match=match):
            client.take_part(20.0)
        nobody_else_comes(office, workers, *NAMES[:2])
        thread.join(60)
        assert found


def test_a_driver_without_the_right(office, workers, client):
    refused(office, workers, client("phone1", drivers={"scientist": ["task:fit"]}), "phone1 has no task 'total'")


def test_other_holders_than_those_of_her_file(office, workers, client, monkeypatch):
    monkeypatch.setattr("pysmpc.remote.client.AGREE", 3.0)
    there = {name: workers.addresses[name] for name in ("alice", "bob")}
    with Workers(office.folder, ("carol", "dave"), options={"carol": {"clients": ["phone1"]}}) as others:
        more = client("phone1", workers={**there, "carol": others.addresses["carol"]})
        refused(office, workers, more, "carol does not offer the round")


def test_fewer_clients_than_she_wants(office, workers, client):
    strict = {**TASKS, "total": {"function": "hospital:total", "min_owners": 3}}
    refused(office, workers, client("phone1", tasks=strict), "sums of task total over 3 or more")


def test_a_rule_of_opening_of_one_holder(office, client, serving, rows):
    options = {name: {"clients": list(NAMES)} for name in ("alice", "bob")}
    options["bob"]["open"] = []
    with Workers(office.folder, options=options) as closed, closed.connect() as parties:
        serving(*(client(name, workers={h: closed.addresses[h] for h in ("alice", "bob")}) for name in NAMES))
        with pytest.raises(OpenNotPermittedError, match="bob"):
            asked(parties)


# --- what a holder refuses of a client ----------------------------------------------


def test_parts_that_do_not_fit(office, workers):
    with workers.connect() as parties:
        done = []

        def alone():
            with pytest.raises(RoundError, match="1 took part"):
                asked(parties)
            done.append(True)

        ask = threading.Thread(target=alone)
        ask.start()
        tls = office.tls("phone1")
        streams = {name: dial(tls, name, workers.addresses[name], CLIENT) for name in ("alice", "bob")}
        for stream in streams.values():
            stream.send(Look(10.0, b"", []))
            offer = stream.receive(Offer | Nothing, 30)
            assert isinstance(offer, Offer)
        alice, bob = streams.values()
        for key in (b"short", b""):
            alice.send(Leave(offer.round, key, 0))
            assert "key of" in alice.receive(NotTaken | Taken, 30).reason
        bob.send(Leave(offer.round, b"0" * 16, 0))
        assert "wrong holder" in bob.receive(NotTaken | Taken, 30).reason
        alice.send(Leave(offer.round, b"0" * 16, 0))
        assert isinstance(alice.receive(NotTaken | Taken, 30), Taken)
        words = torch.zeros(5, dtype=torch.int64)
        bob.send(Leave(offer.round, b"", 40))
        for frame in tensor_frames(words):
            bob.queue(frame)
        bob.flush()
        assert isinstance(bob.receive(NotTaken | Taken, 30), Taken)
        for stream in streams.values():  # a second time
            stream.send(Leave(offer.round, b"0" * 16, 0))
            assert "over, or not its own" in stream.receive(NotTaken | Taken, 30).reason
            stream.send(Leave(offer.round, b"", 40))  # words that nobody reads: the holder ends the connection
            with pytest.raises(ChannelError):
                stream.receive(NotTaken | Taken, 30)
            stream.close()
        nobody_else_comes(office, workers, *NAMES[1:])
        ask.join(60)
        assert done


def test_who_comes_after_the_last_holder_has_said_who_came():
    holders, terms = ["alice", "bob"], Terms({"mean": (4,)}, 3)
    model, bounds = Plain("float32", [0], [0], b""), (False, None, 64.0, 1024, 0.0)
    invite = Invite(0, list(NAMES), "total", {}, [], [], [], model, {"mean": [4]}, *bounds, minimum=2)
    bob = Gathering("bob", "scientist", "session", holders, 3, invite, torch.empty(0), terms)
    words = {name: torch.randint(-1000, 1000, (5,)) for name in NAMES}
    for name in NAMES[:2]:
        bob.receive(name, words[name].clone())
    assert bob.waits_for("phone3")
    came = bob.wait(0.0, lambda: False)
    with pytest.raises(RoundError, match="phone3 came late"):
        bob.receive("phone3", words["phone3"])
    assert torch.equal(bob.release(came), words["phone1"] + words["phone2"])


# --- configuration ------------------------------------------------------------------


def test_files_that_make_no_sense(office, client):
    with pytest.raises(ConfigurationError, match="two holders or more"):
        client("phone1", workers={"alice": "127.0.0.1:1"})
    with pytest.raises(ConfigurationError, match="no right open"):
        client("phone1", drivers={"scientist": ["open"]})
    with pytest.raises(ConfigurationError, match="a sum of one"):
        client("phone1", tasks={**TASKS, "total": {"function": "hospital:total", "min_owners": 1}})
    holder = {"name": "alice", "clients": ["phone1"], "drivers": {}}
    with pytest.raises(ConfigurationError, match="min_clients is 1"):
        parse({**holder, "min_clients": 1}, WorkerConfig, office.folder)
    with pytest.raises(ConfigurationError, match="no clients"):
        parse({**holder, "role": "provider"}, WorkerConfig, office.folder)


def test_what_is_no_federation(workers, hook):
    with workers.connect() as parties:
        with pytest.raises(PartyError, match="alice is a holder"):
            sy.Federation(parties, task="fit", clients=["alice", "phone1"])
        with pytest.raises(PartyError, match="appear once"):
            sy.Federation(parties, task="fit", clients=["phone1", "phone1"])
        with pytest.raises(TypeError, match="name one of the two"):
            sy.Federation(parties, task="fit", clients=["phone1", "phone2"], owners=["alice"])
    with pytest.raises(TypeError, match="virtual workers"):
        sy.Federation([sy.VirtualWorker(hook, id="north"), sy.VirtualWorker(hook, id="south")], clients=["phone1"])
