"""Owners share their own data: from files, by names, and nothing of an item passes the driver."""

import gzip
import struct

import numpy as np
import pytest
import torch
from remotes import Workers
from safetensors.torch import save_file

import pysmpc as sy
from pysmpc.errors import ConfigurationError, GetNotPermittedError, ObjectNotFoundError, PartyError, RemoteError
from pysmpc.remote.config import WorkerConfig, parse
from pysmpc.remote.data_steps import STEPS
from pysmpc.remote.worker.data import Store, read
from pysmpc.transport.wire import Stream

IMAGES = np.random.default_rng().integers(0, 256, (20, 4, 4), dtype=np.uint8)
LABELS = np.random.default_rng().integers(0, 10, 20, dtype=np.uint8)


@pytest.fixture(scope="module")
def owners(office, tmp_path_factory):
    """alice and bob with half of the items each."""
    folder = tmp_path_factory.mktemp("data")
    options = {}
    for name, half in (("alice", slice(0, 12)), ("bob", slice(12, 20))):
        np.savez(folder / f"{name}.npz", images=IMAGES[half], labels=LABELS[half])
        digits = {"path": str(folder / f"{name}.npz"), "tags": ["#mnist", "#train"], "description": "digits"}
        options[name] = {"data": {"digits": digits}}
    save_file({"public": torch.arange(3.0)}, folder / "bob.safetensors")
    options["bob"]["data"]["open"] = {"path": str(folder / "bob.safetensors"), "tags": ["#free"], "get": ["scientist"]}
    with Workers(office.folder, options=options) as found:
        yield found


@pytest.fixture
def parties(owners):
    with owners.connect() as found:
        yield found


def find(parties, name, key):
    [found] = [p for p in parties[name].search("#mnist", "#train") if p.name == f"digits/{key}"]
    return found


def test_search(parties):
    images = find(parties, "alice", "images")
    assert images.shape == (12, 4, 4)
    assert images.dtype == torch.uint8
    assert images.tags == {"#mnist", "#train"}
    assert images.description == "digits"
    assert "alice:digits/images" in repr(images)
    assert parties["alice"].search("#nothing") == []
    assert [p.name for p in parties["bob"].search("#free")] == ["open/public"]
    assert len(parties["bob"].search()) == 3
    with pytest.raises(KeyError):
        parties["crypto_provider"]


def test_an_owner_shares_integers_exactly(parties):
    before = parties.stats.copy()
    x = find(parties, "alice", "images").share()
    assert (parties.stats - before).cost == type(before.cost)()
    assert x.dtype == torch.int64
    assert torch.equal(sy.decrypt(x), torch.from_numpy(IMAGES[:12]).long())


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_steps_are_done_at_the_owner(parties, name):
    half = slice(0, 12) if name == "alice" else slice(12, 20)
    images, labels = find(parties, name, "images"), find(parties, name, "labels")
    plain = torch.from_numpy(IMAGES[half]).float() / 255
    order = torch.tensor([3, 1, 1])
    x = sy.encrypt((images / 255)[2:].flatten()[order], parties)
    assert torch.allclose(sy.decrypt(x), plain[2:].flatten(1)[order], atol=2**-15)
    y = labels.one_hot(10)[:4].fix_precision().share("alice", "bob")
    expected = torch.nn.functional.one_hot(torch.from_numpy(LABELS[half]).long(), 10)[:4].float()
    assert torch.equal(sy.decrypt(y), expected)
    z = images.scale(0.5, -1.0).reshape(2, 8)[plain[:, 0, 0] >= 0].fix_precision(2)
    assert z.shape == (len(plain), 2, 8)
    assert torch.allclose(sy.decrypt(z.share()), (plain * 127.5 - 1).reshape(-1, 2, 8), atol=0.02)


