"""Programs that are recorded once and then run again, while nothing in them changes.

`segment` records a piece of a program with the values that it reads, changes and returns: `trace` notes what its
operations come down to (kernels, torch's operations on words, messages), `buffers` lays out the memory that they use,
`compile` makes them ready, `check` holds one recording against another.  `noting` writes down what the piece asked of
secrets, as a `path`; `follow` compares the program with it as it runs again.  `train_step` is `sy.TrainStep`.

Modules of the same layer and above may import from here.  Start reading at `train_step`.
"""
