"""Field blocks of a connection: what is remembered of them, and for how long."""

from __future__ import annotations

from typing import Any

from hemi.web.h2.opening import KNOWN_SIZE, Block, note_id
from hemi.web.request import Request
from hemi.web.response import Response
from tests.h2raw import END_HEADERS, END_STREAM, GET, HEADERS, RawClient, frame
from tests.webkit import Site, serve, until

seen: list[Request] = []


def app(req: Request, resp: Response) -> bool:
    seen.append(req)
    resp.send(req.header("x-number") or "none")
    return True


def conn_of(site: Site) -> Any:
    (conn,) = until(lambda: site.conns)
    return conn


def ask(client: RawClient, sid: int, block: bytes) -> bytes:
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, sid, block))
    return client.response(sid)[1]


def test_a_block_of_indices_is_decoded_once() -> None:
    with serve(app) as site, RawClient(site) as client:
        conn = conn_of(site)
        blocks = [client.block([*GET, ("x-number", "7")]) for _ in range(3)]
        assert blocks[0] != blocks[1] == blocks[2]
        seen.clear()
        for number, block in enumerate(blocks):
            assert ask(client, 2 * number + 1, block) == b"7"
        generation, memo = conn.memo
        assert generation == conn.decoder.table.generation and list(memo) == [blocks[1]]
        assert seen[1].fields is seen[2].fields and seen[1].index is seen[2].index


def test_the_same_bytes_mean_something_else_behind_a_change_of_the_table() -> None:
    """Index 62 is the newest entry: here first x-number of 1, then of 2."""
    head = b"\x82\x86\x84\x01\x09a.example"
    with serve(app) as site, RawClient(site) as client:
        assert ask(client, 1, head + b"\x40\x08x-number\x011") == b"1"
        for sid in (3, 5):
            assert ask(client, sid, head + b"\xbe") == b"1"
        assert ask(client, 7, head + b"\x40\x08x-number\x012") == b"2"
        for sid in (9, 11):
            assert ask(client, sid, head + b"\xbe") == b"2"


def test_an_emptied_table_makes_them_void() -> None:
    with serve(app) as site, RawClient(site) as client:
        conn = conn_of(site)
        client.send(client.headers(1, [*GET, ("x-number", "1")]))
        client.response(1)
        block = client.block([*GET, ("x-number", "1")])
        assert ask(client, 3, block) == b"1" and conn.memo[1]
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 5, b"\x20" + block))
        assert client.goaway().code == 9  # COMPRESSION_ERROR: the entries are gone


def test_large_blocks_and_refusals_are_not_remembered() -> None:
    with serve(app) as site, RawClient(site) as client:
        conn = conn_of(site)
        literal = b"\x82\x86\x84\x01\x09a.example"
        assert ask(client, 1, literal + b"\x00\x01x\x7f\xd1\x0f" + b"y" * 2128) == b"none"
        assert not conn.memo[1] and KNOWN_SIZE < 2128
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, literal + b"\x00\x06expect\x01x"))
        assert client.response(3)[0][":status"] == "417"
        assert not conn.memo[1]
        assert ask(client, 5, literal) == b"none"
        assert list(conn.memo[1]) == [literal]
        conn.forget()
        assert not conn.memo[1]
        assert ask(client, 7, literal) == b"none"


def test_identifiers() -> None:
    with serve(app) as site, RawClient(site) as client:
        conn = conn_of(site)
        note_id(conn, 1)
        note_id(conn, 3)
        assert conn.last_id == 3 and not conn.skipped
        note_id(conn, 9)
        assert conn.last_id == 9 and conn.skipped == {5, 7}
        note_id(conn, 5)
        assert conn.last_id == 9
        note_id(conn, 0x7FFFFFFF)
        assert len(conn.skipped) < 3000
        client.sock.close()


def test_blocks_that_arrive_in_pieces() -> None:
    block = Block(3, END_STREAM, b"abc")
    assert (block.sid, block.flags, block.pieces, block.size) == (3, END_STREAM, [b"abc"], 3)
