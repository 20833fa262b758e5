"""What all handlets have in common that pass requests to programs by CGI, over whatever protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hemi.component import prop
from hemi.values import Duration, Path, Template
from hemi.web.cgi.reply import ReplyRules
from hemi.web.handlet import Handlet
from hemi.web.proxy.spool import Buffering

__all__ = ["CGIHandlet"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class CGIHandlet(Buffering, Handlet):
    """Passes requests to programs."""

    params: dict[str, Template] = prop(
        {}, 'Further variables, or other values for these: {APP_ENV: "prod", PHP_VALUE: "memory_limit=1G"}.'
    )
    buffer_request = prop(
        False,
        "Take the whole content of a request before a program gets it. Content of vague size always is, where the "
        "program needs to know its size.",
    )
    head_timeout: Duration = prop(
        "60s", "How long a program may take for the head of its answer.", least="10ms"
    )
    read_timeout: Duration = prop("60s", "How long a program may send nothing of a content.", least="10ms")
    total_timeout: Duration = prop("0s", "How long all tries, and the answer, may take; 0 is any.")
    ignore_client_abort: bool = prop(False, "Let programs finish their work when the client has left.")
    send_files: dict[str, Path] = prop(
        {},
        "Where X-Accel-Redirect and X-Sendfile of answers may lead: paths, and the folders that stand for them, "
        "{/protected/: var/files}. Files elsewhere are not sent.",
        inherit=False,
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Names must be such."""
        for name in self.params:
            if _VARIABLE.fullmatch(name) is None:
                yield "params", f'must have names such as APP_ENV, not "{name}"'
        for prefix in self.send_files:
            if not prefix.startswith("/"):
                yield "send_files", f'must have paths that start with "/", not "{prefix}"'

    def make_reply_rules(self, max_head: int) -> ReplyRules:
        """What its properties say about answers."""
        return ReplyRules(
            self.stage.fcache,
            self.stage.dirs.tmp,
            max_head,
            self.buffer_response,
            self.buffer_memory,
            self.max_buffer_size,
            tuple(sorted(self.send_files.items(), key=lambda pair: -len(pair[0]))),
        )
