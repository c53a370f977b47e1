"""What mypy knows of the public names; `make type` checks this file, and nothing runs it.

A line with `type: ignore` has a mistake that mypy must find: an ignore that is not needed is an error, too.
"""

import torch
from torch import nn
from typing_extensions import assert_type

import pysmpc as sy

parties = sy.virtual("a", "b")
x = sy.encrypt(torch.ones(2), parties, frac_bits=20)
assert_type(x, sy.SecretTensor)
assert_type(sy.encrypt([1.0, 2.0], parties), sy.SecretTensor)
model = sy.encrypt(nn.Linear(2, 1), parties, private_layers=[""])
assert_type(model, nn.Linear)
assert_type(sy.decrypt(x), torch.Tensor)
assert_type(sy.decrypt(model), nn.Linear)

sy.encypt(1, parties)  # type: ignore[attr-defined]
sy.encrypt(1, parties, fracbits=3)  # type: ignore[call-overload]
