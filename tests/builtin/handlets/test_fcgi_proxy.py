"""fcgi_proxy in front of scripted servers: what they are told, contents, connections that are kept.

What becomes of their answers is in tests/web/cgi/test_reply.py, what goes wrong in tests/web/cgi/test_gateway.py.
"""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent import ssl

import hemi.builtin  # noqa: F401  registers its components
from hemi.errors import ConfigError
from hemi.library import fcgi
from tests.cgikit import (
    END,
    Asked,
    answering,
    ask,
    exactly,
    fake,
    out,
    plain,
    problems,
    read_request,
    record,
    site,
)
from tests.tlskit import Authority
from tests.webkit import config, load


def variables(
    target: str = "/a.php",
    method: str = "GET",
    content: Any = None,
    *,
    proxy: dict[str, Any] | None = None,
    **fields: str,
) -> dict[str, str]:
    """What a server is told about a request."""
    with answering(plain(b"ok")) as server, site("fcgi", server.address, proxy=proxy) as it:
        assert ask(it, target, method, content, **fields).content == b"ok"
        return server.asked[0].variables


def test_variables() -> None:
    found = variables("/d%C3%A9j%C3%A0/../x%20y.php?q=%20", x_one="1", proxy={"params": {"WHO": "$method"}})
    assert found["REQUEST_URI"] == "/d%C3%A9j%C3%A0/../x%20y.php?q=%20"
    assert (found["SCRIPT_NAME"], found["SCRIPT_FILENAME"]) == ("/x y.php", "/srv/app/x y.php")
    assert found["DOCUMENT_URI"] == "/x y.php"
    assert (found["QUERY_STRING"], found["PATH_INFO"], found["HTTP_X_ONE"], found["WHO"]) == (
        "q=%20",
        "",
        "1",
        "GET",
    )
    assert (found["DOCUMENT_ROOT"], found["REMOTE_ADDR"], found["SERVER_ADDR"]) == (
        "/srv/app",
        "127.0.0.1",
        "127.0.0.1",
    )
    assert found["REMOTE_PORT"].isdigit() and found["GATEWAY_INTERFACE"] == "CGI/1.1"
    assert "CONTENT_LENGTH" not in found and "PATH_TRANSLATED" not in found


def test_httpoxy() -> None:
    with answering(plain(b"ok")) as server, site("fcgi", server.address) as it, it.connect() as client:
        client.request("GET", "/a.php", {"Proxy": "http://evil.example", "X_Real_IP": "1.2.3.4"})
        assert client.answer().status == 200
        found = server.asked[0].variables
        assert "HTTP_PROXY" not in found and "HTTP_X_REAL_IP" not in found


@pytest.mark.parametrize(
    ("proxy", "target", "name", "info", "file"),
    [
        ({}, "/", "/index.php", "", "/srv/app/index.php"),
        ({"index_file": "app.php"}, "/x/", "/x/app.php", "", "/srv/app/x/app.php"),
        ({"split_path": r"^(.+?\.php)(/.*)$"}, "/a.php/b/c", "/a.php", "/b/c", "/srv/app/a.php"),
        ({"split_path": r"^(.+?\.php)(/.*)$"}, "/a.php", "/a.php", "", "/srv/app/a.php"),
        ({"split_path": r"^(.+?\.php)(/.*)$"}, "/%C3%A9.php/%FF", "/Ã©.php", "/ÿ", "/srv/app/Ã©.php"),
        ({"script_filename": "/srv/app/front.php"}, "/any/thing", "/front.php", "", "/srv/app/front.php"),
        ({"script_filename": "/opt/front.php"}, "/any", "/front.php", "", "/opt/front.php"),
        ({"script_name": ""}, "/any", "", "/any", None),
        ({"script_name": "/app"}, "/app/any", "/app", "/any", None),
        ({"script_name": "/app"}, "/app", "/app", "", None),
    ],
)  # fmt: skip
def test_scripts(proxy: dict[str, Any], target: str, name: str, info: str, file: str | None) -> None:
    found = variables(target, proxy=proxy)
    assert (found["SCRIPT_NAME"], found["PATH_INFO"], found.get("SCRIPT_FILENAME")) == (name, info, file)
    if info:
        assert found["PATH_TRANSLATED"] == "/srv/app" + info


def test_outside_of_the_script_name_is_declined() -> None:
    with answering(plain(b"ok")) as server, site("fcgi", server.address, proxy={"script_name": "/app"}) as it:
        assert ask(it, "/apple").status == 404
        assert server.accepted == 0


