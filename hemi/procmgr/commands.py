"""What operators can have the leader do: the registry, and the commands of the leader itself.

A command is a function of the leader and the arguments, a JSON object each way. A plain function answers at once; one
that must wait is a generator, a task of the leader's loop (see `hemi.procmgr.loop`), which can report progress:

    @command("pids")
    def pids(leader, args):
        return {"leader": os.getpid()}

    @command("reopen")
    def reopen(leader, args):
        yield say("asking the workers")
        results = yield from leader.ask_all("reopen")
        return {"workers": results}

Either raises CommandError, with one line that says what to do, when it cannot. Signals and cmdui both end up in
`Leader.run_command(name, args, done, progress)`.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hemi.procmgr import changes
from hemi.procmgr.loop import CommandError, Steps, say

if TYPE_CHECKING:
    from hemi.procmgr.leader import Leader

__all__ = ["COMMANDS", "begin", "command"]

Command = Callable[["Leader", dict[str, Any]], "dict[str, Any] | Steps"]

COMMANDS: dict[str, Command] = {}


def command(name: str) -> Callable[[Command], Command]:
    """Registers a command."""

    def register(function: Command) -> Command:
        COMMANDS[name] = function
        return function

    return register


def begin(leader: Leader, name: str, args: dict[str, Any]) -> Steps:
    """The steps of a command, whether it is a plain function or a generator."""
    function = COMMANDS.get(name)
    if function is None:
        raise CommandError(f'there is no action "{name}"')
    answer = function(leader, args)
    if inspect.isgenerator(answer):
        answer = yield from answer
    return answer


# Reports


@command("pids")
def pids(leader: Leader, args: dict[str, Any]) -> dict[str, Any]:
    """The processes."""
    return {"leader": os.getpid(), "workers": [child.to_dict() for child in leader.crew.children]}


@command("leader")
def leader_(leader: Leader, args: dict[str, Any]) -> dict[str, Any]:
    """The leader itself."""
    return {
        "pid": os.getpid(),
        "uptime": round(time.monotonic() - leader.started, 1),
        "state": leader.state,
        "wanted": leader.crew.wanted,
        "restarts": leader.crew.restarts,
        "reloads": leader.reloads,
        "listening": sorted(leader.listening.held),
        "vitals": leader.vitals.of(os.getpid()),
    }


@command("stages")
def stages(leader: Leader, args: dict[str, Any]) -> Steps:
    """The stages of every worker."""
    results = yield from leader.ask_all("stages")
    return {"workers": results}


@command("worker")
def worker(leader: Leader, args: dict[str, Any]) -> Steps:
    """Every worker, in detail."""
    results = yield from leader.ask_all("worker")
    return {"workers": results}


# Changes


@command("reload")
def reload(leader: Leader, args: dict[str, Any]) -> Steps:
    """Has every worker serve the configuration as it is now; changes nothing when one cannot."""
    return (yield from changes.reload(leader))


@command("rework")
def rework(leader: Leader, args: dict[str, Any]) -> Steps:
    """Replaces the workers by new processes: new code."""
    return (yield from changes.rework(leader))


@command("upgrade")
def upgrade(leader: Leader, args: dict[str, Any]) -> Steps:
    """Has a new leader take over."""
    return (yield from changes.upgrade(leader))


@command("workers")
def workers(leader: Leader, args: dict[str, Any]) -> Steps:
    """Changes the number of workers."""
    count = args.get("count")
    if not isinstance(count, int) or isinstance(count, bool):
        raise CommandError(f"the number of workers must be a number, not {count!r}")
    return (yield from changes.resize(leader, lambda before: count))


@command("reopen")
def reopen(leader: Leader, args: dict[str, Any]) -> Steps:
    """Has every log file opened anew."""
    yield say("asking the workers")
    leader.reopen_output()
    results = yield from leader.ask_all("reopen")
    return {"workers": results}


@command("quit")
def quit_(leader: Leader, args: dict[str, Any]) -> Steps:
    """Ends when all requests are answered."""
    return (yield from changes.leave(leader, graceful=True))


@command("stop")
def stop(leader: Leader, args: dict[str, Any]) -> Steps:
    """Ends at once."""
    return (yield from changes.leave(leader, graceful=False))
