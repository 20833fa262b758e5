"""goroxctl, the control command: parses its command line, asks the leader, shows the answer.

Imports little, so that it starts at once. What the actions are is in `hemi.procmgr.actions`, how answers look in
`hemi.procmgr.views`. Exit status: 0 done, 1 not done (the leader says why, or cannot be reached), 2 wrong command line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from hemi.errors import EnvError, UsageError
from hemi.procmgr.actions import ACTIONS, ALIASES, OPTIONS
from hemi.procmgr.keyfile import KEY_NAME, TARGET_NAME
from hemi.procmgr.target import DEFAULT, parse_target, show_target

__all__ = ["Order", "control", "decimal", "goroxctl", "is_control", "number"]

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_COMMON = ("target", "top-dir", "var-dir", "key-file", "json")
_LOCAL = frozenset({"serve", "check", "help", "version"})
"""Actions that a program runs itself."""

REPORT_PATIENCE = 30.0
"""Seconds that a report may take; changes take as long as they take."""

END_PATIENCE = 10.0
"""Seconds that a leader has to end after its last answer."""


class Order:
    """A parsed command line."""

    def __init__(self, action: str, words: list[str], options: dict[str, Any]) -> None:
        self.action = action
        self.words = words
        self.options = options

    @property
    def json(self) -> bool:
        """Whether the answer is for programs."""
        return "json" in self.options


def goroxctl() -> int:
    """The entry point of the `goroxctl` command of an installed package."""
    return control(None, None)


def is_control(word: str) -> bool:
    """True for the actions on a running instance, which `gorox ACTION` passes on to here."""
    return word not in _LOCAL and (word in ACTIONS or word in ALIASES)


def control(argv: list[str] | None, top_dir: str | None, name: str = "goroxctl") -> int:
    """Runs a control command, and returns its exit status. top_dir is the default of --top-dir."""
    json = False
    try:
        argv = sys.argv[1:] if argv is None else argv
        json = "--json" in argv
        if not argv or argv[0] in ("help", "-h", "--help", "-help"):
            print(usage(name, top_dir), end="")
            return 0 if argv else EXIT_USAGE
        if argv[0] in ("version", "--version", "-v", "-version"):
            from hemi import __version__

            print(f"{name} {__version__}")
            return 0
        order = parse(argv, name)
        if "help" in order.options:
            print(action_usage(order.action, name, top_dir), end="")
            return 0
        status = _run(order, name, top_dir or os.getcwd())
        sys.stdout.flush()
        return status
    except UsageError as error:
        return _fail(name, str(error), [], json, EXIT_USAGE)
    except EnvError as error:
        return _fail(name, str(error), [], json, EXIT_REFUSED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone, as head(1) does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_REFUSED


def _fail(name: str, error: str, details: list[str], json: bool, status: int) -> int:
    from hemi.procmgr import views

    sys.stdout.flush()
    if json:
        print(views.as_json({"ok": False, "error": error, "details": details}))
        return status
    print(f"{name}: {views.one_line(error)}", file=sys.stderr)
    for line in details:
        print(views.one_line(line), file=sys.stderr)
    return status


# The command line


def parse(argv: list[str], name: str = "goroxctl") -> Order:
    """Parses a command line. The spellings of the original are accepted, as -topDir. Raises UsageError."""
    words: list[str] = []
    options: dict[str, Any] = {}
    rest = iter(argv)
    for arg in rest:
        if arg == "--":
            words += rest
        elif arg in ("-h", "--help", "-help"):
            options["help"] = "true"
        elif not arg.startswith("-") or arg == "-":
            words.append(arg)
        else:
            _take_option(arg, rest, options, name)
    if not words:
        raise UsageError(f"an action is missing; see: {name} help")
    action = ALIASES.get(words[0], words[0])
    if action not in ACTIONS:
        raise UsageError(f'unknown action "{action}"{_suggest(action, ACTIONS)}; see: {name} help')
    order = Order(action, words[1:], options)
    _check_words(order)
    for option in options:
        if option not in (*_COMMON, *ACTIONS[action].options, "help"):
            raise UsageError(f"--{option} is no option of {action}; see: {name} {action} --help")
    return order


def _take_option(arg: str, rest: Any, options: dict[str, Any], name: str) -> None:
    spelling, equals, value = arg.partition("=")
    option = "".join(f"-{c.lower()}" if c.isupper() else c for c in spelling.lstrip("-")).replace("_", "-")
    if spelling == "-H" or option == "cmdui":
        option = "header" if spelling == "-H" else "target"
    if option not in OPTIONS:
        raise UsageError(f"unknown option {spelling}{_suggest(option, OPTIONS, '--')}; see: {name} help")
    if not OPTIONS[option].metavar:
        if equals:
            raise UsageError(f"{spelling} takes no value")
        options[option] = "true"
        return
    value = value if equals else next(rest, "")
    if not value:
        raise UsageError(f"{spelling} needs a value: {OPTIONS[option].metavar}")
    if option == "header":
        options.setdefault("header", []).append(value)
    else:
        options[option] = value


def _check_words(order: Order) -> None:
    if "help" in order.options:
        return
    wanted = ACTIONS[order.action].words.split()
    least = sum(not word.startswith("[") for word in wanted)
    if len(order.words) < least:
        raise UsageError(f"{order.action} needs {' '.join(wanted)}")
    if len(order.words) > len(wanted):
        raise UsageError(f'{order.action}: unexpected "{order.words[len(wanted)]}"')


def _suggest(word: str, known: Any, dashes: str = "") -> str:
    import difflib

    near = difflib.get_close_matches(word, list(known), 1)
    return f", did you mean {dashes}{near[0]}?" if near else ""


# Asking


def locate(order: Order, top_dir: str) -> tuple[str, str]:
    """Where the leader listens, and the path of its key. Raises UsageError."""
    options = order.options
    top_dir = os.path.abspath(options.get("top-dir", top_dir))
    var_dir = os.path.normpath(os.path.join(top_dir, options.get("var-dir", "data/var")))
    key_file = (
        os.path.abspath(options["key-file"]) if "key-file" in options else os.path.join(var_dir, KEY_NAME)
    )
    target = options.get("target")
    if target is None:
        try:
            with open(os.path.join(os.path.dirname(key_file), TARGET_NAME), encoding="utf-8") as file:
                target = file.read(4096).strip()
        except (OSError, UnicodeDecodeError):
            target = DEFAULT
    return show_target(parse_target(target)), key_file


def arguments(order: Order) -> dict[str, Any]:
    """What the leader is given with the action. Raises UsageError."""
    words, options = order.words, order.options
    args: dict[str, Any] = {}
    if "worker" in options:
        args["worker"] = number("--worker", options["worker"], 1, 1 << 20)
    if "seconds" in ACTIONS[order.action].options:
        args["seconds"] = decimal("--seconds", options.get("seconds", "10"), 0.05, 600)
    if order.action == "block":
        args["limit"] = decimal("--limit", options.get("limit", "50"), 1, 60000) / 1000
    elif order.action == "workers":
        args["count"] = number("N", words[0], 1, 512)
    elif order.action == "log" and words:
        args["level"] = words[0]
    elif order.action == "heap" and words:
        if words[0] not in ("on", "off"):
            raise UsageError(f'heap: "{words[0]}" must be on or off')
        args["trace"] = words[0] == "on"
    elif order.action == "recmd":
        parse_target(words[0])
        args["address"] = words[0]
    elif order.action == "node":
        args |= {"backend": words[0], "node": words[1], "state": words[2]}
    elif order.action == "explain":
        args |= {"method": words[0], "url": words[1], "fields": _fields(options.get("header", []))}
        args["from"] = _source(options.get("from", "127.0.0.1"))
    return args


def number(what: str, text: str, least: int, most: int) -> int:
    """The whole number that an option gives. Raises UsageError."""
    if not text.isascii() or not text.isdigit() or not least <= int(text[:12]) <= most:
        raise UsageError(f'{what} must be {least} to {most}, not "{text}"')
    return int(text)


def decimal(what: str, text: str, least: float, most: float) -> float:
    """The number that an option gives. Raises UsageError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= most:
        raise UsageError(f'{what} must be {least:g} to {most:g}, not "{text}"')
    return value


