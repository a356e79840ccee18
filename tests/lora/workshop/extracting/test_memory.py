"""Memory that long work gives back."""

import sys
from pathlib import Path

import pytest
import torch

from clip_vae_lora.lora.workshop import steps
from clip_vae_lora.lora.workshop.steps import Returning, give_back

STATUS = Path("/proc/self/statm")
MB = 2**20


def resident_mb() -> float:
    return int(STATUS.read_text().split()[1]) * 4096 / MB


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or steps._trim() is None, reason="glibc alone keeps what was freed"
)
def test_what_was_freed_between_things_that_stay_goes_back():
    first = torch.empty(30 * MB, dtype=torch.uint8)
    del first  # from now on glibc keeps blocks up to this size
    blocks, kept = [], []
    for _ in range(150):
        blocks.append(torch.ones(MB, dtype=torch.uint8))
        kept.append(torch.ones(2**14, dtype=torch.uint8))
    held = resident_mb()
    blocks.clear()
    give_back()
    assert held - resident_mb() > 100 and len(kept) == 150


def test_it_is_given_back_now_and_then(monkeypatch):
    asked = []
    monkeypatch.setattr(steps, "give_back", lambda: asked.append(1))
    returning = Returning()
    for _ in range(8):
        returning.after(2**25)
    assert len(asked) == 4


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(steps, "_trim", lambda: None)
    give_back()
