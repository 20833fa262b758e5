"""Open files and the contents of small ones, kept for a moment: the fixture "fcache".

Belongs here: opening a file safely (never blocking, only regular files, no symbolic link out of the root),
keeping it, noticing that it changed, and staying within bounds of count, bytes and descriptors. What a file
means to HTTP (types, ranges, conditions) belongs to the handlets; they may keep ready-made header bytes in
`OpenFile.slot`.

A file that was replaced, has grown or was cut becomes visible after `cache_timeout` at the latest: then a
stat compares device, inode, size, mtime and ctime with those of the kept one. An OpenFile never changes:
whoever holds one goes on with the content, or the descriptor, of the moment it was opened.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
import time
from collections import OrderedDict
from time import monotonic
from typing import Any, Literal

from gevent import monkey

from hemi.component import Component, prop
from hemi.values import Duration, Size

__all__ = ["Fcache", "FileCache", "Follow", "OpenFile"]

Follow = Literal["root", "always", "never"]

# O_NONBLOCK: the open of a FIFO must not wait for its other end. O_NOCTTY: that of a terminal must not adopt
# it.
OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", 0)

# A change within the granularity of the file system's clock (a kernel tick, 10 ms at worst) leaves size and
# mtime as they are; a file that was this young when it was read is read again at its first revalidation.
YOUNG_NS = 50_000_000

# gevent's os.close waits with all but regular files for the next round of the hub (at 10 µs each), in case somebody
# waits for the descriptor; here nobody ever does.
_close = monkey.get_original("os", "close")

Key = tuple[str, "str | None", Follow]


class OpenFile:
    """A file, as it was when it was opened: its content when small, otherwise a descriptor.

    `fd` is -1 for small files and folders. Whoever uses `fd` beyond the next switch of greenlets calls
    `acquire` before and `release` after: the descriptor then stays open even when the cache has let go of it.
    """

    __slots__ = (
        "content",
        "due",
        "fd",
        "is_dir",
        "kept",
        "mtime",
        "mtime_ns",
        "path",
        "signature",
        "size",
        "slot",
        "users",
        "young",
    )

    def __init__(self, path: str, fd: int, content: bytes | None, status: os.stat_result) -> None:
        self.path = path
        self.fd = fd
        self.content = content
        self.is_dir = stat.S_ISDIR(status.st_mode)
        self.size = 0 if self.is_dir else status.st_size if content is None else len(content)
        self.mtime_ns = status.st_mtime_ns
        self.mtime = status.st_mtime_ns // 1_000_000_000  # seconds, as HTTP dates have no fractions
        self.signature = sign(status)
        self.young = time.time_ns() - status.st_mtime_ns < YOUNG_NS
        self.due = 0.0  # monotonic time of the next stat
        self.users = 0
        self.kept = False  # by the cache
        self.slot: Any = None  # for the handlet that sends it

    def __repr__(self) -> str:
        kind = "folder" if self.is_dir else "small" if self.content is not None else f"fd={self.fd}"
        return f"<OpenFile {self.path} {kind} size={self.size} users={self.users}>"

    def acquire(self) -> int:
        """Keep the descriptor open until `release`; returns it."""
        self.users += 1
        return self.fd

    def release(self) -> None:
        """Undo one `acquire`."""
        self.users -= 1
        if not self.users and not self.kept:
            self.close()

    def drop(self) -> None:
        """The cache lets go; the descriptor is closed now, or when its last user releases it."""
        self.kept = False
        if not self.users:
            self.close()

    def close(self) -> None:
        """Close the descriptor, if there is one."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            _close(fd)


