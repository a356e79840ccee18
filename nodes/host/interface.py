"""What a node may ask of the place it runs in. `comfyui.py` and `standalone.py` are the two answers.

A new question is a function in `Host` and one of the same name and parameters on each side. CLIP, VAE, MODEL,
CONDITIONING and LATENT stand for the host's own objects: a node passes them on and never looks inside.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isfunction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Protocol, cast

from ...clip_core.networks.precision import EXACT
from .shared.device_errors import sentences

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...clip_core.checkpoint.find import TextSource
    from ...clip_core.config import CLIPConfig
    from ...clip_core.families import Family
    from ...clip_core.features.pictures import ImageEncoder
    from ...clip_core.features.texts import TextFeatures
    from ...clip_core.prompts.plan import PlannedPart, PromptSettings
    from ...lora.models.mmdit import Place
    from ...lora.weights.fusing import Change
    from ...lora.weights.measuring import Size
    from ...vae_core.tiling.network import VAENetwork
    from ...vae_core.tiling.work import Tiling, Worked
    from .shared.data_folders import Places
    from .shared.towers import FindEmbedding, TextEncoders

CLIP = object
ClipModel = object
Looking = object  # a ClipModel, a stock CLIP_VISION, or ours
ClipVisionOutput = object
VAE = object
Patchable = object  # a MODEL, a CLIP or a ClipModel
Conditioning = list
Latent = dict
OnStep = Callable[[int, int], None]  # done, and in all; may raise to stop


@dataclass(frozen=True)
class Route:
    """What the canvas may ask, JSON in and JSON out: `function` answers, or raises ValueError with a sentence.

    what, done: what a question is about, and what is done with it, for sentences; example: one that is answered.
    """

    what: str
    done: str
    example: str
    function: Callable[[object], dict]


class Host(Protocol):
    """Folders, running, and the objects that travel along the wires."""

    def set_place(
        self,
        *,
        models: Path | None,
        temp: Path,
        on_step: OnStep,
        output: Path | None = None,
        inputs: Sequence[Path] = (),
    ) -> None:
        """For a run without ComfyUI: the models folder (None: the pack's own), where previews go, and who is told
        `(done, total)` while a node works and may raise to stop it; where data is saved, and found besides."""

    def serve(self, routes: Mapping[str, Route]) -> None:
        """Answer these questions, by address; nothing where there is no server."""

    def folder_names(self, folder: str) -> list[str]:
        """The model files in one of the host's model folders ("loras", "vae", ...), sorted."""

    def folder_path(self, folder: str, name: str) -> Path:
        """Where that file is. Raises FileNotFoundError."""

    def save_preview(self, image: Tensor, prefix: str) -> list[dict[str, str]]:
        """Write [B, H, W, 3] in 0..1 as PNGs into the temporary folder; the entries for `ui.images`."""

    def output_path(self, prefix: str, suffix: str) -> Path:
        """The next free `PREFIX_00001_SUFFIX` in the output folder. Raises ValueError where that leads out of it."""

    def output_entry(self, path: Path) -> dict[str, str]:
        """That file as a node's `ui` tells it: filename, subfolder and type."""

    def data_names(self, suffix: str) -> list[str]:
        """Files with this suffix: "sub/a.x [output]" of the output folder, then "a.x" of the input folder."""

    def data_path(self, name: str) -> Path:
        """Where a file of that name is. Raises FileNotFoundError."""

    def data_places(self) -> Places:
        """Where pictures may be searched, and where their indexes lie."""

    def saves_workflow(self) -> bool:
        """Whether what is saved may hold the workflow it comes from."""

    def progress(self, total: int) -> OnStep:
        """`on_step(done, total)`: moves the bar, and raises when the user has cancelled."""

    def absent(self, why: str | None) -> object:
        """What an output carries that has nothing to carry: its consumers do not run, and say `why` if given."""

    def make_clip(
        self,
        family: Family,
        parts: Sequence[tuple[TextSource, Mapping[str, Tensor]]],
        dtype: str,
        find_embedding: FindEmbedding,
    ) -> CLIP:
        """A CLIP object from what was found in a file and its state dict for each use of the family, in its order;
        `find_embedding` is for prompts that other nodes than ours put into it.
        """

    def text_encoders(self, clip: CLIP) -> TextEncoders:
        """The CLIP encoders of a CLIP object, and the others in it."""

    def encode_part(
        self, clip: CLIP, part: PlannedPart, settings: PromptSettings, extra: Mapping[str, object]
    ) -> tuple[Conditioning, list[str]]:
        """The conditioning of one part of a planned prompt, and what the weighting has to say. `settings` are the
        plan's; `extra` goes into the conditioning's dictionary.
        """

    def encode_plainly(self, clip: CLIP, text: str, extra: Mapping[str, object]) -> Conditioning:
        """The conditioning as the host makes it alone, for a CLIP without a CLIP encoder."""

    def make_clip_model(self, config: CLIPConfig, state: Mapping[str, Tensor], dtype: str) -> ClipModel:
        """Both encoders as one object, under the host's memory management."""

    def clip_network(self, model: ClipModel) -> nn.Module:
        """The `clip_core.model.CLIP` inside, on the device it computes on, patches applied."""

    def device_of(self, network: nn.Module) -> object:
        """The device that inputs of this network belong on."""

    def image_encoder(self, model: Looking, precision: str = EXACT) -> ImageEncoder:
        """What makes features of pictures, ready to run; of our CLIP, or of a stock CLIP_VISION. `precision` is that of
        the activations, one of `clip_core.precision.PRECISIONS`.

        Raises ValueError for a CLIP_VISION that is no CLIP or has no projection.
        """

    def image_features(self, model: Looking, image: Tensor, on_step: OnStep, precision: str = EXACT) -> Tensor:
        """[B, H, W, 3 or 4] in 0..1 -> float32 [B, E] on the CPU, rows of length 1. Raises as `image_encoder`."""

    def vision_output(self, model: Looking, image: Tensor, resize: str, on_step: OnStep) -> ClipVisionOutput:
        """What stock nodes take for a picture that was encoded; `resize` "auto" (as the model wants it), "crop" or
        "squash". Raises as `image_encoder`.
        """

    def clip_vision(self, model: ClipModel) -> Looking:
        """Our CLIP's image half for stock nodes."""

    def model_key(self, model: Looking) -> str:
        """The model's name by its content, bit for bit; another for another preprocessing or a LoRA on it. Reads some
        values of each weight only.
        """

    def model_fingerprint(self, model: Looking) -> str:
        """What tells whether another model is the same one whatever dtype, device and host it was loaded in, with the
        same LoRAs in the same strengths on it: see `index.model`.
        """

    def text_features(
        self,
        model: Looking,
        clip: CLIP | None,
        texts: Sequence[str],
        on_step: OnStep | None,
        precision: str = EXACT,
    ) -> TextFeatures:
        """The features of texts in the space of this model's pictures; those of a stock CLIP_VISION come from `clip`.

        Raises ValueError where `clip` is wanted and absent, has no projected encoder, or one of another width.
        """

    def text_owner(self, model: Looking, clip: CLIP | None) -> Hashable | None:
        """What stands for the weights that texts go through, patches and all: equal only where the features would be.
        None: they may change unseen, so nothing may be kept.
        """

    def logit_scale(self, model: Looking) -> float | None:
        """The learned factor on cosines; None where the model has none."""

    def make_vae(self, network: Callable[..., VAENetwork], state: Mapping[str, Tensor], dtype: str) -> VAE:
        """A VAE object round `network(operations=..., device=..., dtype=...)` with these weights."""

    def latent_channels(self, vae: VAE) -> int | None:
        """How many channels this VAE's latents have; None where the host does not say."""

    def pixels_per_cell(self, vae: VAE) -> int | None:
        """How many pixels one latent cell spans along each side; None where the host does not say."""

    def encode_image(self, vae: VAE, image: Tensor, seed: int | None, tiling: Tiling) -> Worked:
        """[B, H, W, 3] in 0..1, in whole cells -> raw latent [B, C, h, w]: the posterior's mean, or with a seed a
        sample of it.
        """

    def posterior(self, vae: VAE, image: Tensor) -> Worked:
        """The distribution of the raw latent of [B, H, W, 3] in 0..1, a `vae_core.posterior.Posterior`.

        Raises ValueError for a VAE that encodes to one latent.
        """

    def decode_latent(self, vae: VAE, latent: Tensor, tiling: Tiling) -> Worked:
        """Raw latent [B, C, h, w] -> image [B, H, W, 3] in 0..1."""

    def weights(self, target: Patchable) -> dict[str, tuple[int, ...]]:
        """The names and shapes of the weights that a LoRA can change."""

    def sizes(self, target: Patchable, places: Sequence[Place]) -> dict[Place, Size]:
        """About how large those weights are, as they are without any LoRA of this target and dequantised: from a few
        of their rows. Weights of which no few rows can be read are not in it.
        """

    def norms(
        self, target: Patchable, places: Sequence[Place], on_step: Callable[[int, int], None]
    ) -> dict[Place, float]:
        """The Frobenius norms of those weights, all of their numbers read, as they are without any LoRA of this target
        and dequantised. Weights that are kept in a form unknown here are not in it.
        """

    def patched(
        self, target: Patchable, changes: Mapping[Place, Sequence[Change]], *, match_comfyui: bool = False
    ) -> Patchable:
        """A copy whose weights are changed, all changes of one place as one patch; the original keeps its bits.

        Raises RuntimeError when the host did not take every patch.
        """


_COMPUTING = {  # functions that work on the card, and what is then being done, for the sentence when it fails
    "encode_part": "encoding a prompt",
    "encode_plainly": "encoding a prompt",
    "text_features": "encoding texts",
    "image_encoder": "loading an image encoder",
    "image_features": "encoding pictures",
    "vision_output": "encoding a picture",
    "clip_network": "loading a CLIP",
    "model_key": "reading the weights of a CLIP",
    "model_fingerprint": "reading the weights of a CLIP",
    "make_clip": "loading a text encoder",
    "make_clip_model": "loading a CLIP",
    "make_vae": "loading a VAE",
    "encode_image": "encoding a picture",
    "posterior": "encoding a picture",
    "decode_latent": "decoding a latent",
    "norms": "measuring weights",
    "sizes": "measuring weights",
    "patched": "putting LoRAs on a model",
}


def gathered(*modules: ModuleType) -> Host:
    """The host whose functions are those that these modules define; where one fails for want of memory, or of the
    device, it does so in one sentence.

    Raises:
        ImportError: a function of `Host` is defined in none of them, or in two.
    """
    found = {}
    for name in (name for name, member in vars(Host).items() if isfunction(member) and not name.startswith("_")):
        own = [module for module in modules if getattr(vars(module).get(name), "__module__", None) == module.__name__]
        if len(own) != 1:
            there = " and ".join(module.__name__ for module in own) or "none of its files"
            raise ImportError(f"one function {name} was expected of a host, but it is defined in {there}")
        function = vars(own[0])[name]
        found[name] = sentences(_COMPUTING[name])(function) if name in _COMPUTING else function
    return cast(Host, SimpleNamespace(**found))
