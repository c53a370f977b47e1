"""LSTM layers, which torch sends as one operation where it would use oneDNN, and takes apart elsewhere.

With gates i, f, g, o of W_ih x + b_ih + W_hh h + b_hh: c' = f c + i g, h' = o tanh(c').  The gates of a step come from
one sigmoid, as tanh(a) = 2 sigmoid(2 a) - 1; what the derivative needs of them is kept in torch's workspace.

Rounds of a step of time: a product of matrices, a sigmoid, a product, a tanh, a product, and truncations: eighteen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.ops.bounds import STEPS, of_kind, size
from pysmpc.ops.core import aten, implements
from pysmpc.ops.decompositions import composes
from pysmpc.ops.dropout import LIBRARY
from pysmpc.tensor import SecretTensor, not_implemented

LSTM = 2  # torch's number of the mode


LIBRARY.define("settle(Tensor x) -> Tensor")
_settle: Any = torch.ops.pysmpc.settle.default


@implements(_settle)
def settle(x: SecretTensor) -> SecretTensor:
    """x, at the scale of its encoding.  One round, or none."""
    x.cell.settle()
    return SecretTensor(x.cell, x.size(), x.stride(), x.storage_offset(), x.dtype)


def _settled(x: Any) -> Any:
    """What is read in each step of time is divided out once."""
    return _settle(x) if isinstance(x, SecretTensor) and not x.session.plain else x


def _after(c: Any, gates: Any) -> float | None:
    """What bounds f c + i tanh for gates from 0 to 1: one more than what bounds c, and errors of functions."""
    bound = size(c)
    if bound is None or not isinstance(gates, SecretTensor):
        return None
    one = 1 + STEPS / gates.unit.scale
    return of_kind(one * (bound + one), bound)


def _state(x: Any, bound: float | None) -> None:
    """Say what bounds x.  By the bounds of products and sums alone those of c would double with each step of time."""
    if isinstance(x, SecretTensor) and not x.session.plain:
        x.cell.bound = bound


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
    # the g of i, f, g, o is doubled, and so its sigmoid the half of a tanh
    double = torch.ones(4 * n, dtype=x.dtype)
    double[2 * n : 3 * n] = 2
    given = torch.matmul(x, w_input.t())
    if has_biases:
        given = given + (b_input + b_hidden)
    given, back = given * double, w_hidden.t()
    hs: list[Any] = [None] * time
    kept: list[Any] = [None] * time
    for t in reversed(range(time)) if reverse else range(time):
        gates = torch.sigmoid(given[t] + torch.matmul(h, back) * double)
        i, f, g, o = gates.chunk(4, 1)
        g = g * 2 - 1
        most = _after(c, gates)
        both = torch.cat([f, i], 1) * torch.cat([c, g], 1)
        before, c = c, _settled(both[:, :n] + both[:, n:])
        _state(c, most)
        tanh = torch.tanh(c)
        h = _settled(o * tanh)
        hs[t], kept[t] = h, torch.cat([i, f, g, o, before, tanh], 1)
    workspace = torch.stack(kept)
    _state(workspace, None)  # of parts of different sizes
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
