"""The environ: names of fields, the error stream, TLS; and as an app sees it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hemi.web.cgi import variables as module
from hemi.web.cgi.variables import add_tls, as_latin1, variable_of
from hemi.web.wsgi.environ import ErrorStream
from tests.wsgikit import plain, serve, shows


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


# Of a running server


def test_a_list_with_a_length_goes_out_whole_with_our_reason_and_date() -> None:
    with serve(plain) as site:
        answer = site.get()
        assert (answer.status, answer.content) == (200, b"hello")
        assert answer.header("content-length") == "5"
        assert answer.header("content-type") == "text/plain"
        assert answer.header("server") == "gorox" and answer.header("date")


def test_the_environ_says_what_cgi_says() -> None:
    app = shows("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_NAME", "SERVER_PROTOCOL",
                "REMOTE_ADDR", "HTTP_HOST", "HTTP_X_ONE", "wsgi.url_scheme", "wsgi.input_terminated",
                "REQUEST_URI", "CONTENT_LENGTH", "HTTPS")  # fmt: skip
    with serve(app) as site:
        text = site.get("/a//b/../c%20d?q=%20x", x_one="1").content.decode()
    assert text.split("\n") == [
        "REQUEST_METHOD=GET", "SCRIPT_NAME=", "PATH_INFO=/a/c d", "QUERY_STRING=q=%20x", "SERVER_NAME=a.example",
        "SERVER_PROTOCOL=HTTP/1.1", "REMOTE_ADDR=127.0.0.1", "HTTP_HOST=a.example", "HTTP_X_ONE=1",
        "wsgi.url_scheme=http", "wsgi.input_terminated=True", "REQUEST_URI=/a//b/../c%20d?q=%20x",
        "CONTENT_LENGTH=-", "HTTPS=-",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/caf%C3%A9", b"/caf\xc3\xa9"), ("/%ff%fe", b"/\xff\xfe"), ("/%E6%97%A5", "/日".encode())],
)
def test_a_path_beyond_ascii_is_bytes_as_latin_1(path: str, expected: bytes) -> None:
    with serve(shows("PATH_INFO")) as site:
        assert site.get(path).content == b"PATH_INFO=" + expected


def test_repeated_fields_are_joined() -> None:
    with serve(shows("HTTP_X_A", "HTTP_COOKIE")) as site, site.connect() as client:
        client.request(fields=[("X-A", "1"), ("Cookie", "a=1"), ("x-a", "2"), ("Cookie", "b=2")])
        assert client.answer().content == b"HTTP_X_A=1, 2\nHTTP_COOKIE=a=1; b=2"


def test_names_with_underscores_and_proxy_never_reach_the_app() -> None:
    with serve(shows("HTTP_X_USER", "HTTP_PROXY", "HTTP_CONTENT_LENGTH")) as site, site.connect() as client:
        client.request(fields=[("X_User", "admin"), ("Proxy", "http://evil/"), ("Content_Length", "7")])
        assert client.answer().content == b"HTTP_X_USER=-\nHTTP_PROXY=-\nHTTP_CONTENT_LENGTH=-"


def test_a_mount_splits_the_path_and_declines_the_rest() -> None:
    with serve(shows("SCRIPT_NAME", "PATH_INFO"), properties={"script_name": "/shop"}) as site:
        assert site.get("/shop/cart/1").content == b"SCRIPT_NAME=/shop\nPATH_INFO=/cart/1"
        assert site.get("/shop").content == b"SCRIPT_NAME=/shop\nPATH_INFO="
        assert site.get("/shopping").status == 404
        assert site.get("/").status == 404


def test_environ_and_env_come_from_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOROX_TEST", "before")
    import os

    properties = {"environ": {"shop.mode": "test"}, "env": {"GOROX_TEST": "after"}}
    with serve(shows("shop.mode"), properties=properties) as site:
        assert site.get().content == b"shop.mode=test"
        assert os.environ["GOROX_TEST"] == "after"


def test_wsgi_errors_goes_to_the_error_log_by_lines() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.errors"].write("one\ntw")
        environ["wsgi.errors"].writelines(["o\n"])
        environ["wsgi.errors"].write("three")
        environ["wsgi.errors"].flush()
        return plain(environ, start_response)

    with serve(app) as site:
        site.get()
        assert [entry.message for entry in site.log.of("error", "wsgi")] == ["one", "two", "three"]
