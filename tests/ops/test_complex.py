"""Complex secrets and Fourier transforms, beside torch in complex128."""

import pytest
import torch
from complex_sweep import name_of, operations, outcomes
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import encrypted, parties, represented
from torch import nn

import pysmpc as sy
from pysmpc.errors import EncodingError, RevealError
from pysmpc.ring.fixedpoint import BINARY16

STEP = 2.0**-16
DECIMAL = {"base": 10, "precision_fractional": 3}


def numbers(*shape):
    """Complex numbers that secrets can have."""
    return torch.view_as_complex(represented(torch.rand(*shape, 2, dtype=torch.float64) * 4 - 2, BINARY16))


def secret(z, **options):
    return encrypted(z.to(torch.complex64), **options)


def close(found, expected, atol):
    plain = sy.decrypt(found)
    assert plain.dtype == (torch.complex64 if expected.is_complex() else torch.float32)
    assert plain.shape == expected.shape
    assert float((plain - expected).abs().max()) <= atol


# --- torch's catalogue -------------------------------------------------------------------

#: Works on complex secrets, values and gradients, whatever the sample.
RIGHT = [
    "add", "mul", "sub", "rsub", "neg", "mm", "bmm", "mv", "dot", "vdot", "addmm", "baddbmm", "matmul",
    "linalg.vecdot", "inner", "outer", "conj", "conj_physical", "resolve_conj", "view_as_real", "real", "imag",
    "sum", "mean", "cumsum", "clone", "contiguous", "chunk", "cat", "stack", "flip", "roll", "repeat", "tile",
    "index_select", "gather", "index_add", "index_put", "scatter_add", "expand", "select", "slice", "narrow",
    "movedim", "transpose", "permute", "reshape", "view", "unbind", "split", "split_with_sizes", "squeeze",
    "unsqueeze", "diagonal", "unfold", "t", "T", "H", "mT", "mH", "tril", "triu", "square", "to", "cfloat",
    "constant_pad_nd", "fft.fft", "fft.fft2", "fft.fftn", "fft.ifft", "fft.ifft2", "fft.ifftn", "fft.irfft",
    "fft.irfft2", "fft.irfftn", "fft.hfft", "fft.hfft2", "fft.hfftn", "fft.fftshift", "fft.ifftshift", "istft",
    "zero_", "masked.sum", "masked.mean",
]  # fmt: skip


@pytest.mark.parametrize("info", [pytest.param(each, id=name_of(each)) for each in operations()])
def test_nothing_of_the_catalogue_is_wrong(info):
    """Right, or refused by an error that says so; what is listed is right."""
    found = outcomes(info, 2, seconds=2)
    found.pop("outside", None)
    if name_of(info) in RIGHT:
        assert set(found) <= {"right"}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("info", [pytest.param(each, id=name_of(each)) for each in operations()])
def test_every_sample(info):
    found = outcomes(info, None, seconds=60)
    found.pop("outside", None)
    if name_of(info) in RIGHT:
        assert set(found) <= {"right"}


# --- transforms --------------------------------------------------------------------------

ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
OPTIONS = (({}, STEP), (DECIMAL, 1e-3))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(ONE), st.lists(st.integers(2, 9), min_size=1, max_size=3), st.integers(0, 2),
    st.none() | st.integers(2, 11), st.sampled_from([None, "ortho", "forward", "backward"]), st.booleans(),
    st.sampled_from([2, 3]), st.sampled_from(OPTIONS),
)  # fmt: skip
def test_a_transform_is_torch_s(name, shape, dim, n, norm, from_complex, holders, encoding):
    """To two steps of results of the size of one, and what 1/2^9 of a step comes to in each product."""
    options, step = encoding
    dim %= len(shape)
    from_complex = from_complex and name not in ("rfft", "ihfft")
    values = torch.rand(*shape, 2, dtype=torch.float64) * 4 - 2
    x = torch.view_as_complex(values) if from_complex else values[..., 0]
    mine = encrypted(x, holders, **options)
    transform = getattr(torch.fft, name)
    expected = transform(x, n, dim, norm)
    rounds = mine.session.stats.rounds
    found = transform(mine, n, dim, norm)
    assert mine.session.stats.rounds == rounds
    terms = 2 * max(shape[dim], n or 0)
    size = 1.0 if norm == "ortho" else float(terms)
    assert float((sy.decrypt(found) - expected).abs().max()) <= step * (3 + size + terms * 2**-7)


