"""The classes of the library `transformers` as they are, with random weights made from a configuration."""

import copy

import pytest
import torch
from op_checks import parties, plain

import pysmpc as sy
from pysmpc.errors import RevealError

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")

SIZES = {"vocab_size": 150}
BERT = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256,
    "max_position_embeddings": 40,
}  # fmt: skip
GPT2 = {"n_embd": 128, "n_layer": 2, "n_head": 2, "n_positions": 40, "bos_token_id": 0, "eos_token_id": 149}


def padded(rows, length):
    """Tokens, and the mask of those that are there."""
    tokens = torch.randint(1, SIZES["vocab_size"] - 1, (rows, length))
    mask = torch.ones_like(tokens)
    mask[-1, length - 3 :] = 0
    return {"input_ids": tokens, "attention_mask": mask}


def off(secret, net, given):
    """How far the logits of tokens that are there are from plain torch's."""
    found, expected = plain(secret(**given).logits), net.double()(**given).logits.detach()
    apart = (found - expected).abs()
    return apart.max() if apart.dim() == 2 else (apart * given["attention_mask"].unsqueeze(-1)).max()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bert(attention):
    config = transformers.BertConfig(**SIZES, **BERT, attn_implementation=attention)
    net = transformers.BertForSequenceClassification(config).eval()
    secret = sy.encrypt(net, parties())
    given = padded(2, 8)
    with torch.no_grad():
        assert off(secret, net, given) < 0.01


def gpt2(attention="sdpa"):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES, **GPT2, attn_implementation=attention)).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gpt2(attention):
    net = gpt2(attention)
    secret = sy.encrypt(net, parties())
    with torch.no_grad():
        assert off(secret, net, padded(2, 8)) < 0.01


def greedy(net, prompt, count):
    """Tokens after a prompt, one at a time with a cache of keys and values, and the two largest logits of each."""
    tokens, best, given, cache = [], [], prompt, None
    with torch.no_grad():
        for _ in range(count):
            out = net(input_ids=given, past_key_values=cache, use_cache=True)
            cache, logits = out.past_key_values, out.logits[:, -1]
            best.append(torch.topk(plain(logits)[0], 2).values)
            choice = logits.argmax(-1)
            given = (sy.decrypt(choice) if isinstance(choice, sy.SecretTensor) else choice).unsqueeze(1)
            tokens.append(int(given))
    return tokens, best


def compare(net, secret, prompts, count):
    """Greedy tokens are plain torch's up to where its margin is not twice the error; how many were compared."""
    compared = 0
    for _ in range(prompts):
        prompt = torch.randint(1, SIZES["vocab_size"] - 1, (1, 5))
        expected, margins = greedy(copy.deepcopy(net).double(), prompt, count)
        found, logits = greedy(secret, prompt, count)
        for mine, theirs, got, right in zip(found, expected, logits, margins, strict=True):
            error = float((got - right).abs().max())
            if float(right[0] - right[1]) <= 2 * max(error, 2**-10):
                break  # from here on the two may differ
            assert mine == theirs
            compared += 1
    return compared


def test_greedy_tokens_with_a_cache():
    net = gpt2()
    assert compare(net, sy.encrypt(net, parties()), 1, 4) > 0


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_greedy_tokens_of_twenty_prompts():
    net = gpt2()
    assert compare(net, sy.encrypt(net, parties()), 20, 20) > 200


@pytest.mark.parametrize("hidden", ["prompt", "weights"])
def test_generate_names_the_loop_that_works(hidden):
    """It would ask for truth values of tokens; what it asked of stays as it was."""
    net = gpt2()
    prompt = torch.randint(1, SIZES["vocab_size"] - 1, (1, 4))
    given = sy.encrypt(prompt, parties()) if hidden == "prompt" else prompt
    model = sy.encrypt(copy.deepcopy(net), parties()) if hidden == "weights" else net
    with pytest.raises(RevealError, match=r"examples/text_generation\.py"), torch.no_grad():
        model.generate(given, max_new_tokens=2, do_sample=False, pad_token_id=0)
    if hidden == "prompt":
        assert torch.equal(sy.decrypt(given), prompt)
    with pytest.raises(RevealError) as elsewhere:
        bool(sy.encrypt(prompt, parties()).max() == 0)
    assert "generate" not in str(elsewhere.value)
