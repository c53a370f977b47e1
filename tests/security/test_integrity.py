"""integrity="mac": whatever a holder alters is found, and no value is returned."""

import random
from contextlib import suppress

import pytest
import torch
from torch import nn
from twins import opened

import pysmpc as sy
from pysmpc.demo import main as demo
from pysmpc.demo.settings import Settings
from pysmpc.demo.training import SecretSide
from pysmpc.errors import ChannelError, IntegrityError
from pysmpc.mpc.mac import opening
from pysmpc.mpc.suite import authenticated_default, default
from pysmpc.ring import z2k
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session
from pysmpc.transport import threads

SCALE = 1 << 16
RETURNED = []


def program(session, owner=True):
    """Products, a truncation, a comparison, a ReLU; what is returned is what was revealed."""
    suite, party = session.suite, session.party
    values = torch.arange(-3, 3) * SCALE
    x = suite.share(party, values if owner else None, (2, 3), SCALE)
    y = suite.share(party, values + 5 if owner else None, (3, 2), SCALE)
    z = suite.truncate(party, suite.matmul(party, x, y), SCALE)
    z = suite.relu(party, suite.mul(party, z, z), SCALE)
    bit = suite.bit_share(party, suite.negative(party, suite.sub(party, z, Share(y.body, (2, 2), SCALE))), (2, 2))
    return suite.reveal(party, z, bit)


class Altered:
    """Flips a bit, at one holder, of the word at a place among all that are opened."""

    def __init__(self, place, row, bit):
        self.place, self.row, self.bit = place, row, bit
        self.words, self.cause = 0, None

    def __call__(self, message, cause):
        if cause == "check":
            return message
        first, self.words = self.words, self.words + message.shape[1]
        if self.place is None or not first <= self.place < self.words:
            return message
        self.cause = cause
        message = message.clone()
        message[self.row, self.place - first] ^= -(1 << 63) if self.bit == 63 else 1 << self.bit
        return message


def altering(session, place=None, row=0, bit=0):
    honest, tap = session.party.channel.gather, Altered(place, row, bit)
    session.party.channel.gather = lambda message, cause, shapes=None: honest(tap(message, cause), cause, shapes)
    return tap


def new(holders=2):
    return virtual_session([str(i) for i in range(holders)], suite=authenticated_default)


def count():
    session = new()
    tap = altering(session)
    program(session)
    return tap.words


def found(places):
    """Each place, bit and holder on its own session: the causes of the openings that were altered."""
    causes = set()
    for place in places:
        session = new()
        tap = altering(session, place, random.randrange(2), random.randrange(64))
        with pytest.raises(IntegrityError) as raised:
            RETURNED.append(program(session))
        assert f"'{tap.cause}'" in str(raised.value)
        causes.add(tap.cause)
    assert not RETURNED
    return causes


def test_any_altered_word_is_found():
    words = count()
    assert found(random.randrange(words) for _ in range(12))


def test_an_opening_of_every_kind():
    """The highest bit, too, whose multiples by an even number vanish."""
    for holders in (2, 3):
        session = new(holders)
        honest, places, words = session.party.channel.gather, {}, [0]

        def noting(message, cause, shapes=None, honest=honest, places=places, words=words):
            places.setdefault(cause, words[0])
            words[0] += message.shape[1] if cause != "check" else 0
            return honest(message, cause, shapes)

        session.party.channel.gather = noting
        program(session)
        assert set(places) == {"mask", "truncate", "compare", "reveal", "check"}
        for cause, place in places.items():
            if cause != "check":
                session = new(holders)
                altering(session, place, holders - 1, 63)
                with pytest.raises(IntegrityError, match=f"'{cause}'"):
                    program(session)
                with pytest.raises(IntegrityError, match="ended"):
                    program(session)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_places():
    words = count()
    assert found(random.randrange(words) for _ in range(1000)) == {"mask", "truncate", "compare", "reveal"}


