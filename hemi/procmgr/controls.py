"""What operators can ask beyond the leader's own commands: reports with figures, profiles, the log's level, cmdui.

Registered beside `hemi.procmgr.commands`. Most pass an order on to the workers (`hemi.procmgr.orders`,
`hemi.procmgr.figures`, `hemi.procmgr.profiles`) and bring their answers back.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from hemi import __version__
from hemi.procmgr import advice
from hemi.procmgr.child import Child
from hemi.procmgr.commands import command
from hemi.procmgr.loop import CommandError, Steps, say, until

if TYPE_CHECKING:
    from hemi.procmgr.leader import Leader

__all__ = ["LEVELS"]

LEVELS = ("debug", "info", "warning", "error", "off")

MOST_SECONDS = 600.0
"""How long a look may last."""

MARGIN = 20.0
"""Seconds beyond the time of a look that its answer may take."""


# Reports


@command("status")
def status(leader: Leader, args: dict[str, Any]) -> dict[str, Any]:
    """The instance as a whole, at once: nobody else is asked."""
    children = leader.crew.children
    return {
        "program": leader.program.name,
        "version": __version__,
        "pid": os.getpid(),
        "state": leader.state,
        "changing": leader.changing,
        "uptime": round(time.monotonic() - leader.started, 1),
        "ready": len(leader.crew.ready()),
        "wanted": leader.crew.wanted,
        "restarts": leader.crew.restarts,
        "reloads": leader.reloads,
        "conns": sum(child.report.get("conns", 0) for child in children),
        "requests": sum(child.report.get("requests", 0) for child in children),
        "rss": sum(child.vitals.get("rss", 0) for child in children),
        "config": leader.options.config or leader.program.config_path,
        "top_dir": leader.options.top_dir,
        "cmdui": leader.cmdui.address,
        "listening": sorted(leader.listening.held),
        "problems": [
            f"worker {child.number} is {child.state}: {child.reason}"
            for child in children
            if child.state in ("failed", "backing off", "dead")
        ]
        + [
            f"the hub of worker {child.number} is blocked for {child.blocked_for:.1f} s"
            for child in children
            if child.blocked_for
        ],
    }


@command("health")
def health(leader: Leader, args: dict[str, Any]) -> dict[str, Any]:
    """Whether the instance serves, and goes on to."""
    ready = sum(not child.blocked_for for child in leader.crew.ready())
    return {
        "healthy": leader.state == "serving" and ready > 0,
        "state": leader.state,
        "ready": ready,
        "wanted": leader.crew.wanted,
    }


@command("top")
def top(leader: Leader, args: dict[str, Any]) -> Steps:
    """The meters of every worker, as they are now; who asks twice knows what happened in between."""
    answers = yield from _ask(leader, "figures", args, 5.0)
    vitals = {child.pid: {**child.vitals, "blocked": child.blocked_for} for child in leader.crew.children}
    for answer in answers:
        answer |= vitals.get(answer["pid"], {})
    return {"time": time.time(), "state": leader.state, "workers": answers}


@command("backends")
def backends(leader: Leader, args: dict[str, Any]) -> Steps:
    """The backends of every worker."""
    return {"workers": (yield from _ask(leader, "backends", args, 10.0))}


# Changes


@command("check")
def check(leader: Leader, args: dict[str, Any]) -> Steps:
    """Loads the configuration where the leader is, and tells every problem in it."""
    yield say("checking the configuration")
    begun = time.monotonic()
    yield from leader.check()
    return {"fine": True, "seconds": round(time.monotonic() - begun, 3)}


@command("log")
def log(leader: Leader, args: dict[str, Any]) -> Steps:
    """Shows or changes the least level of the error log, in the workers that are there and those to come."""
    level = args.get("level")
    if level is not None and level not in LEVELS:
        raise CommandError(f"the level must be one of {', '.join(LEVELS)}, not {level!r}")
    if level is not None:
        leader.crew.log_order = level
        leader.log.verbose = level == "debug"
        leader.log.info(f"log: the least level is {level}")
    return {"workers": (yield from _ask(leader, "log", args, 10.0))}


@command("node")
def node(leader: Leader, args: dict[str, Any]) -> Steps:
    """Orders a node of a backend, in every worker."""
    for name in ("backend", "node", "state"):
        if not isinstance(args.get(name), str):
            raise CommandError(f"a {name} must be named")
    answers = yield from _ask(leader, "node", args, 10.0)
    errors = sorted({answer["error"] for answer in answers if "error" in answer})
    if errors:
        raise CommandError(errors[0], errors[1:])
    leader.log.info(f'node {args["node"]} of backend "{args["backend"]}" is to be {args["state"]}')
    return {"workers": answers}


@command("recmd")
def recmd(leader: Leader, args: dict[str, Any]) -> dict[str, Any]:
    """Has cmdui listen somewhere else."""
    address = args.get("address")
    if not isinstance(address, str):
        raise CommandError("where to listen must be named: HOST:PORT or a path")
    before = leader.cmdui.address
    after = leader.cmdui.move(address)
    leader.log.info(f"cmdui listens at {after} instead of {before}")
    return {"address": after, "before": before}


# Looks


@command("explain")
def explain(leader: Leader, args: dict[str, Any]) -> Steps:
    """What a request would meet; one worker knows as well as all."""
    for name in ("method", "url", "from"):
        if not isinstance(args.get(name, ""), str):
            raise CommandError(f"{name} must be text, not {args[name]!r}")
    fields = args.get("fields", [])
    if not isinstance(fields, list) or not all(isinstance(each, list) and len(each) == 2 for each in fields):
        raise CommandError("fields must be a list of pairs, a name and a value each")
    children = _chosen(leader, args)[:1]
    answers = yield from leader.ask_all("explain", args, children=children, seconds=10.0)
    if not answers:
        raise CommandError("no worker is ready")
    if "error" in answers[0]:
        raise CommandError(answers[0]["error"], answers[0]["details"])
    return dict(answers[0])


@command("advise")
def advise(leader: Leader, args: dict[str, Any]) -> dict[str, Any]:
    """What of the system to change."""
    return {"advice": advice.look(leader.crew.wanted)}


@command("cpu")
def cpu(leader: Leader, args: dict[str, Any]) -> Steps:
    """Samples the processor's work."""
    return (yield from _look_for_a_while(leader, "cpu", args))


