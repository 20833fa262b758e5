"""cmdui, the leader's end: operators dial it, prove that they can read the key file, and have commands run.

The conversation, in framed messages (`hemi.procmgr.messages`):

    operator  {"hello": NONCE}
    leader    {"nonce": NONCE, "proof": HMAC}          it knows the key as well (see hemi.procmgr.keyfile)
    operator  {"proof": HMAC}
    leader    {"welcome": PID, "version": VERSION}
    operator  {"call": ACTION, "args": {…}}            any number of these, one after another
    leader    {"progress": {"text": …, …}}             none, one or several
    leader    {"answer": {…}}  or  {"error": TEXT, "details": [TEXT, …]}

`{"tell": ACTION, "args": {…}}` is answered by `{"acknowledged": ACTION}` at once; what comes of it is in the log.
What is no such message ends the connection. Nothing here waits: a slow operator keeps nobody else.
"""

from __future__ import annotations

import difflib
import os
import selectors
import socket
import time
from typing import TYPE_CHECKING, Any

from hemi import __version__
from hemi.errors import EnvError, UsageError
from hemi.procmgr import keyfile
from hemi.procmgr.actions import ACTIONS
from hemi.procmgr.commands import COMMANDS
from hemi.procmgr.framedconn import FramedConn
from hemi.procmgr.loop import CommandError
from hemi.procmgr.messages import Message
from hemi.procmgr.target import DEFAULT, Target, parse_target, show_target

if TYPE_CHECKING:
    from hemi.procmgr.leader import Leader

__all__ = ["CmdConn", "CmdUI"]

MOST_STRANGERS = 16
"""How many connections without a proof are kept; beyond, the oldest goes: a flood must not lock operators out."""

MOST_OPERATORS = 64
"""How many operators may be connected."""

PATIENCE = 5.0
"""Seconds that somebody has to prove himself."""

COMPLAIN_EVERY = 10.0
"""Seconds between two log lines about wrong keys."""

RETRY = 0.05
"""Seconds between two tries of an upgrade's new leader to take the address over."""

MANY_TRIES = 100
RETRY_SLOWLY = 2.0


class CmdConn:
    """One operator's connection: a stranger first, then somebody who may have commands run."""

    def __init__(self, ui: CmdUI, sock: socket.socket) -> None:
        self.ui = ui
        self.state = "new"
        self._operator_nonce = ""
        self._nonce = ""
        self.conn = FramedConn(ui.leader.loop, sock, self._received, self._ended, PATIENCE)
        self.conn.broken = self._part

    def __repr__(self) -> str:
        return f"<CmdConn {self.state}>"

    def _received(self, message: Message) -> None:
        if self.state == "new":
            self._greet(message)
        elif self.state == "challenged":
            self._admit(message)
        elif self.state == "busy":
            self._part("one action at a time: wait for its answer")
        else:
            self._obey(message)

    def _greet(self, message: Message) -> None:
        theirs = message.get("hello")
        if not isinstance(theirs, str) or not 16 <= len(theirs) <= 128:
            self._part("this is the control port of gorox: use goroxctl")
            return
        self._operator_nonce, self._nonce = theirs, keyfile.nonce()
        self.state = "challenged"
        proof = keyfile.prove(self.ui.key, "leader", theirs, self._nonce)
        self.conn.send({"nonce": self._nonce, "proof": proof})

    def _admit(self, message: Message) -> None:
        ui = self.ui
        if not keyfile.proves(message.get("proof"), ui.key, "operator", self._operator_nonce, self._nonce):
            ui.complain()
            self._part("wrong key")
            return
        if len(ui.operators) >= MOST_OPERATORS:
            self._part(f"there are {MOST_OPERATORS} operators already")
            return
        ui.strangers.pop(self, None)
        ui.operators.add(self)
        self.state = "idle"
        self.conn.trust()
        self.conn.send({"welcome": os.getpid(), "version": __version__})

    def _obey(self, message: Message) -> None:
        call, tell, args = message.get("call"), message.get("tell"), message.get("args", {})
        name = call if call is not None else tell
        if not isinstance(name, str) or not isinstance(args, dict):
            self._part("this is no message that operators send")
            return
        leader = self.ui.leader
        if name not in COMMANDS:
            near = difflib.get_close_matches(name[:64], COMMANDS, 1)
            hint = f", did you mean {near[0]}?" if near else ""
            self.conn.send({"error": f'there is no action "{name[:64]}"{hint}', "details": []})
        elif call is None:
            self.conn.send({"acknowledged": name})
            leader.log.info(f"cmdui: {name}")
            leader.run_command(name, args, lambda answer, error: self._log(name, error))
        else:
            self.state = "busy"
            if name in ACTIONS and ACTIONS[name].group == "changes":
                leader.log.info(f"cmdui: {name}")
            leader.run_command(
                name, args, lambda answer, error: self._answer(name, answer, error), self._report
            )

    def _report(self, data: dict[str, Any]) -> None:
        self.conn.send({"progress": data})

    def _answer(self, name: str, answer: Any, error: Exception | None) -> None:
        self.state = "idle"
        if error is None:
            self.conn.send({"answer": answer if isinstance(answer, dict) else {}})
        elif isinstance(error, CommandError):
            self.conn.send({"error": str(error), "details": error.details})
        else:
            self.ui.leader.log.error(f"cmdui: {name} failed", error)
            self.conn.send({"error": f"{name} failed, a bug: see the leader's log", "details": [repr(error)]})

    def _log(self, name: str, error: Exception | None) -> None:
        if isinstance(error, CommandError):
            self.ui.leader.log.warning(f"cmdui: {name}: {error}")
        elif error is not None:
            self.ui.leader.log.error(f"cmdui: {name} failed", error)

    def _part(self, why: str) -> None:
        """Says why, and ends the connection."""
        self.state = "parting"
        self.conn.send({"error": why, "details": []})
        self.conn.finish()

    def _ended(self, reason: str) -> None:
        self.ui.strangers.pop(self, None)
        self.ui.operators.discard(self)


