"""Dealets: the kind."""

from __future__ import annotations

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi import component as registry
from hemi.net.dealet import Dealet
from tests.net.test_conn import conn_of


def test_the_kind() -> None:
    assert {"access", "limit", "tcpx_proxy"} <= set(registry.signs("dealets"))
    for cls in registry.concrete(Dealet):
        assert issubclass(cls, Dealet) and cls.deal is not Dealet.deal
        assert set(cls.transports) <= {"tcpx", "udpx"}
    with pytest.raises(NotImplementedError):
        Dealet().deal(conn_of())
