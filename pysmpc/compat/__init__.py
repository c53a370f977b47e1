"""Names of other libraries, on top of what this package has.

One folder a library.  Modules of the same layer and above may import from here: `pysmpc.federated` simulates with
PySyft's virtual workers, and `sy.decrypt` fetches what its pointers stand for.  Parties on other machines know nothing
of it.  Start with `pysyft`.
"""
