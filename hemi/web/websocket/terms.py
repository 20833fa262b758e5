"""The terms on which WebSockets are accepted and kept: properties of whatever serves them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hemi.component import Component, prop
from hemi.values import Duration, Size
from hemi.web.fields import is_token

__all__ = ["WebSocketTerms"]

_ORIGIN = re.compile(
    r"\*|null|(?:[a-z][a-z0-9+.-]*://)?(?:\*\.)?(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
)


class WebSocketTerms(Component):
    """What all components have in common that serve WebSockets."""

    origins: list[str] = prop(
        [],
        "Sites whose pages may open WebSockets, besides the site itself: https://a.example, a.example, *.a.example,"
        ' or "*" for any.',
    )
    subprotocols: list[str] = prop(
        [],
        "The subprotocols that are spoken; of those that a client offers, the first one of these is chosen.",
        inherit=False,
    )
    max_message_size: Size = prop(
        "16M", "The largest message that is taken, inflated; a larger one ends the WebSocket (1009).", least=1
    )
    max_frame_size: Size = prop("16M", "The largest frame that is taken.", least=126)
    max_queue_size: Size = prop(
        "1M", "How much may wait to be sent to a client that is slow to take it.", least="1K"
    )
    ping_interval: Duration = prop(
        "20s", "After how long a silent client is asked whether it is still there; 0 is never.", least="0s"
    )
    ping_timeout: Duration = prop("20s", "How long it may take to answer then.", least="10ms")
    idle_timeout: Duration = prop(
        "0s",
        "After how long without a message, in either direction, a WebSocket is closed (1001); 0 is never.",
        least="0s",
    )
    close_timeout: Duration = prop("5s", "How long a client may take to agree to the end.", least="10ms")
    deflate: bool = prop(True, "Compress messages of 256 bytes and more (permessage-deflate).")

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Origins and subprotocols must be such."""
        for origin in self.origins:
            if _ORIGIN.fullmatch(origin.lower()) is None:
                yield "origins", f'must have origins like https://a.example, hosts, or "*", not "{origin}"'
        for name in self.subprotocols:
            if not is_token(name.encode()):
                yield "subprotocols", f'must have tokens, not "{name}"'
        if len(set(self.subprotocols)) != len(self.subprotocols):
            yield "subprotocols", "must not name one twice"
