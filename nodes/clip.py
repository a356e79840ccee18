"""The whole CLIP, both encoders: load it, and ask it what is in a picture."""

from __future__ import annotations

from ..clip_core import zero_shot
from ..clip_core.tokenizer import Tokenizer
from ..files.chart import bar_charts
from . import catalog, loading
from .checks import check_image
from .clip_facts import NAMES_BESIDE
from .host import host
from .reports import as_json, shown
from .text import DTYPES

LABELS = "\n".join(
    f"{colour} {shape}"
    for colour in ("red", "green", "blue", "yellow", "purple")
    for shape in ("circle", "square", "triangle", "star")
)


class LoadCLIPModel:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Loads a whole CLIP, text and image encoder, for zero-shot classification and similarity: vision transformers "
        "and ResNets, in the layouts of OpenAI (its .pt archives, too), open_clip and Hugging Face. For prompts alone "
        "use Load Text Encoder."
    )
    SEARCH_ALIASES = ["CLIP model", "ViT", "ResNet", "RN50", "open_clip", "OpenAI", "MetaCLIP", "load clip vision"]
    RETURN_TYPES = ("CVL_CLIP_MODEL", "STRING")
    RETURN_NAMES = ("clip_model", "report")
    OUTPUT_TOOLTIPS = (
        "Both encoders, for the CVL nodes that compare pictures with words.",
        "What was read, as JSON: sizes, layout, activation, tensors left unread.",
    )
    FUNCTION = "load"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "file": (catalog.choices("clip_model"), {"tooltip": "A file with both halves of a CLIP."}),
            },
            "optional": {
                "activation": (
                    ["auto", "quick_gelu", "gelu"],
                    {
                        "tooltip": "Most CLIP files do not name theirs. auto: the header or the config files beside it "
                        "if they say, else its published name, else the rule for its size (OpenAI's sizes quick_gelu; "
                        "H, g and bigG gelu)."
                    },
                ),
                "dtype": (
                    DTYPES,
                    {"tooltip": "How the weights are kept. auto: fp32. Activations are fp32 either way."},
                ),
                "heads": (
                    "INT",
                    {
                        "default": 0,
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
        return catalog.fingerprint("clip_model", file, NAMES_BESIDE)

    def load(self, file, activation="auto", dtype="auto", heads=0):
        model, lines, data = loading.clip_model(catalog.path("clip_model", file), activation, dtype, heads)
        return shown(lines, data, (model, as_json(data)))


class ZeroShotClassify:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Says which of your labels fits a picture best, without training: each label is put into the template, "
        "encoded, and compared with the picture. Gives the probabilities and a chart."
    )
    SEARCH_ALIASES = ["classify", "clip score", "label image", "image recognition"]
    RETURN_TYPES = ("STRING", "STRING", "IMAGE")
    RETURN_NAMES = ("best_label", "probabilities", "chart")
    OUTPUT_TOOLTIPS = (
        "The most probable label; one line for each picture of a batch.",
        "Every label's probability and cosine for every picture, as JSON.",
        "A bar chart for each picture.",
    )
    FUNCTION = "classify"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_model": ("CVL_CLIP_MODEL", {"tooltip": "Both encoders, from Load CLIP Model."}),
                "image": (
                    "IMAGE",
                    {"tooltip": "One picture or a batch of any size; each is scaled, then cut to a centred square."},
                ),
                "labels": (
                    "STRING",
                    {
                        "multiline": True,
                        "default": LABELS,
                        "tooltip": "What it may show: one label a line, or one line with commas.",
                    },
                ),
                "template": (
                    "STRING",
                    {
                        "default": "a photo of a {label}",
                        "tooltip": "The sentence that each label is put into, at {label} or at {}.",
                    },
                ),
            }
        }

    def classify(self, clip_model, image, labels, template):
        check_image(image)
        names, notes = zero_shot.label_list(labels)
        network = host.clip_network(clip_model)
        on_step = host.progress(len(image))
        found = zero_shot.classify(
            network, Tokenizer(), image[..., :3], names, template, device=host.device_of(network), on_step=on_step
        )
        data = {
            "template": template, "labels": found.labels, "notes": [*notes, *found.notes],
            "pictures": [
                {"best": found.best(row), "probabilities": _by_label(found.labels, found.probabilities[row]),
                 "cosine": _by_label(found.labels, found.cosine[row])}
                for row in range(len(image))
            ],
        }  # fmt: skip
        chart = bar_charts([(p["best"], p["probabilities"]) for p in data["pictures"]], image)
        lines = [f"{p['best']}: {p['probabilities'][p['best']]:.1%}" for p in data["pictures"]] + data["notes"]
        best = "\n".join(p["best"] for p in data["pictures"])
        return shown(lines, data, (best, as_json(data), chart), host.save_preview(chart, "cvl_classify"))


def _by_label(labels, values) -> dict[str, float]:
    return {label: round(float(value), 6) for label, value in zip(labels, values)}
