"""Settings: there and back, and what must not be."""

from __future__ import annotations

import pytest

from hemi.web.h2 import settings
from hemi.web.h2.errors import FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, ConnectionFault


def test_there_and_back() -> None:
    pairs = [(settings.MAX_CONCURRENT_STREAMS, 7), (0xABCD, 0xFFFFFFFF), (settings.ENABLE_PUSH, 0)]
    data = settings.settings_frame(pairs)
    assert data[:9] == b"\0\0\x12\x04\0\0\0\0\0"
    assert settings.parse_settings(data[9:]) == pairs
    assert settings.parse_settings(b"") == []


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (settings.ENABLE_PUSH, 2, PROTOCOL_ERROR),
        (settings.INITIAL_WINDOW_SIZE, 1 << 31, FLOW_CONTROL_ERROR),
        (settings.MAX_FRAME_SIZE, 1, PROTOCOL_ERROR),
    ],
)
def test_values_out_of_range(key: int, value: int, code: int) -> None:
    with pytest.raises(ConnectionFault) as error:
        settings.parse_settings(settings.settings_frame([(key, value)])[9:])
    assert error.value.code == code and str(value) in error.value.text


def test_another_size() -> None:
    with pytest.raises(ConnectionFault) as error:
        settings.parse_settings(b"1234567")
    assert error.value.code == FRAME_SIZE_ERROR
