"""What parties see does not depend on secrets.

Each protocol runs on zeros and on large constants, under fresh keys.  Views of all
holders but one are compared byte by byte: shares, messages, dealt words, differences
of neighbours and between parts.  The provider's view is equal bit by bit.  The leaks
of other libraries are planted, and must be found.
"""

import copy
import hashlib
import itertools
import os
import random
import types

import numpy as np
import pytest
import torch
from protocol_cases import CASES, FSS_CASES
from settings import Setting
from twins import Owner, mlp
from views import ALPHA, RUNS, Recorder, all_uniform, byte_counts, distinguished, record, tail

from pysmpc.mpc.fss import fss_comparison
from pysmpc.mpc.suite import default, suites
from pysmpc.ring import prg
from pysmpc.ring.prg import KeySet
from pysmpc.session import session as sessions
from pysmpc.session.session import virtual_session

# What a holder computes from its shares and public numbers adds nothing to its view.
COMPUTED = {"public", "mul_public", "matmul_public"}
HIDING = [name for name in CASES if name not in COMPUTED | {"reveal"}]
#: Some thirty comparisons an element, or some 70 messages, or 16 to 40 dealt words.
LARGE = {
    "reciprocal",
    "over_root",
    "silu",
    "power",
    "logarithm",
    "reciprocal_fast",
    "softmax",
    "attention",
    "piecewise",
    "angle",
    "power_sum",
    "arrange",
    "one_hot",
}
#: A word or more for each bit of an element.
BITWISE = {"bitwise_and", "bitwise_and_public", "shift_right_each"}
MANY_KEYS = {"regions", "thresholds", "scaled_thresholds"}  # of function secret sharing: some for each end


def told_apart(protocol, holders, n, suite=default, pairs=True, words=True):
    """For each missing holder, what distinguishes the others' views of a run on either secret."""
    case, known = CASES[protocol], {}
    first, second = (record(case, values, holders, suite) for values in case.contrast(n))
    for missing in range(holders):
        yield distinguished(first.view_without(missing), second.view_without(missing), pairs, words, known)


def check(protocol, holders, n, pairs=True):
    fewer = 6 if protocol in LARGE else 3 if protocol in BITWISE else 0
    for found in told_apart(protocol, holders, n >> fewer, pairs=pairs):
        assert not found


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("protocol", HIDING)
def test_views_of_different_secrets_are_alike(protocol, holders):
    check(protocol, holders, 1 << (17 if holders == 2 else 13), protocol not in LARGE)


OTHERS = [
    (name, protocol)
    for name, suite in suites.items()
    for protocol in HIDING
    if any(getattr(suite, p, None) is not getattr(default, p, None) for p in CASES[protocol].protocols.split())
]


@pytest.mark.parametrize(("name", "protocol"), OTHERS)
def test_views_under_other_protocols_are_alike(name, protocol):
    """Of all that another suite does in a way of its own; SecureNN's words are not all uniform mod 2^64."""
    n = 1 << (10 if protocol in LARGE | MANY_KEYS else 14)
    for found in told_apart(protocol, suites[name].holders or 2, n, suites[name], protocol not in LARGE, name != "snn"):
        assert not found


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("protocol", HIDING)
def test_views_are_alike_over_a_million_words(protocol, holders):
    check(protocol, holders, 1 << 20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "protocol"), OTHERS)
def test_views_under_other_protocols_are_alike_over_a_million_words(name, protocol, monkeypatch):
    monkeypatch.setattr(fss_comparison, "PART", 1 << 20)  # one key of 2^27 words,
    monkeypatch.setattr(Recorder, "most", 1 << 22)  # of which these are tested
    n = 1 << (14 if protocol in LARGE | MANY_KEYS else 20)
    for found in told_apart(protocol, suites[name].holders or 2, n, suites[name], protocol not in LARGE, name != "snn"):
        assert not found


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("protocol", HIDING)
def test_messages_between_processes_are_uniform(protocol, holders):
    """With a thread a party, whose keys are dealt out otherwise than in one process."""
    case, n = CASES[protocol], 1 << 9 if protocol in LARGE else 1 << 12
    values = case.contrast(n)[1]
    sent = []

    def program(session, owner):
        suite, party = session.suite, session.party
        party.channel.observer = lambda cause, messages, opened: sent.extend(m[0].clone() for m in messages)
        shares = [suite.share(party, v if owner else None, v.shape, case.scale) for v in values]
        own = [words.clone() for share in shares for words in share.body.words]
        case.run(suite, party, *shares)
        return own

    own = [words for _, shares in Setting("threads", holders).everywhere(program) for words in shares]
    parts = [words for words in (*sent, *own) if words.numel() >= 1 << 9]
    assert len(parts) >= holders
    assert all_uniform([byte_counts(w).sum(0) for words in parts for w in (words, words[1:] - words[:-1])])


