"""The key file, and proofs of knowing it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hemi.errors import EnvError
from hemi.procmgr.keyfile import make_key, nonce, prove, proves, read_key


def test_a_key_is_made_once(tmp_path: Path) -> None:
    path = str(tmp_path / "key")
    key = make_key(path)
    assert len(key) == 64
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert make_key(path) == read_key(path) == key
    assert os.listdir(tmp_path) == ["key"]


def test_a_key_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = make_key(str(path))
    path.chmod(0o640)
    with pytest.raises(EnvError, match="chmod 600"):
        read_key(str(path))
    assert make_key(str(path)) != key


@pytest.mark.parametrize("content", ["", "short", "g" * 64, "0" * 63, "\0" * 64])
def test_what_is_no_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(EnvError, match="holds no key"):
        read_key(str(path))
    assert len(make_key(str(path))) == 64


def test_links_folders_and_pipes_are_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "key"
    make_key(str(target))
    link.symlink_to(target)
    with pytest.raises(EnvError, match="cannot be read"):
        read_key(str(link))
    before = target.read_text()
    make_key(str(link))
    assert not link.is_symlink()
    assert target.read_text() == before
    with pytest.raises(EnvError, match="regular file"):
        read_key(str(tmp_path))
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(EnvError, match="regular file"):
        read_key(str(tmp_path / "fifo"))
    with pytest.raises(EnvError, match="there is no key file"):
        read_key(str(tmp_path / "none"))
    with pytest.raises(EnvError, match="cannot be written"):
        make_key(str(tmp_path / "no" / "key"))


def test_proofs_are_of_one_side_one_key_and_one_conversation() -> None:
    key, a, b = "1" * 64, nonce(), nonce()
    proof = prove(key, "operator", a, b)
    assert proves(proof, key, "operator", a, b)
    assert not proves(proof, key, "leader", a, b)
    assert not proves(proof, "2" * 64, "operator", a, b)
    assert not proves(proof, key, "operator", b, a)
    for other in (None, 1, [], "", "ü", proof[:-1]):
        assert not proves(other, key, "operator", a, b)
