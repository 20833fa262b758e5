"""Error codes have names, and errors say their scope."""

from __future__ import annotations

from hemi.web.h2 import errors
from hemi.web.h2.errors import ConnectionFault, StreamFault, name_of


def test_names() -> None:
    assert name_of(errors.PROTOCOL_ERROR) == "PROTOCOL_ERROR"
    assert name_of(errors.HTTP_1_1_REQUIRED) == "HTTP_1_1_REQUIRED"
    assert name_of(0xEE) == "code 0xee"
    for code, name in enumerate(errors.NAMES):
        assert getattr(errors, name) == code


def test_faults_say_what_and_where() -> None:
    fault = ConnectionFault(errors.FRAME_SIZE_ERROR, "PING of 3 bytes")
    assert str(fault) == "FRAME_SIZE_ERROR: PING of 3 bytes" and fault.text == "PING of 3 bytes"
    assert str(StreamFault(3, errors.CANCEL, "why")) == "stream 3: CANCEL: why"
