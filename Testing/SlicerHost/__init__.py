"""Stand-ins for what the Slicer application offers, so that tests run without it.

What ``lifecycle`` offers (``install``, ``uninstall``, ``new_scene``, ``load_module``, ``process_events``,
``screenshot``) is offered here too, but imported only when asked for: scene tests need no Qt.
"""

from __future__ import annotations

_FROM_LIFECYCLE = (
    "install",
    "installed",
    "uninstall",
    "new_scene",
    "load_module",
    "unload_module",
    "process_events",
    "screenshot",
    "without_packaging",
)


def __getattr__(name: str):
    if name in _FROM_LIFECYCLE:
        from SlicerHost import lifecycle

        return getattr(lifecycle, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
