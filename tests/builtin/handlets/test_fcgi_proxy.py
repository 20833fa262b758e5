"""fcgi_proxy in front of scripted servers: what they get, and what becomes of what they do. Good and bad."""

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
from tests.webkit import Malformed, config, load, until


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


def test_streamed_answers_arrive_as_they_come() -> None:
    pieces: list[Any] = []

    def handle(sock: Any) -> None:
        read_request(sock)
        pieces.append(sock)
        sock.sendall(out(b"Content-Type: text/event-stream\n\n"))
        gevent.sleep(10)

    with fake(handle) as server, site("fcgi", server.address) as it, it.connect() as client:
        client.request("GET", "/a.php")
        assert client.head()[1] == 200  # before there is any content
        pieces[0].sendall(out(b"one"))
        assert client.chunk() == b"one"
        pieces[0].sendall(out(b"two"))
        assert client.chunk() == b"two"
        pieces[0].sendall(END)
        assert client.chunk() == b""


def test_a_whole_answer_has_a_length() -> None:
    with answering(plain(b"hello")) as server, site("fcgi", server.address) as it:
        answer = ask(it)
        assert (answer.header("content-length"), answer.header("content-type")) == ("5", "text/plain")
        answer = ask(it, method="HEAD")
        assert (answer.status, answer.content) == (200, b"")


def test_buffering_frees_the_server() -> None:
    large = b"z" * 5_000_000
    with (
        answering(
            plain(b"", b"Content-Type: a/b\n")[: -len(END)]
            + b"".join(out(large[at : at + 60_000]) for at in range(0, len(large), 60_000))
            + END
        ) as server,
        site("fcgi", server.address, proxy={"buffer_response": True, "buffer_memory": "64K"}) as it,
        it.connect(rcvbuf=4096) as client,
    ):
        client.request("GET", "/a.php")
        until(lambda: server.asked and not server.open)  # nobody has read a byte of it
        answer = client.answer()
        assert answer.content == large and answer.header("content-length") == str(len(large))


def test_what_is_too_large_to_buffer_is_passed_on() -> None:
    large = b"z" * 300_000
    answer_ = out(b"Content-Type: a/b\n\n") + b"".join(
        out(large[at : at + 50_000]) for at in range(0, len(large), 50_000)
    )
    with (
        answering(answer_ + END) as server,
        site("fcgi", server.address, proxy={"buffer_response": True, "max_buffer_size": "100K"}) as it,
    ):
        answer = ask(it)
        assert answer.content == large


# Heads


@pytest.mark.parametrize(
    ("head", "status", "location"),
    [
        (b"Status: 404 Not Found\r\n", 404, None),
        (b"HTTP/1.1 201 Created\r\nX-A: 1\r\n", 201, None),
        (b"Location: https://b.example/\r\n", 302, "https://b.example/"),
        (b"Location: //b.example/\r\n", 302, "//b.example/"),
        (b"Status: 303\r\nLocation: /x\r\n", 303, "/x"),
        (b"Content-Type: a/b\n", 200, None),
    ],
)
def test_statuses(head: bytes, status: int, location: str | None) -> None:
    with answering(plain(b"", head)) as server, site("fcgi", server.address) as it:
        answer = ask(it)
        assert (answer.status, answer.header("location")) == (status, location)


def test_fields_about_the_connection_are_dropped() -> None:
    head = b"Content-Type: a/b\nTransfer-Encoding: chunked\nConnection: close\nUpgrade: x\nKeep-Alive: 1\nX-Keep: me\n"
    with answering(plain(b"hello", head)) as server, site("fcgi", server.address) as it:
        answer = ask(it)
        names = {name for name, _ in answer.fields}
        assert answer.content == b"hello" and "x-keep" in names
        assert not names & {"transfer-encoding", "upgrade", "keep-alive", "connection"}


def test_a_local_redirect_is_another_search() -> None:
    rules = [{"if": '$path == "/there"', "return_code": 200, "return_text": "$method $query_string"}]
    with answering(plain(b"ignored", b"Location: /there?a=1\n")) as server:
        with site("fcgi", server.address, rules=rules) as it:
            assert ask(it, "/a.php", "POST", b"content").content == b"GET a=1"
            with it.connect() as client:  # and the connection goes on
                for _ in range(2):
                    client.request("POST", "/a.php", {}, b"x" * 1000)
                    assert client.answer().content == b"GET a=1"
        with site("fcgi", server.address) as it:
            assert ask(it).status == 500  # it redirects to itself for ever
            assert "round in circles" in it.log.of("error", "web")[0].message


