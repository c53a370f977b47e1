"""Flower apps whose updates are summed as shares: Flower's own messages, strategies and ClientApps, in one process.

What is expected comes from Flower itself: the same app, with the same strategy, without shares.
"""

import copy
import importlib.util
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("flwr")

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, Krum

from pysmpc.errors import ConfigurationError, RoundError
from pysmpc.federated import train
from pysmpc.federated.flower import Group, Identity, Member, SecureSum


def example(name):
    """A module of examples/flower."""
    path = Path(__file__).parents[2] / "examples" / "flower" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Nodes = example("flower_nodes").Nodes
NAMES = ["anna", "ben", "cleo", "dan", "eva"]
HOLDERS = NAMES[:2]


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def app_of(rows, mods=(), learn=None):
    """A Flower app as its documentation writes one; it trains the same way each time."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def fit(message, context):
        x, y = rows[context.node_config["partition-id"]]
        model = network()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        generator = torch.get_rng_state()
        torch.manual_seed(len(x))
        (learn or train)(model, x, y, lr=0.1)
        torch.set_rng_state(generator)
        metrics = MetricRecord({"train_loss": 1.0, "num-examples": len(x)})
        return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def look(message, context):
        x, y = rows[context.node_config["partition-id"]]
        model = network().eval()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        right = float((model(x).argmax(1) == y).double().mean())
        return Message(
            RecordDict({"metrics": MetricRecord({"accuracy": right, "num-examples": len(x)})}), reply_to=message
        )

    return app


class World:
    """Five clients, two of whom hold keys; each has a folder of her own."""

    def __init__(self, folder, learn=None, **terms):
        self.rows = [(torch.randn(20 + n, 4), torch.randint(2, (20 + n,))) for n in range(len(NAMES))]
        self.identities = [Identity.make(name) for name in NAMES]
        public = {each.name: each.public for each in self.identities}
        self.group = Group({name: public[name] for name in HOLDERS}, public, **{"min_clients": 3, **terms})
        self.member = Member(
            self.group, lambda context: self.identities[context.node_config["partition-id"]], state=folder
        )
        app = app_of(self.rows, [self.member], learn)
        self.member.serve(app)
        self.nodes = Nodes([app] * len(NAMES))

    def run(self, strategy, start, rounds=2):
        return SecureSum(strategy, self.group).start(self.nodes, ArrayRecord(start.state_dict()), num_rounds=rounds)

    def plainly(self, strategy, start, rounds=2):
        return strategy.start(
            Nodes([app_of(self.rows)] * len(NAMES)), ArrayRecord(start.state_dict()), num_rounds=rounds
        )


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.mark.parametrize("kind", [FedAvg, FedAdam])
def test_the_same_model_as_flower_by_itself(world, kind):
    start = network()
    secure, plain = world.run(kind(), start), world.plainly(kind(), start)
    expected, found = plain.arrays.to_torch_state_dict(), secure.arrays.to_torch_state_dict()
    assert found.keys() == expected.keys()
    for name, value in start.state_dict().items():
        assert found[name].shape == value.shape
        assert found[name].dtype == value.dtype
        if value.is_floating_point():
            # a step of rounding is 6e-8 here; Adam divides it by 10^-3 or more, times a rate of 0.1
            atol = 1e-6 if kind is FedAvg else 1e-4
            assert torch.allclose(found[name].double(), expected[name].double(), atol=atol), name
    for number, metrics in plain.evaluate_metrics_clientapp.items():
        assert secure.evaluate_metrics_clientapp[number]["accuracy"] == pytest.approx(metrics["accuracy"], abs=0.05)


def test_no_update_and_no_count_of_rows_is_in_what_travels(world):
    seen = {}

    def learn(model, x, y, lr):
        before = copy.deepcopy(model.state_dict())
        train(model, x, y, lr=lr)
        seen[len(x)] = before, model.state_dict()

    spied = World(world.member._state / "other", learn)
    spied.run(FedAvg(fraction_evaluate=0.0), network(), rounds=1)
    for n, (before, after) in seen.items():
        node = n - 20 + 1
        content = b"".join(part for at, part in spied.nodes.seen if at == node)
        assert len(content) > 8 * 30
        for name, value in after.items():
            if not value.is_floating_point():
                continue
            for form in (value, value - before[name], value.double() - before[name].double()):
                assert form.numpy().tobytes() not in content
        words = spied.group.terms("train", {}).precision.scale * n
        for name, value in after.items():
            if value.is_floating_point():
                exact = ((value.double() - before[name].double()) * words).round().long()
                assert exact.numpy().tobytes() not in content, name
        assert b"num-examples" not in content
        assert b"train_loss" not in content


def test_the_words_that_the_server_sees_are_uniform(world):
    world.run(FedAvg(fraction_evaluate=0.0), network(), rounds=1)
    from flwr.common.serde import recorddict_from_proto
    from flwr.proto.recorddict_pb2 import RecordDict as Proto

    words = [
        torch.from_numpy(found["pysmpc-words"]["words"].numpy().copy())
        for _, part in world.nodes.seen
        if "pysmpc-words" in (found := recorddict_from_proto(Proto.FromString(part)))
    ]
    assert len(words) == len(NAMES) + len(HOLDERS)
    bits = torch.stack([(torch.cat(words) >> place) & 1 for place in range(64)]).double().mean(1)
    assert float((bits - 0.5).abs().max()) < 0.5 * 6 / len(torch.cat(words)) ** 0.5  # six deviations


def test_a_client_that_is_gone_or_fails_is_not_in_the_sum(world, caplog):
    world.nodes.gone = {5}
    start = network()
    found = world.run(FedAvg(fraction_evaluate=0.0), start, rounds=1)
    rest = Nodes([app_of(world.rows)] * 4)
    plain = FedAvg(fraction_evaluate=0.0).start(rest, ArrayRecord(start.state_dict()), num_rounds=1)
    expected, found = plain.arrays.to_torch_state_dict(), found.arrays.to_torch_state_dict()
    for name, value in start.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(found[name].double(), expected[name].double(), atol=1e-6), name


def test_values_out_of_range_are_for_the_clients_log_alone(tmp_path, caplog):
    def learn(model, x, y, lr):
        if len(x) == 24:
            with torch.no_grad():
                model[0].weight[0, 0] = float("nan")

    world = World(tmp_path, learn)
    with caplog.at_level(logging.WARNING):
        found = world.run(FedAvg(fraction_evaluate=0.0), network(), rounds=1)
    assert all(bool(value.isfinite().all()) for value in found.arrays.to_torch_state_dict().values())
    told = [
        record.getMessage() for record in caplog.records if record.name == "flwr" and "no share" in record.getMessage()
    ]
    assert told == ["no share: eva takes no part in this round"]


def test_too_few(world):
    world.nodes.gone = {3, 4, 5}
    with pytest.raises(RoundError, match="consents to sums of 3 clients or more; 2 took part"):
        world.run(FedAvg(), network())


def test_a_holder_that_is_gone(world):
    world.nodes.gone = {1}
    with pytest.raises(RoundError, match="no node says that it is holder anna"):
        world.run(FedAvg(), network())


# --- a server that lies ---------------------------------------------------------------


class Server:
    """Asks holders what it likes, with what clients left in one round."""

    def __init__(self, world, start):
        self.world, self.strategy = world, SecureSum(FedAvg(fraction_evaluate=0.0), world.group)
        arrays = ArrayRecord(start.state_dict())
        messages = list(self.strategy.configure_train(1, arrays, ConfigRecord(), world.nodes))
        self.replies = world.nodes.send_and_receive(messages)
        self.parts = {str(r.content["pysmpc"]["client"]): r.content for r in self.replies}
        attempt, arrays = self.strategy._asked["train"]
        from pysmpc.federated.flower.group import digest

        self.facts = {
            "kind": "train", "attempt": attempt, "model": digest(arrays),
            "size": len(self.parts["anna"]["pysmpc-words"]["words"].numpy()),
        }  # fmt: skip

    def ask(self, clients, place=0, named=None, **changes):
        sealed = [list(self.parts[name]["pysmpc"]["sealed"])[place] for name in clients]
        given = {**self.facts, "clients": named or clients, "sealed": sealed, **changes}
        return self.strategy._share(HOLDERS[place], given, self.facts["size"])


@pytest.fixture
def server(world):
    return Server(world, network())


def test_a_sum_of_few_clients_is_refused(server):
    with pytest.raises(RoundError, match="consents to sums of 3 clients or more; 2 took part"):
        server.ask(NAMES[:2])


def test_two_sums_that_differ_by_one_are_refused(server, tmp_path):
    server.ask(NAMES)
    server.ask(NAMES)  # the same again tells nothing
    with pytest.raises(RoundError, match="opened before, of other owners"):
        server.ask(NAMES[:4])
    again = Member(server.world.group, server.world.member._identity, state=tmp_path)  # another process of this holder
    app = app_of(server.world.rows, [again])
    again.serve(app)
    server.world.nodes.apps[1] = app
    with pytest.raises(RoundError, match="opened before, of other owners"):
        server.ask(NAMES[:4])


def test_a_client_in_a_sum_twice_is_refused(server):
    with pytest.raises(RoundError, match="took part in this round already"):
        server.ask(["anna", "ben", "ben"])


@pytest.mark.parametrize(
    "changes",
    [{"attempt": "00"}, {"model": "00" * 32}, {"kind": "evaluate"}, {"size": 5}],
    ids=lambda each: next(iter(each)),
)
def test_keys_of_another_round_do_not_open(server, changes):
    with pytest.raises(RoundError, match="sealed by somebody else, or for another round"):
        server.ask(NAMES, **changes)


def test_keys_that_the_server_made_up_do_not_open(server):
    own = Identity.make("cleo")  # not the key that the group knows
    round = server.world.group.round("train", server.facts["attempt"], server.facts["model"], server.facts["size"])
    forged = own.seal(bytes(16), "anna", server.world.group.holders["anna"], round)
    sealed = [next(iter(server.parts[name]["pysmpc"]["sealed"])) for name in NAMES]
    with pytest.raises(RoundError, match="said to come from cleo"):
        server.ask(NAMES, sealed=[*sealed[:2], forged, *sealed[3:]])


def test_a_key_for_another_holder_does_not_open(server):
    sealed = [list(server.parts[name]["pysmpc"]["sealed"])[1] for name in NAMES]
    with pytest.raises(RoundError, match="sealed by somebody else, or for another round"):
        server.ask(NAMES, sealed=sealed)


def test_who_is_no_client_of_the_group_is_refused(server):
    with pytest.raises(RoundError, match="'mallory' is no client"):
        server.ask(NAMES[:3], named=["anna", "ben", "mallory"])


def test_who_is_asked_for_an_update_by_itself_leaves_nothing(world):
    arrays = ArrayRecord(network().state_dict())
    messages = list(FedAvg().configure_train(1, arrays, ConfigRecord(), world.nodes))
    assert len(messages) == len(NAMES)
    for reply in world.nodes.send_and_receive(messages):
        assert reply.has_error()
        assert "takes no part" in reply.error.reason


# --- what is wrong before anything runs --------------------------------------------------


@pytest.mark.parametrize("kind", [FedMedian, Krum])
def test_strategies_that_look_at_single_updates(world, kind):
    with pytest.raises(TypeError, match="looks at single updates"):
        SecureSum(kind(), world.group)


def test_groups_that_protect_nobody():
    public = {name: Identity.make(name).public for name in NAMES}
    with pytest.raises(ConfigurationError, match="needs a holder"):
        Group({}, public)
    with pytest.raises(ConfigurationError, match="of 2 or more"):
        Group({"anna": public["anna"]}, public, min_clients=1)
    with pytest.raises(ConfigurationError, match="two public keys"):
        Group({"anna": public["ben"]}, public)
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
        Group({"zoe": "12"}, public)


def test_files(tmp_path, world):
    identity = Identity.make("anna")
    file = identity.save(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert Identity.load(file).public == identity.public
    assert identity.public not in repr(identity)
    with pytest.raises(FileExistsError):
        identity.save(tmp_path)
    with pytest.raises(ConfigurationError, match="no private key"):
        Identity.load(tmp_path / "ben.key")
    tables = [
        f"[{table}]\n" + "".join(f'{n} = "{k}"\n' for n, k in getattr(world.group, table).items())
        for table in ("holders", "clients")
    ]
    (tmp_path / "group.toml").write_text("min_clients = 3\n" + "".join(tables))
    assert Group.load(tmp_path / "group.toml") == world.group
    with pytest.raises(ConfigurationError, match=r"group\.toml"):
        Group.load(tmp_path / "nothing" / "group.toml")


def test_the_example():
    secure, plain = example("flower_clinics").main(Nodes)
    assert abs(secure - plain) <= 3  # same orders of rows, same starts: 0 in 25 runs
    assert min(secure, plain) > 200  # 422 at least