class AlteredMessage:
    """Flips a bit of a random word, at a random holder, of one message among all that are sent."""

    def __init__(self, parties, which=None):
        channel = parties.session.party.channel
        self.honest, self.which, self.causes = channel.gather, which, []
        channel.gather = self

    def __call__(self, message, cause, shapes=None):
        if len(self.causes) == self.which:
            message = message.clone()
            bit = random.randrange(64)
            row, word = random.randrange(len(message)), random.randrange(message.shape[1])
            message[row, word] ^= -(1 << 63) if bit == 63 else 1 << bit
        self.causes.append(cause)
        return self.honest(message, cause, shapes)


def training_step(parties, which=None):
    """Forward, backward, update and the opening of loss and weights: the causes of all messages."""
    altered = AlteredMessage(parties, which)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    model, x, y = (sy.encrypt(each, parties) for each in (model, torch.randn(3, 5), torch.randn(3, 2)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = (model(x) - y).square().mean()
    loss.backward()
    optimizer.step()
    RETURNED.append(sy.decrypt(loss))
    RETURNED.append(sy.decrypt(model))
    return altered.causes


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_message_of_a_step():
    """Of openings and of checks; whatever was found right before is all that was returned."""
    causes = training_step(sy.virtual("honest", "too", integrity="mac"))
    assert {"mask", "truncate", "compare", "reveal", "check"} <= set(causes)
    last = len(causes) - 1 - causes[::-1].index("check")
    assert last == len(causes) - 1  # nothing is sent that no check follows
    for which, cause in enumerate(causes):
        RETURNED.clear()
        # checked: ranges would be found out by all shares, which are here
        parties = sy.virtual(f"alice{which}", f"bob{which}", integrity="mac", checked=False)
        with pytest.raises(IntegrityError):
            training_step(parties, which)
        assert len(RETURNED) < 2, cause
        assert not RETURNED or which > causes.index("reveal")
    RETURNED.clear()


@pytest.mark.parametrize("holders", [1, 2, 3, 4, 5])
def test_what_is_compared_of_bits(holders):
    """The digits of their sums: the same in every order of the holders, and another where a sum is another."""
    rows = torch.randint(-(1 << 62), 1 << 62, (holders, 3))
    digits = opening._counts(rows)
    unpacked = [z2k.unpack_bits(row, 192) for row in digits]
    sums = torch.stack([z2k.unpack_bits(row, 192) for row in rows]).sum(0)
    assert torch.equal(sum(bit << i for i, bit in enumerate(unpacked)), sums)
    assert torch.equal(opening._counts(rows.flip(0)), digits)


def test_two_altered_words_do_not_hide_each_other():
    session = new()
    suite, party = session.suite, session.party
    x = suite.share(party, torch.arange(10), (10,))
    honest = party.channel.gather

    def altered(message, cause, shapes=None):
        if cause == "reveal":
            message = message.clone()
            message[0, 2] ^= -(1 << 63)
            message[0, 7] ^= -(1 << 63)
        return honest(message, cause, shapes)

    party.channel.gather = altered
    with pytest.raises(IntegrityError):
        suite.reveal(party, x)


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("step", range(5))
def test_a_check_that_is_tampered_with_fails(step, place):
    session = new()
    honest, rounds = session.party.channel.gather, []

    def altered(message, cause, shapes=None):
        if cause == "check":
            if len(rounds) == step:
                message = message.clone()
                message[1, place] ^= 1 << random.randrange(8)
            rounds.append(cause)
        return honest(message, cause, shapes)

    session.party.channel.gather = altered
    with pytest.raises(IntegrityError):
        program(session)


def test_nothing_is_revealed_that_was_computed_from_an_altered_word():
    session = new()
    altering(session, 0, 0, 0)
    tapped, causes = session.party.channel.gather, []

    def noting(message, cause, shapes=None):
        causes.append(cause)
        return tapped(message, cause, shapes)

    session.party.channel.gather = noting
    with pytest.raises(IntegrityError):
        program(session)
    assert causes.count("check") == 5
    assert "reveal" not in causes


def test_no_stream_serves_twice():
    """Masks of openings, of inputs and of checks: each of numbers of its own."""
    session = new()
    for dealer in (session.party.dealer, session.party.owner):
        given, honest = [], dealer.streams

        def noting(count=1, given=given, honest=honest):
            given.append(honest(count))
            return given[-1]

        dealer.streams = noting
        dealer.given = given
    for _ in range(2):
        program(session)
    for dealer in (session.party.dealer, session.party.owner):
        assert len(dealer.given) > 3
        assert len(set(dealer.given)) == len(dealer.given)


def test_a_repeated_commitment_does_not_fix_the_sets():
    """A holder who sees what the other commits to, and repeats it and then the seed, knows no coin beforehand."""
    keys = []

    class Noting(opening.KeySet):
        def __init__(self, given):
            keys.append(given[0])
            super().__init__(given)

    for _ in range(2):
        session = new()
        honest = session.party.channel.gather

        def repeating(message, cause, shapes=None, honest=honest):
            if cause == "check" and message.shape[1] in (2 * opening.DIGEST, opening.SEED):
                message = message[:1].expand(2, -1).contiguous()
            return honest(message, cause, shapes)

        session.party.channel.gather = repeating
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(opening, "KeySet", Noting)
            program(session)
    assert len(set(keys)) == len(keys) == 4


def test_bits_behind_the_last_are_refused():
    session = new()
    honest = session.party.channel.gather

    def altered(message, cause, shapes=None):
        if shapes == [(5,)] and message.shape[1] == 1:  # the last of the comparison, five bits
            message = message.clone()
            message[1, 0] ^= 1 << 60
        return honest(message, cause, shapes)

    session.party.channel.gather = altered
    suite, party = session.suite, session.party
    bit = suite.negative(party, suite.share(party, torch.arange(5), (5,)))
    with pytest.raises(IntegrityError, match="'compare'"):
        suite.reveal(party, suite.bit_share(party, bit, (5,)))


def test_over_links():
    """A holder of its own sends altered words to the others; all of them find it."""
    for place in (0, 40):
        sessions = threads.sessions(["a", "b", "c"], suite=authenticated_default)
        honest = sessions[1].party.channel._links[0].send
        sent = []

        def altered(cause, words, honest=honest, sent=sent, place=place):
            if cause != "check" and sum(sent) <= place < sum(sent) + words.numel():
                words = words.clone()
                words[place - sum(sent)] += 1
            sent.append(words.numel() if cause != "check" else 0)
            honest(cause, words)

        sessions[1].party.channel._links[0].send = altered
        with pytest.raises(IntegrityError):
            threads.run(sessions, lambda s: program(s, s is sessions[0]))  # noqa: B023


# --- after a check has failed -----------------------------------------------------------


def further(session, owner):
    """Operations of every kind that a session may be asked for, those of another suite of it among them."""
    suite, party = session.suite, session.party
    x = suite.share(party, torch.arange(6) * SCALE if owner else None, (6,), SCALE)
    plain = session.under(default)
    other = plain.suite.share(party, torch.arange(6) if owner else None, (6,))

    def shared(of):
        return of.suite.share(party, torch.arange(6) if owner else None, (6,))

    return {
        "share": lambda: shared(session),
        "reveal": lambda: suite.reveal(party, x),
        "disclose": lambda: suite.disclose(party, x, True),
        "mul": lambda: suite.mul(party, x, x),
        "matmul": lambda: suite.matmul(party, Share(x.body, (2, 3)), Share(x.body, (3, 2))),
        "truncate": lambda: suite.truncate(party, x, SCALE),
        "negative": lambda: suite.negative(party, x),
        "relu": lambda: suite.relu(party, x),
        "refresh": lambda: suite.refresh(party, x),
        "check": lambda: opening.check(party),
        "share without codes": lambda: shared(plain),
        "mul without codes": lambda: plain.suite.mul(party, other, other),
        "reveal without codes": lambda: plain.suite.reveal(party, other),
        "ask": lambda: party.dealer.ask(other.words(), "convert", 0, lambda keys, asked, out: None),
    }


class Sent:
    """Counts what a party of `threads.sessions` sends: over its links, its feeds and its desk."""

    def __init__(self, session):
        self.messages = 0
        for end, names in (*((link, ["send"]) for link in session.links), (session.desk, ["ask"])):
            self._count(end, names)
        for dealer in (session.party.dealer, session.party.owner):
            self._count(dealer._feed, ["send"])

    def _count(self, end, names):
        for name in names:
            honest = getattr(end, name)

            def sent(*args, honest=honest, **kwargs):
                self.messages += 1
                return honest(*args, **kwargs)

            setattr(end, name, sent)


@pytest.mark.parametrize("cause", ["mask", "truncate", "compare", "reveal", "check"])
def test_nothing_is_sent_after_a_failed_check(cause):
    """Whatever is asked for: it raises, and no round, question, input or opening leaves the party."""
    sessions = threads.sessions(["a", "b", "c"], suite=authenticated_default)
    counts = [Sent(session) for session in sessions]
    for link in sessions[1].links:
        honest, altered = link.send, []

        def altering(said, words, honest=honest, altered=altered):
            if said == cause and not altered:
                altered.append(said)
                words = words.clone()
                words[-1] ^= 1 << random.randrange(63)
            honest(said, words)

        link.send = altering
    caught = []

    def work(session):
        owner = session is sessions[0]
        operations = further(session, owner)
        if session.party.ranks in ((), (1,)):  # the provider sees no opening; the one who deviates may find nothing
            with suppress(ChannelError, IntegrityError):
                program(session, owner)
            return
        with pytest.raises(IntegrityError):
            RETURNED.append(program(session, owner))
        count = counts[sessions.index(session)]
        before, stats = count.messages, session.stats.copy()
        assert before > 0
        for name, operation in operations.items():
            with pytest.raises(IntegrityError, match="this session ended when"):
                RETURNED.append(operation())
            assert (count.messages, session.stats) == (before, stats), name
        caught.append(session)
        for link in session.links:
            link.fail(IntegrityError("ended"))  # as closed connections tell on a network

    threads.run(sessions, work)
    assert len(caught) == 2
    assert not RETURNED


def test_no_operation_on_tensors_after_a_failed_check():
    parties = sy.virtual("alice", "bob", integrity="mac")
    x = sy.encrypt(torch.randn(5), parties)
    other = sy.virtual("alice", "bob")
    plain = parties.session.under(default)
    y = sy.encrypt(torch.randn(5), sy.api.parties.Parties(plain))
    altering(parties.session, 2, 1, 40)
    with pytest.raises(IntegrityError):
        sy.decrypt(x * x)
    before = parties.stats.copy()
    for work in (
        lambda: x * x,
        lambda: x + 1,
        lambda: x[:2],
        lambda: y * y,
        lambda: sy.decrypt(x),
        lambda: sy.decrypt(y),
        lambda: sy.encrypt(torch.randn(5), parties),
        lambda: sy.encrypt(torch.randn(5), sy.api.parties.Parties(plain)),
        lambda: sy.api.steps.refresh(y),
    ):
        with pytest.raises(IntegrityError, match="ended"):
            work()
    assert parties.stats == before
    assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), other)), torch.ones(2))