def _source(text: str) -> str:
    from ipaddress import ip_address

    try:
        return text if text == "unix:" else str(ip_address(text))
    except ValueError:
        raise UsageError(f'--from must be the address of a client, or unix:, not "{text}"') from None


def _fields(lines: list[str]) -> list[list[str]]:
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"-H must be 'name: value', not {line!r}")
        fields.append([name.strip(), value.strip()])
    return fields


def _run(order: Order, name: str, top_dir: str) -> int:
    from hemi.procmgr.client import Client, Refused
    from hemi.procmgr.keyfile import read_key

    args = arguments(order)
    target, key_file = locate(order, top_dir)
    try:
        with Client.connect(target, read_key(key_file)) as client:
            if order.action == "top":
                from hemi.procmgr.live import watch

                return watch(client, order)
            patience = REPORT_PATIENCE if ACTIONS[order.action].group == "reports" else None
            answer = client.call(order.action, args, _progress(order), patience)
            if order.action in ("stop", "quit") and not client.wait_end(END_PATIENCE):
                raise Refused(f"the workers have ended, but the leader (process {client.pid}) has not yet")
    except Refused as refused:
        return _fail(name, str(refused), refused.details, order.json, EXIT_REFUSED)
    except EnvError as error:
        if order.action == "advise":
            return _advise_here(order, str(error))
        raise
    return _show(order, answer)