@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ({}, "needs web_root, script_filename or script_name"),
        ({"script_name": "x"}, 'must be "" or a path like "/shop", not "x"'),
        ({"script_name": "", "script_filename": "/a"}, "must not stand beside script_filename"),
        ({"web_root": "/a", "params": {"A-B": "x"}}, 'must have names such as APP_ENV, not "A-B"'),
        ({"web_root": "/a", "index_file": ""}, "index_file must be the name of a file"),
        ({"script_name": "", "must_exist": True}, "must_exist needs a web_root"),
        ({"web_root": "/a", "send_files": {"x": "/a"}}, 'must have paths that start with "/", not "x"'),
    ],
)
def test_wrong_configurations(proxy: dict[str, Any], problem: str) -> None:
    backend = {"type": "fcgi_backend", "nodes": [{"address": "127.0.0.1:1"}]}
    rules = [{"handlets": [{"fcgi_proxy": {"to_backend": "back", **proxy}}]}]
    mapping = config(rules=rules, stage={"backends": {"back": backend}})
    with pytest.raises(ConfigError, match="fcgi_proxy") as caught:
        load(mapping)
    assert problem in str(caught.value)


# Contents


def test_content_and_its_length() -> None:
    with answering(lambda asked: plain(asked.content)) as server, site("fcgi", server.address) as it:
        for content in (b"", b"x", b"y" * 70_000, [b"a" * 10, b"b" * 20], []):
            whole = b"".join(content) if isinstance(content, list) else content
            assert ask(it, "/a.php", "POST", content).content == whole
            assert server.asked[-1].variables["CONTENT_LENGTH"] == str(len(whole))