@pytest.mark.parametrize("error", [ChannelError, KeyboardInterrupt])
@pytest.mark.parametrize("step", range(5))
def test_a_check_that_is_not_completed_is_no_check(step, error):
    """What was altered before is not forgotten when the error is caught and the program goes on."""
    session = new()
    suite, party = session.suite, session.party
    x = suite.share(party, torch.arange(10), (10,))
    altering(session, random.randrange(10), 0, 3)
    tapped, rounds = party.channel.gather, []

    def interrupted(message, cause, shapes=None):
        if cause == "check":
            rounds.append(cause)
            if len(rounds) == step + 1:
                raise error("in the midst of a check")
        return tapped(message, cause, shapes)

    party.channel.gather = interrupted
    y = suite.mul(party, x, x)
    with pytest.raises(error):
        RETURNED.append(suite.reveal(party, y))
    for _ in range(2):
        with pytest.raises(IntegrityError, match="ended when a check was not completed"):
            RETURNED.append(suite.reveal(party, y))
    assert not RETURNED
    assert len(rounds) == step + 1


def test_training_is_as_without():
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    data, target = torch.randn(6, 4), torch.randn(6, 2)
    results = []
    for integrity in (None, "mac"):
        parties = sy.virtual("alice", "bob", integrity=integrity, rounding="nearest")
        secret = sy.encrypt(model, parties)
        optimizer = torch.optim.SGD(secret.parameters(), lr=0.125)
        for _ in range(3):
            optimizer.zero_grad()
            loss = ((secret(sy.encrypt(data, parties)) - sy.encrypt(target, parties)) ** 2).sum()
            loss.backward()
            optimizer.step()
        results.append([opened(p) for p in [loss.detach(), *(p.detach() for p in secret.parameters())]])
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_articles_training_learns_the_same():
    """Two epochs of the demo from the same seed: as alike as random rounding leaves them."""
    fits = []
    for integrity in (None, "mac"):
        settings = Settings(epochs=2, integrity=integrity)
        parties, data = sy.virtual(*settings.holders), demo.load(settings)
        model = sy.encrypt(demo.initial(settings), parties, **settings.precision)
        secret = demo.encrypt(data, parties, settings)
        side = SecretSide(parties, plaintext_model=False)
        fits.append(demo.train(side, model, secret, settings, title="", verbose=False))
    assert len(fits[0].losses) == 20
    for one, two in zip(fits[0].losses, fits[1].losses, strict=True):
        assert abs(one - two) < 0.03
    for one, two in zip(fits[0].test_correct, fits[1].test_correct, strict=True):
        assert one > 100
        assert abs(one - two) <= 32  # 13 between two runs without, of 640


