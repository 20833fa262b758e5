"""The command line: actions, options, directories. One table each; parser, messages and help are made from them.

The spellings of the original are accepted: one dash for two, and camelCase for dashes (-topDir is --top-dir).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from hemi.errors import EnvError, UsageError
from hemi.procmgr.actions import ACTIONS as CONTROL_ACTIONS
from hemi.procmgr.program import Program
from hemi.procmgr.target import parse_target

__all__ = ["ACTIONS", "OPTIONS", "Option", "Options", "make_dirs", "parse", "usage"]


class Option(NamedTuple):
    """An option of the command line."""

    name: str
    metavar: str
    """What its value is called in the help; empty for a switch, which has none."""
    doc: str
    actions: tuple[str, ...]


# Each action: what may follow it, and what it does.
ACTIONS: dict[str, tuple[str, str]] = {
    "serve": ("", "serve the configuration in the foreground (this is what happens without an action)"),
    "check": ("", "check the configuration, and print every problem in it"),
    "help": (
        "[SIGN]",
        "print this text, or what a component is and which properties it has; signs: all of them",
    ),
    "version": ("", "print the version"),
}

_RUN = ("serve", "check")

MOST_WORKERS = 512

_OF_LEADERS = ("workers", "no-spare", "user", "group", "daemon", "stdout", "stderr", "pid-file", "cmdui")

OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        Option("config", "FILE", "the configuration (default: {config} below the top directory)", _RUN),
        Option("debug", "LEVEL", "0 to 3: how much is told about what goes wrong (default: {debug})", _RUN),
        Option("single", "", "serve from this one process, without a leader", ("serve",)),
        Option(
            "workers",
            "N",
            "how many processes serve: a number, or auto, one a processor (default: 1)",
            ("serve",),
        ),
        Option(
            "no-spare",
            "",
            "do without the process that stands by, for quicker restarts and reloads",
            ("serve",),
        ),
        Option("user", "NAME", "as whom the workers run, when the leader is root", ("serve",)),
        Option("group", "NAME", "the group of the workers (default: the user's)", ("serve",)),
        Option("allow-root", "", "let the workers run as root", ("serve",)),
        Option("daemon", "", "serve in the background", ("serve",)),
        Option("stdout", "FILE", "where a daemon's output goes (default: {name}.out in log-dir)", ("serve",)),
        Option("stderr", "FILE", "where its messages go (default: {name}.err)", ("serve",)),
        Option(
            "pid-file",
            "FILE",
            "where the leader's process id is written (a daemon: {name}.pid in var-dir)",
            ("serve",),
        ),
        Option(
            "cmdui",
            "ADDR",
            "where goroxctl reaches the leader: HOST:PORT, a path, or off (default: 127.0.0.1:9527)",
            ("serve",),
        ),
        Option("webui", "ADDR", "where the web interface listens: off, there is none yet", ("serve",)),
        Option("umask", "MODE", "which rights new files do not get, octal, such as 027", ("serve",)),
        Option("top-dir", "DIR", "what relative paths start at (default: {top_dir})", _RUN),
        Option("log-dir", "DIR", "where logs are written (default: data/log below the top directory)", _RUN),
        Option("tmp-dir", "DIR", "where temporary files are written (default: data/tmp)", _RUN),
        Option("var-dir", "DIR", "where state is kept (default: data/var)", _RUN),
        Option("print", "", "print the configuration in effect, with all defaults", ("check",)),
    )
}

_ALIASES = {
    "-h": "help",
    "--help": "help",
    "-help": "help",
    "-v": "version",
    "--version": "version",
    "-version": "version",
}


@dataclass(slots=True)
class Options:
    """A parsed command line. Directories are absolute; config is None where the default applies."""

    action: str = "serve"
    words: list[str] = field(default_factory=list)
    config: str | None = None
    debug: int = 0
    print: bool = False
    single: bool = False
    workers: int = 1
    no_spare: bool = False
    user: str | None = None
    group: str | None = None
    allow_root: bool = False
    daemon: bool = False
    stdout: str = ""
    stderr: str = ""
    pid_file: str = ""
    umask: int | None = None
    cmdui: str = ""
    """Empty: the usual address, or a free one when that is taken."""
    top_dir: str = ""
    log_dir: str = ""
    tmp_dir: str = ""
    var_dir: str = ""
    given: frozenset[str] = frozenset()
    """The names of the options that were given."""


def parse(program: Program, argv: list[str], top_dir: str | None = None) -> Options:
    """Parses a command line (without the program's name).

    top_dir is the default of --top-dir; None means the current directory. Raises UsageError.
    """
    words, values = _split(program, argv)
    options = Options(action=words[0] if words else "serve", words=words[1:], given=frozenset(values))
    _check_action(program, options)
    options.config = values.get("config")
    options.debug = _debug_level(program, values.get("debug"))
    options.print = "print" in values
    options.top_dir = os.path.abspath(values.get("top-dir", top_dir or os.getcwd()))
    options.log_dir = _below(options.top_dir, values.get("log-dir", "data/log"))
    options.tmp_dir = _below(options.top_dir, values.get("tmp-dir", "data/tmp"))
    options.var_dir = _below(options.top_dir, values.get("var-dir", "data/var"))
    _set_process(program, options, values)
    return options


def _set_process(program: Program, options: Options, values: dict[str, str]) -> None:
    """Sets what is about processes."""
    options.single = "single" in values
    options.workers = _worker_count(values.get("workers", "1"))
    options.no_spare = "no-spare" in values
    options.user = values.get("user")
    options.group = values.get("group")
    options.allow_root = "allow-root" in values
    options.daemon = "daemon" in values
    options.stdout = _below(options.log_dir, values.get("stdout", f"{program.name}.out"))
    options.stderr = _below(options.log_dir, values.get("stderr", f"{program.name}.err"))
    if "pid-file" in values or options.daemon:
        options.pid_file = _below(options.var_dir, values.get("pid-file", f"{program.name}.pid"))
    umask = values.get("umask")
    if umask is not None:
        if not re.fullmatch("[0-7]{1,4}", umask):
            raise UsageError(f"--umask must be octal, such as 027, not {umask!r}")
        options.umask = int(umask, 8)
    options.cmdui = values.get("cmdui", "")
    if options.cmdui not in ("", "off"):
        parse_target(options.cmdui)
    if values.get("webui", "off") != "off":
        raise UsageError(
            "--webui must be off: this version has no web interface; goroxctl does what it would"
        )
    if options.single:
        for name in _OF_LEADERS:
            if name in values:
                raise UsageError(f"--{name} does not go with --single: there is no leader")
    if not options.daemon:
        for name in ("stdout", "stderr"):
            if name in values:
                raise UsageError(f"--{name} is for --daemon: in the foreground, redirect as usual")


def _worker_count(text: str) -> int:
    if text == "auto":
        return len(os.sched_getaffinity(0))
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MOST_WORKERS:
        raise UsageError(f'--workers must be 1 to {MOST_WORKERS}, or auto, not "{text}"')
    return int(text)


def _split(program: Program, argv: list[str]) -> tuple[list[str], dict[str, str]]:
    """Separates the words of a command line from its options."""
    words: list[str] = []
    values: dict[str, str] = {}
    rest = iter(argv)
    for arg in rest:
        if arg in _ALIASES:
            words.insert(0, _ALIASES[arg])
        elif not arg.startswith("-") or arg == "-":
            words.append(arg)
        else:
            spelling, equals, value = arg.partition("=")
            name = _option_name(program, spelling)
            if not OPTIONS[name].metavar:
                if equals:
                    raise UsageError(f"{spelling} takes no value")
                value = "true"
            elif not equals:
                value = next(rest, "")
            if not value:
                raise UsageError(f"{spelling} needs a value: {OPTIONS[name].metavar}")
            values[name] = value
    return words, values


def _option_name(program: Program, spelling: str) -> str:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", spelling.lstrip("-")).lower().replace("_", "-")
    if name not in OPTIONS:
        raise UsageError(
            f"unknown option {spelling}{_suggest(name, OPTIONS, '--')}; see: {program.name} help"
        )
    return name


def _check_action(program: Program, options: Options) -> None:
    action = options.action
    if action not in ACTIONS:
        if action.endswith((".yaml", ".yml")):
            raise UsageError(f'unknown action "{action}", did you mean --config {action}?')
        if action in CONTROL_ACTIONS:
            raise UsageError(f"{action} must be the first word: {program.name} {action} [OPTION...]")
        known = {**ACTIONS, **CONTROL_ACTIONS}
        raise UsageError(f'unknown action "{action}"{_suggest(action, known)}; see: {program.name} help')
    if options.words and (action != "help" or len(options.words) > 1):
        raise UsageError(f'{action}: unexpected "{options.words[-1]}"; see: {program.name} help')
    for name in sorted(options.given):
        if action in _RUN and action not in OPTIONS[name].actions:
            raise UsageError(f"--{name} is no option of {action}; see: {program.name} help")


def _debug_level(program: Program, value: str | None) -> int:
    if value is None:
        return program.debug
    if value not in ("0", "1", "2", "3"):
        raise UsageError(f'--debug must be 0 to 3, not "{value}"')
    return int(value)


def _suggest(word: str, known: Iterable[str], dashes: str = "") -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f", did you mean {dashes}{near[0]}?" if near else ""


def _below(top_dir: str, path: str) -> str:
    return os.path.normpath(os.path.join(top_dir, path))


def make_dirs(options: Options, names: tuple[str, ...] = ("log-dir", "tmp-dir", "var-dir")) -> None:
    """Creates those directories that are missing: 0700 for state, 0755 for the rest. Raises EnvError."""
    paths = {"log-dir": options.log_dir, "tmp-dir": options.tmp_dir, "var-dir": options.var_dir}
    for name in names:
        try:
            os.makedirs(os.path.dirname(paths[name]), mode=0o755, exist_ok=True)
            os.makedirs(paths[name], mode=0o700 if name == "var-dir" else 0o755, exist_ok=True)
        except OSError as error:
            raise EnvError(f"--{name} {paths[name]} cannot be created: {error.strerror}") from None


def usage(program: Program, top_dir: str | None = None) -> str:
    """Returns the text of `help`."""
    lines = [
        f"{program.title}.",
        "",
        f"usage: {program.name} [ACTION] [OPTION...]",
        "",
        "actions:",
        *(_row(f"{action} {words}", doc) for action, (words, doc) in ACTIONS.items()),
        "",
        f"actions on a running instance; {program.name} ACTION --help tells their options:",
        *(
            _row(f"{action} {each.words}", each.doc)
            for action, each in CONTROL_ACTIONS.items()
            if action not in ACTIONS
        ),
        "",
        "options (a value follows as the next word or behind =):",
    ]
    shown = {
        "name": program.name,
        "config": program.config_path,
        "debug": str(program.debug),
        "top_dir": top_dir or "the current directory",
    }
    for option in OPTIONS.values():
        lines.append(_row(f"--{option.name} {option.metavar}", option.doc.format_map(shown)))
    lines += [
        "",
        "signals to the leader:",
        _row("TERM", "answer what was begun (for drain_timeout at most), then exit; a second one: exit now"),
        _row("INT, QUIT", "exit now (with --single, INT is like TERM)"),
        _row("HUP", "load the configuration again; one with problems changes nothing"),
        _row("USR1", "open the log files again"),
        _row("USR2", "have a new leader take over: new code, new Python"),
        _row("TTIN, TTOU", "one worker more, one worker fewer"),
        "",
        "exit codes: 0 quit, 1 problems found by check, 10 stopped at once, 11 crashed, 20 bug,",
        "            21 wrong configuration or command line, 22 something missing or refused by the system",
        "",
    ]
    return "\n".join(lines)


def _row(left: str, right: str) -> str:
    return f"  {left.strip():<17} {right}"
