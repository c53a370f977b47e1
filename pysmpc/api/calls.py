"""What users call: parties, encrypting and decrypting, and the documents' verbs.

Everything here works on tensors, modules, numbers and nested lists; `pysmpc.compat.pysyft.hook`
offers the same functions as methods of torch's classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypedDict, TypeVar, overload

import torch
from torch import nn
from typing_extensions import Unpack

import pysmpc.ops  # noqa: F401  (fills the table of operations)
from pysmpc.api import torch_guards
from pysmpc.errors import EncodingError, PartyError, RangeError
from pysmpc.mpc.additive import exact
from pysmpc.mpc.additive.short import short
from pysmpc.mpc.suite import authenticated, suite_named
from pysmpc.ops.arrays import is_array, plain
from pysmpc.ops.range_tests import TestedTensor, open_flags
from pysmpc.ring.fixedpoint import (
    INTEGER,
    PIECE,
    Encoding,
    Integers,
    Precision,
    check_layout,
    decode,
    decode_as,
    encode,
)
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.session.offline import StoreDealer
from pysmpc.session.session import Session, plain_session, virtual_session
from pysmpc.session.stats import Stats
from pysmpc.session.store import take
from pysmpc.tensor import display
from pysmpc.tensor.secret import SecretTensor, flush, lock_of, locked, watched
from pysmpc.torch_modes import keep_promises, undisturbed

_sessions: dict[tuple[frozenset[str], str], Session] = {}


def session_for(
    holders: Sequence[str],
    provider: str,
    rounding: str | None = None,
    protocol: str | None = None,
    integrity: str | None = None,
    compare_bits: int | None = None,
) -> Session:
    """The in-process session of a set of holders and a provider; made at first use."""
    suite_named(protocol)
    key = (frozenset(holders), provider)
    known = _sessions.get(key)
    if known is not None and known.me is None and known.recorder is None and known.lock.process.left:
        known = None  # of the process that this one is a fork of
    if known is None or len(holders) != len(set(holders)):
        torch_guards.install()
        _sessions[key] = virtual_session(holders, provider)
        _sessions[key].chains = True
    return _variant(_sessions[key], rounding, protocol, integrity, compare_bits)


def use_session(session: Session) -> None:
    """Let `share` among these holders, with this provider, use a session that was made elsewhere."""
    session.chains = True
    _sessions[frozenset(session.holders), session.provider] = session


def _variant(
    session: Session,
    rounding: str | None,
    protocol: str | None,
    integrity: str | None = None,
    compare_bits: int | None = None,
) -> Session:
    """The session with the protocol, integrity, rounding and width of comparisons asked for; None: as it is."""
    if compare_bits is not None:
        if isinstance(compare_bits, bool) or not isinstance(compare_bits, int) or not 2 <= compare_bits <= 64:
            raise ValueError(f"compare_bits is a number of bits from 2 to 64, not {compare_bits!r}")
        session = _variant(session, rounding, protocol, integrity)
        return session if compare_bits == 64 else session.under(short(session.suite, compare_bits))
    if protocol is not None:
        session = session.under(suite_named(protocol))
    if integrity not in (None, "mac"):
        raise ValueError(f"integrity is None (no check) or 'mac', not {integrity!r}")
    if integrity == "mac":
        session = session.under(authenticated(session.suite))
    if rounding in (None, "probabilistic"):
        return session
    if rounding != "nearest":
        raise ValueError(f"rounding is 'probabilistic' (the default) or 'nearest', not {rounding!r}")
    return session.under(exact.nearest(session.suite))


def session_of_name(name: str) -> list[Session]:
    """The sessions in which someone holds shares."""
    return [s for s in _sessions.values() if name in s.holders]


class Parties:
    """The share holders and their crypto provider, as `virtual`, `connect` and `distributed` return them.

    names: of the holders, in order.  provider: its name.  stats: rounds and bytes so far.
    parties["alice"]: one holder; its `.shares()` lists the shares that it keeps.
    """

    def __init__(self, session: Session) -> None:
        torch_guards.install()
        self.session = session

    @property
    def names(self) -> tuple[str, ...]:
        """The holders."""
        return self.session.holders

    @property
    def provider(self) -> str:
        """The name of the party that deals randomness."""
        return self.session.provider

    @property
    def me(self) -> str | None:
        """The party that this process is; None where all are in this process."""
        return self.session.me

    @property
    def stats(self) -> Stats:
        """Rounds and bytes so far.  Keep a `.copy()` to subtract from later counts."""
        return self.session.stats

    def close(self) -> None:
        """Wait until the others have received all that this process sent.  Called when the program ends, too."""
        self.session.close()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Holder:
        if name not in self.names:
            raise KeyError(f"no holder '{name}' here; there are {', '.join(self.names)}")
        return Holder(self.session, name)

    def __repr__(self) -> str:
        number = self.session.serial
        return f"Parties({', '.join(self.names)}; crypto provider {self.provider}; session number {number})"

    def _repr_html_(self) -> str:
        return display.parties(self.session)

    def __copy__(self) -> Parties:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Parties:
        return self  # the same parties: a copy of a trainer or a configuration goes on with them

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.session.__reduce_ex__(protocol)  # raises, and says why


class Holder:
    """One holder of an in-process session, to look at the shares that it keeps."""

    def __init__(self, session: Session, name: str) -> None:
        self.id = name
        self._session = session

    @undisturbed
    def shares(self) -> list[torch.Tensor]:
        """Its shares, oldest first: uniformly random words, which alone reveal nothing."""
        keep_promises()
        return [words for _, _, words in self._session.live(self.id)]

    def __repr__(self) -> str:
        return f"Holder({self.id})"


@undisturbed
def virtual(
    *names: str,
    provider: str = "crypto_provider",
    rounding: str | None = None,
    protocol: str | None = None,
    integrity: str | None = None,
    compare_bits: int | None = None,
    material: str | Path | None = None,
    checked: bool | str = True,
) -> Parties:
    """Make parties that all live in this process, for development and tests.  Messages are counted, not sent.

    names: of the holders, two or more; alice and bob by default.  provider: the name of
    the party that deals randomness.
    rounding: how a value that lies between two steps of the encoding is rounded.
    "probabilistic", the default: up with a probability equal to its fraction, one round;
    "nearest": to the nearest step, halves upward, five rounds.
    protocol: "fss" or "snn", in place of the default (docs/protocols.md).
    integrity="mac": detect a holder that alters what it sends before a result is
    returned (IntegrityError), at the price in docs/integrity.md.
    compare_bits: comparisons, ReLU and maxima look at this many bits only, rounded up to 16, 32 or
    48.  What is compared (for two values, their difference) must lie within 2^(compare_bits - 1)
    steps of its encoding, or the answer is wrong.  Values that are encrypted, and public
    values that they are compared with, are checked (EncodingError).
    material: a folder that `pysmpc deal` filled, in place of a provider that deals while
    the program runs.  It uses up one of the runs dealt there.  Raises MaterialError.
    checked: whether to check that products, sums and truncations fit into the ring, and
    raise RangeError where one does not (docs/ranges.md).  False: do not, for measurements of
    time.  "protocol": check by messages, as `sy.connect(..., checked=True)` does, and
    raise when a value is opened.

    >>> parties = sy.virtual("alice", "bob")
    """
    names = names or ("alice", "bob")

    def dealer(count: Callable[[int], None]) -> StoreDealer:
        return StoreDealer(take(Path(material or ""), names, provider, range(len(names))), count)

    if checked not in (True, False, "protocol"):
        raise ValueError(f"checked is True (the default), False or 'protocol', not {checked!r}")
    tested = checked == "protocol"
    session = virtual_session(
        names, provider, dealer=None if material is None else dealer, checked=checked is True, tested=tested
    )
    if tested:
        session.tensor = TestedTensor
    return Parties(_variant(session, rounding, protocol, integrity, compare_bits))


def _precision(frac_bits: int | None, base: int, precision_fractional: int | None) -> Precision:
    if precision_fractional is not None:
        if frac_bits is not None:
            raise EncodingError("give frac_bits (binary) or precision_fractional (base 10), not both")
        return Precision(base, precision_fractional)
    return Precision(2, 16 if frac_bits is None else frac_bits)


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        check_layout(value)
        return value.detach() if value.is_meta else value.detach().cpu()
    if is_array(value):
        return plain(value, "cannot be encrypted")
    if isinstance(value, bool | int | float | list | tuple):
        try:
            return torch.tensor(value)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise EncodingError(
                f"this {type(value).__name__} is not a number or a regular nest of numbers: {error}"
            ) from None
    raise EncodingError(
        f"a {type(value).__name__} cannot be encrypted; tensors, arrays, columns, numbers, lists and modules can"
    )


def _encoded(values: torch.Tensor, unit: Precision, session: Session) -> Integers:
    """The integers of values, which must be as short as the session takes them to be."""
    large = values.is_floating_point() and values.numel() > PIECE
    words: Integers = Encoding(values, unit) if large else encode(values, unit)
    found, narrow = _extremes(words), session.suite.narrow
    if (
        narrow is not None
        and found.numel()
        and not -(1 << narrow.bits - 1) < int(found.min()) <= int(found.max()) < (1 << narrow.bits - 1)
    ):
        raise EncodingError(
            f"a value is not below {(1 << narrow.bits - 1) / unit.scale:.6g} in magnitude, as "
            f"compare_bits={narrow.bits} promises; encrypt with more compare_bits, or without"
        )
    return words


def _extremes(words: Integers) -> torch.Tensor:
    """Integers with the smallest and the largest among them."""
    return words.extremes if isinstance(words, Encoding) else words


SLACK = 8  # steps by which rounding may lead a result beyond what its user states of it


def _stated(bound: Any) -> float | None:
    """What a caller states of magnitudes, as a number."""
    if bound is None:
        return None
    number = isinstance(bound, int | float) and not isinstance(bound, bool)
    if not number or not 0 <= bound < math.inf:
        raise ValueError(f"bounded= is the largest magnitude that there may be, a number from 0 on, not {bound!r}")
    return float(bound)


def _whole_steps(bound: float | None, scale: int) -> float | None:
    """A bound of real numbers, as one of what they are rounded to."""
    return None if bound is None else math.ceil(bound * scale) / scale


def _check_stated(words: torch.Tensor, bound: float | None, scale: int, slack: int = 0) -> None:
    """Raise RangeError, which names no value, where integers are beyond what was stated."""
    if bound is None or not words.numel():
        return
    limit = math.ceil(bound * scale) + slack
    if limit < 1 << 63 and not -limit <= int(words.min()) <= int(words.max()) <= limit:
        raise RangeError(
            f"bounded={bound:g} states that no magnitude is above {bound:g}, and here is one that is; state a bound "
            "that holds for all elements, or leave it out"
        )


def _fitting(
    values: torch.Tensor, session: Session, unit: Precision, owner: str | None, owned: bool, bound: float | None
) -> Integers | None:
    """The owner's integers; None where its values are not.  Where a bound is stated, all ranks raise or none does."""
    own, error = None, None
    try:
        if owned and values.is_meta:
            raise EncodingError("the owner of an input must pass its values; a meta tensor has none")
        own = _encoded(values, unit, session) if owned else None
        if own is not None:
            _check_stated(_extremes(own), bound, unit.scale)
    except EncodingError as found:
        error = found
    told = bound is None or session.told(owner, error is None)
    if error is not None:
        raise error
    if not told:
        raise RangeError(
            f"bounded={bound:g}: {owner or session.holders[0]} says that its values are not all within; state a bound "
            "that holds for all elements, or leave it out"
        )
    return own


