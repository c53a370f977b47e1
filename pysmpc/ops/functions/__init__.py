"""Nonlinear functions of secret tensors, from one opening each (`pysmpc.mpc.functions`).

Importing this package registers them.  Bounds of errors are in steps of a result with 16 fractional
bits, for |x| below 2^46 steps; a coarser result is within its own step and what exceeds one here.
With rounding="nearest", half a step less.  An argument may be as fine as a product leaves it.  Rounds
and bytes are those of the default suite; under function secret sharing, SecureNN and codes, where a
value lies is found by a comparison of its own (`pysmpc.mpc.functions.regions`).
"""

from pysmpc.ops.functions import activations, exponentials, inverse, periodic, sigmoidal, softmaxes

__all__ = ["activations", "exponentials", "inverse", "periodic", "sigmoidal", "softmaxes"]
