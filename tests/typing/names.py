# pyright: reportUnnecessaryTypeIgnoreComment=true
"""What mypy and pyright know of the public names; `make type` checks this file, and nothing runs it.

A line with `type: ignore` has a mistake that both must find: an ignore that is not needed is an error, too.
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

assert_type(x * 2 + 1, sy.SecretTensor)
assert_type((x > 0).sum(0, keepdim=True), sy.SecretTensor)
assert_type(x.view(2, 1) @ x.reshape(1, 2), sy.SecretTensor)
assert_type(x.reveal(), torch.Tensor)
how = sy.Protocol("fss", rounding="nearest")
assert_type(sy.virtual("a", "b", protocol=how), sy.Parties)
assert_type(sy.encrypt(1.0, parties, protocol=how), sy.SecretTensor)

sy.encypt(1, parties)  # type: ignore[attr-defined]
sy.encrpyt(1, parties)  # type: ignore[attr-defined]
sy.decrpt(x)  # type: ignore[attr-defined]
x.decrpt()  # type: ignore[attr-defined]
x.revael()  # type: ignore[attr-defined]
print(parties.stat)  # type: ignore[attr-defined]
sy.Protocl("fss")  # type: ignore[attr-defined]
sy.Protocol(roundin="nearest")  # type: ignore[call-arg]
sy.Protocol(rounding=3)  # type: ignore[arg-type]
sy.virtual("a", "b", protocl="fss")  # type: ignore[call-arg]
sy.encrypt(1, parties, fracbits=3)  # type: ignore[call-overload]
