"""A driver that asks owners' tasks for too much: a sum of one, sums that differ by one, an owner twice, no right."""

import msgspec
import numpy as np
import pytest
import torch
from client import combined, plain, ref, released, run
from remotes import Workers

from pysmpc.remote.messages import Denied, Failed
from pysmpc.remote.program_messages import Collect, Keep

ALL = ("alice", "bob", "carol")
SIZE = 5  # of a sum: four means and the number of rows
BITS = 24
ATTACKER = ("scientist", "erin")


@pytest.fixture(scope="module")
def clinic(office, tmp_path_factory):
    """Three owners with a task each, and what each one's rows add up to."""
    folder = tmp_path_factory.mktemp("clinic")
    rights = {"scientist": ["compute", "open", "task:total", "task:noised"], "erin": ["compute", "open"]}
    options = {"": {"drivers": rights, "open": list(ATTACKER)}, "crypto_provider": {}}
    options["crypto_provider"]["drivers"] = {name: ["compute", "open"] for name in ATTACKER}
    means = {}
    for name in ALL:
        data = np.random.default_rng().normal(size=(40, 4)).astype(np.float32)
        np.savez(folder / f"{name}.npz", data=data, targets=np.zeros(40, dtype=np.int64))
        means[name] = torch.from_numpy(data).double().mean(0)
        options[name] = {
            "data": {"rows": {"path": str(folder / f"{name}.npz")}},
            "tasks": {"total": "hospital:total", "noised": {"function": "hospital:total", "min_noise": 1.5}},
            "state": str(folder / f"{name}.state"),
            "checkpoints": str(folder / f"{name}.saved"),
        }
    with Workers(office.folder, ALL, options=options) as workers:
        for worker in workers.workers.values():
            worker.attacker = {name: office.tls(name) for name in ATTACKER}
        yield workers, means


def collect(slot, owners, model, task="total", **changes):
    facts = {"max_norm": None, "max_value": 64.0, "max_rows": 1024, "deadline": 0.0, "less_start": False}
    return Collect(
        slot=slot, owners=list(owners), task=task, arguments={}, names=["w"], shapes=[[3]], dtypes=["float32"],
        values=plain(model), gives={"mean": [4]}, **{**facts, **changes},
    )  # fmt: skip


def attack(workers, steps, **options):
    """steps(client) with all three for holders."""
    return run(workers, steps, holders=ALL, **options)


def opened(client, slot):
    """The sum in a slot, once it was opened to the driver."""
    found = combined(client.open(ref(slot, (SIZE,), dtype="float64")), 1 << BITS)
    return None if found is None else found[:-1] / found[-1]


def mean(means, names):
    return sum(means[name] for name in names) / len(names)


def kinds(answers):
    return {getattr(each, "kind", "taken") for each in answers.values()}


def test_what_is_permitted_is_opened(clinic):
    workers, means = clinic
    model = torch.randn(3)

    def steps(client):
        client.asked(collect(0, ALL, model), ALL)
        return opened(client, 0)

    torch.testing.assert_close(attack(workers, steps), mean(means, ALL), atol=1e-4, rtol=1e-3)


def nothing(found):
    """A value of zeros, or none at all."""
    return found is None or not bool(torch.nan_to_num(found, nan=0.0).any())


@pytest.mark.parametrize("owners", [("alice",), ("carol",)])
def test_a_sum_of_one(clinic, owners):
    workers, _ = clinic

    def steps(client):
        answers = client.asked(collect(0, owners, torch.randn(3)), ALL)
        assert all(isinstance(each, Denied) for each in answers.values()), answers
        return combined(client.open(ref(0, (SIZE,), dtype="float64")), 1 << BITS)

    assert nothing(attack(workers, steps))


def test_an_owner_twice(clinic):
    workers, _ = clinic

    def steps(client):
        answers = client.asked(collect(0, ("alice", "alice"), torch.randn(3)), ALL)
        assert all(isinstance(each, Failed) for each in answers.values()), answers

    attack(workers, steps)


@pytest.mark.parametrize("opened_before", [True, False])
def test_two_sums_that_differ_by_one(clinic, opened_before):
    workers, _ = clinic
    model = torch.randn(3)

    def steps(client):
        client.asked(collect(0, ALL, model), ALL)
        if opened_before:
            assert opened(client, 0) is not None
        answers = client.asked(collect(1, ("bob", "carol"), model), ALL)
        assert kinds({name: answers[name] for name in ("bob", "carol")}) == {"RoundError"}
        return combined(client.open(ref(1, (SIZE,), dtype="float64")), 1 << BITS)

    assert nothing(attack(workers, steps))


def test_the_second_in_another_session(clinic):
    workers, _ = clinic
    model = torch.randn(3)

    def first(client):
        client.asked(collect(0, ALL, model), ALL)
        assert opened(client, 0) is not None

    def second(client):
        answers = client.asked(collect(0, ("alice", "bob"), model), ALL)
        assert "difference" in answers["alice"].text

    attack(workers, first)
    attack(workers, second)


