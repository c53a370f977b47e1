"""Words: arithmetic mod 2^64 and what values are made of.

`z2k` is the door to the compiled kernels (`launch`), `z2k_128` and `odd_ring` are the two other rings, `prg` the keyed
streams that hide and deal, `fixedpoint` the encodings of numbers, `shares` what a value is at a party.  Everything but
`pysmpc.errors`, `torch_modes` and `whereabouts` may import from here.  Start reading at `shares.py`, then `z2k.py`.
"""
