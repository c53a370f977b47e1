"""GPT-2 of the library `transformers` continues a prompt that nobody but its owner knows.

    python examples/text_generation.py

The class is unmodified, small, and has random weights, which are secret as well.  Keys and values are cached, so that
each token takes one pass.  A token is chosen in secret and is the next input as it is; all are opened in the end.
"""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import pysmpc as sy

SIZES = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32}
PROMPT, TOKENS = 4, 5


def greedy(model, prompt):
    """Tokens after a prompt, and by how much each was ahead of the second best."""
    given, cache, found, ahead = prompt, None, [], []
    with torch.no_grad():
        for step in range(TOKENS):
            place = torch.arange(given.shape[1]).unsqueeze(0) + (PROMPT + step - 1 if step else 0)
            out = model(input_ids=given, position_ids=place, past_key_values=cache, use_cache=True)
            cache, logits = out.past_key_values, out.logits[:, -1]
            best = logits.topk(2).values
            given = logits.argmax(-1, keepdim=True)
            found.append(given)
            ahead.append(best[:, 0] - best[:, 1])
    return torch.cat(found, 1), torch.cat(ahead)


def main():
    parties = sy.virtual("reader", "company")
    model = GPT2LMHeadModel(GPT2Config(**SIZES, bos_token_id=0, eos_token_id=0)).eval()
    prompt = torch.randint(1, SIZES["vocab_size"], (1, PROMPT))
    secret, _ = greedy(sy.encrypt(model, parties, owner="company"), sy.encrypt(prompt, parties, owner="reader"))
    secret, (plain, ahead) = sy.decrypt(secret), greedy(model, prompt)
    sure = int((ahead > 0.001).long().cumprod(0).sum())  # from a tie on, either may be right
    print(f"secret:      {secret[0].tolist()}\nplain torch: {plain[0].tolist()}")
    return secret[0, :sure], plain[0, :sure]


if __name__ == "__main__":
    main()
