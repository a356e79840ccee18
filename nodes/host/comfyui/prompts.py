"""Prompts through a ComfyUI CLIP object, stock or ours.

All around the encoders stays ComfyUI's: loading, LoRA patches, hooks with their schedules, the layer chosen by CLIP
Set Last Layer, how a family joins its encoders (`CLIP.encode_from_tokens_scheduled`).
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence

import comfy.model_management as management
import comfy.sd
import comfy.sd1_clip
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ....clip_core.encoding.encode import Runner, encode_packed
from ....clip_core.encoding.rows import Row, Rows, Run
from ....clip_core.prompts.comfy import without_nameless
from ....clip_core.prompts.plan import PlannedPart, Port, PromptSettings
from ....clip_core.tokenizer import END, START
from ....lora.weights.inject import is_injected
from ....training.lora.trainee import LearningText
from ..shared.towers import ROWS, TextEncoders, Tower, Towers, with_stand_ins
from .progress import progress


def text_encoders(clip: comfy.sd.CLIP) -> TextEncoders:
    ports, others = [], []
    for name, encoder in clip.cond_stage_model.named_children():
        port = _port(name, encoder, clip.tokenizer)
        if port is not None:
            ports.append(port)
        elif isinstance(encoder, comfy.sd1_clip.SDClipModel):
            others.append(name)
    return TextEncoders(tuple(ports), tuple(others))


def learning_text(clip: comfy.sd.CLIP) -> LearningText:
    """The encoders of a CLIP object that can learn: those of CLIP's kind.

    Raises:
        ValueError: there is none.
    """
    if not isinstance(clip, comfy.sd.CLIP):
        raise ValueError(f"a CLIP was expected, and this is {type(clip).__name__}: connect one")
    found = text_encoders(clip)
    if not found.ports:
        raise ValueError(
            f"only CLIP text encoders can learn, and this CLIP has none of them ({', '.join(found.others)}): set "
            "text_encoder_rate to 0"
        )
    return LearningText(clip.cond_stage_model, tuple(port.name for port in found.ports), found.others)


def _port(name: str, encoder: nn.Module, tokenizer: object) -> Port | None:
    """An encoder of CLIP's kind: CLIP's start and end tokens, CLIP's tokenizer, hidden states given whole."""
    if isinstance(encoder, Tower):
        return encoder.port
    words = getattr(tokenizer, name, None)
    if (
        not isinstance(encoder, comfy.sd1_clip.SDClipModel)
        or not isinstance(words, comfy.sd1_clip.SDTokenizer)
        or not name.startswith("clip_")
        or (encoder.special_tokens.get("start"), encoder.special_tokens.get("end")) != (START, END)
        or not hasattr(encoder.transformer, "text_model")
        or encoder.layer == "all"
        or encoder.return_attention_masks
    ):
        return None
    width = encoder.transformer.get_input_embeddings().weight.shape[1]
    return Port(name, name.removeprefix("clip_"), width, words.pad_token, words.max_length, encoder.num_layers)


def encode_part(
    clip: comfy.sd.CLIP, part: PlannedPart, settings: PromptSettings, extra: Mapping[str, object]
) -> tuple[list, list[str]]:
    found, family = text_encoders(clip), clip.cond_stage_model
    notes: list[str] = []
    device, on_step = management.intermediate_device(), progress(1)

    def answer(port: Port, encoder: nn.Module) -> tuple[Tensor, Tensor]:
        run, owner = _run(clip, port.name, encoder)
        encoding = encode_packed(
            part.packed[port.key], run, settings, kept=ROWS, owner=owner, device=device, on_step=on_step
        )
        notes.extend(encoding.notes)
        return encoding.hidden, encoding.pooled

    ours = copy.copy(clip)  # the same patcher, another layer and family
    if is_injected(family):  # loaded already, and to load it anew could put away what learns with it
        ours.load_model = lambda *_: clip.patcher
    ours.cond_stage_model, tokens = with_stand_ins(family, found.ports, part.packed, answer)
    if settings.clip_skip:
        ours.clip_layer(-settings.clip_skip)
    if not isinstance(family, Towers):  # a family of ComfyUI's looks for the tokens of encoders that it does not have
        tokens = _host_tokens(clip, part.text if found.others else "") | tokens
    return ours.encode_from_tokens_scheduled(tokens, add_dict=dict(extra)), notes