@watched("encrypt")
def _share_tensor(
    values: torch.Tensor,
    session: Session,
    precision: Precision,
    owner: str | None = None,
    bound: float | None = None,
) -> SecretTensor:
    """Encode and share a plain tensor; integers and booleans stay exact."""
    floating = values.is_floating_point() or values.is_complex()
    unit = precision if floating else INTEGER
    dtype = torch.float32 if values.is_complex() else values.dtype
    if not floating and dtype not in (torch.bool, torch.int32):
        dtype = torch.int64
    if session.recorder is not None:
        words = _encoded(values, unit, session)
        _check_stated(_extremes(words), bound, unit.scale)
        remote: SecretTensor = session.recorder.share(session, owner, words, values.shape, unit, unit.scale, dtype)
        remote.cell.bound = _whole_steps(bound, unit.scale)
        return remote
    party, owned = session.sharing(owner, tuple(values.shape), values.dtype, unit.scale, bound)
    own = _fitting(values, session, unit, owner, owned, bound)
    out = SecretTensor.of(session.suite.share(party, own, values.shape, unit.scale), session, unit, dtype)
    out.cell.bound = _whole_steps(bound, unit.scale)
    return out


class _Options(TypedDict, total=False):
    """Keywords of `encrypt`."""

    frac_bits: int | None
    base: int
    precision_fractional: int | None
    requires_grad: bool | None
    rounding: str | None
    protocol: str | None
    integrity: str | None
    compare_bits: int | None
    owner: str | None
    bounded: float | None


