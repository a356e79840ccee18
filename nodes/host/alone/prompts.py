"""Prompts without ComfyUI: each encoder of a CLIP asked in turn."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from ....clip_core.encoding.encode import encode_packed
from ....clip_core.prompts.plan import PlannedPart, Port, PromptSettings
from ....lora.weights.trainable import Trainable
from ..shared.towers import ROWS, TextEncoders, Tower, with_stand_ins
from .clip import StandaloneClip
from .progress import progress


def text_encoders(clip: StandaloneClip) -> TextEncoders:
    return TextEncoders(tuple(tower.port for tower in clip.towers.towers()))


def encode_part(
    clip: StandaloneClip, part: PlannedPart, settings: PromptSettings, extra: Mapping[str, object]
) -> tuple[list, list[str]]:
    notes: list[str] = []
    on_step = progress(0)
    learns = any(isinstance(module, Trainable) for module in clip.towers.modules())  # adapters inside it do

    def answer(port: Port, encoder: Tower) -> tuple[Tensor, Tensor]:
        tower = copy.copy(encoder)  # with a layer of its own: threads may share the CLIP and want two
        if settings.clip_skip:
            tower.choose({"layer": -settings.clip_skip})
        owner = None if learns else (clip.identity, port.key, tower.layer, tower.projected)
        encoding = encode_packed(part.packed[port.key], tower.run(), settings, kept=ROWS, owner=owner, on_step=on_step)
        notes.extend(encoding.notes)
        return encoding.hidden, encoding.pooled

    towers, tokens = with_stand_ins(clip.towers, text_encoders(clip).ports, part.packed, answer)
    with nullcontext() if learns else torch.inference_mode():
        hidden, pooled = towers.encode_token_weights(tokens)
    return [[hidden.cpu(), {"pooled_output": pooled.cpu(), **extra}]], notes


def encode_plainly(clip: StandaloneClip, text: str, extra: Mapping[str, object]) -> list:
    raise ValueError(
        "a CLIP with a CLIP text encoder was expected, but this one has none; load one with Load Text Encoder (CVL)"
    )  # without ComfyUI there is no other