def test_the_option():
    parties = sy.virtual("alice", "bob")
    x = sy.encrypt(torch.tensor([1.5, -2.0]), parties, integrity="mac")
    assert torch.equal(sy.decrypt(torch.relu(x * x + x)), torch.tensor([3.75, 2.0]))
    assert torch.equal(sy.decrypt(x > 0), torch.tensor([True, False]))
    n = sy.encrypt(torch.tensor([17, -17]), parties, integrity="mac")
    assert torch.equal(sy.decrypt(n // 5), torch.tensor([3, -4]))
    image = sy.encrypt(torch.arange(16.0).reshape(1, 1, 4, 4), parties, integrity="mac")
    kernel = torch.tensor([[[[1.0, -1.0], [0.5, 2.0]]]])
    convolved = sy.decrypt(torch.nn.functional.conv2d(image, kernel))
    assert torch.allclose(
        convolved, torch.nn.functional.conv2d(torch.arange(16.0).reshape(1, 1, 4, 4), kernel), atol=1e-4
    )
    empty = sy.encrypt(torch.empty(0, 3), parties, integrity="mac")
    assert sy.decrypt(torch.relu(empty * empty)).shape == (0, 3)
    with pytest.raises(NotImplementedError, match="mac"):
        n & 3
    with pytest.raises(ValueError, match="integrity is"):
        sy.virtual("alice", "bob", integrity="yes")
    with pytest.raises(NotImplementedError, match="default protocol"):
        sy.virtual("alice", "bob", protocol="snn", integrity="mac")
