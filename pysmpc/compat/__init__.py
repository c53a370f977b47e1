"""Names of other libraries, on top of what this package has.

One folder a library.  Only the command line and the demos may import from here, beside modules of the same layer;
nothing below knows these names.  Start with `pysyft`.
"""
