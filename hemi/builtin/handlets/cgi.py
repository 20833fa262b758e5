"""The handlet `cgi`: runs a program for each request (RFC 3875).

Queries are never given to programs as arguments (RFC 3875 §4.4): php-cgi and others took options from them
(CVE-2012-1823).
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from hemi.component import prop
from hemi.values import Duration, Path, Size
from hemi.web.cgi.handlet import CGIHandlet
from hemi.web.cgi.run import Command, Programs, Run
from hemi.web.cgi.variables import Script, Variables, check_script_name, mounted
from hemi.web.errors import HTTPError

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["CGI"]

PATH = "/usr/local/bin:/usr/bin:/bin"
"""What programs get as PATH, unless `params` says otherwise."""

_PLAIN = re.compile(r"[A-Za-z0-9_]+")


class CGI(CGIHandlet, sign="cgi"):
    """Runs a program for each request: the file below web_root that the path names, or always the same program.

    Programs get nothing of this process but the request: a clean environment, pipes, a process group of their own,
    which is ended with SIGTERM and SIGKILL when a timeout has passed or the client has left.
    """

    web_root: Path | None = prop(None, "The folder of the scripts: DOCUMENT_ROOT.")
    program: Path | None = prop(None, "The program for all requests.", inherit=False)
    args: list[str] = prop([], "Its arguments.", inherit=False)
    script_name: str = prop(
        "",
        "Where the program is mounted, such as /git: SCRIPT_NAME. The rest of the path is PATH_INFO; requests outside "
        "of it are declined.",
        inherit=False,
    )
    index_file: str = prop("", "The script for a path that names a folder; none when empty.", inherit=False)
    suffixes: list[str] = prop([], "Scripts must end so, such as .cgi; others are declined.", inherit=False)
    interpreters: dict[str, Path] = prop(
        {},
        "Programs that run scripts, by suffix: {.php: /usr/bin/php-cgi}. Others must be executable.",
        inherit=False,
    )
    symlinks: Literal["within_root", "always", "never"] = prop(
        "within_root",
        "Which symbolic links are followed: those that end below the root, all of them, none.",
    )
    fallthrough: bool = prop(False, "Decline what is not there, instead of answering 404.", inherit=False)
    working_dir: Path | None = prop(
        None, "The working directory of programs; their own folder when missing.", inherit=False
    )
    pass_authorization: bool = prop(
        False, "Give programs HTTP_AUTHORIZATION, and so the users' passwords (RFC 3875 §9.2)."
    )
    stream_vague: bool = prop(
        False,
        "Pass on content of vague size as it arrives, without a CONTENT_LENGTH: up to the end of stdin.",
    )
    max_head_size: Size = prop("64K", "The largest head of an answer.", least="1K", most="1M", inherit=False)
    max_processes: int = prop(16, "How many programs may run at a time, per worker.", least=1, inherit=False)
    queue_size: int = prop(100, "How many requests may wait for one of them to end.", least=0, inherit=False)
    queue_timeout: Duration = prop("10s", "How long a request may wait for that.", inherit=False)
    max_cpu_time: Duration = prop(
        "0s", "The CPU time of a program, in whole seconds; 0 is any.", inherit=False
    )
    max_memory: Size = prop("0", "The address space of a program, in bytes; 0 is any.", inherit=False)
    max_open_files: int = prop(0, "The open files of a program; 0 is any.", least=0, inherit=False)
    max_file_size: Size = prop("0", "The largest file that a program may write; 0 is any.", inherit=False)

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What does not fit together, and programs that are not there."""
        yield from super().check()
        if self.web_root is None and self.program is None:
            yield "needs web_root or program"
        if self.program is None and (self.args or self.script_name):
            yield "args and script_name are for a program"
        yield from check_script_name(self.script_name)
        if self.index_file.startswith((".", "/")) or "/" in self.index_file:
            yield "index_file", f'must be the name of a file, not "{self.index_file}"'
        for suffix in (*self.suffixes, *self.interpreters):
            if not suffix.startswith("."):
                yield (
                    "suffixes" if suffix in self.suffixes else "interpreters",
                    f'must be like .cgi, not "{suffix}"',
                )
        programs = [("program", self.program)] if self.program is not None else []
        for key, path in (*programs, *(("interpreters", path) for path in self.interpreters.values())):
            if not (path and os.path.isfile(path) and os.access(path, os.X_OK)):
                yield key, f'must be an executable file, not "{path}"'
        if self._limits() and shutil.which("prlimit", path=f"{PATH}:/usr/sbin:/sbin") is None:
            yield "limits need the program prlimit (of util-linux)"

    def _limits(self) -> list[str]:
        limits = {
            "cpu": math.ceil(self.max_cpu_time),
            "as": self.max_memory,
            "nofile": self.max_open_files,
            "fsize": self.max_file_size,
        }
        return [f"--{name}={limit}" for name, limit in limits.items() if limit]

    def prepare(self) -> None:
        """Lays out what is the same for all requests."""
        self._prefix: list[str] = []
        if limits := self._limits():
            self._prefix = [
                shutil.which("prlimit", path=f"{PATH}:/usr/sbin:/sbin") or "prlimit",
                *limits,
                "--",
            ]
        self._variables = Variables(self.web_root or "", tuple(self.params.items()))
        self._reply_rules = self.make_reply_rules(self.max_head_size)
        self._base = (self.web_root or "").rstrip("/")
        self._follow: Any = {"within_root": "root"}.get(self.symlinks, self.symlinks)
        self.programs = Programs(self.max_processes, self.queue_size, self.queue_timeout)

    def stop(self, deadline: float) -> None:
        """Ends the programs that still run."""
        if hasattr(self, "programs"):
            self.programs.stop(deadline)

    def handle(self, req: Request, resp: Response) -> bool:
        """Runs the program that the path names."""
        if req.path[:1] != "/":
            return False
        if self.program is not None:
            script = mounted(req.path, self.script_name)
            if script is None:
                return False
            script = script._replace(file=self.program)
            command = [self.program, *self.args]
        else:
            script = self._find(req.path)
            if script is None:
                if self.fallthrough:
                    return False
                raise HTTPError(404)
            found = self._command(script.file)
            if found is None:
                return False
            command = found
        folder = self.working_dir or os.path.dirname(script.file)
        args = [*self._prefix, *command]
        run = Run(self, self.programs, self._reply_rules, req, resp)
        run.run(Command(args[0], args, folder), partial(self._environment, req, script), self.stream_vague)
        return True

    def _environment(self, req: Request, script: Script, size: int) -> dict[str, str]:
        """The variables as a program's whole environment. What shells could not name is left out."""
        variables = self._variables.make(req, script, size)
        if not self.pass_authorization:
            variables.pop("HTTP_AUTHORIZATION", None)
        variables.setdefault("PATH", PATH)
        return {name: value for name, value in variables.items() if _PLAIN.fullmatch(name)}

    # From paths to programs

    def _find(self, path: str) -> Script | None:
        """The first file on the way along the path; what follows is PATH_INFO. None when there is no file."""
        at = 0
        while at >= 0:
            end = path.find("/", at + 1)
            name = path if end < 0 else path[:end]
            segment = name[at + 1 :]
            if segment[:1] == "." or "\\" in segment:
                return None
            if not segment:  # a slash at the end
                return self._index(name)
            try:
                file = self.stage.fcache.get(self._base + name, self.web_root, self._follow)
            except PermissionError:
                raise HTTPError(403) from None
            except OSError:
                return None
            if not file.is_dir:
                return Script(name, path[len(name) :], self._base + name)
            at = end
        return self._index(path + "/")

    def _index(self, folder: str) -> Script | None:
        name = folder + self.index_file
        if not self.index_file:
            return None
        try:
            file = self.stage.fcache.get(self._base + name, self.web_root, self._follow)
        except OSError:
            return None
        return None if file.is_dir else Script(name, "", self._base + name)

    def _command(self, file: str) -> list[str] | None:
        """What to run for a script; None for a file that is none. Raises HTTPError 403."""
        if self.suffixes and not file.endswith(tuple(self.suffixes)):
            return None
        for suffix, interpreter in self.interpreters.items():
            if file.endswith(suffix):
                return [interpreter, file]
        if not os.access(file, os.X_OK):
            self.stage.log.warning("cgi", f"{file} is not executable")
            raise HTTPError(403)
        return [file]
