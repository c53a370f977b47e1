"""`pysmpc info`, also `python -m pysmpc.info`: what this installation is and which kernels it chose."""

from __future__ import annotations

import os
import platform
import ssl
import sys
from typing import NamedTuple

import torch

from pysmpc import __version__
from pysmpc.ring import z2k


class Info(NamedTuple):
    version: str
    target: str
    reason: str
    supported: tuple[str, ...]
    products: str  # how those of matrices are computed
    threads: int  # of torch, and so of the kernels
    encryption: str  # of connections between machines
    compiler: str
    torch: str
    python: str
    machine: str


def why() -> str:
    """Why the kernels in use were chosen: by whom, and from which features of the CPU."""
    chosen = "forced by PYSMPC_TARGET" if os.environ.get("PYSMPC_TARGET") else "the best supported"
    return f"{chosen}; {z2k.reason().removeprefix(f'{z2k.target()}: ')}"


def encryption() -> str:
    """Which OpenSSL this Python has, and whether a later one would be faster here."""
    late = ssl.OPENSSL_VERSION_INFO >= (3, 1) or "vaes" not in z2k.target()
    return ssl.OPENSSL_VERSION + ("" if late else "; 3.1 or later would use this CPU's vaes (docs/remote.md)")


def gather() -> Info:
    return Info(
        version=__version__,
        target=z2k.target(),
        reason=why(),
        supported=tuple(z2k.supported()),
        products=z2k.products(),
        threads=torch.get_num_threads(),
        encryption=encryption(),
        compiler=z2k.compiler(),
        torch=torch.__version__,
        python=platform.python_version(),
        machine=platform.machine(),
    )


def main() -> int:
    info = gather()
    rows = {
        "pysmpc": info.version,
        "target": f"{info.target}, {info.reason}",
        "supported": ", ".join(info.supported),
        "products": info.products,
        "threads": str(info.threads),
        "encryption": info.encryption,
        "compiler": info.compiler,
        "torch": info.torch,
        "python": f"{info.python} on {info.machine}",
    }
    for name, value in rows.items():
        print(f"{name:<10} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
