"""The password hashes of older password files, for verification: apr1 (Apache's MD5), sha256-crypt and sha512-crypt.

They are here because Python's crypt module has gone (PEP 594) and password files live long. New passwords should be
hashed by bcrypt or argon2. What is public of them: the source of htpasswd, and "Unix crypt using SHA-256 and SHA-512"
by Ulrich Drepper, whose numbered steps the comments name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any

MAX_PASSWORD = 1024
"""Bytes; the SHA algorithms take time by the square of it."""

MAX_ROUNDS = 1_000_000

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

APR1 = re.compile(r"\$apr1\$([./0-9A-Za-z]{1,8})\$[./0-9A-Za-z]{22}")
SHA = re.compile(
    r"\$([56])\$(?:rounds=([1-9][0-9]{0,8})\$)?([^$:\s]{1,16})\$([./0-9A-Za-z]{43}|[./0-9A-Za-z]{86})"
)

_APR1_ORDER = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))


def _rotations(
    first: tuple[int, int, int], count: int, by: Callable[[int, int, int], tuple[int, int, int]]
) -> Any:
    order = [first]
    while len(order) < count:
        order.append(by(*order[-1]))
    return tuple(order)


# Step 22: which bytes of the digest make up each group of four characters.
_SHA256_ORDER = _rotations((0, 10, 20), 10, lambda a, b, c: (c + 1, a + 1, b + 1))
_SHA512_ORDER = _rotations((0, 21, 42), 21, lambda a, b, c: (b + 1, c + 1, a + 1))


def _characters(number: int, count: int) -> str:
    """The lowest six bits first."""
    return "".join(_ALPHABET[number >> 6 * at & 63] for at in range(count))


def _spell(digest: bytes, order: Iterable[tuple[int, int, int]]) -> str:
    return "".join(_characters(digest[a] << 16 | digest[b] << 8 | digest[c], 4) for a, b, c in order)


def apr1(password: bytes, salt: str) -> str:
    """The whole hash of a password: "$apr1$salt$…"."""
    raw = salt.encode("ascii")
    size = len(password)
    context = password + b"$apr1$" + raw + _fill(_md5(password + raw + password), size)
    while size:
        context += b"\0" if size & 1 else password[:1]
        size >>= 1
    digest = _md5(context)
    for number in range(1000):
        odd = number & 1
        digest = _md5(
            (password if odd else digest)
            + (raw if number % 3 else b"")
            + (password if number % 7 else b"")
            + (digest if odd else password)
        )
    return f"$apr1${salt}${_spell(digest, _APR1_ORDER)}{_characters(digest[11], 2)}"


def sha_crypt(password: bytes, kind: str, salt: str, rounds: int | None = None) -> str:
    """The whole hash of a password, of kind "5" (SHA-256) or "6" (SHA-512): "$6$rounds=…$salt$…"."""
    hashing = _sha256 if kind == "5" else _sha512
    raw, size = salt.encode(), len(password)
    other = hashing(password + raw + password)  # steps 4 to 8
    context = password + raw + _fill(other, size)  # steps 1 to 3, 9, 10
    bits = size
    while bits:  # step 11
        context += other if bits & 1 else password
        bits >>= 1
    digest = hashing(context)
    secret = _fill(hashing(password * size), size)  # steps 13 to 16
    salting = _fill(hashing(raw * (16 + digest[0])), len(raw))  # steps 17 to 20
    for number in range(5000 if rounds is None else max(1000, rounds)):  # step 21
        odd = number & 1
        digest = hashing(
            (secret if odd else digest)
            + (salting if number % 3 else b"")
            + (secret if number % 7 else b"")
            + (digest if odd else secret)
        )
    if kind == "5":
        text = _spell(digest, _SHA256_ORDER) + _characters(digest[31] << 8 | digest[30], 3)
    else:
        text = _spell(digest, _SHA512_ORDER) + _characters(digest[63], 2)
    return f"${kind}${'' if rounds is None else f'rounds={rounds}$'}{salt}${text}"


def _fill(data: bytes, size: int) -> bytes:
    """As many bytes, the data repeated."""
    return (data * (size // len(data) + 1))[:size]


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _sha512(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()
