"""Things that are found by name: methods, samplers, step grids, figures, readers of data, output formats.

Each is registered where it stands, by one decorator; the modules of its room are imported when a name is first asked
for. So whoever adds one writes one file, and edits no list::

    @METHODS.register("my_method")
    class MyMethod(Method): ...
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
Entry = TypeVar("Entry")


class Registry(Generic[T]):
    """Entries by name.

    Args:
        kind: what an entry is, for messages: "method".
        room: package whose modules register entries when they are imported; None if all are registered already.
        first: module of the room whose entries come first.
    """

    def __init__(self, kind: str, room: str | None = None, first: str = "") -> None:
        self.kind, self._room, self._first = kind, room, first
        self._entries: dict[str, T] = {}
        self._modules: dict[str, str] = {}  # where an entry stands
        self._imported = room is None

    def register(self, name: str, module: str | None = None) -> Callable[[Entry], Entry]:
        """Decorator that enters what it decorates under ``name``, and gives it back; a class learns its ``name``.

        Args:
            module: where it stands; None: as the entry says itself.

        Raises:
            ValueError: something else bears the name already.
        """

        def enter(entry: Entry) -> Entry:
            if name in self._entries:
                raise ValueError(f"There is a {self.kind} {name!r} already; give this one another name.")
            self._entries[name] = entry  # type: ignore[assignment]
            self._modules[name] = module or str(getattr(entry, "__module__", ""))
            if isinstance(entry, type):
                entry.name = name  # type: ignore[attr-defined]
            return entry

        return enter

    def unregister(self, name: str) -> None:
        """Take an entry out again, as a test does; KeyError if there is none."""
        del self._entries[name]

    def __getitem__(self, name: str) -> T:
        """The entry of this name.

        Raises:
            ValueError: there is none; the message lists the names that there are.
        """
        self._import_room()
        if not isinstance(name, str) or name not in self._entries:
            raise ValueError(f"Unknown {self.kind} {name!r}; known: {', '.join(self)}.")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._import_room()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Names, whichever module was imported first: those of the room by module, then all others.

        Within a module they come in the order of the registrations.
        """
        self._import_room()
        return iter(sorted(self._entries, key=self._place))

    def __len__(self) -> int:
        self._import_room()
        return len(self._entries)

    def _place(self, name: str) -> tuple[int, str]:
        room, _, own = self._modules[name].rpartition(".")
        if self._room is None or room != self._room:
            return 2, ""
        return (0, "") if own == self._first else (1, own)

    def _import_room(self) -> None:
        if self._imported or self._room is None:
            return
        self._imported = True  # first: a module that is imported may ask for a name
        try:
            for module in pkgutil.iter_modules(importlib.import_module(self._room).__path__, f"{self._room}."):
                importlib.import_module(module.name)
        except BaseException:
            self._imported = False  # or whoever asks next would miss the names of the modules that were left
            raise
