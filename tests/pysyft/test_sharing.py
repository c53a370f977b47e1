"""The documents' verbs on tensors: share, get, precision, refresh, copy."""

import re

import numpy as np
import pytest
import torch

import pysmpc as sy
from pysmpc.compat.pysyft.pysyft_errors import ConsumedError, NothingToGetError
from pysmpc.errors import EncodingError, PartyError, RevealError, SessionMismatchError

HOLDER = r"\n\t-> \[PointerTensor \| me:\d+ -> (alice|bob):\d+\]"  # in the order of the session's first use
HOLDERS = HOLDER + HOLDER


def matches(value, head, provider):
    return re.match(head + HOLDERS + rf"\n\t\*crypto provider: {provider}\*", repr(value))


def test_integers(alice, bob):
    x, y = torch.tensor([25, -3]).share(bob, alice), torch.tensor([5, 7]).share(alice, bob)
    assert torch.equal((x + y).get(), torch.tensor([30, 4]))
    assert torch.equal((x * y).get(), torch.tensor([125, -21]))


def test_fixed_precision(alice, bob):
    x = torch.tensor([1.5, -2.25]).fix_prec().share(alice, bob)
    opened = (x * 2).get()
    assert repr(opened).startswith("(Wrapper)>FixedPrecisionTensor>tensor([")
    assert torch.equal(opened.float_prec(), torch.tensor([3.0, -4.5]))


def test_fixed_precision_rounds_toward_zero(hook):
    assert repr(torch.tensor([0.123]).fix_precision(precision_fractional=2)).endswith("tensor([12])")
    assert repr(torch.tensor([0.1999999, -0.1239]).fix_precision()).endswith("tensor([ 199, -123])")


def test_another_base(hook):
    x = torch.tensor([0.75]).fix_precision(precision_fractional=4, base=2)
    assert repr(x).endswith("tensor([12])")
    assert x.float_precision().item() == 0.75


def test_three_and_five_holders(hook):
    for n in (3, 5):
        workers = [sy.VirtualWorker(hook, id=f"w{i}") for i in range(n)]
        x = torch.tensor([2.5, -1.0]).fix_precision().share(*workers)
        assert torch.equal((x * x > 2).get(), torch.tensor([True, False]))


def test_get_twice(alice, bob):
    x = torch.tensor([1]).share(alice, bob)
    x.get()
    for use in (x.get, lambda: x + 1, lambda: sy.decrypt(x), x.copy):
        with pytest.raises(ConsumedError, match=r"first \.get"):
            use()
    assert issubclass(ConsumedError, AttributeError)
    assert repr(x) == "(Wrapper)>(fetched by get)"


def test_a_view_is_consumed_alone(alice, bob):
    x = torch.tensor([1, 2]).share(alice, bob)
    assert x[0].get() == 1
    assert torch.equal(x.get(), torch.tensor([1, 2]))


def test_get_of_what_is_here(hook):
    with pytest.raises(NothingToGetError, match="nothing to get"):
        torch.ones(1).get()
    public = torch.ones(1).fix_precision()
    assert public.get() is public


def test_a_gradient_without_secrets_is_public(alice, bob):
    x = torch.tensor([1.5]).fix_precision().share(alice, bob, requires_grad=True)
    (2 * x).sum().backward()
    assert x.grad.get().float_precision() == 2


def test_get_keeps_the_chain(alice, bob):
    x = torch.tensor([1.5, -2.25]).fix_prec().share(alice, bob, requires_grad=True)
    assert repr(x.get()) == "(Wrapper)>AutogradTensor>FixedPrecisionTensor>tensor([ 1500, -2250])"


def test_products_are_shown_at_their_precision(alice, bob):
    x = torch.tensor([1.5, -2.25]).fix_prec().share(alice, bob)
    assert repr((x * x).get()) == "(Wrapper)>FixedPrecisionTensor>tensor([2250, 5062])"
    assert repr((x / 4).get()) in (
        "(Wrapper)>FixedPrecisionTensor>tensor([ 375, -562])",
        "(Wrapper)>FixedPrecisionTensor>tensor([ 375, -563])",
    )