def test_further_dimensions_take_a_round_each():
    x = encrypted(torch.rand(4, 5, 6))
    stats = x.session.stats
    for transform in (torch.fft.fftn, torch.fft.rfftn, torch.fft.irfftn):
        before = stats.copy()
        transform(x)
        assert (stats - before).rounds == 2


def test_short_time_transforms_and_back():
    x, window = represented(torch.randn(50, dtype=torch.float64), BINARY16), torch.hann_window(16)
    wanted = torch.stft(x, 16, 4, window=window.double(), return_complex=True)
    spectrum = torch.stft(encrypted(x.float()), 16, 4, window=window, return_complex=True)
    close(spectrum, wanted, 16 * STEP)
    close(torch.istft(spectrum, 16, 4, window=window, length=50), x, 24 * STEP)


@pytest.mark.parametrize("name", ["power", "magnitude", "filtered", "correlation", "phases"])
def test_gradients_through_spectra(name):
    response = torch.polar(torch.rand(5), torch.rand(5) * 6)
    program = {
        "power": lambda x, y: (torch.fft.rfft(x).abs() ** 2).sum(),
        "magnitude": lambda x, y: (torch.fft.fft2(x, norm="ortho").abs() + 1).log().mean(),
        "filtered": lambda x, y: (
            torch.fft.irfft(torch.fft.rfft(x) * response.to(x.dtype.to_complex()), n=8) * y
        ).sum(),
        "correlation": lambda x, y: torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(y).conj(), n=8).square().mean(),
        "phases": lambda x, y: torch.polar(x.abs() + 1, y).mul(torch.complex(y, x)).real.sum(),
    }[name]
    plain = [represented(torch.rand(3, 8, dtype=torch.float64) + 0.25, BINARY16) for _ in range(2)]
    mine = [encrypted(v.float()).requires_grad_() for v in plain]
    theirs = [v.clone().requires_grad_() for v in plain]
    out, expected = program(*mine), program(*theirs)
    value = expected.detach()
    assert float((sy.decrypt(out) - value).abs()) <= 2**-9 * max(1, float(value.abs()))
    out.backward()
    expected.backward()
    for a, b in zip(mine, theirs, strict=True):
        if b.grad is not None:
            assert float((sy.decrypt(a.grad) - b.grad).abs().max()) <= 2**-8 * max(1, float(b.grad.abs().max()))


# --- complex secrets ---------------------------------------------------------------------


def test_shared_and_opened():
    z, w = numbers(3, 2), numbers(4)
    found = sy.decrypt({"z": secret(z), "w": secret(w.conj()), "real": secret(z).real})
    assert torch.equal(found["z"], z.to(torch.complex64))
    assert torch.equal(found["w"], w.conj().to(torch.complex64).resolve_conj())
    assert torch.equal(found["real"], z.real.float())
    assert torch.equal(secret(z).reveal(), z.to(torch.complex64))
    assert sy.decrypt(encrypted(z)).dtype == torch.complex128
    assert repr(secret(z)).startswith("SecretTensor(..., size=(3, 2), dtype=torch.complex64")


def test_a_product_of_two_takes_one_round():
    x, y = secret(numbers(8, 8)), secret(numbers(8, 8))
    stats = x.session.stats
    for product, sent in ((lambda: x * y, 32 * 64), (lambda: x @ y, 0)):  # what was opened before is opened no more
        before = stats.copy()
        product()
        assert (stats - before).rounds == (1 if sent else 0)
        assert (stats - before).sent == sent


def test_writing_reaches_all_views():
    z = numbers(4, 3)
    mine, wanted = secret(z), z.clone()
    for x in (mine, wanted):
        x[0] = x[1] * 2
        x.real[2] += 0.5
        x.imag.mul_(0.5)
        x[:, 1] *= 1j
        x += 1 - 2j
        x[torch.tensor([3]), torch.tensor([0])] = torch.tensor(1.5 + 0.25j, dtype=x.dtype)
    close(mine, wanted, 4 * STEP)
    mine.conj().zero_()
    close(mine, wanted, 4 * STEP)  # a conjugate is a value of its own
    close(torch.view_as_real(mine), torch.view_as_real(wanted), 4 * STEP)


