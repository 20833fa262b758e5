"""How the leader's answers look to people, and as JSON to programs. Pure functions from answer to text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hemi.procmgr.tables import (
    PLAIN,
    Painter,
    safe,
    show_bytes,
    show_count,
    show_seconds,
    show_table,
)

__all__ = ["as_json", "one_line", "show"]

Answer = dict[str, Any]

STATE_STYLES = {
    "ready": "green",
    "serving": "green",
    "up": "green",
    "starting": "yellow",
    "draining": "yellow",
    "backing off": "yellow",
    "stopping": "yellow",
    "failed": "red",
    "dead": "red",
    "down": "red",
}


def as_json(answer: Any) -> str:
    """One JSON text, indented, in the order of the answer."""
    return json.dumps(answer, indent=2, ensure_ascii=False)


def one_line(text: Any) -> str:
    """A message without what a terminal would obey; spaces in front of it stay."""
    return safe(text)


def show(action: str, answer: Answer, painter: Painter = PLAIN) -> str:
    """The answer to an action, for people."""
    return _VIEWS.get(action, _plain)(answer, painter)


def _plain(answer: Answer, painter: Painter) -> str:
    return as_json(answer)


def _pairs(pairs: list[tuple[str, Any]], painter: Painter) -> str:
    """Names and values, one a line; those without a value are left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "", [])]
    wide = max(len(name) for name, _ in shown)
    return "\n".join(f"{painter(name.ljust(wide), 'bold')}  {value}" for name, value in shown)


# Reports


def _status(answer: Answer, painter: Painter) -> str:
    healthy = answer["state"] == "serving" and answer["ready"] == answer["wanted"]
    state = painter(safe(answer["state"]), "green" if healthy else "yellow")
    if answer["changing"]:
        state += f", {safe(answer['changing'])} under way"
    text = _pairs(
        [
            ("state", state),
            ("version", f"{safe(answer['program'])} {safe(answer['version'])}"),
            ("leader", f"process {answer['pid']}, up {show_seconds(answer['uptime'])}"),
            ("workers", f"{answer['ready']} of {answer['wanted']} ready, {answer['restarts']} restart(s)"),
            ("reloads", answer["reloads"]),
            ("requests", f"{answer['requests']} so far, {answer['conns']} connection(s) now"),
            ("memory", f"{show_bytes(answer['rss'])} in all workers"),
            ("config", safe(answer["config"])),
            ("top dir", safe(answer["top_dir"])),
            ("listening", "\n           ".join(safe(key) for key in answer["listening"])),
            ("cmdui", safe(answer["cmdui"])),
        ],
        painter,
    )
    return "\n".join([text, *(painter(safe(problem), "red") for problem in answer["problems"])])


def _health(answer: Answer, painter: Painter) -> str:
    count = f"{answer['ready']} of {answer['wanted']} worker(s) ready"
    if answer["healthy"]:
        return f"{painter('healthy', 'green')}: {count}"
    return f"{painter('not healthy', 'red')}: {safe(answer['state'])}, {count}"


def _pids(answer: Answer, painter: Painter) -> str:
    return f"leader: {answer['leader']}\n" + show_table(
        ["worker", "pid", "state", "for", "conns", "requests", "cpu", "memory", "starts", "why"],
        [
            [
                each["worker"],
                each["pid"],
                each["state"],
                show_seconds(each["seconds"]),
                each.get("conns"),
                each.get("requests"),
                None if "cpu" not in each else f"{each['cpu']:.0f} %",
                show_bytes(each.get("rss")),
                each["starts"],
                _why(each),
            ]
            for each in answer["workers"]
        ],
        painter,
        STATE_STYLES,
    )


def _why(each: Answer) -> str:
    blocked = f"its hub is blocked for {each['blocked']} s" if each.get("blocked") else ""
    return "; ".join(text for text in (each["reason"], blocked) if text)


