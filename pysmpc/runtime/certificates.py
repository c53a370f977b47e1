"""A private authority and the certificates of parties.

The authority certifies names, nothing else; what a name may do stands in every
worker's configuration.  Keys are on P-256, and files of keys are readable by their
owner alone.  The authority's key belongs on a machine that is no party.
"""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pysmpc.errors import ConfigurationError
from pysmpc.runtime.tls import Identity

AUTHORITY = "ca"
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


def initialise(folder: str | os.PathLike[str], days: int = 3650) -> Path:
    """Make an authority: ca.pem for everybody, ca.key for nobody else.  Returns the folder."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pysmpc authority")])
    builder = (
        _builder(subject, subject, key.public_key(), key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    _write_key(place / f"{AUTHORITY}.key", key)
    _write(place / f"{AUTHORITY}.pem", builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return place


def issue(
    folder: str | os.PathLike[str], name: str, days: int = 397, since: datetime.datetime | None = None
) -> Identity:
    """A certificate and a key for a name, by the authority in the folder.

    FileExistsError where there is a key of that name already; remove it first.
    """
    place, files = Path(folder), identity(folder, check_name(name))
    try:
        authority = x509.load_pem_x509_certificate((place / f"{AUTHORITY}.pem").read_bytes())
        signer = serialization.load_pem_private_key((place / f"{AUTHORITY}.key").read_bytes(), None)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigurationError(f"{place} holds no authority ({error}); make one: pysmpc certs init {place}") from None
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"the key of the authority in {place} is of another kind; make a new one")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, authority.subject, key.public_key(), signer.public_key(), days, since)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    _write_key(Path(files.key), key)
    _write(Path(files.certificate), builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return files


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePublicKey,
    days: int,
    since: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    since = since or datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + datetime.timedelta(days=days))
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


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, content, 0o600)


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """A new file; one that exists stays as it is, and raises."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
