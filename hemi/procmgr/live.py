"""`goroxctl top`: what happens now, as differences between two looks at the meters.

On a terminal the table is drawn again in place until ^C; elsewhere each look is printed below the one before.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from hemi import meter as meters
from hemi.procmgr import views
from hemi.procmgr.tables import (
    Painter,
    painter_for,
    safe,
    show_bytes,
    show_count,
    show_seconds,
    show_table,
)

if TYPE_CHECKING:
    from hemi.procmgr.client import Client
    from hemi.procmgr.ctl import Order

__all__ = ["difference", "draw", "watch"]

Look = dict[str, Any]

# The terminal: another screen and no cursor while it lasts; home and erase before each drawing.
_BEGIN, _END, _HOME = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l", "\x1b[H\x1b[J"


def watch(client: Client, order: Order) -> int:
    """Shows looks until there were enough of them; returns the exit status."""
    from hemi.procmgr.ctl import decimal, number

    live = sys.stdout.isatty() and not order.json
    interval = decimal("--interval", order.options.get("interval", "1"), 0.1, 3600)
    count = number("--count", order.options.get("count", "0" if live else "1"), 0, 1 << 30)
    if not live:
        return _print_looks(client, order, interval, count)
    last: list[str] = []
    sys.stdout.write(_BEGIN)
    try:
        _redraw(client, interval, count, last)
    except KeyboardInterrupt:
        pass
    finally:
        sys.stdout.write(_END + "".join(f"{text}\n" for text in last))  # what was seen last stays
        sys.stdout.flush()
    return 0


def _redraw(client: Client, interval: float, count: int, last: list[str]) -> None:
    before, shown = client.call("top"), 0
    while not count or shown < count:
        time.sleep(interval)
        now = client.call("top")
        last[:] = [draw(difference(before, now), painter_for(sys.stdout), *_room())]
        sys.stdout.write(_HOME + last[0])
        sys.stdout.flush()
        before, shown = now, shown + 1


def _room() -> tuple[int, int]:
    import shutil

    return shutil.get_terminal_size()


def _print_looks(client: Client, order: Order, interval: float, count: int) -> int:
    before, shown = client.call("top"), 0
    while not count or shown < count:
        time.sleep(interval)
        now = client.call("top")
        told = difference(before, now)
        if order.json:
            print(views.as_json({"ok": True, "action": "top", "answer": told}))
        else:
            print(("\n" if shown else "") + draw(told, painter_for(sys.stdout)))
        sys.stdout.flush()
        before, shown = now, shown + 1
    return 0


def difference(before: Look, now: Look) -> Look:
    """What happened between two looks: rates per second, and latencies of what ended in between."""
    seconds = max(now["time"] - before["time"], 1e-3)
    older = {each["pid"]: each for each in before["workers"]}
    workers: list[Look] = []
    sums: dict[str, list[meters.Meter]] = {}
    for each in now["workers"]:
        counted = []
        known = older.get(each["pid"], {}).get("meters", {})
        for name, meter in each.get("meters", {}).items():
            passed = meters.subtract(meters.add([meter]), meters.add([known.get(name, [])]))
            counted.append(passed)
            sums.setdefault(name, []).append(passed)
        rest = {
            name: each.get(name)
            for name in ("worker", "pid", "conns", "cpu", "rss", "blocked", "stages", "error")
        }
        workers.append(rest | _rates(meters.add(counted), seconds))
    return {
        "state": now["state"],
        "seconds": round(seconds, 3),
        "total": _rates(meters.add(meter for group in sums.values() for meter in group), seconds),
        "components": [
            {
                "kind": name.partition(" ")[0],
                "name": name.partition(" ")[2],
                **_rates(meters.add(group), seconds),
            }
            for name, group in sorted(sums.items())
        ],
        "workers": workers,
    }


def _rates(meter: meters.Meter, seconds: float) -> Look:
    told = meters.describe(meter)
    return {
        "requests_per_second": round(told["requests"] / seconds, 1),
        "bytes_per_second": round(told["bytes"] / seconds, 1),
        "in_flight": told["in_flight"],
        "status": told["status"],
        "latency": told["latency"],
    }


def draw(told: Look, painter: Painter, columns: int = 0, lines: int = 0) -> str:
    """The tables, cut to so many columns and lines; 0 is any number."""
    total = told["total"]
    head = (
        f"{painter('gorox', 'bold')} {safe(told['state'])}, {len(told['workers'])} worker(s): "
        f"{painter(show_count(total['requests_per_second']), 'bold')} requests/s, "
        f"{total['in_flight']} in flight, {show_bytes(total['bytes_per_second'])}/s"
    )
    columns_of = ["requests/s", "in flight", "p50", "p90", "p99", "bytes/s", "2xx", "3xx", "4xx", "5xx"]
    sites = [
        [each["name"] if each["kind"] == "webapps" else f"({each['name']}: no webapp)", *_cells(each)]
        for each in told["components"]
        if each["kind"] != "servers" or each["in_flight"] or any(each["status"].values())
    ]
    workers = [
        [
            each["worker"],
            each["pid"],
            *_cells(each)[:6],
            each["conns"],
            None if each["cpu"] is None else f"{each['cpu']:.0f} %",
            show_bytes(each["rss"]),
            each["error"] or (f"blocked for {each['blocked']:.1f} s" if each["blocked"] else "ready"),
        ]
        for each in told["workers"]
    ]
    worker_heads = ["worker", "pid", *columns_of[:6], "conns", "cpu", "memory", "state"]
    text = "\n".join(
        [
            head,
            "",
            show_table(["webapp", *columns_of], sites, painter, limit=columns),
            "",
            show_table(worker_heads, workers, painter, views.STATE_STYLES, limit=columns),
        ]
    )
    rows = text.split("\n")
    return "\n".join(rows[: lines - 1] if lines else rows)


def _cells(each: Look) -> list[Any]:
    latency = each["latency"]
    return [
        show_count(each["requests_per_second"]),
        each["in_flight"],
        *(show_seconds(latency[name]) for name in ("p50", "p90", "p99")),
        f"{show_bytes(each['bytes_per_second'])}/s",
        *(each["status"][name] for name in ("2xx", "3xx", "4xx", "5xx")),
    ]
