"""A round over connections: any sizes, any number of peers, both directions at once, no deadlock."""

import threading
import time
from functools import partial

import pytest
import torch
from at_once import at_once
from networks import connected, plain_pair, tcp_pair
from settings import random_words

from pysmpc.errors import ChannelError, PeerLost
from pysmpc.session.stats import Stats
from pysmpc.transport.corrections import AHEAD, ReceivedCorrections, SentCorrections
from pysmpc.transport.links import HEADER, Networked
from pysmpc.transport.wire import Cancelled, Stream


def everywhere(channels, program):
    """program(channel, rank) in a thread each; results or errors."""
    return at_once(*(partial(program, channel, rank) for rank, channel in enumerate(channels)))


def ring_of(n, pair, **options):
    """Channels of n holders, and their streams."""
    streams = [[] for _ in range(n)]
    for i in range(n):
        for j in range(i):
            near, far = pair()
            streams[i].append(near)
            streams[j].append(far)
    return [Networked(n, Stats(), each, **options) for each in streams]


@pytest.mark.parametrize("holders", [2, 3, 5])
@pytest.mark.parametrize("secure", [False, True])
def test_rounds_of_any_size(holders, secure, office, rng):
    channels = ring_of(holders, (lambda: connected(office)) if secure else plain_pair)
    sizes = [0, 1, 7, 4096, 100_000, 1, 0, 3]
    given = [[random_words(rng, 1, n) for n in sizes] for _ in range(holders)]

    def program(channel, rank):
        out = [channel.open([words], "mask")[0] for words in given[rank]]
        return (
            out
            + channel.open([given[rank][1], given[rank][2]], "reveal")
            + channel.open_xor([given[rank][3]], "compare")
        )

    results = everywhere(channels, program)
    sums = [sum(each[i] for each in given) for i in range(len(sizes))]
    bits = given[0][3]
    for each in given[1:]:
        bits = bits ^ each[3]
    for found in results:
        assert not isinstance(found, Exception), found
        for mine, theirs in zip(found, [*sums, sums[1], sums[2], bits], strict=True):
            assert torch.equal(mine.reshape(-1), theirs.reshape(-1))
    stats = channels[0].stats
    assert stats.rounds == len(sizes) + 2
    assert stats.sent == 8 * (holders - 1) * (sum(sizes) + 1 + 7 + 4096)
    # what was counted is what travelled, but for the headers
    framing = HEADER.size * stats.rounds * (holders - 1)
    if not secure:
        assert sum(s.sent for s in channels[0]._links) == stats.sent + framing


def test_large_messages_both_ways_through_small_buffers(rng):
    """Send-then-receive deadlocks here."""
    near, far = tcp_pair(1 << 16)
    channels = [Networked(2, Stats(), [Stream(s, "peer")]) for s in (near, far)]
    given = [random_words(rng, 1, 1 << 21) for _ in range(2)]  # 16 MB each
    found = everywhere(channels, lambda channel, rank: channel.open([given[rank]], "mask")[0])
    assert torch.equal(found[0], given[0] + given[1])
    assert torch.equal(found[1], found[0])


