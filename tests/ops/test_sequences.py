"""Packed sequences, the forms of attention that torch takes in evaluation, groups of heads, masks of finite numbers."""

import copy
import math

import pytest
import torch
from op_checks import SUITE_OPTIONS, encrypted, parties, plain, twins
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import rnn

import pysmpc as sy
from pysmpc.errors import RevealError


def close(found, expected, atol=2**-9):
    found = plain(found.detach()).double()
    assert found.shape == expected.shape
    assert (found - expected.detach()).abs().max() <= atol


def gradients(secret, twin, found, expected):
    """Backward from random weights of the results; then held against each other."""
    weights = torch.rand(expected.shape)
    (found * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    for a, b in zip(secret, twin, strict=True):
        close(a.grad, b.grad, 2**-8)


# --- recurrent layers ----------------------------------------------------------------------


def packed(net, x, lengths, batch_first):
    given = rnn.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
    out, state = net(given)
    padded, sizes = rnn.pad_packed_sequence(out, batch_first=batch_first, padding_value=-1.5, total_length=6)
    assert sizes.tolist() == lengths.tolist()
    return padded, state[0]


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "batch_first": True}], ids=str)
def test_packed_sequences(make, options):
    secret, twin = twins(make(3, 4, **options))
    first, lengths = options.get("batch_first", False), torch.tensor([2, 5, 3])
    x = torch.randn((3, 5, 3) if first else (5, 3, 3))
    mine, theirs = encrypted(x).requires_grad_(), plain(encrypted(x)).double().requires_grad_()
    (found, state), (expected, theirs_state) = (
        packed(net, each, lengths, first) for net, each in ((secret, mine), (twin, theirs))
    )
    close(found, expected)
    close(state, theirs_state)
    gradients([mine, *secret.parameters()], [theirs, *twin.parameters()], found, expected)


def test_lengths_are_public_and_checked():
    x = encrypted(torch.randn(4, 2, 3))
    with pytest.raises(RevealError, match="public lengths"):
        torch._VF._pack_padded_sequence(x, encrypted(torch.tensor([4, 2])), False)
    with pytest.raises(RuntimeError, match="from 1 to 4"):
        rnn.pack_padded_sequence(x, torch.tensor([5, 2]))
    with pytest.raises(RuntimeError, match="decrease"):
        rnn.pack_padded_sequence(x, torch.tensor([2, 4]))
    with pytest.raises(ValueError, match="total_length=3"):
        rnn.pad_packed_sequence(rnn.pack_padded_sequence(x, torch.tensor([4, 2])), total_length=3)


def test_plain_sequences_are_packed_by_torch():
    encrypted(torch.ones(1))
    x, lengths = torch.randn(4, 2, 3), torch.tensor([4, 2])
    back, sizes = rnn.pad_packed_sequence(rnn.pack_padded_sequence(x, lengths))
    assert torch.equal(sizes, lengths)
    assert torch.equal(back[:2], x[:2])


def test_a_long_lstm_trains():
    """Bounds of products over bounds of products do not grow with the length."""
    secret, twin = twins(nn.LSTM(3, 4))
    x = torch.randn(24, 2, 3)
    found, expected = secret(encrypted(x))[1][0], twin(plain(encrypted(x)).double())[1][0]
    close(found, expected)
    (found * found).sum().backward()
    (expected * expected).sum().backward()
    for a, b in zip(secret.parameters(), twin.parameters(), strict=True):
        close(a.grad, b.grad, 2**-8)


def test_rounds_of_an_lstm_by_length():
    """Nine a step of time while the state is publicly known to be small, and twelve from then on."""
    secret, _ = twins(nn.LSTM(3, 4))

    def rounds(steps):
        x = encrypted(torch.randn(steps, 2, 3))
        before = parties().stats.copy()
        secret(x)
        return (parties().stats - before).rounds

    assert [rounds(n) - rounds(n - 1) for n in (3, 9)] == [9, 12]


@pytest.mark.parametrize("make", [nn.LSTMCell, nn.GRUCell])
@pytest.mark.parametrize("bias", [True, False])
def test_cells(make, bias):
    """Steps of a cell, and their gradients; at most twelve rounds each."""
    secret, twin = twins(make(3, 4, bias=bias))
    x = torch.randn(4, 2, 3)
    mine, theirs = encrypted(x).requires_grad_(), plain(encrypted(x)).double().requires_grad_()
    states, rounds = [None, None], []
    for t in range(4):
        before = parties().stats.copy()
        states = [net(each[t], state) for net, each, state in zip((secret, twin), (mine, theirs), states, strict=True)]
        rounds.append((parties().stats - before).rounds)
    found, expected = (state[0] if isinstance(state, tuple) else state for state in states)
    close(found, expected)
    gradients([mine, *secret.parameters()], [theirs, *twin.parameters()], found, expected)
    assert max(rounds) <= 12


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "batch_first": True}], ids=str)
def test_a_gru(options):
    secret, twin = twins(nn.GRU(3, 4, **options))
    x = torch.randn(2, 5, 3)
    mine, theirs = encrypted(x).requires_grad_(), plain(encrypted(x)).double().requires_grad_()
    (found, state), (expected, theirs_state) = secret(mine), twin(theirs)
    close(found, expected)
    close(state, theirs_state)
    gradients([mine, *secret.parameters()], [theirs, *twin.parameters()], found, expected)


