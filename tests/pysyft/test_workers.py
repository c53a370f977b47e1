"""Virtual workers: what they keep, for how long, and how it is found."""

import gc

import pytest
import torch

import pysmpc as sy
from pysmpc.compat.pysyft.pysyft_errors import WorkerNotFoundException
from pysmpc.errors import ObjectNotFoundError


def test_representation(bob):
    assert repr(bob) == "<VirtualWorker id:bob #objects:0>"
    kept = torch.ones(2).send(bob)
    assert repr(bob) == "<VirtualWorker id:bob #objects:1>"
    assert kept.shape == (2,)


def test_the_same_id_is_the_same_worker(hook, bob):
    x = torch.ones(2).send(bob)
    again = sy.VirtualWorker(hook, id="bob")
    assert again == bob
    assert list(again._objects) == list(bob._objects)
    assert torch.equal((x + x.copy().move(again)).get(), torch.full((2,), 2.0))


def test_objects_come_in_order_of_arrival(alice, bob):
    first = torch.tensor([25]).share(bob, alice)
    plain = torch.tensor([1.5]).send(bob)
    second = torch.tensor([[5, 6]]).share(alice, bob)
    at_bob, at_alice = list(bob._tensors.values()), list(alice._tensors.values())
    assert [t.shape for t in at_bob] == [(1,), (1,), (1, 2)]
    assert torch.equal(at_bob[0] + at_alice[0], torch.tensor([25]))
    assert torch.equal(at_bob[1], torch.tensor([1.5]))
    assert torch.equal(at_bob[2] + at_alice[1], torch.tensor([[5, 6]]))
    assert (bob.objects_count(), bob.tensors_count(), alice.tensors_count()) == (3, 3, 2)
    assert str(list(bob._objects)[1]) in repr(plain)
    assert str(next(iter(bob._objects))) in repr(first)
    assert str(list(bob._objects)[2]) in bob.list_objects()
    assert second.shape == (1, 2)


def test_a_dropped_secret_is_freed_at_its_holders(alice, bob):
    x = torch.tensor([1, 2]).share(alice, bob)
    y = x * x
    assert alice.objects_count() >= 2
    del x, y
    gc.collect()
    assert (alice.objects_count(), bob.objects_count()) == (0, 0)


def test_get_frees_at_the_holders(alice, bob):
    x = torch.tensor([1, 2]).share(alice, bob)
    assert torch.equal(x.get(), torch.tensor([1, 2]))
    gc.collect()
    assert (alice.objects_count(), bob.objects_count()) == (0, 0)


def test_a_dropped_pointer_frees_its_object(bob):
    x = torch.ones(2).send(bob)
    y = x + x
    del x
    gc.collect()
    assert bob.objects_count() == 1
    del y
    gc.collect()
    assert bob.objects_count() == 0


def test_an_object_can_outlive_its_pointer(bob):
    x = torch.ones(2).send(bob, garbage_collect_data=False)
    assert not x.gc
    y = torch.ones(2).send(bob).disable_gc
    del x, y
    gc.collect()
    assert bob.objects_count() == 2


def test_search_by_tags_and_id(bob):
    a = torch.tensor([1.0]).tag("#data", "#x").describe("first").send(bob)
    b = torch.tensor([2.0]).send(bob).tag("#data")
    assert [p.copy().get().item() for p in bob.search("#data")] == [1.0, 2.0]
    [found] = bob.search(["#data", "#x"])
    assert found.tags == {"#data", "#x"}
    assert found.description == "first"
    assert bob.search(["#x", "#other"]) == []
    assert len(bob.search(next(iter(bob._objects)))) == 1
    assert len(sy.local_worker.request_search("#data", bob)) == 2
    del found
    gc.collect()
    assert bob.objects_count() == 2
    assert a.get().tags == {"#data", "#x"}
    assert b.location == bob


def test_data_of_a_worker_stays(hook):
    dan = sy.VirtualWorker(hook, id="dan", data=[torch.tensor([1, 2]).tag("#mine")])
    [pointer] = dan.search("#mine")
    assert torch.equal((pointer + 1).get(), torch.tensor([2, 3]))
    del pointer
    gc.collect()
    assert dan.clear_objects().objects_count() == 0


def test_objects_can_be_registered_and_removed(bob):
    key = bob.register_obj(torch.ones(1))
    assert torch.equal(bob.get_obj(key), torch.ones(1))
    with pytest.raises(ValueError, match="already"):
        bob.register_obj(torch.ones(1), key)
    bob.rm_obj(key)
    with pytest.raises(ObjectNotFoundError, match=str(key)):
        bob.get_obj(key)


def test_a_deleted_object_or_share_cannot_be_used(alice, bob):
    pointer, secret = torch.ones(1).send(bob), torch.tensor([4]).share(alice, bob)
    secret.square()
    assert bob.clear_objects() is bob
    with pytest.raises(ObjectNotFoundError):
        pointer.get()
    for use in (secret.get, secret.square, lambda: secret + 1):
        with pytest.raises(ObjectNotFoundError, match="deleted its share"):
            use()


def test_workers_know_one_another(hook, alice, bob):
    assert bob.get_worker("alice") == alice
    assert bob.get_worker(alice) is alice
    with pytest.raises(WorkerNotFoundException, match="nobody"):
        bob.get_worker("nobody")
    assert bob.get_worker("nobody", fail_hard=False) is None
    hidden = sy.VirtualWorker(hook, id="hidden", auto_add=False)
    with pytest.raises(WorkerNotFoundException):
        bob.get_worker("hidden")
    assert bob.add_workers([hidden, alice]).get_worker("hidden") is hidden
    bob.remove_worker_from_registry("hidden")
    with pytest.raises(WorkerNotFoundException):
        bob.get_worker("hidden")


@pytest.mark.parametrize("option", [{"log_msgs": True}, {"verbose": True}, {"message_pending_time": 1}])
def test_options_without_effect_raise(hook, option):
    with pytest.raises(NotImplementedError, match=next(iter(option))):
        sy.VirtualWorker(hook, id="eve", **option)


def test_a_worker_needs_the_hook():
    with pytest.raises(TypeError, match=r"sy\.TorchHook"):
        sy.VirtualWorker("hook", id="eve")
