"""Tasks that owners installed, called over TLS: what a driver gets, what it is told, and what stays an owner's."""

import copy
import json
import logging

import hospital
import numpy as np
import pytest
import torch
from remotes import NAMES, Office, Workers

import pysmpc as sy
from pysmpc.errors import ConfigurationError, OpenNotPermittedError, PartyError, RoundError
from pysmpc.federated.clients import Ask
from pysmpc.federated.opened_sums import Contributions
from pysmpc.federated.updates import Terms

ALL = ("alice", "bob", "carol")
RIGHTS = ["compute", "open", *(f"task:{name}" for name in ("fit", "score", "total"))]
TASKS = {
    "fit": "hospital:fit",
    "score": {"function": "hospital:evaluate"},
    "total": {"function": "hospital:total", "max_rows": 1000},
}


class Clinic:
    """Three owners with rows and tasks of their own."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.rows = {}
        own = {name: dict(options.pop(name, {})) for name in ALL}
        for place, name in enumerate(ALL):
            data = np.random.default_rng().normal(size=(20 + 7 * place, 4)).astype(np.float32)
            targets = np.random.default_rng().integers(0, 3, len(data))
            targets[0] = name == "carol"
            self.rows[name] = torch.from_numpy(data), torch.from_numpy(targets)
            np.savez(folder / f"{name}.npz", data=data, targets=targets)
            own[name] = {
                "data": {"rows": {"path": str(folder / f"{name}.npz")}},
                "state": str(folder / f"{name}.state"),
                "checkpoints": str(folder / f"{name}.saved"),
                "tasks": TASKS,
                **own[name],
            }
        self.options = {"": {"drivers": {"scientist": RIGHTS, "erin": ["compute", "open"]}, "open": ["scientist"]}}
        self.options |= own
        self.options["crypto_provider"] = {"drivers": {name: ["compute", "open"] for name in ("scientist", "erin")}}

    def start(self, office):
        return Workers(office.folder, ALL, options=self.options)

    @property
    def every(self):
        return [torch.cat(parts) for parts in zip(*self.rows.values(), strict=True)]


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    return Office(tmp_path_factory.mktemp("clinic-office"))


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    return Clinic(tmp_path_factory.mktemp("clinic"))


@pytest.fixture(scope="module")
def workers(office, clinic):
    with clinic.start(office) as found:
        yield found


@pytest.fixture
def parties(workers):
    with workers.connect() as found:
        yield found


def federation(parties, **options):
    return sy.Federation(parties, task="fit", score="score", **options)


def asked(parties, task="total", owners=ALL, gives=None, model=None, minimum=2, deadline=None, **arguments):
    """The mean that a task leaves, of a model that no other test uses."""
    fed = sy.Federation(parties, task=task, score=task, owners=owners)
    options = {"max_rows": arguments.pop("max_rows", 1000), "max_value": arguments.pop("max_value", 64.0)}
    terms = Terms(gives or {"mean": (4,)}, len(owners), **options)
    ask = Ask(1, list(owners), terms, False, arguments, frozenset(), deadline, minimum)
    return fed.clients.ask(model or torch.nn.Linear(2, 2), ask)


# --- what works ---------------------------------------------------------------------


def test_training_as_in_plain_torch(parties, clinic):
    model = hospital.network()
    expected = copy.deepcopy(model)
    for _ in range(2):
        states = []
        for data, targets in clinic.rows.values():
            own = copy.deepcopy(expected)
            hospital.whole_batch(own, data, targets, 2, 0.2)
            states.append((len(data), own.state_dict()))
        count = sum(n for n, _ in states)
        for name, value in expected.state_dict().items():
            if value.is_floating_point():
                value.copy_(sum(n * state[name].double() for n, state in states) / count)
    rounds = federation(parties, arguments={"lr": 0.2}).fit(model, rounds=2, local_epochs=2)
    assert [(r.asked, r.took_part, r.rows) for r in rounds] == [(3, 3, len(clinic.every[0]))] * 2
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], atol=2e-5, rtol=1e-4)


def test_scores(parties, clinic):
    model = hospital.network().eval()
    found = federation(parties).evaluate(model)
    data, targets = clinic.every
    with torch.no_grad():
        right = (model(data).argmax(1) == targets).double().mean()
    assert found["accuracy"] == pytest.approx(float(right), abs=1e-4)
    assert set(found) == {"loss", "accuracy"}


def test_some_owners(parties, clinic):
    answer = asked(parties, owners=("alice", "carol"))
    data = torch.cat([clinic.rows[name][0] for name in ("alice", "carol")])
    assert (answer.took_part, answer.rows) == (["alice", "carol"], len(data))
    torch.testing.assert_close(answer.mean["mean"], data.double().mean(0), atol=1e-5, rtol=1e-4)


def test_the_session_goes_on_with_other_operations(parties):
    asked(parties)
    x = sy.encrypt(torch.tensor([1.5, 2.0]), parties)
    torch.testing.assert_close(sy.decrypt(x * x), torch.tensor([2.25, 4.0]), atol=1e-3, rtol=0)
    with pytest.raises(RoundError):
        asked(parties, task="unknown")
    torch.testing.assert_close(sy.decrypt(x + x), torch.tensor([3.0, 4.0]), atol=1e-3, rtol=0)
    asked(parties)


# --- who leaves the round -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["nan", "large", "raise"])
def test_what_depends_on_her_values_is_in_her_own_log_alone(parties, clinic, caplog, kind):
    caplog.set_level(logging.INFO, "pysmpc.worker")
    answer = asked(parties, kind=kind)
    data = torch.cat([clinic.rows[name][0] for name in ("alice", "bob")])
    assert answer.took_part == ["alice", "bob"]
    torch.testing.assert_close(answer.mean["mean"], data.double().mean(0), atol=1e-5, rtol=1e-4)
    [reason] = [record.reason for record in caplog.records if record.message == "left the round"]
    assert any(word in reason for word in ("NaN", "beyond", "a secret"))


def test_who_is_late(parties):
    assert asked(parties, kind="late", deadline=1.0).took_part == ["alice", "bob"]


def test_too_few_owners(parties, clinic):
    with pytest.raises(RoundError, match=r"1 of 2 owners took part|consents to sums of task total over 2"):
        asked(parties, owners=("alice", "carol"), kind="nan")
    with pytest.raises(RoundError, match="2 of 3 workers took part, and 3 are needed"):
        asked(parties, kind="nan", minimum=3)


def test_an_owner_who_wants_more_of_them(office, tmp_path):
    strict = {**TASKS, "total": {"function": "hospital:total", "min_owners": 3}}
    with Clinic(tmp_path, bob={"tasks": strict}).start(office) as workers, workers.connect() as parties:
        assert asked(parties).took_part == list(ALL)
        with pytest.raises(RoundError, match="bob consents to sums of task total over 3 owners or more; 2 took part"):
            asked(parties, owners=("alice", "bob"))
        with pytest.raises(RoundError, match="bob consents to sums of task total over 3"):
            asked(parties, kind="nan")


# --- what a driver is told ----------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"task": "nothing"}, "has no task 'nothing' for this driver"),
        ({"kind": 3}, "task total takes kind: str; not as given: kind"),
        ({"epochs": 3}, "not as given: epochs"),
        ({"kind": "shape"}, r"carol, task total: 'mean' is of shape \[2\] here"),
        ({"kind": "none"}, "carol: task total returned no dictionary of tensors"),
        ({"gives": {"mean": (5,)}}, r"'mean' is of shape \[4\] here, and of shape \[5\] was declared"),
        ({"gives": {"other": (4,)}}, "'other' is absent here"),
        ({"max_rows": 1001}, "leave at most 1000 rows"),
        ({"max_value": 1025.0}, "elements up to 1024"),
    ],
)
def test_public_faults_are_named(parties, arguments, reason):
    with pytest.raises(RoundError, match=reason):
        asked(parties, **arguments)
    assert asked(parties).took_part == list(ALL)


def test_unequal_models(parties):
    model = hospital.network()
    model[3] = torch.nn.Linear(6, 2)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RoundError, match=r"took part|alice|bob|carol"):
        federation(parties).fit(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_clipping_is_the_owners(office, tmp_path):
    clipped = {**TASKS, "fit": {"function": "hospital:fit", "max_norm": 0.01}}
    with Clinic(tmp_path, alice={"tasks": clipped}).start(office) as workers, workers.connect() as parties:
        model = hospital.network()
        before = copy.deepcopy(model)
        with pytest.raises(RoundError, match=r"alice clips updates of task fit to a norm of 0.01"):
            federation(parties).fit(model)
        federation(parties, max_norm=0.01).fit(model)
        state, start = model.state_dict(), before.state_dict()
        moved = [state[name] - start[name] for name in state if state[name].is_floating_point()]
        assert 0 < float(torch.stack([m.pow(2).sum() for m in moved]).sum().sqrt()) <= 0.0101


def test_single_updates_in_the_clear(office, tmp_path):
    """Only where every owner's file says so, and the driver asks for them; the mean is that of the shares."""
    alone = {**TASKS, "fit": {"function": "hospital:fit", "in_the_clear": True}}
    model = hospital.network()
    start = copy.deepcopy(model.state_dict())
    with Clinic(tmp_path, **{name: {"tasks": alone} for name in ALL}).start(office) as workers:
        with workers.connect() as parties:
            federation(parties).fit(model)
        expected = copy.deepcopy(model.state_dict())
        model.load_state_dict(start)
        with workers.connect() as parties:
            with pytest.warns(UserWarning, match="each owner's update in the clear"):
                fed = federation(parties, secure=False)
            fed.fit(model)
            x = sy.encrypt(torch.tensor([1.5]), parties)  # the session goes on
            torch.testing.assert_close(sy.decrypt(x + x), torch.tensor([3.0]), atol=1e-3, rtol=0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name])
    lines = [json.loads(line) for line in (tmp_path / "bob.state" / "openings.jsonl").read_text().splitlines()]
    assert [line["permitted"] for line in lines if line["what"] == "update in the clear"] == [True]


