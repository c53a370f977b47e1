"""What protocols run on: sessions, channels, dealers, and the ways in which parties reach each other.

Holders in one process, in threads, as ranks of torch.distributed, or on machines of their own over TLS all have a
channel and a dealer of the same interface.  Tensors, operations and what is above may import it, protocols may not.
Start reading at `session.py`.
"""
