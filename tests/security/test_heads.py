"""Row 2: heads that are huge, long or many; what the corpus of messages has not: sizes around the limits."""

from __future__ import annotations

import pytest

from tests.webkit import Client, serve, until


def answer_to(client: Client, data: bytes) -> int:
    """The status of the answer to a message; the server may stop reading before its end."""
    try:
        client.send(data)
    except OSError:
        pass
    return client.answer().status


@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_of_the_target(excess: int) -> None:
    target = b"/" + b"a" * (63 + excess)
    with serve(server={"max_target_size": 64}) as site:
        for head in (b"host: a\r\n\r\n", b"host: a\r\nx: y\r\n\r\n", b"host: a\r\n\r\n"):
            # The third has fields that the server has seen before.
            with site.connect() as client:
                assert answer_to(client, b"GET " + target + b" HTTP/1.1\r\n" + head) == (
                    414 if excess else 200
                )


@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_of_fields(excess: int) -> None:
    with serve(server={"max_fields": 5}) as site, site.connect() as client:
        head = b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * (4 + excess) + b"\r\n"
        assert answer_to(client, head) == (431 if excess else 200)


def test_the_limit_of_the_head() -> None:
    with serve(server={"max_head_size": "1K", "max_target_size": "8K"}) as site:
        for size, status in ((900, 200), (1024 - 32, 200), (1025 - 32, 431), (1100, 431)):
            with site.connect() as client:
                assert (
                    answer_to(client, b"GET / HTTP/1.1\r\nhost: a\r\nx: %b\r\n\r\n" % (b"y" * size)) == status
                )


def test_fields_seen_before_do_not_lift_the_limit() -> None:
    fields = b"host: a\r\nx: %b\r\n\r\n" % (b"y" * 800)
    with serve(server={"max_head_size": "1K", "max_target_size": "8K"}) as site, site.connect() as client:
        assert answer_to(client, b"GET / HTTP/1.1\r\n" + fields) == 200
        assert answer_to(client, b"GET / HTTP/1.1\r\n" + fields) == 200
        assert answer_to(client, b"GET /%b HTTP/1.1\r\n" % (b"a" * 500) + fields) == 431


def test_an_endless_head_is_not_kept() -> None:
    """The refusal comes long before the client is done."""
    with serve() as site, site.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n")
        sent = 0
        try:
            while sent < 100_000_000:
                client.send(b"x: " + b"y" * 65536 + b"\r\n")
                sent += 65536
                if site.access:
                    break
        except OSError:
            pass
        assert client.answer().status == 431
        assert sent < 5_000_000


def test_pipelined_heads_are_not_hoarded() -> None:
    """What is parsed ahead is bounded by what is read at once."""
    with serve() as site, site.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 200)
        most = 0
        for _ in range(200):
            assert client.answer().status == 200
            most = max(most, *(len(conn._queue) for conn in site.conns))
        assert most <= 16384 // 20


def test_many_upgrades_in_one_read() -> None:
    """The parser stops at each of them; whoever went on by recursion would fall over."""
    upgrade = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"
    with serve() as site, site.connect() as client:
        client.send(upgrade * 1000)
        for _ in range(1000):
            assert client.answer().status == 200
        # The same behind a content, which is read in larger pieces.
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20000\r\n\r\n" + b"x" * 100)
        until(lambda: len(site.access) > 1000)
        client.send(b"x" * 19900 + upgrade * 1000)
        for _ in range(1001):
            assert client.answer().status == 200
        assert not site.log.of("error")


def test_field_names_do_not_fill_memory() -> None:
    """What is remembered of heads and hosts is bounded."""
    with serve() as site, site.connect() as client:
        for number in range(3000):
            client.send(b"GET /%d HTTP/1.1\r\nhost: h%d.example\r\nx: %d\r\n\r\n" % (number, number, number))
            if number % 100 == 99:
                for _ in range(100):
                    assert client.answer().status == 200
        assert len(site.server.known_heads) <= 1024
        assert len(site.server.known_lines) <= 4096
        assert len(site.server.sites) <= 4096