class CmdUI:
    """Where operators dial in. `address` is as it was bound, "" while it is closed."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.key = ""
        self.address = ""
        self.strangers: dict[CmdConn, None] = {}
        self.operators: set[CmdConn] = set()
        self._sock: socket.socket | None = None
        self._path = ""
        self._inode: tuple[int, int] | None = None
        self._complained = -COMPLAIN_EVERY
        self._tries = 0

    def __repr__(self) -> str:
        return f"<CmdUI {self.address or 'closed'} operators={len(self.operators)}>"

    @property
    def key_path(self) -> str:
        """The file of the key."""
        return os.path.join(self.leader.options.var_dir, keyfile.KEY_NAME)

    @property
    def target_path(self) -> str:
        """The file that says where we listen."""
        return os.path.join(self.leader.options.var_dir, keyfile.TARGET_NAME)

    def open(self) -> None:
        """Begins to listen as the options say. Raises EnvError.

        When it was not said where, and another instance has the usual port, any free one will do: the file below
        var_dir tells goroxctl.
        """
        wanted = self.leader.options.cmdui
        if wanted == "off":
            return
        try:
            os.makedirs(self.leader.options.var_dir, mode=0o700, exist_ok=True)
            self.key = keyfile.make_key(self.key_path)
            if wanted:
                self._bind(self._locate(wanted))
            else:
                self._bind_usual()
        except (OSError, EnvError) as error:
            text = (error.strerror if isinstance(error, OSError) else None) or str(error)
            if wanted:
                raise EnvError(f"--cmdui {wanted}: {text}; name another address, or off") from None
            self.leader.log.warning(f"goroxctl has no access: {text}; see --cmdui and --var-dir")

    def _bind_usual(self) -> None:
        try:
            self._bind(self._locate(DEFAULT))
        except OSError:
            self._bind(("127.0.0.1", 0))
            self.leader.log.info(f"cmdui listens at {self.address}, because {DEFAULT} is taken")

    def take_over(self) -> None:
        """Begins to listen when the old leader of an upgrade has let the address go."""
        wanted = self.leader.options.cmdui
        if wanted == "off":
            return
        previous = _read_target(self.target_path)
        try:
            self.key = self.key or keyfile.make_key(self.key_path)
            target = self._locate(wanted or DEFAULT)
            if isinstance(target, tuple) and previous and (target[1] == 0 or not wanted):
                target = parse_target(previous)
            self._bind(target)
        except (OSError, EnvError, UsageError) as error:
            self._tries += 1
            if self._tries == MANY_TRIES:
                self.leader.log.warning(f"cmdui cannot take over yet, and goes on trying: {error}")
            self.leader.loop.after(RETRY if self._tries < MANY_TRIES else RETRY_SLOWLY, self.take_over)

    def complain(self) -> None:
        """Tells the log that somebody was turned away; not more often than now and then."""
        now = time.monotonic()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            self.leader.log.warning("cmdui: somebody with a wrong key was turned away")

    def move(self, wanted: str) -> str:
        """Listens somewhere else; those who are connected stay. Returns the address. Raises CommandError."""
        try:
            target = self._locate(wanted)
        except UsageError as error:
            raise CommandError(str(error)) from None
        if show_target(target) == self.address:
            return self.address
        old, old_path, old_inode = self._sock, self._path, self._inode
        try:
            self.key = self.key or keyfile.make_key(self.key_path)
            self._bind(target)
        except (OSError, EnvError) as error:
            text = (error.strerror if isinstance(error, OSError) else None) or error
            raise CommandError(f"cmdui stays at {self.address}: {wanted}: {text}") from None
        self._close_socket(old, old_path, old_inode)
        return self.address

    def release(self) -> None:
        """Lets the address go to the next leader; those who are connected stay."""
        if isinstance(self._sock, socket.socket):
            sock, self._sock = self._sock, None
            self.leader.loop.unwatch(sock)
            sock.close()
            self.address = self._path = ""

    def close(self) -> None:
        """Ends everything."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._close_socket(sock, self._path, self._inode)
            if _read_target(self.target_path) == self.address:
                _remove(self.target_path)
        for conn in [*self.strangers, *self.operators]:
            if conn.state == "busy":  # its action will have no outcome
                conn.conn.send({"error": "the instance has ended meanwhile", "details": []})
            conn.conn.close("the leader has ended")

    def _locate(self, wanted: str) -> Target:
        target = parse_target(wanted)
        if isinstance(target, str):
            return os.path.normpath(os.path.join(self.leader.options.top_dir, target))
        return target

    def _bind(self, target: Target) -> None:
        """Listens at the target, and says so in the file. Raises OSError; then nothing has changed."""
        path, inode = "", None
        if isinstance(target, str):
            sock = _listen_at_path(target)
            path, inode = target, _inode_of(target)
        else:
            family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
            sock = socket.create_server(target, family=family, backlog=128)
            target = sock.getsockname()[:2]
        sock.setblocking(False)
        try:
            keyfile.write_whole(self.target_path, show_target(target) + "\n", 0o644)
        except OSError:
            sock.close()
            raise
        self._sock, self._path, self._inode = sock, path, inode
        self.address = show_target(target)
        self.leader.loop.watch(sock, selectors.EVENT_READ, self._accept)

    def _close_socket(self, sock: socket.socket | None, path: str, inode: tuple[int, int] | None) -> None:
        if sock is not None:
            self.leader.loop.unwatch(sock)
            sock.close()
        if path and inode is not None and _inode_of(path) == inode:
            _remove(path)

    def _accept(self) -> None:
        if self._sock is None:
            return
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.strangers) >= MOST_STRANGERS:
            next(iter(self.strangers)).conn.close("too many strangers")
        self.strangers[CmdConn(self, sock)] = None


def _listen_at_path(path: str) -> socket.socket:
    """Listens at a path, in place of a socket that nobody listens at any more, or that the old leader leaves to us."""
    if os.path.lexists(path):
        if _inode_of(path) is None:
            raise OSError(0, "there is something that is no socket")
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass
        else:
            raise OSError(0, "somebody listens there already")
        finally:
            probe.close()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
        sock.listen(128)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def _inode_of(path: str) -> tuple[int, int] | None:
    """What tells a socket file from another at the same path; None when there is no socket."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_mode & 0o170000 == 0o140000 else None


def _read_target(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(4096).strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