@pytest.mark.parametrize("holders", [2, 3])
def test_what_is_revealed_is_seen(holders):
    """The control: the comparison is not blind."""
    assert all(told_apart("reveal", holders, 1 << 13))


def test_the_p_values_are_those_of_the_chi_square_distribution():
    """Published quantiles (NIST Handbook 1.3.6.7.4), and 2 degrees of freedom, whose tail is exp(-x / 2)."""
    for statistic, freedom, p in [(3.841, 1, 0.05), (18.307, 10, 0.05), (149.449, 100, 0.001)]:
        assert tail(statistic, freedom) == pytest.approx(p, rel=2e-3)
    assert tail(60.0, 2) == pytest.approx(np.exp(-30), rel=1e-6)
    assert ALPHA / RUNS / 1e4 > 1e-14  # far above what rounding makes of a tail


# --- the provider -----------------------------------------------------------------------


def fixed_randomness(monkeypatch, seed):
    """The operating system's generator, replaced by one that repeats itself."""
    stream = random.Random(seed)
    monkeypatch.setattr(prg, "os", types.SimpleNamespace(urandom=stream.randbytes))


def dealt(case, values, holders, protocol="default"):
    """Every word that the provider sends in a run with a thread a party."""
    sent = []

    def program(session, owner):
        suite, party = session.suite, session.party
        if not party.rows:
            feed = session.feeds[0]
            send = feed.send
            feed.send = lambda words, everyone=False: (sent.append(words.clone()), send(words, everyone))
        shares = [suite.share(party, v if owner else None, v.shape, case.scale) for v in values]
        case.run(suite, party, *shares)

    Setting("threads", holders, protocol).everywhere(program)
    return sent


@pytest.mark.parametrize(
    ("protocol", "holders", "suite"),
    [*((name, n, "default") for name in CASES for n in (2, 3)), *((name, 2, "fss") for name in FSS_CASES)],
)
def test_the_provider_deals_the_same_whatever_the_inputs(protocol, holders, suite, monkeypatch):
    case = CASES[protocol]
    runs = []
    for seed, values in zip((7, 7, 8), (*case.contrast(70), case.contrast(70)[0]), strict=True):
        fixed_randomness(monkeypatch, seed)
        runs.append(dealt(case, values, holders, suite))
    first, second, other = runs
    assert len(first) == len(second)
    assert all(map(torch.equal, first, second))
    assert not first or not all(map(torch.equal, first, other))  # or the comparison would be void


def test_the_provider_of_a_training_step_deals_the_same_whatever_the_inputs(monkeypatch):
    model = mlp(6, 5, 3)

    def program(session, owner, x, y, sent):
        if not session.party.rows:
            feed = session.feeds[0]
            send = feed.send
            feed.send = lambda words, everyone=False: (sent.append(words.clone()), send(words, everyone))
        mine = Owner(session, owner)
        a, b, net = mine.share(x), mine.share(y), mine.module(copy.deepcopy(model))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        torch.nn.functional.mse_loss(net(a), b).backward()
        optimizer.step()

    runs = []
    for x, y in ((torch.zeros(8, 6), torch.zeros(8, 3)), (100 * torch.randn(8, 6), torch.randn(8, 3))):
        fixed_randomness(monkeypatch, 7)
        sent = []
        Setting("threads", 2).everywhere(lambda s, owner, x=x, y=y, sent=sent: program(s, owner, x, y, sent))
        runs.append(sent)
    assert len(runs[0]) > 5
    assert all(itertools.starmap(torch.equal, zip(*runs, strict=True)))


# --- where randomness comes from -----------------------------------------------------------


def everything(holders=2):
    """All that is seen in a run, with whatever keys there are."""
    case = CASES["relu"]
    return record(case, case.contrast(64)[0], holders).view_without(0)


def same(first, second):
    return any(torch.equal(first[name], second[name]) for name in first)


def seeded_by_the_user():
    """Two runs, before each of which a program seeds every generator that it can."""
    runs = []
    for _ in range(2):
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        runs.append(everything())
    return runs


def test_no_generator_that_a_program_can_seed_hides_anything():
    assert not same(*seeded_by_the_user())


def test_the_operating_system_is_the_only_source(monkeypatch):
    runs = []
    for _ in range(2):
        fixed_randomness(monkeypatch, 3)
        runs.append(everything())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def keys_are_good(count=1 << 19):
    """Keys are distinct (of 2^32 possible ones, 32 pairs would be equal) and their bytes uniform."""
    found = [prg.fresh_key() for _ in range(1 << 14)]
    if len(set(found)) < len(found):
        return False
    found += [prg.fresh_key() for _ in range(count - len(found))]
    if len(set(found)) < count:
        return False
    each = np.frombuffer(b"".join(found[: 1 << 14]), np.uint8).reshape(-1, 16)
    return all_uniform([np.bincount(each[:, i], minlength=256) for i in range(16)])


