"""Keys from a client to a holder, through a server that neither trusts.

Each member has an X25519 key pair.  A sealed key is encrypted with ChaCha20-Poly1305 under a key that HKDF-SHA256
derives from the Diffie-Hellman value of both and a fresh salt (as in NaCl's box, Bernstein, Lange, Schwabe 2012).  So
only the holder can open it, and it knows who sealed it.  The names of both and the round are in the derivation: what
was sealed for another round, or by or for somebody else, does not open.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pysmpc.errors import ConfigurationError, RoundError

SALT = 32  # bytes; every message has a key of its own, and so a nonce that never changes
NONCE = bytes(12)


class Identity:
    """A member's name and private key."""

    def __init__(self, name: str, private: X25519PrivateKey) -> None:
        self.name, self._private = name, private

    def __repr__(self) -> str:
        return f"Identity({self.name!r})"

    @classmethod
    def make(cls, name: str) -> Identity:
        """A new key, from the operating system's generator."""
        return cls(name, X25519PrivateKey.generate())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Identity:
        """From the file that `save` wrote; the name is the file's.  ConfigurationError where there is none."""
        file = Path(path)
        try:
            return cls(file.stem, X25519PrivateKey.from_private_bytes(bytes.fromhex(file.read_text().strip())))
        except (OSError, ValueError):
            raise ConfigurationError(
                f"{file} has no private key; Identity.make(name).save(folder) writes one"
            ) from None

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write FOLDER/NAME.key, readable by its owner alone.  A key that is there stays: FileExistsError."""
        file = Path(folder) / f"{self.name}.key"
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
            opened.write(self._private.private_bytes_raw().hex() + "\n")
        return file

    @property
    def public(self) -> str:
        """The public key, in hexadecimal digits, for the file that all members have."""
        return self._private.public_key().public_bytes_raw().hex()

    def seal(self, content: bytes, receiver: str, public: str, round: bytes) -> bytes:
        """Encrypt to a holder: 48 bytes more than the content."""
        salt = os.urandom(SALT)
        return salt + self._cipher(public, salt, self.name, receiver, round).encrypt(NONCE, content, None)

    def open(self, sealed: bytes, sender: str, public: str, round: bytes) -> bytes:
        """What this client sealed for me in this round, or RoundError."""
        try:
            salt, rest = sealed[:SALT], sealed[SALT:]
            return self._cipher(public, salt, sender, self.name, round).decrypt(NONCE, rest, None)
        except InvalidTag:
            raise RoundError(
                f"{self.name}: a key said to come from {sender} was sealed by somebody else, or for another round"
            ) from None

    def _cipher(self, public: str, salt: bytes, sender: str, receiver: str, round: bytes) -> ChaCha20Poly1305:
        shared = self._private.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(public)))
        facts = json.dumps(["pysmpc flower", sender, receiver, round.hex()]).encode()
        return ChaCha20Poly1305(HKDF(hashes.SHA256(), 32, salt, facts).derive(shared))
