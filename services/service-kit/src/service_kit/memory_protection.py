"""Keep what is in the process's memory in it: keys and prompts are no matter for a core file."""

import ctypes
import resource
import sys

from service_kit.logging import get_logger

_log = get_logger(__name__)

# linux/prctl.h
_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Let the kernel write no core file of this process, and no other program read its memory.

    The limit alone is not enough: where core files are piped to a program (systemd-coredump),
    the kernel does not heed it (core(5)). A process that is not dumpable is not dumped at all,
    and its environment, with the keys in it, is readable by root only (prctl(2)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        _log.warning("core_dumps_not_forbidden", errno=ctypes.get_errno())
