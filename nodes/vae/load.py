"""VAEs: load one from a file, or from the two halves of a tiny one, and say what was read."""

from __future__ import annotations

from pathlib import Path

from ...files.documents import read_json
from ...files.errors import FileFormatError
from ...files.tensors import TensorFile, open_tensors
from ...vae_core.checkpoint import find as vae_files
from ...vae_core.checkpoint.find import families_to_name
from ...vae_core.config import NORM_GROUPS
from .. import catalog
from ..dtypes import DTYPES
from ..host import host
from ..reports import as_json, shown


def load_vae(path: Path, dtype: str, family: str) -> tuple[object, list[str], dict]:
    """A VAE from one file, or from the two halves of a tiny one."""
    twin = _other_half(path)
    named = vae_files.family_in_name(path.name) if family == "auto" else family
    with open_tensors(path) as file:
        try:
            if twin is None:
                source = vae_files.find_vae(file.shapes, named)
                state = source.translate(file.read(source.names))
            else:
                source, state = _tiny_pair(file, twin, named)
        except vae_files.LayoutError as error:
            raise FileFormatError(path, str(error)) from error
    _check_groups(path, source.kind)
    made = host.make_vae(source.build, state, dtype)
    config = source.config
    files = [path.name] if twin is None else [path.name, twin.name]
    lines = [
        f"{' + '.join(files)}: {source.network.title}",
        *source.notes,
    ]
    data = {
        "files": files,
        "kind": source.kind,
        "layout": source.layout,
        "prefix": source.prefix,
        "dtype": dtype,
        "latent_channels": config.latent,
        "px_per_cell": config.factor,
        "tensors": len(source.names),
        "encoder": source.has_encoder,
        "decoder": source.has_decoder,
        "notes": list(source.notes),
        "ignored": list(source.ignored),
    }
    return made, lines, data


def _check_groups(path: Path, network: str) -> None:
    """Raises FileFormatError where the config.json beside the file tells norms in other groups: no tensor does."""
    beside = path.with_name("config.json")
    if network != "kl" or not beside.is_file():
        return
    config = read_json(beside)
    groups = config.get("norm_num_groups", NORM_GROUPS) if isinstance(config, dict) else NORM_GROUPS
    if groups != NORM_GROUPS:
        raise FileFormatError(
            path,
            f"norms in {NORM_GROUPS} groups were expected, but the config.json beside it tells {groups}: pictures "
            "would be wrong; load it with the program it was made for",
        )


def _other_half(path: Path) -> Path | None:
    """The file beside a NAME_encoder file that is called NAME_decoder, and the other way round."""
    twins = (path.with_name(name) for name in catalog.other_halves(path.name))
    return next((twin for twin in twins if twin.is_file()), None)


def _tiny_pair(file: TensorFile, twin: Path, family: str | None) -> tuple[vae_files.VAESource, dict]:
    with open_tensors(twin) as other:
        encoder, decoder = (file, other) if "_encoder." in file.path.name else (other, file)
        source = vae_files.find_vae(vae_files.join_pair(encoder.shapes, decoder.shapes), family)
        tensors = vae_files.join_pair(encoder.read(encoder.shapes), decoder.read(decoder.shapes))
    return source, source.translate(tensors)


class LoadVAE:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Loads a VAE (SD1, SD2, SDXL, SD3, Flux.1, Wan, Qwen-Image; their own or diffusers' names; alone or inside a "
        "checkpoint) or a tiny autoencoder of the TAESD family, and says what it found. Stock nodes take its VAE."
    )
    SEARCH_ALIASES = [
        "VAELoader",
        "load vae",
        "TAESD",
        "autoencoder",
        "vae file",
        "sdxl vae",
        "wan vae",
        "qwen image vae",
    ]
    RETURN_TYPES = ("VAE", "STRING")
    RETURN_NAMES = ("vae", "report")
    OUTPUT_TOOLTIPS = (
        "The VAE, for any node that takes one.",
        "What was read, as JSON: kind, latent channels, pixels per cell, layout, tensors left unread.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        tiny = families_to_name()
        return {
            "required": {
                "file": (
                    catalog.choices("vae"),
                    {
                        "tooltip": "A VAE file, or a checkpoint that contains one. Of a TAESD pair choose either half, "
                        "the other is found beside it. bundled: a toy for the examples."
                    },
                ),
            },
            "optional": {
                "dtype": (
                    DTYPES,
                    {
                        "advanced": True,
                        "tooltip": "What the VAE computes in. auto: as ComfyUI, or fp32 alone. SDXL's fails in fp16.",
                    },
                ),
                "family": (
                    ["auto", *tiny],
                    {
                        "advanced": True,
                        "tooltip": "For a tiny autoencoder only: the model it stands in for, which its tensors do not "
                        f"tell. auto: told from the file's name ({', '.join(tiny.values())}).",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file, **_):
        return catalog.fingerprint("vae", file)

    def load(self, file, dtype="auto", family="auto"):
        vae, lines, data = load_vae(catalog.path("vae", file), dtype, family)
        return shown(lines, data, (vae, as_json(data)))


NODES = {"CVL_LoadVAE": (LoadVAE, "Load VAE (CVL)")}
