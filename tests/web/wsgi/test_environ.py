"""The environ: names of fields, the error stream, TLS. What needs a request is in the tests of the handlet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hemi.web.cgi import variables as module
from hemi.web.cgi.variables import add_tls, as_latin1, variable_of
from hemi.web.wsgi.environ import ErrorStream


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        (b"content-type", "CONTENT_TYPE"),
        (b"content-length", "CONTENT_LENGTH"),
        (b"host", "HTTP_HOST"),
        (b"x-forwarded-for", "HTTP_X_FORWARDED_FOR"),
        (b"x_forwarded_for", ""),
        (b"content_length", ""),
        (b"proxy", ""),
        (b"x-proxy", "HTTP_X_PROXY"),
    ],
)
def test_variables_of_fields(name: bytes, variable: str) -> None:
    assert [variable_of(name) for _ in range(2)] == [variable] * 2


def test_what_clients_invent_is_not_remembered_for_ever() -> None:
    for number in range(2 * module.MAX_NAMES):
        assert variable_of(b"x-%d" % number) == f"HTTP_X_{number}"
    assert len(module._names) <= module.MAX_NAMES
    assert variable_of(b"proxy") == ""


def test_text_is_bytes_as_latin_1() -> None:
    assert as_latin1("/é") == "/Ã©"
    assert as_latin1("/\udcff") == "/ÿ"


def test_the_error_stream_logs_lines() -> None:
    lines: list[str] = []
    log: Any = SimpleNamespace(error=lambda subsystem, message: lines.append(message))
    stream = ErrorStream(log)
    print("one", "two", file=stream)
    stream.write("a\nb\nc")
    assert lines == ["one two", "a", "b"]
    stream.flush()
    stream.flush()
    assert lines[3:] == ["c"]


def test_tls_with_and_without_a_certificate() -> None:
    info: Any = SimpleNamespace(version="TLSv1.3", cipher="AES", server_name="a.example", certificate=None)
    made: dict[str, Any] = {}
    add_tls(made, info)
    assert made == {
        "SSL_PROTOCOL": "TLSv1.3",
        "SSL_CIPHER": "AES",
        "SSL_TLS_SNI": "a.example",
        "SSL_CLIENT_VERIFY": "NONE",
    }
    info.certificate = SimpleNamespace(
        subject="CN=é", issuer="CN=CA", serial="01", fingerprint="ab", pem="-----BEGIN…"
    )
    add_tls(made, info)
    assert made["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert made["SSL_CLIENT_S_DN"] == "CN=Ã©" and made["SSL_CLIENT_I_DN"] == "CN=CA"
    assert made["SSL_CLIENT_M_SERIAL"] == "01" and made["SSL_CLIENT_FINGERPRINT"] == "ab"
