"""The interface between nodes and the program they run in; the folders `comfyui` and `alone` implement it.

A new question is a function in `Host` and one of the same name and parameters on each side. CLIP, VAE, MODEL,
CONDITIONING and LATENT stand for the host's own objects: a node passes them on and never looks inside.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from inspect import isfunction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from ...clip_core.networks.precision import EXACT
from .shared.device_errors import sentences
from .shared.routes import PictureRoute, Route

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...clip_core.checkpoint.find import TextSource
    from ...clip_core.config import CLIPConfig
    from ...clip_core.families import Family
    from ...clip_core.features.pictures import ImageEncoder
    from ...clip_core.features.texts import TextFeatures
    from ...clip_core.judging.ranking import Logits
    from ...clip_core.prompts.plan import PlannedPart, PromptSettings
    from ...diffusion.config import DiffusionConfig
    from ...doctor.facts import Facts
    from ...lora.models.places import Place, Target
    from ...lora.weights.fusing import Change
    from ...lora.weights.measuring import Kept, Size
    from ...training.lora.trainee import Trainee
    from ...training.vae.trainee import VAETrainee
    from ...vae_core.tiling.network import VAENetwork
    from ...vae_core.tiling.work import Tiling, Worked
    from .shared.data_folders import Places
    from .shared.text_side import TextTokenizer
    from .shared.towers import FindEmbedding, TextEncoders
    from .shared.vae_facts import VAEFacts

Image: TypeAlias = "Tensor"  # [B, H, W, 3 or 4] in 0..1
Mask: TypeAlias = "Tensor"  # [B, H, W] in 0..1
Features: TypeAlias = "Tensor"  # float32 [N, E] on the CPU, rows of length 1
CLIP = object
ClipModel = object
Looking = object  # a ClipModel, a stock CLIP_VISION, or ours
ClipVisionOutput = object
VAE = object
Model = object
Patchable = object  # a MODEL, a CLIP or a ClipModel
Conditioning = list
Latent = dict
OnStep = Callable[[int, int], None]  # done, and in all; may raise to stop


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
        """Set the folders of a run without ComfyUI (models: None for the pack's own; temp for previews; output and
        inputs for data), and the callback for progress, which may raise to stop a node.
        """

    def serve(self, routes: Mapping[str, Route | PictureRoute]) -> None:
        """Answer these questions, by address; does nothing without a server."""

    def folder_names(self, folder: str) -> list[str]:
        """List the model files in one of the host's model folders ("loras", "vae", ...), sorted."""

    def folder_path(self, folder: str, name: str) -> Path:
        """Return the path of that file. Raises FileNotFoundError."""

    def save_preview(self, image: Tensor, prefix: str) -> list[dict[str, str]]:
        """Write [B, H, W, 3] in 0..1 as PNGs into the temporary folder; returns the entries for `ui.images`."""

    def output_path(self, prefix: str, suffix: str) -> Path:
        """Return the next free `PREFIX_00001_SUFFIX` in the output folder. Raises ValueError for one outside it."""

    def output_entry(self, path: Path) -> dict[str, str]:
        """Describe that file as a node's `ui` does: filename, subfolder and type."""

    def data_names(self, suffix: str) -> list[str]:
        """List the files with this suffix: "sub/a.x [output]" of the output folder, then "a.x" of the input folder."""

    def data_path(self, name: str) -> Path:
        """Return the path of the file of that name. Raises FileNotFoundError."""

    def data_places(self) -> Places:
        """Return the folders in which pictures may be searched and indexes lie."""

    def saves_workflow(self) -> bool:
        """Whether a saved file may hold the workflow that made it."""

    def progress(self, total: int) -> OnStep:
        """Return a callback that moves the bar, and raises when the user has cancelled."""

    def tell(self, node: str, output: Mapping[str, list]) -> None:
        """Send the canvas what a node that still runs has to show, as `ui` has it; does nothing without a server."""

    def absent(self, why: str | None) -> object:
        """Return a placeholder that stops the nodes behind this output (ComfyUI's ExecutionBlocker). The user is
        shown `why`; None blocks silently.
        """

    def make_clip(
        self,
        family: Family,
        parts: Sequence[tuple[TextSource, Mapping[str, Tensor]]],
        dtype: str,
        find_embedding: FindEmbedding,
    ) -> CLIP:
        """Make a CLIP object from a source and a state dict for each encoder of the family, in the family's order.
        Prompts that other nodes encode with it look their embeddings up with `find_embedding`.
        """

    def text_encoders(self, clip: CLIP) -> TextEncoders:
        """Return the CLIP encoders of a CLIP object, and its other encoders."""

    def encode_part(
        self, clip: CLIP, part: PlannedPart, settings: PromptSettings, extra: Mapping[str, object]
    ) -> tuple[Conditioning, list[str]]:
        """Encode one part of a planned prompt; returns the conditioning and notes on the weighting. `settings` are
        the plan's; `extra` goes into the conditioning's dictionary.
        """

    def encode_plainly(self, clip: CLIP, text: str, extra: Mapping[str, object]) -> Conditioning:
        """Let the host alone encode the text, for a CLIP object without a CLIP encoder."""

    def make_clip_model(
        self, config: CLIPConfig, state: Mapping[str, Tensor], dtype: str, tokenizer: TextTokenizer | None = None
    ) -> ClipModel:
        """Make one object of both encoders, under the host's memory management; `tokenizer` None: CLIP's."""

    def clip_network(self, model: ClipModel) -> nn.Module:
        """Return the CLIP inside, on its compute device, patches applied."""

    def text_tokenizer(self, model: ClipModel) -> TextTokenizer:
        """Return the tokenizer of the CLIP inside."""

    def training_device(self) -> object:
        """Return the device that a new network is trained on, after other models have made room there."""

    def device_of(self, network: nn.Module) -> object:
        """Return the device on which this network expects its inputs."""

    def image_encoder(self, model: Looking, precision: str = EXACT) -> ImageEncoder:
        """Make the image encoder of our CLIP or of a stock CLIP_VISION ready to run. `precision` is that of the
        activations, one of `clip_core.networks.precision.PRECISIONS`.
        Raises ValueError for a CLIP_VISION that is no CLIP or has no projection.
        """

    def image_features(self, model: Looking, image: Tensor, on_step: OnStep, precision: str = EXACT) -> Tensor:
        """Encode pictures. [B, H, W, 3 or 4] in 0..1 -> float32 [B, E] on the CPU, rows of length 1. Raises as
        `image_encoder`.
        """

    def vision_output(
        self, model: Looking, image: Tensor, resize: str, on_step: OnStep, ground: float = 1.0
    ) -> ClipVisionOutput:
        """Encode pictures for stock nodes; `resize` "auto": the model's own way. Raises as `image_encoder`."""

    def clip_vision(self, model: ClipModel) -> Looking:
        """Wrap our CLIP's image encoder for stock nodes."""

    def model_key(self, model: Looking) -> str:
        """Name the model by some values of each weight, its preprocessing and its LoRAs, bit for bit."""

    def model_fingerprint(self, model: Looking) -> str:
        """Name the model by its content and its LoRAs, whatever its dtype, device and host; see `index.model`."""

    def text_features(
        self,
        model: Looking,
        clip: CLIP | None,
        texts: Sequence[str],
        on_step: OnStep | None,
        precision: str = EXACT,
    ) -> TextFeatures:
        """Encode texts into the space of this model's pictures; a stock CLIP_VISION uses the text encoder of `clip`.
        Raises ValueError where `clip` is wanted and absent, has no projected encoder, or one of another width.
        """

    def text_owner(self, model: Looking, clip: CLIP | None) -> Hashable | None:
        """Identify the weights that texts go through, patches included; None: they may change, and nothing is kept."""

    def logits(self, model: Looking) -> Logits | None:
        """Return what the model learned to do with cosines; None for a CLIP_VISION."""

    def make_vae(self, network: Callable[..., VAENetwork], state: Mapping[str, Tensor], dtype: str) -> VAE:
        """Make a VAE object around `network(operations=..., device=..., dtype=...)` with these weights."""

    def make_model(self, config: DiffusionConfig, state: Mapping[str, Tensor], dtype: str) -> Model:
        """Make a MODEL object of our own diffusion network with these weights."""

    def trainee(self, model: Model, clip: CLIP | None = None) -> AbstractContextManager[Trainee]:
        """Make a MODEL, and a CLIP that learns with it, ready for training outside of inference mode; undo it after."""

    def trainable_vae(self, vae: VAE) -> VAETrainee:
        """Return a VAE's weights, as copies, and what training asks of it. Raises ValueError for an unknown kind."""

    def vae_facts(self, vae: VAE) -> VAEFacts:
        """Tell what this VAE makes of what. Raises ValueError for an output that holds no VAE."""

    def encode_image(self, vae: VAE, image: Tensor, seed: int | None, tiling: Tiling) -> Worked:
        """Encode [B, H, W, 3 or 4] in 0..1, in whole cells, to the raw latent [B, C, h, w], of a video [1, C, t, h, w]:
        the posterior's mean, or, with a seed, a sample of the posterior.
        """

    def posterior(self, vae: VAE, image: Tensor) -> Worked:
        """Encode [B, H, W, 3 or 4] in 0..1 to the distribution of its raw latent, a `vae_core.posterior.Posterior`.
        Raises ValueError for a VAE that encodes to one latent.
        """

    def decode_latent(self, vae: VAE, latent: Tensor, tiling: Tiling) -> Worked:
        """Decode a raw latent [B, C, h, w] or [B, C, t, h, w] to an image [B, H, W, 3 or 4] in 0..1."""

    def facts_of(self, name: str, value: object) -> Facts | None:
        """Tell what a MODEL, CLIP or VAE is; `name` is for reports. None for anything else."""

    def weights(self, target: Patchable) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the weights that a LoRA can change."""

    def module_names(self, target: Patchable) -> dict[str, Target]:
        """Return the names that the host's own LoRA loader knows for these weights' modules; {} without a host."""

    def packed_by(self, target: Patchable) -> str:
        """Name what has packed the target's layers so that no LoRA can change them, or return ""."""

    def kept(self, target: Patchable, changes: Mapping[Place, Sequence[Change]]) -> Kept | None:
        """Estimate, from a few rows, what rounding leaves of the plain LoRAs on weights of eight bits or fewer."""

    def sizes(self, target: Patchable, places: Sequence[Place]) -> dict[Place, Size]:
        """Estimate the size of those weights from a few rows, dequantised and without LoRAs; others are left out."""

    def norms(self, target: Patchable, places: Sequence[Place], on_step: OnStep) -> dict[Place, float]:
        """Measure their Frobenius norms from all numbers, as `sizes`; weights in an unknown form are left out."""

    def base_weight(self, target: Patchable, key: str, *, changed: bool = False) -> Tensor:
        """Return one weight as it was loaded, dequantised, without LoRAs, or with them (in fp32) where `changed`."""

    def patched(
        self, target: Patchable, changes: Mapping[Place, Sequence[Change]], *, match_comfyui: bool = False
    ) -> Patchable:
        """Return a copy with changed weights, all changes of one weight as one patch; the original keeps its bits.

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
    "make_model": "loading a diffusion model",
    "encode_image": "encoding a picture",
    "posterior": "encoding a picture",
    "decode_latent": "decoding a latent",
    "trainable_vae": "reading the weights of a VAE",
    "norms": "measuring weights",
    "sizes": "measuring weights",
    "kept": "measuring weights",
    "patched": "putting LoRAs on a model",
}


def gather_host(*modules: ModuleType) -> Host:
    """Gather the host's functions from these modules; one that runs out of memory, or loses its device, says so.

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
