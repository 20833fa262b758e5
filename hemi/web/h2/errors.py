"""What can go wrong with HTTP/2 itself: error codes (RFC 9113 §7), and the two scopes of an error (§5.4)."""

from __future__ import annotations

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
SETTINGS_TIMEOUT = 0x4
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
CONNECT_ERROR = 0xA
ENHANCE_YOUR_CALM = 0xB
INADEQUATE_SECURITY = 0xC
HTTP_1_1_REQUIRED = 0xD

NAMES = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)


def name_of(code: int) -> str:
    """The name of an error code; unknown ones mean nothing special (RFC 9113 §7)."""
    return NAMES[code] if code < len(NAMES) else f"code {code:#x}"


class ConnectionFault(Exception):
    """An error that ends the connection, with a GOAWAY that has the code and the text (RFC 9113 §5.4.1)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{name_of(code)}: {text}")
        self.code = code
        self.text = text


class StreamFault(Exception):
    """An error that ends a stream, with an RST_STREAM that has the code (RFC 9113 §5.4.2)."""

    def __init__(self, sid: int, code: int, text: str) -> None:
        super().__init__(f"stream {sid}: {name_of(code)}: {text}")
        self.sid = sid
        self.code = code
        self.text = text


class Malformed(Exception):
    """A message whose fields HTTP/2 does not allow (RFC 9113 §8.1.1): a stream error of PROTOCOL_ERROR."""
