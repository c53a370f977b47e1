"""What hides every word that leaves a process: which stream of which keys.

`Log.watch(session)` notes, at the Python border of the kernels, each masking of a
message and of a correction; `Log.opened` each message and what it opened to, with its
cause.
"""

import collections

import numpy as np
import torch

from pysmpc.ring import (
    affine_kernels,
    comparison_kernels,
    integer_functions,
    power_kernels,
    product_kernels,
    reopen_kernels,
    threshold_kernels,
    z2k,
)
from pysmpc.ring.prg import KeySet

Masking = collections.namedtuple("Masking", "keys stream words purpose")

#: streams, from the base of a comparison, that mask messages (src/c/compare.inc.h)
NODE_MASKS, ROOT_MASKS, RHO = 10, 11, 14
CHUNKS, NODES, ROOT, RHO_SHARES = 9, 12, 13, 5  # and of what is dealt


def bases(ends):
    """Where the streams of each of many ends begin."""
    return [ends.first, *(ends.rest + j * ends.apart for j in range(ends.count - 1))]


class Log:
    """Maskings, in the order in which they are made."""

    def __init__(self, monkeypatch, session):
        self.maskings = []
        self.opened = []
        party = session.party
        self._kinds = {
            id(party.dealer.keys): "dealer",
            id(party.dealer._everyone): "dealer",
            id(party.owner.keys): "owner",
            id(party.owner._everyone): "owner",
            id(party.own): "zero",
            id(party.next): "zero",
        }
        party.channel.observer = lambda cause, messages, opened: self.opened.append(
            (cause, [m.clone() for m in messages], [o.clone() for o in opened])
        )
        self._patch(monkeypatch)

    def note(self, keys, stream, words, purpose):
        self.maskings.append(Masking(self._kinds[id(keys)], stream, words, purpose))

    def _patch(self, patch):
        def after(owner, name, noted):
            original = getattr(owner, name)

            def wrapper(*args, **kwargs):
                out = original(*args, **kwargs)
                noted(out, *args, **kwargs)
                return out

            patch.setattr(owner, name, wrapper)

        note = self.note
        # the refreshing of shares is a difference of two streams: the first is what hides
        after(KeySet, "mask", lambda out, keys, stream, shares: self._mask(keys, stream, shares))
        after(KeySet, "take", lambda out, keys, stream, values: note(keys, stream, values.numel(), "correction"))
        after(
            z2k,
            "truncate_mask",
            # of upper halves, two of which are a word, each has a word of the stream to itself
            lambda out, keys, base, *rest: note(keys, base, out.shape[1], "message"),
        )
        # under b and what is dealt below its lowest bit, and then under the upper bits of b (mpc/additive/reopening.py)
        after(
            reopen_kernels,
            "reopen_mask",
            lambda out, keys, base, *rest: note(keys, base, out.shape[1], "message"),
        )
        after(
            reopen_kernels,
            "reopen_message",
            lambda out, keys, base, *rest: note(keys, (base, "upper bits"), out.shape[1], "message"),
        )
        after(
            comparison_kernels,
            "compare_chunks",
            lambda out, keys, base, *rest: note(keys, base + NODE_MASKS, out[1].shape[1], "message"),
        )
        after(
            comparison_kernels,
            "compare_nodes",
            lambda out, keys, base, *rest: note(keys, base + ROOT_MASKS, out[1].shape[1], "message"),
        )
        after(
            comparison_kernels,
            "compare_root",
            lambda out, keys, base, *rest: note(keys, base + RHO, out.shape[1], "message"),
        )

        # one message for many ends, the words of each under a stream of its own
        for name, stream in (("chunks", NODE_MASKS), ("nodes", ROOT_MASKS), ("root", RHO)):
            after(
                threshold_kernels,
                name,
                lambda out, keys, ends, *rest, stream=stream: self._parts(
                    keys, [base + stream for base in bases(ends)], (out[1] if isinstance(out, tuple) else out).shape[1]
                ),
            )
        after(threshold_kernels, "deal", lambda out, keys, ends, *rest: self._dealt(keys, ends))

        def corrections(purpose, streams):
            def noted(out, keys, base, *rest, **options):
                for stream in streams(*rest, **options):
                    note(keys, base + stream, -1, purpose)

            return noted

        after(z2k, "truncate_deal", corrections("correction", lambda *rest: (1, 2)))
        after(reopen_kernels, "reopen_deal", corrections("correction", lambda *rest: (1, 2, 3)))
        after(
            comparison_kernels,
            "compare_deal",
            corrections(
                "correction", lambda n, out, nodes=4, known=False, masks=None: (12, 13) if known else (9, 12, 13)
            ),
        )
        after(
            comparison_kernels, "bit_deal", lambda out, keys, rho, stream, *rest: note(keys, stream, -1, "correction")
        )
        after(
            comparison_kernels,
            "select_deal",
            corrections("correction", lambda rho, by, *rest: (1,) if by is None else (1, 2, 3, 4)),
        )
        after(
            affine_kernels,
            "affine_deal",
            corrections("correction", lambda x, y, out: range(affine_kernels.product_rows(x, y))),
        )
        after(
            product_kernels.Product,
            "deal",
            lambda out, product, keys, stream, *rest: note(keys, stream, product.size, "correction"),
        )
        for dealer in (integer_functions.Multiples, power_kernels.Segmented):
            after(dealer, "deal", self._pieces)

    def _pieces(self, out, dealer, keys, mask, stream, shift, corrections, n):
        planes = corrections.numel() // max(n, 1)
        for i, first in enumerate(range(0, n, dealer.piece)):
            self.note(keys, stream + i, planes * min(dealer.piece, n - first), "correction")

    def _mask(self, keys, stream, shares):
        kind = self._kinds[id(keys)]
        self.note(keys, stream, shares.shape[1], "message" if kind == "dealer" else "zero")

    def _parts(self, keys, streams, words):
        """One message, of which several streams hide a part each."""
        self.note(keys, streams[0], words, "message")
        for stream in streams[1:]:
            self.note(keys, stream, -1, "part")

    def _dealt(self, keys, ends):
        for j, base in enumerate(bases(ends)):
            for stream in (NODES, ROOT, RHO_SHARES, *([] if j or ends.known else [CHUNKS])):
                self.note(keys, base + stream, -1, "correction")

    def check(self):
        """Every masking has words of its own, and every message a masking of its size."""
        used = collections.Counter((m.keys, m.stream) for m in self.maskings)
        twice = [place for place, times in used.items() if times > 1]
        assert not twice, f"words that hide two values: {twice}"
        sizes = [m.words for m in self.maskings if m.purpose == "message"]
        messages = [m.shape[1] for cause, parts, _ in self.opened if cause != "reveal" for m in parts]
        assert messages == sizes, "messages and their maskings differ"

    def causes(self):
        return {cause for cause, _, _ in self.opened}

    def words(self, cause=None):
        """Every word that was sent, and every word that was opened, but for what was revealed."""
        sent = [m.reshape(-1) for c, ms, _ in self.opened for m in ms if c != "reveal" and cause in (None, c)]
        seen = [o.reshape(-1) for c, _, os in self.opened for o in os if c != "reveal" and cause in (None, c)]
        return torch.cat(sent), torch.cat(seen)

    def pairs(self):
        """(word, next word) of every message and opening, within one message."""
        rows = [
            row
            for cause, messages, opened in self.opened
            if cause != "reveal"
            for m in [*messages, *opened]
            for row in m
            if row.numel() > 1
        ]
        return torch.cat([row[1:] - row[:-1] for row in rows])


def chi_square(words):
    """How many standard deviations the byte counts of the words are from uniform ones."""
    counts = np.bincount(words.contiguous().numpy().view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert expected >= 5, "too few words for the test to tell anything"
    statistic = ((counts - expected) ** 2 / expected).sum()
    return abs(statistic - 255) / np.sqrt(2 * 255)
