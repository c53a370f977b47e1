"""Hosts apart, on one machine: a network namespace and an address for each party, and a wire that takes its time.

    python bench/hosts.py     the demo with every party on a host of its own; needs root

Each namespace has a TUN device; one process forwards packets between them, `one_way`
seconds later and `rate` bytes a second out of each host.  (netem would do, but few
kernels of test machines have it.)  Packets carry a virtio header, so that TCP hands over
up to 64 KB at once, and Python is quick enough.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import heapq
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

TUN, NO_INFORMATION, VNET_HEADER = 0x1, 0x1000, 0x4000
SET_INTERFACE, SET_OFFLOAD = 0x400454CA, 0x400454D0
CHECKSUM, TSO4, TSO6 = 1, 2, 4
HEADER = 10  # bytes of a virtio header
CLONE_NEWNET = 0x40000000
NETWORK = "10.231.7"


def missing() -> str | None:
    """Why there can be no hosts here; None where there can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "needs Linux and the `ip` command"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "needs /dev/net/tun"
    found = subprocess.run(["ip", "netns", "add", f"pysmpc-{os.getpid()}"], capture_output=True, text=True)
    if found.returncode:
        return f"may not make network namespaces: {found.stderr.strip()}"
    ip("netns", "del", f"pysmpc-{os.getpid()}")
    return None


def ip(*arguments: str) -> None:
    """Run the command, which says what is wrong."""
    subprocess.run(["ip", *arguments], check=True)


class Hosts:
    """A host for each name.  Close it, or use it in a `with` statement.

    one_way: seconds that every packet takes.  rate: bytes a second out of each host; 0 for no bound.
    """

    def __init__(self, names: Sequence[str], one_way: float = 0.0, rate: float = 0.0) -> None:
        self._spaces = {name: f"pysmpc-{os.getpid()}-{name}" for name in names}
        self.addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, 1)}
        self._made: list[str] = []
        self._wire: subprocess.Popen[bytes] | None = None
        ends: list[int] = []
        try:
            for number, (name, space) in enumerate(self._spaces.items(), 1):
                ip("netns", "add", space)
                self._made.append(space)
                device = f"pysmpc{number}"
                ends.append(_tun(device))
                ip("link", "set", "dev", device, "netns", space)
                ip("-n", space, "addr", "add", f"{self.addresses[name]}/24", "dev", device)
                for each in ("lo", device):
                    ip("-n", space, "link", "set", each, "up")
            command = [sys.executable, __file__, "--wire", f"{one_way}", f"{rate}", *map(str, ends)]
            self._wire = subprocess.Popen(command, pass_fds=ends)
        except BaseException:
            self.close()
            raise
        finally:
            for end in ends:
                os.close(end)

    def inside(self, name: str) -> list[str]:
        """What to put in front of a command that is to run on a host."""
        return ["ip", "netns", "exec", self._spaces[name]]

    @contextlib.contextmanager
    def at(self, name: str) -> Iterator[None]:
        """This thread's sockets, while it lasts, are on a host."""
        with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{self._spaces[name]}") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def close(self) -> None:
        """Take everything down."""
        if self._wire is not None:
            self._wire.kill()
            self._wire.wait()
        while self._made:
            ip("netns", "del", self._made.pop())

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _tun(device: str) -> int:
    """A new device; what is written to the file arrives there, what is sent there can be read."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, SET_INTERFACE, struct.pack("16sH22x", device.encode(), TUN | NO_INFORMATION | VNET_HEADER))
    fcntl.ioctl(end, SET_OFFLOAD, CHECKSUM | TSO4 | TSO6)
    return end


def _enter(space: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(space, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def forward(ends: Sequence[int], one_way: float, rate: float) -> None:
    """Between the files, by the last byte of the address; never returns."""
    waiting: list[tuple[float, int, int, bytes]] = []
    free = dict.fromkeys(ends, 0.0)  # when the host's line will have sent all that it was given
    count = 0
    os.setpriority(os.PRIO_PROCESS, 0, 0)  # a line waits for nobody
    while True:
        patience = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
        for end in select.select(ends, [], [], patience)[0]:
            packet = os.read(end, HEADER + (1 << 16))
            to = packet[HEADER + 19]
            if packet[HEADER] >> 4 != 4 or not 1 <= to <= len(ends):
                continue
            free[end] = max(free[end], time.monotonic()) + (len(packet) / rate if rate else 0)
            count += 1
            heapq.heappush(waiting, (free[end] + one_way, count, ends[to - 1], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            *_, end, packet = heapq.heappop(waiting)
            with contextlib.suppress(BlockingIOError):  # a queue that is full drops, as a line does
                os.write(end, packet)


def tidy() -> None:
    """Take hosts down on SIGTERM, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def main() -> int:
    """The demo."""
    from pysmpc.demo import remote
    from pysmpc.demo.settings import Settings
    from pysmpc.remote.local_workers import LocalWorkers

    parser = argparse.ArgumentParser(description="The demo, with every party on a host of its own.")
    parser.add_argument("--epochs", type=int, default=Settings().epochs)
    parser.add_argument("--one-way", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--rate", type=float, default=0.0, metavar="BYTES", help="a second, out of each host")
    arguments = parser.parse_args()
    tidy()
    if reason := missing():
        print(f"no hosts apart here: {reason}", file=sys.stderr)
        return 0
    settings = Settings(epochs=arguments.epochs)
    workers = [*settings.holders, "crypto_provider"]
    with Hosts([*workers, "scientist"], arguments.one_way, arguments.rate) as hosts, hosts.at("scientist"):
        for name, address in hosts.addresses.items():
            print(f"{name:<16}{address}")

        def start(holders: Sequence[str], **options: object) -> LocalWorkers:
            places = {name: f"{hosts.addresses[name]}:7000" for name in workers}
            return LocalWorkers(
                holders, places=places, within={name: hosts.inside(name) for name in workers}, **options
            )

        return remote.main(settings, start=start)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--wire"]:
        forward([int(end) for end in sys.argv[4:]], float(sys.argv[2]), float(sys.argv[3]))
    sys.exit(main())
