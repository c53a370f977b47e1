"""One party a rank of torch.distributed: the same results, rounds and bytes as in one process, and what is refused."""

import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import rank_programs as programs
import torch
from ranks import run_ranks

import pysmpc as sy

ULP = 2.0**-16
ROOT = Path(sy.__file__).parent.parent


TWO, THREE = ["alice", "bob"], ["ann", "ben", "cleo"]


@pytest.mark.parametrize(
    ("holders", "owner", "options"),
    [
        (TWO, "bob", {}),
        (THREE, "ben", {}),
        (TWO, "alice", {"protocol": "snn"}),
        (TWO, "bob", {"protocol": "fss"}),
        (THREE, "ben", {"integrity": "mac"}),
    ],
)
def test_training_is_that_of_one_process(holders, owner, options):
    seed = random.getrandbits(32)
    *held, provided = run_ranks(len(holders) + 1, programs.training, holders, owner, seed, options)
    losses, parameters, counts = programs.train(sy.virtual(*holders, **options), *programs.data(seed), owner)
    for theirs, mine, count in held:
        assert count == counts
        assert theirs[0] == pytest.approx(losses[0], abs=16 * ULP)
        assert (theirs, mine) == held[0][:2]  # the holders open the same
        for a, b in zip(mine, parameters, strict=True):
            assert float((torch.tensor(a) - torch.tensor(b)).abs().max()) <= 4 * ULP
    assert provided == (["meta"] * programs.STEPS, {"meta"}, counts)


@pytest.mark.parametrize("options", [{}, {"integrity": "mac"}])
def test_bounds_are_those_of_one_process(options):
    values, counts = programs.functions_of_bounded(sy.virtual("alice", "bob", **options), 4.0)
    *held, provided = run_ranks(3, programs.bounded, ["alice", "bob"], options)
    for found, count in held:
        assert found == pytest.approx(values, abs=16 * ULP, rel=2.0**-14)
        assert count == counts
    assert provided == (None, counts)


def test_ranks_that_state_other_bounds_are_told():
    outcomes = run_ranks(3, programs.bounded, ["alice", "bob"], {}, 5.0)
    assert any("runs a different program" in str(outcome) for outcome in outcomes), outcomes


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_a_bound_that_does_not_hold_is_an_error_at_every_rank(value):
    alice, bob, provider = run_ranks(3, programs.wrongly_bounded, value)
    assert bob[0].startswith("RangeError: bounded=1 states" if value == 1.5 else "EncodingError: "), bob
    assert alice[0] == provider[0]
    assert alice[0].startswith("RangeError: bounded=1: bob says that its values are not all within"), alice
    assert "1.5" not in f"{alice[0]}{bob[0]}"
    assert (alice[1], bob[1], provider[1]) == ([2, 2], [2, 2], None)
    assert alice[2] == bob[2] == provider[2]


def test_a_bound_that_holds_stops_no_rank():
    outcomes = run_ranks(3, programs.wrongly_bounded, -1.0)
    assert [told for told, *_ in outcomes] == [None] * 3


@pytest.mark.parametrize(("holders", "options"), [(TWO, {}), (THREE, {}), (TWO, {"protocol": "fss"})])
def test_adam_is_that_of_one_process(holders, options):
    seed = random.getrandbits(32)
    *held, provided = run_ranks(len(holders) + 1, programs.adam, holders, seed, options)
    wanted, counts = programs.adam(holders, seed, {}, sy.virtual(*holders, **options))
    assert provided == (None, counts)
    for found, count in held:
        assert count == counts
        assert found == held[0][0]
        gaps = [abs(torch.tensor(a) - torch.tensor(b)).reshape(-1) for a, b in zip(found, wanted, strict=True)]
        # with an eps of 0.01 no sign of a gradient decides, but a unit near 0 may be on in one and off in the other
        assert float(torch.cat(gaps).quantile(0.9)) <= 64 * ULP
        assert float(torch.cat(gaps).max()) <= 2**-5


@pytest.mark.parametrize(("holders", "options"), [(TWO, {}), (THREE, {}), (TWO, {"protocol": "fss"})])
def test_factors_and_transforms_are_those_of_one_process(holders, options):
    seed = random.getrandbits(32)
    *held, provided = run_ranks(len(holders) + 1, programs.factors, holders, seed, options)
    wanted, counts = programs.factors(holders, seed, {}, sy.virtual(*holders, **options))
    assert provided == (None, counts)
    for found, count in held:
        assert count == counts
        assert found == held[0][0]
        assert found == pytest.approx(wanted, abs=2**-7)


@pytest.mark.parametrize(
    "options", [{"protocol": "fss"}, {"protocol": "snn"}, {"integrity": "mac"}, {"rounding": "nearest"}]
)
def test_factors_and_transforms_under_other_protocols(options):
    seed = random.getrandbits(32)
    found, _ = programs.factors(TWO, seed, {}, sy.virtual(*TWO, **options))
    assert found == pytest.approx(programs.factors(TWO, seed, {}, sy.virtual(*TWO))[0], abs=2**-7)


def test_training_with_tests_of_ranges_is_that_of_one_process():
    seed = random.getrandbits(32)
    *held, provided = run_ranks(4, programs.ranged_training, THREE, seed)
    losses, counts = programs.descend(sy.virtual(*THREE, checked="protocol"), *programs.data(seed))
    for found, count in held:
        assert count == counts
        assert found == pytest.approx(losses, abs=16 * ULP)
    assert provided == ([None, None], counts)