@pytest.mark.filterwarnings("ignore:secure=False")
def test_one_owner_who_gives_no_single_update(office, tmp_path):
    alone = {**TASKS, "fit": {"function": "hospital:fit", "in_the_clear": True}}
    allowed = {name: {"tasks": alone} for name in ALL}
    model = hospital.network()
    with Clinic(tmp_path, **{**allowed, "bob": {}}).start(office) as workers, workers.connect() as parties:
        with pytest.raises(RoundError, match=r"bob gives no single update of task fit to anybody \(in_the_clear\)"):
            federation(parties, secure=False).fit(model)
        federation(parties).fit(model)
    shut = {**allowed, "carol": {"tasks": alone, "open": []}}
    with Clinic(tmp_path, **shut).start(office) as workers, workers.connect() as parties:
        fed = federation(parties, secure=False)
        with pytest.raises(RoundError, match="carol opens nothing of hers to scientist"):
            fed.fit(model)


# --- rights and consent -------------------------------------------------------------


def test_a_task_without_the_right(workers):
    with workers.connect("erin") as parties, pytest.raises(RoundError, match="has no task 'fit' for this driver"):
        federation(parties).fit(hospital.network())


def test_rules_of_opening_hold(office, tmp_path):
    rule = {"scientist": {"min_items": 25}}
    strict = Clinic(tmp_path, alice={"open": rule}, bob={"open": rule})
    with strict.start(office) as workers, workers.connect() as parties:
        with pytest.raises(OpenNotPermittedError, match="25 of its rows or more"):
            asked(parties)
        assert asked(parties, owners=("bob", "carol")).took_part == ["bob", "carol"]
    closed = Clinic(tmp_path, alice={"open": []})
    with closed.start(office) as workers, workers.connect() as parties:
        model = torch.nn.Linear(2, 2)
        with pytest.raises(OpenNotPermittedError, match="alice"):
            asked(parties, model=model)


