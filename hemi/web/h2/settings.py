"""Settings: those that a peer tells us, held against their limits, and ours as a frame (RFC 9113 §6.5, 8441, 9218)."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from hemi.web.h2.errors import FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, ConnectionFault
from hemi.web.h2.frames import ACK, LEAST_FRAME, MAX_WINDOW, MOST_FRAME, SETTINGS, frame

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6
ENABLE_CONNECT_PROTOCOL = 0x8
NO_RFC7540_PRIORITIES = 0x9

DEFAULT_WINDOW = 65535
"""The window of streams before SETTINGS, and of the connection, in bytes (RFC 9113 §6.9.2)."""

SETTINGS_ACK = frame(SETTINGS, ACK, 0)

_PAIR = Struct(">HI")


class Limit(NamedTuple):
    """The values that a setting may have, and the error code for others."""

    name: str
    least: int
    most: int
    code: int


LIMITS: dict[int, Limit] = {
    ENABLE_PUSH: Limit("ENABLE_PUSH", 0, 1, PROTOCOL_ERROR),
    INITIAL_WINDOW_SIZE: Limit("INITIAL_WINDOW_SIZE", 0, MAX_WINDOW, FLOW_CONTROL_ERROR),
    MAX_FRAME_SIZE: Limit("MAX_FRAME_SIZE", LEAST_FRAME, MOST_FRAME, PROTOCOL_ERROR),
    ENABLE_CONNECT_PROTOCOL: Limit("ENABLE_CONNECT_PROTOCOL", 0, 1, PROTOCOL_ERROR),
    NO_RFC7540_PRIORITIES: Limit("NO_RFC7540_PRIORITIES", 0, 1, PROTOCOL_ERROR),
}


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """The settings of a frame, in order. Raises ConnectionFault for values that must not be; unknown ones pass."""
    if len(payload) % 6:
        raise ConnectionFault(FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    pairs = list(_PAIR.iter_unpack(payload))
    for key, value in pairs:
        limit = LIMITS.get(key)
        if limit is not None and not limit.least <= value <= limit.most:
            raise ConnectionFault(limit.code, f"the setting {limit.name} of {value}")
    return pairs


def settings_frame(pairs: Iterable[tuple[int, int]]) -> bytes:
    """SETTINGS."""
    return frame(SETTINGS, 0, 0, b"".join([_PAIR.pack(key, value) for key, value in pairs]))
