"""GPT-2 of the library `transformers` on secret weights: is each token plain torch's, and how far are its logits off?

    python bench/generation.py [--prompts 20] [--tokens 20] [--layers 2] [--width 128]

Random weights; tokens are chosen greedily, with a cache of keys and values, until plain torch's margin between its two
largest logits is within twice the error of the secret ones: what follows may be another text.
"""

import argparse
import copy
import time

import torch
import transformers

import pysmpc as sy

VOCABULARY = 150


def plain(x):
    return sy.decrypt(x) if isinstance(x, sy.SecretTensor) else x


def greedy(net, prompt, count):
    """(Tokens after a prompt, the logits of each)."""
    tokens, logits, given, cache = [], [], prompt, None
    with torch.no_grad():
        for _ in range(count):
            out = net(input_ids=given, past_key_values=cache, use_cache=True)
            cache, last = out.past_key_values, out.logits[:, -1]
            given = plain(last.argmax(-1)).unsqueeze(1)
            logits.append(plain(last)[0].double())
            tokens.append(int(given))
    return tokens, logits


def compared(secret, net, prompt, count):
    """(Tokens compared, of them equal, the largest error of logits, seconds of the secret ones, and of plain torch)."""
    start = time.perf_counter()
    expected, right = greedy(net, prompt, count)
    between = time.perf_counter()
    found, got = greedy(secret, prompt, count)
    seconds, plainly = time.perf_counter() - between, between - start
    equal = total = 0
    largest = 0.0
    for mine, theirs, off, given in zip(found, expected, got, right, strict=True):
        error = float((off - given).abs().max())
        largest = max(largest, error)
        best = given.topk(2).values
        if float(best[0] - best[1]) <= 2 * error:
            break
        total, equal = total + 1, equal + (mine == theirs)
    return total, equal, largest, seconds, plainly


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("prompts", 20), ("tokens", 20), ("layers", 2), ("width", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=args.width, n_layer=args.layers, n_head=2, n_positions=40, bos_token_id=0,
        eos_token_id=VOCABULARY - 1,
    )  # fmt: skip
    net = transformers.GPT2LMHeadModel(config).eval()
    parties = sy.virtual("alice", "bob")
    secret = sy.encrypt(copy.deepcopy(net), parties)
    before, rows = parties.stats.copy(), []
    for _ in range(args.prompts):
        rows.append(compared(secret, net, torch.randint(1, VOCABULARY - 1, (1, 5)), args.tokens))
    spent, made = parties.stats - before, args.prompts * args.tokens
    totals = [sum(column) for column in zip(*rows, strict=True)]
    print(
        f"{totals[1]} of {totals[0]} tokens equal, of {made} made; logits off by at most {max(r[2] for r in rows):.4f}"
    )
    print(f"{totals[3]:.1f} s ({1000 * totals[3] / made:.0f} ms a token), plain torch {totals[4]:.1f} s")
    sent, dealt = spent.sent / made / 1e6, spent.dealt / made / 1e6
    print(f"{spent.rounds / made:.0f} rounds, {sent:.2f} MB sent, {dealt:.2f} MB dealt a token")


if __name__ == "__main__":
    main()
