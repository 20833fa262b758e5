"""Passwords without a protocol: what is right, what is remembered, who is put off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hemi import passwords
from hemi.library import unixcrypt
from hemi.library.tokenbucket import TokenBuckets
from hemi.passwords import Passwords, PutOff, Verifier

ANNA = unixcrypt.apr1(b"anna's", "salt")


@pytest.fixture
def known() -> Iterator[Passwords]:
    one = Passwords("", None, None)  # type: ignore[arg-type]
    one.users, one.users_file, one.allow_plain = {"anna": ANNA}, None, False
    one.cache_time, one.max_failures, one.failure_window = 60.0, 2, 60.0
    one.prepare()
    yield one
    one.stop(0.0)


def test_who_is_known(known: Passwords) -> None:
    assert known.has_users and not list(known.check())
    assert known.knows("anna", b"anna's", "192.0.2.1")
    assert known.knows("anna", b"anna's", "192.0.2.1")  # remembered
    assert not known.knows("anna", b"bert's", "192.0.2.1")
    assert not known.knows("bert", b"anna's", "192.0.2.1")


def test_guessing(known: Passwords) -> None:
    for _ in range(2):
        assert not known.knows("anna", b"?", "192.0.2.1")
    with pytest.raises(PutOff, match="too many passwords are tried") as raised:
        known.knows("anna", b"anna's", "192.0.2.1")
    assert raised.value.is_guessing and 29 <= raised.value.seconds <= 30
    assert known.knows("anna", b"anna's", "192.0.2.2")


def test_too_much_to_do(known: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING", 0)
    with pytest.raises(PutOff) as raised:
        known.knows("anna", b"anna's", "192.0.2.1")
    assert not raised.value.is_guessing and raised.value.seconds == 1


def test_nobody() -> None:
    verifier = Verifier(60.0, TokenBuckets(1.0, 1, 10))
    assert not verifier.verify(None, "anna", b"?", (), "192.0.2.1")
    verifier.close()
