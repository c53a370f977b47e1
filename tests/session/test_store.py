"""Material on disk: what it was dealt for runs as with a provider, and nothing in it serves twice."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from children import in_child
from settings import random_words

from pysmpc.errors import MaterialError
from pysmpc.mpc.functions.exponent import power
from pysmpc.mpc.functions.fits import GELU, SILU, SILU_DERIVATIVE
from pysmpc.mpc.functions.normaliser import logarithm
from pysmpc.mpc.functions.smooth import smooth
from pysmpc.mpc.functions.softmax import quotients, softmax
from pysmpc.ring.shares import Share
from pysmpc.session import store as stores
from pysmpc.session.offline import StoreDealer, deal, dealers, dry_session
from pysmpc.session.session import virtual_session
from pysmpc.session.store import Store, path_of, take
from pysmpc.transport import threads

N = 70
NAMES = ["alice", "bob", "carol"]


def program(session, x=None, y=None):
    """Every kind of correction of the default protocols."""
    suite, party = session.suite, session.party
    a, b = (suite.share(party, v, (N,), 1 << 16) for v in (x, y))
    product = suite.truncate(party, suite.mul(party, a, b), 1 << 16)
    suite.largest(party, Share(product.body, (7, N // 7)))
    suite.count_reciprocals(party, a, 5)
    rest = suite.relu(party, suite.sub(party, product, suite.square(party, b)), 1 << 16)
    chosen = suite.select(party, suite.negative(party, b), rest)
    return suite.reveal(party, suite.refresh(party, chosen), product)


def dealt(folder, holders=2, runs=1, work=program):
    session = dry_session(NAMES[:holders], "dealer")
    work(session)
    deal(session, folder, runs)
    return session


def virtual(folder, holders=2):
    names = NAMES[:holders]
    return virtual_session(
        names, "dealer", dealer=lambda count: StoreDealer(take(folder, names, "dealer", range(holders)), count)
    )


def small(rng):
    return random_words(rng, N) >> 40, random_words(rng, N) >> 40


def close(results, x, y):
    """As if a provider had been there: product to one step, and what follows from it."""
    chosen, product = results
    floor = torch.div(x * y, 1 << 16, rounding_mode="floor")
    assert bool(((product - floor) >= 0).all() and ((product - floor) <= 1).all())
    positive = (product - y * y).clamp(min=0)
    wanted = torch.where(y < 0, torch.div(positive, 1 << 16, rounding_mode="floor"), 0)
    assert bool(((chosen - wanted) >= 0).all() and ((chosen - wanted) <= 1).all())


@pytest.mark.parametrize("holders", [2, 3])
def test_a_run_in_one_process(holders, tmp_path, rng):
    x, y = small(rng)
    dry = dealt(tmp_path, holders)
    session = virtual(tmp_path, holders)
    close(program(session, x, y), x, y)
    with_provider = virtual_session(NAMES[:holders])
    program(with_provider, x, y)
    assert session.stats == with_provider.stats == dry.stats


@pytest.mark.parametrize("holders", [2, 3])
def test_a_run_with_a_thread_a_party(holders, tmp_path, rng):
    x, y = small(rng)
    dealt(tmp_path, holders)
    names = NAMES[:holders]
    parties = threads.sessions(names, "dealer", dealers=dealers(take(tmp_path, names, "dealer", range(holders))))
    *results, nothing = threads.run(parties, lambda s: program(s, *((x, y) if s.party.ranks == (0,) else (None, None))))
    for result in results:
        close(result, x, y)
    assert nothing[0].shape == (0, N)
    assert len({s.stats.cost for s in parties}) == 1


def functions(session, x=None, y=None):
    """Two functions of one opening, each with what it takes for itself."""
    suite, party = session.suite, session.party
    a = suite.share(party, x, (N,), 1 << 16)
    return suite.reveal(party, *(smooth(suite, party, a, fit, 1 << 16) for fit in (SILU, GELU, SILU_DERIVATIVE)))


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("apart", [False, True])
def test_functions(holders, apart, tmp_path, rng):
    x = random_words(rng, N) >> 43
    dry = dealt(tmp_path, holders, work=functions)
    if apart:
        names = NAMES[:holders]
        parties = threads.sessions(names, "dealer", dealers=dealers(take(tmp_path, names, "dealer", range(holders))))
        results = threads.run(parties, lambda s: functions(s, x if s.party.ranks == (0,) else None))
        silu, gelu, slope = results[0]
        assert parties[0].stats == dry.stats
    else:
        session = virtual(tmp_path, holders)
        silu, gelu, slope = functions(session, x)
        assert session.stats == dry.stats
    v = (x.double() / (1 << 16)).requires_grad_(True)
    wanted = torch.nn.functional.silu(v)
    wanted.sum().backward()
    for found, exact in ((silu, wanted.detach()), (gelu, torch.nn.functional.gelu(v.detach())), (slope, v.grad)):
        assert float((found.double() / (1 << 16) - exact).abs().max()) < 2.0**-14


def powers(session, x=None, y=None):
    """A softmax, a logarithm and a reciprocal, whose thresholds are dealt by one opening each."""
    suite, party = session.suite, session.party
    a = suite.share(party, x, (N,), 1 << 16)
    rows = Share(a.body, (N // 5, 5), 1 << 16)
    soft = softmax(suite, party, quotients(suite, party, rows), 1 << 16)
    return suite.reveal(party, soft, power(suite, party, a, 1 << 16), logarithm(suite, party, a))


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("apart", [False, True])
def test_powers(holders, apart, tmp_path, rng):
    x = -(random_words(rng, N) >> 44 & (1 << 19) - 1)
    x[::5] = 0
    dry = dealt(tmp_path, holders, work=powers)
    if apart:
        names = NAMES[:holders]
        parties = threads.sessions(names, "dealer", dealers=dealers(take(tmp_path, names, "dealer", range(holders))))
        soft, power, log = threads.run(parties, lambda s: powers(s, x if s.party.ranks == (0,) else None))[0]
        assert parties[0].stats == dry.stats
    else:
        session = virtual(tmp_path, holders)
        soft, power, log = powers(session, x)
        assert session.stats == dry.stats
    v = x.double() / (1 << 16)
    assert float((soft.double() / (1 << 16) - v.reshape(-1, 5).softmax(1)).abs().max()) < 2.0**-15
    assert float((power.double() / (1 << 16) - v.exp()).abs().max()) < 2.0**-14
    assert float((log.double() / 2.0**54 + 16 * torch.tensor(2.0).double().log()).abs().max()) < 2.0**-15


def test_a_dry_run_reveals_zeros():
    chosen, product = program(dry_session(["a", "b"]))
    assert not chosen.any()
    assert not product.any()
    assert chosen.shape == (N,)


# --- whose eyes it is for ------------------------------------------------------------------


def test_files_are_for_their_owner_alone(tmp_path):
    folder = tmp_path / "new" / "deep"
    dealt(folder, 3)
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in NAMES:
        assert path_of(folder, name).stat().st_mode & 0o777 == 0o600


def test_no_file_has_the_key_of_another(tmp_path):
    dealt(tmp_path, 3, runs=4)
    files = {name: path_of(tmp_path, name).read_bytes() for name in NAMES}
    keys = {name: [] for name in NAMES}
    for _ in range(4):
        for store in take(tmp_path, NAMES, "dealer", range(3)):
            keys[NAMES[store.header.rank]].append(store.key)
    for name, own in keys.items():
        assert len(set(own)) == 4
        for other, content in files.items():
            assert all((key in content) == (name == other) for key in own)


def test_only_receivers_keep_corrections(tmp_path):
    dealt(tmp_path, 3)
    sizes = [path_of(tmp_path, name).stat().st_size for name in NAMES]
    assert sizes[2] > 4 * max(sizes[:2])


def test_errors_show_no_secret(tmp_path):
    dealt(tmp_path)
    [alice, bob] = take(tmp_path, NAMES[:2], "dealer", [0, 1])
    text = repr(alice) + repr(StoreDealer([alice, bob], lambda n: None))
    assert alice.key.hex() not in text
    assert repr(alice.key) not in text


# --- once ------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_takes_nothing_of_its_parent(tmp_path, rng):
    """A store that was open has one lock for both, and a run that was taken one key."""
    x, y = small(rng)
    dealt(tmp_path, runs=3)
    stores = take(tmp_path, NAMES[:2], "dealer", [0, 1])
    session = virtual(tmp_path)
    for work in (
        stores[0].lock,
        lambda: stores[0].take(2),
        lambda: stores[0].words(0),
        lambda: program(session, x, y),
        lambda: session.party.dealer.corrections(N, lambda keys, out: None),
    ):
        assert in_child(work).startswith("PartyError: this ")
    close(program(session, x, y), x, y)
    # a run of its own it may take: then it is no longer the parent's
    assert in_child(lambda: close(program(virtual(tmp_path), x, y), x, y)) == "None"
    with pytest.raises(MaterialError, match="used up"):
        virtual(tmp_path)


def test_every_run_is_served_once(tmp_path, rng):
    x, y = small(rng)
    dealt(tmp_path, runs=3)
    drawn = []
    for _ in range(3):
        session = virtual(tmp_path)
        close(program(session, x, y), x, y)
        drawn.append(session.party.dealer.keys.draw(0, 100))
    assert torch.cat(drawn).unique().numel() == 600, "two runs draw the same words"
    with pytest.raises(MaterialError, match=r"all 3 runs .* are used up: no mask may hide two values"):
        virtual(tmp_path)


def test_a_run_that_is_named(tmp_path):
    dealt(tmp_path, runs=3)
    for name, rank in (("alice", 0), ("bob", 1)):
        [store] = take(tmp_path, NAMES[:2], "dealer", [rank], run=1)
        assert store.run == 1
        assert not store.unused(1)
        with pytest.raises(MaterialError, match=r"run 2 of 3 .* used up"):
            take(tmp_path, NAMES[:2], "dealer", [rank], run=1)
        assert path_of(tmp_path, name).exists()
    with pytest.raises(MaterialError, match="run 4 of 3"):
        take(tmp_path, NAMES[:2], "dealer", [0], run=3)


def test_the_key_of_a_used_run_is_gone(tmp_path):
    dealt(tmp_path, runs=2)
    kept = take(tmp_path, NAMES[:2], "dealer", [0, 1])
    for store in kept:
        assert store.key not in store.path.read_bytes()
        assert any(store.key)


def test_a_crash_after_the_mark_loses_the_run(tmp_path):
    """A process takes a run, and dies before it uses any of it."""
    dealt(tmp_path, runs=2)
    script = (
        "import os, sys; from pathlib import Path; from pysmpc.session.store import take\n"
        "take(Path(sys.argv[1]), ['alice', 'bob'], 'dealer', [0, 1]); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, tmp_path], check=False).returncode == -9
    assert take(tmp_path, NAMES[:2], "dealer", [0, 1])[0].run == 1
    with pytest.raises(MaterialError, match="used up"):
        take(tmp_path, NAMES[:2], "dealer", [0, 1])


def test_a_crash_between_two_marks(tmp_path):
    """One holder has marked the run, the other has not: neither uses it."""
    dealt(tmp_path, runs=2)
    store = Store(tmp_path, "alice")
    store.take(0)
    store.close()
    found = take(tmp_path, NAMES[:2], "dealer", [0, 1])
    assert [s.run for s in found] == [1, 1]


def test_nothing_is_served_before_the_mark_is_on_disk(tmp_path, monkeypatch):
    dealt(tmp_path, runs=2)
    calls = []
    real = {name: getattr(os, name) for name in ("pwrite", "fsync", "pread")}
    for name, call in real.items():
        monkeypatch.setattr(os, name, lambda *a, call=call, name=name: (calls.append(name), call(*a))[1])
    store = Store(tmp_path, "bob")
    calls.clear()
    store.take(0)
    assert calls == ["pread", "pwrite", "fsync"]
    store.close()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    store = Store(tmp_path, "bob")
    with pytest.raises(OSError, match="No space"):
        store.take(1)
    assert store.key == b"", "a run was served that is not marked"


def test_takers_at_once_take_different_runs(tmp_path):
    dealt(tmp_path, runs=8)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: take(tmp_path, NAMES[:2], "dealer", [0, 1]), range(8)))
    assert sorted(s[0].run for s in found) == list(range(8))
    assert all(a.run == b.run for a, b in found)


# --- damage ------------------------------------------------------------------------------------


def read_all(folder, name):
    store = Store(folder, name)
    try:
        if not store.unused(0):
            raise MaterialError("used")
        store.take(0)
        for place in range(len(store.header.requests)):
            store.words(place)
    finally:
        store.close()


def one_product(session):
    a = session.suite.share(session.party, None, (3,), 1)
    session.suite.mul(session.party, a, session.suite.truncate(session.party, a, 4))


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_no_flipped_bit_goes_unnoticed(name, tmp_path, rng):
    """In any byte of a store: magic, header, state, key, words, checksums."""
    dealt(tmp_path, work=one_product)
    path = path_of(tmp_path, name)
    whole = path.read_bytes()
    assert len(whole) < 1000
    read_all(tmp_path, name)  # as it is, it is fine
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(MaterialError):
            read_all(tmp_path, name)


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_no_missing_byte_goes_unnoticed(name, tmp_path):
    dealt(tmp_path, work=one_product)
    path = path_of(tmp_path, name)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(MaterialError, match=r"damaged|never finished"):
            read_all(tmp_path, name)
    path.write_bytes(whole + b"\0")
    with pytest.raises(MaterialError, match=f"{len(whole) + 1} bytes long, {len(whole)} were written"):
        read_all(tmp_path, name)


def test_corrections_do_not_change_places(tmp_path):
    """Two of equal size, with their checksums, in each other's place; and one from another run."""
    dealt(tmp_path, runs=2, work=lambda s: [one_product(s) for _ in range(2)])
    path = path_of(tmp_path, "bob")
    whole = path.read_bytes()
    store = Store(tmp_path, "bob")
    start, size = store._start + stores.RUN_HEADER, 8 * 5 + stores.CHECK
    assert [r.words for r in store.header.requests] == [5, 3, 5, 3]
    third = start + size + 8 * 3 + stores.CHECK
    run = store._run_bytes
    store.close()
    for a, b in ((start, third), (start, start + run)):
        swapped = bytearray(whole)
        swapped[a : a + size], swapped[b : b + size] = whole[b : b + size], whole[a : a + size]
        path.write_bytes(swapped)
        with pytest.raises(MaterialError, match="does not match its checksum"):
            read_all(tmp_path, "bob")


