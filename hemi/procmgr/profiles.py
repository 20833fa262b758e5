"""Looking closely at a worker: processor, memory, threads, greenlets, blocking calls, collector.

All on request, and nothing of it costs anything while nobody asks. The processor is sampled by a timer of processor
time (ITIMER_PROF), whose handler runs in the main thread between two instructions: a thread that samples gets the
interpreter's lock mostly where the main thread lets it go, at recv and send, and so sees hardly anything else.
"""

from __future__ import annotations

import gc
import linecache
import os
import resource
import signal
import sys
import time
import tracemalloc
from collections import Counter
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import gevent
import greenlet
from gevent.monkey import get_original

from hemi.errors import EnvError
from hemi.procmgr.orders import Progress, order

if TYPE_CHECKING:
    from hemi.procmgr.worker import Worker

__all__ = ["BlockWatch", "Sampler"]

PERIOD = 0.002
"""Seconds of processor time between two samples; the kernel rounds up to its tick."""

MOST_STACKS = 20000
MOST_DEPTH = 200
MOST_GROUPS = 100
TOP = 25
"""How many lines, types and functions are told."""

TRACE_DEPTH = 1
"""Frames that tracemalloc keeps of an allocation: more would cost more memory than it explains."""

_start_thread: Any = get_original("_thread", "start_new_thread")
_thread_ident: Any = get_original("_thread", "get_ident")
_sleep: Any = get_original("time", "sleep")


# The processor


class Sampler:
    """Counts stacks, outermost first, while processor time passes. One at a time in a process."""

    running = False

    def __init__(self) -> None:
        self.counts: Counter[tuple[CodeType, ...]] = Counter()
        self.modules: dict[CodeType, str] = {}
        self._before: Any = None

    def start(self) -> None:
        """Begins. Raises EnvError when somebody samples already."""
        if Sampler.running or signal.getitimer(signal.ITIMER_PROF) != (0.0, 0.0):
            raise EnvError("the processor is being sampled already")
        Sampler.running = True
        self._before = signal.signal(signal.SIGPROF, self._sample)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, PERIOD, PERIOD)

    def stop(self) -> None:
        """Ends."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        # One signal may still be on its way, and the default would end the process.
        signal.signal(signal.SIGPROF, self._before if callable(self._before) else signal.SIG_IGN)
        Sampler.running = False

    def _sample(self, signum: int, frame: FrameType | None) -> None:
        stack: list[CodeType] = []
        modules = self.modules
        while frame is not None and len(stack) < MOST_DEPTH:
            code = frame.f_code
            if code not in modules:
                modules[code] = str(frame.f_globals.get("__name__", "?"))
            stack.append(code)
            frame = frame.f_back
        stack.reverse()
        if len(self.counts) < MOST_STACKS:
            self.counts[tuple(stack)] += 1

    def stacks(self) -> list[tuple[list[str], int]]:
        """What was counted, by names."""
        names = {code: f"{module}.{_qualname(code)}" for code, module in self.modules.items()}
        return [([names[code] for code in stack], count) for stack, count in self.counts.items()]


def _qualname(code: CodeType) -> str:
    return code.co_qualname.replace(".<locals>", "")


@order("cpu")
def cpu(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Samples the processor for some seconds."""
    sampler = Sampler()
    sampler.start()
    begun, used = time.monotonic(), _processor_time()
    try:
        gevent.sleep(float(args.get("seconds", 10.0)))
    finally:
        sampler.stop()
    seconds = time.monotonic() - begun
    return {
        "seconds": round(seconds, 3),
        "busy": round((_processor_time() - used) / seconds, 4),
        "stacks": sampler.stacks(),
    }


def _processor_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# Memory

_last_types: Counter[str] = Counter()
_last_snapshot: tuple[float, tracemalloc.Snapshot] | None = None


