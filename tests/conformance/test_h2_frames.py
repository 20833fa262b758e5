"""RFC 9113, sections 3, 4 and 6: the preface, field blocks, and frames kind by kind.

Flow control (6.9) is in test_h2_streams.py. The sections are those of the RFC, the cases those that h2spec has.
"""

from __future__ import annotations

import pytest

from tests.conformance.h2kit import broken, opened, reset, works
from tests.h2raw import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
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
    RST_STREAM,
    SETTINGS,
    WITH_PRIORITY,
    Ended,
    RawClient,
    frame,
    settings,
    word,
)
from tests.webkit import Site

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