def test_another_version(tmp_path):
    dealt(tmp_path)
    path = path_of(tmp_path, "alice")
    whole = bytearray(path.read_bytes())
    whole[7] = 9
    path.write_bytes(whole)
    with pytest.raises(MaterialError, match="version 9; this pysmpc reads version 1"):
        Store(tmp_path, "alice")
    path.write_bytes(b"PNG and so on, at some length")
    with pytest.raises(MaterialError, match="is no material"):
        Store(tmp_path, "alice")


def test_a_deal_that_failed_leaves_nothing(tmp_path):
    session = dry_session(["alice", "bob"], "dealer")
    program(session)

    def broken(keys, out):
        raise ZeroDivisionError

    session.party.dealer.deals[-1] = broken
    with pytest.raises(ZeroDivisionError):
        deal(session, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_deal_that_was_killed_is_no_store(tmp_path):
    header = stores.Header(b"d" * 16, b"p" * 32, ["alice", "bob"], "dealer", 0, 1, [])
    writer = stores.Writer(tmp_path, header)
    writer.key(0, b"k" * 16)
    writer._file.close()  # as if the process had ended here
    with pytest.raises(MaterialError, match="never finished"):
        Store(tmp_path, "alice")


def test_nothing_is_overwritten(tmp_path):
    dealt(tmp_path)
    before = path_of(tmp_path, "alice").read_bytes()
    with pytest.raises(MaterialError, match="is there already"):
        dealt(tmp_path)
    assert path_of(tmp_path, "alice").read_bytes() == before
    assert path_of(tmp_path, "bob").exists()


# --- other programs, other parties -----------------------------------------------------------------


def test_running_short_says_of_what(tmp_path, rng):
    x, y = small(rng)
    dealt(tmp_path)
    session = virtual(tmp_path)
    program(session, x, y)
    a = session.suite.share(session.party, x, (N,), 1)
    with pytest.raises(MaterialError, match=rf"runs short: {2 * N} words for truncation are missing, after all 9 "):
        session.suite.truncate(session.party, a, 1000)
    with pytest.raises(MaterialError, match=rf"{N} words for products\.square are missing"):
        session.suite.square(session.party, a)


def test_another_program_is_noticed(tmp_path, rng):
    x, _ = small(rng)
    dealt(tmp_path)
    session = virtual(tmp_path)
    dealt_before = session.stats.dealt
    a = session.suite.share(session.party, x, (N,), 1)
    with pytest.raises(MaterialError, match=r"correction 1 is 70 words for products\.mul at stream 3, and 140 words"):
        session.suite.truncate(session.party, a, 1000)
    assert session.stats.dealt == dealt_before
    with pytest.raises(MaterialError, match="another program"):
        session.suite.mul(session.party, a, a)  # the right kind and size, at another stream


def test_material_of_others(tmp_path):
    dealt(tmp_path / "ours")
    dealt(tmp_path / "theirs")
    with pytest.raises(MaterialError, match="was dealt for alice, bob with provider dealer, not for bob, alice"):
        take(tmp_path / "ours", ["bob", "alice"], "dealer", [0, 1])
    with pytest.raises(MaterialError, match="with provider dealer, not for alice, bob with other"):
        take(tmp_path / "ours", ["alice", "bob"], "other", [0, 1])
    with pytest.raises(MaterialError, match="no material for carol"):
        take(tmp_path / "ours", ["alice", "bob", "carol"], "dealer", [0, 1, 2])
    path_of(tmp_path / "theirs", "bob").rename(path_of(tmp_path / "ours", "bob"))
    with pytest.raises(MaterialError, match="were not dealt together"):
        take(tmp_path / "ours", ["alice", "bob"], "dealer", [0, 1])
    path_of(tmp_path / "ours", "bob").rename(path_of(tmp_path / "ours", "carol"))
    with pytest.raises(MaterialError, match="is the material of bob, not of carol"):
        Store(tmp_path / "ours", "carol")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "with space"])
def test_names_that_are_no_file_names(name, tmp_path):
    with pytest.raises(MaterialError, match="cannot name a file"):
        path_of(tmp_path, name)


def test_a_provider_that_is_asked_cannot_be_dealt_ahead(tmp_path):
    dry = dry_session(["alice", "bob"], "dealer")
    question = torch.zeros((0, 3), dtype=torch.int64)
    with pytest.raises(MaterialError, match="cannot be dealt ahead"):
        dry.party.dealer.ask(question, "convert", 3, lambda *a: None)
    dealt(tmp_path)
    with pytest.raises(MaterialError, match="on disk cannot answer"):
        virtual(tmp_path).party.dealer.ask(question, "convert", 3, lambda *a: None)


def test_only_a_dry_run_can_be_dealt(tmp_path):
    with pytest.raises(MaterialError, match=r"sy\.plan"):
        deal(virtual_session(["alice", "bob"]), tmp_path)
    with pytest.raises(MaterialError, match="1 or more"):
        deal(dry_session(["alice", "bob"]), tmp_path, 0)
