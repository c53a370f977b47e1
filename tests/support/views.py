"""What parties see of a run, and whether it tells one secret from another.

A view belongs to all holders but one, who put together what they know: their shares,
the words that were dealt to them, and every message, those of the missing holder
included.  With two holders that is what one holder sees.
"""

import numpy as np
import torch

from pysmpc.mpc.fss.fss_comparison import Hidden
from pysmpc.mpc.suite import default
from pysmpc.ring.shares import MaskedBit, Share
from pysmpc.session.session import virtual_session

#: A false alarm in any of RUNS comparisons is rarer than ALPHA in all (Bonferroni).
ALPHA, RUNS = 1e-6, 1000
CHUNK = 1 << 19  # words that are counted at once


class Recorder:
    """Everything that is shared, sent and dealt in an in-process session.

    most: words of one delivery of the dealer's that are kept; None: all.
    """

    most = None

    def __init__(self, session):
        self.shared = {}  # name: [rows, n]; a holder knows its own row
        self.public = {}  # name: [n]; known to every holder
        self.dealt = {}  # name: [n]; known to the last holder
        self._next = []  # whether what was sent and not yet received is for every holder
        self._holders = session.party.holders
        session.party.channel.observer = self._message
        for name in ("dealer", "owner"):
            dealer = getattr(session.party, name)
            dealer._feed.send = self._sending(dealer._feed.send)
            dealer._feed.receive = self._noting(dealer._feed.receive, name)

    def _message(self, cause, messages, opened):
        for message in messages:
            self.public |= {f"{len(self.public)} {cause} from {i}": row.clone() for i, row in enumerate(message)}

    def _sending(self, send):
        def sending(words, everyone=False):
            self._next.append(everyone)
            send(words, everyone)

        return sending

    def _noting(self, receive, name):
        def receiving(words):
            out = receive(words)
            kept, whose = (self.public, "all") if self._next.pop(0) else (self.dealt, "the last")
            kept[f"{len(kept)} by the {name} for {whose}"] = out[: self.most].clone()
            return out

        return receiving

    def keep(self, name, item):
        """A share or bit that a protocol was given or returned."""
        if isinstance(item, Share):
            self.shared[name] = item.body.words
        elif isinstance(item, Hidden):
            self.shared[f"{name} by exclusive or"] = item.own
        elif isinstance(item, MaskedBit):
            self.shared[f"{name} rho"] = item.rho
            self.public[f"{name} beta"] = item.beta[0]
        elif isinstance(item, list | tuple):
            for i, each in enumerate(item):
                self.keep(f"{name}[{i}]", each)
        elif item.dim() == 2 and item.shape[0] == self._holders:
            self.shared[name] = item
        else:
            self.public[name] = item.reshape(-1)

    def view_without(self, missing):
        """{name: words} that all holders but one know together."""
        rows = [i for i in range(self._holders) if i != missing]
        view = dict(self.public)
        for name, words in self.shared.items():
            view |= {f"{name} of {i}": words[i] for i in rows}
            if len(rows) > 1:
                view[f"{name}, summed without {missing}"] = words[rows].sum(0)
        if missing != self._holders - 1:
            assert not view.keys() & self.dealt.keys()
            view |= self.dealt
        return {name: words for name, words in view.items() if words.numel()}


def record(case, values, holders, suite=default):
    """A run of a case on these values, in a session of its own: fresh keys."""
    session = virtual_session([str(i) for i in range(holders)], suite=suite)
    party = session.party
    recorder = Recorder(session)
    shares = [suite.share(party, v, v.shape, case.scale) for v in values]
    recorder.keep("input", shares)
    recorder.keep("result", case.run(suite, party, *shares))
    return recorder


