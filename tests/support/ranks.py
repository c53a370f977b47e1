"""Runs a program in every rank of a torch.distributed job, in processes of their own.

Children are forked from a server that has imported torch (with what optimizers import) and
pysmpc once, so that a job starts in a moment; a program is a module-level function of a module in tests/support.
"""

import atexit
import multiprocessing
import os
import socket
import tempfile
import traceback

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch.distributed", "torch._dynamo", "pysmpc.public", "rank_programs"])


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _child(pipe, environment, program, args):
    os.environ.update(environment)
    try:
        outcome = program(*args)
        atexit._run_exitfuncs()  # which a child of multiprocessing leaves out
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
        if os.environ.get("PYSMPC_TEST_TRACE"):
            traceback.print_exc()
    pipe.send(outcome)
    pipe.close()


def run_ranks(ranks, program, *args, patience=60):
    """What program(*args) returned in each rank, or its error as text."""
    with tempfile.TemporaryDirectory() as folder:
        job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(ranks), "TMPDIR": folder}
        processes, pipes = [], []
        for rank in range(ranks):
            ours, theirs = CONTEXT.Pipe(duplex=False)
            process = CONTEXT.Process(
                target=_child, args=(theirs, {**job, "RANK": str(rank)}, program, args), daemon=True
            )
            process.start()
            theirs.close()
            processes.append(process)
            pipes.append(ours)
        outcomes = []
        for pipe in pipes:
            try:
                outcomes.append(pipe.recv() if pipe.poll(patience) else "no answer")
            except EOFError:
                outcomes.append("died")
        for process in processes:
            process.join(patience)
            if process.is_alive():
                process.kill()
    return outcomes
