"""permessage-deflate: what is agreed on, and that nothing inflates beyond what is asked for."""

from __future__ import annotations

import pytest

from hemi.web.websocket import deflate as module
from hemi.web.websocket.deflate import Inflater, agree, deflate
from hemi.web.websocket.frames import Failure

NONE = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ([], None),
        (["permessage-deflate"], (NONE, 15)),
        (["permessage-deflate; client_max_window_bits"], (NONE, 15)),
        (["permessage-deflate;client_max_window_bits=10;client_no_context_takeover"], (NONE, 15)),
        (["permessage-deflate; server_max_window_bits=10"], (f"{NONE}; server_max_window_bits=10", 10)),
        (['permessage-deflate; server_max_window_bits="12"'], (f"{NONE}; server_max_window_bits=12", 12)),
        (["permessage-deflate; server_max_window_bits=8"], None),
        (["permessage-deflate; server_max_window_bits=8", "permessage-deflate"], (NONE, 15)),
        (["x-webkit-deflate-frame", "permessage-deflate"], (NONE, 15)),
        (["permessage-deflate; server_max_window_bits"], None),
        (["permessage-deflate; server_max_window_bits=16"], None),
        (["permessage-deflate; server_max_window_bits=010"], None),
        (["permessage-deflate; client_max_window_bits=7"], None),
        (["permessage-deflate; server_no_context_takeover=1"], None),
        (["permessage-deflate; unknown"], None),
        (["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
        (["permessage-deflate; server_max_window_bits=1x"], None),
    ],
)
def test_agreements(offers: list[str], answer: tuple[str, int] | None) -> None:
    assert agree(offers) == answer


@pytest.mark.parametrize("bits", [9, 12, 15])
@pytest.mark.parametrize("data", [b"", b"x", b"hello " * 1000, bytes(100_000)])
def test_there_and_back(bits: int, data: bytes) -> None:
    inflater = Inflater()
    for _ in range(2):
        inflater.begin()
        assert inflater.update(deflate(data, bits), len(data)) + inflater.finish(len(data)) == data


def test_large_ones_go_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_THREAD", 10)
    inflater = Inflater()
    inflater.begin()
    assert inflater.update(deflate(b"x" * 100, 15), 100) + inflater.finish(100) == b"x" * 100


def test_no_more_than_asked_for() -> None:
    bomb = deflate(bytes(50_000_000), 15)
    assert len(bomb) < 60_000
    inflater = Inflater()
    inflater.begin()
    with pytest.raises(Failure, match="1009"):
        inflater.update(bomb, 1000)
