"""A Flower app whose server sees sums of updates alone: five clinics, two of whom also hold keys.

    pip install 'pysmpc[flower]'
    python examples/flower/flower_clinics.py

`client_app` and `server_app` are what `flwr run` takes.  Here they run in one process, with messages that are encoded
as between machines: Flower's simulation needs another large library.  Compared: the same app without shares.
"""

import argparse
import logging

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import nn

from pysmpc.datasets import mnist
from pysmpc.federated import dirichlet, score, train
from pysmpc.federated.flower import Group, Identity, Member, SecureSum

CLINICS = ["anna", "ben", "cleo", "dan", "eva"]
ITEMS = mnist.load(None, 600, 600)
PARTS = dirichlet(ITEMS.train_labels, len(CLINICS), 0.5, 20)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


def client_app(*mods):
    """An ordinary app of Flower: it trains where the data are, and returns the trained model."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def fit(message, context):
        rows = PARTS[context.node_config["partition-id"]]
        model = network()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        train(model, ITEMS.train_images[rows], ITEMS.train_labels[rows], lr=0.1)
        metrics = MetricRecord({"num-examples": len(rows)})
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}
        return Message(RecordDict(content), reply_to=message)

    return app


def server_app(strategy, rounds):
    app = ServerApp()

    @app.main()
    def main(grid, context):
        arrays = ArrayRecord(network().state_dict())
        result = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=rounds)
        context.state["arrays"] = result.arrays

    return app


def keys():
    """(group, identities).  Between machines each clinic makes its own key, and the public ones are in a file."""
    identities = [Identity.make(name) for name in CLINICS]
    public = {each.name: each.public for each in identities}
    return Group({name: public[name] for name in ("anna", "ben")}, public, min_clients=3, max_norm=10.0), identities


def main(nodes, rounds=5):
    """How many held-out digits are right: with shares, and without.  nodes: makes a Grid of so many ClientApps."""
    group, identities = keys()
    member = Member(group, lambda context: identities[context.node_config["partition-id"]])
    secure = client_app(member)
    member.serve(secure)
    right = []
    for app, strategy in (
        (secure, SecureSum(FedAvg(fraction_evaluate=0.0), group)),
        (client_app(), FedAvg(fraction_evaluate=0.0)),
    ):
        grid = nodes([app] * len(CLINICS))
        context = grid.context()
        server_app(strategy, rounds)(grid, context)
        model = network()
        model.load_state_dict({n: v.float() for n, v in context.state["arrays"].to_torch_state_dict().items()})
        right.append(round(600 * float(score(model, ITEMS.test_images, ITEMS.test_labels)["accuracy"])))
    print(f"right of 600 held-out digits: {right[0]} with shares, {right[1]} in the clear")
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    from flower_nodes import Nodes  # beside this file

    logging.getLogger("flwr").setLevel(logging.ERROR)
    main(Nodes, parser.parse_args().rounds)
