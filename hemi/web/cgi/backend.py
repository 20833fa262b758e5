"""What the backends of FastCGI, SCGI and uwsgi share: their exchanges, which end when their clients leave."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from hemi.component import prop
from hemi.upstream.backend import Backend
from hemi.upstream.pool import Conn
from hemi.values import Size
from hemi.web.variables import REQUEST_SCOPE

__all__ = ["CGIBackend"]


class Exchange(Protocol):
    """What the backend looks after."""

    def is_abandoned(self) -> bool: ...

    def cancel(self) -> None: ...


class CGIBackend(Backend):
    """A group of servers that speak one of the protocols."""

    conn_class: ClassVar[type[Conn]] = Conn
    scope = REQUEST_SCOPE

    max_head_size: Size = prop("64K", "The largest head of an answer.", least="1K", most="1M", inherit=False)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.exchanges: set[Exchange] = set()

    def tick(self, now: float) -> None:
        """Also looks after clients that have left: a node should not work for nobody."""
        super().tick(now)
        for exchange in [one for one in self.exchanges if one.is_abandoned()]:
            exchange.cancel()
