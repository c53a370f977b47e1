"""A driver and bob who work together: bob sends what is expected of him, takes whatever comes, and tells all.

alice and the provider follow their programs.  What bob sends has the digest of whoever reads it, so that
nothing but alice's keys and her waiting for the provider is between her values and the two.
"""

import hashlib
from types import SimpleNamespace

import pytest
import torch
from client import PROVIDER, call, combined, load, ref, refresh, run
from test_programs import AHEAD, MATERIAL, ORDER, SHAPE, SLOTS, UNIT, shifted, signed
from test_slots import HERS, ID, MINE, X, restored, saved, where
from verdicts import kept, unread

from pysmpc.remote.worker import consent_rounds
from pysmpc.ring.prg import EPOCH_BITS
from pysmpc.transport.links import HEADER

COUNT = 256
PATIENCE = 9.0


class Anything(bytes):
    """A digest that equals every other."""

    __hash__ = None

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False


def attendance(scene, client, name):
    """The client's session at a worker; another may still be coming to its end."""
    there = list(scene.workers.workers[name].attendances.values())
    [found] = [each for each in there if each._session is not None and each._session.setup.session == client.session]
    return found


class Bob:
    """His part of the session that is going on, from now on: he consents to all, and agrees with everybody.

    corrections: what the provider sent him.  seen: what was opened, by cause.  streams: the numbers he drew, as
    (first, how many).  told: what the others said of their checkpoints.
    """

    def __init__(self, scene, client):
        client.wait()
        found = attendance(scene, client, "bob")
        self.engagement, self.replay = found.engagement, found.replay
        self.party = self.engagement.session.party
        self.corrections, self.seen, self.streams = [], {}, []
        feed, channel, dealer = self.engagement.feed, self.party.channel, self.party.dealer
        whatever = SimpleNamespace(digest=Anything(32))
        feed._transcript, receive, streams = whatever, feed.receive, dealer.streams
        for owner in self.engagement.owners.values():
            owner._feed._transcript = whatever

        def received(words):
            self.corrections.append(receive(words).clone())
            return self.corrections[-1]

        def drawn(count=1):
            self.streams.append((streams(count), count))
            return self.streams[-1][0]

        feed.receive, dealer.streams = received, drawn
        channel._run = self._run
        channel.observer = lambda cause, sent, opened: self.seen.setdefault(cause, opened[0].clone())
        self.replay.confirmed = lambda: None

    def _run(self, message):
        """A round: he waits for alice's message, and answers under the header that she has."""
        for each in message.begin(0, bytes(32)):
            head = bytearray(HEADER.size)
            each.stream.fill(memoryview(head), PATIENCE)
            each.stream.fill(each._into, PATIENCE)
            message._header[:] = head
            each.stream.queue(*each._parts)
            each.stream.flush(PATIENCE)


@pytest.mark.parametrize("bobs", ["alice", PROVIDER])
def test_a_dealt_bit_tells_nothing_of_a_mask(scene, bobs):
    """As `test_programs.test_a_driver_who_works_together_with_bob`, with a bob whom nothing stops.

    What the provider sends him is under alice's stream 16 as the provider has it, what alice sends under hers.
    bobs: whose program he runs, and so under which keys his own shares are.
    """
    reached = []

    def attack(client):
        client.tell(load(0, "x", SHAPE))
        client.own(1, SHAPE, 0.5)
        client.own(2, SHAPE)
        bob = Bob(scene, client)
        ahead = [PROVIDER] if bobs == "alice" else [PROVIDER, "bob"]
        client.tell(*[refresh(2, SHAPE)] * 11, only=ahead)
        client.tell(call("gt.Scalar", ref(1, SHAPE), 0, out=3), call("mul.Tensor", ref(0, SHAPE), 0.5, out=4))
        client.tell(call("copy_.default", ref(2, SHAPE), ref(4, SHAPE)))
        failed = client.wait()
        assert "alice" not in failed, failed["alice"].text  # he has kept her going
        reached.append("truncate" in bob.seen)
        numbers = [first for first, count in bob.streams if count == MATERIAL]
        bits, own = bob.corrections[0][-COUNT:], bob.party.dealer.keys.draw(numbers[1], COUNT)[0]
        found = (bob.seen["truncate"][0] - (1 << 62) + bits - own).double() / UNIT
        return found, client.open(ref(3, SHAPE))

    found, answers = run(scene.workers, attack)
    assert reached
    assert all(reached)  # all that the attack needs was sent
    unread(found, scene.x, "alice's rows, together with bob", 2.0**-10)
    kept({"alice": answers["alice"]}, "a value of the driver's, dealt by another program")


@pytest.mark.parametrize("order", [ORDER, ORDER[::-1]])
@pytest.mark.parametrize("more", ["at the provider", "at the holders", "in another order"])
def test_alice_opens_nothing_without_the_provider(scene, witness, order, more):
    """The value is the driver's own, bob says that he was told what she was, and no correction comes to her."""

    def attack(client):
        client.own(0, SHAPE, 1.0)
        client.own(1, SHAPE, 2.0)
        Bob(scene, client)
        again, add = refresh(0, SHAPE), call("add_.Tensor", ref(0, SHAPE), ref(1, SHAPE))
        programs = {
            "at the provider": ([add], [add, again]),
            "at the holders": ([add, again], [add]),
            "in another order": ([add, again], [again, add]),
        }
        for names, program in zip((client.holders, [PROVIDER]), programs[more], strict=True):
            client.tell(*program, only=names)
        return client.open(ref(0, SHAPE))

    answers = run(scene.workers, attack, holders=order)
    kept({"alice": answers["alice"]}, "a value of the driver's, where the provider was told another program")
    witness.names("scientist", f"this party and {PROVIDER} were told to run different programs")


