"""The driver's side of parties on other machines: what a user's program says to workers.

`connect` makes the parties of `sy.connect`, `driver` keeps the connections, `answers` takes in what workers send, and
`recorder` sends the operations of a `RecordedTensor` (`recorded_tensor`).  Modules
of the same layer and above may import from here.  Start reading at `connect.py`.
"""