def _leader(answer: Answer, painter: Painter) -> str:
    vitals = answer.get("vitals", {})
    return _pairs(
        [
            ("pid", answer["pid"]),
            ("state", safe(answer["state"])),
            ("up", show_seconds(answer["uptime"])),
            ("workers wanted", answer["wanted"]),
            ("restarts", answer["restarts"]),
            ("reloads", answer["reloads"]),
            ("memory", show_bytes(vitals.get("rss"))),
            ("descriptors", vitals.get("fds")),
            ("listening", "\n                ".join(safe(key) for key in answer["listening"])),
        ],
        painter,
    )


def _worker(answer: Answer, painter: Painter) -> str:
    return _by_worker(
        answer,
        painter,
        lambda each: show_table(
            ["python", "gevent", "up", "greenlets", "conns", "requests", "stages", "reloads"],
            [
                [
                    each["python"],
                    each["gevent"],
                    show_seconds(each["uptime"]),
                    each["greenlets"],
                    *(each["figures"].get(name) for name in ("conns", "requests", "stages", "reloads")),
                ]
            ],
            painter,
        ),
    )


def _stages(answer: Answer, painter: Painter) -> str:
    rows = [
        [each["worker"], stage["id"], stage["state"], stage["conns"], server]
        for each in answer["workers"]
        for stage in each.get("stages", [])
        for server in stage["servers"] or ["-"]
    ]
    return _with_errors(
        show_table(["worker", "stage", "state", "conns", "server"], rows, painter, STATE_STYLES),
        answer,
        painter,
    )


def _backends(answer: Answer, painter: Painter) -> str:
    rows = [
        [
            each["worker"],
            backend["name"],
            node["address"],
            node["state"],
            node["weight"],
            node["in_flight"],
            node["conns"],
            node["idle_conns"],
            show_seconds(node["latency"] or None),
            node["leases"],
            node["failures"],
            node["why"] or node["last_failure"],
        ]
        for each in answer["workers"]
        for backend in each.get("backends", [])
        for node in backend["nodes"]
    ]
    heads = ["worker", "backend", "node", "state", "weight", "in flight", "conns", "idle"]
    heads += ["latency", "requests", "failures", "why"]
    return _with_errors(show_table(heads, rows, painter, STATE_STYLES), answer, painter)


def _by_worker(answer: Answer, painter: Painter, view: Callable[[Answer], str]) -> str:
    parts = []
    for each in answer["workers"]:
        head = painter(f"worker {each['worker']} (process {each['pid']})", "bold")
        body = painter(safe(each["error"]), "red") if "error" in each else view(each)
        parts.append(f"{head}\n{body}")
    return "\n\n".join(parts)


def _errors(answer: Answer, painter: Painter) -> list[str]:
    lines = []
    for each in answer.get("workers", []):
        if "error" in each:
            lines.append(painter(f"worker {each['worker']}: {safe(each['error'])}", "red"))
            lines += [f"  {safe(line)}" for line in each.get("details", [])]
    return lines


def _with_errors(text: str, answer: Answer, painter: Painter) -> str:
    return "\n".join([text, *_errors(answer, painter)])


# Changes


def _check(answer: Answer, painter: Painter) -> str:
    return f"the configuration is fine ({show_seconds(answer['seconds'])})"


def _reload(answer: Answer, painter: Painter) -> str:
    rows = [
        [
            each["worker"],
            each["pid"],
            "replaced" if each.get("replaced") else "failed" if "error" in each else "reloaded",
            each.get("stage"),
        ]
        for each in answer["workers"]
    ]
    table = show_table(
        ["worker", "pid", "result", "stage"], rows, painter, {"reloaded": "green", "failed": "red"}
    )
    return _with_errors(f"{table}\nreload: done in {show_seconds(answer['seconds'])}", answer, painter)


def _rework(answer: Answer, painter: Painter) -> str:
    rows = [[each["worker"], each["pid"], each["state"]] for each in answer["workers"]]
    table = show_table(["worker", "pid", "state"], rows, painter, STATE_STYLES)
    return f"{table}\nrework: done in {show_seconds(answer['seconds'])}"


