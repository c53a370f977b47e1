"""Data sets for the examples: readers, and a sample that ships inside the package."""

from pysmpc.datasets.idx import DatasetError
from pysmpc.datasets.mnist import Mnist, load

__all__ = ["DatasetError", "Mnist", "load"]
