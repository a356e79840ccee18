"""Load CLIP Model: both encoders of a CLIP from one file, or from the parts of one, with a report."""

from __future__ import annotations

from pathlib import Path

from ...clip_core.checkpoint import find as clip_files
from ...clip_core.config import CLIPConfig, ResNetConfig
from ...clip_core.features.whole_texts import WholeTexts
from ...clip_core.siglip_config import SigLIPConfig
from ...files.documents import read_vocabulary, vocabulary_beside
from ...files.errors import FileFormatError
from ...files.folder import whole_of
from ...files.tensors import open_tensors
from .. import catalog
from ..clip_facts import read_facts
from ..dtypes import DTYPES
from ..host import host
from ..reports import as_json, shown


def load_clip_model(path: Path, activation: str, dtype: str, heads: int = 0) -> tuple[object, list[str], dict]:
    """Load both encoders from one file, or from the parts of one. `activation` "auto" and `heads` 0: as the files say,
    or by the rule for its sizes.

    Returns:
        the model, and the lines and the data of its report.
    """
    with open_tensors(whole_of(path)) as file:
        facts = read_facts(file, None if activation == "auto" else activation, heads or None)
        try:
            source = clip_files.find_clip(file.shapes, file.metadata, facts.activation, heads=facts.heads)
        except clip_files.LayoutError as error:
            raise FileFormatError(file.path, str(error)) from error
        config, notes = facts.complete(source.config), [*source.notes, *facts.notes]
        tokenizer, said = _tokenizer(config, file.path)
        notes += said
        model = host.make_clip_model(config, source.translate(file.read(source.names)), dtype, tokenizer)
        name = file.path.name
    text, vision = config.text, _vision(config)
    kind = "SigLIP" if isinstance(config, SigLIPConfig) else "CLIP"
    lines = [
        name,
        f"a {kind} that looks at pictures at {config.vision.image_px} x {config.vision.image_px} px",
        *notes,
    ]
    data = {
        "file": name,
        "layout": source.layout,
        "embed": text.embed,
        "activation": text.activation,
        "text": {"layers": text.layers, "width": text.width, "heads": text.heads},
        "notes": notes,
        "vision": vision,
        "preprocess": {"resize": config.resize, "mean": list(config.mean), "std": list(config.std)},
        "tensors": len(source.names),
        "ignored": [*source.ignored, *file.ignored],
    }
    return model, lines, data


def _tokenizer(config: CLIPConfig, path: Path) -> tuple[WholeTexts | None, list[str]]:
    """The tokenizer of a SigLIP, from the vocabulary beside its file, and a note on it; None: CLIP's own, built in."""
    if not isinstance(config, SigLIPConfig):
        return None, []
    vocabulary = vocabulary_beside(path)
    if vocabulary is not None:
        return WholeTexts(read_vocabulary(vocabulary), vocabulary), [f"texts become tokens by {vocabulary.name}"]
    missing = (
        "its vocabulary is not beside it, so that texts cannot be encoded: put the model's tokenizer.json (or SigLIP "
        f"1's spiece.model) into the same folder, as {path.stem}.tokenizer.json where other models lie there too"
    )

    def no_pieces(text: str) -> list[int]:
        raise ValueError(f"this SigLIP cannot read texts: {missing}")

    return WholeTexts(no_pieces), [missing]


def _vision(config: CLIPConfig) -> dict:
    """The report's data on the image encoder."""
    vision = config.vision
    data = {"width": vision.width, "heads": vision.heads, "image_px": vision.image_px}
    if isinstance(vision, ResNetConfig):
        return {"blocks": list(vision.blocks), **data}
    return {**data, "layers": vision.layers, "patch_px": vision.patch_px}


class LoadCLIPModel:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Loads a whole CLIP, text and image encoder, for zero-shot classification and similarity: vision transformers "
        "and ResNets, in the layouts of OpenAI (its .pt archives, too), open_clip and Hugging Face; SigLIP and SigLIP "
        "2, with their tokenizer.json beside them. For prompts alone use Load Text Encoder."
    )
    SEARCH_ALIASES = [
        "CLIP model",
        "ViT",
        "ResNet",
        "RN50",
        "open_clip",
        "OpenAI",
        "MetaCLIP",
        "SigLIP",
        "load clip vision",
    ]
    RETURN_TYPES = ("CVL_CLIP_MODEL", "STRING", "CLIP_VISION")
    RETURN_NAMES = ("clip_model", "report", "clip_vision")
    OUTPUT_TOOLTIPS = (
        "Both encoders, for the CVL nodes that compare pictures with words.",
        "What was read, as JSON: sizes, layout, activation, tensors left unread.",
        "Its image encoder, for stock nodes that take a CLIP_VISION.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "file": (
                    catalog.choices("clip_model"),
                    {"tooltip": "A file with both halves of a CLIP; bundled: a toy for the examples."},
                ),
            },
            "optional": {
                "activation": (
                    ["auto", "quick_gelu", "gelu"],
                    {
                        "advanced": True,
                        "tooltip": "Most CLIP files do not name theirs. auto: the header or the config files beside it "
                        "if they say, else its published name, else the rule for its size (OpenAI's sizes quick_gelu; "
                        "H, g and bigG gelu).",
                    },
                ),
                "dtype": (
                    DTYPES,
                    {
                        "advanced": True,
                        "tooltip": "How the weights are kept. auto: fp32. Activations are fp32 either way.",
                    },
                ),
                "heads": (
                    "INT",
                    {
                        "default": 0,
                        "advanced": True,
                        "display_name": "heads (0: from the file)",
                        "min": 0,
                        "max": 1024,
                        "tooltip": "Attention heads of the image encoder, which files do not name either. 0: what the "
                        "config beside it says, else the rule for its width.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file, **_):
        return catalog.fingerprint("clip_model", file)

    def load(self, file, activation="auto", dtype="auto", heads=0):
        model, lines, data = load_clip_model(catalog.path("clip_model", file), activation, dtype, heads)
        return shown(lines, data, (model, as_json(data), host.clip_vision(model)))


NODES = {"CVL_LoadCLIPModel": (LoadCLIPModel, "Load CLIP Model (CVL)")}