def test_representations(alice, bob, james):
    x = torch.tensor([1.5])
    assert matches(torch.tensor([1]).share(alice, bob), r"\(Wrapper\)>\[AdditiveSharingTensor\]", "me")
    fixed = x.fix_precision()
    assert repr(fixed) == "(Wrapper)>FixedPrecisionTensor>tensor([1500])"
    chain = r"FixedPrecisionTensor>\[AdditiveSharingTensor\]"
    assert matches(fixed.share(alice, bob, crypto_provider=james), rf"\(Wrapper\)>{chain}", "james")
    trained = fixed.share(alice, bob, crypto_provider=james, requires_grad=True)
    assert matches(trained, rf"\(Wrapper\)>AutogradTensor>{chain}", "james")
    assert str(trained) == repr(trained) == f"{trained}"


@pytest.mark.parametrize(
    "use",
    [
        bool,
        float,
        int,
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: 1.5 in x,
        lambda x: [1, 2][x],
        lambda x: f"{x:.2f}",
        lambda x: 1 if x > 0 else 0,
        lambda x: torch.tensor([x]),
    ],
)
def test_a_secret_is_not_opened_unasked(alice, bob, use):
    x = torch.tensor(1.5).fix_precision().share(alice, bob)
    with pytest.raises(RevealError, match=r"\.get\(\)"):
        use(x)


def test_gradients(alice, bob, james):
    x = torch.tensor([1.5, -2.0]).fix_precision().share(alice, bob, crypto_provider=james, requires_grad=True)
    (x * x).sum().backward()
    assert torch.allclose(x.grad.get().float_precision(), torch.tensor([3.0, -4.0]))
    assert x.requires_grad
    assert not torch.tensor([1.0]).fix_precision().share(alice, bob).requires_grad


def test_floats_cannot_be_shared(alice, bob):
    with pytest.raises(TypeError, match="FloatTensor cannot be additively shared, Use fix_precision"):
        torch.ones(2).share(alice, bob)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e17])
def test_what_the_ring_cannot_hold(hook, value):
    with pytest.raises(EncodingError):
        torch.tensor([value]).fix_precision()


@pytest.mark.parametrize("protocol", ["falcon"])
def test_other_protocols_are_named(alice, bob, protocol):
    with pytest.raises(NotImplementedError, match="leave protocol out"):
        torch.tensor([1]).share(alice, bob, protocol=protocol)
    with pytest.raises(NotImplementedError, match=protocol):
        torch.tensor([1.0]).encrypt(protocol, workers=[alice, bob])
    with pytest.raises(ValueError, match="unknown"):
        torch.tensor([1]).share(alice, bob, protocol="magic")


def test_securenn(alice, bob, charlie, james):
    x = torch.tensor([3, -1, 0])
    secret = x.share(alice, bob, protocol="snn", crypto_provider=james)
    assert torch.equal((secret > 0).get(), x > 0)
    real = x.float().fix_precision().share(alice, bob, protocol="snn", crypto_provider=james)
    assert torch.equal(real.relu().get().float_precision(), x.float().relu())
    with pytest.raises(PartyError, match=r"2 holders, not 3.*default"):
        x.share(alice, bob, charlie, protocol="snn", crypto_provider=james)


def test_function_secret_sharing(alice, bob, charlie, james):
    x = torch.tensor([3, -1, 0])
    secret = x.share(alice, bob, protocol="fss", crypto_provider=james)
    assert torch.equal((secret > 0).get(), x > 0)
    real = torch.tensor([0.5, -0.25]).encrypt("fss", workers=[alice, bob], crypto_provider=james)
    assert torch.allclose(torch.relu(real).decrypt(), torch.tensor([0.5, 0.0]), atol=2e-3)
    model = torch.nn.Linear(2, 1).encrypt("fss", workers=[alice, bob], crypto_provider=james)
    assert model(real).session is real.session
    with pytest.raises(PartyError, match="'fss' is for 2 holders, not 3; leave protocol out for the default"):
        x.share(alice, bob, charlie, protocol="fss", crypto_provider=james)
    with pytest.raises(SessionMismatchError, match="provider and protocol"):
        secret + x.share(alice, bob, crypto_provider=james)


