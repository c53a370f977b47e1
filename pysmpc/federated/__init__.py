"""Workers, pointers, and the verbs that the documents add to torch's classes."""

from pysmpc.federated.pointers import MultiPointerTensor, PointerTensor
from pysmpc.federated.workers import VirtualWorker

__all__ = ["MultiPointerTensor", "PointerTensor", "VirtualWorker"]
