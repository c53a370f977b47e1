"""Protocols on additive shares mod 2^64, with the dealer's help: the default suite.

Sharing and opening, products, truncation, comparison, bits.  Other folders of `pysmpc.mpc` build on these.  Start
reading at `sharing.py`, then `products.py`.
"""