@pytest.mark.parametrize("option", [{"field": 67}, {"dtype": "int"}, {"dtype": torch.int32}, {"no_wrap": True}])
def test_options_without_effect_raise(alice, bob, option):
    with pytest.raises(NotImplementedError, match=next(iter(option))):
        torch.tensor([1]).share(alice, bob, **option)


@pytest.mark.parametrize("option", [{"kappa": 2}, {"storage": "crt"}, {"field": 67}, {"dtype": "int"}])
def test_options_of_precision_without_effect_raise(hook, option):
    with pytest.raises(NotImplementedError, match=next(iter(option))):
        torch.ones(1).fix_precision(**option)


def test_what_means_the_default_is_accepted(alice, bob):
    assert torch.tensor([1]).share(alice, bob, dtype="long", field=2**64, protocol="mpc").get() == 1


def test_holders(alice, bob, james):
    x = torch.tensor([1])
    with pytest.raises(PartyError, match="at least two"):
        x.share(alice)
    with pytest.raises(PartyError, match="once"):
        x.share(alice, alice)
    with pytest.raises(TypeError, match="VirtualWorker"):
        x.share("alice", "bob")
    with pytest.raises(PartyError, match="provider and holder"):
        x.share(alice, bob, crypto_provider=bob)
    with pytest.raises(TypeError, match="crypto_provider"):
        x.share(alice, bob, crypto_provider="james")
    assert x.share(alice, bob, crypto_provider=james).location == [alice, bob]


def test_the_caller_as_holder_is_not_the_provider(alice):
    x = torch.tensor([1]).share(sy.local_worker, alice)
    assert "*crypto provider: crypto_provider*" in repr(x)


def test_different_holders_or_providers_do_not_mix(alice, bob, charlie, james):
    x = torch.tensor([1]).share(alice, bob)
    for other in (
        torch.tensor([1]).share(alice, charlie),
        torch.tensor([1]).share(alice, bob, charlie),
        torch.tensor([1]).share(alice, bob, crypto_provider=james),
    ):
        for mix in (lambda o: x + o, lambda o: x * o, lambda o: torch.cat([x, o]), lambda o: x > o, x.copy_):
            with pytest.raises(SessionMismatchError):
                mix(other)
    assert x.get() == 1


def test_a_secret_is_not_written_into_a_public_tensor(alice, bob):
    x, public = torch.tensor([1.5]).fix_precision().share(alice, bob), torch.tensor([2.0]).fix_precision()
    for write in (public.add_, public.copy_, public.mul_):
        with pytest.raises((SessionMismatchError, TypeError)):
            write(x)
    assert public.float_precision() == 2.0


def test_public_fixed_precision_meets_secrets(secret, opened):
    x, public = secret(torch.tensor([1.5, -2.0])), torch.tensor([2.0, 0.5]).fix_precision()
    assert torch.equal(opened(x * public), torch.tensor([3.0, -1.0]))
    assert torch.equal(opened(public - x), torch.tensor([0.5, 2.5]))


def test_shared_twice(alice, bob):
    with pytest.raises(EncodingError, match="shared already"):
        torch.tensor([1]).share(alice, bob).share(alice, bob)


def test_float_precision_of_a_shared_tensor(alice, bob):
    with pytest.raises(TypeError, match="get"):
        torch.ones(1).fix_precision().share(alice, bob).float_precision()


def test_refresh(alice, bob):
    x = torch.tensor([7]).share(alice, bob)
    before = [w.clone() for w in alice._tensors.values()]
    assert x.refresh() is x
    assert not torch.equal(next(iter(alice._tensors.values())), before[0])
    assert x.get() == 7
    with pytest.raises(TypeError, match="shared"):
        torch.ones(1).refresh()


