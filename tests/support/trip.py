"""What one call touches of the pack: its files, and how often the way goes from a file to one of another folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parents[2]
PACK = ("clip_core", "vae_core", "lora", "files", "drawing", "index", "training", "nodes", "headless")


@dataclass(frozen=True)
class Trip:
    files: frozenset[str]  # of the pack, in which a function ran
    crossings: tuple[str, ...]  # "folder/file.py:function -> folder/file.py:function", in their order


def trip(call: Callable[[], object]) -> Trip:
    """The trip of a call. A crossing is a call of a function whose file lies in another folder than the file of the
    nearest function of the pack that called it, whoever stands between the two (torch, ComfyUI). A generator that goes
    on is no call.
    """
    frames: list[FrameType] = []  # held, so that no later frame has the id of an earlier one
    known, files, crossings = set(), set(), []

    def on_event(frame: FrameType, event: str, _) -> None:
        if event != "call" or id(frame) in known or (called := _file(frame.f_code)) is None:
            return
        frames.append(frame)
        known.add(id(frame))
        files.add(called)
        above = frame.f_back
        while above is not None and _file(above.f_code) is None:
            above = above.f_back
        if above is None:
            return
        caller = _file(above.f_code)
        if Path(caller).parent != Path(called).parent:
            crossings.append(f"{caller}:{above.f_code.co_name} -> {called}:{frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        call()
    finally:
        sys.setprofile(before)
    return Trip(frozenset(files), tuple(crossings))


def _file(code: CodeType) -> str | None:
    """A function's file from the pack's root on; None for one of somebody else."""
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT):
        return None
    inside = path.relative_to(ROOT)
    return inside.as_posix() if inside.parts[0] in PACK else None
