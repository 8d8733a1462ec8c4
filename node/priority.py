"""How much of the machine the node takes from what a person does on it: little, unless it is told to be eager."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform

NICE = 9  # of 19: what a person runs comes first, and on a machine at rest nothing is slower
IOPRIO_WHO_PROCESS = 1
BEST_EFFORT = 2 << 13
LOWEST = 7
IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "armv7l": 314, "i686": 289}


def step_back() -> None:
    """Let other programs come first, at the processor and at the disk; for this process and all of its threads, so
    before there are any. The idle class of the disk is not taken: on a busy disk nothing would ever be synced."""
    if os.nice(0) < NICE:
        with contextlib.suppress(OSError):
            os.nice(NICE - os.nice(0))
    call = IOPRIO_SET.get(platform.machine())
    if call is not None:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).syscall(call, IOPRIO_WHO_PROCESS, 0, BEST_EFFORT | LOWEST)
