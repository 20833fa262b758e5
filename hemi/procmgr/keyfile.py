"""The operator's key: a file below var_dir that only its owner can read, and the proof of knowing what is in it.

The leader makes the file, goroxctl reads it. The key itself never goes over the wire: each side sends a random number,
the leader proves first (so that a stranger who took the port learns nothing and can pretend nothing), then the
operator. Proofs are HMAC-SHA256 over a word for the side and both numbers, and are compared in constant time.
"""

from __future__ import annotations

import hmac
import os
import stat

from hemi.errors import EnvError

__all__ = ["KEY_NAME", "TARGET_NAME", "make_key", "nonce", "prove", "proves", "read_key", "write_whole"]

KEY_NAME = "cmdui.key"
"""The file of the key, below var_dir."""

TARGET_NAME = "cmdui.target"
"""The file beside it that says where the leader listens."""

KEY_SIZE = 64
"""Hexadecimal digits of a key."""

_LONGEST = 4096


def make_key(path: str) -> str:
    """Returns the key in the file; makes a new one when there is none, or none that is fit. Raises EnvError."""
    try:
        key = read_key(path)
        if os.stat(path, follow_symlinks=False).st_uid == os.geteuid():
            return key
    except EnvError:
        pass
    key = os.urandom(KEY_SIZE // 2).hex()
    try:
        write_whole(path, key + "\n", 0o600)
    except OSError as error:
        raise EnvError(f"the key file {path} cannot be written: {error.strerror}") from None
    return key


def read_key(path: str) -> str:
    """Returns the key in the file. Raises EnvError, which says what to do."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise EnvError(
            f"there is no key file {path}: is gorox running? If so, name its directory by --top-dir or --var-dir"
        ) from None
    except PermissionError:
        raise EnvError(
            f"the key file {path} cannot be read: become the user that gorox was started by"
        ) from None
    except OSError as error:
        raise EnvError(f"the key file {path} cannot be read: {error.strerror}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise EnvError(f"the key file {path} must be a regular file")
    with open(descriptor, "rb") as file:
        if status.st_mode & 0o077:
            raise EnvError(f"the key file {path} can be read by others: chmod 600, and restart gorox")
        text = file.read(_LONGEST).decode("latin-1").strip()
    if len(text) != KEY_SIZE or not set(text) <= set("0123456789abcdef"):
        raise EnvError(f"the key file {path} holds no key: remove it, and restart gorox")
    return text


def write_whole(path: str, text: str, mode: int) -> None:
    """Writes a small file so that nobody ever sees half of it. Raises OSError."""
    temporary = f"{path}.{os.getpid()}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def nonce() -> str:
    """A number that nobody can guess, and that is used once."""
    return os.urandom(16).hex()


def prove(key: str, side: str, operator_nonce: str, leader_nonce: str) -> str:
    """The proof that a side ("leader" or "operator") knows the key."""
    text = "\n".join(("gorox cmdui 1", side, operator_nonce, leader_nonce))
    return hmac.new(key.encode(), text.encode("utf-8", "replace"), "sha256").hexdigest()


def proves(proof: object, key: str, side: str, operator_nonce: str, leader_nonce: str) -> bool:
    """True when that is the side's proof."""
    expected = prove(key, side, operator_nonce, leader_nonce)
    return isinstance(proof, str) and hmac.compare_digest(expected.encode(), proof.encode("utf-8", "replace"))
