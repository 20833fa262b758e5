"""The properties of what serves WebSockets."""

from __future__ import annotations

import pytest

from hemi.errors import ConfigError
from tests.web.websocket.wskit import serving


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"origins": ["http://a b"]},
            'must have origins like https://a.example, hosts, or "*", not "http://a b"',
        ),
        ({"origins": ["https://a.example/"]}, "must have origins"),
        ({"subprotocols": ["a b"]}, 'must have tokens, not "a b"'),
        ({"subprotocols": ["a", "a"]}, "must not name one twice"),
        ({"max_message_size": "0"}, "max_message_size must be"),
    ],
)
def test_problems(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("*", r"\*")), serving(**given):
        pass


def test_they_are_inherited() -> None:
    with serving(_webapp={"max_message_size": "10K"}) as site:
        (webapp,) = site.stage.members["webapps"].values()
        socklet = webapp.rules[0].socklets[0]  # type: ignore[attr-defined]
        assert socklet.max_message_size == 10240
