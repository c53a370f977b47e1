"""`SecretTensor`: the tensor that users hold, whose operations torch hands to `pysmpc.ops`.

`secret` is the subclass, `storage` what views share, `secret_errors` says what secrets cannot do, `display` how they
print (`chains` for PySyft's vocabulary); `watching` and `locked_calls` are around every call.  Operations and what is
above may import from here.  Start reading at `secret.py`.
"""

from pysmpc.tensor.secret import HANDLERS, SecretTensor

__all__ = ["HANDLERS", "SecretTensor"]