REFUSED = {
    "exp": (lambda z: z.exp(), r"torch\.polar\(torch\.exp\(x\.real\), x\.imag\)"),
    "angle": (lambda z: z.angle(), r"torch\.atan2\(x\.imag, x\.real\)"),
    "divisor": (lambda z: 1 / z, r"conj\(\)"),
    "quotient": (lambda z: z / z, r"w\.conj\(\)"),
    "equal": (lambda z: z == z, r"x\.real == y\.real"),
    "tanh": (lambda z: z.tanh(), r"x\.real and x\.imag"),
    "power": (lambda z: z**0.5, "powers 1, 2, 3 and 4"),
    "inverse": (lambda z: torch.linalg.inv(z), r"x\.real and x\.imag|view_as_real"),
    "whole numbers": (lambda z: z.long(), r"x\.real"),
    "argmax": (lambda z: z.argmax(), r"x\.real and x\.imag"),
    "saved": (lambda z: sy.bounded(z, 2.0), r"view_as_real"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_to_write(name):
    call, message = REFUSED[name]
    z = secret(numbers(2, 2))
    rounds = z.session.stats.rounds
    with pytest.raises(NotImplementedError, match=message):
        call(z)
    assert z.session.stats.rounds == rounds


def test_nothing_opens_it_unasked():
    z = secret(numbers(1))
    for call in (bool, complex, float, lambda z: z.item(), lambda z: z.numpy(), lambda z: z.tolist()):
        with pytest.raises((RevealError, TypeError)):
            call(z)
    with pytest.raises(TypeError, match="plain tensor"):
        torch.zeros(1, dtype=torch.complex64).add_(z)
    with pytest.raises(EncodingError):
        encrypted(torch.tensor([complex(1, float("nan"))]))


def test_the_quotient_that_the_refusal_names():
    z, w = numbers(5), numbers(5) + 3
    mine, divisor = secret(z), secret(w)
    close(mine * divisor.conj() / (divisor.real**2 + divisor.imag**2), z / w, 32 * STEP)


class Spectral(nn.Module):
    """A layer of a Fourier neural operator: complex weights for each frequency."""

    def __init__(self, channels, frequencies):
        super().__init__()
        self.weight = nn.Parameter(0.5 * torch.randn(channels, channels, frequencies, dtype=torch.complex64))
        self.last = nn.Linear(channels, 1)

    def forward(self, x):
        spectrum = torch.fft.rfft(x, norm="ortho")[..., : self.weight.shape[-1]]
        mixed = torch.einsum("bif,iof->bof", spectrum, self.weight)
        waves = torch.fft.irfft(mixed, n=x.shape[-1], norm="ortho")
        return self.last(torch.relu(waves).movedim(1, -1)).squeeze(-1)


@pytest.mark.parametrize("captured", [False, True])
def test_a_spectral_layer_trains_as_in_plaintext(captured):
    plain = Spectral(2, 3)
    model = sy.encrypt(plain, parties())
    x, y = torch.randn(4, 2, 8), torch.randn(4, 8)
    mine, target = encrypted(x), encrypted(y)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.05) for each in (model, plain)]

    def difference(output, target):
        return (output - target).square().mean()

    def step(x, target):
        optimizers[0].zero_grad()
        loss = difference(model(x), target)
        loss.backward()
        optimizers[0].step()
        return loss

    step = sy.TrainStep(model, optimizers[0], difference) if captured else step
    for _ in range(5):
        loss = step(mine, target)
        optimizers[1].zero_grad()
        wanted = (plain(x) - y).square().mean()
        wanted.backward()
        optimizers[1].step()
        assert float((sy.decrypt(loss) - wanted.detach()).abs()) < 2**-8
    if captured:
        assert step.repeats, step.reason
    opened = sy.decrypt(model)
    for a, b in zip(opened.parameters(), plain.parameters(), strict=True):
        assert float((a - b).detach().abs().max()) < 2**-8
