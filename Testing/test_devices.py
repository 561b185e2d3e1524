"""The device that is computed on."""

from __future__ import annotations

import pytest

from AmbiguousSegLib.devices import choose_device


def test_a_device_that_is_not_there_is_named():
    assert choose_device("cpu").type == "cpu"
    for name in ("hpu", "privateuseone", "meta"):
        with pytest.raises(ValueError, match=f"'{name}' cannot be used here .*; choose another, or auto") as caught:
            choose_device(name)
        assert len(str(caught.value)) < 200
    for name in ("gpu", "abacus", "", "cuda:x", "GPU:0"):
        with pytest.raises(ValueError, match=f"Device '{name}' is not known; choose auto, cpu, cuda, cuda:1 or mps"):
            choose_device(name)
