"""RFC 9113, sections 5, 6.9 and 7: states of streams, priorities, errors, flow control.

The sections are those of the RFC, the cases those that h2spec has.
"""

from __future__ import annotations

import pytest
from gevent.event import Event

from hemi.web.request import Request
from hemi.web.response import Response
from tests.conformance.h2kit import app, broken, opened, reset, works
from tests.h2raw import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    GOAWAY,
    HEADERS,
    PING,
    POST,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    RawClient,
    frame,
    settings,
    word,
)
from tests.webkit import Site, serve

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


# 7 Error codes


def test_7_unknown_codes_are_nothing_special(client: RawClient) -> None:
    opened(client)
    client.send(frame(RST_STREAM, 0, 1, word(0xFF)))
    works(client, 3)
    client.send(frame(GOAWAY, 0, 0, word(0) + word(0xFF)))
    assert client.is_alive()
