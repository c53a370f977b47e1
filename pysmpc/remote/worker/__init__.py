"""A worker: the process of one owner, which holds shares, runs what drivers send, and keeps to its owner's consent.

`worker` takes connections and `driver_connection` one driver's; `session_runner` is the thread of a session, with
`replay` for operations and `session_openings`, `session_sums` and `session_data` for what leaves; `policy`, `rows`,
`origins` and `approvals` decide about openings.  The commands and modules of the same layer may import from here.
Start reading at `worker.py`.
"""