def sign(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """What is the same as long as a file is the same."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


# --- opening ------------------------------------------------------------

SYS_OPENAT2 = 437  # the same on every architecture
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x02, 0x04, 0x08


class OpenHow(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(dir_fd: int, path: str, flags: int, resolve: int) -> int:
    """openat2(2), which the os module lacks. Raises OSError: ENOSYS where the kernel (< 5.6) lacks it."""
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    how = OpenHow(flags, 0, resolve)
    while True:
        args = (dir_fd, os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)))
        fd: int = _libc.syscall(ctypes.c_long(SYS_OPENAT2), *args)
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (
            errno.EINTR,
            errno.EAGAIN,
        ):  # EAGAIN: a rename went on meanwhile, the kernel could not be sure
            raise OSError(code, os.strerror(code), path)


_libc = ctypes.CDLL(None, use_errno=True)


def has_openat2() -> bool:
    """Whether openat2 works here; a seccomp filter may refuse it with EPERM."""
    try:
        _close(openat2(-100, "/", DIR_FLAGS, RESOLVE_NO_MAGICLINKS))
    except OSError:
        return False
    return True


class Opener:
    """Opens files below a root by the policy of symbolic links; with openat2(2), or without.

    "root": links are followed as long as they stay below the root. "never": no link below the root is
    followed (the root's own path may have some). "always": as the kernel does. No file name is ever checked
    first and opened later by a path that somebody could have changed in between.
    """

    def __init__(self, use_openat2: bool | None = None) -> None:
        self.use_openat2 = has_openat2() if use_openat2 is None else use_openat2

    def open(self, path: str, root: str | None, follow: Follow) -> int:
        """A descriptor for reading. Raises OSError; PermissionError where the policy says no."""
        if follow == "always" or (root is None and follow == "root"):
            return os.open(path, OPEN_FLAGS)
        root = "/" if root is None else root
        inner = below(path, root)
        if inner is None:
            raise refusal(path, "not below the root")
        root_fd = os.open(root, DIR_FLAGS)
        try:
            if follow == "never":
                return self._open_plain(root_fd, inner, path)
            if self.use_openat2:
                try:
                    return openat2(root_fd, inner, OPEN_FLAGS, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
                except OSError as e:
                    if e.errno != errno.EXDEV:
                        raise
                    # A link is absolute, or leaves the root on its way; it may well end below the root.
        finally:
            _close(root_fd)
        return self._open_real(path, root)

    def _open_real(self, path: str, root: str) -> int:
        """Resolve the links ourselves, then open the outcome, which must have none left."""
        real_root = os.path.realpath(root)
        inner = below(os.path.realpath(path, strict=True), real_root)
        if inner is None:
            raise refusal(path, "a symbolic link leads out of the root")
        root_fd = os.open(real_root, DIR_FLAGS)
        try:
            return self._open_plain(root_fd, inner, path)
        finally:
            _close(root_fd)

    def _open_plain(self, root_fd: int, inner: str, path: str) -> int:
        """Open what is below `root_fd` without following a link anywhere."""
        try:
            if self.use_openat2:
                return openat2(root_fd, inner, OPEN_FLAGS, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
            return walk(root_fd, inner)
        except OSError as e:
            if e.errno in (errno.ELOOP, errno.EXDEV):
                raise refusal(path, "a symbolic link") from None
            raise


def walk(root_fd: int, inner: str) -> int:
    """Open `inner` below a folder one component at a time; a symbolic link is not followed, but ELOOP."""
    names = [name for name in inner.split("/") if name not in ("", ".")]
    if ".." in names:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), inner)
    if not names:
        return os.open(".", OPEN_FLAGS, dir_fd=root_fd)
    folder = root_fd
    try:
        for name in names[:-1]:
            try:
                fd = os.open(name, DIR_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
            except NotADirectoryError:
                # O_DIRECTORY is looked at before O_NOFOLLOW: a link shows up as "not a directory".
                if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), inner) from None
                raise
            if folder != root_fd:
                _close(folder)
            folder = fd
        return os.open(names[-1], OPEN_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        if folder != root_fd:
            _close(folder)


def below(path: str, root: str) -> str | None:
    """The part of `path` behind `root` ("." for the root itself), None when it is not below: by the text."""
    root = root.rstrip("/")
    if path == root or path == root + "/":
        return "."
    if not path.startswith(root + "/"):
        return None
    return path[len(root) + 1 :].strip("/") or "."


def refusal(path: str, reason: str) -> PermissionError:
    """The error of a file that exists and is not to be had."""
    return PermissionError(errno.EACCES, reason, path)


# --- the cache ------------------------------------------------------------


class FileCache:
    """Keeps files by (path, root, policy), the youngest use last. Knows no configuration.

    `timeout` in seconds, sizes in bytes. 0 seconds looks at the file system at every `get`.
    """

    def __init__(
        self,
        *,
        timeout: float = 1.0,
        small_size: int = 64 << 10,
        max_small_bytes: int = 64 << 20,
        max_small_files: int = 10_000,
        max_open_files: int = 1_000,
        max_missing: int = 1_000,
        opener: Opener | None = None,
    ) -> None:
        self.timeout = timeout
        self.small_size = small_size
        self.max_small_bytes = max_small_bytes
        self.max_small_files = max_small_files
        self.max_open_files = max_open_files
        self.max_missing = max_missing
        self.opener = opener or Opener()
        self.small_bytes = 0
        self.loads = 0  # files opened so far
        self.small: OrderedDict[Key, OpenFile] = OrderedDict()  # contents and folders
        self.large: OrderedDict[Key, OpenFile] = OrderedDict()  # descriptors
        self.missing: OrderedDict[Key, tuple[float, OSError]] = (
            OrderedDict()
        )  # until when, what was the matter

    def get(self, path: str, root: str | None = None, follow: Follow = "root") -> OpenFile:
        """The file or folder at `path`.

        Raises FileNotFoundError (also for unusable names), PermissionError (also for what is no regular file,
        and for symbolic links that `follow` forbids), or OSError.
        """
        key = (path, root, follow)
        small = self.small
        file = small.get(key)
        if file is not None and monotonic() < file.due:  # the hot path: 0.4 µs
            small.move_to_end(key)
            return file
        return self._get(key, file)

    def _get(self, key: Key, file: OpenFile | None) -> OpenFile:
        now = monotonic()
        if file is None and (file := self.large.get(key)) is not None and now < file.due:
            self.large.move_to_end(key)
            return file
        if file is not None:
            if self._is_current(file):
                file.due = now + self.timeout
                (self.small if file.fd < 0 else self.large).move_to_end(key)
                return file
            self._forget(key)
        elif (miss := self.missing.get(key)) is not None:
            if now < miss[0]:
                raise copy_error(miss[1])
            del self.missing[key]
        return self._load(key)

    def clear(self) -> None:
        """Forget everything; descriptors in use are closed when their users release them."""
        for key in [*self.small, *self.large]:
            self._forget(key)
        self.missing.clear()

    def _is_current(self, file: OpenFile) -> bool:
        if file.young:
            return False
        try:
            return sign(os.stat(file.path)) == file.signature
        except OSError:
            return False

    def _load(self, key: Key) -> OpenFile:
        try:
            file = self._open(*key)
        except (OSError, ValueError) as e:  # ValueError: a NUL, or a character no file name can have
            error = plain_error(e, key[0])
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO):
                self._keep_missing(key, error)
            raise copy_error(error) from None
        self._keep(key, file)
        return file

    def _open(self, path: str, root: str | None, follow: Follow) -> OpenFile:
        self.loads += 1
        if not is_plain(os.stat(path).st_mode):  # to open a device can have effects, so look first
            raise refusal(path, "not a regular file")
        while True:
            try:
                fd = self.opener.open(path, root, follow)
                break
            except OSError as e:
                # Out of descriptors: ours are the first to go.
                if e.errno not in (errno.EMFILE, errno.ENFILE) or not self._evict_large():
                    raise
        try:
            status = os.fstat(fd)
            if not is_plain(status.st_mode):
                raise refusal(path, "not a regular file")
            content = None
            if stat.S_ISREG(status.st_mode) and status.st_size <= self.small_size:
                content, status = read_small(fd, status, self.small_size)
        except BaseException:
            _close(fd)
            raise
        if content is None and stat.S_ISREG(status.st_mode):
            return OpenFile(path, fd, None, status)
        _close(fd)
        return OpenFile(path, -1, content, status)

    def _keep(self, key: Key, file: OpenFile) -> None:
        file.due = monotonic() + self.timeout
        file.kept = True
        if file.fd >= 0:
            self.large[key] = file
            while len(self.large) > self.max_open_files and self._evict_large(spare=key):
                pass
            return
        self.small[key] = file
        self.small_bytes += file.size
        while self.small and (
            len(self.small) > self.max_small_files or self.small_bytes > self.max_small_bytes
        ):
            self._forget(next(iter(self.small)))

    def _keep_missing(self, key: Key, error: OSError) -> None:
        self.missing[key] = (monotonic() + self.timeout, error)
        if len(self.missing) > self.max_missing:
            self.missing.popitem(last=False)

    def _evict_large(self, spare: Key | None = None) -> bool:
        """Let go of the descriptor used longest ago, unused ones first; False when there is none.

        `spare` is the one that was just opened: nobody had the time to acquire it.
        """
        unused = (key for key, file in self.large.items() if not file.users and key != spare)
        key = next(unused, None) or next((key for key in self.large if key != spare), None)
        if key is None:
            return False
        self._forget(key)
        return True

    def _forget(self, key: Key) -> None:
        file = self.small.pop(key, None)
        if file is not None:
            self.small_bytes -= file.size
        else:
            file = self.large.pop(key, None)
        if file is not None:
            file.drop()


def is_plain(mode: int) -> bool:
    """A regular file or a folder; everything else may block, or act when it is opened."""
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def read_small(fd: int, status: os.stat_result, limit: int) -> tuple[bytes | None, os.stat_result]:
    """The whole content with the status that fits it; None for content when the file grew beyond `limit`.

    Raises OSError. A file that keeps changing while it is read is taken as the last reading found it.
    """
    content = b""
    for _ in range(3):
        parts, size, offset = [], limit + 1, 0
        while size > 0 and (part := os.pread(fd, size, offset)):
            parts.append(part)
            size -= len(part)
            offset += len(part)
        after = os.fstat(fd)
        if offset > limit:
            return None, after
        content = b"".join(parts)
        if sign(after) == sign(status):
            break
        status = after
    return content, status


def plain_error(error: OSError | ValueError, path: str) -> OSError:
    """One of few errors for the many ways in which a name can lead nowhere."""
    if isinstance(error, OSError):
        code = error.errno
        if code in (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
            code = errno.ENOENT
        elif code in (
            errno.ENXIO,
            errno.ENODEV,
            errno.EXDEV,
        ):  # a socket, a FIFO's other end, a device without driver
            code = errno.EACCES
        reason = error.strerror if code == error.errno else os.strerror(code or 0)
        return OSError(code, reason, path)
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def copy_error(error: OSError) -> OSError:
    """A fresh one of the same: an exception that is raised twice would collect the tracebacks of both."""
    return OSError(error.errno, error.strerror, error.filename)


class Fcache(Component, kind="fixtures", sign="fcache"):
    """Keeps open files and the contents of small ones, for all handlets of a stage."""

    cache_timeout: Duration = prop(
        "1s", "After this time a kept file is compared with the file system.", inherit=False
    )
    small_file_size: Size = prop(
        "64K", "Files up to this size are kept as content.", most="16M", inherit=False
    )
    max_small_bytes: Size = prop("64M", "Bytes of content to keep.", inherit=False)
    max_small_files: int = prop(10000, "Contents to keep.", least=0, inherit=False)
    max_open_files: int = prop(1000, "Descriptors of larger files to keep open.", least=0, inherit=False)

    get: Any  # FileCache.get, without a call in between

    def prepare(self) -> None:
        """Make the cache; nothing is opened yet."""
        self.cache = FileCache(
            timeout=self.cache_timeout,
            small_size=self.small_file_size,
            max_small_bytes=self.max_small_bytes,
            max_small_files=self.max_small_files,
            max_open_files=self.max_open_files,
        )
        self.get = self.cache.get

    def stop(self, deadline: float) -> None:
        """Close what nobody uses."""
        cache = getattr(self, "cache", None)
        if cache is not None:
            cache.clear()
