"""What a worker tells about its work: the meters of its components, its backends, and what a request would meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from hemi.errors import EnvError, UsageError
from hemi.meter import BEGUN, Meter, add, requests
from hemi.procmgr.orders import Progress, order
from hemi.server import Server

if TYPE_CHECKING:
    from hemi.logger import Level
    from hemi.procmgr.worker import Worker
    from hemi.stage import Stage

__all__ = ["Meters"]


class Meters:
    """The meters of a process by "kind name", through its reloads: what a stage has counted is kept when it retires."""

    def __init__(self) -> None:
        self._retired: dict[str, Meter] = {}

    def __repr__(self) -> str:
        return f"<Meters retired={len(self._retired)}>"

    def retire(self, stage: Stage) -> None:
        """Takes over the counts of a stage that has ended."""
        for name, meter in meters_of(stage).items():
            total = add([self._retired.get(name, []), meter])
            total[BEGUN] = requests(total)  # what was cut at the end of the drain is not in flight
            self._retired[name] = total

    def collect(self, stages: list[Stage]) -> dict[str, Meter]:
        """All counts until now."""
        total = dict(self._retired)
        for stage in stages:
            for name, meter in meters_of(stage).items():
                total[name] = add([total.get(name, []), meter])
        return total


def meters_of(stage: Stage) -> dict[str, Meter]:
    """The meters of a stage's components, those of "webapps" and "servers" for example."""
    return {
        f"{kind} {name}": meter
        for kind, members in stage.members.items()
        for name, member in members.items()
        if (meter := getattr(member, "meter", None)) is not None
    }


@order("figures")
def figures(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Tells all meters; zeros at their end are left out."""
    meters = worker.meters.collect(worker.stages())
    return {"meters": {name: _trimmed(meter) for name, meter in meters.items()}, **worker.figures()}


def _trimmed(meter: Meter) -> Meter:
    end = len(meter)
    while end and not meter[end - 1]:
        end -= 1
    return meter[:end]


@order("log")
def log(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Changes the error log's least level, when one is given; tells it."""
    level = args.get("level")
    stages = worker.stages()
    if level is not None:
        worker.log_order = (cast("Level", level), stages[0].log_level if stages else "")
        for stage in stages:
            stage.log.level = cast("Level", level)
    return {"level": stages[0].log.level if stages else ""}


@order("explain")
def explain(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Tells what a request would meet: one explanation for each server that could get it."""
    stage = worker.keeper.current
    if stage is None:
        raise EnvError("this worker does not serve")
    method, url = str(args.get("method", "GET")), str(args.get("url", "/"))
    fields = [(str(name), str(value)) for name, value in args.get("fields", [])]
    source = str(args.get("from", "127.0.0.1"))
    found = [
        told
        for server in stage.members["servers"].values()
        if isinstance(server, Server) and (told := server.explain(method, url, fields, source)) is not None
    ]
    if not found:
        raise UsageError(f"no server gets a request for {url}")
    return {"servers": found}


@order("backends")
def backends(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Tells about the backends."""
    stage = worker.keeper.current
    members = stage.members.get("backends", {}) if stage is not None else {}
    return {"backends": [cast("Any", member).describe() for member in members.values()]}


@order("node")
def node(worker: Worker, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Orders a node of a backend."""
    stage = worker.keeper.current
    members = stage.members.get("backends", {}) if stage is not None else {}
    name, key, state = args["backend"], args["node"], args["state"]
    backend: Any = members.get(name)
    if backend is None:
        known = ", ".join(sorted(members)) or "none"
        raise UsageError(f'there is no backend "{name}"; there is {known}')
    try:
        if state.isdigit():
            backend.weigh_node(key, int(state))
        else:
            backend.order_node(key, state)
    except (LookupError, ValueError) as error:
        raise UsageError(str(error.args[0])) from None
    return {"node": backend.node(key).describe()}
