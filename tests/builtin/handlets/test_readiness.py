"""What load balancers are told."""

from __future__ import annotations

import hemi.builtin  # noqa: F401  registers its components
from tests.webkit import serve

RULES = [{"if": '$path == "/ready"', "handlets": "readiness"}, {"return_code": 200, "return_text": "served"}]


def test_it_is_ready_until_the_instance_is_to_stop() -> None:
    with serve(rules=RULES) as site:
        answer = site.get("/ready")
        assert (answer.status, answer.content) == (200, b"ready\n")
        assert answer.header("cache-control") == "no-store"
        assert answer.header("content-type") == "text/plain"
        site.stage.leaving = True
        answer = site.get("/ready")
        assert (answer.status, answer.content) == (503, b"leaving\n")
        assert site.get("/").content == b"served", "which goes on serving"
