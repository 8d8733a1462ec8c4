"""Importing py-libp2p without fastecdsa, which has no wheel for Linux and needs a compiler and GMP's headers.

py-libp2p imports it for ECDSA keys and secio. Shoal has neither: its keys are Ed25519, its transport is Noise. So where
fastecdsa is not installed, empty modules stand in its place, whose every name raises as soon as it is used.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

_MODULES = ("fastecdsa", "fastecdsa.encoding", "fastecdsa.encoding.sec1", "fastecdsa.encoding.util")


class _Names(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent


class _Absent(metaclass=_Names):
    """Any class or function of the package."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("ECDSA keys are not supported: fastecdsa is not installed")


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent


def allow_absence() -> None:
    """Have `import libp2p` work where fastecdsa is not installed. To be called before it."""
    if importlib.util.find_spec("fastecdsa") is None:
        for name in _MODULES:
            sys.modules[name] = _StandIn(name)
            sys.modules[name].__path__ = []
