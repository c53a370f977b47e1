"""The settings in which every protocol must do the same.

    plaintext    the oracle suite, which holds the values themselves
    virtual      all holders and the provider in one process
    threads      a thread and a share a holder; the provider has none and deals ahead

A test hands `Setting.run` an operation on shares and the values that the owner puts in;
it gets back what the results open to, and what the operation cost, and need not know
where it ran.
"""

from dataclasses import dataclass

import numpy as np
import torch

from pysmpc.mpc.additive import comparison
from pysmpc.mpc.additive.products import begin
from pysmpc.mpc.fss import fss_comparison
from pysmpc.mpc.interfaces import Cost
from pysmpc.mpc.suite import suite_named
from pysmpc.ring import z2k
from pysmpc.ring.shares import Share
from pysmpc.session.session import plain_session, virtual_session
from pysmpc.transport import threads

EDGES = [0, 1, -1, 2, -2, (1 << 62) - 1, 1 - (1 << 62), 1 << 62, -(1 << 62), (1 << 63) - 1, -(1 << 63), 1 << 32]


def random_words(rng, *shape):
    """Uniform ring elements, with those of EDGES among them."""
    out = torch.from_numpy(np.asarray(rng.integers(-(1 << 63), 1 << 63, shape)))
    flat = out.view(-1)
    for value in EDGES[: out.numel() // 3]:
        flat[int(rng.integers(flat.numel()))] = value
    return out


def bounded_words(rng, bits, *shape):
    """Elements of every magnitude up to 2**bits, with both bounds and small ones among them."""
    magnitudes = rng.integers(0, 1 << 62, shape) >> (62 - rng.integers(0, bits + 1, shape))
    out = torch.from_numpy(np.asarray(magnitudes * (1 - 2 * rng.integers(0, 2, shape))))
    flat = out.view(-1)
    for value in ((1 << bits), -(1 << bits), 0, 1, -1)[: out.numel() // 3]:
        flat[int(rng.integers(flat.numel()))] = value
    return out


@dataclass(frozen=True)
class Setting:
    """Where a program runs: `name` of the above, the number of holders, and a protocol's name."""

    name: str
    holders: int
    protocol: str = "default"

    def __str__(self):
        how = "" if self.protocol == "default" else f"-{self.protocol}"
        return f"{self.name}-{self.holders}{how}" if self.secret else self.name

    @property
    def compares(self):
        """The module whose comparisons are in use, which declares what they cost."""
        return COMPARING[self.protocol]

    @property
    def secret(self):
        return self.name != "plaintext"

    def sessions(self):
        """One session object a process: the holders in order, then the provider."""
        names = [f"holder{i}" for i in range(self.holders)]
        suite = suite_named(self.protocol)
        if self.name == "threads":
            return threads.sessions(names, suite=suite)
        return [virtual_session(names, suite=suite) if self.secret else plain_session]

    def everywhere(self, program):
        """program(session, owner) in every process: [(session, result)]."""
        sessions = self.sessions()
        if self.name != "threads":
            return [(sessions[0], program(sessions[0], True))]
        sent, asked, dealt = {}, {}, []
        for session in sessions:
            for link in session.links:
                link.send = _counted(link.send, sent, session)
            session.desk.ask = _counted(session.desk.ask, asked, session)
        provider = sessions[-1]
        for session in sessions[:-1]:
            feed = session.party.dealer._feed
            feed.receive = _received(feed.receive, dealt)
        results = threads.run(sessions, lambda session: program(session, session is sessions[0]))
        # what travelled is what was counted, at every party
        for session in sessions[:-1]:
            assert sent.get(id(session), 0) == session.stats.sent
            assert asked.get(id(session), 0) == session.stats.asked
        assert sum(dealt) == provider.stats.dealt + provider.stats.answered
        assert provider.party.rows == 0
        first = sessions[0].stats
        assert all(session.stats == first for session in sessions)
        assert len({session.party.dealer._next_stream for session in sessions}) == 1
        assert len({session.party.owner._next_stream for session in sessions}) == 1
        return list(zip(sessions, results, strict=True))

    def run(self, operation, *values):
        """operation(suite, party, *shares): what its results open to, and its cost.

        values: tensors, or (tensor, scale), or a function from suite and party to a
        share of something public.  Results may be shares or tuples of shares.
        """

        def program(session, owner):
            suite, party = session.suite, session.party
            given = [v if isinstance(v, tuple) else (v, 1) for v in values]
            shares = [suite.share(party, v if owner else None, v.shape, scale) for v, scale in given]
            before = session.stats.copy()
            out = operation(suite, party, *shares)
            several = out if isinstance(out, tuple) else (out,)
            for share in several:
                begin(party, share.body)  # a product of what was not opened waits until it is read
            cost = (session.stats - before).cost
            assert all(isinstance(share, Share) and share.body.rows == party.rows * suite.lanes for share in several)
            return cost, [share.scale for share in several], suite.reveal(party, *several), isinstance(out, tuple)

        outcomes = self.everywhere(program)
        cost, scales, opened, tupled = outcomes[0][1]
        for session, (other_cost, other_scales, other, _) in outcomes:
            assert (other_cost, other_scales) == (cost, scales)
            for a, b in zip(opened, other, strict=True):
                assert torch.equal(a, b) if session.party.rows else b.shape == (0, *a.shape)
        return (tuple(opened) if tupled else opened[0]), cost

    def costs(self, declared):
        """What a protocol declares, for this setting's holders: nothing in the clear."""
        return declared if self.secret else Cost()


def _counted(send, sent, session):
    def counting(cause, words):
        sent[id(session)] = sent.get(id(session), 0) + 8 * words.numel()
        send(cause, words)

    return counting


def _received(receive, dealt):
    def noting(words):
        found = receive(words)
        dealt.append(8 * found.numel())
        return found

    return noting


COMPARING = {"default": comparison, "fss": fss_comparison}
PLAINTEXT = Setting("plaintext", 1)
SECRET = [Setting(name, n) for name in ("virtual", "threads") for n in (2, 3, 5)]
SETTINGS = [PLAINTEXT, *SECRET]
FSS = [Setting(name, 2, "fss") for name in ("virtual", "threads")]


def wrapped(value):
    """A Python integer mod 2**64 as torch's."""
    return z2k.wrap(value)
