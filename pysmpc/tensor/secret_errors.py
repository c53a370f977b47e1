"""Errors for what cannot be done with a secret: they name it by what the user called, and say what to do instead."""

from __future__ import annotations

import inspect
from typing import Any

#: Operations that torch sends for a layer or a function, and which no program calls by the names that they have there.
CALLED = {
    "aten.mkldnn_rnn_layer": "torch.nn.LSTM",
    "aten.mkldnn_rnn_layer_backward": "the gradient of torch.nn.LSTM",
    "aten._scaled_dot_product_flash_attention_for_cpu": "scaled_dot_product_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": "the gradient of scaled_dot_product_attention",
    "aten._native_multi_head_attention": "torch.nn.MultiheadAttention",
    "aten._transformer_encoder_layer_fwd": "torch.nn.TransformerEncoderLayer",
}


def called(func: Any) -> str:
    """An operation by its name, or by that of the layer which it is."""
    name = str(func)
    return CALLED.get(name.rpartition(".")[0], name)


def not_implemented(func: Any, why: str = "") -> NotImplementedError:
    """How an operation is refused.  why: a clause that says more."""
    return NotImplementedError(
        f"{called(func)} is not implemented for secret tensors{why and ': '}{why}; rewrite it with supported "
        "operations, or open the value first with sy.decrypt(x) if it may be known; sy.check(model, x) lists all that "
        "a model would need"
    )


def loop_instead() -> str:
    """What to write in the place of a library's loop that asks for truth values; nothing where none does."""
    frame = inspect.currentframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("transformers.generation"):
            return (
                ". generate() of the library transformers asks whether tokens end the text and what is in a prompt; "
                "for secret ones call the model in a loop of your own, as examples/text_generation.py does: "
                "logits[:, -1].argmax(-1) is the next input, with past_key_values"
            )
        frame = frame.f_back
    return ""


HOW = "open it by name with sy.decrypt(x), x.reveal() or x.get()"