def _workers(answer: Answer, painter: Painter) -> str:
    rows = [[each["worker"], each["pid"], each["state"]] for each in answer["workers"]]
    return show_table(["worker", "pid", "state"], rows, painter, STATE_STYLES)


def _upgrade(answer: Answer, painter: Painter) -> str:
    return f"upgrade: process {answer['leader']} leads now, the old one drains"


def _reopen(answer: Answer, painter: Painter) -> str:
    return _with_errors(f"reopen: done in {len(answer['workers'])} worker(s)", answer, painter)


def _log(answer: Answer, painter: Painter) -> str:
    rows = [[each["worker"], each.get("level")] for each in answer["workers"]]
    return _with_errors(show_table(["worker", "level"], rows, painter), answer, painter)


def _node(answer: Answer, painter: Painter) -> str:
    rows = [
        [each["worker"], node["address"], node["state"], node["weight"], node["why"]]
        for each in answer["workers"]
        if (node := each.get("node"))
    ]
    return show_table(["worker", "node", "state", "weight", "why"], rows, painter, STATE_STYLES)


def _recmd(answer: Answer, painter: Painter) -> str:
    return f"recmd: the leader listens at {safe(answer['address'])}"


def _quit(answer: Answer, painter: Painter) -> str:
    return "quit: all requests are answered, the instance has ended"


def _stop(answer: Answer, painter: Painter) -> str:
    return "stop: the instance has ended"


# Looks


def _advise(answer: Answer, painter: Painter) -> str:
    findings = answer["advice"]
    lines = []
    for finding in findings:
        if finding["change"]:
            lines.append(f"{painter(safe(finding['item']), 'yellow')} is {safe(finding['value'])}")
            lines.append(f"  do:  {safe(finding['change'])}")
            lines.append(f"  why: {safe(finding['why'])}")
    fine = [f"{safe(each['item'])} ({safe(each['value'])})" for each in findings if not each["change"]]
    if fine:
        lines.append(f"{painter('fine', 'green')}: " + ",\n      ".join(fine))
    return "\n".join(lines)


def _explain(answer: Answer, painter: Painter) -> str:
    return "\n\n".join(_explain_server(each, painter) for each in answer["servers"])


def _explain_server(told: Answer, painter: Painter) -> str:
    lines = [
        f'{painter("server", "bold")}   "{safe(told["server"])}" at {safe(", ".join(told["addresses"]))}'
    ]
    if told.get("refusal"):
        return "\n".join([*lines, painter(f"refused: {safe(told['refusal'])}", "red")])
    if not told.get("webapp"):
        return "\n".join(
            [*lines, f"{painter('webapp', 'bold')}   {painter('none: 404', 'red')}, {safe(told['why'])}"]
        )
    lines.append(f'{painter("webapp", "bold")}   "{safe(told["webapp"])}", {safe(told["why"])}')
    for rule in told["rules"]:
        mark = painter("yes", "green") if rule["matches"] else painter("no ", "dim")
        lines.append(f"{painter('rule', 'bold')} {mark} {safe(rule['place'])}  {safe(rule['if'])}")
        for name, value in rule["variables"].items():
            lines.append(f"           ${safe(name)} is {json.dumps(value, ensure_ascii=False)}")
        if rule["matches"]:
            lines.append(f"           runs {safe(', '.join(rule['runs']))}")
            if rule["revisers"]:
                lines.append(f"           revised by {safe(', '.join(rule['revisers']))}")
    return "\n".join([*lines, f"{painter('outcome', 'bold')}  {safe(told['outcome'])}"])


def _cpu(answer: Answer, painter: Painter) -> str:
    rows = [
        [f"{share * 100:.1f} %", f"{total * 100:.1f} %", name] for name, share, total in answer["functions"]
    ]
    table = show_table(["itself", "with calls", "function"], rows, painter)
    measured = f"{answer['samples']} samples in {show_seconds(answer['seconds'])}"
    lines = [
        f"{measured}: {answer['busy'] * 100:.0f} % of a processor, {answer['workers_seen']} worker(s)",
        table,
        f"flame graph: {safe(answer['svg'])}",
        f"stacks:      {safe(answer['stacks'])}",
    ]
    return _with_errors("\n".join(lines), answer, painter)


