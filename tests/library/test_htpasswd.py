"""Password hashes and the files that hold them."""

from __future__ import annotations

import sys

import argon2
import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.library import htpasswd, unixcrypt

PASSWORD = "gehe1m – ü".encode()
HASHES = {
    "bcrypt": bcrypt.hashpw(PASSWORD, bcrypt.gensalt(4)).decode(),
    "argon2": argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD),
    "apr1": unixcrypt.apr1(PASSWORD, "salt"),
    "sha-crypt": unixcrypt.sha_crypt(PASSWORD, "6", "salt", 1000),
    "plain": "{PLAIN}" + PASSWORD.decode(),
}


@pytest.mark.parametrize("scheme", HASHES)
def test_schemes(scheme: str) -> None:
    hashed = HASHES[scheme]
    assert htpasswd.scheme_of(hashed, allow_plain=True) == scheme
    assert htpasswd.verify(hashed, PASSWORD)
    for wrong in (b"", PASSWORD + b"x", PASSWORD[:-1], b"\0", PASSWORD + b"\0", b"x" * 5000, b"\xff"):
        assert not htpasswd.verify(hashed, wrong)


def test_bcrypt_of_apache_and_of_long_passwords() -> None:
    assert htpasswd.verify(HASHES["bcrypt"].replace("$2b$", "$2y$"), PASSWORD)
    hashed = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert htpasswd.verify(hashed, b"x" * 72 + b"whatever follows")


@pytest.mark.parametrize(
    ("hashed", "problem"),
    [
        ("secret", "must be a hash of bcrypt, argon2, apr1 or sha-crypt"),
        ("", "must be a hash"),
        ("rl0uE1jUHxWfE", "must be a hash"),  # DES crypt
        ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "must be a hash"),
        ("{PLAIN}secret", "needs allow_plain"),
        ("$2b$17$" + "." * 53, "the cost of bcrypt must be at most 16, not 17"),
        ("$5$rounds=999999999$salt$" + "." * 43, "at most 1000000 rounds"),
        ("$5$salt$" + "." * 86, "must be a hash"),
        ("$6$salt$" + "." * 43, "must be a hash"),
        ("$argon2id$v=19$m=1,t=1$x$x", "must be a hash"),
    ],
)
def test_what_is_no_hash(hashed: str, problem: str) -> None:
    with pytest.raises(htpasswd.HashError, match=problem):
        htpasswd.scheme_of(hashed)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argon2", None)
    with pytest.raises(
        htpasswd.HashError, match=r"need the package argon2-cffi: pip install 'gorox\[auth\]'"
    ):
        htpasswd.scheme_of(HASHES["argon2"])


def test_files() -> None:
    text = (
        f"# users\n\nanna:{HASHES['bcrypt']}\n  bert:{HASHES['apr1']}:the comment\r\n"
        "carla:{PLAIN}with:colons\n"
    )
    assert htpasswd.parse(text, allow_plain=True) == {
        "anna": HASHES["bcrypt"],
        "bert": HASHES["apr1"],
        "carla": "{PLAIN}with:colons",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("anna", "line 1 must be user:hash"),
        ("\n#\n:x", "line 3: a user name must"),
        ("a\tb:x", "line 1: a user name must"),
        ("anna:secret", "line 1: it must be a hash"),
        (f"a:{HASHES['apr1']}\na:{HASHES['apr1']}", "line 2: the user 'a' is there twice"),
    ],
)
def test_files_that_are_wrong(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        htpasswd.parse(text)
    assert "secret" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_file_or_wrong(text: str) -> None:
    try:
        users = htpasswd.parse(text, allow_plain=True)
    except ValueError:
        return
    assert all(htpasswd.scheme_of(hashed, True) for hashed in users.values())


def test_what_is_no_hash_is_not_verified() -> None:
    with pytest.raises(htpasswd.HashError):
        htpasswd.verify("secret", b"secret")