@command("block")
def block(leader: Leader, args: dict[str, Any]) -> Steps:
    """Finds what keeps hubs from running."""
    return (yield from _look_for_a_while(leader, "block", args))


@command("heap")
def heap(leader: Leader, args: dict[str, Any]) -> Steps:
    """What takes memory."""
    return {"workers": (yield from _ask(leader, "heap", args, 60.0))}


@command("thread")
def thread(leader: Leader, args: dict[str, Any]) -> Steps:
    """The threads."""
    return {"workers": (yield from _ask(leader, "thread", args, 30.0))}


@command("greenlet")
def greenlet(leader: Leader, args: dict[str, Any]) -> Steps:
    """The greenlets."""
    return {"workers": (yield from _ask(leader, "greenlet", args, 30.0))}


@command("gc")
def gc(leader: Leader, args: dict[str, Any]) -> Steps:
    """Runs the collector."""
    return {"workers": (yield from _ask(leader, "gc", args, 60.0))}


def _look_for_a_while(leader: Leader, order: str, args: dict[str, Any]) -> Steps:
    """Has workers look for some seconds, and tells how long it still takes."""
    seconds = args.get("seconds", 10.0)
    if not isinstance(seconds, int | float) or not 0.05 <= seconds <= MOST_SECONDS:
        raise CommandError(f"seconds must be 0.05 to {MOST_SECONDS:g}, not {seconds!r}")
    limit = args.get("limit", 0.05)
    if not isinstance(limit, int | float) or not 0.001 <= limit <= MOST_SECONDS:
        raise CommandError(f"limit must be 0.001 to {MOST_SECONDS:g} seconds, not {limit!r}")
    begun = time.monotonic()
    calls = [
        (child, child.pid, child.conn.order(order, args))
        for child in _chosen(leader, args)
        if child.conn is not None
    ]
    yield say(f"looking at {len(calls)} worker(s) for {seconds:g} s", seconds=seconds)
    while (passed := time.monotonic() - begun) < seconds + MARGIN:
        if (yield until(lambda: all(call.done for _, _, call in calls), 1.0)):
            break
        yield say(f"{min(passed + 1.0, seconds):.0f} of {seconds:g} s")
    answers = []
    for child, pid, call in calls:
        answer: dict[str, Any] = {"worker": child.number, "pid": pid}
        if not call.done:
            answer |= {"error": "no answer: is its hub blocked?"}
        elif call.error:
            answer |= {"error": call.error, "details": call.details}
        answers.append(answer | call.result)
    return {"workers": answers}


def _ask(leader: Leader, order: str, args: dict[str, Any], seconds: float) -> Steps:
    answers = yield from leader.ask_all(order, args, children=_chosen(leader, args), seconds=seconds)
    return answers


def _chosen(leader: Leader, args: dict[str, Any]) -> list[Child]:
    """The ready workers, or the one whose number was given."""
    ready = leader.crew.ready()
    number = args.get("worker")
    if number is not None:
        chosen = [child for child in ready if child.number == number]
        if not chosen:
            there = ", ".join(str(child.number) for child in ready) or "none"
            raise CommandError(f"there is no ready worker {number!r}; ready: {there}")
        return chosen
    if not ready:
        raise CommandError("no worker is ready; see: goroxctl status")
    return ready
