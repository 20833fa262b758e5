"""As whom workers run: the leader keeps its privileges to bind low ports, its workers give theirs up.

A worker gives them up right after the fork, before it loads the configuration or any code of the user's. So what the
configuration names (certificates, web roots, logs) must be accessible to that user.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable
from typing import NamedTuple

from hemi.errors import EnvError, UsageError

__all__ = ["Identity", "check_root", "drop", "find", "hand_over"]


class Identity(NamedTuple):
    """A user and a group to become, by number, and the user's name for the supplementary groups."""

    uid: int
    gid: int
    name: str


def find(user: str | None, group: str | None) -> Identity | None:
    """Returns whom --user and --group mean, None without either. Raises UsageError for unknown ones."""
    if user is None and group is None:
        return None
    uid, gid, name = os.geteuid(), os.getegid(), ""
    if user is not None:
        entry = _user(user)
        uid = entry.pw_uid if entry else int(user)
        gid = entry.pw_gid if entry else gid
        name = entry.pw_name if entry else ""
        if entry is None and group is None:
            raise UsageError(f"--user {user}: nobody has this number, so --group must be given too")
    if group is not None:
        gid = _group(group)
    if os.geteuid() != 0 and (uid, gid) != (os.geteuid(), os.getegid()):
        raise EnvError("--user and --group need a leader that runs as root")
    return Identity(uid, gid, name)


def _user(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        if user.isdigit():
            return None
        raise UsageError(f"--user {user}: there is no such user") from None


def _group(group: str) -> int:
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"--group {group}: there is no such group") from None


def check_root(identity: Identity | None, allowed: bool) -> str:
    """Returns a warning when workers will run as root on purpose; raises UsageError when it is not on purpose."""
    if (identity.uid if identity is not None else os.geteuid()) != 0:
        return ""
    if not allowed:
        raise UsageError(
            "the workers would run as root: name a user (--user NAME), or say that it is meant (--allow-root)"
        )
    return "the workers run as root: whoever breaks into one has the machine (--user NAME gives them another user)"


def hand_over(identity: Identity | None, directories: Iterable[str]) -> None:
    """Gives directories to whom the workers run as, where they are empty and root's: we have just made them."""
    if identity is None or os.geteuid() != 0:
        return
    for directory in directories:
        try:
            if os.lstat(directory).st_uid == 0 and not os.listdir(directory):
                os.chown(directory, identity.uid, identity.gid, follow_symlinks=False)
        except OSError as error:
            raise EnvError(f"cannot give {directory} to the workers' user: {error.strerror}") from error


def drop(identity: Identity | None) -> None:
    """Becomes another user for good. Raises EnvError."""
    if identity is None or (identity.uid, identity.gid) == (os.getuid(), os.getgid()) == (0, 0):
        return
    try:
        if os.geteuid() == 0:
            if identity.name:
                os.initgroups(identity.name, identity.gid)
            else:
                os.setgroups([identity.gid])
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        raise EnvError(f"cannot become user {identity.name or identity.uid}: {error.strerror}") from error
    if identity.uid and 0 in os.getresuid():
        raise EnvError("the privileges of root could not be given up")