def test_both_are_made_before_one_is_opened(clinic):
    workers, _ = clinic

    def second(client):
        model = torch.randn(3)
        assert kinds(client.asked(collect(0, ("alice", "bob"), model), ALL)) == {"taken"}

        def between(other):
            other.asked(collect(0, ALL, model), ALL)
            opened(other, 0)

        attack(workers, between)
        return client.open(ref(0, (SIZE,), dtype="float64"))

    answers = attack(workers, second)
    assert not released(answers)
    assert "difference" in answers["alice"].text


def test_the_first_is_saved_and_opened_later(clinic):
    workers, _ = clinic
    model = torch.randn(3)

    def save(client):
        client.asked(collect(0, ALL, model), ALL)
        values = {"sum": ref(0, (SIZE,), dtype="float64")}
        return client.asked(Keep(run="r", checkpoint="0" * 20, digest="d", values=values), ALL)

    def second(client):
        answers = client.asked(collect(0, ("alice", "bob"), model), ALL)
        assert "difference" in answers["alice"].text

    attack(workers, save)
    attack(workers, second)


def test_the_second_is_saved_after_the_first_was_opened(clinic):
    """Both were made before one was opened; what is saved may be opened in a session that knows nothing of it."""
    workers, _ = clinic
    model = torch.randn(3)

    def second(client):
        assert kinds(client.asked(collect(0, ("alice", "bob"), model), ALL)) == {"taken"}

        def between(other):
            other.asked(collect(0, ALL, model), ALL)
            assert opened(other, 0) is not None

        attack(workers, between)
        values = {"sum": ref(0, (SIZE,), dtype="float64")}
        return client.asked(Keep(run="r", checkpoint="1" * 20, digest="d", values=values), ALL)

    answers = attack(workers, second)
    assert kinds({name: answers[name] for name in ("alice", "bob")}) == {"CheckpointError"}
    assert all("difference" in answers[name].text for name in ("alice", "bob"))


@pytest.mark.parametrize("size", [1 << 34, 1 << 40])
def test_a_model_that_is_written_out_larger_than_it_was_sent(clinic, size):
    """Four bytes on the wire, which would be gigabytes at the worker."""
    workers, _ = clinic

    def steps(client):
        given = msgspec.structs.replace(plain(torch.ones(1)), size=[size])
        message = msgspec.structs.replace(collect(0, ALL, torch.ones(1)), values=given, shapes=[[size]])
        answers = client.asked(message, ALL)
        assert all(isinstance(each, Failed) and "memory" in each.text for each in answers.values()), answers

    attack(workers, steps)


@pytest.mark.parametrize("deadline", [float("nan"), float("inf"), -1.0])
def test_deadlines_that_are_none(clinic, deadline):
    workers, _ = clinic

    def steps(client):
        answers = client.asked(collect(0, ALL, torch.randn(3), deadline=deadline), ALL)
        assert all("a deadline is a number of seconds" in each.text for each in answers.values()), answers

    attack(workers, steps)


@pytest.mark.parametrize("task", ["total", "absent", "__class__", "os:system"])
def test_a_task_without_the_right(clinic, task):
    workers, _ = clinic

    def steps(client):
        answers = client.asked(collect(0, ALL, torch.randn(3), task=task), ALL)
        assert all("for this driver" in each.text for each in answers.values())
        return combined(client.open(ref(0, (SIZE,), dtype="float64")), 1 << BITS)

    assert nothing(attack(workers, steps, driver="erin"))


@pytest.mark.parametrize(
    "noise",
    [{}, {"noise": 2.9}, {"noise": 3.0, "max_norm": None}, {"noise": 3.0, "sharers": 3}, {"noise": float("nan")}],
    ids=str,
)
def test_less_noise_than_an_owner_asks_for(clinic, noise):
    """1.5 times max_norm, in parts of which the fewest owners of a sum have all."""
    workers, _ = clinic

    def steps(client):
        asked = {"max_norm": 2.0, "noise": 0.0, "sharers": 2, **noise}
        answers = client.asked(collect(0, ALL, torch.randn(3), task="noised", **asked), ALL)
        assert all(each.text for each in answers.values()), answers
        return combined(client.open(ref(0, (SIZE,), dtype="float64")), 1 << BITS)

    assert nothing(attack(workers, steps))


def test_as_much_noise_as_an_owner_asks_for(clinic):
    workers, _ = clinic

    def steps(client):
        client.asked(collect(0, ALL, torch.randn(3), task="noised", max_norm=2.0, noise=3.0, sharers=2), ALL)
        return combined(client.open(ref(0, (SIZE,), dtype="float64")), 1)

    assert not nothing(attack(workers, steps))


def test_holders_are_told_of_different_owners(clinic):
    workers, _ = clinic

    def steps(client):
        model = torch.randn(3)
        client.tell(collect(0, ALL, model), only=["alice", "crypto_provider"])
        client.tell(collect(0, ("alice", "bob"), model), only=["bob", "carol"])
        return released(client.open(ref(0, (SIZE,), dtype="float64")))

    assert not attack(workers, steps)


def test_a_single_term_cannot_be_named(clinic):
    """The terms of a sum have no slots: only the sum has one."""
    workers, _ = clinic

    def steps(client):
        client.asked(collect(0, ALL, torch.randn(3)), ALL)
        return client.asked(collect(0, ALL, torch.randn(3)), ALL)

    assert any(isinstance(each, Failed) for each in attack(workers, steps).values())