def test_the_provider_is_told_more(scene, witness):
    """`test_programs.slid`, with a bob who says that his program is alice's."""
    answers = {}

    def attack(client):
        Bob(scene, client)
        shifted(client, provider=[*AHEAD, "u", "halve", "x"], **SLOTS)
        answers.update(client.open(ref(1, SHAPE)))
        other = client.open(ref(2, SHAPE)).get("bob")
        if not isinstance(answers["alice"], torch.Tensor) or not isinstance(other, torch.Tensor):
            return None
        return 2 * signed(answers["alice"] + other) / UNIT

    unread(run(scene.workers, attack, holders=ORDER), scene.x, "alice's rows, by a provider that was told more")
    kept({"alice": answers["alice"]}, "a quotient that the provider dealt for another one")
    witness.names("scientist", f"this party and {PROVIDER} were told to run different programs")


def test_a_checkpoint_whose_parts_are_said_to_be_of_one_program(scene, monkeypatch):
    """alice keeps a value of the driver's, bob his share of her rows, and he says that both are of one program."""
    name, pooled = next(ID), {}

    def keep(client):
        client.tell(X)
        client.own(1, SHAPE, 0.25)
        bob = Bob(scene, client)
        pooled.update({slot: bob.replay.cell(slot).body.words[0].clone() for slot in (0, 1)})
        saved(client, name, {"": {"w": MINE}, "bob": {"w": HERS}})
        digest = attendance(scene, client, "alice").engagement.transcript.digest
        first = hashlib.sha256(digest + (1).to_bytes(8, "little")).digest()  # save of her session
        pooled["told"] = torch.frombuffer(bytearray(first), dtype=torch.int64)

    def attack(client):
        bob = Bob(scene, client)
        honest = consent_rounds.told

        def told(session, mine):
            if session is not bob.replay.session:
                return honest(session, mine)
            return [list(bob.party.channel.tell("consent", [pooled["told"]])) and mine]

        monkeypatch.setattr(consent_rounds, "told", told)
        restored(client, name, {"w": where(0)})
        return client.open(HERS)

    run(scene.workers, keep)
    answers = run(scene.workers, attack)
    assert torch.equal(answers["bob"], pooled[0])
    shares = [combined(answers)] if isinstance(answers["alice"], torch.Tensor) else []
    hers = [UNIT // 4 - pooled[1], *([answers["alice"]] if shares else [])]
    for share in hers:
        unread((share + pooled[0]).double() / UNIT, scene.x, "alice's rows, from a checkpoint", 2.0**-10)


def pairs(scene, client):
    """Of every key that two parties have and the driver has not: (what it is for, one's set, the other's, its rows)."""
    holders, at = client.holders, {name: attendance(scene, client, name).engagement for name in client.names}
    dealer = at[PROVIDER].session.party.dealer._everyone
    for rank, name in enumerate(holders):
        mine, party = at[name], at[name].session.party
        yield f"{name}'s of what is dealt", party.dealer.keys, 0, dealer, rank
        yield f"{name}'s for authenticated inputs", mine.notaries[name], 0, at[PROVIDER].notaries[name], 0
        after = holders[(rank + 1) % len(holders)]
        yield f"the ring's, of {name} and {after}", party.next, 0, at[after].session.party.own, 0
        others = [other for other in holders if other != name]
        for place, other in enumerate(others):
            yield f"of {name}'s inputs at {other}", mine.owners[name]._everyone, place, at[other].owners[name].keys, 0
        yield f"of {name}'s inputs at herself", mine.owners[name]._everyone, len(others), mine.owners[name].keys, 0


@pytest.mark.parametrize("holders", [("alice", "bob"), ("bob", "carol", "alice")])
def test_every_key_follows(scene, holders):
    """Where all were told the same, two parties have the same words; from there on they have none in common."""

    def words(keys, row, epoch):
        return keys.draw((epoch << EPOCH_BITS) + 3, 32)[row].tolist()

    def attack(client):
        client.own(0, SHAPE)
        client.wait()
        client.own(1, SHAPE)
        for place, name in enumerate(client.names):  # each is told another thing
            client.tell(*[call("neg.default", ref(0, SHAPE), out=2 + i) for i in range(place + 1)], only=[name])
        assert not client.wait()
        kinds = list(pairs(scene, client))
        for what, one, row, other, place in kinds:
            for epoch in (0, 1):
                assert words(one, row, epoch) == words(other, place, epoch), what
            if "herself" in what:
                assert words(one, row, 2) == words(other, place, 2)
                continue
            earlier = [word for epoch in (0, 1) for word in words(one, row, epoch)]
            mine, theirs = words(one, row, 2), words(other, place, 2)
            assert not set(mine) & {*theirs, *earlier}, what
            assert not set(theirs) & set(earlier), what
        return len(kinds)

    n = len(holders)
    assert run(scene.workers, attack, holders=holders) == n * (n + 3)
