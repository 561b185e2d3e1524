"""The device that is computed on."""

from __future__ import annotations

import pytest

from AmbiguousSegLib.devices import choose_device


def test_a_device_that_is_not_there_is_named():
    assert choose_device("cpu").type == "cpu"
    for name in ("abacus", "hpu", "privateuseone", "meta"):
        with pytest.raises(ValueError, match=f"'{name}' cannot be used here"):
            choose_device(name)
