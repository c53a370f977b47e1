"""Programs that were run once and are run again without the Python in between.

`trace` notes what an operation comes down to: kernels, torch's operations on words, and messages; `buffers` lays
out the memory that they use; `compile` makes them ready, and `run` is what is left of them.  `segment` holds a
piece of a program with the values that it reads, changes and returns.  `follow` compares a program that runs with one
that was recorded, and computes nothing while it is the same.

`steps` (sy.TrainStep) and `remote` may import this folder.  Start reading at `segment`.
"""