def test_two_owners_meet_in_one_computation(parties):
    x = sy.encrypt(find(parties, "alice", "images")[:8] / 255, parties)
    y = sy.encrypt(find(parties, "bob", "images") / 255, parties)
    out = sy.decrypt((x * y).sum())
    expected = (torch.from_numpy(IMAGES[:8]).double() / 255 * torch.from_numpy(IMAGES[12:]).double() / 255).sum()
    assert abs(float(out - expected)) < 0.01


def test_batches_of_several_owners(parties):
    sources = [
        ((find(parties, n, "images") / 255).fix_precision(), find(parties, n, "labels").long())
        for n in ("alice", "bob")
    ]
    loader = sy.PrivateDataLoader(sources, batch_size=5, shuffle=True)
    assert len(loader) == 3 + 2
    seen = [(sy.decrypt(x), sy.decrypt(y)) for x, y in loader]
    again = [(sy.decrypt(x), sy.decrypt(y)) for x, y in loader]
    rows = torch.cat([x.flatten(1) for x, _ in seen])
    labels = torch.cat([y for _, y in seen])
    expected = torch.from_numpy(IMAGES).flatten(1).float() / 255
    found = {(int(y), *(round(float(v) * 255) for v in row)) for row, y in zip(rows, labels, strict=True)}
    wanted = {
        (int(y), *(round(float(v) * 255) for v in row))
        for row, y in zip(expected, torch.from_numpy(LABELS), strict=True)
    }
    assert found == wanted
    assert sorted(len(y) for _, y in again) == [2, 3, 5, 5, 5]
    assert len(sy.PrivateDataLoader(sources, batch_size=5, drop_last=True)) == 2 + 1
    with pytest.raises(ValueError, match="one owner"):
        sy.PrivateDataLoader([(sources[0][0], sources[1][1])])


def test_get_needs_permission(parties, owners):
    [free] = parties["bob"].search("#free")
    assert torch.equal(free.get(), torch.arange(3.0))
    assert torch.equal((free[1:] / 2).get(), torch.tensor([0.5, 1.0]))
    with pytest.raises(GetNotPermittedError, match="at home"):
        find(parties, "bob", "images").get()
    # the session goes on
    assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), parties)), torch.ones(2))


def test_only_steps_of_the_list_are_done(parties):
    images = find(parties, "alice", "images")
    drawing = {"drawn", "present"}
    assert set(STEPS) == {"rows", "cut", "flatten", "reshape", "float_", "long", "scale", "divide", "one_hot"} | drawing
    with pytest.raises(RemoteError, match="not done to data"):
        images._with("__reduce__")
    images._steps = (("eval", "1"),)
    images.share()
    with pytest.raises(RemoteError, match="'eval'"):
        parties.wait()


def test_shapes_that_do_not_fit(parties):
    images = find(parties, "alice", "images")
    images._steps = (("cut", 0, 3, None),)
    images.share()
    with pytest.raises(RemoteError, match="after these steps"):
        parties.wait()


def test_data_that_are_not_there(parties):
    images = find(parties, "alice", "images")
    images.name = "../secrets"
    with pytest.raises(ObjectNotFoundError, match="no data named"):
        images.get()


@pytest.mark.parametrize(
    "bad", [lambda p: p[0], lambda p: p[[99]], lambda p: p[[-1]], lambda p: p.fix_precision().one_hot(3)]
)
def test_mistakes_are_seen_at_the_driver(parties, bad):
    with pytest.raises((TypeError, IndexError, ValueError)):
        bad(find(parties, "alice", "images"))
    with pytest.raises(TypeError, match="fix_precision"):
        find(parties, "alice", "images").float().share()
    with pytest.raises(PartyError, match="holders of this session"):
        find(parties, "alice", "images").share("alice", "carol")


