"""LSTM layers, which torch sends as one operation where it would use oneDNN, and takes apart elsewhere.

With gates i, f, g, o of W_ih x + b_ih + W_hh h + b_hh: c' = f c + i g, h' = o tanh(c').  The gates of a step come from
one sigmoid, as tanh(a) = 2 sigmoid(2 a) - 1; what the derivative needs of them is kept in torch's workspace.

Rounds of a step of time: a product of matrices, a sigmoid (5), a product, a tanh (5), a product, and one truncation of
h and c: fourteen.  Eleven while c is publicly known to be in the interval of tanh's formula, as |c'| <= |c| + 1: in the
first six steps from zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.ops.bounds import size
from pysmpc.ops.core import aten, implements
from pysmpc.ops.decompositions import composes
from pysmpc.ops.dropout import LIBRARY
from pysmpc.tensor import Cell, SecretTensor, not_implemented

LSTM = 2  # torch's number of the mode


#: By which rounding may lead a gate beyond 1, and c beyond what its gates allow: relative, and absolute.
GATES, STATES = 1 + 2.0**-14, 2.0**-10

LIBRARY.define("settle(Tensor x) -> Tensor")
LIBRARY.define("sized(Tensor x, float? bound) -> Tensor")
_settle: Any = torch.ops.pysmpc.settle.default
_sized: Any = torch.ops.pysmpc.sized.default


@implements(_settle)
def settle(x: SecretTensor) -> SecretTensor:
    """x, at the scale of its encoding.  One round, or none."""
    x.cell.settle()
    return SecretTensor(x.cell, x.size(), x.stride(), x.storage_offset(), x.dtype)


@implements(_sized)
def sized(x: SecretTensor, bound: float | None) -> SecretTensor:
    """x, of which no magnitude is above `bound`; None: which nobody knows to be small.  No message."""
    cell = Cell(x.cell.body, x.cell.scale, x.cell.unit, x.session)
    cell.finer, cell.bound = x.cell.finer, bound
    return SecretTensor(cell, x.size(), x.stride(), x.storage_offset(), x.dtype)


def _of_size(x: Any, bound: float | None = None) -> Any:
    """A secret with a public bound that follows from how it was made.

    Without it, bounds of products over bounds of products would double with each step of time.
    """
    return _sized(x, bound) if isinstance(x, SecretTensor) and not x.session.plain else x


def _grown(bound: float | None) -> float | None:
    """What bounds f c + i g, of a bound of c."""
    return None if bound is None else bound * GATES + 1 + STATES


def _settled(x: Any) -> Any:
    """What is read in each step of time is divided out once."""
    return _settle(x) if isinstance(x, SecretTensor) and not x.session.plain else x


@composes(aten.mkldnn_rnn_layer.default)
def layer(
    x: Any, w_input: Any, w_hidden: Any, b_input: Any, b_hidden: Any, hx: Any, cx: Any, reverse: bool,
    batch_sizes: Sequence[int], mode: int, hidden_size: int, num_layers: int, has_biases: bool, bidirectional: bool,
    batch_first: bool, train: bool,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """(h of each step, the last h, the last c, what the derivative needs), of x [time, batch, features]."""
    if mode != LSTM or len(batch_sizes):
        raise not_implemented(aten.mkldnn_rnn_layer.default, "of this operation a layer of an LSTM is")
    time, batch, n = x.shape[0], x.shape[1], hidden_size
    h, c = hx.reshape(batch, n), cx.reshape(batch, n)
    given = torch.matmul(x, w_input.t())
    if has_biases:
        given = given + (b_input + b_hidden)
    back, bound = w_hidden.t(), size(c)
    hs: list[Any] = [None] * time
    kept: list[Any] = [None] * time
    for t in reversed(range(time)) if reverse else range(time):
        gates = given[t] + torch.matmul(h, back)
        # the g of i, f, g, o is doubled, and so its sigmoid the half of a tanh
        gates = torch.cat([gates[:, : 2 * n], gates[:, 2 * n : 3 * n] * 2, gates[:, 3 * n :]], 1)
        i, f, g, o = torch.sigmoid(gates).chunk(4, 1)
        g = g * 2 - 1
        both = torch.cat([f, i], 1) * torch.cat([c, g], 1)
        before, bound = c, _grown(bound)
        fine = _of_size(both[:, :n] + both[:, n:], bound)
        tanh = torch.tanh(fine)
        h, c = _settled(torch.cat([o * tanh, fine], 1)).chunk(2, 1)
        h = _of_size(h, 1 + STATES)
        hs[t], kept[t] = h, torch.cat([i, f, g, o, before, tanh], 1)
    workspace = _of_size(torch.stack(kept))  # of parts of different sizes
    return torch.stack(hs), h.reshape(hx.shape), c.reshape(cx.shape), workspace


@composes(aten.mkldnn_rnn_layer_backward.default)
def layer_backward(
    x: Any, w_input: Any, w_hidden: Any, b_input: Any, b_hidden: Any, hx: Any, cx: Any, output: Any, hy: Any, cy: Any,
    grad_output: Any, grad_hy: Any, grad_cy: Any, reverse: bool, mode: int, hidden_size: int, num_layers: int,
    has_biases: bool, train: bool, bidirectional: bool, batch_sizes: Sequence[int], batch_first: bool, workspace: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients of input, weights, biases and first states: products alone, three rounds of them a step of time."""
    time, batch, n = x.shape[0], x.shape[1], hidden_size
    if not isinstance(workspace, SecretTensor):  # of a public layer: torch's own has another content
        shown = reverse, batch_sizes, mode, hidden_size, num_layers, has_biases, bidirectional, batch_first, True
        workspace = layer(x, w_input, w_hidden, b_input, b_hidden, hx, cx, *shown)[3]
    i, f, g, o, before, tanh = workspace.chunk(6, 2)
    # what the gradients of h and of c are multiplied with, for all steps at once
    slopes = torch.cat([i, f, o], 2) * torch.cat([1 - i, 1 - f, 1 - o], 2)
    squares = torch.cat([g, tanh], 2)
    squares = _settled(1 - squares * squares)
    slopes = _settled(slopes)
    factors = torch.cat([g, before, tanh, i, o], 2) * torch.cat([slopes, squares], 2)
    of_i, of_f, of_o, of_g, of_c = _settled(factors).chunk(5, 2)
    by_h, by_c = torch.cat([of_o, of_c], 2), torch.cat([of_i, of_f, of_g, f], 2)
    grad_output, grad_hy, grad_cy = (_of_size(grad) for grad in (grad_output, grad_hy, grad_cy))
    dh = torch.zeros(batch, n, dtype=x.dtype) if grad_hy is None else grad_hy.reshape(batch, n)
    dc = torch.zeros(batch, n, dtype=x.dtype) if grad_cy is None else grad_cy.reshape(batch, n)
    gates: list[Any] = [None] * time
    for t in range(time) if reverse else reversed(range(time)):
        if grad_output is not None:
            dh = dh + grad_output[t]
        part = torch.cat([dh, dh], 1) * by_h[t]
        dc = dc + part[:, n:]
        through = torch.cat([dc] * 4, 1) * by_c[t]
        gates[t] = _settled(torch.cat([through[:, : 3 * n], part[:, :n]], 1))
        dc = _settled(through[:, 3 * n :])
        dh = torch.matmul(gates[t], w_hidden)
    flat = torch.stack(gates).reshape(time * batch, 4 * n)
    start = hx.reshape(1, batch, n)
    previous = torch.cat([output[1:], start] if reverse else [start, output[:-1]]).reshape(time * batch, n)
    bias = flat.sum(0)
    return (
        torch.matmul(flat, w_input).reshape(x.shape),
        torch.matmul(flat.t(), x.reshape(time * batch, -1)),
        torch.matmul(flat.t(), previous),
        bias,
        bias,
        dh.reshape(hx.shape),
        dc.reshape(cx.shape),
    )
