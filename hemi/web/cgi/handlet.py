"""What all handlets have in common that pass requests to programs by CGI, over whatever protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hemi.component import prop
from hemi.values import Duration, Path, Size, Template
from hemi.web.cgi.reply import ReplyRules
from hemi.web.errors import HTTPError
from hemi.web.handlet import Handlet
from hemi.web.proxy.spool import Spool

if TYPE_CHECKING:
    from hemi.web.request import Request

__all__ = ["CLIENT_LEFT", "CGIHandlet"]

CLIENT_LEFT = 499
"""What the access log has for clients that left before there was an answer (nginx's number)."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class CGIHandlet(Handlet):
    """Passes requests to programs."""

    params: dict[str, Template] = prop(
        {}, 'Further variables, or other values for these: {APP_ENV: "prod", PHP_VALUE: "memory_limit=1G"}.'
    )
    buffer_request: bool = prop(
        False,
        "Take the whole content of a request before a program gets it. Content of vague size always is, where the "
        "program needs to know its size.",
    )
    buffer_response: bool = prop(False, "Take the whole answer before the client gets it.")
    buffer_memory: Size = prop("256K", "Up to which size in memory, and beyond it on disk, below tmp_dir.")
    max_buffer_size: Size = prop("1G", "Up to which size; what is larger is passed on as it comes.")
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

    def gather(self, req: Request) -> Spool:
        """The whole content of a request. Raises HTTPError 507 when it cannot be stored, ClientGone."""
        spool = Spool(self.buffer_memory, self.stage.dirs.tmp)
        try:
            for data in req:
                try:
                    spool.write(data)
                except OSError as error:
                    raise HTTPError(507, "The content cannot be stored.", close=True) from error
        except BaseException:
            spool.close()
            raise
        return spool
