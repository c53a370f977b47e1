"""What parties were told: equal digests and keys if it is the same, nothing in common if it is not."""

import os
import secrets
import threading

import pytest
import torch
from at_once import at_once
from networks import plain_pair
from settings import random_words

from pysmpc.errors import ChannelError
from pysmpc.ring.prg import EPOCH_BITS, KeySet, fresh_key
from pysmpc.session import transcript as module
from pysmpc.session.dealer import LocalCorrections, SeedDealer
from pysmpc.session.stats import Stats
from pysmpc.session.transcript import Transcript, untold
from pysmpc.transport.corrections import (
    COUNT,
    QUESTION,
    HolderQueries,
    OwnCorrections,
    PeerCorrections,
    ProviderQueries,
    ReceivedCorrections,
    SentCorrections,
)
from pysmpc.transport.links import HEADER, Networked
from pysmpc.transport.wire import VERSION, raw

OTHERWISE = "were told to run different programs"
FACTS = ("session", "scientist", "alice", "bob", "crypto_provider")
N = 64


def told(root, facts, *batches):
    """A transcript of these batches, and a key that follows it."""
    keys = KeySet([root])
    found = Transcript(*facts, keys=[keys])
    for batch in batches:
        found.follow(batch)
    return found, keys


def words(keys, first, last):
    """Of streams of the epochs from the first to before the last."""
    return [w for e in range(first, last) for w in keys.draw((e << EPOCH_BITS) + 7, N).reshape(-1).tolist()]


def random_batches(count):
    """Of two bytes at least: one that is cut in two has two parts."""
    return [secrets.token_bytes(secrets.randbelow(100) + 2) for _ in range(count)]


def test_the_same_is_the_same():
    root, batches = fresh_key(), random_batches(100)
    (mine, my_keys), (theirs, their_keys) = (told(root, FACTS, *batches) for _ in range(2))
    assert mine.digest == theirs.digest
    assert mine.base == theirs.base == 100 << EPOCH_BITS
    assert words(my_keys, 0, 101) == words(their_keys, 0, 101)
    assert root.hex()[:12] not in repr(mine)