Model = TypeVar("Model", bound=nn.Module)


@overload
def encrypt(
    value: Model,
    parties: Parties,
    *,
    private_layers: Iterable[str | nn.Module] | None = None,
    **options: Unpack[_Options],
) -> Model: ...


@overload
def encrypt(value: Any, parties: Parties, **options: Unpack[_Options]) -> SecretTensor: ...


@undisturbed
def encrypt(
    value: Any,
    parties: Parties,
    *,
    frac_bits: int | None = None,
    base: int = 10,
    precision_fractional: int | None = None,
    requires_grad: bool | None = None,
    rounding: str | None = None,
    protocol: str | None = None,
    integrity: str | None = None,
    compare_bits: int | None = None,
    owner: str | None = None,
    bounded: float | None = None,
    private_layers: Iterable[str | nn.Module] | None = None,
) -> Any:
    """Secret-share a tensor, array, number, list or module: each holder gets one share, which alone reveals nothing.

    Real numbers become fixed point, with 16 fractional bits, with `frac_bits` of them, or with
    `precision_fractional` digits of `base`.  Integers and booleans stay exact: int32 stays
    int32, other integers become int64, and both wrap around as in torch when they are opened
    (docs/integers.md).  A module is copied, and the parameters and floating-point buffers of the
    copy are secret.  Costs no round; the owner sends 8 bytes an element.

    requires_grad: of the result; by default that of the tensor, or of each parameter.
    rounding, protocol, integrity, compare_bits: for everything computed from the result, as for `virtual`.
    Secrets with different settings cannot be combined.
    owner: the holder to whom the value belongs; the first by default.  Where every party is a
    process of its own (`sy.distributed`), the others pass any tensor of the same shape and dtype,
    such as torch.empty(shape, device="meta"); its content is ignored.
    bounded: a public bound of all magnitudes, as for `sy.bounded`; for a module, of each parameter and
    buffer.  RangeError where a value in this process exceeds it.
    private_layers: for a module, the parts that become secret, by name (`"body.0"`) or as modules.  The others
    stay public and plain torch; those before the first secret one cost nothing on public data (docs/layers.md).

    Raises EncodingError for NaN, infinity and magnitudes that the ring cannot hold, for sparse
    tensors, and for tensors that are secret already.

    >>> x = sy.encrypt(torch.tensor([1.5, -2.0]), sy.virtual("alice", "bob"))
    """
    if not isinstance(parties, Parties):
        raise PartyError(
            f"the second argument must be parties, such as sy.virtual('alice', 'bob'), not {type(parties).__name__}"
        )
    precision = _precision(frac_bits, base, precision_fractional)
    session = _variant(parties.session, rounding, protocol, integrity, compare_bits)
    bound = _stated(bounded)
    if isinstance(value, nn.Module):
        _check_public(value)
        private = None if private_layers is None else _private_names(value, private_layers)
        module = copy.deepcopy(value)
        _replace(module, lambda t: _shared(t, session, precision, owner, bound), requires_grad, private)
        return module
    if private_layers is not None:
        raise EncodingError(f"private_layers is for modules; a {type(value).__name__} has no layers")
    if isinstance(value, torch.Tensor):
        secret = _shared(value, session, precision, owner, bound)
    elif hasattr(value, "encrypted"):  # a pointer to data of a worker of another machine, who shares them herself
        secret = value.encrypted(session, precision, bound)
    else:
        secret = _share_tensor(_tensor(value), session, precision, owner, bound)
    wanted = value.requires_grad if requires_grad is None and isinstance(value, torch.Tensor) else bool(requires_grad)
    return secret.requires_grad_() if wanted else secret