def test_a_promised_length_is_kept() -> None:
    with answering(plain(b"hello", b"Content-Length: 5\n")) as server, site("fcgi", server.address) as it:
        assert ask(it).content == b"hello"
    with (
        answering(plain(b"hello world", b"Content-Length: 5\n")) as server,
        site("fcgi", server.address) as it,
    ):
        assert ask(it).content == b"hello"
        assert "more than its Content-Length" in it.log.of("warning")[0].message
    with answering(plain(b"hel", b"Content-Length: 5\n")) as server, site("fcgi", server.address) as it:
        assert ask(it).status == 502
        assert "content: 2 bytes of its content are missing" in problems(it)[0]


# Files


@pytest.mark.parametrize(
    ("head", "status", "content"),
    [
        (b"X-Accel-Redirect: /files/a.txt\n", 200, b"text of a"),
        (b"X-Accel-Redirect: /files/sub/%62.txt\n", 200, b"text of b"),
        (b"X-Accel-Redirect: /files/none.txt\n", 404, None),
        (b"X-Accel-Redirect: /files/../secret\n", 502, None),
        (b"X-Accel-Redirect: /files/link\n", 403, None),
        (b"X-Accel-Redirect: /other/a.txt\n", 502, None),
        (b"X-Sendfile: {root}/files/a.txt\n", 200, b"text of a"),
        (b"X-Sendfile: {root}/files/../secret\n", 502, None),
        (b"X-Sendfile: /etc/passwd\n", 502, None),
        (b"X-Sendfile: {root}/files/sub\n", 404, None),
    ],
)
def test_files(tmp_path: Any, head: bytes, status: int, content: bytes | None) -> None:
    (tmp_path / "files" / "sub").mkdir(parents=True)
    (tmp_path / "files" / "a.txt").write_text("text of a")
    (tmp_path / "files" / "sub" / "b.txt").write_text("text of b")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "files" / "link").symlink_to(tmp_path / "secret")
    head = head.replace(b"{root}", str(tmp_path).encode())
    files = {"/files/": str(tmp_path / "files")}
    with answering(plain(b"ignored", head + b"Set-Cookie: a=b\n")) as server:
        with site("fcgi", server.address, proxy={"send_files": files}) as it:
            answer = ask(it)
            assert answer.status == status and b"secret" not in answer.content
            if content is not None:
                assert answer.content == content and answer.header("set-cookie") == "a=b"
                assert ask(it, if_none_match=answer.header("etag") or "").status == 304
        with site("fcgi", server.address) as it:
            answer = ask(it)
            assert (answer.content, answer.header("x-accel-redirect"), answer.header("x-sendfile")) == (
                b"ignored",
                None,
                None,
            )


# Faults


BAD = {
    "nothing": (b"", "closed the connection before it answered"),
    "http": (b"HTTP/1.1 200 OK\r\n\r\n", "not FastCGI"),
    "another_version": (record(fcgi.STDOUT, b"a", version=2), "version 2"),
    "another_request": (record(fcgi.STDOUT, b"Content-Type: a/b\n\nx", request=2) + END, "request 2"),
    "another_type": (record(5, b"x"), "type 5"),
    "overloaded": (record(fcgi.END_REQUEST, b"\0\0\0\0\2\0\0\0"), "overloaded"),
    "short_end": (record(fcgi.END_REQUEST, b"\0"), "has 1 bytes, not 8"),
    "no_output": (END, "without a head"),
    "half_a_head": (out(b"Content-Type: a/b\n") + END, "in the middle of its head"),
    "no_end": (out(b"Content-Type: a/b\n"), "before its answer ended"),
    "empty_head": (out(b"\r\nhello") + END, "its head is empty"),
    "no_field": (out(b"hello world\n\n") + END, "no field"),
    "splitting": (out(b"X-A: a\rb\n\n") + END, "control characters"),
    "bad_status": (out(b"Status: okay\n\n") + END, "the Status"),
    "status_100": (out(b"Status: 100\n\n") + END, "status 100"),
    "status_999": (out(b"Status: 999\n\n") + END, "status 999"),
    "two_lengths": (out(b"Content-Length: 1\nContent-Length: 2\n\na") + END, "Content-Length"),
    "bad_length": (out(b"Content-Length: -1\n\na") + END, "Content-Length"),
    "huge_head": (out(b"X-A: " + b"a" * 60_000) * 3, "larger than 65536"),
    "many_fields": (out(b"X-A: a\n" * 600 + b"\n") + END, "more than 500 fields"),
    "bad_location": (out(b"Location: /../../x\n\n") + END, "Location"),
}  # fmt: skip