B = random_batches(6)
DIFFERENT = {
    "another fact": (("session", "erin", *FACTS[2:]), B, 0),
    "another order of facts": (("session", "scientist", "bob", "alice", "crypto_provider"), B, 0),
    "facts that run together": (("sessionscientist", "", *FACTS[2:]), B, 0),
    "a fact more": ((*FACTS, ""), B, 0),
    "another first batch": (FACTS, [b"?", *B[1:]], 1),
    "another batch": (FACTS, [*B[:3], B[3] + b"\0", *B[4:]], 4),
    "another last batch": (FACTS, [*B[:5], B[5][:-1]], 6),
    "another order": (FACTS, [*B[:2], B[3], B[2], *B[4:]], 3),
    "a batch in two": (FACTS, [*B[:2], B[2][:1], B[2][1:], *B[3:]], 3),
    "two batches in one": (FACTS, [*B[:2], B[2] + B[3], *B[4:]], 3),
    "a batch twice": (FACTS, [*B[:2], B[1], *B[2:]], 3),
    "a batch left out": (FACTS, [*B[:2], *B[3:]], 3),
    "an empty batch": (FACTS, [*B[:2], b"", *B[2:]], 3),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_whatever_differs_leaves_nothing_in_common(case):
    """Before it, all is the same; from there on, there are other digests and no word of the other's keys."""
    facts, batches, since = DIFFERENT[case]
    root = fresh_key()
    (mine, my_keys), (theirs, their_keys) = told(root, FACTS, *B), told(root, facts, *batches)
    assert mine.digest != theirs.digest
    assert words(my_keys, 0, since) == words(their_keys, 0, since)
    assert not set(words(my_keys, since, len(B) + 1)) & set(words(their_keys, 0, len(batches) + 1))
    assert not set(words(their_keys, since, len(batches) + 1)) & set(words(my_keys, 0, len(B) + 1))
    mine.follow(b"the same again")
    theirs.follow(b"the same again")
    assert mine.digest != theirs.digest
    assert not set(words(my_keys, len(B) + 1, len(B) + 2)) & set(words(their_keys, 0, len(batches) + 2))


def test_streams_are_of_the_epoch():
    """Numbers go on counting, and tell under which key they are drawn."""
    transcript, keys = told(fresh_key(), FACTS)
    dealer = SeedDealer(keys, None, False, LocalCorrections(), lambda count: None, transcript=transcript)
    assert [dealer.streams(3), dealer.streams()] == [0, 3]
    for epoch in (1, 2):
        transcript.follow(os.urandom(32))
        assert dealer.next_stream == 4 * epoch
        assert dealer.next_number == dealer.streams(4) == (epoch << EPOCH_BITS) + 4 * epoch


def test_a_session_has_so_many_batches(monkeypatch):
    monkeypatch.setattr(module, "EPOCHS", 3)
    transcript, _ = told(fresh_key(), FACTS, b"1", b"2")
    with pytest.raises(ChannelError, match="as many as a session can have; connect again"):
        transcript.follow(b"3")
    assert transcript.base == 2 << EPOCH_BITS


def test_where_nobody_tells_anything():
    assert Transcript().digest == untold.digest
    assert untold.base == 0


# --- messages -------------------------------------------------------------------------


def parties(*mine_and_theirs):
    """A transcript each, of these last batches; b'' for one that ran on as it was."""
    found = [Transcript(*FACTS) for _ in mine_and_theirs]
    for transcript, batch in zip(found, mine_and_theirs, strict=True):
        transcript.follow(b"both")
        if batch:
            transcript.follow(batch)
    return found


def refused(outcome, peer):
    """Nothing was taken, and the error says of whom."""
    assert isinstance(outcome, ChannelError), outcome
    assert OTHERWISE in str(outcome)
    assert f"this party and {peer} " in str(outcome)
    return True


TOLD = [(b"mine", b"theirs", False), (b"mine", b"", False), (b"same", b"same", True)]


@pytest.mark.parametrize(("one", "other", "agree"), TOLD)
def test_a_round(one, other, agree, rng):
    transcripts, ends = parties(one, other), plain_pair()
    channels = [Networked(2, Stats(), [end], transcript=t) for end, t in zip(ends, transcripts, strict=True)]
    given = [random_words(rng, 1, 5) for _ in range(2)]
    found = at_once(*(lambda c=c, x=x: c.open([x], "mask")[0] for c, x in zip(channels, given, strict=True)))
    if agree:
        assert all(torch.equal(each, sum(given)) for each in found)
    else:
        assert refused(found[0], "far")
        assert refused(found[1], "near")


@pytest.mark.parametrize("everyone", [False, True])
@pytest.mark.parametrize(("one", "other", "agree"), TOLD)
def test_a_correction(one, other, agree, everyone, rng):
    (mine, theirs), (near, far) = parties(one, other), plain_pair()
    feed, given = ReceivedCorrections(near, mine), random_words(rng, 1, 5)[0]
    SentCorrections([far], theirs).send(given, everyone)
    if agree:
        assert torch.equal(feed.receive(5), given)
    else:
        [found] = at_once(lambda: feed.receive(5))
        assert refused(found, "far")
        theirs.digest = mine.digest
        SentCorrections([far], theirs).send(given)
        assert refused(at_once(lambda: feed.receive(5))[0], "far")  # nothing more is taken
    feed.close()


@pytest.mark.parametrize(("one", "other", "agree"), TOLD)
def test_a_provider_s_confirmation(one, other, agree):
    (mine, theirs), (near, far) = parties(one, other), plain_pair()
    feed = ReceivedCorrections(near, mine)
    SentCorrections([far], theirs).confirm()
    [found] = at_once(feed.confirmed)
    assert found is None if agree else refused(found, "far")
    if not agree:  # and again: what it tells later makes no difference
        theirs.digest = mine.digest
        SentCorrections([far], theirs).confirm()
        assert refused(at_once(feed.confirmed)[0], "far")
        assert refused(at_once(lambda: feed.receive(1))[0], "far")
    feed.close()


def test_a_confirmation_is_waited_for():
    """And serves until the next batch."""
    (mine, theirs), (near, far) = parties(b"", b""), plain_pair()
    feed, sending = ReceivedCorrections(near, mine), SentCorrections([far], theirs)
    done = threading.Event()
    waiting = threading.Thread(target=lambda: (feed.confirmed(), done.set()), daemon=True)
    waiting.start()
    sending.send(torch.zeros(3, dtype=torch.int64))  # other messages are no confirmation
    assert not done.wait(0.3)
    sending.confirm()
    assert done.wait(10)
    feed.confirmed()
    for each in (mine, theirs):
        each.follow(b"next")
    done.clear()
    threading.Thread(target=lambda: (feed.confirmed(), done.set()), daemon=True).start()
    assert not done.wait(0.3)
    sending.confirm()
    assert done.wait(10)
    assert refused(at_once(lambda: feed.receive(3))[0], "far")  # they were dealt under the digest of before
    feed.close()


@pytest.mark.parametrize(("one", "other", "agree"), TOLD)
def test_a_question(one, other, agree, rng):
    (mine, theirs), (near, far) = parties(one, other), plain_pair()
    asked = random_words(rng, 1, 5)[0]
    HolderQueries(far, theirs).ask("compare", asked)
    [found] = at_once(lambda: ProviderQueries([near], mine).questions("compare", 5))
    assert torch.equal(found[0], asked) if agree else refused(found, "far")


@pytest.mark.parametrize(("one", "other", "agree"), TOLD)
def test_an_input_of_a_holder(one, other, agree, rng):
    (mine, theirs), (near, far) = parties(one, other), plain_pair()
    given = random_words(rng, 1, 5)[0]
    OwnCorrections([far], theirs).send(given, everyone=True)
    [found] = at_once(lambda: PeerCorrections(near, mine).receive(5))
    assert torch.equal(found, given) if agree else refused(found, "far")


# --- a party that says whatever is expected of it -----------------------------------------


def test_a_forged_digest_gives_no_masks():
    """The messages are taken, and what they carry is no share of anything.

    The provider deals by another program than the holder's, under the holder's digest: what it draws for
    her has no word in common with what she draws, so that her masks stay unknown to whoever sees the corrections.
    """
    root, near_far = fresh_key(), plain_pair()
    mine, my_keys = told(root, FACTS, b"both", b"mine")
    theirs, their_keys = told(root, FACTS, b"both", b"theirs")
    forged = Transcript()
    forged.digest = mine.digest
    feed, sending = ReceivedCorrections(near_far[0], mine), SentCorrections([near_far[1]], forged)
    holder = SeedDealer(my_keys, None, True, feed, lambda count: None, transcript=mine)
    dealer = SeedDealer(KeySet([]), their_keys, False, sending, lambda count: None, transcript=theirs)
    numbers = holder.streams(8), dealer.streams(8)
    assert numbers[0] == numbers[1]  # the same names for other words
    sending.confirm()
    feed.confirmed()
    dealer.corrections(N, lambda keys, out: out.copy_(keys.total(numbers[1], N)))
    taken = holder.corrections(N, lambda keys, out: None)
    own = [w for stream in range(8) for w in my_keys.draw(numbers[0] + stream, N).reshape(-1).tolist()]
    assert not set(taken.tolist()) & set(own)
    assert not set(words(their_keys, 2, 3)) & set(own)
    assert words(their_keys, 0, 2) == words(my_keys, 0, 2)  # of what both were told
    feed.close()


FORGED = {
    "round": lambda digest, given: (HEADER.pack(VERSION, 0, 0, 1, 5, digest), raw(given)),
    "correction": lambda digest, given: (COUNT.pack(5, digest), raw(given)),
    "question": lambda digest, given: (QUESTION.pack(0, 5, digest), raw(given)),
}


@pytest.mark.parametrize("kind", FORGED)
@pytest.mark.parametrize("place", [0, 13, 31])
def test_all_of_a_digest_counts(kind, place, rng):
    """One bit of it, with all else as it is due."""
    near, far = plain_pair()
    transcript, given = Transcript(*FACTS), random_words(rng, 1, 5)[0]
    wrong = bytearray(transcript.digest)
    wrong[place] ^= 1 << secrets.randbelow(8)
    far.queue(*FORGED[kind](bytes(wrong), given))
    far.flush()
    take = {
        "round": lambda: Networked(2, Stats(), [near], transcript=transcript).open([given.reshape(1, -1)], "mask"),
        "correction": lambda: PeerCorrections(near, transcript).receive(5),
        "question": lambda: ProviderQueries([near], transcript).questions("convert", 5),
    }
    assert refused(at_once(take[kind])[0], "far")
