"""Things found by name: entered once, found wherever their module lies, named in the message where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from AmbiguousSegLib.registry import Registry


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A package whose modules register entries when they are imported, and the registry they know."""
    package = tmp_path / "the_room"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from AmbiguousSegLib.registry import Registry\nTHINGS = Registry('thing', room='the_room')\n", encoding="utf-8"
    )
    for name in ("second", "first"):
        (package / f"{name}.py").write_text(
            f"from the_room import THINGS\n@THINGS.register('{name}')\ndef function(): return '{name}'\n",
            encoding="utf-8",
        )
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("the_room").THINGS
    for name in [name for name in sys.modules if name.split(".")[0] == "the_room"]:
        del sys.modules[name]


def test_the_room_is_imported_when_a_name_is_asked_for(room):
    assert "the_room.first" not in sys.modules
    assert room["first"]() == "first"
    assert list(room) == ["first", "second"] and len(room) == 2 and "second" in room and "third" not in room


def test_the_order_of_names_does_not_depend_on_who_was_imported_first(room):
    import the_room.second  # noqa: F401  (made by the fixture)

    @room.register("own")
    def own():
        return "of no module of the room"

    assert list(room) == ["first", "second", "own"]
    assert list(Registry("thing")) == []


def test_a_module_can_come_first(room):
    room._first = "second"
    assert list(room) == ["second", "first"]


def test_a_module_that_cannot_be_imported_is_not_passed_over_by_whoever_asks_next(room):
    package = Path(sys.modules["the_room"].__file__).parent
    (package / "broken.py").write_text("raise ImportError('no such package')\n")
    for _ in range(2):
        with pytest.raises(ImportError, match="no such package"):
            room["first"]
    (package / "broken.py").unlink()
    assert list(room) == ["first", "second"]


def test_an_unknown_name_lists_the_known_ones(room):
    for name in ("third", None, ["first"]):
        with pytest.raises(ValueError, match=r"Unknown thing .*; known: first, second"):
            room[name]


def test_a_name_is_given_once_and_can_be_taken_back():
    things: Registry[object] = Registry("thing")

    @things.register("one")
    class One:
        pass

    assert things["one"] is One and One.name == "one"
    value = things.register("two")("any object")
    assert value == things["two"] == "any object"
    with pytest.raises(ValueError, match="There is a thing 'one' already"):
        things.register("one")(object())
    things.unregister("one")
    assert list(things) == ["two"]
    with pytest.raises(KeyError):
        things.unregister("one")
