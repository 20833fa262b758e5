"""Advice about systems that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hemi.procmgr.advice import look


def system(folder: Path, **files: str) -> dict[str, dict[str, Any]]:
    """The findings about a system with these files ("/" written "__")."""
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return {each["item"]: each for each in look(1, str(folder))}


def test_a_good_system_needs_no_change(tmp_path: Path) -> None:
    found = system(
        tmp_path,
        proc__sys__net__core__somaxconn="4096\n",
        proc__sys__net__ipv4__tcp_syncookies="1",
        proc__sys__net__ipv4__ip_local_port_range="1024\t65535",
        proc__meminfo="MemTotal: 1000 kB\nMemAvailable: 900 kB\nstrange\n",
        sys__kernel__mm__transparent_hugepage__enabled="always [madvise] never",
    )
    assert not [item for item in found if item.startswith(("net", "mem", "trans")) and found[item]["change"]]


def test_a_bad_one_is_told_what_to_do_and_why(tmp_path: Path) -> None:
    found = system(
        tmp_path,
        proc__sys__net__core__somaxconn="128",
        proc__sys__net__ipv4__tcp_slow_start_after_idle="1",
        proc__sys__net__ipv4__ip_local_port_range="32768 33000",
        proc__sys__net__netfilter__nf_conntrack_count="90",
        proc__sys__net__netfilter__nf_conntrack_max="100",
        proc__sys__fs__file___max="100",
        proc__sys__vm__overcommit_memory="2",
        proc__meminfo="MemTotal: 1000 kB\nMemAvailable: 50 kB\n",
        sys__fs__cgroup__memory___max="1000",
        sys__kernel__mm__transparent_hugepage__enabled="[always] madvise never",
        sys__devices__system__clocksource__clocksource0__current_clocksource="hpet",
    )
    bad = {item for item, finding in found.items() if finding["change"]}
    assert bad >= {
        "net.core.somaxconn",
        "net.ipv4.tcp_slow_start_after_idle",
        "net.ipv4.ip_local_port_range",
        "net.netfilter.nf_conntrack_max",
        "vm.overcommit_memory",
        "memory",
        "transparent huge pages",
        "clock",
    }
    assert all(found[item]["why"] for item in bad)
    assert found["net.core.somaxconn"]["change"] == "sysctl net.core.somaxconn=4096"


def test_what_cannot_be_seen_is_not_told(tmp_path: Path) -> None:
    assert set(system(tmp_path)) == {"open files", "processors", "clock"}


def test_processors(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("100000 100000")
    found = {each["item"]: each for each in look(8, str(tmp_path))}
    assert found["processors"]["change"] == "goroxctl workers 1"
