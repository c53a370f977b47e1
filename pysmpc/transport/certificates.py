"""A private authority and the certificates of parties.

The authority certifies names, nothing else; what a name may do stands in every
worker's configuration.  Keys are on P-256, and files of keys are readable by their
owner alone.  The authority's key belongs on a machine that is no party; certificates are
issued and renewed there.  No certificate is valid for longer than the authority's own.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pysmpc.errors import ConfigurationError
from pysmpc.transport.tls import SERIAL, Identity, check_private

AUTHORITY = "ca"
DAYS = 397  # that a party's certificate is valid
AUTHORITY_DAYS = 3650
MOST_DAYS = 36500
NOTICE = datetime.timedelta(days=30)  # before a certificate expires
_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pysmpc authority")])
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


def check_name(name: str) -> str:
    """The name, if a certificate can carry it."""
    if name == AUTHORITY or not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is no name for a party: small letters, digits, '-', '_' and '.', at most 63 of them, "
            f"and not '{AUTHORITY}'"
        )
    return name


def identity(folder: str | os.PathLike[str], name: str) -> Identity:
    """The files of a name in a folder that `issue` filled."""
    place = Path(folder)
    return Identity(str(place / f"{name}.pem"), str(place / f"{name}.key"), str(place / f"{AUTHORITY}.pem"))


def name_in(certificate: str | os.PathLike[str]) -> str:
    """The name that a certificate's file carries."""
    try:
        found = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        [name] = names.get_values_for_type(x509.DNSName)
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise ConfigurationError(f"{certificate} is no certificate of a party: {error}") from None
    return name


def initialise(folder: str | os.PathLike[str], days: int = AUTHORITY_DAYS) -> Path:
    """Make an authority: ca.pem for everybody, ca.key for nobody else.  Returns the folder."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _of_authority(key, days)
    _write_key(place / f"{AUTHORITY}.key", key)
    _write(place / f"{AUTHORITY}.pem", certificate)
    return place


def issue(
    folder: str | os.PathLike[str], name: str, days: int | None = None, since: datetime.datetime | None = None
) -> Identity:
    """A certificate and a key for a name, by the authority in the folder.

    days: 397 unless given, fewer where the authority's own certificate ends before; more than that are refused.
    FileExistsError where there is a key of that name already; `renew` replaces it.
    """
    files = identity(folder, check_name(name))
    authority = _Authority(Path(folder))
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.sign(name, key.public_key(), days, since)
    _write_key(Path(files.key), key)
    _write(Path(files.certificate), certificate)
    return files


class Renewed(NamedTuple):
    """The files of a certificate that was renewed; the number of the one before, and when that one ends."""

    files: Identity
    serial: str
    ended: datetime.datetime


def renew(folder: str | os.PathLike[str], name: str, days: int | None = None, keep_key: bool = False) -> Renewed:
    """Replace a certificate by a new one for the same name, and its key unless keep_key; it may have expired.

    The old certificate must be in the folder, by the authority there; the old key need not.  The certificate before
    stays valid until it ends: list its serial number as revoked where its key may be known to others.

    Files are replaced one by one, each at once, the key first.  If the machine stops between the two, they do not
    belong together, which Tls says; renew again.

    name "ca": the authority's own certificate, for the same key, so that what it signed stays valid.
    """
    place = Path(folder)
    authority = _Authority(place, expired=name == AUTHORITY)
    if name == AUTHORITY:
        path, before = place / f"{AUTHORITY}.pem", authority.certificate
        certificate = _of_authority(authority.key, AUTHORITY_DAYS if days is None else days, before.subject)
        _replace({path: (certificate, 0o644)})
        return Renewed(identity(folder, name), _serial(before), before.not_valid_after_utc)
    files = identity(folder, check_name(name))
    before = authority.issued(Path(files.certificate), name)
    if keep_key:
        public = before.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        _replace({Path(files.certificate): (authority.sign(name, public, days), 0o644)})
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = authority.sign(name, key.public_key(), days)
        _replace({Path(files.key): (_private(key), 0o600), Path(files.certificate): (certificate, 0o644)})
    return Renewed(files, _serial(before), before.not_valid_after_utc)


class Validity(NamedTuple):
    """What a certificate's file says of time.  name: of the party, or "ca"."""

    name: str
    file: str
    serial: str
    begins: datetime.datetime
    ends: datetime.datetime

    def notice(self, now: datetime.datetime | None = None) -> tuple[int, str] | None:
        """(level of logging, text) from 30 days before the certificate ends; None before that."""
        now = now or _now()
        whose = "the authority's certificate" if self.name == AUTHORITY else f"the certificate of {self.name}"
        renewal = f"`pysmpc certs renew FOLDER {self.name}` where the authority's key is, then " + (
            "give the new ca.pem to every party"
            if self.name == AUTHORITY
            else f"give the new files to {self.name} and reload"
        )
        if now < self.begins:
            return logging.ERROR, f"{whose} ({self.file}) is not valid before {_day(self.begins)}: see to the clock"
        if now >= self.ends:
            return logging.ERROR, f"{whose} ({self.file}) expired on {_day(self.ends)}, nobody takes it: {renewal}"
        if now >= self.ends - NOTICE:
            left = (self.ends - now).days
            when = f"in {left} day{'' if left == 1 else 's'}" if left else "within a day"
            return logging.WARNING, f"{whose} ({self.file}) expires on {_day(self.ends)}, {when}: {renewal}"
        return None


