"""The room of a VAE at work with the words for its devices' errors, and the sentence for one without distributions."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ....vae_core.tiling.room import DeviceErrors, Room
from .device_errors import first_line, is_lost, is_out_of_memory, lost, release, release_pinned

ERRORS = DeviceErrors(is_out_of_memory, first_line, is_lost, lost)
NO_DISTRIBUTION = (
    "this VAE encodes to one latent and has no distribution: set posterior to mean in VAE Encode, or load a full VAE"
)


def room_on(
    device: torch.device,
    host: torch.device,
    free_bytes: int | None,
    host_free_bytes: int | None = None,
    give_back: Callable[[], None] | None = None,
) -> Room:
    """Make a room that tells errors in sentences; without a `give_back` of the host's, it empties torch's caches."""
    return Room(
        device, host, free_bytes, host_free_bytes, give_back or (lambda: release(device)), release_pinned, ERRORS
    )
