"""Hashed passwords, and the files that hold them (htpasswd's): recognising, reading, verifying.

bcrypt and argon2 are verified by the packages of these names, in C and without the interpreter lock; apr1,
sha256-crypt and sha512-crypt by `hemi.library.unixcrypt`. What a fast guess breaks is refused: DES crypt, {SHA},
{SSHA}; text as it is ({PLAIN}) unless it is allowed.
"""

from __future__ import annotations

import hmac
import re
from importlib import import_module
from typing import Any

from hemi.library import unixcrypt

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_ARGON2 = re.compile(r"\$argon2(?:id|i|d)\$v=19\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")
_PACKAGES = {"bcrypt": "bcrypt", "argon2": "argon2-cffi"}

MAX_BCRYPT_PASSWORD = 72
"""Bytes: what is behind them has never counted, in any implementation."""
MAX_BCRYPT_COST = 16
"""Each step doubles the time; 16 takes some four seconds."""


class HashError(ValueError):
    """A hash that cannot be used, with the reason."""


def scheme_of(text: str, allow_plain: bool = False) -> str:
    """How a hash was made: "bcrypt", "argon2", "apr1", "sha-crypt" or "plain". Raises HashError."""
    match = _BCRYPT.fullmatch(text)
    if match is not None:
        if int(match[1]) > MAX_BCRYPT_COST:
            raise HashError(f"the cost of bcrypt must be at most {MAX_BCRYPT_COST}, not {match[1]}")
        return _with_package("bcrypt")
    if _ARGON2.fullmatch(text) is not None:
        return _with_package("argon2")
    if unixcrypt.APR1.fullmatch(text) is not None:
        return "apr1"
    match = unixcrypt.SHA.fullmatch(text)
    if match is not None and len(match[4]) == (43 if match[1] == "5" else 86):
        if int(match[2] or 5000) > unixcrypt.MAX_ROUNDS:
            raise HashError(f"sha-crypt must have at most {unixcrypt.MAX_ROUNDS} rounds")
        return "sha-crypt"
    if text.startswith("{PLAIN}"):
        if allow_plain:
            return "plain"
        raise HashError("a password that is not hashed ({PLAIN}) needs allow_plain")
    raise HashError("it must be a hash of bcrypt, argon2, apr1 or sha-crypt, as from htpasswd -B")


def _with_package(module: str) -> str:
    try:
        import_module(module)
    except ImportError:
        raise HashError(
            f"hashes of {module} need the package {_PACKAGES[module]}: pip install 'gorox[auth]'"
        ) from None
    return module


def verify(text: str, password: bytes) -> bool:
    """Tells whether this is the password behind a hash, or behind a {PLAIN} text. Takes 1 to 500 ms of CPU."""
    if len(password) > unixcrypt.MAX_PASSWORD:
        return False
    if text.startswith("$2"):
        bcrypt: Any = import_module("bcrypt")
        return bool(bcrypt.checkpw(password[:MAX_BCRYPT_PASSWORD], text.encode("ascii")))
    if text.startswith("$argon2"):
        return _verify_argon2(text, password)
    if text.startswith("{PLAIN}"):
        return hmac.compare_digest(text[7:].encode("utf-8", "surrogateescape"), password)
    match = unixcrypt.APR1.fullmatch(text)
    if match is not None:
        made = unixcrypt.apr1(password, match[1])
    else:
        match = unixcrypt.SHA.fullmatch(text)
        if match is None:
            raise HashError("no hash of a kind that can be verified")
        made = unixcrypt.sha_crypt(password, match[1], match[3], int(match[2]) if match[2] else None)
    return hmac.compare_digest(made.encode(), text.encode())


def _verify_argon2(text: str, password: bytes) -> bool:
    argon2: Any = import_module("argon2")
    try:
        return bool(argon2.PasswordHasher().verify(text, password))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHash):
        return False


def check_user(name: str) -> str:
    """A user name as Basic authentication can carry it (RFC 7617 §2). Raises ValueError."""
    if not name or ":" in name or not name.isprintable():
        raise ValueError(f"a user name must have neither controls nor a colon, not {name!r}")
    return name


def parse(text: str, allow_plain: bool = False) -> dict[str, str]:
    """The users of a password file with their hashes. Lines are user:hash, maybe with :comment; # begins a comment.

    Raises ValueError that names the line, and nothing of the hash.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, rest = line.partition(":")
        if not colon:
            raise ValueError(f"line {number} must be user:hash")
        hashed = rest if rest.startswith("{PLAIN}") else rest.partition(":")[0]
        try:
            check_user(name)
            scheme_of(hashed, allow_plain)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if name in users:
            raise ValueError(f"line {number}: the user {name!r} is there twice")
        users[name] = hashed
    return users
