"""Protocols: functions of a party and its shares, which say what is opened and what it costs.

A suite (`operations.py`) is a set of them under one interface; `suite.py` has the tables, `plain.py` the oracle that
computes on the values themselves.  A protocol sees a channel and a dealer, and nothing of sessions or tensors: whatever
is above may import it.  Start reading at `interfaces.py`, then
`additive/products.py`.
"""
