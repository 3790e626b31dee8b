"""adb's own authentication: a host signs a random token, and the device knows the keys that it accepts.

Nothing here makes a key or a signature: adb does both. Checking one takes a modular exponentiation and a comparison.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.errors import InputError
from whisper_parity.system import inputs

TOKEN_BYTES = 20
"""As many as a SHA-1 digest has: the host signs the token in place of one."""
KEY_BYTES = 256
"""RSA with 2048 bits, the only size that adb has."""
EXPONENTS = (3, 65537)
KEY_FILE_BYTES = 16 << 10
_WORDS = KEY_BYTES // 4
_KEY = struct.Struct(f"<II{KEY_BYTES}s{KEY_BYTES}sI")
"""Android's public key, little-endian: 32-bit words of n; -1/n mod 2^32; n; (2^2048)^2 mod n; exponent."""
_SHA1 = bytes.fromhex("3021300906052b0e03021a05000414")
"""DER in front of a SHA-1 digest (RFC 8017, 9.2)."""
_PADDING = b"\x00\x01" + b"\xff" * (KEY_BYTES - len(_SHA1) - TOKEN_BYTES - 3) + b"\x00"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An RSA key that the device accepts."""

    modulus: int
    exponent: int

    def verifies(self, signature: bytes, token: bytes) -> bool:
        """Whether `signature` is this key's, by RSASSA-PKCS1-v1_5, of a token of 20 bytes.

        The whole block is compared, padding included, so nothing can hide behind a short digest.
        """
        number = int.from_bytes(signature, "big")
        if len(signature) != KEY_BYTES or number >= self.modulus:
            return False
        block = pow(number, self.exponent, self.modulus).to_bytes(KEY_BYTES, "big")
        return hmac.compare_digest(block, _PADDING + _SHA1 + token)


def new_token() -> bytes:
    """A token that nobody has signed yet: 20 random bytes."""
    return secrets.token_bytes(TOKEN_BYTES)


def read(path: Path) -> PublicKey:
    """The key in a file as `adb keygen` writes it (adbkey.pub).

    Raises:
        InputError: no such file, or no key of that form.
    """
    words = inputs.read_text(path, KEY_FILE_BYTES).split(None, 1)
    try:
        return _parsed(base64.b64decode(words[0] if words else "", validate=True))
    except (binascii.Error, ValueError, struct.error) as error:
        raise InputError(f"{path}: expected an adb public key of {8 * KEY_BYTES} bits, found {error}") from error


def read_own(path: Path) -> PublicKey:
    """As `read`, of a file that nobody but its user can have written.

    Raises:
        InputError: it belongs to another user, or others may write it.
    """
    key, status = read(path), path.stat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(f"{path}: others than you may have written it", hint=f"chmod go-w {path}, if it is yours")
    return key


def _parsed(data: bytes) -> PublicKey:
    if len(data) != _KEY.size:
        raise ValueError(f"{len(data)} bytes in place of {_KEY.size}")
    words, inverse, modulus_bytes, square, exponent = _KEY.unpack(data)
    modulus = int.from_bytes(modulus_bytes, "little")
    if words != _WORDS or modulus.bit_length() != 8 * KEY_BYTES or exponent not in EXPONENTS:
        raise ValueError(f"{words} words, {modulus.bit_length()} bits, exponent {exponent}")
    is_whole = (modulus * inverse + 1) % 2**32 == 0 and int.from_bytes(square, "little") == 2**4096 % modulus
    if not is_whole:
        raise ValueError("numbers that contradict each other")
    return PublicKey(modulus, exponent)
