"""What both hosts do alike when a CLIP looks at pictures: our CLIP as stock nodes' CLIP_VISION, what such an encoder
gives, and a model's name by its content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace

import torch
from torch import Tensor, nn

from ....clip_core.config import CLIPConfig
from ....clip_core.features.pictures import ImageEncoder, image_encoder
from ....clip_core.networks.clip import CLIP
from ....index.model import fingerprint
from ....lora.models.places import Place
from ....lora.weights.fusing import Change

Marks = Mapping[Place, tuple[str, ...]]  # of each patched weight: what was put on it, in order
_SAMPLES = 64  # of each tensor, for its part in the key

# last hidden states, those of the last block but one (both [B, 1 + P, C], not normed), embeddings [B, E], and what a
# Llava projector makes, of which CLIP has none
States = tuple[Tensor, Tensor, Tensor, None]


class Seen:
    """A CLIP_VISION_OUTPUT: attributes that stock nodes also reach as items, as in `comfy.clip_vision.Output`."""

    def __getitem__(self, key: str) -> object:
        return getattr(self, key)

    def __setitem__(self, key: str, item: object) -> None:
        setattr(self, key, item)


class Tower:
    """The image half of a CLIP, called as ComfyUI's CLIPVisionModelProjection is."""

    def __init__(self, network: CLIP):
        self.vision_model, self.visual_projection = network.vision_model, network.visual_projection
        self._dtype = network.activation_dtype

    def __call__(self, pixel_values: Tensor, intermediate_output: int | None = None) -> States:
        """[B, 3, S, S] -> States, float32; the middle ones are of the layer asked for"""
        with torch.no_grad():
            last, middle, pooled = self.vision_model.states(pixel_values.to(self._dtype), intermediate_output)
            embeds = self.visual_projection(pooled)
        return last.float(), middle.float(), embeds.float(), None


@dataclass(frozen=True)
class ClipVision:
    """Our CLIP as CLIP_VISION: stock nodes call `encode_image`, other packs reach for `model`, `patcher` and
    `load_device`. `network` gives the CLIP, ready to run; `whole` with all its weights there, patches and all (None: as
    `network` does).
    """

    clip_model: object  # what CVL nodes call a CVL_CLIP_MODEL
    config: CLIPConfig
    network: Callable[[], CLIP]
    patcher: object
    load_device: torch.device
    output: Callable[[], object] = Seen
    whole: Callable[[], CLIP] | None = None

    @property
    def model(self) -> Tower:
        return Tower(self.network())

    @property
    def image_size(self) -> int:
        return self.config.vision.image_px

    @property
    def image_mean(self) -> list[float]:
        return list(self.config.mean)

    @property
    def image_std(self) -> list[float]:
        return list(self.config.std)

    def get_sd(self) -> dict[str, Tensor]:
        """The image half's weights under Hugging Face's names, as stock nodes save them."""
        network = (self.whole or self.network)()
        return {name: weight for name, weight in network.state_dict().items() if name.startswith("vis")}

    def encode_image(self, image: Tensor, crop: bool = True) -> object:
        """[B, H, W, 3 or 4] in 0..1 -> CLIP_VISION_OUTPUT; `crop` False squashes the picture instead"""
        network = self.network()
        encoder = replace(image_encoder(network, self.load_device), resize="crop" if crop else "squash")
        return look(Tower(network), encoder, image, self.output(), lambda done, total: None)


def look(
    tower: Callable[..., States],
    encoder: ImageEncoder,
    image: Tensor,
    seen: object,
    on_step: Callable[[int, int], None],
) -> object:
    """Fill `seen` with what ComfyUI's ClipVisionModel.encode_image gives, float32 on the CPU; embeddings are not
    normalised.

    [B, H, W, 3 or 4] in 0..1 -> last_hidden_state, penultimate_hidden_states [B, 1 + P, C], image_embeds [B, E]
    """
    parts, done = [], 0
    for pictures in image.split(encoder.at_once):
        out = tower(pixel_values=encoder.pixels(pictures), intermediate_output=-2)
        parts.append([tensor.float().cpu() for tensor in out[:3]])
        done += len(pictures)
        on_step(done, len(image))
    last, penultimate, embeds = (torch.cat(rows) for rows in zip(*parts))
    seen.last_hidden_state, seen.penultimate_hidden_states, seen.image_embeds = last, penultimate, embeds
    seen.image_sizes = [torch.Size((3, encoder.size_px, encoder.size_px))] * len(image)
    seen.mm_projected = None
    return seen


def clip_key(network: nn.Module, config: CLIPConfig) -> str:
    """The key of one of our CLIPs, patches and all."""
    return content_key(network.state_dict(), repr(sorted(asdict(config).items())))


def content_key(state: Mapping[str, Tensor], facts: str) -> str:
    """A model's name by its content: `facts`, and every tensor's name, shape and some of its values as float32. The
    same file gives the same key in every run and on every machine; 32 hexadecimal digits.
    """
    digest, values = hashlib.sha256(facts.encode()), []
    for name in sorted(state):
        tensor = state[name].detach()
        digest.update(f"{name}{list(tensor.shape)}".encode())
        flat = tensor.reshape(-1)
        values.append(flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].float())
    digest.update(torch.cat(values).cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def clip_fingerprint(state: Mapping[str, Tensor], config: CLIPConfig, marks: Marks) -> str:
    """The fingerprint (`index.model`) of one of our CLIPs: its weights without LoRAs, and the LoRAs on them."""
    lines = [f"{place!r} {mark}" for place, several in marks.items() for mark in several]
    return fingerprint(state, "\n".join([repr(sorted(asdict(config).items())), *sorted(lines)]))


def marked(marks: Marks, changes: Mapping[Place, Sequence[Change]]) -> Marks:
    """The marks of a model with these changes put on it besides. They are those of the adapters as they were read and
    of their strengths, so they do not depend on how a host rounds what it patches; strength 0 leaves no mark.
    """
    new = dict(marks)
    for place, several in changes.items():
        own = tuple(_mark(adapter, strength) for adapter, strength in several if strength)
        if own:
            new[place] = (*new.get(place, ()), *own)
    return new


def _mark(adapter: object, strength: float) -> str:
    digest = hashlib.sha256(f"{type(adapter).__name__} {float(strength)!r}".encode())
    for part in _parts_of(adapter):
        if isinstance(part, Tensor):
            flat = part.detach().reshape(-1)
            some = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].float().cpu()
            digest.update(repr(list(part.shape)).encode() + some.numpy().tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]


def _parts_of(value: object) -> Iterator[object]:
    """Tensors, numbers and names in a dataclass, in the dataclasses and in the tuples in it."""
    if is_dataclass(value):
        for part in fields(value):
            yield from _parts_of(getattr(value, part.name))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _parts_of(part)
    else:
        yield value
