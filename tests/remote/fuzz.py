"""Fuzz what parses bytes of a peer, with atheris: python tests/remote/fuzz.py [--seconds 600] [--target NAME ...].

Starts from tests/remote/corpus, and keeps there what reached more code.  A crash, a
hang of 20 s, an error that is not one of a connection, or more than 1 GB of memory is
printed with the input, and the exit status is 1.

The target `lies` is no parser: whole programs of a driver who lies (tests/support/liars.py), told to workers over
TLS.  A share that they release, and that an owner or another program at another party forbids, is printed with the
program.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
MEMORY = 1024  # MB
NOTES = 256
SMALL = 60_000  # bytes of one target's corpus that is kept
LIES = "lies"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "security" / "attacks")]


def load(name):
    """Inputs of a target."""
    path = CORPUS / f"{name}.msgpack"
    return msgspec.msgpack.decode(path.read_bytes(), type=list[bytes]) if path.exists() else []


def save(name, inputs):
    """The shortest first, as many as are small together."""
    kept, total = [], 0
    for each in sorted(set(inputs), key=lambda each: (len(each), each)):
        total += len(each)
        if total > SMALL:
            break
        kept.append(each)
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{name}.msgpack").write_bytes(msgspec.msgpack.encode(kept))


def work(name, arguments):
    """In a process of its own: libFuzzer never returns."""
    import atheris

    packages = [
        "pysmpc.session",
        "pysmpc.remote",
        "pysmpc.tensor.secret",
        "pysmpc.tensor.storage",
        "pysmpc.ring.shares",
        "pysmpc.ops",
        "parsers",
    ]
    with atheris.instrument_imports(include=packages):
        import parsers
    import torch

    torch.set_num_threads(1)
    note = atheris.instrument_func(noting())
    atheris.Setup([sys.argv[0], *arguments], lambda data: note(zlib.crc32(parsers.run(name, data).encode()) % NOTES))
    atheris.Fuzz()


def noting():
    """A function with a branch for each number: the errors of compiled parsers stand for their coverage."""
    lines = [f"    if n == {n}: return {n}" for n in range(NOTES)]
    names = {}
    exec("\n".join(["def note(n):", *lines]), names)
    return names["note"]


def fuzz(name, seconds):
    """Whether nothing was found."""
    import parsers

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, each in enumerate([*load(name), *parsers.seeds(name)]):
            (corpus / f"{number}").write_bytes(each)
        options = ["-timeout=20", f"-rss_limit_mb={MEMORY}", "-max_len=4096", f"-artifact_prefix={folder}/"]
        options += [f"-max_total_time={seconds}", "-print_final_stats=1", str(corpus)]
        command = [sys.executable, __file__, "--work", name, *options]
        run = subprocess.run(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, errors="replace")
        lines = run.stdout.splitlines()
        if run.returncode:
            print("\n".join(lines[-40:]))
            for found in Path(folder).glob("*-*"):
                print(name, found.name, found.read_bytes())
            return False
        for line in lines:
            if line.startswith(("stat::number_of_executed", "stat::peak_rss")) or line.startswith("Done"):
                print(f"{name}: {line}")
            if "DONE" in line:
                print(f"{name}: {line}")
        save(name, [each.read_bytes() for each in corpus.iterdir()])
        return True


def lie(seconds):
    """Whether no share was released that must not be."""
    import liars

    logging.disable(logging.CRITICAL)  # workers say of each refusal why
    try:
        return not liars.fuzz(seconds)[-1]
    finally:
        logging.disable(logging.NOTSET)


def main():
    parser = argparse.ArgumentParser(description="Fuzz the parsers of what peers send.")
    parser.add_argument("--seconds", type=int, default=600, help="in all")
    parser.add_argument("--target", nargs="+")
    arguments = parser.parse_args()
    import parsers

    names = arguments.target or [*parsers.TARGETS, LIES]
    share = max(arguments.seconds // len(names), 1)
    found = [name for name in names if not (lie(share) if name == LIES else fuzz(name, share))]
    return 1 if found else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], sys.argv[3:])
    sys.exit(main())
