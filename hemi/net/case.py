"""Cases: a condition, and the dealets to run when it holds."""

from __future__ import annotations

from collections.abc import Iterator

from hemi.component import Component, prop
from hemi.net.dealet import Dealet
from hemi.values import Condition, Parts


class Case(Component, kind="cases", sign="case", nested=True):
    """Runs its dealets for the connections that meet its condition, until one deals with the connection.

    When all of them decline, the search goes on with the next case.
    """

    if_: Condition | None = prop(None, "Which connections; all when missing.", inherit=False)
    dealets: Parts[Dealet] = prop([], "What may deal with them, in this order.", inherit=False)

    def check(self) -> Iterator[str | tuple[str, str]]:
        """A case must do something."""
        if not self.dealets:
            yield "must have dealets"