def test_large_messages_both_ways_over_tls(office, rng):
    channels = ring_of(2, lambda: connected(office))
    given = [random_words(rng, 1, (9 << 20) // 8) for _ in range(2)]
    found = everywhere(channels, lambda channel, rank: channel.open([given[rank]], "mask")[0])
    assert torch.equal(found[0], given[0] + given[1])


@pytest.mark.parametrize(("sizes", "causes"), [((3, 4), ("mask", "mask")), ((3, 3), ("mask", "relu"))])
def test_different_programs(sizes, causes, rng):
    channels = ring_of(2, plain_pair)
    errors = everywhere(channels, lambda channel, rank: channel.open([random_words(rng, 1, sizes[rank])], causes[rank]))
    assert all(isinstance(e, ChannelError) and "different programs" in str(e) for e in errors)


def test_a_round_that_was_skipped(rng):
    channels = ring_of(2, plain_pair)
    channels[0]._round += 1
    errors = everywhere(channels, lambda channel, rank: channel.open([random_words(rng, 1, 3)], "mask"))
    assert all("different programs" in str(e) for e in errors)


def test_a_peer_that_sends_nonsense():
    near, far = plain_pair()
    far.queue(b"x" * 100)
    far.flush()
    with pytest.raises(ChannelError, match="no message of a round"):
        Networked(2, Stats(), [near]).open([torch.zeros(1, 1, dtype=torch.int64)], "mask")


def test_a_peer_that_is_gone():
    near, far = plain_pair()
    far.close()
    with pytest.raises(PeerLost):
        Networked(2, Stats(), [near]).open([torch.zeros(1, 1 << 20, dtype=torch.int64)], "mask")


def test_a_frozen_peer():
    near, far = plain_pair()
    start = time.monotonic()
    with pytest.raises(ChannelError, match="frozen"):
        Networked(2, Stats(), [near], patience=0.2).open([torch.zeros(1, 1, dtype=torch.int64)], "mask")
    assert time.monotonic() - start < 5
    far.close()


def test_a_round_can_be_ended_from_outside():
    near, far = plain_pair()
    wake, waker = plain_pair()
    channel = Networked(2, Stats(), [near], wake=wake.fileno())
    threading.Timer(0.1, lambda: (waker.queue(b"x"), waker.flush())).start()
    with pytest.raises(Cancelled):
        channel.open([torch.zeros(1, 1, dtype=torch.int64)], "mask")
    far.close()


def test_corrections_arrive_in_order(office, rng):
    near, far = connected(office)
    feed, sent = ReceivedCorrections(far), [random_words(rng, n) for n in (1, 0, 5, 100_000, 3)]
    sender = SentCorrections([near])
    for words in sent:
        sender.send(words)
    for words in sent:
        assert torch.equal(feed.receive(words.numel()), words)
    sender.send(sent[0])
    sender.send(sent[2])
    for words in (2, sent[2].numel()):  # what comes after is not taken for what was due
        with pytest.raises(ChannelError, match=r"expected 2 corrections.*programs differ"):
            feed.receive(words)
    near.close()


@pytest.mark.parametrize("late", [False, True], ids=["it was there", "it was waited for"])
def test_corrections_come_to_their_place(late, office, rng):
    near, far = connected(office)
    feed, sender = ReceivedCorrections(far), SentCorrections([near])
    sent = [random_words(rng, n) for n in (5, 100_000, 0, 3)]
    places = [torch.zeros_like(words) for words in sent]

    def deal():
        for words in sent:
            time.sleep(0.05 * late)
            sender.send(words)

    thread = threading.Thread(target=deal)
    thread.start()
    time.sleep(0.1 * (not late))
    for place, words in zip(places, sent, strict=True):
        feed._take_into(place)
        assert torch.equal(place, words)
    thread.join(10)
    assert all(map(torch.equal, places, sent))
    near.close()


def test_a_later_message_does_not_come_to_an_earlier_one_s_place(office, rng):
    near, far = connected(office)
    feed, sender, sent = ReceivedCorrections(far), SentCorrections([near]), [random_words(rng, 5) for _ in range(2)]
    sender.send(sent[0])
    place = feed.receive(5)
    feed._wanted = (0, place)  # as it is until the thread that waited for the first goes on
    sender.send(sent[1])
    assert torch.equal(feed.receive(5), sent[1])
    assert torch.equal(place, sent[0])
    near.close()


def test_a_dealer_ahead_is_bounded():
    """A holder keeps AHEAD bytes and the connection's buffers; then the dealer waits."""
    near, far = tcp_pair(1 << 16)
    feed, sender = ReceivedCorrections(Stream(far, "dealer")), SentCorrections([Stream(near, "holder")])
    piece = torch.zeros(1 << 18, dtype=torch.int64)  # 2 MB
    total = 4 * AHEAD // (8 * piece.numel())
    count = [0]

    def deal():
        for _ in range(total):
            sender.send(piece)
            count[0] += 1

    thread = threading.Thread(target=deal, daemon=True)
    thread.start()
    time.sleep(0.5)
    assert count[0] < total / 2
    assert feed._held <= AHEAD + 8 * piece.numel()
    for _ in range(total):
        feed.receive(piece.numel())
    thread.join(10)
    assert count[0] == total
    near.close()


def test_a_feed_can_be_closed():
    near, far = plain_pair()
    feed = ReceivedCorrections(near)
    threading.Timer(0.1, feed.close).start()
    with pytest.raises(Cancelled):
        feed.receive(1)
    far.close()