def test_no_item_travels_in_the_clear(owners, monkeypatch):
    """Everything that any party writes to any connection, before TLS encrypts it."""
    written = []
    real = Stream.write

    def noting(stream, data):
        count = real(stream, data)
        written.append(bytes(data[:count]))
        return count

    monkeypatch.setattr(Stream, "write", noting)
    with owners.connect() as parties:
        images = find(parties, "alice", "images")
        x = sy.encrypt(images / 255, parties)
        w = torch.randn(16, 3)
        secret = sy.encrypt(w, parties)
        out = x.flatten(1) @ secret
        sy.decrypt(out.sum())
        traffic = sum(parties.traffic)
    everything = b"".join(written)
    assert len(everything) > 12 * 16 * 8  # the masked openings, at least
    encoded = torch.round(torch.from_numpy(IMAGES[:12]).float() / 255 * 2**16).long()
    for item in range(12):
        row = encoded[item].flatten()
        assert IMAGES[item].tobytes() not in everything
        assert (IMAGES[item].astype("float32") / 255).astype("float32").tobytes() not in everything
        for part in (row[:4], row[8:12]):
            assert part.numpy().tobytes() not in everything
    for value in (w, (w * 2**16).round().long()):
        assert value.contiguous().numpy().tobytes()[:32] not in everything
    # but the search finds what is there: names do travel
    assert b"digits/images" in everything
    assert traffic < 4000


# --- files --------------------------------------------------------------------------


def write_idx(path, array):
    content = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_files(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "b.csv").write_text("x,y\n0,1\n2,3\n4,5\n")
    (tmp_path / "c.csv").write_text("0,1\n2,3\n4,5\n")
    np.savez(tmp_path / "d.npz", one=values)
    save_file({"two": torch.from_numpy(values)}, tmp_path / "e.safetensors")
    for name in ("a.npy", "b.csv", "c.csv", "d.npz", "e.safetensors"):
        [(_, found)] = read(tmp_path / name)
        assert torch.equal(found, torch.from_numpy(values)), name
    for name in ("train-images-idx3-ubyte", "x-idx3-ubyte.gz"):
        write_idx(tmp_path / name, IMAGES)
        [(_, found)] = read(tmp_path / name)
        assert torch.equal(found, torch.from_numpy(IMAGES))


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x.csv", "x.safetensors", "idx1", "x.pkl", "x.pt"])
def test_files_that_cannot_be_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"no such thing")
    with pytest.raises(ConfigurationError, match=name):
        list(read(tmp_path / name))


def test_no_pickle_in_files(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigurationError, match="allow_pickle"):
        list(read(tmp_path / "evil.npy"))


# --- checks when data are read ------------------------------------------------------


def store(path, **bounds):
    """What a worker would start with."""
    values = {"name": "alice", "data": {"x": {"path": str(path), **bounds}}}
    return Store(parse(values, WorkerConfig).data)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "safetensors"])
def test_nan_and_infinity_are_refused_at_start(tmp_path, rng, kind, bad):
    values = rng.standard_normal((5, 3)).astype(np.float32)
    row, column = (int(rng.integers(0, n)) for n in values.shape)
    path = tmp_path / f"x.{kind}"
    for wrong in (False, True):
        if wrong:
            values[row, column] = bad
        if kind == "npy":
            np.save(path, values)
        elif kind == "npz":
            np.savez(path, part=values)
        elif kind == "csv":
            path.write_text("\n".join(",".join(map(str, line)) for line in values.tolist()))
        else:
            save_file({"part": torch.from_numpy(values)}, path)
        if not wrong:
            assert len(store(path)) == 1
    entry = "data.x" if kind in ("npy", "csv") else "data.x/part"
    says = rf"^{entry}: 1 of 15 values are NaN or infinite.*; the first is at \[{row}, {column}\]$"
    with pytest.raises(ConfigurationError, match=says):
        store(path)


