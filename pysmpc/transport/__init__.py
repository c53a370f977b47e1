"""The ways in which parties reach each other: TLS between machines, ranks of torch.distributed, threads.

Each gives a session the same two things: a channel and a dealer.  `tls`, `wire`, `links`, `control`, `certificates`
and `establish` are connections between machines.  Tensors and what is above may import it.  Start reading at
`establish.py`.
"""