def test_keys_are_distinct_and_uniform():
    assert keys_are_good()


# --- planted leaks -------------------------------------------------------------------------


def leaks(name, holders=2, n=1 << 13):
    return list(told_apart(name, holders, n))


@pytest.mark.parametrize("protocol", ["mul", "square", "matmul"])
def test_one_mask_for_a_whole_tensor_is_caught(protocol, monkeypatch):
    """PySyft 0.2 drew one random number and subtracted it from every element."""
    original = KeySet.mask

    def single(self, stream, shares):
        mask = -original(self, stream, torch.zeros_like(shares))
        return shares - mask[:, :1]

    monkeypatch.setattr(KeySet, "mask", single)
    assert all(leaks(protocol))


def test_one_random_number_for_all_shares_is_caught(monkeypatch):
    """The same leak where an owner shares its input."""
    original = KeySet.draw

    def single(self, stream, n, corrections=None, out=None):
        held = None if corrections is None else corrections.clone()  # which may lie in `out`
        words = original(self, stream, n)
        words = words[:, :1].expand(-1, n).contiguous() if n else words
        if held is not None:
            words[-1] += held
        return words if out is None else out.copy_(words)

    monkeypatch.setattr(KeySet, "draw", single)
    monkeypatch.setattr(
        KeySet, "take", lambda self, stream, values: values.sub_(self.total(stream, values.numel())[:1])
    )
    assert all(leaks("share"))


def test_one_mask_for_two_secrets_is_caught(monkeypatch):
    """Openings of x and y under one mask differ by x - y."""
    session = virtual_session(["0", "1"])
    monkeypatch.setattr(type(session.party.dealer), "streams", lambda self, count=1: 0)
    case = CASES["mul"]
    zeros, large = case.contrast(1 << 13)
    first = record(case, zeros, 2)
    second = record(case, [large[0], zeros[0]], 2)
    assert all(distinguished(first.view_without(i), second.view_without(i)) for i in range(2))


def test_a_message_without_a_mask_is_caught(monkeypatch):
    monkeypatch.setattr(KeySet, "mask", lambda self, stream, shares: shares.clone())
    assert all(leaks("square"))


@pytest.mark.parametrize(
    "seed",
    [
        lambda: int(torch.randint(1 << 62, ())),
        lambda: int(np.random.randint(1 << 62)),
        lambda: random.getrandbits(128),
    ],
    ids=["torch", "numpy", "random"],
)
def test_keys_from_a_seedable_generator_are_caught(seed, monkeypatch):
    monkeypatch.setattr(sessions, "fresh_key", lambda: seed().to_bytes(16, "little"))
    assert same(*seeded_by_the_user())


def hashed(number):
    return hashlib.sha256(str(number).encode()).digest()[:16]


@pytest.mark.parametrize("widen", [hashed, lambda number: number.to_bytes(16, "little")], ids=["hashed", "padded"])
@pytest.mark.parametrize("bits", [8, 32])
def test_keys_from_a_small_number_are_caught(bits, widen, monkeypatch):
    """CrypTen masks with torch's Mersenne Twister, which takes 32 bits of a seed."""
    monkeypatch.setattr(prg, "fresh_key", lambda: widen(random.getrandbits(bits)))
    assert not keys_are_good()


def test_keys_from_a_counter_are_caught(monkeypatch):
    """Distinct, hashed to look uniform, and the same in every process."""
    start = itertools.count()
    monkeypatch.setattr(sessions, "fresh_key", lambda: hashed(next(start)))
    first = everything()
    start = itertools.count()
    assert same(first, everything())


def test_the_process_gives_no_key_twice():
    assert len({prg.fresh_key() for _ in range(1000)}) == 1000
    assert prg.os is os


@pytest.mark.parametrize("by", [1000, 1 << 16])
def test_what_an_opened_quotient_says_with_its_opening(by, rng):
    """As docs/threat-model.md has it: z is one of `by` numbers, not of 2 * by - 1."""
    session = virtual_session(["0", "1", "2"])
    z = torch.from_numpy(rng.integers(-(1 << 40), 1 << 40, 4000))
    seen = []
    session.party.channel.observer = lambda cause, messages, opened: seen.append(opened[0][0])
    x = session.suite.share(session.party, z, z.shape, by)
    [quotient] = session.suite.reveal(session.party, session.suite.truncate(session.party, x, by))
    opened = torch.tensor([int(c) % (1 << 64) % by for c in seen[0]])
    end = by * quotient + opened
    assert bool(((z > end - by) & (z <= end)).all())
    assert bool((z <= end - by // 2).any())
    assert bool((z > end - by // 2).any())
