"""LSTM layers, which torch sends as one operation where it would use oneDNN, and takes apart elsewhere.

With gates i, f, g, o of W_ih x + b_ih + W_hh h + b_hh: c' = f c + i g, h' = o tanh(c').  The gates of a step come from
one sigmoid, as tanh(a) = 2 sigmoid(2 a) - 1; what the derivative needs of them is kept in torch's workspace.

Rounds of a step of time: a product of matrices, a sigmoid (5), a tanh (5), and one truncation of h and c: twelve.
Products of gates take none (`pysmpc.ops.gates`).  Nine while c is publicly known to be in the interval of tanh's
formula, as |c'| <= |c| + 1: in the first six steps from zeros.  A step of a GRU takes twelve as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional

from pysmpc.ops.bounds import size
from pysmpc.ops.core import aten
from pysmpc.ops.decompositions import composes
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.gates import differentiable_product, prepare, product, settled_beside
from pysmpc.ops.registering import implements
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.secret_errors import not_implemented
from pysmpc.tensor.storage import TensorStorage

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
    cell = TensorStorage(x.cell.body, x.cell.scale, x.cell.unit, x.session)
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
    prepare(x, w_input, h, w_hidden, gates=(c,))
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
        i, f, half, o = torch.sigmoid(gates).chunk(4, 1)
        before, bound = c, _grown(bound)
        fine = _of_size(product(f, c) + product(i, half) * 2 - i, bound)
        tanh = torch.tanh(fine)
        h, c = _settled(torch.cat([_of_size(product(o, tanh), 1 + STATES), fine], 1)).chunk(2, 1)
        h = _of_size(h, 1 + STATES)
        hs[t], kept[t] = h, torch.cat([i, f, half * 2 - 1, o, before, tanh], 1)
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


# --- what torch takes apart above autograd (`pysmpc.api.torch_guards`) ---------------------------------


def lstm_cell(
    input: Any, hx: Sequence[Any], w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> tuple[Any, Any]:
    """(h, c) after a step: a layer of one.  Twelve rounds."""
    h, c = hx
    n, biases = h.shape[-1], b_ih is not None
    if not biases:
        b_ih = b_hh = torch.zeros(4 * n, dtype=input.dtype)
    of_layer = aten.mkldnn_rnn_layer.default
    _, h, c, _ = of_layer(
        input.unsqueeze(0), w_ih, w_hh, b_ih, b_hh, h.unsqueeze(0), c.unsqueeze(0), False, [], LSTM, n, 1, biases,
        False, False, torch.is_grad_enabled(),
    )  # fmt: skip
    return h.squeeze(0), c.squeeze(0)


def _gru_step(given: Any, h: Any, w_hidden: Any, b_hidden: Any) -> Any:
    """n + z (h - n), of what the input gives.  Twelve rounds.

    1. W_hh h: one round.
    2. r and z: a sigmoid, five rounds, in the first of which the part for n is divided out.
    3. n, the tanh of W_in x + r (W_hn h): five rounds.
    4. z h - z n + n, divided out: one round.
    """
    n = h.shape[-1]
    own = functional.linear(h, w_hidden, b_hidden)
    gates = given[..., : 2 * n] + own[..., : 2 * n]
    rest = settled_beside(gates, own[..., 2 * n :])
    r, z = torch.sigmoid(gates).chunk(2, -1)
    new = torch.tanh(given[..., 2 * n :] + differentiable_product(r, rest))
    return _settled_above(differentiable_product(z, h) - differentiable_product(z, new) + new)


class _Settled(torch.autograd.Function):
    """`_settled` of what is asked for again and again."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            out = _settled(x)
            return _of_size(out.clone()) if isinstance(out, SecretTensor) else out.clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad


def _settled_above(x: Any) -> Any:
    return _Settled.apply(x)


def gru_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """h after a step of a GRU.  Twelve rounds."""
    prepare(input, w_ih, hx, w_hh)
    return _gru_step(functional.linear(input, w_ih, b_ih), hx, w_hh, b_hh)


def _gru_layer(x: Any, h: Any, weights: Sequence[Any], reverse: bool) -> tuple[Any, Any]:
    """(h of each step, the last h) of x [time, batch, features], in one direction."""
    w_ih, w_hh, *biases = weights
    b_ih, b_hh = biases or (None, None)
    prepare(x, w_ih, h, w_hh)
    given, time = functional.linear(x, w_ih, b_ih), x.shape[0]
    out: list[Any] = [None] * time
    for t in reversed(range(time)) if reverse else range(time):
        h = out[t] = _gru_step(given[t], h, w_hh, b_hh)
    return torch.stack(out), h


def gru(input: Any, *args: Any) -> Any:
    """(Output, last states) of a GRU.  Packed sequences go torch's own way."""
    if not isinstance(args[1], list | tuple):
        return _gru(input, *args)
    hx, weights, biases, layers, dropout, train, both, batch_first = args
    x = input.transpose(0, 1) if batch_first else input
    of_each, ways, last = 4 if biases else 2, 2 if both else 1, []
    for layer in range(layers):
        found = []
        for way in range(ways):
            at = layer * ways + way
            out, h = _gru_layer(x, hx[at], weights[at * of_each : (at + 1) * of_each], way == 1)
            found.append(out)
            last.append(h)
        x = torch.cat(found, -1) if both else found[0]
        if dropout and train and layer < layers - 1:
            x = functional.dropout(x, dropout)
    return x.transpose(0, 1) if batch_first else x, torch.stack(last)


_gru: Any = torch._VF.gru

#: By the names of what torch's modules call.
RECURRENT = {"lstm_cell": lstm_cell, "gru_cell": gru_cell, "gru": gru}
