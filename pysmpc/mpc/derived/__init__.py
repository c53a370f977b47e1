"""Protocols that are made of others: division, ranges, sorting, one-hot vectors, noise.

They name no suite: each takes the operations that it needs from its session's.  Start reading at
`derived_operations.py`.
"""
