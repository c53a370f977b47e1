"""Parties as processes of their own: workers over mutual TLS, and the driver that they compute for.

`driver` and `worker` are the two ends; what they say to each other is in `messages` and `program_messages`.  `config`
reads the files of both, `commands` is their command line, `local_workers` starts workers on this machine.  The command
line, the demos and modules of the same layer may import from here.  Start with `messages`.
"""