def test_the_same_sum_may_be_asked_again(parties):
    model = torch.nn.Linear(2, 2)
    first, second = asked(parties, model=model), asked(parties, model=model)
    torch.testing.assert_close(first.mean["mean"], second.mean["mean"])


def test_what_was_opened_is_known_after_a_restart(office, clinic, workers):
    model = torch.nn.Linear(2, 2)
    with workers.connect() as parties:
        asked(parties, model=model)
    lines = [json.loads(line) for line in (clinic.folder / "alice.state" / "sums.jsonl").read_text().splitlines()]
    assert ["scientist", "total", sorted(ALL)] == [lines[-1][0], lines[-1][1], lines[-1][3]]
    with clinic.start(office) as again, again.connect() as parties, pytest.raises(RoundError, match="difference"):
        asked(parties, model=model, owners=("alice", "bob"))


def test_a_line_that_was_cut_off(tmp_path):
    """Its writer was killed before the sum was opened."""
    known, more = ("scientist", "total", "aa"), ("scientist", "total", "bb")
    Contributions(tmp_path).add({known: frozenset(ALL)})
    with (tmp_path / "sums.jsonl").open("a") as file:
        file.write('["scientist", "total", "c')
    after = Contributions(tmp_path)
    assert "difference" in after.refusal("alice", {known: frozenset(ALL[:2])})
    after.add({more: frozenset(ALL[1:])})
    again = Contributions(tmp_path)
    assert all(again.refusal("alice", {key: frozenset(["alice", "bob"])}) for key in (known, more))


