"""A worker's process that a test can look into: python watched.py FOLDER python -m pysmpc.cli worker --config FILE.

FOLDER/NAME.sent   every byte that it offers to a connection, before TLS encrypts it (with PYSMPC_TEST_TAP set)
FOLDER/NAME.json   on SIGUSR1: how many objects of each type there are, and the words of every share that it holds
"""

import collections
import gc
import json
import os
import signal
import sys
from pathlib import Path

from pysmpc import cli
from pysmpc.remote.worker.driver_connection import DriverConnection
from pysmpc.transport.wire import Stream


def census():
    """How many objects of each type."""
    gc.collect()
    return collections.Counter(type(each).__name__ for each in gc.get_objects())


def shares():
    """{slot: the words in it} of every session."""
    found = {}
    for each in gc.get_objects():
        if isinstance(each, DriverConnection) and each.replay is not None:
            found |= {slot: cell.body.words.flatten().tolist() for slot, cell in each.replay._cells.items()}
    return found


def tap(path):
    """Keep what is written to any connection."""
    file = path.open("ab", buffering=0)
    real = Stream.write

    def write(stream, data):
        count = real(stream, data)
        file.write(data[:count])
        return count

    Stream.write = write


def main():
    folder, config = Path(sys.argv[1]), Path(sys.argv[-1])

    def look(*_):
        values = {"objects": census(), "shares": {} if "PYSMPC_TEST_TAP" in os.environ else shares()}
        (folder / f"{config.stem}.part").write_text(json.dumps(values))
        (folder / f"{config.stem}.part").rename(folder / f"{config.stem}.json")

    signal.signal(signal.SIGUSR1, look)
    if "PYSMPC_TEST_TAP" in os.environ:
        tap(folder / f"{config.stem}.sent")
    sys.exit(cli.main(sys.argv[sys.argv.index("worker") :]))


if __name__ == "__main__":
    main()
