"""RFC 9113, section by section, frame by frame; the sections are those of the RFC, the cases those that h2spec has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gevent.event import Event

from hemi.web.request import Request
from hemi.web.response import Response
from tests.h2raw import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Ended,
    RawClient,
    frame,
    settings,
    word,
)
from tests.webkit import Site, serve


def app(req: Request, resp: Response) -> bool:
    content = req.content()
    if req.path == "/large":
        resp.send(b"x" * 100_000)
    else:
        resp.send(b"hello " + content, 200)
    return True


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve(app) as running:
        yield running
        assert not running.log.of("error")


@pytest.fixture
def client(site: Site) -> Iterator[RawClient]:
    with RawClient(site) as one:
        yield one


def broken(client: RawClient, *codes: int) -> None:
    """The connection has ended by one of these errors."""
    assert client.goaway().code in codes


def reset(client: RawClient, sid: int, *codes: int) -> None:
    """The stream has ended by one of these errors, and nothing else has."""
    assert client.until(RST_STREAM, sid).code in codes
    assert client.is_alive()


def works(client: RawClient, sid: int, fields: list[tuple[str, str]] = GET) -> None:
    """A request on this stream is answered."""
    client.send(client.headers(sid, fields))
    assert client.response(sid)[0][":status"] == "200"


def opened(client: RawClient, sid: int = 1) -> None:
    """A stream that is open: its request goes on."""
    client.send(client.headers(sid, POST, END_HEADERS))


# 3.4 The connection preface


def test_3_4_our_settings_come_first(site: Site) -> None:
    with RawClient(site, begin=False) as client:
        client.send(PREFACE + settings())
        first = client.frame()
        assert (first.kind, first.flags, first.sid) == (SETTINGS, 0, 0)


@pytest.mark.parametrize("bad", [b"INVALID CONNECTION PREFACE\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"])
def test_3_4_a_wrong_preface_ends_the_connection(site: Site, bad: bytes) -> None:
    with RawClient(site, begin=False) as client:
        client.send(bad)
        with pytest.raises(Ended):
            client.exactly(1 << 20)


def test_3_4_a_preface_in_pieces(site: Site) -> None:
    with RawClient(site, begin=False) as client:
        for at in range(len(PREFACE)):
            client.send(PREFACE[at : at + 1])
        client.send(settings())
        assert client.frame().kind == SETTINGS
        works(client, 1)


# 4.1 The frame format


def test_4_1_unknown_frames_are_ignored(client: RawClient) -> None:
    client.send(frame(0x16, 0xFF, 0, b"1234"), frame(0xEE, 0, 77, b""))
    works(client, 1)


def test_4_1_unknown_flags_are_ignored(client: RawClient) -> None:
    client.send(frame(PING, 0x16, 0, b"12345678"))
    assert client.until(PING).payload == b"12345678"


def test_4_1_the_reserved_bit_is_ignored(client: RawClient) -> None:
    client.send(frame(PING, 0, 0x80000000, b"12345678"))
    assert client.until(PING).flags == ACK


def test_4_1_frames_byte_by_byte(client: RawClient) -> None:
    data = client.headers(1, POST, END_HEADERS) + frame(DATA, END_STREAM, 1, b"abc")
    for at in range(len(data)):
        client.send(data[at : at + 1])
    assert client.response(1)[1] == b"hello abc"


# 4.2 Frame size


def test_4_2_frames_of_the_largest_size(client: RawClient) -> None:
    opened(client)
    client.send(frame(DATA, END_STREAM, 1, b"x" * 16384))
    assert len(client.response(1)[1]) == 16384 + 6


@pytest.mark.parametrize("kind", [DATA, HEADERS, SETTINGS, PING, 0xEE])
def test_4_2_larger_frames(client: RawClient, kind: int) -> None:
    opened(client)
    client.send(frame(kind, 0, 1, b"x" * 16385))
    broken(client, FRAME_SIZE_ERROR)


def test_4_2_their_head_is_enough(client: RawClient) -> None:
    client.send(frame(DATA, 0, 1, b"x" * 20_000)[:9])
    broken(client, FRAME_SIZE_ERROR)


# 4.3 Field blocks


def test_4_3_a_block_that_cannot_be_decoded(client: RawClient) -> None:
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"))
    broken(client, COMPRESSION_ERROR)


@pytest.mark.parametrize(
    "block",
    [b"\x80", b"\xc6\xc6", b"\x3f\xe2\x1f", b"\x82\x20", b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"],
)
def test_4_3_blocks_against_rfc_7541(client: RawClient, block: bytes) -> None:
    """Index 0, an index out of the table, a table larger than allowed, a late change of it, Huffman padding."""
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
    broken(client, COMPRESSION_ERROR)


@pytest.mark.parametrize(
    "between",
    [
        frame(PRIORITY, 0, 1, b"\0\0\0\0\0"),
        frame(PING, 0, 0, b"12345678"),
        frame(HEADERS, END_HEADERS, 3, b"\x82"),
        frame(DATA, 0, 1, b"x"),
        frame(0xEE, 0, 1, b""),
        frame(CONTINUATION, END_HEADERS, 3, b""),
    ],
)
def test_4_3_nothing_comes_into_a_block(client: RawClient, between: bytes) -> None:
    client.send(client.headers(1, GET, END_STREAM), between)
    broken(client, PROTOCOL_ERROR)


def test_4_3_the_table_survives_what_is_refused(client: RawClient) -> None:
    """Blocks are decoded in any case: of refused, reset and closed streams."""
    bad = [*GET, ("connection", "close"), ("x-later", "kept")]
    client.send(client.headers(1, bad))
    reset(client, 1, PROTOCOL_ERROR)
    works(client, 3, [*GET, ("x-later", "kept")])


# 5.1 Stream states


@pytest.mark.parametrize(
    "sent",
    [
        frame(DATA, END_STREAM, 1, b"x"),
        frame(RST_STREAM, 0, 1, word(8)),
        frame(WINDOW_UPDATE, 0, 1, word(100)),
        frame(CONTINUATION, END_HEADERS, 1, b"\x82"),
        frame(DATA, 0, 2, b"x"),
    ],
)
def test_5_1_idle(client: RawClient, sent: bytes) -> None:
    client.send(sent)
    broken(client, PROTOCOL_ERROR)


def test_5_1_half_closed_remote_data(client: RawClient, site: Site) -> None:
    client.send(client.headers(1, [*GET[:2], (":path", "/large"), GET[3]]), frame(DATA, END_STREAM, 1, b"x"))
    reset(client, 1, STREAM_CLOSED)


def test_5_1_half_closed_remote_headers(client: RawClient) -> None:
    client.send(client.headers(1, [*GET[:2], (":path", "/large"), GET[3]]), client.headers(1, [("x", "y")]))
    reset(client, 1, STREAM_CLOSED)


def test_5_1_half_closed_remote_continuation(client: RawClient) -> None:
    client.send(client.headers(1), frame(CONTINUATION, END_HEADERS, 1, b"\x82"))
    broken(client, PROTOCOL_ERROR, STREAM_CLOSED)


@pytest.mark.parametrize("how", ["ended", "reset"])
def test_5_1_closed(client: RawClient, how: str) -> None:
    def close() -> None:
        if how == "ended":
            works(client, 1)
        else:
            opened(client)
            client.send(frame(RST_STREAM, 0, 1, word(8)))
            client.ping()

    close()
    client.send(
        frame(PRIORITY, 0, 1, b"\0\0\0\0\0"),
        frame(WINDOW_UPDATE, 0, 1, word(1)),
        frame(RST_STREAM, 0, 1, word(8)),
    )
    assert client.is_alive()
    client.send(frame(DATA, END_STREAM, 1, b"x"))
    broken(client, STREAM_CLOSED)


def test_5_1_closed_headers(client: RawClient) -> None:
    works(client, 1)
    client.send(client.headers(1))
    broken(client, STREAM_CLOSED)


def test_5_1_what_is_on_its_way_to_a_stream_that_we_reset(client: RawClient) -> None:
    client.send(client.headers(1, [*POST, ("content-length", "1")], END_HEADERS), frame(DATA, 0, 1, b"xx"))
    reset(client, 1, PROTOCOL_ERROR)
    client.send(frame(DATA, 0, 1, b"xx"), client.headers(1, [("late", "trailer")]))
    assert client.is_alive()
    works(client, 3, [*GET, ("late", "trailer")])


@pytest.mark.parametrize("sid", [2, 4])
def test_5_1_1_even_identifiers(client: RawClient, sid: int) -> None:
    client.send(client.headers(sid))
    broken(client, PROTOCOL_ERROR)


def test_5_1_1_smaller_identifiers(client: RawClient) -> None:
    works(client, 5)
    client.send(client.headers(3))
    broken(client, PROTOCOL_ERROR)


def test_5_1_2_too_many_streams(client: RawClient) -> None:
    most = client.settings[3]
    client.send(b"".join(client.headers(2 * number + 1, POST, END_HEADERS) for number in range(most + 1)))
    reset(client, 2 * most + 1, REFUSED_STREAM)
    client.send(frame(DATA, END_STREAM, 1, b"x"))
    assert client.response(1)[1] == b"hello x"
    works(client, 2 * most + 3)


def test_5_3_1_a_stream_that_depends_on_itself(client: RawClient) -> None:
    payload = word(1) + b"\x10" + client.block(GET)
    client.send(frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, payload))
    broken(client, PROTOCOL_ERROR)


def test_5_3_1_priority_that_depends_on_itself(client: RawClient) -> None:
    opened(client)
    client.send(frame(PRIORITY, 0, 1, word(1) + b"\x10"))
    reset(client, 1, PROTOCOL_ERROR)


def test_5_3_2_the_old_priorities_are_ignored(client: RawClient) -> None:
    client.send(
        frame(PRIORITY, 0, 99, word(3) + b"\xff"), frame(PRIORITY, 0, 5, word(0x80000000 | 7) + b"\0")
    )
    payload = word(0x80000003) + b"\x10" + client.block(GET)
    client.send(frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, payload))
    assert client.response(1)[0][":status"] == "200"


def test_5_4_1_an_error_is_told_before_the_end(client: RawClient) -> None:
    works(client, 1)
    client.send(frame(PING, 0, 0, b"short"))
    last = client.goaway()
    assert last.kind == GOAWAY and int.from_bytes(last.payload[:4], "big") == 1
    assert last.code == FRAME_SIZE_ERROR and b"PING" in last.payload[8:]


def test_5_5_unknown_frames_in_a_block(client: RawClient) -> None:
    client.send(client.headers(1, GET, END_STREAM), frame(0xEE, 0, 0, b""))
    broken(client, PROTOCOL_ERROR)


# 6.1 DATA


def test_6_1_data_on_stream_0(client: RawClient) -> None:
    client.send(frame(DATA, END_STREAM, 0, b"x"))
    broken(client, PROTOCOL_ERROR)


@pytest.mark.parametrize("pad", [b"\x05test", b"\xfftest", b"\x04abc"])
def test_6_1_more_padding_than_payload(client: RawClient, pad: bytes) -> None:
    opened(client)
    client.send(frame(DATA, END_STREAM | PADDED, 1, pad))
    broken(client, PROTOCOL_ERROR)


def test_6_1_padding(client: RawClient) -> None:
    opened(client)
    client.send(frame(DATA, PADDED, 1, b"\x03abc\0\0\0"), frame(DATA, END_STREAM | PADDED, 1, b"\x02\0\0"))
    assert client.response(1)[1] == b"hello abc"


# 6.2 HEADERS


def test_6_2_headers_on_stream_0(client: RawClient) -> None:
    client.send(client.headers(0))
    broken(client, PROTOCOL_ERROR)


def test_6_2_more_padding_than_payload(client: RawClient) -> None:
    client.send(frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, b"\xff" + client.block(GET)))
    broken(client, PROTOCOL_ERROR)


def test_6_2_padding_and_priority(client: RawClient) -> None:
    payload = b"\x02" + word(0) + b"\x10" + client.block(GET) + b"\0\0"
    client.send(frame(HEADERS, END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY, 1, payload))
    assert client.response(1)[0][":status"] == "200"


# 6.3 PRIORITY, 6.4 RST_STREAM


def test_6_3_priority_on_stream_0(client: RawClient) -> None:
    client.send(frame(PRIORITY, 0, 0, b"\0\0\0\x01\x10"))
    broken(client, PROTOCOL_ERROR)


def test_6_3_priority_of_another_size(client: RawClient) -> None:
    opened(client)
    client.send(frame(PRIORITY, 0, 1, b"\0\0\0\0"))
    reset(client, 1, FRAME_SIZE_ERROR)


def test_6_4_reset_on_stream_0(client: RawClient) -> None:
    client.send(frame(RST_STREAM, 0, 0, word(8)))
    broken(client, PROTOCOL_ERROR)


def test_6_4_reset_of_another_size(client: RawClient) -> None:
    opened(client)
    client.send(frame(RST_STREAM, 0, 1, b"\0\0\0"))
    broken(client, FRAME_SIZE_ERROR)


# 6.5 SETTINGS


def test_6_5_an_acknowledgment_with_content(client: RawClient) -> None:
    client.send(frame(SETTINGS, ACK, 0, b"\0\0\0\0\0\0"))
    broken(client, FRAME_SIZE_ERROR)


def test_6_5_settings_on_a_stream(client: RawClient) -> None:
    client.send(frame(SETTINGS, 0, 1))
    broken(client, PROTOCOL_ERROR)


def test_6_5_settings_of_another_size(client: RawClient) -> None:
    client.send(frame(SETTINGS, 0, 0, b"\0\0\0"))
    broken(client, FRAME_SIZE_ERROR)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (2, 2, PROTOCOL_ERROR),
        (4, 0x80000000, FLOW_CONTROL_ERROR),
        (5, 16383, PROTOCOL_ERROR),
        (5, 16777216, PROTOCOL_ERROR),
        (8, 2, PROTOCOL_ERROR),
        (9, 2, PROTOCOL_ERROR),
    ],
)
def test_6_5_2_values_out_of_range(client: RawClient, key: int, value: int, code: int) -> None:
    client.send(settings((key, value)))
    broken(client, code)


def test_6_5_2_unknown_settings_are_ignored(client: RawClient) -> None:
    client.send(settings((0xFF, 1)))
    assert client.until(SETTINGS).flags == ACK
    works(client, 1)


def test_6_5_3_settings_are_acknowledged_in_order(client: RawClient) -> None:
    client.send(settings((4, 100), (4, 1)), client.headers(1))
    assert client.until(SETTINGS).flags == ACK
    assert client.until(DATA, 1).payload == b"h"


# 6.6 PUSH_PROMISE, 6.7 PING, 6.8 GOAWAY


def test_6_6_clients_do_not_push(client: RawClient) -> None:
    opened(client)
    client.send(frame(PUSH_PROMISE, END_HEADERS, 1, word(3) + client.block(GET)))
    broken(client, PROTOCOL_ERROR)


def test_6_7_ping(client: RawClient) -> None:
    client.send(frame(PING, 0, 0, b"12345678"))
    assert client.until(PING) == (PING, ACK, 0, b"12345678")


def test_6_7_an_acknowledgment_is_not_answered(client: RawClient) -> None:
    client.send(frame(PING, ACK, 0, b"unasked!"), frame(PING, 0, 0, b"12345678"))
    assert client.until(PING).payload == b"12345678"


def test_6_7_ping_on_a_stream(client: RawClient) -> None:
    client.send(frame(PING, 0, 1, b"12345678"))
    broken(client, PROTOCOL_ERROR)


@pytest.mark.parametrize("payload", [b"", b"1234567", b"123456789"])
def test_6_7_ping_of_another_size(client: RawClient, payload: bytes) -> None:
    client.send(frame(PING, 0, 0, payload))
    broken(client, FRAME_SIZE_ERROR)


def test_6_8_goaway_on_a_stream(client: RawClient) -> None:
    client.send(frame(GOAWAY, 0, 1, word(0) + word(0)))
    broken(client, PROTOCOL_ERROR)


def test_6_8_what_was_begun_is_served_behind_a_goaway(client: RawClient) -> None:
    opened(client)
    client.send(frame(GOAWAY, 0, 0, word(0) + word(NO_ERROR)), frame(DATA, END_STREAM, 1, b"x"))
    assert client.response(1)[1] == b"hello x"


# 6.9 WINDOW_UPDATE and flow control


def test_6_9_an_increment_of_0(client: RawClient) -> None:
    client.send(frame(WINDOW_UPDATE, 0, 0, word(0)))
    broken(client, PROTOCOL_ERROR)


def test_6_9_an_increment_of_0_on_a_stream(client: RawClient) -> None:
    opened(client)
    client.send(frame(WINDOW_UPDATE, 0, 1, word(0)))
    reset(client, 1, PROTOCOL_ERROR)


def test_6_9_of_another_size(client: RawClient) -> None:
    client.send(frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"))
    broken(client, FRAME_SIZE_ERROR)


def test_6_9_1_windows_are_kept_to(client: RawClient) -> None:
    client.send(settings((4, 5)), client.headers(1))
    assert client.until(DATA).payload == b"hello"
    client.send(frame(WINDOW_UPDATE, 0, 1, word(1)))
    assert client.until(DATA) == (DATA, END_STREAM, 1, b" ")


def test_6_9_1_the_window_of_the_connection_is_kept_to(client: RawClient) -> None:
    client.send(settings((4, 1_000_000)), client.headers(1, [*GET[:2], (":path", "/large"), GET[3]]))
    got = 0
    while got < 65535:
        got += len(client.until(DATA).payload)
    assert got == 65535
    client.ping()
    client.send(frame(WINDOW_UPDATE, 0, 0, word(100_000)))
    while got < 100_000:
        got += len(client.until(DATA).payload)


def test_6_9_1_a_window_of_the_connection_that_is_too_large(client: RawClient) -> None:
    client.send(frame(WINDOW_UPDATE, 0, 0, word(0x7FFFFFFF)))
    broken(client, FLOW_CONTROL_ERROR)


def test_6_9_1_a_window_of_a_stream_that_is_too_large(client: RawClient) -> None:
    opened(client)
    client.send(frame(WINDOW_UPDATE, 0, 1, word(0x7FFFFFFF)))
    reset(client, 1, FLOW_CONTROL_ERROR)


def test_6_9_2_settings_change_windows(client: RawClient) -> None:
    client.send(settings((4, 0)), client.headers(1))
    assert client.until(SETTINGS).flags == ACK
    client.send(settings((4, 1)))
    assert client.until(DATA).payload == b"h"


def test_6_9_2_windows_can_be_negative(client: RawClient) -> None:
    client.send(settings((4, 3)), client.headers(1))
    assert client.until(DATA).payload == b"hel"
    client.send(settings((4, 2)), frame(WINDOW_UPDATE, 0, 1, word(2)))
    assert client.until(DATA).payload == b"l"


def test_6_9_2_a_window_that_settings_make_too_large(client: RawClient) -> None:
    opened(client)
    client.send(frame(WINDOW_UPDATE, 0, 1, word(0x7FFFFFFF - 65535)), settings((4, 65536)))
    broken(client, FLOW_CONTROL_ERROR)


def test_6_9_our_windows_are_kept_to() -> None:
    go = Event()

    def waiting(req: Request, resp: Response) -> bool:
        go.wait(10)
        return app(req, resp)

    with serve(waiting, address="127.0.0.2:0") as site, RawClient(site) as client:
        opened(client)
        for _ in range(client.settings[4] // 16384 + 1):
            client.send(frame(DATA, 0, 1, b"x" * 16384))
        reset(client, 1, FLOW_CONTROL_ERROR)
        go.set()
        works(client, 3)


# 6.10 CONTINUATION


def test_6_10_blocks_in_many_frames(client: RawClient) -> None:
    block = client.block(GET)
    pieces = [frame(CONTINUATION, 0, 1, block[at : at + 1]) for at in range(1, len(block))]
    client.send(
        frame(HEADERS, END_STREAM, 1, block[:1]), *pieces[:7], frame(CONTINUATION, END_HEADERS, 1, block[8:])
    )
    assert client.response(1)[0][":status"] == "200"


def test_6_10_on_stream_0(client: RawClient) -> None:
    client.send(client.headers(1, GET, END_STREAM), frame(CONTINUATION, END_HEADERS, 0, b"\x82"))
    broken(client, PROTOCOL_ERROR)


@pytest.mark.parametrize("flags", [0, END_HEADERS])
def test_6_10_behind_a_block(client: RawClient, flags: int) -> None:
    client.send(client.headers(1), frame(CONTINUATION, flags, 1, b"\x82"))
    broken(client, PROTOCOL_ERROR)


def test_6_10_behind_data(client: RawClient) -> None:
    opened(client)
    client.send(frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, b"\x82"))
    broken(client, PROTOCOL_ERROR)


# 7 Error codes


def test_7_unknown_codes_are_nothing_special(client: RawClient) -> None:
    opened(client)
    client.send(frame(RST_STREAM, 0, 1, word(0xFF)))
    works(client, 3)
    client.send(frame(GOAWAY, 0, 0, word(0) + word(0xFF)))
    assert client.is_alive()


# 8 Messages


def test_8_1_trailers(client: RawClient) -> None:
    opened(client)
    client.send(frame(DATA, 0, 1, b"abc"), client.headers(1, [("x-sum", "1")]))
    assert client.response(1)[1] == b"hello abc"


def test_8_1_headers_in_the_middle(client: RawClient) -> None:
    opened(client)
    client.send(client.headers(1, [("x-sum", "1")], END_HEADERS))
    reset(client, 1, PROTOCOL_ERROR)


def test_8_1_pseudo_fields_among_trailers(client: RawClient) -> None:
    opened(client)
    client.send(client.headers(1, [(":method", "GET")]))
    reset(client, 1, PROTOCOL_ERROR)


AUTHORITY = (":authority", "a.example")

MALFORMED: dict[str, list[tuple[str, str]]] = {
    "upper-case": [*GET, ("X-TEST", "ok")],
    "space-in-name": [*GET, ("x test", "ok")],
    "colon-in-name": [*GET, ("x:test", "ok")],
    "empty-name": [*GET, ("", "ok")],
    "control-in-name": [*GET, ("x\0test", "ok")],
    "high-byte-in-name": [*GET, ("x\u00fc", "ok")],
    "nul-in-value": [*GET, ("x", "a\0b")],
    "cr-in-value": [*GET, ("x", "a\rb")],
    "lf-in-value": [*GET, ("x", "a\nb")],
    "crlf-in-value": [*GET, ("x", "a\r\nhost: b")],
    "space-before-value": [*GET, ("x", " a")],
    "tab-behind-value": [*GET, ("x", "a\t")],
    "unknown-pseudo": [*GET, (":test", "ok")],
    "unknown-pseudo-first": [(":test", "ok"), *GET],
    "response-pseudo": [(":status", "200"), *GET],
    "late-pseudo": [*GET[:2], GET[3], ("x", "ok"), GET[2]],
    "connection": [*GET, ("connection", "keep-alive")],
    "proxy-connection": [*GET, ("proxy-connection", "keep-alive")],
    "keep-alive": [*GET, ("keep-alive", "1")],
    "transfer-encoding": [*GET, ("transfer-encoding", "chunked")],
    "upgrade": [*GET, ("upgrade", "h2c")],
    "te": [*GET, ("te", "trailers, deflate")],
    "no-method": GET[1:],
    "no-scheme": [GET[0], *GET[2:]],
    "no-path": [*GET[:2], AUTHORITY],
    "empty-path": [*GET[:2], (":path", ""), AUTHORITY],
    "empty-method": [(":method", ""), *GET[1:]],
    "method-with-space": [(":method", "GET / HTTP/1.1\r\nx:"), *GET[1:]],
    "two-methods": [GET[0], *GET],
    "two-schemes": [*GET[:2], GET[1], *GET[2:]],
    "two-paths": [*GET[:3], GET[2], GET[3]],
    "two-authorities": [*GET, AUTHORITY],
    "crlf-in-path": [*GET[:2], (":path", "/\r\nx: y"), AUTHORITY],
    "crlf-in-authority": [*GET[:3], (":authority", "a\r\nx: y")],
    "another-host": [*GET, ("host", "b.example")],
    "two-hosts": [*GET[:3], ("host", "a.example"), ("host", "a.example")],
    "length-without-content": [*GET, ("content-length", "1")],
    "length-that-is-no-number": [*GET, ("content-length", "+1")],
    "two-lengths-in-one": [*GET, ("content-length", "0, 0")],
    "connect-with-path": [(":method", "CONNECT"), *GET[1:]],
    "connect-without-authority": [(":method", "CONNECT")],
    "protocol-of-get": [*GET, (":protocol", "websocket")],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_8_1_1_malformed(client: RawClient, fields: list[tuple[str, str]]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    client.send(client.headers(1, raw))  # type: ignore[arg-type]
    reset(client, 1, PROTOCOL_ERROR)
    works(client, 3)


@pytest.mark.parametrize(
    ("content", "promised"), [([b"test"], 1), ([b"test"], 5), ([b"te", b"st"], 3), ([b""], 1)]
)
def test_8_1_1_content_of_another_length(client: RawClient, content: list[bytes], promised: int) -> None:
    client.send(client.headers(1, [*POST, ("content-length", str(promised))], END_HEADERS))
    for number, piece in enumerate(content, 1):
        client.send(frame(DATA, END_STREAM if number == len(content) else 0, 1, piece))
    reset(client, 1, PROTOCOL_ERROR)


def test_8_1_1_content_of_another_length_with_trailers(client: RawClient) -> None:
    client.send(client.headers(1, [*POST, ("content-length", "5")], END_HEADERS), frame(DATA, 0, 1, b"test"))
    client.send(client.headers(1, [("x", "y")]))
    reset(client, 1, PROTOCOL_ERROR)


REFUSED = {
    "no-authority": (GET[:3], "400"),
    "bad-authority": ([*GET[:3], (":authority", "user@a.example")], "400"),
    "bad-path": ([*GET[:2], (":path", "/a b"), AUTHORITY], "400"),
    "path-without-slash": ([*GET[:2], (":path", "index"), AUTHORITY], "400"),
    "whole-uri": ([*GET[:2], (":path", "http://a.example/"), AUTHORITY], "400"),
    "climbing": ([*GET[:2], (":path", "/../x"), AUTHORITY], "400"),
    "asterisk": ([*GET[:2], (":path", "*"), AUTHORITY], "400"),
    "scheme": ([GET[0], (":scheme", "ftp"), *GET[2:]], "400"),
    "two-types": ([*GET, ("content-type", "a/b"), ("content-type", "a/c")], "400"),
    "expectation": ([*GET, ("expect", "wonders")], "417"),
    "long-path": ([*GET[:2], (":path", "/" + "x" * 9000), AUTHORITY], "414"),
    "connect": ([(":method", "CONNECT"), (":authority", "a.example:443")], "501"),
    "no-such-protocol": (
        [(":method", "CONNECT"), (":protocol", "foo"), *GET[1:]],
        "501",
    ),
    "many-fields": ([*GET, *[(f"x-{number}", "y") for number in range(101)]], "431"),
    "large-fields": ([*GET, *[(f"x-{number}", "y" * 1000) for number in range(40)]], "431"),
}


@pytest.mark.parametrize(("fields", "status"), REFUSED.values(), ids=REFUSED)
def test_8_3_what_is_answered_by_a_refusal(
    client: RawClient, fields: list[tuple[str, str]], status: str
) -> None:
    block = client.block(fields)
    pieces = [block[at : at + 16384] for at in range(0, len(block), 16384)]
    flags = END_HEADERS if len(pieces) == 1 else 0
    client.send(frame(HEADERS, END_STREAM | flags, 1, pieces[0]))
    for number, piece in enumerate(pieces[1:], 2):
        client.send(frame(CONTINUATION, END_HEADERS if number == len(pieces) else 0, 1, piece))
    assert client.response(1)[0][":status"] == status
    works(client, 3)


def test_8_2_3_cookies_are_joined() -> None:
    seen: list[Request] = []

    def note(req: Request, resp: Response) -> bool:
        seen.append(req)
        resp.send(req.cookie("b") or "")
        return True

    with serve(note, address="127.0.0.2:0") as site, RawClient(site) as client:
        client.send(
            client.headers(1, [*GET, ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")])
        )
        assert client.response(1)[1] == b"2"
        assert seen[0].index[b"cookie"] == b"a=1; b=2; c=3"
        assert [name for name, _ in seen[0].fields] == [b"host", b"x", b"cookie"]


def test_8_3_1_host_alone_and_equal_to_the_authority(client: RawClient) -> None:
    works(client, 1, [*GET[:3], ("host", "a.example")])
    works(client, 3, [*GET, ("host", "A.EXAMPLE")])


def test_10_5_1_heads_beyond_all_limits_end_the_connection(client: RawClient) -> None:
    client.send(client.headers(1, GET, END_STREAM))
    for _ in range(20):
        client.send(frame(CONTINUATION, 0, 1, b"\x00\x01x\x7f\x80\x7d" + b"y" * 16128))
    broken(client, ENHANCE_YOUR_CALM)
