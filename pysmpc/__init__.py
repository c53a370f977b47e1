"""pysmpc: secure multi-party computation for PyTorch.

    import pysmpc as sy

    parties = sy.virtual("alice", "bob")
    x = sy.encrypt(torch.randn(3), parties)
    print(sy.decrypt(x * x))

Importing this does nothing but define names.
"""

from pysmpc.api import Parties, decrypt, encrypt, virtual
from pysmpc.tensor import SecretTensor

__version__ = "0.1.0"

__all__ = ["Parties", "SecretTensor", "decrypt", "encrypt", "virtual"]
