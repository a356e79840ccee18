"""Dynamic VRAM of ComfyUI 0.33 without a card: the host's own code streams weights, layer by layer, into memory that
only pretends to be a card's.

What needs the driver (comfy-aimdo's library, absent here) is replaced: memory that is faulted in, and the host buffer.
All else is the host's: its patcher's `load`, which layers are staged and which are brought at once, the copies, the
patches prepared in the destination, the casts. The card is the CPU under the name "cpu:0"; a staged weight says that
it is elsewhere, as it would be, so that whoever takes it out of its module takes what is not patched.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

CARD = torch.device("cpu", 0)


class Away(torch.nn.Parameter):
    """A weight in the computer's memory while the network is on the card."""

    @property
    def device(self):
        return torch.device("meta")


class Memory:
    """In the place of comfy_aimdo.model_vbar.ModelVBAR: a range of addresses, each allocation with bytes of its own."""

    fits = True  # False: no fault finds room, so every pass brings the weights anew
    faults = 0

    def __init__(self, size, device):
        self.end, self.blocks = 0, {}

    def alloc(self, size):
        place, self.end = self.end, self.end + size
        self.blocks[place] = torch.full((size,), 255, dtype=torch.uint8)  # NaN in every float type
        return self, place, size

    def prioritize(self): ...

    def loaded_size(self):
        return 0

    def free_memory(self, size):
        return 0


class HostBuffer:
    """In the place of comfy_aimdo.host_buffer.HostBuffer, unused as long as nothing is pinned."""

    def __init__(self, size, prewarm=0, max_grow_size=0):
        self.size = size

    def truncate(self, size, do_unregister=True):
        self.size = size


def _fault(alloc):
    Memory.faults += 1
    return b"resident" if Memory.fits else None


@contextmanager
def dynamic_vram(fits: bool = True):
    """While this is open, ComfyUI streams. Skips where the host has no Dynamic VRAM."""
    import comfy.model_patcher

    if not hasattr(comfy.model_patcher, "ModelPatcherDynamic"):
        pytest.skip("this ComfyUI has no Dynamic VRAM")
    import comfy.memory_management
    import comfy.model_management as management
    import comfy.utils
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_vbar
    import comfy_aimdo.torch
    import safetensors.torch
    from comfy.cli_args import args

    streaming = comfy.model_patcher.ModelPatcherDynamic
    load = streaming.load

    def load_and_leave(self, *given, **named):
        load(self, *given, **named)
        for module in self.model.modules():
            weight = getattr(module, "weight", None)
            if hasattr(module, "_v") and weight is not None and not isinstance(weight, Away):
                module.weight = Away(weight.data, requires_grad=False)
                module.weight._model_dtype = weight._model_dtype

    with pytest.MonkeyPatch.context() as pretend:
        management.unload_all_models()
        pretend.setattr(Memory, "fits", fits)
        pretend.setattr(Memory, "faults", 0)
        pretend.setattr(comfy.memory_management, "aimdo_enabled", True)
        pretend.setattr(comfy.model_patcher, "CoreModelPatcher", streaming)
        pretend.setattr(streaming, "load", load_and_leave)
        pretend.setattr(comfy_aimdo.host_buffer, "HostBuffer", HostBuffer)
        pretend.setattr(comfy_aimdo.model_vbar, "ModelVBAR", Memory)
        pretend.setattr(comfy_aimdo.model_vbar, "vbar_fault", _fault)
        pretend.setattr(comfy_aimdo.model_vbar, "vbar_unpin", lambda alloc: None)
        pretend.setattr(comfy_aimdo.torch, "aimdo_to_tensor", lambda alloc, device: alloc[0].blocks[alloc[1]])
        pretend.setattr(comfy.utils, "load_safetensors", lambda path: (safetensors.torch.load_file(path), {}))
        pretend.setattr(args, "disable_pinned_memory", True)
        pretend.setattr(management, "is_device_cpu", lambda device: False)
        for name in ("vae_device", "text_encoder_device"):
            pretend.setattr(management, name, lambda: CARD)
        try:
            yield Memory
        finally:
            management.unload_all_models()


def staged(network: torch.nn.Module) -> list[str]:
    """The layers whose weights are streamed."""
    return [name for name, module in network.named_modules() if hasattr(module, "_v")]
