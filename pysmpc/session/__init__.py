"""A session: who holds shares, who deals, and what passes between them.

`channel` moves words in rounds, `dealer` gives correlated randomness, `ledger` and `stats` keep the openings and the
costs, `store` and `offline` keep dealt randomness on disk.  Protocols see channel and dealer only through
`pysmpc.mpc.interfaces`; transports, tensors and what is above may import from here.  Start reading at `session.py`.
"""
