"""`pysmpc info`, also `python -m pysmpc.info`: what this installation is and which kernels it chose."""

from __future__ import annotations

import os
import platform
import sys
from typing import NamedTuple

import torch

from pysmpc import __version__, ring


class Info(NamedTuple):
    version: str
    target: str
    reason: str
    supported: tuple[str, ...]
    products: str  # how those of matrices are computed
    threads: int  # of torch, and so of the kernels
    compiler: str
    torch: str
    python: str
    machine: str


def why() -> str:
    """Why the kernels in use were chosen: by whom, and from which features of the CPU."""
    chosen = "forced by PYSMPC_TARGET" if os.environ.get("PYSMPC_TARGET") else "the best supported"
    return f"{chosen}; {ring.reason().removeprefix(f'{ring.target()}: ')}"


def gather() -> Info:
    return Info(
        version=__version__,
        target=ring.target(),
        reason=why(),
        supported=tuple(ring.supported()),
        products=ring.products(),
        threads=torch.get_num_threads(),
        compiler=ring.compiler(),
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
        "compiler": info.compiler,
        "torch": info.torch,
        "python": f"{info.python} on {info.machine}",
    }
    for name, value in rows.items():
        print(f"{name:<10} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
