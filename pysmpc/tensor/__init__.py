"""`SecretTensor`: the tensor that users hold, whose operations torch hands to `pysmpc.ops`.

`secret` is the subclass and its storage, `display` how it prints.  Operations and what is above may import from here.
Start reading at `secret.py`.
"""

from pysmpc.tensor.secret import HANDLERS, SecretTensor

__all__ = ["HANDLERS", "SecretTensor"]