def _shared(
    value: torch.Tensor, session: Session, precision: Precision, owner: str | None, bound: float | None = None
) -> SecretTensor:
    """A public tensor as a secret; EncodingError where it is one."""
    if not isinstance(value, SecretTensor):
        return _share_tensor(_tensor(value), session, precision, owner, bound)
    if value.session is not plain_session:
        raise EncodingError("this tensor is secret already; to move it to other holders, decrypt it first")
    return share_public(value.detach(), session, owner, bound)


@undisturbed
def bounded(value: Any, bound: float) -> SecretTensor:
    """State a public bound: the same secret, no element of which is larger than `bound` in magnitude.

    With a bound, many functions take fewer rounds, and a result that the ring has no room for raises RangeError
    before it is computed (docs/ranges.md).  The bound is carried along through views, sums, products and
    functions, and is dropped where values of unknown size come in.  Costs no round; `value` is not changed.

    The bound is the caller's claim, and public.  In one process it is checked (RangeError), except for secrets
    with integrity="mac"; between machines nobody can check it.  If it is wrong, results of functions are wrong;
    no more is opened than otherwise.
    """
    if not isinstance(value, SecretTensor):
        raise TypeError(f"a {type(value).__name__} is no secret; encrypt it with its bound, sy.encrypt(x, parties, "
                        f"bounded={bound})")  # fmt: skip
    size = _stated(bound)
    assert size is not None
    session = value.session
    session.note("bounded", tuple(value.shape), size)
    out: SecretTensor = value.clone()
    with lock_of((value,)):
        scale = out.cell.scale
        slack = SLACK * max(1, scale // out.unit.scale) if out.dtype.is_floating_point else 0
        words = _words_here(out)
        if words is not None:
            _check_stated(words, size, scale, slack)
        out.cell.bound = (math.ceil(size * scale) + slack) / scale
    return out


def _words_here(value: SecretTensor) -> torch.Tensor | None:
    """The integers of a secret all of whose shares are in this process; None elsewhere.  Nothing is opened."""
    session, party = value.session, value.session.party
    here = session.me is None and session.recorder is None and party.rows == party.holders
    return value.window().words().sum(0) if here and session.suite.additive else None


def _check_public(module: nn.Module) -> None:
    """Raise EncodingError, naming it, where a parameter or buffer of a module is secret."""
    for kind, named in ("parameter", module.named_parameters()), ("buffer", module.named_buffers()):
        for name, tensor in named:
            if isinstance(tensor, SecretTensor) and tensor.session is not plain_session:
                raise EncodingError(
                    f"this module is secret already, its {kind} '{name}' for one; to move it to other holders, decrypt "
                    "it first: sy.encrypt(sy.decrypt(module), parties)"
                )


def _private_names(module: nn.Module, layers: Iterable[str | nn.Module]) -> set[str]:
    """Names of the layers, and of all that is within them.

    Raises EncodingError for what is no part of the module, and where a public part has a parameter or buffer of a
    private one.
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    names = {id(part): name for name, part in reversed(parts.items())}
    found: set[str] = set()
    for layer in [layers] if isinstance(layers, str | nn.Module) else layers:
        name = layer if isinstance(layer, str) else names.get(id(layer))
        if name is None or name not in parts:
            known = ", ".join(repr(each) for each in parts if each) or "none"
            what = repr(layer) if isinstance(layer, str) else f"this {type(layer).__name__}"
            raise EncodingError(f"{what} is no layer of this module; its layers are {known}")
        within = {id(part) for part in parts[name].modules()}
        found.update(each for each, part in parts.items() if id(part) in within)

    def own(name: str) -> list[tuple[str, Any]]:
        kinds = parts[name]._parameters, parts[name]._buffers
        return [(key, tensor) for kind in kinds for key, tensor in kind.items() if tensor is not None]

    kept = {id(tensor): name for name in found for _, tensor in own(name)}
    for name in set(parts) - found:
        for key, tensor in own(name):
            if id(tensor) in kept:
                raise EncodingError(
                    f"'{name}.{key}' is also a part of '{kept[id(tensor)]}', which is private; make both private, or "
                    "neither"
                )
    return found


def _replace(
    module: nn.Module, change: Any, requires_grad: bool | None = None, names: set[str] | None = None
) -> nn.Module:
    """Give every parameter and real buffer of a module, or of the parts of these names, a new value, in place."""
    seen: dict[int, nn.Parameter] = {}
    for title, part in module.named_modules():
        if names is not None and title not in names:
            continue
        for name, parameter in list(part._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in seen:
                wanted = parameter.requires_grad if requires_grad is None else requires_grad
                fresh = nn.Parameter(change(parameter), requires_grad=wanted)
                seen[id(parameter)] = fresh
                seen[id(fresh)] = fresh
            part._parameters[name] = seen[id(parameter)]
        for name, buffer in list(part._buffers.items()):
            if buffer is not None and buffer.is_floating_point():
                part._buffers[name] = change(buffer)
    return module


def _opened(secret: SecretTensor, verb: str) -> torch.Tensor:
    """The integers behind a secret."""
    [words] = _opened_together([secret], verb)
    return words


def _opened_together(secrets: Sequence[SecretTensor], verb: str = "reveal") -> list[torch.Tensor]:
    """The integers behind several secrets; of those of one session in one round, but for workers of other machines."""
    found: dict[int, torch.Tensor] = {}
    for i, secret in enumerate(secrets):
        if i in found:
            continue
        session = secret.session
        group = [j for j in range(i, len(secrets)) if secrets[j].session is session]
        if session.recorder is not None:
            group = [i]
        for j in group:
            session.note(verb, tuple(secrets[j].shape))
        flush(session)
        if session.recorder is not None:
            found[i] = session.recorder.open(secret)
            continue
        if session.flags is not None:
            open_flags(session)
        windows = [secrets[j].window() for j in group]
        found.update(zip(group, session.suite.reveal(session.party, *windows), strict=True))
    return [found[i] for i in range(len(secrets))]


@watched("decrypt")
def _decoded_together(secrets: Sequence[SecretTensor]) -> list[torch.Tensor]:
    return [_real(secret, words) for secret, words in zip(secrets, _opened_together(secrets), strict=True)]


@watched("decrypt")
def _decoded(secret: SecretTensor) -> torch.Tensor:
    """Open and decode, in the dtype of the secret."""
    large = secret.dtype.is_floating_point and secret.numel() > PIECE
    # made before what is opened, which then leaves no hole between the results of a model in memory
    place = torch.empty(secret.shape, dtype=secret.dtype) if large else None
    return _real(secret, _opened(secret, "reveal"), place)


def _real(secret: SecretTensor, words: torch.Tensor, place: torch.Tensor | None = None) -> torch.Tensor:
    """Opened integers, decoded in the dtype of the secret."""
    session = secret.session
    if words.dim() == secret.dim() + 1 and words.shape[0] == 0:
        if session.me is not None:
            return torch.empty(secret.shape, dtype=secret.dtype, device="meta")
        raise PartyError("this process holds no share and is not a receiver: it cannot open a secret")
    return _plain_of(secret, words, place)


def _plain_of(secret: SecretTensor, words: torch.Tensor, place: torch.Tensor | None = None) -> torch.Tensor:
    """Opened integers of a secret, in its dtype; real ones in a place for them, where there is one."""
    if secret.dtype.is_floating_point:
        real: torch.Tensor = decode_as(words, secret.cell.scale, secret.dtype, place)
        return real
    if secret.dtype == torch.bool:
        truth: torch.Tensor = words != 0
        return truth
    if secret.cell.scale > 1:
        words = torch.div(words, secret.cell.scale, rounding_mode="floor")
    plain: torch.Tensor = words.to(secret.dtype)
    return plain


@watched("decrypt")
def opened_to(secret: SecretTensor, receiver: str) -> torch.Tensor | None:
    """Open to one holder alone; None in a process that is another party.

    1. The receiver shares uniform words, which nobody else knows.
    2. The secret plus these words is opened: one round, 8 bytes an element between every two holders.
    3. The receiver takes them off.
    """
    session = secret.session
    session.note("open to", receiver, tuple(secret.shape))
    flush(session)
    share = secret.window()
    # 1. a mask of the receiver's
    party, mine = session.sharing(receiver, tuple(secret.shape), torch.int64, share.scale, None)
    mask = KeySet([fresh_key()]).draw(0, share.numel)[0] if mine else None
    masked = session.suite.add(session.party, share, session.suite.share(party, mask, secret.shape, share.scale))
    # 2. the opening
    [words] = session.suite.reveal(session.party, masked)
    # 3. the value
    if mask is None:
        return None
    return _plain_of(secret, words - mask.reshape(secret.shape))


def reveal(self: SecretTensor) -> torch.Tensor:
    """Open the value to the caller, as a plain tensor of this dtype.

    One round; each holder sends 8 bytes an element to each other one.
    """
    return _decoded(self)


SecretTensor.reveal = reveal  # type: ignore[method-assign]


def decrypt(value: Any) -> Any:
    """Open a tensor, a module (as a plain copy), or a list, tuple or dict of them.

    Every holder learns the values.  A crypto provider that is a process of its own must
    call this, too, and gets meta tensors: shapes without values.  All tensors of one call are opened
    in one round; a driver of workers opens them one after another, as the workers decide about each.
    """
    if isinstance(value, SecretTensor):
        return _decoded(value.detach())
    secrets = list({id(x): x for x in _secrets_in(value)}.values())
    opened = _decoded_together([x.detach() for x in secrets]) if secrets else []
    return _decrypted(value, dict(zip(map(id, secrets), opened, strict=True)))


def _secrets_in(value: Any) -> Iterator[SecretTensor]:
    """The secret tensors of a nest, but for those of modules."""
    if isinstance(value, SecretTensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _secrets_in(item)


def _decrypted(value: Any, opened: dict[int, torch.Tensor]) -> Any:
    if isinstance(value, SecretTensor):
        return opened[id(value)]
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, nn.Module):
        return _replace(copy.deepcopy(value), decrypt)
    if isinstance(value, dict):
        return {key: _decrypted(item, opened) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_decrypted(item, opened) for item in value)
    raise TypeError(f"a {type(value).__name__} holds no secret that could be decrypted")


# --- the documents' verbs, as functions ---------------------------------------------


@undisturbed
def fix_precision(value: torch.Tensor, precision_fractional: int = 3, base: int = 10) -> SecretTensor:
    """A public fixed-precision tensor: integers under a scale, not shared yet.

    0.123 at precision 2 is the integer 12.
    """
    if isinstance(value, SecretTensor):
        raise EncodingError("this tensor has fixed precision already")
    unit = Precision(base, precision_fractional)
    words = encode(value.detach() if value.is_floating_point() else value.detach().double(), unit)
    share = plain_session.suite.share(plain_session.party, words, value.shape, unit.scale)
    out = SecretTensor.of(share, plain_session, unit, torch.float32 if value.dtype != torch.float64 else value.dtype)
    return out.requires_grad_(value.requires_grad)


@undisturbed
def float_precision(value: SecretTensor) -> torch.Tensor:
    """The real values of a public fixed-precision tensor."""
    if not isinstance(value, SecretTensor):
        return value
    if value.session is not plain_session:
        raise TypeError("this tensor is still shared; open it first: x.get().float_precision()")
    share = value.window()
    return decode(share.window(share.body.words)[0], share.scale).to(
        value.dtype if value.dtype.is_floating_point else torch.float32
    )


@watched("encrypt")
def share_public(
    value: SecretTensor, session: Session, owner: str | None = None, bound: float | None = None
) -> SecretTensor:
    """Share a public fixed-precision tensor among a session's holders."""
    share = value.window()
    _check_stated(share.words(), bound, share.scale)
    if session.recorder is not None:
        plain = share.window(share.body.words)[0]
        remote: SecretTensor = session.recorder.share(
            session, owner, plain, share.shape, value.unit, share.scale, value.dtype
        )
        remote.cell.bound = _whole_steps(bound, share.scale)
        return remote
    party, owned = session.sharing(owner, share.shape, value.dtype, share.scale, bound)
    words = share.window(share.body.words)[0] if owned else None
    shared = session.suite.share(party, words, share.shape, share.scale)
    out = SecretTensor.of(shared, session, value.unit, value.dtype)
    out.cell.bound = _whole_steps(bound, share.scale)
    return out


def share(
    value: torch.Tensor,
    holders: Iterable[str],
    provider: str,
    requires_grad: bool = False,
    rounding: str | None = None,
    protocol: str | None = None,
    integrity: str | None = None,
    compare_bits: int | None = None,
) -> SecretTensor:
    """Shares of an integer or fixed-precision tensor for the named holders."""
    session = session_for(list(holders), provider, rounding, protocol, integrity, compare_bits)
    if isinstance(value, SecretTensor):
        if value.session is not plain_session:
            raise EncodingError("this tensor is shared already; .get() it before sharing it with others")
        out = share_public(value.detach(), session)
    elif value.is_floating_point():
        raise TypeError(
            f"{value.type().split('.')[-1]} cannot be additively shared, Use fix_precision: "
            "x.fix_precision().share(...)"
        )
    else:
        out = _share_tensor(value, session, INTEGER)
    if requires_grad:
        out.chained = True
        if out.dtype.is_floating_point:
            out.requires_grad_()
    return out


@watched("decrypt")
def get(value: SecretTensor) -> torch.Tensor:
    """Open to the caller: a plain integer tensor, or a public fixed-precision one."""
    if value.session is plain_session:
        return value
    if value.unit.scale == 1 or not value.dtype.is_floating_point:
        return _decoded(value.detach())
    words = _opened(value, "get")
    if not value.session.party.rows and value.session.recorder is None:
        raise PartyError("this process holds no share and is not a receiver: it cannot open a secret")
    opened = plain_session.suite.share(plain_session.party, words, value.shape, value.cell.scale)
    out = SecretTensor.of(opened, plain_session, value.unit, value.dtype)
    out.chained = value.chained or value.requires_grad
    return out


@locked
def refresh(value: SecretTensor) -> SecretTensor:
    """Replace the shares by fresh ones of the same value, in place.  No round.  Returns the tensor itself."""
    cell = value.cell
    share = value.window()
    if not share.dense:
        raise ValueError("refresh() takes a whole tensor, not a view of one; refresh the tensor it came from")
    recorder = cell.session.recorder
    with recorder.refreshing(value) if recorder is not None else nullcontext():
        out = cell.session.suite.refresh(cell.session.party, share)
        bound = cell.bound
        cell.replace(out.body, cell.scale)
        cell.bound = bound
    return value