def encode_plainly(clip: comfy.sd.CLIP, text: str, extra: Mapping[str, object]) -> list:
    return clip.encode_from_tokens_scheduled(_host_tokens(clip, text), add_dict=dict(extra))


def _host_tokens(clip: comfy.sd.CLIP, text: str) -> dict:
    """The host's own reading of a prompt. Its tokenizers take no lone surrogates, and it reads brackets by recursion
    (comfy/sd1_clip.py `token_weights`).

    Raises:
        ValueError: the brackets are too deep for it, or it stumbles over an embedding without a name.
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    try:
        try:
            return clip.tokenize(text)
        except IndexError:  # at an embedding without a name (SDTokenizer._try_get_embedding)
            return clip.tokenize(without_nameless(text)[0])
    except IndexError as error:
        raise ValueError(
            "a name was expected behind each embedding:, but one has none, and ComfyUI cannot read the prompt; write "
            "the name, or take embedding: away"
        ) from error
    except RecursionError as error:
        raise ValueError(
            "brackets nested less deep were expected, because T5 and other encoders that are no CLIP read the prompt "
            "by ComfyUI's own rules, which give up at some hundreds; take brackets away"
        ) from error


def _run(clip: comfy.sd.CLIP, name: str, encoder: nn.Module) -> tuple[Run, Hashable | None]:
    if isinstance(encoder, Tower):
        # the host names the device from 0.33 on; 0.3.64 computes where the token table lies, of a CLIP loaded in part
        # that is the CPU, to which it takes all weights that are on the card
        options = encoder.layer, encoder.projected
        device = encoder.execution_device or clip.patcher.load_device
        one_pass = Runner(encoder.transformer, encoder.layer, encoder.use.final_norm, encoder.projected, device)
    else:
        one_pass = _stock_run(encoder)
        options = (encoder.layer, encoder.layer_idx, encoder.return_projected_pooled)
    if is_injected(encoder):
        return one_pass, None
    return one_pass, owner_of(clip.patcher, (name, *options))


def owner_of(patcher: ModelPatcher, options: Hashable = ()) -> Hashable | None:
    """What stands for these weights: a patcher's uuid changes with every patch. Hooks and whatever else reaches into
    the network while it runs change results without it, so then nothing is kept.
    """
    settings = patcher.object_patches  # ComfyUI 0.33.0 keeps the type it computes in there
    if patcher.injections or patcher.weight_wrapper_patches or patcher.forced_hooks:
        return None
    if not all(isinstance(value, torch.dtype) for value in settings.values()):
        return None
    return patcher.patches_uuid, tuple(settings.items()), options


def _stock_run(encoder: comfy.sd1_clip.SDClipModel) -> Run:
    def run(rows: Sequence[Row]) -> Rows:
        network = _masked(encoder, rows) if any(row.unseen for row in rows) else encoder
        hidden, pooled = network.encode([[token.id for token in row.tokens] for row in rows])[:2]
        return Rows(hidden, pooled)

    return run


def _masked(encoder: comfy.sd1_clip.SDClipModel, rows: Sequence[Row]) -> comfy.sd1_clip.SDClipModel:
    """A shallow copy of the encoder whose rows do not see some of their places; it takes a mask when it is told to."""
    masked = copy.copy(encoder)

    def process_tokens(tokens, device):
        embeds, seen, *others = encoder.process_tokens(tokens, device)
        if not encoder.enable_attention_masks:
            seen = torch.ones_like(seen)
        for number, row in enumerate(rows):
            seen[number, list(row.unseen)] = 0
        return embeds, seen, *others

    masked.process_tokens = process_tokens
    masked.enable_attention_masks, masked.zero_out_masked = True, False
    return masked
