"""The device that is computed on."""

from __future__ import annotations

import sys

import pytest
import torch

from AmbiguousSegLib import devices, hardware
from AmbiguousSegLib.devices import choose_device, device_of_process
from AmbiguousSegLib.hardware import Nvidia


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


class Driver:
    """NVIDIA's library of that name, as far as it is asked."""

    def __init__(self, version: int, start: int = 0, cards: int = 1) -> None:
        self.version, self.start, self.cards = version, start, cards

    def cuDriverGetVersion(self, pointer) -> int:
        pointer._obj.value = self.version
        return 0

    def cuInit(self, _flags) -> int:
        return self.start

    def cuDeviceGetCount(self, pointer) -> int:
        pointer._obj.value = self.cards
        return 0


def no_driver(_name):
    raise OSError("no such library")


@pytest.mark.parametrize(
    ("driver", "found"),
    [
        (Driver(12040), Nvidia((12, 4))),
        (Driver(13000), Nvidia((13, 0))),
        (Driver(12040, start=803), Nvidia((12, 4), 803)),
        (Driver(12040, start=100), None),  # the driver is there, the card is not
        (Driver(12040, cards=0), None),
    ],
)
def test_an_nvidia_card_is_what_its_driver_says(driver, found):
    assert hardware.nvidia(lambda _name: driver) == found


@pytest.mark.parametrize(
    ("vendor", "kind", "found"),
    [
        ("0x10de", "0x030000", Nvidia(None)),
        ("0x10de", "0x030200", Nvidia(None)),
        ("0x10de", "0x040300", None),
        ("0x1002", "0x030000", None),
    ],
)
def test_a_card_without_a_driver_is_found_on_linux(tmp_path, vendor, kind, found):
    """A graphics card, one that only computes, the sound of one, and another maker's."""
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "vendor").write_text(f"{vendor}\n", encoding="ascii")
    (tmp_path / "0000:01:00.0" / "class").write_text(f"{kind}\n", encoding="ascii")
    assert hardware.nvidia(no_driver, tmp_path) == found
    assert hardware.nvidia(no_driver, tmp_path / "none") is None


@pytest.fixture
def computer(monkeypatch):
    """Makes this computer another one, as PyTorch and the driver see it."""

    def name(device):
        return f"Card {str(device).removeprefix('cuda').removeprefix(':') or 0}"

    def make(system="linux", machine="x86_64", card=None, built="12.8", cuda=(), archs=(), mps=(True, False), mac="13"):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr("platform.machine", lambda: machine)
        monkeypatch.setattr("platform.mac_ver", lambda: (mac, ("", "", ""), machine))
        monkeypatch.setattr(devices, "nvidia", lambda: card)
        monkeypatch.setattr(torch, "__version__", "2.8.0")
        monkeypatch.setattr(torch.version, "cuda", built)
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cuda))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: cuda[index])
        monkeypatch.setattr(torch.cuda, "get_device_name", name)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(archs))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _index: (10**9, 2 * 10**9))
        monkeypatch.setattr(torch.backends.mps, "is_built", lambda: mps[0])
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps[1])

    return make


NOTES = [
    ({}, "cpu", "no GPU that PyTorch can use", "drafts take the least time"),
    ({"card": Nvidia(None)}, "cpu", "the NVIDIA GPU of this computer has no driver", "install it from nvidia.com"),
    (
        {"card": Nvidia((12, 4)), "built": None},
        "cpu",
        "PyTorch 2.8.0 was built without CUDA",
        "a PyTorch with CUDA (in 3D",
    ),
    ({"card": Nvidia((11, 4))}, "cpu", "too old (it runs CUDA 11.4, PyTorch needs 12.8)", "update it from nvidia.com"),
    ({"card": Nvidia((12, 4), 803)}, "cpu", "the NVIDIA driver does not work (error 803)", "restart the computer"),
    ({"card": Nvidia((12, 8))}, "cpu", "the NVIDIA driver does not work (CUDA does not start)", "restart the computer"),
    (
        {"cuda": [(12, 0)], "archs": ["sm_80", "sm_90"]},
        "cpu",
        "not built for the Card 0 of this computer (but for sm_80",
        "of a version for this GPU",
    ),
    ({"cuda": [(3, 5)], "archs": ["sm_50", "compute_50"]}, "cpu", "not built for the Card 0", "a PyTorch with CUDA"),
    ({"cuda": [(12, 0)], "archs": ["sm_90a"]}, "cpu", "not built for the Card 0", "a PyTorch with CUDA"),
    ({"cuda": [(8, 6)], "archs": ["sm_80", "sm_90"]}, "cuda", "The GPU is used: Card 0.", ""),  # as all of 8.x run 8.0
    ({"cuda": [(12, 0)], "archs": ["sm_90", "compute_90"]}, "cuda", "The GPU is used: Card 0.", ""),  # translated
    ({"cuda": [(10, 3)], "archs": ["sm_100", "sm_120"]}, "cuda", "The GPU is used: Card 0.", ""),
    ({"cuda": [(3, 5), (9, 0)], "archs": ["sm_90"]}, "cuda:1", "The GPU is used: Card 1.", ""),
    ({"system": "darwin", "mps": (True, True), "machine": "arm64"}, "mps", "The GPU of this Mac is used.", ""),
    ({"system": "darwin", "machine": "arm64"}, "cpu", "macOS 13 is too old for PyTorch to use the GPU", "update macOS"),
    ({"system": "darwin", "machine": "arm64", "mps": (False, False)}, "cpu", "without support of Apple's GPU", "anew"),
    ({"system": "darwin"}, "cpu", "the build for Intel processors", "install the Apple-silicon build of Slicer"),
]


@pytest.mark.parametrize(("changes", "chosen", "words", "remedy"), NOTES)
def test_which_device_is_used_and_why_no_gpu_is_told_in_one_sentence(computer, caplog, changes, chosen, words, remedy):
    computer(**changes)
    note = devices.device_note()
    assert words in note and remedy in note and "\n" not in note and note.endswith(".") and len(note) < 320
    assert str(choose_device("auto")) == chosen
    told = [record.getMessage() for record in caplog.records]
    assert told == ([note] if chosen == "cpu" and changes else [])  # never silently


def test_a_hidden_gpu_is_told(computer, monkeypatch):
    computer()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES hides every GPU: unset it" in devices.device_note()


def test_a_gpu_that_cannot_be_used_is_not_among_the_devices(computer):
    computer(cuda=[(3, 5), (9, 0)], archs=["sm_90"])
    cpu, gpu = devices.devices_here()
    assert (cpu.name, gpu.name, gpu.title, gpu.free_bytes) == ("cpu", "cuda:1", "Card 1", 10**9)