@pytest.mark.parametrize("make", [nn.LSTMCell, nn.GRUCell])
def test_rounds_of_a_cell_with_states_of_any_size(make):
    """Of states that are given, too: what the cell multiplies is opened in its first round."""
    secret, twin = twins(make(3, 4))
    x, *states = (3 * torch.randn(2, n) for n in (3, 4, 4))
    mine, theirs = ([each(state) for state in states] for each in (encrypted, lambda s: plain(encrypted(s)).double()))
    if make is nn.GRUCell:
        [mine, _], [theirs, _] = mine, theirs
    before = parties().stats.copy()
    found = secret(encrypted(x), mine)
    assert (parties().stats - before).rounds <= 12
    expected = twin(plain(encrypted(x)).double(), theirs)
    close(*((each if make is nn.GRUCell else each[1]) for each in (found, expected)))


def test_rounds_of_a_gru():
    secret, _ = twins(nn.GRU(3, 4))

    def rounds(steps):
        x = encrypted(torch.randn(steps, 2, 3))
        before = parties().stats.copy()
        secret(x)
        return (parties().stats - before).rounds

    assert rounds(9) - rounds(8) == 12


@pytest.mark.parametrize("options", [*SUITE_OPTIONS.values(), {"precision_fractional": 4}], ids=str)
@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU])
def test_recurrent_layers_of_other_suites(make, options):
    net = make(3, 4)
    x = torch.randn(3, 2, 3)
    names = ("alice", "bob")
    keywords = {key: options[key] for key in ("protocol", "integrity") if key in options}
    given = {key: value for key, value in options.items() if key not in keywords}
    held = sy.virtual(*names, **keywords)
    secret = sy.encrypt(copy.deepcopy(net), held, **given)
    found = secret(sy.encrypt(x, held, **given))[0]
    assert (sy.decrypt(found.detach()) - net(x)[0]).abs().max() <= (
        2**-9 if "precision_fractional" not in options else 0.01
    )


# --- attention -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"mask": "pairs"}, {"mask": "heads"}], ids=str)
def test_groups_of_heads(options):
    q, k, v = torch.randn(2, 4, 5, 6), torch.randn(2, 2, 5, 6), torch.randn(2, 2, 5, 3)
    options = dict(options)
    if kind := options.pop("mask", None):
        options["attn_mask"] = torch.rand((5, 5) if kind == "pairs" else (2, 4, 5, 5)) < 0.7
        options["attn_mask"][..., 0] = True
    mine = [encrypted(x).requires_grad_() for x in (q, k, v)]
    theirs = [plain(encrypted(x)).double().requires_grad_() for x in (q, k, v)]
    found, expected = (F.scaled_dot_product_attention(*x, enable_gqa=True, **options) for x in (mine, theirs))
    close(found, expected)
    gradients(mine, theirs, found, expected)


PADDING = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 1, 1, 1]]).bool()
CAUSAL = nn.Transformer.generate_square_subsequent_mask(5)
CALLS = {
    "plain": {},
    "causal": {"mask": CAUSAL},
    "padded": {"src_key_padding_mask": PADDING},
    "both": {"mask": CAUSAL, "src_key_padding_mask": PADDING},
}


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("different", [1, 2, 3])
def test_rounds_of_attention(weights, different):
    """At most those of softmax and four, forward and without gradients."""
    secret, _ = twins(nn.MultiheadAttention(8, 2, batch_first=True))
    x = [encrypted(torch.randn(2, 9, 8)) for _ in range(different)]
    x += x[-1:] * (3 - different)
    scores = encrypted(torch.randn(2, 2, 9, 9))

    def rounds(function):
        before = parties().stats.copy()
        function()
        return (parties().stats - before).rounds

    softmax = rounds(lambda: scores.softmax(-1))
    assert rounds(lambda: secret(*x, need_weights=weights)) <= softmax + 4
    with torch.no_grad():
        secret.eval()
        assert rounds(lambda: secret(*x, need_weights=weights)) <= softmax + 4