def test_a_number_that_float32_cannot_hold(tmp_path):
    (tmp_path / "x.csv").write_text("1,2\n3,1e39\n")
    with pytest.raises(ConfigurationError, match=r"1 of 4 values are NaN or infinite.*\[1, 1\]"):
        store(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("dtype", "values", "bounds", "says"),
    [
        ("uint8", [0, 255, 3], {"min": 0, "max": 255}, None),
        ("uint8", [0, 255, 3], {"min": -5, "max": 1000}, None),
        ("uint8", [0, 255, 3], {"max": 254.5}, r"1 of 3 values are above max, which is 254.5; the first is at \[1\]"),
        ("uint8", [0, 255, 3], {"min": 0.5}, r"1 of 3 values are below min, which is 0.5; the first is at \[0\]"),
        ("int8", [-2, 5, -3], {"min": -1}, r"2 of 3 values are below min, which is -1; the first is at \[0\]"),
        ("int64", [2**53 + 1, 0], {"max": 2**53}, r"1 of 2 values are above"),
        ("int64", [2**53, 0], {"max": 2**53}, None),
        ("float32", [0.1, 1.5], {"min": 0, "max": 1}, r"1 of 2 values are above max"),
        ("float64", [0.1, 1.0], {"min": 0.1, "max": 1}, None),
        ("uint8", [0, 9, 9], {"classes": 10}, None),
        ("uint8", [0, 10, 9], {"classes": 10}, r"1 of 3 values are no labels from 0 to 9; the first is at \[1\]"),
        ("int32", [0, 1, -1], {"classes": 2}, r"1 of 3 values are no labels from 0 to 1; the first is at \[2\]"),
        ("float32", [0, 1], {"classes": 2}, "labels are whole numbers, these are torch.float32"),
        ("int64", [0], {"classes": 0}, "at least one"),
        ("int64", [0], {"min": 2, "max": 1}, "above max"),
        ("float32", [0], {"max": float("inf")}, "leave it out"),
        ("float32", [0], {"most": 1}, "most"),
        ("float32", [0], {"arrays": {"other": {"max": 1}}}, "no array named 'other'"),
        ("uint64", [2**63, 1], {}, "2\\*\\*63"),
    ],
)
def test_bounds(tmp_path, dtype, values, bounds, says):
    np.save(tmp_path / "x.npy", np.array(values, dtype))
    if says is None:
        assert len(store(tmp_path / "x.npy", **bounds)) == 1
        return
    with pytest.raises(ConfigurationError, match=says):
        store(tmp_path / "x.npy", **bounds)


def test_bounds_of_each_array(tmp_path, rng):
    np.savez(tmp_path / "x.npz", images=rng.integers(0, 256, (4, 2)), labels=np.array([0, 1, 2, 1]))
    labels = {"labels": {"classes": 3}}
    assert len(store(tmp_path / "x.npz", min=0, max=255, arrays=labels)) == 2
    with pytest.raises(ConfigurationError, match=r"data\.x/labels: 1 of 4 values are no labels from 0 to 1.*\[2\]"):
        store(tmp_path / "x.npz", min=0, max=255, arrays={"labels": {"classes": 2}})
    with pytest.raises(ConfigurationError, match=r"data\.x\.arrays\.labels: classes"):
        store(tmp_path / "x.npz", arrays={"labels": {"classes": -1}})


def test_elements_that_cannot_be_shared(tmp_path):
    save_file({"part": torch.ones(2, dtype=torch.complex64)}, tmp_path / "x.safetensors")
    with pytest.raises(ConfigurationError, match=r"data\.x/part: elements of torch\.complex64"):
        store(tmp_path / "x.safetensors")


def test_subnormal_numbers_are_zero(tmp_path):
    """Processors take longer for them."""
    np.save(tmp_path / "x.npy", np.array([1e-40, -1e-45, 2.0**-126, -1.0, 0.0], np.float32))
    assert store(tmp_path / "x.npy")["x"].tensor.tolist() == [0.0, 0.0, 2.0**-126, -1.0, 0.0]
