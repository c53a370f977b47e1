"""Forked children of a test."""

import os
import select
import signal

SECONDS = 30


def in_child(work):
    """What work() gives in a child of this process, as text, or the error that it raises there."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                text = str(work())
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
            os.write(writer, text.encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
            return f"nothing within {SECONDS} s"
        return os.read(reader, 1 << 16).decode()
    finally:
        os.waitpid(child, 0)
        os.close(reader)