@pytest.mark.parametrize("features", [4, 6])
@pytest.mark.parametrize("kind", ["plain", "causal", "numbers", "secret", "rows"])
def test_weights_and_gradients_of_attention(kind, features):
    """Large scores, of which some decide a row; rows in which nothing counts."""
    q, k, v = (encrypted(torch.randn(2, 3, 7, features) * size).requires_grad_() for size in (6, 3, 2))
    mask = None
    if kind in ("numbers", "secret"):
        mask = torch.randn(7, 7)
        mask = encrypted(mask).requires_grad_() if kind == "secret" else mask.masked_fill(mask > 1, -math.inf)
    elif kind == "rows":
        mask = torch.rand(7, 7) < 0.5
        mask[2] = False
    given = [x if x is None or not isinstance(x, sy.SecretTensor) else plain(x.detach()).double().requires_grad_()
             for x in (q, k, v, mask)]  # fmt: skip
    given[3] = given[3].double() if kind == "numbers" else given[3]
    options = {"is_causal": kind == "causal", "scale": 0.3 if features == 6 else None}
    found = F.scaled_dot_product_attention(q, k, v, mask, **options)
    expected = F.scaled_dot_product_attention(*given, **options)
    whole = kind != "secret"  # torch takes it apart, where a mask has a gradient
    close(found, expected, 2**-13 if whole else 2**-9)
    weights = torch.rand(expected.shape)
    (found * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    for mine, theirs in zip((q, k, v), given, strict=False):
        close(mine.grad, theirs.grad, 2**-10 if whole else 2**-7)


@pytest.mark.parametrize("number", [-1e9, -1e4, 1e5])
def test_masks_of_large_numbers(number):
    """Some libraries add -1e9 in the place of minus infinity."""
    q, k, v = (torch.randn(1, 2, 5, 4) for _ in range(3))
    mask = torch.zeros(5, 5).masked_fill(torch.rand(5, 5) < 0.4, number)
    mask[0] = number
    found = F.scaled_dot_product_attention(*(encrypted(x) for x in (q, k, v)), mask)
    expected = F.scaled_dot_product_attention(*(plain(encrypted(x)).double() for x in (q, k, v)), mask.double())
    close(found, expected, 2**-12)


def test_attention_of_one_key_and_of_short_ones():
    """What takes the longer way: one key, public values, values that are known to be small."""
    q, k, v = torch.randn(1, 1, 3, 4), torch.randn(1, 1, 1, 4), torch.randn(1, 1, 1, 4)
    close(F.scaled_dot_product_attention(*(encrypted(x) for x in (q, k, v))), v.double().expand(1, 1, 3, 4), 2**-13)
    x = torch.rand(1, 2, 5, 4)
    expected = F.scaled_dot_product_attention(*[x.double()] * 3)
    close(F.scaled_dot_product_attention(encrypted(x), x, x), expected, 2**-12)
    close(F.scaled_dot_product_attention(*[encrypted(x, bounded=1.0)] * 3), expected, 2**-12)


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("call", CALLS)
def test_an_encoder_without_gradients(call):
    """torch has an operation of its own for a layer that is evaluated, which secrets take as well."""
    odd = call in ("causal", "both")
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=odd, activation="gelu" if odd else "relu")
    secret, twin = twins(nn.TransformerEncoder(layer, 2, enable_nested_tensor=not odd).eval())
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        found = secret(encrypted(x), **CALLS[call])
    expected = twin(plain(encrypted(x)).double(), **CALLS[call])  # with gradients, and so the longer way
    there = ~PADDING.unsqueeze(-1) if "padded" in call else torch.tensor(True)
    close(found * there.to(torch.int64), expected * there)


def test_attention_without_gradients():
    secret, twin = twins(nn.MultiheadAttention(8, 2, batch_first=True).eval())
    x = torch.randn(3, 5, 8)
    options = {"key_padding_mask": PADDING, "need_weights": False}
    with torch.no_grad():
        found = secret(*[encrypted(x)] * 3, **options)[0]
    close(found, twin(*[plain(encrypted(x)).double()] * 3, **options)[0])


@pytest.mark.parametrize("lowest", [-math.inf, torch.finfo(torch.float32).min])
def test_masks_of_the_smallest_number(lowest):
    """Libraries add the smallest number of a dtype in the place of minus infinity."""
    x = torch.randn(3, 5)
    mask = torch.zeros(5).masked_fill(torch.tensor([False, True, False, False, True]), lowest)
    want = (plain(encrypted(x)) + mask).softmax(-1)
    for scores in (encrypted(x) + mask, encrypted(x).masked_fill(mask < -1, lowest)):
        close(scores.softmax(-1), want)


def test_errors_name_the_layer():
    secret = sy.encrypt(nn.LSTM(3, 4), parties())
    out = secret(encrypted(torch.randn(2, 2, 3)))[0]
    with pytest.raises(NotImplementedError) as refused:
        torch.ops.aten.mkldnn_rnn_layer.default(out[0], *[out] * 6, False, [], 1, 4, 1, True, False, False, False)
    assert "torch.nn.LSTM is not implemented" in str(refused.value)
    assert "mkldnn" not in str(refused.value)
    assert "sy.check(model, x)" in str(refused.value)
