"""What a program built on Hemi is, and Gorox, the program that comes with it.

A program of your own is one `Program` and one call:

    MINE = Program(name="mine", title="Mine, a server", components=("hemi.builtin", "mine.components"))
    sys.exit(hemi.procmgr.main.main(MINE))
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["GOROX", "Program"]


@dataclass(frozen=True, slots=True)
class Program:
    """A program: what it is called, which components it has, and what it serves when nothing was configured."""

    name: str
    """The word before every message: "gorox"."""

    title: str
    """One line for `help`."""

    components: tuple[str, ...] = ("hemi.builtin",)
    """The modules whose import defines the components that a configuration can name."""

    config: str = ""
    """Where the configuration is looked for, below the top directory. Empty: conf/NAME.yaml."""

    embedded: Callable[[], str] | None = None
    """Makes the configuration (YAML) that is served when there is no such file. None: the file is required."""

    debug: int = 0
    """The debug level (0 to 3) without --debug."""

    @property
    def config_path(self) -> str:
        """The default configuration's path, relative to the top directory."""
        return self.config or f"conf/{self.name}.yaml"


def welcome_config() -> str:
    """Returns the configuration of the embedded welcome site, with the access log on stdout."""
    # A link to apps/welcome in a checkout, a copy of it in an installed package.
    web_root = os.path.realpath(os.path.join(os.path.dirname(__file__), "welcome"))
    return f"""\
access_log: {{target: stdout}}
webapps:
  welcome:
    hostnames: ["*"]
    web_root: {json.dumps(web_root)}
    rules:
      - handlets: static
servers:
  main: {{type: httpx_server, address: ":3080", webapps: [welcome]}}
"""


GOROX = Program(
    name="gorox",
    title="Gorox, a web server, application server and proxy",
    embedded=welcome_config,
)