@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
@pytest.mark.parametrize("name", BAD)
def test_bad_answers(name: str, kept: bool) -> None:
    """Also on a connection that is kept, behind good answers, where exchanges take the short way."""
    answer, reason = BAD[name]
    good = 2 if kept else 0

    def handle(sock: Any) -> None:
        nonlocal good
        while True:
            read_request(sock)
            if not good:
                break
            good -= 1
            sock.sendall(plain(b"good"))
        sock.sendall(answer)

    with (
        fake(handle) as server,
        site("fcgi", server.address, proxy={"max_retries": 0}, backend={"keep_conn": kept}) as it,
    ):
        for _ in range(good):
            assert ask(it).content == b"good"
        assert server.accepted <= 1
        found = ask(it)
        assert found.status == 502
        [problem] = problems(it)
        assert reason in problem and f"node {server.address}: " in problem and "GET /a.php" in problem
        node = it.stage.members["backends"]["back"].roster.nodes[0]
        assert node.failures == 1 and node.in_flight == 0 and not node.pool.idle


def test_a_truncated_answer_is_visible_to_the_client() -> None:
    def handle(sock: Any) -> None:
        read_request(sock)
        sock.sendall(out(b"Content-Type: a/b\n\n" + b"x" * 1000))
        gevent.sleep(0.05)

    with fake(handle) as server, site("fcgi", server.address) as it:
        with pytest.raises((Malformed, ConnectionResetError)):
            ask(it)
        assert "content: the node closed the connection before its answer ended" in problems(it)[0]


def test_stderr_is_logged_in_lines_and_capped() -> None:
    noise = b"".join(record(fcgi.STDERR, b"line %d\x1b[31m\n" % number) for number in range(300))
    with (
        answering(
            record(fcgi.STDERR, b"half ") + record(fcgi.STDERR, b"line\n") + noise + plain(b"ok")
        ) as server,
        site("fcgi", server.address) as it,
    ):
        assert ask(it).content == b"ok"
        lines = problems(it)
        assert f'backend "back": node {server.address}: stderr: half line (GET /a.php HTTP/1.1)' == lines[0]
        assert "line 0\\x1b[31m" in lines[1]
        assert len(lines) == 101 and "and 201 more lines" in lines[-1]


def test_no_server() -> None:
    with fake(lambda sock: None) as server:
        address = server.address
    with site("fcgi", address) as it:
        assert ask(it).status == 502
        assert "connect: connection refused" in problems(it)[0]
    with site("fcgi", address, backend={"max_fails": 1, "panic_threshold": 0}) as it:
        assert ask(it).status == 502
        answer = ask(it)
        assert (answer.status, answer.header("retry-after")) == (503, "1")


def test_another_server_is_tried() -> None:
    with fake(lambda sock: None) as dead:
        address = dead.address
    with answering(plain(b"ok")) as server, site("fcgi", address, server.address) as it:
        assert [ask(it, "/a.php", "POST", b"x" * 200_000).content for _ in range(2)] == [b"ok", b"ok"]
        assert "is tried again" in it.log.of("warning", "fcgi_proxy")[0].message


def test_a_request_is_not_carried_out_twice() -> None:
    with (
        fake(lambda sock: read_request(sock) and None) as bad,
        answering(plain(b"ok")) as good,
        site("fcgi", bad.address, good.address, backend={"balancer": "first"}) as it,
    ):
        assert ask(it, "/a.php", "POST", b"x").status == 502
        assert ask(it, "/a.php").content == b"ok"
        assert (bad.accepted, good.accepted) == (2, 1)


def test_timeouts() -> None:
    def silent(sock: Any) -> None:
        read_request(sock)
        exactly_nothing = sock.recv(1)
        assert not exactly_nothing

    with fake(silent) as server, site("fcgi", server.address, proxy={"head_timeout": "200ms"}) as it:
        assert ask(it).status == 504
        assert "head: " in problems(it)[0]

    def dripping(sock: Any) -> None:
        read_request(sock)
        for byte in out(b"X-A: " + b"a" * 1000):
            sock.sendall(bytes((byte,)))
            gevent.sleep(0.02)

    with fake(dripping) as server, site("fcgi", server.address, proxy={"head_timeout": "200ms"}) as it:
        assert ask(it).status == 504  # it sends, but the head has to be there in time


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


def test_the_server_is_told_when_the_client_leaves() -> None:
    seen: list[int] = []

    def handle(sock: Any) -> None:
        read_request(sock)
        seen.append(0)
        data = sock.recv(100)
        seen.append(data[1] if data else -1)

    with fake(handle) as server, site("fcgi", server.address) as it:
        with it.connect() as client:
            client.request("GET", "/a.php")
            until(lambda: seen)
        until(lambda: len(seen) == 2)
        assert seen[1] == fcgi.ABORT_REQUEST
        until(lambda: it.access)
        assert it.access[0].status == 499
        assert not problems(it) and it.stage.members["backends"]["back"].roster.nodes[0].failures == 0


def test_a_client_that_breaks_off_its_content() -> None:
    def handle(sock: Any) -> None:
        read_request(sock)

    with fake(handle) as server, site("fcgi", server.address) as it:
        with it.connect() as client:
            client.send(b"POST /a.php HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nhello")
            until(lambda: server.accepted)
        until(lambda: not server.open)
        until(lambda: it.access)
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
