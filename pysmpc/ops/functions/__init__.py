"""Nonlinear functions of secret tensors, from one opening each (`pysmpc.protocols.functions`).

Importing this package registers them.  Bounds of errors are in steps of a result with 16 fractional
bits and hold for every argument below 2^46 steps; an argument may be as fine as a product leaves it.
"""

from pysmpc.ops.functions import activations, exponentials, periodic, sigmoidal, softmaxes

__all__ = ["activations", "exponentials", "periodic", "sigmoidal", "softmaxes"]
