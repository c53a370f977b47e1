"""Training loops that are recorded once and then run again, while nothing in them changes.

`loop` finds where they begin and end.  `noting` writes down what a region of one asked of secrets, as a `path`, whose
inputs `roots` finds; `follow` compares the loop with it as it runs again, and `loop_regions` records and runs it as a
`segment`: `trace` notes what its operations come down to (kernels, torch's operations on words, messages), `buffers`
lays out the memory that they use, `compile` makes them ready, `check` holds one recording against another.
`train_step` is `sy.TrainStep`, the lines of a loop in one call.

Modules of the same layer and above may import from here.  Start reading at `loop`.
"""
