"""The hashes of older password files: samples, and openssl's answers."""

from __future__ import annotations

import subprocess

import pytest

from hemi.library import unixcrypt
from tests.running import require_program

SAMPLES = [
    ("5", "saltstring", None, "Hello world!", "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
    (
        "6",
        "saltstring",
        None,
        "Hello world!",
        "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
]


@pytest.mark.parametrize(("kind", "salt", "rounds", "password", "expected"), SAMPLES)
def test_samples(kind: str, salt: str, rounds: int | None, password: str, expected: str) -> None:
    made = unixcrypt.sha_crypt(password.encode(), kind, salt, rounds)
    assert made == f"${kind}${salt}${expected}"
    assert unixcrypt.SHA.fullmatch(made)


@pytest.mark.parametrize("password", ["x", "pässword", "a" * 15, "b" * 16, "c" * 17, "d" * 65, "e" * 129])
@pytest.mark.parametrize("salt", ["a", "abcdefgh"])
def test_openssl_says_the_same(password: str, salt: str) -> None:
    openssl = require_program("openssl", "openssl")

    def ask(option: str) -> str:
        command = [openssl, "passwd", option, "-salt", salt, "-stdin"]
        return subprocess.run(
            command, input=password + "\n", capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()

    raw = password.encode()
    assert unixcrypt.apr1(raw, salt) == ask("-apr1")
    assert unixcrypt.sha_crypt(raw, "5", salt) == ask("-5")
    assert unixcrypt.sha_crypt(raw, "6", salt) == ask("-6")


def test_rounds_count() -> None:
    few = unixcrypt.sha_crypt(b"x", "5", "salt", 1000)
    assert few.startswith("$5$rounds=1000$salt$") and few != unixcrypt.sha_crypt(b"x", "5", "salt", 1001)
    assert unixcrypt.sha_crypt(b"x", "5", "salt", 10).split("$")[-1] == few.split("$")[-1]
