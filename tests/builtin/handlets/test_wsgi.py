"""The `wsgi` handlet through a real server: files, waiting apps, loading. PEP 3333 is tested in tests/web/wsgi."""

from __future__ import annotations

import gzip
import io
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest

from hemi.errors import ConfigError, UsageError
from tests import webkit
from tests.tlskit import Authority, client_context
from tests.webkit import until
from tests.wsgikit import TEXT, mount, name_of, plain, serve, shows

# Files


def sends(make: Any, headers: Any = ()) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*TEXT, *headers])
        return environ["wsgi.file_wrapper"](make(), 4096)

    return app


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 2000)
    return path


def test_file_wrapper_sends_a_file_whole_by_sendfile(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    calls: list[int] = []
    real = os.sendfile
    monkeypatch.setattr(os, "sendfile", lambda *args: (calls.append(1), real(*args))[1])
    opened: list[Any] = []

    def make() -> Any:
        opened.append(data.open("rb"))
        return opened[-1]

    with serve(sends(make), valid=False) as site, site.connect() as client:  # the validator hides the file
        for _ in range(2):
            client.request()
            answer = client.answer()
            assert answer.content == data.read_bytes()
            assert answer.header("content-length") == "512000"
        client.request("HEAD")
        assert client.answer("HEAD").header("content-length") == "512000"
        assert calls and all(file.closed for file in opened)


def test_file_wrapper_sends_from_where_the_file_stands(data: Path) -> None:
    def make() -> Any:
        file = data.open("rb")
        assert file.read(1000)
        return file

    with serve(sends(make), valid=False) as site:
        assert site.get().content == data.read_bytes()[1000:]
    with serve(sends(make, [("Content-Length", "10")]), valid=False) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            assert client.answer().content == data.read_bytes()[1000:1010]


def test_a_range_of_what_cannot_be_sent_by_sendfile(data: Path) -> None:
    headers = [("Content-Length", "3")]
    with serve(sends(lambda: io.BytesIO(b"content"), headers), valid=False) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            assert client.answer().content == b"con"


def test_a_file_shorter_than_promised_breaks_the_connection(data: Path) -> None:
    with (
        serve(sends(lambda: data.open("rb"), [("Content-Length", "600000")])) as site,
        site.connect() as client,
    ):
        client.request()
        with pytest.raises((webkit.Malformed, ConnectionResetError)):
            client.answer()
        until(lambda: site.log.of("error"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: io.BytesIO(b"content"),
        lambda: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(b"content"))),
        lambda: _temporary(tempfile.TemporaryFile),
        lambda: _temporary(tempfile.NamedTemporaryFile),
        lambda: _temporary(tempfile.SpooledTemporaryFile),
    ],
)
def test_file_wrapper_takes_whatever_can_be_read(make: Any) -> None:
    with serve(sends(make)) as site:
        assert site.get().content == b"content"


def test_a_gzip_file_is_sent_decompressed(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"content"))
    with serve(sends(lambda: gzip.open(path))) as site:
        assert site.get().content == b"content"


def _temporary(make: Any) -> Any:
    file = make()
    file.write(b"content")
    file.seek(0)
    return file


# Blocking apps, and loading them


def test_an_app_that_waits_does_not_stop_others() -> None:
    gate = gevent.event.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            gate.wait(5)
        return plain(environ, start_response)

    with serve(app) as site, site.connect() as slow:
        slow.request("GET", "/slow")
        assert site.get("/").status == 200
        gate.set()
        assert slow.answer().status == 200


def load(handlet: dict[str, Any], folder: Path) -> Any:
    return webkit.load(webkit.config(rules=[{"handlets": [handlet]}]), str(folder))


