"""What a leader can order its workers to do.

An order is a function of the worker, the arguments and a way to report progress; it may wait in blocking style (it has
a greenlet of its own) and returns a JSON object:

    @order("heap")
    def heap(worker, args, progress):
        progress({"text": "looking"})
        return {"top": ...}

What it raises becomes the error of the answer. The leader asks by `leader.ask(child, "heap", {...})`.
"""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
import greenlet

from hemi.errors import EXIT_STOP
from hemi.procmgr.settings import settings_of
from hemi.procmgr.single import accepting, addresses

if TYPE_CHECKING:
    from hemi.procmgr.worker import Worker

__all__ = ["ORDERS", "Progress", "order"]

Progress = Callable[[dict[str, Any]], None]
Order = Callable[["Worker", dict[str, Any], Progress], "dict[str, Any] | None"]

ORDERS: dict[str, Order] = {}


def order(name: str) -> Callable[[Order], Order]:
    """Registers an order."""

    def register(function: Order) -> Order:
        ORDERS[name] = function
        return function

    return register


@order("prepare")
def prepare(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """First half of a reload: makes a stage of the configuration as it is now, ready to start; changes nothing."""
    stage = worker.keeper.prepare_next()
    worker.tell_keys()
    return {"settings": settings_of(stage), "wishes": worker.wishes()}


@order("commit")
def commit(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Second half of a reload: the prepared stage takes over, the old one retires."""
    worker.keeper.commit_next(worker.note_end_of)
    stage = worker.keeper.current
    assert stage is not None
    worker.note_stage(stage)
    worker.tell_keys()
    return {"stage": stage.id}


@order("rollback")
def rollback(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Takes the first half of a reload back."""
    worker.keeper.drop_next()
    worker.tell_keys()
    return {}


@order("reopen")
def reopen(worker: Worker, args: dict[str, Any], progress: Progress) -> None:
    """Opens the log files anew."""
    worker.keeper.reopen()


@order("leaving")
def leaving(worker: Worker, args: dict[str, Any], progress: Progress) -> None:
    """Says that the instance is about to stop: readiness checks fail from now on, while it still serves."""
    for stage in worker.stages():
        stage.leaving = True


@order("quit")
def quit_(worker: Worker, args: dict[str, Any], progress: Progress) -> None:
    """Finishes what was begun, then ends."""
    worker.quit()


@order("stop")
def stop(worker: Worker, args: dict[str, Any], progress: Progress) -> None:
    """Ends at once."""
    worker.end(0.0, EXIT_STOP)


@order("stages")
def stages(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Tells about the stages that are alive."""
    return {"stages": _describe(worker)}


def _describe(worker: Worker) -> list[dict[str, Any]]:
    return [
        {
            "id": stage.id,
            "state": "serving" if stage is worker.keeper.current else "draining",
            "conns": sum(one.conns for one in accepting(stage)),
            "servers": addresses(stage),
        }
        for stage in worker.stages()
    ]


@order("where")
def where(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Tells where the main greenlet is, which imports applications and starts the stage."""
    main = gevent.get_hub().parent
    frame = main.gr_frame if main is not None else None
    return {"stack": "".join(traceback.format_stack(frame)).rstrip()}


@order("worker")
def worker_(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Tells about the process."""
    return {
        "python": sys.version.split()[0],
        "gevent": gevent.__version__,
        "uptime": round(time.time() - worker.started, 1),
        "greenlets": sum(
            issubclass(type(each), greenlet.greenlet) and not each.dead for each in gc.get_objects()
        ),
        "figures": worker.figures(),
        "stages": _describe(worker),
    }