def validity(files: Identity) -> list[Validity]:
    """Of a party's certificate, then of the authorities in its file."""
    try:
        own = x509.load_pem_x509_certificate(Path(files.certificate).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{files.certificate} is no certificate of a party: {error}") from None
    return [_validity(name_in(files.certificate), files.certificate, own), *authorities(files.authority)]


def authorities(file: str | os.PathLike[str]) -> list[Validity]:
    """Of each authority in a file; where it has several certificates of one key, of the one that ends last."""
    try:
        certificates = x509.load_pem_x509_certificates(Path(file).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} is no certificate of an authority: {error}") from None
    encoding, kind = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    by_end = sorted(certificates, key=lambda each: each.not_valid_after_utc)
    last = {each.public_key().public_bytes(encoding, kind): each for each in by_end}
    return [_validity(AUTHORITY, file, each) for each in last.values()]


def notices(validities: Iterable[Validity]) -> list[tuple[int, str]]:
    """What there is to say now, of any of them."""
    return [notice for each in validities if (notice := each.notice()) is not None]


def _validity(name: str, file: str | os.PathLike[str], certificate: x509.Certificate) -> Validity:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Validity(name, Path(file).name, _serial(certificate), begins, ends)


def _serial(certificate: x509.Certificate) -> str:
    """As it stands in a list of revoked certificates."""
    return SERIAL + format(certificate.serial_number, "X")


class _Authority:
    """Certificate and key of the authority in a folder.  expired: even one whose certificate has ended."""

    def __init__(self, folder: Path, expired: bool = False) -> None:
        self.folder = folder
        certificate, key = folder / f"{AUTHORITY}.pem", folder / f"{AUTHORITY}.key"
        try:
            self.certificate = x509.load_pem_x509_certificate(certificate.read_bytes())
            signer = serialization.load_pem_private_key(key.read_bytes(), None)
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"{folder} holds no authority ({Path(error.filename).name} is missing): certificates are issued and "
                f"renewed where the authority's key {AUTHORITY}.key is kept, on a machine that is no party; "
                f"where there is none yet: pysmpc certs init {folder}"
            ) from None
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"the authority in {folder} cannot be read: {error}") from None
        if not isinstance(signer, ec.EllipticCurvePrivateKey) or signer.public_key() != self.certificate.public_key():
            raise ConfigurationError(f"{key} is not the key of {certificate}")
        check_private(key)
        self.key = signer
        if not expired and self.certificate.not_valid_after_utc <= _now():
            raise ConfigurationError(
                f"the authority's certificate expired on {_day(self.certificate.not_valid_after_utc)}; {self._renewal}"
            )

    @property
    def _renewal(self) -> str:
        return f"renew it first, and give the new {AUTHORITY}.pem to every party: pysmpc certs renew {self.folder} ca"

    def issued(self, path: Path, name: str) -> x509.Certificate:
        """The certificate in a file, if this authority made it for that name."""
        if not path.exists():
            raise ConfigurationError(f"{path} is not there to be renewed; pysmpc certs issue {self.folder} {name}")
        if (named := name_in(path)) != name:
            raise ConfigurationError(f"{path} is for {named}, not for {name}")
        found = x509.load_pem_x509_certificate(path.read_bytes())
        try:
            found.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            raise ConfigurationError(
                f"{path} is not by the authority in {self.folder}, which cannot renew it"
            ) from None
        return found

    def sign(
        self, name: str, key: ec.EllipticCurvePublicKey, days: int | None, since: datetime.datetime | None = None
    ) -> bytes:
        """A certificate for a name and a key."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        since = since or _start()
        ends, last = since + _length(DAYS if days is None else days), self.certificate.not_valid_after_utc
        if ends > last and days is not None:
            raise ConfigurationError(
                f"{days} days from now are after {_day(last)}, when the authority's certificate ends; {self._renewal}"
            )
        builder = (
            _builder(subject, self.certificate.subject, key, self.key.public_key(), since, min(ends, last))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _of_authority(key: ec.EllipticCurvePrivateKey, days: int, subject: x509.Name = _SUBJECT) -> bytes:
    """The authority's certificate for its own key."""
    since = _start()
    builder = (
        _builder(subject, subject, key.public_key(), key.public_key(), since, since + _length(days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _start() -> datetime.datetime:
    """When a new certificate begins: a little ago, for clocks that are behind."""
    return _now() - datetime.timedelta(minutes=5)


def _day(when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%d}"


def _length(days: int) -> datetime.timedelta:
    if not 1 <= days <= MOST_DAYS:
        raise ConfigurationError(f"a certificate is valid for 1 to {MOST_DAYS} days, not {days}")
    return datetime.timedelta(days=days)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePublicKey,
    since: datetime.datetime,
    ends: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    _write(path, _private(key), 0o600)


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """A new file; one that exists stays as it is, and raises."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def _replace(files: dict[Path, tuple[bytes, int]]) -> None:
    """Contents and modes of files, each replaced at once, and none before all are on the disk."""
    written: list[tuple[str, Path]] = []
    try:
        for path, (content, mode) in files.items():
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
            written.append((name, path))
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
                os.fchmod(descriptor, mode)
        for name, path in written:
            os.replace(name, path)
    except BaseException:
        for name, _ in written:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        raise
    folder = os.open(written[0][1].parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
