"""Answers of scripted FastCGI servers on their way to the client: streamed or buffered, heads, redirects, files."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from tests.cgikit import END, answering, ask, fake, out, plain, problems, read_request, site
from tests.webkit import until

# Buffered or not


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