@order("heap")
def heap(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Counts objects by type, and allocated bytes by line while tracing is on; both with growth since the last call."""
    if "trace" in args:
        _switch_tracing(bool(args["trace"]))
    told: dict[str, Any] = {"types": _count_types(), "tracing": tracemalloc.is_tracing()}
    if told["tracing"]:
        told |= _compare_lines()
    told["rss"] = _resident()
    return told


def _switch_tracing(on: bool) -> None:
    global _last_snapshot
    _last_snapshot = None
    if on and not tracemalloc.is_tracing():
        tracemalloc.start(TRACE_DEPTH)
    elif not on:
        tracemalloc.stop()


def _count_types() -> list[tuple[str, int, int | None]]:
    """The most frequent types, and those that grew most: name, count, growth."""
    global _last_types
    counts = Counter(
        f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
        for cls in map(type, gc.get_objects())
    )
    before, _last_types = _last_types, counts
    names = [name for name, _ in counts.most_common(TOP)]
    if before:
        grown = Counter({name: count - before[name] for name, count in counts.items()})
        names += [name for name, growth in grown.most_common(TOP // 2) if growth > 0 and name not in names]
    return [(name, counts[name], counts[name] - before[name] if before else None) for name in names]


def _compare_lines() -> dict[str, Any]:
    """Bytes by the line that allocated them: place, size, growth, blocks."""
    global _last_snapshot
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, tracemalloc.__file__)])
    before, _last_snapshot = _last_snapshot, (time.monotonic(), snapshot)
    lines: list[tuple[str, int, int | None, int]]
    if before is None:
        lines = [(_place(each), each.size, None, each.count) for each in snapshot.statistics("lineno")[:TOP]]
    else:
        differences = snapshot.compare_to(before[1], "lineno")
        differences.sort(key=lambda each: (-max(each.size_diff, 0), -each.size))
        lines = [(_place(each), each.size, each.size_diff, each.count) for each in differences[:TOP]]
    return {
        "lines": lines,
        "since": None if before is None else round(time.monotonic() - before[0], 1),
        "traced": tracemalloc.get_traced_memory()[0],
    }


def _place(each: Any) -> str:
    frame = each.traceback[0]
    return f"{_short(frame.filename)}:{frame.lineno}"


def _resident() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


# Threads and greenlets


@order("thread")
def thread(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Tells where every thread of the system is that runs Python, and names the others."""
    main = _thread_ident()  # orders are carried out where the hub is
    threads = [
        {
            "name": f"thread {ident}" if ident != main else "main thread",
            "what": "it serves" if ident == main else _purpose(frame),
            "stack": _stack(frame),
        }
        for ident, frame in sorted(sys._current_frames().items(), key=lambda each: each[0] != main)
    ]
    return {"threads": threads, "native": len(os.listdir("/proc/self/task"))}


def _purpose(frame: FrameType) -> str:
    """What a thread is for, by its outermost function."""
    outermost = frame
    while outermost.f_back is not None:
        outermost = outermost.f_back
    module = str(outermost.f_globals.get("__name__", ""))
    if module == "gevent.threadpool":
        return "of gevent's pool for blocking calls"
    if module == "hemi.procmgr.watchdog":
        return "the watchdog of the hub"
    return f"begun by {module}"


@order("greenlet")
def greenlets(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Tells where the greenlets are; those at the same place together."""
    groups: dict[tuple[str, ...], list[Any]] = {}
    count = 0
    for each in gc.get_objects():
        # By type(): isinstance() would ask a weak proxy, whose object may be gone.
        if not issubclass(type(each), greenlet.greenlet) or each.dead:
            continue
        count += 1
        frame = each.gr_frame if each is not gevent.getcurrent() else sys._getframe()
        stack = tuple(_stack(frame)) if frame is not None else ("(no frame of Python)",)
        groups.setdefault(stack, []).append(each)
    told = [
        {"count": len(members), "name": _name_of(members), "waits": _waits(members[0]), "stack": list(stack)}
        for stack, members in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    return {"count": count, "groups": told[:MOST_GROUPS]}


def _name_of(members: list[Any]) -> str:
    """What greenlets run: the class, and the function where it is known."""
    first = members[0]
    run = getattr(first, "_run", None) or getattr(first, "run", None)
    name = getattr(run, "__qualname__", "")
    module = getattr(run, "__module__", "") or ""
    return f"{module}.{name}" if name else type(first).__name__


# What a greenlet waits for, by the functions that it is in, the innermost first.
_WAITS = {
    ("hemi.sockets", "wait_readable"): "waits for bytes of its peer",
    ("hemi.sockets", "wait_writable"): "waits for its peer to take bytes",
    ("hemi.sockets", "recv"): "waits for bytes of its peer",
    ("gevent.hub", "sleep"): "sleeps",
    ("gevent.socket", "wait_read"): "waits for a descriptor to be readable",
    ("gevent.threadpool", "apply"): "waits for a thread of the pool",
    ("gevent._socket3", "recv"): "waits for bytes of a socket",
    ("gevent._socket3", "accept"): "waits for connections",
    ("gevent._socket3", "connect"): "connects",
    ("gevent._socket3", "send"): "waits for a peer to take bytes",
    ("gevent.subprocess", "wait"): "waits for a process",
}


def _waits(each: Any) -> str:
    """What a greenlet waits for; where that is in compiled code, as gevent's events are, the line that called it."""
    if each is gevent.getcurrent():
        return "makes this list"
    if isinstance(each, gevent.hub.Hub):
        return "waits for events, for all others"
    frame = each.gr_frame
    if frame is None:
        return "waits to be switched to" if greenlet.greenlet.__bool__(each) else "is to begin"
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    for _ in range(12):
        if frame is None:
            break
        what = _WAITS.get((str(frame.f_globals.get("__name__")), frame.f_code.co_name))
        if what:
            return what
        frame = frame.f_back
    return f"waits in: {line}" if line else "waits to be switched to"


def _stack(frame: FrameType | None) -> list[str]:
    """The calls of a frame, the innermost first: "hemi/sockets.py:116 Channel.wait_readable"."""
    lines: list[str] = []
    while frame is not None and len(lines) < 40:
        code = frame.f_code
        lines.append(f"{_short(code.co_filename)}:{frame.f_lineno} {_qualname(code)}")
        frame = frame.f_back
    return lines


def _short(path: str) -> str:
    """A path without what all have in front."""
    for folder in ("/site-packages/", "/lib/python3"):
        _, found, rest = path.rpartition(folder)
        if found:
            return rest if folder == "/site-packages/" else "python3" + rest
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return path.removeprefix(top + "/")


# Blocking calls


class BlockWatch:
    """Finds calls that run longer than `limit` seconds without giving the hub a turn.

    A trace function notes each switch of greenlets; a thread of the system looks how long ago that was, and where the
    main thread is. Calls that never let go of the interpreter's lock can be seen only when they have returned.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.calls: dict[tuple[str, ...], list[float]] = {}
        """How long each took, by its stack."""
        self._switched = time.monotonic()
        self._idle = True
        self._stopped = False
        self._main = 0
        self._seen: tuple[float, tuple[str, ...]] | None = None
        self._lock = get_original("threading", "Lock")()
        self._hub = gevent.get_hub()

    def start(self) -> None:
        """Begins to watch the calling thread's hub. Raises EnvError when somebody traces greenlets already."""
        if greenlet.gettrace() is not None:
            raise EnvError("greenlets are being traced already")
        self._main = _thread_ident()
        self._switched, self._idle = time.monotonic(), False
        greenlet.settrace(self._trace)
        _start_thread(self._watch, ())

    def stop(self) -> None:
        """Ends."""
        greenlet.settrace(None)
        self._stopped = True

    def _trace(self, event: str, args: tuple[Any, Any]) -> None:
        now = time.monotonic()
        if not self._idle and now - self._switched >= self.limit:
            with self._lock:
                seen, self._seen = self._seen, None
                stack = seen[1] if seen is not None and seen[0] == self._switched else ("(not seen where)",)
                self.calls.setdefault(stack, []).append(now - self._switched)
        self._idle = args[1] is self._hub
        self._switched = now

    def _watch(self) -> None:
        """In the thread; nothing in here may touch the hub."""
        while not self._stopped:
            _sleep(self.limit / 4)
            since = self._switched
            if self._idle or time.monotonic() - since < self.limit:
                continue
            if self._seen is not None and self._seen[0] == since:
                continue
            frame = sys._current_frames().get(self._main)
            stack = tuple(_stack(frame))
            with self._lock:
                if self._switched == since and not self._idle:
                    self._seen = (since, stack)

    def report(self) -> list[dict[str, Any]]:
        """The calls, those that took longest first."""
        return [
            {
                "count": len(times),
                "longest": round(max(times), 4),
                "total": round(sum(times), 4),
                "stack": list(stack),
            }
            for stack, times in sorted(self.calls.items(), key=lambda each: -max(each[1]))
        ][:TOP]


@order("block")
def block(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Looks for blocking calls for some seconds."""
    watch = BlockWatch(max(0.001, float(args.get("limit", 0.05))))
    watch.start()
    try:
        gevent.sleep(float(args.get("seconds", 10.0)))
    finally:
        watch.stop()
    return {"limit": watch.limit, "calls": watch.report()}


# The collector


@order("gc")
def collect(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Runs the collector, and tells what it found."""
    begun = time.monotonic()
    found = gc.collect()
    return {
        "found": found,
        "seconds": round(time.monotonic() - begun, 4),
        "objects": len(gc.get_objects()),
        "frozen": gc.get_freeze_count(),
        "uncollectable": len(gc.garbage),
        "thresholds": list(gc.get_threshold()),
        "generations": gc.get_stats(),
    }
