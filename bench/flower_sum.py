"""A round of secure aggregation by Flower's SecAgg+, and by `pysmpc.federated.flower`, in one process.

    python bench/flower_sum.py [clients] [parameters] [shares]

Needs flwr.  Both send Flower's messages, encoded as between machines, through the same simulated nodes, one client
after another; local training is not in it: an update is made of noise.  shares: neighbours of each client in SecAgg+,
itself among them; ours has three holders of keys.
"""

import logging
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "flower"))

from flower_nodes import Nodes
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from pysmpc.federated.flower import Group, Identity, Member, SecureSum


def ours(clients, parameters):
    """(the nodes, a function that runs a round)."""
    identities = [Identity.make(f"client{n}") for n in range(clients)]
    public = {each.name: each.public for each in identities}
    group = Group(dict(list(public.items())[:3]), public)
    member = Member(group, lambda context: identities[context.node_config["partition-id"]])
    app = ClientApp(mods=[member])

    @app.train()
    def fit(message, context):
        value = message.content["arrays"]["w"].numpy() + update(context.node_config["partition-id"], parameters)
        content = {"arrays": ArrayRecord({"w": Array(value)}), "metrics": MetricRecord({"num-examples": 10})}
        return Message(RecordDict(content), reply_to=message)

    member.serve(app)
    nodes = Nodes([app] * clients)
    strategy = SecureSum(FedAvg(fraction_evaluate=0.0), group)
    arrays = ArrayRecord({"w": Array(np.zeros(parameters, np.float32))})

    def run():
        messages = strategy.configure_train(1, arrays, ConfigRecord(), nodes)
        return strategy.aggregate_train(1, nodes.send_and_receive(messages))[0]["w"].numpy()

    return nodes, run


def theirs(clients, parameters, shares):
    """The same by SecAgg+, whose workflow works with clients of Flower's older kind."""
    from flwr.client import NumPyClient
    from flwr.client.mod import secaggplus_mod
    from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.compat.common.recorddict_compat import parameters_to_arrayrecord
    from flwr.server import LegacyContext
    from flwr.server.client_proxy import ClientProxy
    from flwr.server.strategy import FedAvg as Older
    from flwr.server.workflow import SecAggPlusWorkflow
    from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key

    class Client(NumPyClient):
        def __init__(self, place):
            self.place = place

        def fit(self, given, config):
            return [given[0] + update(self.place, parameters)], 10, {}

    app = ClientApp(lambda context: Client(context.node_config["partition-id"]).to_client(), mods=[secaggplus_mod])
    nodes = Nodes([app] * clients)

    class Proxy(ClientProxy):
        def __init__(self, node):
            super().__init__(str(node))
            self.node_id = node

        def unused(self, *args, **options):
            raise NotImplementedError

        get_properties = get_parameters = fit = evaluate = reconnect = unused

    Proxy.__abstractmethods__ = frozenset()
    strategy = Older(fraction_fit=1.0, min_fit_clients=clients, min_available_clients=clients)
    context = LegacyContext(Context(1, 0, {}, RecordDict(), {}), strategy=strategy)
    for node in nodes.get_node_ids():
        context.client_manager.register(Proxy(node))
    start = ndarrays_to_parameters([np.zeros(parameters, np.float32)])
    context.state.array_records[MAIN_PARAMS_RECORD] = parameters_to_arrayrecord(start, True)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    workflow = SecAggPlusWorkflow(shares, max(2, shares // 2 + 1), max_weight=10.0)
    mean = {}
    aggregate = strategy.aggregate_fit

    def kept(number, results, failures):
        mean["w"] = parameters_to_ndarrays(results[0][1].parameters)[0]
        return aggregate(number, results[:1], failures)

    strategy.aggregate_fit = kept

    def run():
        workflow(nodes, context)
        return mean["w"]

    return nodes, run


def update(place, parameters):
    return np.roll(NOISE[:parameters], place)


def main(clients=20, parameters=1_000_000, shares=0):
    global NOISE
    NOISE = np.random.default_rng().standard_normal(parameters).astype(np.float32) / 1000
    logging.getLogger("flwr").setLevel(logging.ERROR)
    expected = sum(update(place, parameters).astype(np.float64) for place in range(clients)) / clients
    shares = shares or min(clients, 51)
    for name, (nodes, run) in (
        ("pysmpc, 3 holders", ours(clients, parameters)),
        (f"SecAgg+, {shares} shares", theirs(clients, parameters, shares)),
    ):
        nodes.keep = False
        begun, worked = time.perf_counter(), time.process_time()
        found = run()
        seconds, processor = time.perf_counter() - begun, time.process_time() - worked
        print(
            f"{name}: {clients} clients, {parameters} parameters: {seconds:.1f} s ({processor:.1f} of the processor), "
            f"{nodes.sent / clients / 1e6:.2f} MB sent a client, largest error {np.abs(found - expected).max():.2g}, "
            f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB so far; load "
            f"{os.getloadavg()[0]:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