def test_refresh_in_a_loss(secret):
    x = secret(torch.tensor([1.0, -2.0, 4.0]), requires_grad=True)
    loss = (x**2).sum().refresh() / 3
    loss.backward()
    assert loss.get().float_precision().item() == pytest.approx(7.0, abs=0.003)
    assert torch.allclose(x.grad.get().float_precision(), torch.tensor([2.0, -4.0, 8.0]) / 3, atol=0.003)


def test_copy_has_a_life_of_its_own(alice, bob):
    x = torch.tensor([3]).share(alice, bob)
    y = x.copy()
    assert alice.objects_count() == 2
    assert x.get() == 3
    assert y.get() == 3
    assert torch.equal(torch.ones(2).copy(), torch.ones(2))


def test_encrypt_and_decrypt(alice, bob, james):
    x = torch.tensor([1.5, -2.0])
    y = x.encrypt(workers=[alice, bob], crypto_provider=james, requires_grad=True, precision_fractional=2)
    assert torch.equal(y.decrypt(), x)
    assert torch.equal(torch.tensor([7]).encrypt(workers=[alice, bob]).decrypt(), torch.tensor([7]))
    z = x.clone().encrypt(inplace=True, workers=[alice, bob])
    assert isinstance(z, sy.SecretTensor)
    with pytest.raises(TypeError, match="workers="):
        x.encrypt()
    with pytest.raises(NothingToGetError):
        x.decrypt()
    with pytest.raises(NotImplementedError, match="private_key"):
        z.decrypt(private_key=1)


def test_in_place(alice, bob):
    x = torch.tensor([1.5, -2.0])
    same = x
    assert x.fix_precision_() is same
    assert x.share_(alice, bob) is same
    x += 1
    assert x.get_() is same
    assert x.float_prec_() is same
    assert torch.equal(same, torch.tensor([2.5, -1.0]))


def test_graphs_are_not_cut_silently(alice, bob):
    y = torch.ones(2, requires_grad=True) * 2
    for verb in (y.fix_precision, lambda: y.send(bob), lambda: y.encrypt(workers=[alice, bob])):
        with pytest.raises(RuntimeError, match="detach"):
            verb()


def test_names(alice, bob):
    x = torch.ones(1).tag("#a", "#b").describe("one")
    assert (x.tags, x.description) == ({"#a", "#b"}, "one")
    assert x.id == x.id != torch.ones(1).id
    assert x.owner.id == "me"
    assert not hasattr(x, "location")
    assert x.torch_type() == "torch.FloatTensor"
    with pytest.raises(TypeError, match="strings"):
        x.tag(3)


def test_data_is_the_value_outside_the_graph(alice, bob, secret):
    x, y = secret(torch.tensor([1.5, 2.0]), requires_grad=True), secret(torch.tensor([3.0, 4.0]))
    assert not x.data.requires_grad
    x.data.copy_(torch.tensor([0.5, 0.25]))
    assert torch.equal(x.copy().get().float_precision(), torch.tensor([0.5, 0.25]))
    x.data = y
    assert torch.equal(x.copy().get().float_precision(), torch.tensor([3.0, 4.0]))
    with pytest.raises(NotImplementedError, match="copy_"):
        x.data = torch.ones(2)
    for other in (y.view(2, 1), y[1:], y.double()):  # as torch does: another shape, window or dtype
        x.data = other
        assert (x.shape, x.dtype, x.requires_grad) == (other.shape, other.dtype, True)
        assert torch.equal(x.copy().get().float_precision(), other.copy().get().float_precision())
    x.data = y
    x.data.zero_()  # of which it is a view
    assert y.get().float_precision().tolist() == [0.0, 0.0]


def test_memory_of_a_secret_is_not_handed_out(secret):
    with pytest.raises(RevealError, match="DLPack"):
        np.from_dlpack(secret(torch.ones(1)))
