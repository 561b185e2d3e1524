"""What errors of devices mean, by the words of PyTorch."""

from __future__ import annotations

import pytest
import torch

from AmbiguousSegLib.device_faults import explain

CUDA_LACK = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.69 GiB of which 3 MiB"
MPS_LACK = "MPS backend out of memory (MPS allocated: 9 GB, max: 9 GB). Tried to allocate 256 bytes on shared pool"
CPU_LACK = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 80 bytes."
BATCH_LACK = "cuda has not enough memory for one mask of (8, 8) pixels; choose a region of interest."
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"
OLD = "CUDA driver version is insufficient for CUDA runtime version"
OLDER = "The NVIDIA driver on your system is too old (found version 11040)."
LOST = "CUDA error: an illegal memory access was encountered\nmore"
MPS_STEP = "The operator 'aten::_unique2' is not currently implemented for the MPS device. If you want this op"
MPS_TYPE = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
FAULTS = [
    (torch.OutOfMemoryError(CUDA_LACK), "out_of_memory", "The GPU has not enough memory (20.00 MiB more", "device CPU"),
    (RuntimeError(MPS_LACK), "out_of_memory", "The GPU has not enough memory (256 bytes more", "device CPU"),
    (RuntimeError(BATCH_LACK), "out_of_memory", "The GPU has not enough memory;", "device CPU"),
    (MemoryError(), "out_of_memory", "This computer has not enough memory.", "region of interest"),
    (RuntimeError(CPU_LACK), "out_of_memory", "This computer has not enough memory (80 bytes", "close other programs."),
    (RuntimeError(NO_KERNEL), "device", "was not built for the GPU", "install PyTorch anew"),
    (RuntimeError(OLD), "device", "The NVIDIA driver is too old", "Update the driver"),
    (RuntimeError(OLDER), "device", "The NVIDIA driver is too old", "Update the driver"),
    (RuntimeError(LOST), "device", "The GPU has failed (CUDA error: an illegal", "restart the computer"),
    (NotImplementedError(MPS_STEP), "device", "The Apple GPU cannot do what this needs", "Choose the device CPU"),
    (TypeError(MPS_TYPE), "device", "The Apple GPU cannot do what this needs", "Choose the device CPU"),
    (RuntimeError("Numpy is not available"), "missing_package", "was built for another NumPy", "PyTorch anew"),
]


@pytest.mark.parametrize(("error", "kind", "words", "remedy"), FAULTS)
def test_what_an_error_of_a_device_means_is_told_with_its_remedy(error, kind, words, remedy):
    fault = explain(error)
    assert fault.kind == kind and words in fault.message and remedy in fault.remedy
    assert all("\n" not in text and text.endswith(".") for text in (fault.message, fault.remedy))
    on_a_gpu = kind == "device" or "GPU" in fault.message
    assert ("nothing was computed on the CPU instead" in fault.message) == on_a_gpu  # nothing falls back silently
    assert fault.fatal == ("CUDA error" in str(error))


def test_other_errors_are_none_of_a_devices():
    for error in (ValueError("out of memory"), OSError("CUDA error"), RuntimeError("shapes differ"), KeyError("mps")):
        assert explain(error) is None


def test_an_intel_mac_with_another_numpy_needs_the_apple_silicon_build(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch, "__version__", "2.2.2")
    fault = explain(RuntimeError("Numpy is not available"))
    assert fault.message.startswith("PyTorch 2.2.2 was built for another NumPy than ")
    assert "Apple-silicon build of Slicer" in fault.remedy
