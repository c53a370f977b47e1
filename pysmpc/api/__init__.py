"""What `import pysmpc as sy` offers: to share and to decrypt, to save, to check a model, to see what it costs.

`parties` has `virtual`, `calls` has `encrypt`, `decrypting` `decrypt`; the other modules are named for what they do.
Everything of the layers below is used here, and nothing below imports it.  Start reading at `calls.py`.
"""