def test_vague_content_may_be_streamed() -> None:
    with (
        answering(lambda asked: plain(asked.content)) as server,
        site("fcgi", server.address, proxy={"stream_vague": True}) as it,
    ):
        assert ask(it, "/a.php", "POST", [b"a" * 10, b"b" * 20]).content == b"a" * 10 + b"b" * 20
        assert "CONTENT_LENGTH" not in server.asked[-1].variables


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_both_ways_at_the_same_time(encrypted: bool, tmp_path: Any) -> None:
    """A filter that answers while it reads must not be waited for by somebody who only sends."""

    def handle(sock: Any) -> None:
        asked = read_request(sock, fcgi.PARAMS)
        sock.sendall(out(b"Content-Type: a/b\n\n"))
        assert asked.variables["CONTENT_LENGTH"] == str(len(content))
        while True:
            _, _, _, size, padding = fcgi._HEAD.unpack(exactly(sock, 8))
            data = exactly(sock, size + padding)[:size]
            if not data:
                break
            sock.sendall(out(data))
        sock.sendall(END)

    content = bytes(range(256)) * 40_000
    backend: dict[str, Any] = {}
    over: dict[str, Any] = {}
    if encrypted:
        authority = Authority(tmp_path)
        identity = authority.issue("node.test")
        over["context"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        over["context"].load_cert_chain(identity.certificate, identity.private_key)
        backend = {"tls": True, "tls_ca": authority.file, "tls_server_name": "node.test"}
    with (
        fake(handle, **over) as server,
        site("fcgi", server.address, backend=backend) as it,
        it.connect() as client,
    ):
        sender = gevent.spawn(client.request, "POST", "/a.php", {}, content)
        got = client.answer().content
        assert got == content, problems(it)
        sender.get(timeout=5)


def test_an_answer_before_the_content_has_ended() -> None:
    def handle(sock: Any) -> None:
        read_request(sock, fcgi.PARAMS)
        sock.sendall(plain(b"no", b"Status: 413 Too Large\r\n"))

    with fake(handle) as server, site("fcgi", server.address) as it, it.connect() as client:
        sender = gevent.spawn(client.request, "POST", "/a.php", {}, b"x" * 3_000_000)
        answer = client.answer()
        assert (answer.status, answer.content) == (413, b"no")
        sender.kill()


# Connections that are kept


def test_keeping_connections() -> None:
    with answering(lambda asked: plain(asked.variables["QUERY_STRING"].encode())) as server:
        with site("fcgi", server.address, backend={"keep_conn": True}) as it:
            assert [ask(it, f"/a.php?{n}").content for n in range(5)] == [b"%d" % n for n in range(5)]
            assert server.accepted == 1
        with site("fcgi", server.address) as it:
            assert [ask(it, f"/a.php?{n}").content for n in range(3)] == [b"0", b"1", b"2"]
            assert server.accepted == 4


@pytest.mark.parametrize(
    "answer",
    [
        plain(b"other"),
        plain(b"other", b"Content-Type: a/b\r\nX-One: 1\r\n"),
        out(b"Content-Type: a/b\nX-One: 1\n\nother") + END,
        out(b"Content-Type: a/b\n\nother\r\n\r\n") + END,
        out(b"Content-Type: a/b\r\n\r\not") + out(b"her") + END,
        out(b"Content-Type: a/b\r\n\r\nother") + record(fcgi.STDOUT, b"") + END,
        record(fcgi.STDOUT, b"Content-Type: a/b\r\n\r\nother", padding=7) + END,
        record(fcgi.STDERR, b"oh\n") + plain(b"other"),
        plain(b"other", b"Content-Length: 5\r\n"),
        plain(b"other", b"Status: 200 Fine\r\n"),
    ],
)
def test_other_answers_on_a_kept_connection(answer: bytes) -> None:
    """Whether the short way can take them or not makes no difference."""
    answers = iter([plain(b"good"), plain(b"good"), answer, answer, plain(b"good")])
    with (
        answering(lambda asked: next(answers)) as server,
        site("fcgi", server.address, backend={"keep_conn": True}) as it,
    ):
        found = [ask(it) for _ in range(5)]
        content = b"other\r\n\r\n" if answer.endswith(b"other\r\n\r\n" + END) else b"other"
        assert [one.content for one in found] == [b"good", b"good", content, content, b"good"]
        fields = [[field for field in one.fields if field[0] != "date"] for one in found]
        assert fields[2] == fields[3] and fields[0] == fields[4]
        assert found[2].header("x-one") == ("1" if b"X-One" in answer else None)
        assert server.accepted == 1


def test_methods_contents_and_users_on_a_kept_connection() -> None:
    with (
        answering(lambda asked: plain(asked.content + asked.variables["REQUEST_METHOD"].encode())) as server,
        site(
            "fcgi", server.address, backend={"keep_conn": True}, proxy={"params": {"WHO": "$path", "X": "y"}}
        ) as it,
    ):
        assert [ask(it, method=method).content for method in ("GET", "DELETE", "HEAD", "GET")] == [
            b"GET",
            b"DELETE",
            b"",
            b"GET",
        ]
        assert ask(it, method="POST", content=b"data").content == b"dataPOST"
        assert ask(it, "/b.php", x_one="1").content == b"GET"
        first, *_, post, last = [asked.variables for asked in server.asked]
        assert (post["CONTENT_LENGTH"], first.get("CONTENT_LENGTH")) == ("4", None)
        assert (last["WHO"], last["X"], last["SCRIPT_NAME"], last["HTTP_X_ONE"]) == (
            "/b.php",
            "y",
            "/b.php",
            "1",
        )
        assert first["REMOTE_PORT"] != last["REMOTE_PORT"]
        assert server.accepted == 1


def test_what_comes_behind_the_answer_never_reaches_anybody() -> None:
    def handle(sock: Any) -> None:
        while True:
            read_request(sock)
            sock.sendall(plain(b"good") + plain(b"evil"))

    with fake(handle) as server, site("fcgi", server.address, backend={"keep_conn": True}) as it:
        assert [ask(it).content for _ in range(3)] == [b"good"] * 3
        assert server.accepted == 3


def test_a_connection_that_died_while_it_was_idle() -> None:
    def handle(sock: Any) -> None:
        read_request(sock)
        sock.sendall(plain(b"ok"))
        read_request(sock)  # and goes away with the second request

    with fake(handle) as server, site("fcgi", server.address, backend={"keep_conn": True}) as it:
        assert [ask(it).content for _ in range(2)] == [b"ok", b"ok"]
        assert server.accepted == 2
        assert it.stage.members["backends"]["back"].roster.nodes[0].failures == 0


def test_sticky_clients() -> None:
    sticky = {"sticky_secret": "0123456789abcdef"}
    with (
        answering(plain(b"a")) as one,
        answering(plain(b"b")) as two,
        site("fcgi", one.address, two.address, backend=sticky) as it,
    ):
        answer = ask(it)
        cookie = (answer.header("set-cookie") or "").partition(";")[0]
        assert cookie.startswith("gorox_node=")
        assert {ask(it, cookie=cookie).content for _ in range(4)} == {answer.content}


def test_asked_is_what_it_says() -> None:
    assert Asked().variables == {}