def byte_counts(words):
    """[8, 256]: how often each value of each byte of a word occurs."""
    words = np.ascontiguousarray(words.numpy())
    if len(words) < 1 << 15:
        columns = words.view(np.uint8).reshape(-1, 8)
        return np.stack([np.bincount(columns[:, i], minlength=256) for i in range(8)])
    pairs = np.zeros((4, 1 << 16), np.int64)
    for start in range(0, len(words), CHUNK):
        columns = words[start : start + CHUNK].view(np.uint16).reshape(-1, 4)
        for i in range(4):
            pairs[i] += np.bincount(columns[:, i], minlength=1 << 16)
    return np.stack([pair.reshape(256, 256).sum(axis) for pair in pairs for axis in (0, 1)])


def tail(statistic, freedom):
    """Probability that a chi-square variable is at least as large; elementwise."""
    half = torch.as_tensor(np.asarray(freedom) / 2), torch.as_tensor(np.asarray(statistic, float) / 2)
    return np.where(np.asarray(freedom) > 0, torch.special.gammaincc(*half).numpy(), 1.0)


def uniform(counts):
    """p-value of counts having come from uniform bytes, or other symbols."""
    counts = np.asarray(counts)
    expected = counts.sum() / counts.size
    assert expected >= 5, "too few words for the test to tell anything"
    return float(tail(((counts - expected) ** 2 / expected).sum(), counts.size - 1))


def all_uniform(rows):
    """Whether each of some counts may have come from uniform symbols; it is one of the RUNS comparisons."""
    p = [uniform(counts) for counts in rows]
    return min(p) * len(p) * RUNS >= ALPHA


def alike(first, second):
    """p-values, row by row, of two arrays of counts having come from one distribution; rare values count as one."""
    rare = first + second < 20
    first, second = (
        np.column_stack([np.where(rare, 0, counts), np.where(rare, counts, 0).sum(1)]).astype(float)
        for counts in (first, second)
    )
    both = first + second
    up = np.sqrt(second.sum(1) / first.sum(1)).reshape(-1, 1)
    terms = (first * up - second / up) ** 2 / np.maximum(both, 1)
    return tail(terms.sum(1), (both > 0).sum(1) - 1)


def features(view, pairs):
    """Words to test: each part of a view, differences of neighbours, and (pairs) of parts of one length.

    Yields a name, and a function that computes the words.
    """
    names = list(view)
    for i, name in enumerate(names):
        words = view[name]
        yield name, lambda words=words: words
        if words.numel() > 1:
            yield f"neighbours in {name}", lambda words=words: words[1:] - words[:-1]
        for other in names[:i] if pairs else ():
            more = view[other]
            if more.shape == words.shape:
                yield f"{name} less {other}", lambda words=words, more=more: words - more
                if "compare" in name and "compare" in other:
                    yield f"{name} xor {other}", lambda words=words, more=more: words ^ more


def p_values(name, first, second, part):
    """{what: p-value} of words of two views; part: they ought to be uniform mod 2^64 besides."""
    assert first.shape == second.shape, "sizes depend on the secret"
    if first.numel() < 64:
        return {}  # tells nothing
    a, b = byte_counts(first), byte_counts(second)
    found = {f"byte {byte} of {name}, compared": p for byte, p in enumerate(alike(a, b).tolist())}
    if part and a.sum() >= 5 * 256:
        found |= {f"{name}, uniform": uniform(a.sum(0)), f"{name} of the other, uniform": uniform(b.sum(0))}
    return found


def distinguished(first, second, pairs=True, words=True, known=None):
    """What tells two views apart, by a bound that chance does not reach; nothing, for a protocol that hides.

    pairs: differences of parts, too.  words: every part ought to be uniform mod 2^64.
    known: p-values of other views of the same two runs, for what they have in common.
    """
    assert list(first) == list(second), "the program's course depends on the secret"
    known, found = {} if known is None else known, {}
    for (name, a), (_, b) in zip(features(first, pairs), features(second, pairs), strict=True):
        if name not in known:
            known[name] = p_values(name, a(), b(), words and name in first)
        found |= known[name]
    return {name: p for name, p in found.items() if p * len(found) * RUNS < ALPHA}
