"""What the errors of a device mean, whatever the backend: memory ran out, or the device is lost.

By type where torch has one, else by the words that CUDA, cuDNN, cuBLAS, ROCm, MPS, XPU, DirectML and the CPU's
allocator use. Not among them: CUDNN_STATUS_NOT_SUPPORTED and _INTERNAL_ERROR, which are said of wrong shapes, drivers
and builds as well; to try again with less would hide what they say.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, HIP, XPU, "MPS backend out of memory"
    "not enough memory",  # the CPU, on Windows
    "can't allocate memory",  # the CPU, elsewhere
    "not enough gpu video memory",  # DirectML
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "device_allocation_failed",  # cuDNN 9: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    "host_allocation_failed",
    # cuDNN's version 8 interface: every engine was tried, and those without memory for their workspace are passed over
    "unable to find an engine to execute this computation",
    "hiperroroutofmemory",
    "miopenstatusallocfailed",
    "rocblas_status_memory_error",
    "hipblas_status_alloc_failed",
    "error_out_of_device_memory",  # UR_RESULT_, ZE_RESULT_
    "error_out_of_host_memory",
    "error_out_of_resources",  # UR_RESULT_, PI_
    "pi_error_mem_object_allocation_failure",
)
_LOST = (  # CUDA's words are ROCm's too
    "unspecified launch failure",
    "device-side assert triggered",
    "illegal memory access",
    "illegal instruction was encountered",
    "misaligned address",
    "launch timed out",
    "uncorrectable ecc error",
    "device not ready",
    "driver shutting down",
    "cuda error: unknown error",
    "cuda error: initialization error",
    "devices are busy or unavailable",
    "no cuda-capable device is detected",
    "no hip gpus are available",
    "found no nvidia driver",
    "gpu is lost",
    "device_lost",  # UR_RESULT_ERROR_DEVICE_LOST, ZE_RESULT_ERROR_DEVICE_LOST
    "device lost",
    "device instance has been suspended",  # DirectML
    "device removed",
    "0000000e:internal error",  # Metal: the GPU hung
)


class DeviceLostError(RuntimeError):
    """The device gave up while it worked; one sentence says what was lost and what to do."""


class DeviceFullError(getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)):
    """Memory ran out; one sentence says where and what to do. ComfyUI sees its own kind and unloads its models."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether to try again with less: memory of the device, or of the computer, did not suffice."""
    kinds = [getattr(torch, "OutOfMemoryError", None), torch.cuda.OutOfMemoryError, MemoryError]  # the first: torch 2.5
    if isinstance(error, tuple(kind for kind in kinds if kind is not None)):
        return True
    return isinstance(error, RuntimeError) and _says(error, _OUT_OF_MEMORY)


def is_lost(error: BaseException) -> bool:
    """Whether the device is gone or unusable until the program is started again."""
    return isinstance(error, RuntimeError) and not is_out_of_memory(error) and _says(error, _LOST)


def first_line(error: BaseException) -> str:
    """What a driver said, without the advice that torch puts after it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def lost(error: BaseException, what: str) -> DeviceLostError:
    """The sentence for the user; `what` was being done ("decoding")."""
    return DeviceLostError(
        f"the graphics card gave up while {what} ({first_line(error)}): nothing was made; start ComfyUI or the script "
        "again, and if it happens again look at the card's driver, heat and power"
    )


def full(error: BaseException, what: str) -> DeviceFullError:
    """The sentence for the user; `what` was being done ("encoding texts")."""
    return DeviceFullError(
        f"memory ran out while {what} ({first_line(error)}): nothing was made; unload models or close what else uses "
        "the card, or give it fewer or smaller things at a time"
    )


@contextmanager
def sentences(what: str) -> Iterator[None]:
    """While this is open, or round a function, a device that is lost or full becomes a sentence; `what` is being done
    there.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_lost(error):
            raise lost(error, what) from error
        if is_out_of_memory(error) and not isinstance(error, DeviceFullError):
            raise full(error, what) from error
        raise


def release(device: torch.device) -> None:
    """Give back what torch holds of a device's memory without using it; for a host that has no way of its own."""
    gc.collect()
    if device.type == "mps" and torch.backends.mps.is_available():
        torch.mps.empty_cache()
    elif device.type in ("cuda", "xpu") and getattr(torch, device.type).is_available():
        getattr(torch, device.type).empty_cache()


def release_pinned() -> None:
    """Give back the pinned host memory that torch keeps: to the system it is memory in use."""
    give_back = getattr(torch._C, "_host_emptyCache", None)  # from torch 2.5; has no public name before 2.10
    if give_back is not None and torch.cuda.is_available():
        give_back()


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(word in text for word in words)
