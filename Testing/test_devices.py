"""The device that is computed on."""

from __future__ import annotations

import pytest
import torch

from AmbiguousSegLib.devices import choose_device, device_of_process


def test_a_device_that_is_not_there_is_named():
    assert choose_device("cpu").type == "cpu"
    for name in ("hpu", "privateuseone", "meta"):
        with pytest.raises(ValueError, match=f"'{name}' cannot be used here .*; choose another, or auto") as caught:
            choose_device(name)
        assert len(str(caught.value)) < 200
    for name in ("gpu", "abacus", "", "cuda:x", "GPU:0"):
        with pytest.raises(ValueError, match=f"Device '{name}' is not known; choose auto, cpu, cuda, cuda:1 or mps"):
            choose_device(name)


def test_each_process_of_torchrun_has_a_gpu_of_its_own(monkeypatch):
    """As on a machine of two; no GPU is asked for."""
    monkeypatch.setattr("AmbiguousSegLib.devices.choose_device", torch.device)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    chosen = []
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert device_of_process("cuda") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of_process("cuda") == torch.device("cuda:1") and chosen == [1]
    assert device_of_process("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="Process 2 has no GPU: this machine has 2; start as many processes"):
        device_of_process("cuda")
