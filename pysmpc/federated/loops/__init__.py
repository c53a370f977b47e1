"""A driver's own training loop, captured as torch's operations and repeated at owners on batches of their rows.

`captured_loop` makes a program of a loop, at the driver; `loop_program` checks one and runs it, at an owner, with the
operations of `loop_operations` alone; `loop_rows` tells whether a program treats all rows of a batch alike.  What an
owner allows, and how she keeps to it, is in `pysmpc.remote.worker.drivers_loops`.  Start with `captured_loop`.
"""

from pysmpc.federated.loops.captured_loop import Loop

__all__ = ["Loop"]
