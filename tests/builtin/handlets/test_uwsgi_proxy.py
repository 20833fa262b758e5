"""uwsgi_proxy in front of scripted servers. What it shares with fcgi_proxy and scgi_proxy is tested there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builtin.backends.test_uwsgi_backend import read_head
from tests.cgikit import PLAIN_FAULTS, ask, check_fault, check_waits, exactly, fake, problems, site


def test_variables_and_content() -> None:
    seen: list[tuple[tuple[int, int], dict[str, str]]] = []

    def handle(sock: Any) -> None:
        seen.append(read_head(sock))
        content = exactly(sock, int(seen[-1][1].get("CONTENT_LENGTH", "0")))
        sock.sendall(b"HTTP/1.1 201 Created\r\nContent-Type: text/plain\r\n\r\n" + content)

    with fake(handle) as server, site("uwsgi", server.address, proxy={"modifier1": 5, "modifier2": 9}) as it:
        for content in (b"", b"hello", b"x" * 300_000, [b"a" * 100] * 5):
            whole = b"".join(content) if isinstance(content, list) else content
            answer = ask(it, "/one?q", "POST", content)
            assert (answer.status, answer.content) == (201, whole)
            modifiers, found = seen[-1]
            assert modifiers == (5, 9)
            assert (found["SCRIPT_NAME"], found["PATH_INFO"], found["QUERY_STRING"]) == ("", "/one", "q")
            assert found["CONTENT_LENGTH"] == str(len(whole))


def test_variables_that_are_too_large() -> None:
    with fake(lambda sock: None) as server:
        params = {f"V{number}": "$query_string" for number in range(20)}
        with site("uwsgi", server.address, proxy={"params": params}) as it:
            assert ask(it, "/?" + "x" * 5000).status == 431
            assert "more than 65535 bytes" in it.log.of("warning", "uwsgi_proxy")[0].message
            assert server.accepted == 0


def test_no_answer() -> None:
    with fake(lambda sock: None) as server, site("uwsgi", server.address, proxy={"max_retries": 0}) as it:
        assert ask(it).status == 502
        assert server.address in problems(it, "uwsgi")[0]


@pytest.mark.parametrize(("answer", "status", "reason"), PLAIN_FAULTS)
def test_answers(answer: bytes, status: int | None, reason: str) -> None:
    check_fault("uwsgi", read_head, answer, status, reason)


def test_timeouts_and_clients_that_leave() -> None:
    check_waits("uwsgi", read_head)
