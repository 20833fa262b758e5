"""From a command line to an exit code.

Nothing but the standard library and `hemi.errors` is imported at the top: `serve` and `check` patch first and import
the engine then, because whatever is imported before gevent has patched keeps the blocking functions.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback
from collections.abc import Callable

from hemi.errors import EXIT_CRASH, EXIT_STOP, ConfigError, HemiError
from hemi.procmgr.ctl import control, is_control
from hemi.procmgr.options import Options, make_dirs, parse, usage
from hemi.procmgr.program import GOROX, Program

__all__ = ["gorox", "main"]

EXIT_PROBLEMS = 1


def gorox() -> int:
    """The entry point of the `gorox` command of an installed package."""
    return main(GOROX)


def main(program: Program, argv: list[str] | None = None, *, top_dir: str | None = None) -> int:
    """Runs a program's command line and returns its exit code.

    argv comes without the program's name, default: this process's. top_dir is the default of --top-dir, default: the
    current directory.
    """
    if not faulthandler.is_enabled():
        faulthandler.enable()
    try:
        argv = sys.argv[1:] if argv is None else argv
        if argv and is_control(argv[0]):
            return control(argv, top_dir, program.name)
        options = parse(program, argv, top_dir)
        return _ACTIONS[options.action](program, options)
    except HemiError as error:
        return _fail(program, error)
    except KeyboardInterrupt:  # before the signal handlers are there: nothing was begun
        return EXIT_STOP
    except BrokenPipeError:  # whoever read our output has gone, as head(1) does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception:
        traceback.print_exc()
        return EXIT_CRASH


def _fail(program: Program, error: HemiError) -> int:
    sys.stdout.flush()
    if isinstance(error, ConfigError):
        print(error, file=sys.stderr)  # one problem a line, each begins with its place
    else:
        print(f"{program.name}: {error}", file=sys.stderr)
    return error.exit_code


_ABOUT_WORKERS = frozenset(
    (
        "allow-root",
        "cmdui",
        "daemon",
        "group",
        "no-spare",
        "pid-file",
        "stderr",
        "stdout",
        "umask",
        "user",
        "workers",
    )
)


def _serve(program: Program, options: Options) -> int:
    if not options.single and not options.given & _ABOUT_WORKERS and _is_root_by_chance():
        # A leader's workers run as root only when that is said; to serve nothing at all would help nobody.
        print(
            f"{program.name}: root without --user NAME or --allow-root has no workers: serving as --single does",
            file=sys.stderr,
        )
        options.single = True
    if options.single:
        _patch()
    if options.config is not None or program.embedded is None or _default_exists(program, options):
        make_dirs(options)
    else:  # nothing of the embedded configuration writes files: leave the directory as clean as it was
        make_dirs(options, tuple(sorted(options.given & {"log-dir", "tmp-dir", "var-dir"})))
    if options.single:
        if options.umask is not None:
            os.umask(options.umask)
        from hemi.procmgr.single import serve

        return serve(program, options)
    from hemi.procmgr.leader import lead

    return lead(program, options)


def _check(program: Program, options: Options) -> int:
    _patch()
    from hemi.procmgr.single import check

    try:
        text = check(program, options)
    except ConfigError as error:
        _fail(program, error)
        return EXIT_PROBLEMS
    print(text)
    sys.stdout.flush()
    return 0


def _help(program: Program, options: Options) -> int:
    if not options.words:
        print(usage(program, options.top_dir), end="")
        return 0
    from hemi.procmgr.single import describe

    print(describe(program, options.words[0]))
    return 0


def _version(program: Program, options: Options) -> int:
    from hemi import __version__

    print(f"{program.name} {__version__} (Python {sys.version.split()[0]})")
    return 0


def _is_root_by_chance() -> bool:
    return os.geteuid() == 0 and not os.environ.get("GOROX_ALLOW_ROOT")


def _default_exists(program: Program, options: Options) -> bool:
    return os.path.exists(os.path.join(options.top_dir, program.config_path))


def _patch() -> None:
    from hemi.procmgr.patching import patch

    patch()


_ACTIONS: dict[str, Callable[[Program, Options], int]] = {
    "serve": _serve,
    "check": _check,
    "help": _help,
    "version": _version,
}
