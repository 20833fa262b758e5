"""Cases: what their configuration must be."""

from __future__ import annotations

import pytest

from hemi.source import Dirs
from tests.net.kit import problems


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("{}", "must have dealets"),
        ("{dealets: [nothing]}", "nothing"),
        ("{if: $path -f, dealets: [{access: {deny: all}}]}", "there is no variable $path"),
        ("{if: '$src_port in \"10.0.0.0/8\"', dealets: [{access: {deny: all}}]}", "$dst_host, $src_host"),
        ("{iff: 1, dealets: [{access: {deny: all}}]}", "if"),
    ],
)
def test_problems(dirs: Dirs, case: str, problem: str) -> None:
    text = f'routers: {{one: {{type: tcpx_router, address: "127.0.0.1:0", cases: [{case}]}}}}'
    assert problem in problems(text, dirs)