# --- configuration ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("hospital:absent", "cannot be loaded"),
        ("no_such_module:fit", "cannot be loaded"),
        ("hospital:untyped", "argument epochs needs a type"),
        ("hospital:positional", "a task is function"),
        ({"function": "hospital:fit", "data": ["absent"]}, "no data named 'absent'"),
        ({"function": "hospital:fit", "min_owners": 1}, "a sum of one"),
    ],
)
def test_a_file_that_cannot_be_used(office, tmp_path, task, reason):
    with pytest.raises(ConfigurationError, match=reason):
        Clinic(tmp_path, alice={"tasks": {**TASKS, "bad": task}}).start(office)


def test_a_right_to_no_task(office, tmp_path):
    rights = {"scientist": [*RIGHTS, "task:other"]}
    with pytest.raises(ConfigurationError, match="no right task:other"):
        Clinic(tmp_path, alice={"drivers": rights}).start(office)


def test_what_is_no_federation(parties):
    with pytest.raises(TypeError, match="no code travels"):
        sy.Federation(parties)
    with pytest.raises(PartyError, match="dave is no holder"):
        sy.Federation(parties, task="fit", owners=["alice", "dave"])
    with pytest.raises(TypeError, match="name a task that scores"):
        sy.Federation(parties, task="fit").evaluate(hospital.network())
    with pytest.raises(NotImplementedError, match="FedBN"):
        sy.Federation(parties, sy.federated.FedBN(), task="fit").fit(hospital.network())
    assert NAMES


def test_private_rounds(parties):
    """Each owner adds her part of the noise at her worker."""
    privacy = sy.privacy.Engine(target_epsilon=8, target_delta=1e-3, accountant="rdp", unit="client")
    privacy.for_rounds(1, noise_multiplier=100.0)
    model = hospital.network()
    before = {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}
    fed = federation(parties, strategy=sy.federated.FedAvg(min_workers=3), max_norm=1.0, privacy=privacy,
                     arguments={"lr": 0.1})  # fmt: skip
    [found] = fed.fit(model, rounds=1)
    moved = torch.cat([(model.state_dict()[name] - value).reshape(-1) for name, value in before.items()])
    # the mean of three updates of norm 1 or less, and noise of 100 in their sum
    deviation = 100 / 3
    assert 0.5 * deviation < float(moved.square().mean().sqrt()) < 1.6 * deviation
    assert found.rows == 3
    assert found.epsilon == privacy.epsilon()
