"""Out of memory and a lost card are told apart by what the backends say, and become one sentence each."""

import pytest
import torch

from clip_vae_lora.nodes.host.alone import place, vae
from clip_vae_lora.nodes.host.shared import device_errors
from clip_vae_lora.nodes.host.shared.device_errors import is_lost, is_out_of_memory
from clip_vae_lora.vae_core.tiling.plans import BudgetError

NO_MEMORY = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "GET was unable to find an engine to execute this computation",
    "HIP out of memory. Tried to allocate 512.00 MiB",
    "MPS backend out of memory (MPS allocated: 8.86 GB, other allocations: 1.12 GB, max allowed: 9.07 GB)",
    "XPU out of memory. Tried to allocate 4.00 GiB",
    "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "Native API failed. Native API returns: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
    "Could not allocate tensor with 1610612736 bytes. There is not enough GPU video memory available!",
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 34359738368 bytes.",
]
LOST = [
    "CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA`",
    "CUDA error: device-side assert triggered",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: the launch timed out and was terminated",
    "CUDA error: device not ready",
    "CUDA error: Unable to determine the device handle: GPU is lost. Reboot the system to recover this GPU",
    "Found no NVIDIA driver on your system.",
    "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
    "The GPU device instance has been suspended. Use GetDeviceRemovedReason to determine the appropriate action.",
]
NEITHER = [
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input.",
    "CUDA error: no kernel image is available for execution on the device",
    "Given groups=1, weight of size [3, 4, 3, 3], expected input[1, 8, 64, 64] to have 4 channels, but got 8",
    "",
]


@pytest.mark.parametrize("words", NO_MEMORY)
def test_these_words_mean_that_memory_ran_out(words):
    assert is_out_of_memory(RuntimeError(words)) and not is_lost(RuntimeError(words))


@pytest.mark.parametrize("words", LOST)
def test_these_words_mean_that_the_card_is_lost(words):
    assert is_lost(RuntimeError(words)) and not is_out_of_memory(RuntimeError(words))


@pytest.mark.parametrize("words", NEITHER)
def test_these_words_mean_neither(words):
    assert not is_lost(RuntimeError(words)) and not is_out_of_memory(RuntimeError(words))


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("anything"), MemoryError()])
def test_an_error_is_known_by_its_type(error):
    assert is_out_of_memory(error) and not is_lost(error)


def test_a_torch_without_the_newer_error_type_knows_the_older_one(monkeypatch):
    error = torch.cuda.OutOfMemoryError("anything")
    monkeypatch.delattr(torch, "OutOfMemoryError")
    assert is_out_of_memory(error) and not is_out_of_memory(RuntimeError("anything"))


def test_only_errors_of_torch_are_asked_for_their_words():
    assert not is_out_of_memory(ValueError("out of memory")) and not is_lost(KeyError("gpu is lost"))


def test_the_sentence_has_the_drivers_first_line_alone():
    error = device_errors.lost(RuntimeError(LOST[0]), "decoding")
    assert "gave up while decoding (CUDA error: unspecified launch failure)" in str(error)
    assert "\n" not in str(error) and "DSA" not in str(error)


def test_a_card_that_is_lost_when_it_is_asked_for_memory_or_loaded_is_a_sentence_too(monkeypatch):
    def gone(*_):
        raise RuntimeError(LOST[2])

    monkeypatch.setattr(vae, "free_device_bytes", gone)
    model = vae.StandaloneVAE(torch.nn.Linear(1, 1))
    with pytest.raises(device_errors.DeviceLostError, match="gave up while asked for its free memory"):
        vae._room(model)
    monkeypatch.setattr(torch.nn.Linear, "to", gone)
    with pytest.raises(device_errors.DeviceLostError, match="gave up while loading a VAE"):
        vae._place(torch.nn.Linear(1, 1))


def test_weights_without_room_on_the_card_are_a_sentence(monkeypatch):
    def full(*_):
        raise torch.cuda.OutOfMemoryError(NO_MEMORY[0])

    monkeypatch.setattr(torch.nn.Linear, "to", full)
    with pytest.raises(BudgetError, match=r"no room for this VAE's weights \(8 MB\): close what else uses it"):
        vae._place(torch.nn.Linear(1000, 2000))


class Backend:
    def is_available(self):
        return True

    def mem_get_info(self, device):
        return 1_000, 8_000

    def memory_reserved(self, device):
        return 500

    def memory_allocated(self, device):
        return 200


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_what_the_allocator_holds_unused_is_free(monkeypatch, kind):
    monkeypatch.setattr(torch, kind, Backend())
    monkeypatch.setattr(place.HERE, "device", None)  # whatever another test chose
    assert place.free_device_bytes(torch.device(kind)) == 1_300
    assert place.device() == torch.device(kind)


def test_without_a_card_it_is_the_processor_and_with_apples_that(monkeypatch):
    monkeypatch.setattr(place.HERE, "device", None)
    for kind in ("cuda", "xpu"):
        if getattr(torch, kind).is_available():
            pytest.skip("there is a card")
    assert place.device().type == ("mps" if torch.backends.mps.is_available() else "cpu")


def test_the_memory_of_mps_is_the_computers(monkeypatch):
    monkeypatch.setattr(place, "free_memory_bytes", lambda: 77)
    assert place.free_device_bytes(torch.device("mps")) == 77
    assert place.free_device_bytes(torch.device("cpu")) == 77
