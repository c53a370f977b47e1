"""The command `pysmpc`. A mistake in its arguments or in the data is one line on stderr and exit status 2; so is an
interruption, with status 130."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pysmpc
from pysmpc import __version__, completion
from pysmpc.demo.settings import (
    ACTIVATIONS,
    BITS,
    DIGITS,
    HOLDERS,
    LOSSES,
    MODELS,
    PAIRS,
    PROTOCOLS,
    RATES,
    Settings,
)
from pysmpc.errors import PysmpcError
from pysmpc.remote import commands


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argument type: a whole number, low <= number <= high."""
    wanted = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from None
        if number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"{number} is not {wanted}")
        return number

    return parse


def rate(text: str) -> float:
    """An argument type: a learning rate."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number


def probability(text: str) -> float:
    """An argument type: 0 <= number < 1."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up to, but not including, 1")
    return number


def power_of_two(text: str) -> int:
    """An argument type: 1, 2, 4, up to 2^16."""
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 1 << 16 or number & (number - 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a power of two from 1 to 65536")
    return number


def writable(text: str) -> Path:
    """An argument type: a file that can be written, asked before the training and not after it."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent}: no such folder")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path} cannot be written")
    return path


def build_parser() -> Parser:
    parser = Parser(prog="pysmpc", description="Secure multi-party computation for PyTorch.")
    parser.add_argument("--version", action="version", version=f"pysmpc {__version__}")
    verbs = parser.add_subparsers(
        dest="verb", required=True, metavar="{demo,deal,info,worker,client,certs,status,approve,completion}"
    )

    about = "Train a network on secret-shared MNIST, then again in plain torch, and compare."
    add_demo_arguments(verbs.add_parser("demo", help=about, description=about))
    about = "Deal the correlated randomness of a program to disk, ahead of its runs."
    add_deal_arguments(verbs.add_parser("deal", help=about, description=about))
    about = "Print the version, the kernels in use and why they were chosen."
    verbs.add_parser("info", help=about, description=about)
    commands.add_arguments(verbs)
    about = 'Print a script that completes verbs and options: eval "$(pysmpc completion bash)", or into a file.'
    verbs.add_parser("completion", help=about, description=about).add_argument("shell", choices=completion.SHELLS)
    return parser


def add_deal_arguments(deal: Parser) -> None:
    deal.add_argument(
        "--program",
        type=Path,
        required=True,
        metavar="FILE",
        help="Python file with a function program(parties), which is run dry: inputs count by their shapes alone",
    )
    deal.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for a file a holder")
    deal.add_argument(
        "--holders", default="alice,bob", metavar="NAMES", help="separated by commas (default: %(default)s)"
    )
    deal.add_argument("--provider", default="crypto_provider", metavar="NAME", help="default: %(default)s")
    deal.add_argument("--runs", type=integer(1), default=1, metavar="N", help="of the program (default: %(default)s)")
    deal.add_argument("--protocol", metavar="NAME", help="default: the session's")


def deal_main(arguments: argparse.Namespace, parser: Parser) -> int:
    from pysmpc.api.dealing import deal_program
    from pysmpc.mpc.suite import suite_named

    try:
        suite_named(arguments.protocol)
    except ValueError as error:
        parser.error(f"argument --protocol: {error}")
    holders = arguments.holders.split(",")
    try:
        plan, paths = deal_program(
            arguments.program, arguments.out, holders, arguments.provider, arguments.runs, arguments.protocol
        )
    except (PysmpcError, OSError) as error:
        parser.error(str(error))
    print(f"{arguments.runs} x {plan}")
    for path in paths:
        print(f"  {path}  {path.stat().st_size:,} bytes")
    return 0


def add_demo_arguments(demo: Parser) -> None:
    """Every argument of `pysmpc demo`, in groups."""
    default = Settings()
    _add_data(demo, default)
    _add_training(demo, default)
    _add_secrecy(demo, default)
    demo.add_argument(
        "--remote", action="store_true", help="every party as a process of its own, over TLS, beside one process"
    )
    _add_federated(demo, default)
    demo.add_argument("--json", type=writable, metavar="FILE", help="write every figure there")


def _add_data(demo: Parser, default: Settings) -> None:
    data = demo.add_argument_group("data")
    data.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of MNIST's IDX files, gzipped or not (default: a sample of 640 + 640)",
    )
    data.add_argument(
        "--train-items", type=integer(1), default=default.train_items, metavar="N", help="default: %(default)s"
    )
    data.add_argument(
        "--test-items", type=integer(1), default=default.test_items, metavar="N", help="default: %(default)s"
    )


def _add_training(demo: Parser, default: Settings) -> None:
    training = demo.add_argument_group("training")
    training.add_argument("--epochs", type=integer(1), default=default.epochs, metavar="N", help="default: %(default)s")
    training.add_argument(
        "--batch-size", type=integer(1), default=default.batch_size, metavar="N", help="default: %(default)s"
    )
    training.add_argument(
        "--model", choices=MODELS, default=default.model, help="the article's network or another (default: %(default)s)"
    )
    training.add_argument(
        "--loss",
        choices=LOSSES,
        default=default.loss,
        help="mse: the squared error of an item, as in the article (default: %(default)s)",
    )
    training.add_argument(
        "--optimizer",
        choices=tuple(RATES),
        default=default.optimizer,
        help="of torch.optim; momentum is SGD with 0.9 of it (default: %(default)s)",
    )
    rates = ", ".join(f"{value:g} of {name}" for name, value in RATES.items())
    training.add_argument("--lr", type=rate, metavar="RATE", help=f"default: {rates}")
    training.add_argument(
        "--loss-scale",
        type=power_of_two,
        metavar="S",
        help="the loss times S before the backward pass, the gradients divided by it after: small gradients of deep "
        "networks keep more digits; a power of two (default: 4 times the batch size with resnet8, else 1)",
    )
    training.add_argument(
        "--dropout",
        type=probability,
        default=default.dropout,
        metavar="P",
        help="of what each hidden layer gives, dropped while training (default: %(default)g)",
    )
    training.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        default=default.activation,
        help="square needs no comparison (default: %(default)s)",
    )
    training.add_argument(
        "--seed",
        type=integer(0, 2**63 - 1),
        default=default.seed,
        metavar="N",
        help="of initial weights and batch order, never of what hides a secret (default: %(default)s)",
    )


def _add_secrecy(demo: Parser, default: Settings) -> None:
    secrecy = demo.add_argument_group("secrecy")
    secrecy.add_argument(
        "--workers",
        type=integer(2, len(HOLDERS)),
        default=default.workers,
        metavar="N",
        help=f"share holders, 2 to {len(HOLDERS)} (default: %(default)s)",
    )
    secrecy.add_argument(
        "--protocol", choices=PROTOCOLS, default=default.protocol, help="for comparisons (default: %(default)s)"
    )
    secrecy.add_argument(
        "--integrity", choices=["mac"], help="find holders that alter what they send (default: they are trusted)"
    )
    secrecy.add_argument(
        "--plaintext-model",
        action="store_true",
        help="keep the weights public and only the data secret; every step opens the gradients to the model's owner",
    )
    precision = secrecy.add_mutually_exclusive_group()
    precision.add_argument(
        "--precision-fractional",
        type=integer(2, 7),
        metavar="DIGITS",
        help=f"decimal digits after the point (default: {DIGITS} with the article's network, loss and optimizer)",
    )
    precision.add_argument(
        "--frac-bits",
        type=integer(8, 24),
        metavar="BITS",
        help=f"binary ones instead (default: with any other {BITS['mlp']}, of resnet8 {BITS['resnet8']})",
    )


def _add_federated(demo: Parser, default: Settings) -> None:
    federated = demo.add_argument_group("federated training")
    federated.add_argument(
        "--federated", action="store_true", help="owners train where their data are, and a sum of updates is opened"
    )
    federated.add_argument(
        "--in-the-clear",
        action="store_true",
        help="with --remote: also without secure aggregation, which the files of the demo's owners allow",
    )
    federated.add_argument(
        "--rounds", type=integer(1), default=default.rounds, metavar="N", help="default: %(default)s"
    )
    federated.add_argument(
        "--owners", type=integer(3), default=default.owners, metavar="N", help="default: %(default)s; 3 with --remote"
    )
    federated.add_argument(
        "--alpha",
        type=rate,
        default=default.alpha,
        metavar="A",
        help="of the Dirichlet distribution that splits classes among owners (default: %(default)s)",
    )


def demo_settings(arguments: argparse.Namespace, parser: Parser) -> Settings:
    values = {
        name: value
        for name, value in vars(arguments).items()
        if name not in ("verb", "remote", "federated", "in_the_clear") and value is not None
    }
    settings = Settings(**values)
    if settings.batch_size > settings.train_items:
        parser.error(f"--batch-size {settings.batch_size} is more than the {settings.train_items} training items")
    if settings.integrity and settings.protocol != Settings.protocol:
        parser.error(f"--integrity {settings.integrity} is for the default protocol, not for {settings.protocol}")
    if settings.protocol in PAIRS and settings.workers != 2:
        parser.error(
            f"--protocol {settings.protocol} is for 2 workers, not {settings.workers}; leave it out for the default"
        )
    return settings


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        status = run(arguments, parser)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(f"pysmpc {arguments.verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has gone, as `| head` does; what is left to write goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run(arguments: argparse.Namespace, parser: Parser) -> int:
    """Carry out a verb.  Torch is slow to import, and neither --help nor a mistake in the arguments needs it: hence
    the imports below."""
    if arguments.verb == "completion":
        print(completion.script(parser, arguments.shell))
        return 0
    parser.prog = f"pysmpc {arguments.verb}"
    if arguments.verb == "certs":
        return command(arguments, parser)
    settings = demo_settings(arguments, parser) if arguments.verb == "demo" else None
    try:
        pysmpc._load()
    except ImportError as error:
        if error.name != "pysmpc._ring":
            raise
        parser.error(str(error))
    if arguments.verb == "info":
        from pysmpc import info

        return info.main()
    if arguments.verb == "deal":
        return deal_main(arguments, parser)
    return command(arguments, parser) if settings is None else demo_main(settings, arguments, parser)


def command(arguments: argparse.Namespace, parser: Parser) -> int:
    """A verb of parties on machines of their own."""
    try:
        return commands.main(arguments)
    except BrokenPipeError:
        raise
    except (PysmpcError, OSError) as error:
        parser.error(str(error))


def demo_main(settings: Settings, arguments: argparse.Namespace, parser: Parser) -> int:
    from pysmpc.datasets import DatasetError

    try:
        if arguments.federated:
            from pysmpc.demo import owners

            if settings.owners > settings.train_items:
                parser.error(f"--owners {settings.owners} is more than the {settings.train_items} training items")
            if arguments.in_the_clear and not arguments.remote:
                parser.error("--in-the-clear goes with --remote; in one process both are always compared")
            return owners.main(settings, remote=arguments.remote, in_the_clear=arguments.in_the_clear)
        if arguments.remote:
            if settings.plaintext_model or settings.json or settings.integrity:
                parser.error("--remote goes with none of --plaintext-model, --json and --integrity")
            from pysmpc.demo import remote

            return remote.main(settings)
        from pysmpc.demo import main as demo

        demo.main(settings)
    except BrokenPipeError:
        raise
    except (DatasetError, PysmpcError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