@pytest.mark.parametrize(
    ("text", "spec", "expected"),
    [
        ("import nosuchthing", "{}:app", ["ModuleNotFoundError", "line 1, in <module>", "nosuchthing"]),
        ("def f(:", "{}:app", ["SyntaxError", "line 1"]),
        ("raise SystemExit(3)", "{}:app", ["SystemExit"]),
        ("x = 1", "{}:app", ["has no app"]),
        ("app = 1", "{}:app", ["must be a WSGI app"]),
        ("def make():\n    return 1 / 0", "{}:make()", ["ZeroDivisionError", "line 2, in make"]),
        ("", "{}", ['must be "module:attr"']),
        ("", "nosuch{}:app", ["No module named"]),
    ],
)
def test_an_app_that_cannot_be_loaded_is_a_problem_with_its_traceback(
    tmp_path: Path, text: str, spec: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"broken_app_{time.monotonic_ns()}"
    (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises((ConfigError, UsageError)) as caught:
        load({"wsgi": {"app": spec.format(name)}}, tmp_path).prepare()
    for part in expected:
        assert part in str(caught.value)
    assert "apploader" not in str(caught.value)


def test_a_factory_makes_the_app_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"factory_app_{time.monotonic_ns()}"
    (tmp_path / f"{name}.py").write_text(
        "made = []\n"
        "class Box:\n"
        "    @staticmethod\n"
        "    def make():\n"
        "        made.append(1)\n"
        "        return lambda environ, start_response: []\n"
    )
    stage = load({"wsgi": {"app": f"{name}:Box.make()"}}, tmp_path)
    stage.prepare()
    stage.stop(time.monotonic())
    assert sys.modules[name].made == [1]


@pytest.mark.parametrize("name", ["shop", "/shop/", "/", "//shop"])
def test_a_bad_script_name_is_a_problem(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="script_name must be"):
        load(mount(plain, script_name=name), tmp_path)


def test_names_for_loading_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="app is required"):
        load({"wsgi": {}}, tmp_path)
    assert name_of(plain).startswith("tests.wsgikit:")


@pytest.mark.parametrize("size", ["1K", "1M"])
def test_chunked_content_can_be_buffered_for_frameworks_that_need_its_length(size: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert "HTTP_TRANSFER_ENCODING" not in environ
        content = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response("200 OK", TEXT)
        return [content]

    limits = {"spool_size": size, "max_content_size": "10K"}
    with (
        serve(app, properties={"buffer_chunked": True}, webapp=limits) as site,
        site.connect() as client,
    ):
        for content in ([b"x" * 3000, b"y" * 3000], [b"a"], []):
            client.request("POST", content=content)
            assert client.answer().content == b"".join(content)
        client.request("POST", content=[b"x" * 6000] * 2)
        assert client.answer().status == 413


def test_client_certificates_are_in_the_environ(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    site_identity, client_identity = authority.issue("a.example"), authority.issue("ada", "ada@example.com")
    app = shows(
        "HTTPS", "wsgi.url_scheme", "SSL_CLIENT_VERIFY", "SSL_TLS_SNI", "SSL_CLIENT_I_DN", "SSL_CLIENT_CERT"
    )
    more: dict[str, Any] = {
        "server": {"tls": True, "tls_client_auth": "request", "tls_client_ca": authority.file},
        "webapp": {
            "tls_certificate": site_identity.certificate,
            "tls_private_key": site_identity.private_key,
        },
    }
    forged = [("SSL_CLIENT_VERIFY", "SUCCESS"), ("SSL-Client-Verify", "SUCCESS")]
    with serve(app, **more) as site:
        for identity, verdict in ((None, "NONE"), (client_identity, "SUCCESS")):
            context = client_context(authority, identity)
            with site.connect(tls=context, name="a.example") as client:
                client.request(fields=forged)
                text = client.answer().content.decode()
            assert text.startswith(
                f"HTTPS=on\nwsgi.url_scheme=https\nSSL_CLIENT_VERIFY={verdict}\nSSL_TLS_SNI=a.example\n"
            )
            assert ("-----BEGIN CERTIFICATE-----" in text) == (identity is not None)


def test_a_reload_with_a_broken_app_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"reloaded_app_{time.monotonic_ns()}"
    (tmp_path / f"{name}.py").write_text("1 / 0\n")
    with serve(plain, folder=str(tmp_path)) as site, site.connect() as client:
        with pytest.raises(ConfigError, match="ZeroDivisionError"):
            load({"wsgi": {"app": f"{name}:app"}}, tmp_path)
        client.request()
        assert client.answer().content == b"hello"
