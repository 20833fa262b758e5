"""What a worker does on its leader's order, on a worker of which only the stages are real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hemi.procmgr.orders import ORDERS
from tests.running import Served

CONFIG = """\
webapps:
  one:
    hostnames: ["*"]
    rules:
      - {return_code: 200, return_text: first}
servers:
  main: {type: httpx_server, address: "127.0.0.1:0", webapps: [one]}
"""


class Worker:
    """What orders need of a worker."""

    def __init__(self, served: Served) -> None:
        self.keeper = served.keeper
        self.told = 0
        self.noted: list[Any] = []

    def tell_keys(self) -> None:
        self.told += 1

    def wishes(self) -> dict[str, Any]:
        return {"127.0.0.1:0 of main": [4096]}

    def note_end_of(self, stage: Any) -> None:
        self.noted.append(stage)

    def note_stage(self, stage: Any) -> None:
        self.noted.append(stage)

    def stages(self) -> list[Any]:
        return [self.keeper.current, *self.keeper.draining]


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve(CONFIG)


def obey(worker: Worker, name: str) -> Any:
    return ORDERS[name](worker, {}, lambda data: None)  # type: ignore[arg-type]


def test_a_reload_in_two_steps(served: Served) -> None:
    worker = Worker(served)
    served.text = CONFIG.replace("first", "second")
    answer = obey(worker, "prepare")
    assert answer["settings"]["drain_timeout"] == 30
    assert answer["wishes"] == worker.wishes()
    assert served.get().text == "first"
    assert obey(worker, "commit") == {"stage": served.stage.id}
    assert served.get().text == "second"
    assert worker.told == 2
    assert served.stage in worker.noted


def test_a_reload_taken_back(served: Served) -> None:
    worker = Worker(served)
    served.text = CONFIG.replace("first", "second")
    obey(worker, "prepare")
    obey(worker, "rollback")
    obey(worker, "rollback")
    assert served.get().text == "first"
    with pytest.raises(Exception, match="no stage is prepared"):
        obey(worker, "commit")


def test_where_it_is(served: Served) -> None:
    stack = obey(Worker(served), "where")["stack"]
    assert "File " in stack


def test_leaving_is_told_to_all_stages(served: Served) -> None:
    assert not served.stage.leaving
    obey(Worker(served), "leaving")
    assert served.stage.leaving


def test_stages(served: Served) -> None:
    (told,) = obey(Worker(served), "stages")["stages"]
    assert (told["id"], told["state"]) == (served.stage.id, "serving")
    assert "http://127.0.0.1:" in str(told["servers"])
