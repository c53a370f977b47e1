"""Models in safetensors files are shared tensor by tensor."""

import pytest
import torch
from memory_use import needs_memory_counters, used
from safetensors.torch import save_file, save_model
from torch import nn

import pysmpc as sy


class Net(nn.Module):
    """With a tied weight, a buffer of integers and one that is not saved."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4, bias=False)
        self.last.weight = self.first.weight
        self.register_buffer("shift", torch.ones(4), persistent=False)

    def forward(self, x):
        return self.last(self.norm(self.first(x))) + self.shift


def trained():
    net = Net()
    net(torch.randn(8, 4))  # moves the statistics of norm
    return net.eval()


def close(a, b):
    return bool((a - b).abs().max() <= 2**-15)


@pytest.mark.parametrize("holders", [("alice", "bob"), ("alice", "bob", "carol")])
@pytest.mark.parametrize("options", [{}, {"integrity": "mac"}], ids=str)
def test_a_model_from_its_file(tmp_path, holders, options):
    net, path = trained(), tmp_path / "net.safetensors"
    save_model(net, str(path))  # leaves one name of the tied weight
    parties = sy.virtual(*holders, **options)
    target = Net().eval()
    secret = sy.encrypt_file(path, parties, target)
    assert secret.first.weight is secret.last.weight
    assert not isinstance(target.first.weight, sy.SecretTensor)
    assert int(secret.norm.num_batches_tracked) == 1
    opened = sy.decrypt(secret)
    for name, value in net.state_dict().items():
        assert close(opened.state_dict()[name].double(), value.double())
    assert secret.first.weight.requires_grad
    assert not sy.encrypt_file(path, parties, target, requires_grad=False).first.weight.requires_grad


def test_a_model_without_values(tmp_path):
    path = tmp_path / "net.safetensors"
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    save_file(net.state_dict(), path)
    with torch.device("meta"):
        target = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    parties, x = sy.virtual(), torch.randn(5, 3)
    secret = sy.encrypt_file(path, parties, target)
    assert secret[0].weight.dtype == torch.float32  # the model's
    assert (sy.decrypt(secret(sy.encrypt(x, parties))) - net(x.double())).abs().max() < 2**-11
    with torch.device("meta"):
        target = Net()
    save_model(trained(), str(path))
    with pytest.raises(sy.CheckpointError, match="values for shift"):  # it is not in the file
        sy.encrypt_file(path, parties, target)


def test_files_of_other_models(tmp_path):
    path, parties = tmp_path / "net.safetensors", sy.virtual()
    before = parties.stats.copy()
    save_file({"weight": torch.ones(2, 3), "bias": torch.ones(2)}, path)
    with pytest.raises(sy.CheckpointError, match=r"weight is of shape \(2, 3\), the model's of \(3, 2\)"):
        sy.encrypt_file(path, parties, nn.Linear(2, 3))
    with pytest.raises(sy.CheckpointError, match="values for bias"):
        sy.encrypt_file(path, parties, nn.Linear(3, 2, bias=False))
    with pytest.raises(sy.CheckpointError, match=r"values for 0\.bias, 0\.weight, bias, weight"):
        sy.encrypt_file(path, parties, nn.Sequential(nn.Linear(3, 2)))
    path.write_bytes(b"no")
    for call in (
        lambda: sy.encrypt_file(path, parties, nn.Linear(3, 2)),
        lambda: list(sy.encrypted_tensors(path, parties)),
    ):
        with pytest.raises(sy.CheckpointError, match="cannot be read as a safetensors file"):
            call()
    with pytest.raises(sy.CheckpointError, match="cannot be read"):
        sy.encrypt_file(tmp_path / "none", parties, nn.Linear(3, 2))
    assert parties.stats.copy() == before


def test_tensor_by_tensor(tmp_path):
    path, parties = tmp_path / "some.safetensors", sy.virtual()
    values = {"b": torch.randn(3), "a": torch.randn(2, 2), "c": torch.arange(3)}
    save_file(values, path)
    before = parties.stats.copy()
    found = sy.encrypted_tensors(path, parties)
    name, first = next(found)
    assert name == "a"
    assert (parties.stats.copy() - before).shared == 8 * 4  # the others are not shared yet
    rest = dict(found)
    assert list(rest) == ["b", "c"]
    assert close(sy.decrypt(first), values["a"])
    assert close(sy.decrypt(rest["b"]), values["b"])
    assert sy.decrypt(rest["c"]).tolist() == [0, 1, 2]


@needs_memory_counters
def test_memory(tmp_path):
    """Beside the shares, no more than twice the largest tensor; layer by layer, those of one layer."""

    path, size, layers = tmp_path / "net.safetensors", 1 << 20, 12
    save_file({f"{i}.weight": torch.randn(1024, 1024) for i in range(layers)}, path)
    with torch.device("meta"):
        target = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(layers)))
    parties = sy.virtual()
    few = tmp_path / "few.safetensors"
    save_file({"weight": torch.randn(512, 512)}, few)
    with torch.device("meta"):
        small = nn.Linear(512, 512, bias=False)
    assert len(list(sy.encrypted_tensors(few, parties))) == 1  # the first use imports much
    assert sy.encrypt_file(few, parties, small).weight.shape == (512, 512)
    sizes, most = used(lambda: [x.numel() for _, x in sy.encrypted_tensors(path, parties)])
    assert sizes == [size] * layers
    assert 16 * size / 2 < most < 4.5 * 16 * size  # of two layers and of their values; all shares are 12 * 16 * size
    secret, most = used(lambda: sy.encrypt_file(path, parties, target))
    assert 16 * size * layers / 2 < most < 16 * size * layers + 3 * 4 * size + (1 << 23)
    assert secret[11].weight.shape == (1024, 1024)