def test_every_rank_is_told_of_what_is_too_large():
    alice, bob, provider = run_ranks(3, programs.ranged)
    value, counts, error = programs.too_large(sy.virtual("alice", "bob", checked="protocol"))
    assert value == pytest.approx(25, abs=4 * ULP)
    assert alice[:2] == bob[:2] == (pytest.approx(25, abs=4 * ULP), counts)
    assert provider[:2] == (None, counts)
    assert alice[2] == bob[2] == provider[2] == error
    assert "mul (the product)" in error


def test_roles():
    alice, bob, provider = run_ranks(3, programs.join, "alice", "bob")
    assert alice == ("alice", ("alice", "bob"), "crypto_provider", (0,))
    assert bob == ("bob", ("alice", "bob"), "crypto_provider", (1,))
    assert provider == ("crypto_provider", ("alice", "bob"), "crypto_provider", ())


def test_large_messages():
    assert run_ranks(3, programs.large_messages) == [True, True, None]


def test_a_rank_sees_its_own_shares_only():
    alice, bob, provider = run_ranks(3, programs.other_shares)
    assert alice == ([1], "bob is another process: what it keeps cannot be seen from here", 3)
    assert bob == ([1], "alice is another process: what it keeps cannot be seen from here", 3)
    assert provider[0] == []


def test_a_provider_that_takes_part():
    doubled = [0, 2, 4, 6, 8]
    (alice, counts), bob, provider = run_ranks(3, programs.asks)
    assert alice == [doubled, doubled, [7, 7, 7]]
    assert bob == (alice, counts)
    assert provider == ([None, None, None], counts)
    assert counts == (5, 40, 48, 40, 80, 120)


@pytest.mark.parametrize(
    ("ranks", "program", "args", "expected"),
    [
        (3, programs.join, ("alice",), "PartyError: 1 holders were named, but the job has 3 ranks"),
        (3, programs.join, ("alice", "alice"), "PartyError: each holder may appear once"),
        (2, programs.join, (), "PartyError: the job has 2 rank"),
        (3, programs.other_names, (), "PartyError: rank"),
        (3, programs.ranged_on_one, (), "PartyError: rank"),
        (3, programs.unknown_owner, (), "PartyError: 'carol' cannot own an input here"),
    ],
)
def test_jobs_that_do_not_fit(ranks, program, args, expected):
    outcomes = run_ranks(ranks, program, *args)  # ranks that come later may find the job gone
    assert any(outcome.startswith(expected) for outcome in outcomes), outcomes
    assert all(isinstance(outcome, str) and "Error" in outcome for outcome in outcomes), outcomes


def test_a_process_outside_of_a_job_is_told():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            patch.delenv(name, raising=False)
        with pytest.raises(sy.errors.PartyError, match="torchrun --nproc-per-node 3"):
            sy.distributed()


def test_an_owner_must_have_the_values():
    _, bob, _ = run_ranks(3, programs.owner_without_values)
    assert bob == "EncodingError: the owner of an input must pass its values; a meta tensor has none"


@pytest.mark.parametrize(
    "program",
    [
        programs.only_one_opens,
        programs.other_public_values,
        programs.other_masks,
        programs.other_scalars,
        programs.other_shapes,
    ],
)
def test_ranks_that_run_different_programs_are_told(program):
    outcomes = run_ranks(3, program)
    told = [text for text in outcomes if isinstance(text, str) and "runs a different program" in text]
    assert told, outcomes
    assert all(text.startswith("ChannelError: rank ") for text in told)
    assert not any(outcome is False for outcome in outcomes), "a value was opened"


@pytest.mark.parametrize("secretly", [False, True])
def test_ranks_draw_one_mask(secretly):
    seed = int(torch.randint(1 << 40, ()))
    alice, bob, provider = run_ranks(3, programs.dropped, seed, secretly)
    assert provider is None
    assert alice == bob
    torch.manual_seed(seed)
    expected = torch.nn.functional.dropout(torch.ones(20, 20), 0.5)
    torch.seed()
    assert torch.equal(torch.tensor(alice), expected) != secretly
    assert torch.tensor(alice).unique().tolist() == [0, 2]


def test_a_provider_with_another_program_is_noticed():
    _, bob, _ = run_ranks(3, programs.other_provider)
    assert bob.startswith("ChannelError: rank 2 (crypto_provider) runs a different program")


def test_a_second_thread_of_a_rank_is_refused():
    """Ranks would draw numbers and send messages in orders of their own."""
    for message, value in run_ranks(3, programs.second_thread):
        assert message.startswith("this session belongs to the thread 'MainThread', the first that computed with it")
        assert value in ([9.0] * 3, None)


def test_a_rank_that_dies_is_named():
    alice, bob, _ = run_ranks(3, programs.one_dies)
    assert bob == "died"
    assert alice == "ChannelError: rank 1 (bob) is gone: its connection was closed"


def test_a_rank_that_hangs_is_named():
    alice, _, _ = run_ranks(3, programs.one_hangs)
    assert alice == "ChannelError: nothing from rank 1 (bob) for 1 s: it hangs or is at another point"


def test_under_torchrun(tmp_path):
    """As a user would start it: nobody closes anything, and each rank ends by itself."""
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""\
            import json, sys
            import rank_programs as programs
            import pysmpc as sy
            parties = sy.distributed("alice", "bob")
            result = programs.descend(parties, *programs.data(int(sys.argv[1])))
            if parties.me == "alice":
                print("RESULT", json.dumps(result))
            """)
    )
    seed = random.getrandbits(32)
    paths = [str(ROOT), str(Path(programs.__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3", str(script), str(seed)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    losses, counts = json.loads(line.removeprefix("RESULT "))
    expected = programs.descend(sy.virtual("alice", "bob"), *programs.data(seed))
    assert losses[0] == pytest.approx(expected[0][0], abs=16 * ULP)
    assert tuple(counts) == expected[1]