def _heap(answer: Answer, painter: Painter) -> str:
    return _by_worker(answer, painter, lambda each: _heap_of(each, painter))


def _heap_of(each: Answer, painter: Painter) -> str:
    parts = [
        show_table(
            ["objects", "growth", "type"],
            [[show_count(n), _signed(growth, show_count), name] for name, n, growth in each["types"]],
            painter,
        )
    ]
    if each["tracing"]:
        rows = [
            [show_bytes(size), _signed(growth, show_bytes), show_count(count), where]
            for where, size, growth, count in each["lines"]
        ]
        since = show_seconds(each["since"]) if each["since"] else "tracing began"
        parts.append(
            f"{show_bytes(each['traced'])} allocated while traced; growth since {since} ago:\n".replace(
                "tracing began ago", "tracing began"
            )
            + show_table(["size", "growth", "blocks", "allocated at"], rows, painter)
        )
    else:
        parts.append(
            "lines are not traced: goroxctl heap on (it costs time and memory), and heap off in the end"
        )
    return "\n".join(parts)


def _signed(growth: float | None, unit: Callable[[float], str]) -> str:
    if not growth:
        return "-" if growth is None else "0"
    return f"{'+' if growth > 0 else '-'}{unit(abs(growth))}"


def _stack(it: Answer) -> str:
    return "\n".join(f"  {safe(line)}" for line in it["stack"])


def _thread(answer: Answer, painter: Painter) -> str:
    return _by_worker(
        answer,
        painter,
        lambda each: "\n".join(
            f"{painter(safe(thread['name']), 'cyan')}, {safe(thread['what'])}\n" + _stack(thread)
            for thread in each["threads"]
        ),
    )


def _greenlet(answer: Answer, painter: Painter) -> str:
    return _by_worker(
        answer,
        painter,
        lambda each: (
            f"{each['count']} greenlet(s)\n"
            + "\n".join(
                f"{painter(str(group['count']), 'cyan')} × {safe(group['name'])}, {safe(group['waits'])}\n"
                + _stack(group)
                for group in each["groups"]
            )
        ),
    )


def _block(answer: Answer, painter: Painter) -> str:
    return _by_worker(
        answer,
        painter,
        lambda each: (
            "\n".join(
                f"{painter(show_seconds(call['longest']), 'red')} at most, {call['count']} time(s), "
                f"{show_seconds(call['total'])} in all\n" + _stack(call)
                for call in each["calls"]
            )
            or f"no call took more than {show_seconds(each['limit'])}"
        ),
    )


def _gc(answer: Answer, painter: Painter) -> str:
    rows = [
        [
            each["worker"],
            each.get("found"),
            show_seconds(each.get("seconds")),
            each.get("objects"),
            each.get("frozen"),
            each.get("uncollectable"),
            "/".join(map(str, each.get("thresholds", []))),
        ]
        for each in answer["workers"]
    ]
    heads = ["worker", "freed", "took", "objects", "frozen", "uncollectable", "thresholds"]
    return _with_errors(show_table(heads, rows, painter), answer, painter)


_VIEWS: dict[str, Callable[[Answer, Painter], str]] = {
    "status": _status,
    "health": _health,
    "pids": _pids,
    "leader": _leader,
    "worker": _worker,
    "stages": _stages,
    "backends": _backends,
    "check": _check,
    "reload": _reload,
    "rework": _rework,
    "workers": _workers,
    "upgrade": _upgrade,
    "reopen": _reopen,
    "log": _log,
    "node": _node,
    "recmd": _recmd,
    "quit": _quit,
    "stop": _stop,
    "advise": _advise,
    "explain": _explain,
    "cpu": _cpu,
    "heap": _heap,
    "thread": _thread,
    "greenlet": _greenlet,
    "block": _block,
    "gc": _gc,
}
