"""Workers that are told different programs.

What makes these work: masks are streams under a pair's key, called by a number that each worker
counts for itself, and `Refresh` takes a number and sends nothing.  So a driver can slide the
workers' numbers against one another, and two different uses of one mask cancel.

The holders are bob and alice, in this order, which the driver chooses: bob, the leading holder,
adds what was opened, and alice, the last, receives the provider's corrections.
"""

import pytest
import torch
from client import PROVIDER, UNIT, call, combined, load, ref, refresh, run
from verdicts import kept, unread

from pysmpc.remote.arguments import digest_of
from pysmpc.remote.program_messages import Plain
from pysmpc.transport.wire import tensor_frames

SHAPE = [64, 4]
ORDER = ("bob", "alice")
MATERIAL = 16  # streams of one truncation
HALF = 1 << 63


def signed(words):
    """Integers mod 2^63 as signed ones."""
    words = [int(word) % HALF for word in words]
    return torch.tensor([word - HALF if word >= HALF // 2 else word for word in words]).double()


def shifted(client, before=(), between=(), after=(), provider=(), values=(0, 1, 2, 3)):
    """alice's x and a value u of the driver's, each divided by two.  Slots 1 and 2: what came of u and of x.

    `before`, `between`, `after`: more operations for the holders.  `provider`: its whole program.
    """
    mine, hers, u, x = values
    client.tell(load(x, "x", SHAPE))
    client.own(u, SHAPE, 0.5, scale=2 * UNIT)  # at a finer scale than its own: to be divided
    client.own(mine, SHAPE)
    client.own(hers, SHAPE)
    holders = client.holders
    client.tell(*before, only=holders)
    divide_u = call("copy_.default", ref(mine, SHAPE), ref(u, SHAPE))
    halve, divide_x = (
        call("mul.Tensor", ref(x, SHAPE), 0.5, out=4),
        call("copy_.default", ref(hers, SHAPE), ref(4, SHAPE)),
    )
    client.tell(divide_u, *between, halve, divide_x, *after, only=holders)
    named = {"u": divide_u, "halve": halve, "x": divide_x}
    client.tell(*(named[each] if isinstance(each, str) else each for each in provider), only=[PROVIDER])


def slid(client, **program):
    """The attack that the tests below tell in several ways.

    1. alice and bob divide u under the masks r' of the streams 0 to 15, then x / 2 under those of
       16 to 31: r, which alice and bob draw in halves.  Both open c = x + 2^62 + r.
    2. The provider is 16 numbers ahead: with the first division it sends alice, as her share of
       floor(r' / 2), what is left of floor(r / 2): q = floor(r / 2) - s, where s is a stream of bob's.
    3. alice gives her share of u's quotient, as u is the driver's: it is -q, but for the highest bit.
    4. bob gives his share of x's quotient, as he owns nothing of it: floor(c / 2) - 2^61 - s, but for the highest bit.
    5. Their sum is x / 2, mod 2^63.  alice gave nothing of x.
    """
    shifted(client, **program)
    mine = client.open(ref(1, SHAPE))
    if not isinstance(share := mine["alice"], torch.Tensor):
        return mine, None
    hers = client.open(ref(2, SHAPE))
    if not isinstance(other := hers["bob"], torch.Tensor):
        return {**mine, **{f"{name} of x": each for name, each in hers.items()}}, None
    return hers, 2 * signed(share + other) / UNIT


AHEAD = [refresh(0, SHAPE)] * MATERIAL
SLOTS = {"values": (1, 2, 0, 3)}


def test_the_provider_is_told_more(scene, witness):
    """A program of another length at the provider only."""
    program = {"provider": [*AHEAD, "u", "halve", "x"], **SLOTS}
    answers, found = run(scene.workers, lambda client: slid(client, **program), holders=ORDER)
    unread(found, scene.x, "all of alice's rows, which she lets nobody open")
    kept({name: each for name, each in answers.items() if name in ("bob", "bob of x")}, "alice's x")
    witness.names("scientist")


def test_the_provider_is_told_the_same_in_another_order(scene, witness):
    """The same operations: the provider draws its numbers before it divides, the holders after."""
    program = {"after": AHEAD, "provider": [*AHEAD, "u", "halve", "x"], **SLOTS}
    answers, found = run(scene.workers, lambda client: slid(client, **program), holders=ORDER)
    unread(found, scene.x, "all of alice's rows, by another order at the provider")
    kept({name: each for name, each in answers.items() if name in ("bob", "bob of x")}, "alice's x")
    witness.names("scientist")


def test_the_holders_are_told_less(scene, witness):
    """The provider's program is the honest one, of which the holders were told less."""

    def attack(client):
        shifted(client, between=[refresh(0, SHAPE)], provider=[*AHEAD, refresh(0, SHAPE), "u", "halve", "x"], **SLOTS)
        mine, hers = client.open(ref(1, SHAPE)), {}
        if isinstance(mine["alice"], torch.Tensor):
            hers = client.open(ref(2, SHAPE))
        if not all(isinstance(each, torch.Tensor) for each in (mine["alice"], hers.get("bob"))):
            return None
        return 2 * signed(mine["alice"] + hers["bob"]) / UNIT

    unread(run(scene.workers, attack, holders=ORDER), scene.x, "alice's rows, by one refresh between two divisions")
    witness.names("scientist")


def test_one_holder_works_on_another_value(scene, witness):
    """At bob only: where alice divides x, bob divides a value of the driver's, so that no rule is asked at all.

    As above, with u' in the place of bob's share: the driver knows his share of u', and what is left is
    alice's share of x.  bob's own is in his answer to an opening of x.
    """

    def attack(client):
        client.tell(load(3, "x", SHAPE))
        client.own(0, SHAPE, 0.5, scale=2 * UNIT)
        client.own(1, SHAPE)
        client.own(2, SHAPE)
        client.own(4, SHAPE, 0.0, scale=2 * UNIT)
        client.tell(*[refresh(2, SHAPE)] * MATERIAL, only=[PROVIDER])
        client.tell(call("copy_.default", ref(1, SHAPE), ref(0, SHAPE)))
        client.tell(call("mul.Tensor", ref(3, SHAPE), 0.5, out=5))
        client.tell(call("copy_.default", ref(2, SHAPE), ref(5, SHAPE)), only=["alice", PROVIDER])
        client.tell(call("copy_.default", ref(2, SHAPE), ref(4, SHAPE)), only=["bob"])
        mine = client.open(ref(1, SHAPE))
        theirs = client.open(ref(2, SHAPE))
        share = client.open({"bob": ref(4, SHAPE), "alice": ref(1, SHAPE), PROVIDER: ref(1, SHAPE)})
        x = client.open(ref(3, SHAPE))
        needed = mine["alice"], theirs["bob"], share["bob"], x["bob"]
        if not all(isinstance(each, torch.Tensor) for each in needed):
            return None
        sums = 2 * (mine["alice"] + theirs["bob"]) - share["bob"] + x["bob"]
        return sums.double() / UNIT

    unread(run(scene.workers, attack, holders=ORDER), scene.x, "alice's rows, without asking for more than bob's share")
    witness.names("scientist")


def test_a_driver_who_works_together_with_bob(scene, witness):
    """All holders but alice pool what they know with the driver; the provider follows its program.

    1. A value u of the driver's is compared with zero, in streams 0 to 15; x is divided next, in 16 to 31.
    2. The provider is 11 ahead: with the comparison it sends bob (the last) his share of a dealt bit,
       bit - s, where s is alice's stream of number 11 + 5 = 16.
    3. That is alice's mask of the division.  bob has seen c = x + 2^62 + s + r, where r is his own stream 16.
    """
    seen = {}

    def attack(client):
        client.tell(load(0, "x", SHAPE))
        client.own(1, SHAPE, 0.5)
        client.own(2, SHAPE)
        [session] = [
            each.engagement for each in scene.workers.workers["bob"].attendances.values() if each.engagement is not None
        ]
        party = session.session.party
        corrections, receive = [], party.dealer._feed.receive

        def kept_by_bob(words):
            corrections.append(receive(words).clone())
            return corrections[-1]

        party.dealer._feed.receive = kept_by_bob
        party.channel.observer = lambda cause, sent, opened: seen.setdefault(cause, opened[0].clone())
        client.tell(*[refresh(2, SHAPE)] * 11, only=[PROVIDER])
        client.tell(call("gt.Scalar", ref(1, SHAPE), 0, out=3), call("mul.Tensor", ref(0, SHAPE), 0.5, out=4))
        client.tell(call("copy_.default", ref(2, SHAPE), ref(4, SHAPE)))
        client.wait()
        if "truncate" not in seen:
            return None
        bits, own = corrections[0][-256:], party.dealer.keys.draw(session.transcript.base + MATERIAL, 256)[0]
        return (seen["truncate"][0] - (1 << 62) + bits - own).double() / UNIT

    unread(run(scene.workers, attack), scene.x, "alice's rows, together with bob")
    witness.names("scientist")


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_one_constant_differs_at_one_holder(scene, witness, who):
    """Nobody has agreed to a value that one holder computes in another way."""

    def attack(client):
        client.own(0, SHAPE, 1.0)
        others = [name for name in client.names if name != who]
        client.tell(call("mul.Tensor", ref(0, SHAPE), 2.0, out=1), only=others)
        client.tell(call("mul.Tensor", ref(0, SHAPE), 4.0, out=1), only=[who])
        return client.open(ref(1, SHAPE))

    kept(run(scene.workers, attack), f"a value that {who} multiplied by 4, and the others by 2")
    witness.names("scientist")


def test_one_constant_differs_at_the_provider(scene, witness):
    """A divisor: what is opened then tells of the mask."""

    def attack(client):
        client.own(0, [4], 1.0, scale=4 * UNIT, only=client.holders)
        client.own(0, [4], 1.0, scale=8 * UNIT, only=[PROVIDER])
        client.own(1, [4])
        client.tell(call("copy_.default", ref(1, [4]), ref(0, [4])))
        return client.open(ref(1, [4]))

    kept(run(scene.workers, attack), "a value whose masks the provider dealt for another divisor")
    witness.names("scientist")


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_a_tensor_differs_at_one(scene, witness, who):
    """The operations are the same, and what follows them at one worker is not what they announce."""

    def attack(client):
        client.own(0, SHAPE, 1.0)
        told = torch.rand(SHAPE)
        other = told + 1.0
        public = Plain(dtype="float32", shape=SHAPE, size=SHAPE, data=None, digest=digest_of(told))
        for name in client.names:
            frames = tensor_frames(other if name == who else told)
            client._queued[name].append((call("add.Tensor", ref(0, SHAPE), public, out=1), frames))
        return client.open(ref(1, SHAPE))

    kept(run(scene.workers, attack), f"a sum of which {who} has another part")
    witness.names("scientist", "sent another tensor than the one it announced")


@pytest.mark.parametrize("who", ["bob", PROVIDER])
def test_an_operation_is_dropped_at_one(scene, witness, who):
    """It took no message and no stream: nothing in the traffic shows that it is missing."""

    def attack(client):
        client.own(0, SHAPE, 1.0)
        client.own(1, SHAPE, 2.0)
        client.tell(call("add_.Tensor", ref(0, SHAPE), ref(1, SHAPE)), only=[n for n in client.names if n != who])
        return client.open(ref(0, SHAPE))

    kept(run(scene.workers, attack), f"a value to which {who} did not add what the others did")
    witness.names("scientist")


def test_an_order_differs_at_one(scene, witness):
    """Two operations of bob's the other way round."""

    def attack(client):
        client.own(0, SHAPE, 1.0)
        double, more = call("mul_.Tensor", ref(0, SHAPE), 2.0), call("add_.Tensor", ref(0, SHAPE), 1.0)
        client.tell(double, more, only=["alice", PROVIDER])
        client.tell(more, double, only=["bob"])
        return client.open(ref(0, SHAPE))

    kept(run(scene.workers, attack), "a value that bob computed in another order")
    witness.names("scientist")


def test_holders_are_told_of_different_parties(scene, witness):
    """alice believes that bob is the last of three, the others that carol is."""

    def attack(client):
        if client.failed:
            return {}
        client.own(0, SHAPE, 1.0)
        return client.open(ref(0, SHAPE))

    other = {"alice": {"holders": ["alice", "carol", "bob"]}}
    answers = run(scene.workers, attack, holders=("alice", "bob", "carol"), setups=other)
    kept(answers, "a value of a session whose holders know different orders of them")
    witness.names("scientist")


def test_the_client_sees_what_honest_programs_give(scene):
    """The same program at all workers comes to x only if alice lets it: what is refused above is the difference."""

    def honest(client):
        shifted(client, provider=["u", "halve", "x"], **SLOTS)
        return client.open(ref(1, SHAPE))

    assert torch.allclose(
        combined(run(scene.workers, honest, holders=ORDER)), torch.full((256,), 0.25).double(), atol=1e-3
    )