def _advise_here(order: Order, why: str) -> int:
    """Looks at the system from here: where no leader runs, this is the next best place."""
    from hemi.procmgr.advice import look

    if not order.json:
        print(f"about this process, not the leader's: {why}", file=sys.stderr)
    return _show(order, {"advice": look(), "here": why})


def _progress(order: Order) -> Callable[[dict[str, Any]], None] | None:
    """Shows progress to who looks on; programs see the answer alone."""
    if order.json or not sys.stderr.isatty():
        return None
    from hemi.procmgr.views import one_line

    return lambda data: print(f"{one_line(data.get('text', ''))} …", file=sys.stderr)


def _show(order: Order, answer: dict[str, Any]) -> int:
    from hemi.procmgr import views
    from hemi.procmgr.tables import painter_for

    failed = any("error" in each for each in answer.get("workers", ()) if isinstance(each, dict))
    if answer.get("healthy") is False:
        failed = True
    if order.action == "cpu":
        from hemi.procmgr.profileshow import save_cpu

        answer = save_cpu(answer, order.options.get("output"))
    if order.json:
        print(views.as_json({"ok": not failed, "action": order.action, "answer": answer}))
    else:
        print(views.show(order.action, answer, painter_for(sys.stdout)))
    return EXIT_REFUSED if failed else 0


# Help


def usage(name: str, top_dir: str | None) -> str:
    """The text of `help`."""
    lines = [f"usage: {name} ACTION [OPTION...]", ""]
    for group, title in (("reports", "reports"), ("changes", "changes"), ("looks", "a closer look")):
        lines.append(f"{title}:")
        for action, each in ACTIONS.items():
            if each.group == group:
                lines.append(_row(f"{action} {each.words}", each.doc))
        lines.append("")
    lines.append("options of all actions (a value follows as the next word or behind =):")
    lines += [_option_row(option, top_dir) for option in _COMMON]
    lines += ["", f"more: {name} ACTION --help", "exit status: 0 done, 1 not done, 2 wrong command line", ""]
    return "\n".join(lines)


def action_usage(action: str, name: str, top_dir: str | None) -> str:
    """The text of `ACTION --help`."""
    each = ACTIONS[action]
    lines = [f"usage: {name} {f'{action} {each.words}'.strip()} [OPTION...]", "", f"  {each.doc}", ""]
    lines += [_option_row(option, top_dir) for option in (*each.options, *_COMMON)]
    return "\n".join([*lines, ""])


def _option_row(option: str, top_dir: str | None) -> str:
    metavar, doc = OPTIONS[option]
    return _row(f"--{option} {metavar}", doc.format(top_dir=top_dir or "the current directory"))


def _row(left: str, right: str) -> str:
    return f"  {left.strip():<24} {right}"
