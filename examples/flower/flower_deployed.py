"""The clinics of flower_clinics.py between processes: the app of `flwr run`, for a SuperLink and five SuperNodes.

    python flower_keys.py FOLDER                   # group.toml, and a key for each clinic
    flower-superlink --insecure --disable-runtime-dependency-installation                # in FOLDER, as all nodes are
    flower-supernode --insecure --superlink 127.0.0.1:8000 --port 9094 --node-config 'key="anna.key" partition-id=0'
    flwr run . clinics                             # here; `clinics` is a connection in Flower's config.toml

`right.txt`, where the SuperLink was started, is how many of 600 held-out digits are right in the end.  Between machines
connections use TLS, and not --insecure; each clinic makes its own key, and has group.toml from somebody it trusts.
"""

from pathlib import Path

from flower_clinics import CLINICS, ITEMS, client_app, network
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from pysmpc.federated import score
from pysmpc.federated.flower import Group, Member, SecureSum

GROUP = Group.load("group.toml")
server = ServerApp()


@server.main()
def main(grid, context):
    """Train for so many rounds; `secure=false` asks for updates by themselves, which the clinics refuse."""
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=len(CLINICS), min_available_nodes=len(CLINICS))
    if context.run_config["secure"]:
        strategy = SecureSum(strategy, GROUP)
    arrays = ArrayRecord(network().state_dict())
    result = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(context.run_config["rounds"]))
    model = network()
    model.load_state_dict({name: value.float() for name, value in result.arrays.to_torch_state_dict().items()})
    right = round(600 * float(score(model, ITEMS.test_images, ITEMS.test_labels)["accuracy"]))
    Path("right.txt").write_text(f"{right}\n", encoding="utf-8")


member = Member(GROUP, lambda context: context.node_config["key"])
client = client_app(member)
member.serve(client)
