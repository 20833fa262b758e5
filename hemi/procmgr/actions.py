"""What operators can ask of a running instance: one table, from which goroxctl, its help and `gorox ACTION` are made.

Names and texts alone; what the leader does is in `hemi.procmgr.commands` and `hemi.procmgr.controls`.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ACTIONS", "ALIASES", "OPTIONS", "Action", "Option"]


class Action(NamedTuple):
    """An action of goroxctl."""

    words: str
    """What follows it: capitals are values, brackets mean that it can be left out."""
    doc: str
    group: str
    options: tuple[str, ...] = ()
    """Its own options, beside those that all have."""


class Option(NamedTuple):
    """An option of goroxctl."""

    metavar: str
    doc: str


_PROFILE = ("worker",)

ACTIONS: dict[str, Action] = {
    "status": Action("", "how the instance is: state, workers, requests, addresses", "reports"),
    "health": Action("", "whether it serves: exit status 0 or 1", "reports"),
    "pids": Action("", "the processes", "reports"),
    "leader": Action("", "the leader in detail", "reports"),
    "worker": Action("", "the workers in detail", "reports"),
    "stages": Action("", "the configurations that are alive in each worker", "reports"),
    "backends": Action("", "the backends and their nodes", "reports"),
    "top": Action(
        "", "requests, latencies and bytes by webapp and worker, live", "reports", ("interval", "count")
    ),
    "check": Action("", "check the configuration where the leader runs", "changes"),
    "reload": Action(
        "", "serve the configuration as it is now; one with problems changes nothing", "changes"
    ),
    "rework": Action("", "replace the workers by new processes: new code", "changes"),
    "upgrade": Action("", "have a new leader take over: new code, new Python", "changes"),
    "workers": Action("N", "change the number of workers", "changes"),
    "reopen": Action("", "open the log files again", "changes"),
    "log": Action(
        "[LEVEL]", "show or change the least level of the error log, until log_level changes", "changes"
    ),
    "node": Action("BACKEND NODE STATE", "up, down or draining: order a backend's node", "changes"),
    "recmd": Action("ADDR", "have the leader listen for goroxctl somewhere else", "changes"),
    "quit": Action("", "end when all requests are answered, and wait for that", "changes"),
    "stop": Action("", "end at once, and wait for that", "changes"),
    "explain": Action(
        "METHOD URL",
        "which server, webapp, rules and handlets a request would meet, and why",
        "looks",
        ("header", "from", "worker"),
    ),
    "cpu": Action(
        "",
        "what the processor does: a flame graph (SVG) and collapsed stacks",
        "looks",
        ("seconds", "output", "worker"),
    ),
    "heap": Action(
        "[on|off]", "what takes the memory, and what has grown since the last look", "looks", _PROFILE
    ),
    "thread": Action("", "the threads, and where they are", "looks", _PROFILE),
    "greenlet": Action("", "the greenlets, where they are, and what they wait for", "looks", _PROFILE),
    "block": Action(
        "", "calls that keep a worker's hub from running", "looks", ("seconds", "limit", "worker")
    ),
    "gc": Action("", "run the garbage collector, and tell what it found", "looks", _PROFILE),
    "advise": Action("", "which limits and settings of this system to change, and why", "looks"),
}

ALIASES = {"reconf": "reload", "goroutine": "greenlet", "greenlets": "greenlet", "threads": "thread"}
"""Other words for actions: some have that name in the original."""

OPTIONS: dict[str, Option] = {
    "target": Option("ADDR", "where the leader listens (default: as it says in var-dir, or 127.0.0.1:9527)"),
    "top-dir": Option("DIR", "the top directory of the instance (default: {top_dir})"),
    "var-dir": Option(
        "DIR", "where it keeps its state, and the key (default: data/var below the top directory)"
    ),
    "key-file": Option("FILE", "the key (default: cmdui.key in var-dir)"),
    "json": Option("", "print the answer as JSON"),
    "worker": Option("N", "ask this worker only"),
    "seconds": Option("S", "for how long to look (default: 10)"),
    "limit": Option("MS", "how long a call may take, in milliseconds (default: 50)"),
    "output": Option("FILE", "where the flame graph goes (default: gorox-cpu-TIME.svg)"),
    "interval": Option("S", "seconds between two looks (default: 1)"),
    "count": Option("N", "how many looks (default: on a terminal until ^C, else 1)"),
    "header": Option("FIELD", "-H, a field of the request: 'name: value'; can be given again"),
    "from": Option("ADDR", "the client's address (default: 127.0.0.1)"),
}
