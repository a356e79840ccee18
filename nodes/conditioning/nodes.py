"""The nodes that compare, combine, save and load CONDITIONING."""

from __future__ import annotations

import json

from ...drawing.curves import TokenCurves, token_plots
from ..host import host
from ..reports import as_json, shown
from . import compare as conditioning_compare
from . import file as conditioning_file
from .entries import MODES, combine, combined_lines, option_words, shares

MAX_PLOTS = 8


class CompareConditioning:
    CATEGORY = "CVL/conditioning"
    DESCRIPTION = (
        "Measures how alike two encoded prompts are, token by token: the cosine between their vectors, how long these "
        "are, and the same for the pooled vectors. Says when all bits are equal, and draws it."
    )
    SEARCH_ALIASES = [
        "compare prompts",
        "prompt difference",
        "conditioning difference",
        "cosine similarity",
        "same prompt",
        "diff",
        "compare embeddings",
    ]
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("plot", "report")
    OUTPUT_TOOLTIPS = (
        "The cosine of each token and both lengths as curves, chunk borders dashed; one picture for each entry.",
        "Cosine, length and ratio of every token, pooled vectors and differences in the options, as JSON.",
    )
    FUNCTION = "compare"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "first": ("CONDITIONING", {"tooltip": "An encoded prompt, the one to measure by."}),
                "second": (
                    "CONDITIONING",
                    {
                        "tooltip": "Another one of the same width. If it is longer or shorter, the tokens that both "
                        "have are compared. With several entries: as many as the first has, or one."
                    },
                ),
            }
        }

    def compare(self, first, second):
        found, notes = conditioning_compare.compare_entries(first, second)
        lines, rows = conditioning_compare.report(found)
        if len(rows) > MAX_PLOTS:
            notes.append(f"the first {MAX_PLOTS} of {len(rows)} are drawn, all are in the JSON")
        plot = token_plots([_curves(row, len(rows)) for row in rows[:MAX_PLOTS]])
        data = {"entries": rows, "notes": notes}
        return shown(lines + notes, data, (plot, as_json(data)), host.save_preview(plot, "cvl_conditioning"))


def _curves(row: dict, count: int) -> TokenCurves:
    """What is drawn of a row of a report with so many; its title has numbers and no words."""
    place = f"{row['entry']}.{row['row']}:  " if count > 1 else ""
    title = place + ("cos -" if row["mean_cosine"] is None else f"cos {row['mean_cosine']:.4f}")
    return TokenCurves(title, row["cosine"], row["first_length"], row["second_length"], row["chunk_borders"])


class CombineConditioning:
    CATEGORY = "CVL/conditioning"
    DESCRIPTION = (
        "Puts two encoded prompts together: one behind the other, as their average, or as their sum, with a weight "
        "for each. Nothing is cut: a shorter one is continued with zeros, and the report says so."
    )
    SEARCH_ALIASES = [
        "ConditioningConcat",
        "ConditioningAverage",
        "Conditioning (Concat)",
        "Conditioning (Average)",
        "blend prompts",
        "mix prompts",
        "merge prompts",
        "add conditioning",
        "prompt interpolation",
        "AND",
    ]
    RETURN_TYPES = ("CONDITIONING", "STRING")
    RETURN_NAMES = ("conditioning", "report")
    OUTPUT_TOOLTIPS = (
        "The two as one, for any sampler. It has the first's options (sizes, area, time range).",
        "Tokens, shares, padding, and what of the second's options was not taken, as JSON.",
    )
    FUNCTION = "combine"

    @classmethod
    def INPUT_TYPES(cls):
        weight = {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.01}
        return {
            "required": {
                "first": ("CONDITIONING", {"tooltip": "An encoded prompt. Its options are kept."}),
                "second": (
                    "CONDITIONING",
                    {
                        "tooltip": "Another one of the same width. One entry is put to every entry of the first; "
                        "otherwise as many as the first has."
                    },
                ),
                "mode": (
                    list(MODES),
                    {
                        "tooltip": "concat: one behind the other, with the first's pooled vector. average: by the "
                        "weights' shares, pooled vectors too. add: the sum, pooled vectors too."
                    },
                ),
            },
            "optional": {
                "weight_first": ("FLOAT", {**weight, "tooltip": "What the first's tokens are multiplied with."}),
                "weight_second": (
                    "FLOAT",
                    {
                        **weight,
                        "tooltip": "What the second's tokens are multiplied with. An average divides both by their "
                        "sum: 0.7 and 0.3 are the stock Conditioning (Average) at 0.7.",
                    },
                ),
            },
        }

    def combine(self, first, second, mode, weight_first=1.0, weight_second=1.0):
        weights = shares(mode, weight_first, weight_second)
        made, notes, facts = combine(first, second, mode, weights)
        data = {
            "mode": mode,
            "weights": [weight_first, weight_second],
            "shares": list(weights),
            "entries": facts,
            "notes": notes,
        }
        return shown(combined_lines(mode, weights, facts) + notes, data, (made, as_json(data)))


class SaveConditioning:
    CATEGORY = "CVL/conditioning"
    DESCRIPTION = (
        "Saves an encoded prompt as a safetensors file in the output folder, bit by bit, with the workflow it came "
        "from. What no such file can hold, a ControlNet say, is named in the report."
    )
    SEARCH_ALIASES = [
        "export conditioning",
        "save prompt",
        "save prompt embedding",
        "cache conditioning",
        "cache prompt",
        "store conditioning",
    ]
    RETURN_TYPES = ("CONDITIONING", "STRING")
    RETURN_NAMES = ("conditioning", "report")
    OUTPUT_TOOLTIPS = (
        "What came in, unchanged.",
        "The file, its entries and tensors, and what could not be stored, as JSON.",
    )
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "conditioning": ("CONDITIONING", {"tooltip": "An encoded prompt with all its entries and options."}),
                "filename_prefix": (
                    "STRING",
                    {
                        "default": "conditioning/CVL",
                        "tooltip": "Sub folder and beginning of the name, as in the stock Save nodes; a number and "
                        f"{conditioning_file.SUFFIX} follow.",
                    },
                ),
            },
            "optional": {
                "strict": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "advanced": True,
                        "tooltip": "Off: what cannot be stored (ControlNet, hooks) is left out and named. On: then "
                        "nothing is saved, and the node stops with an error.",
                    },
                ),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def save(self, conditioning, filename_prefix, strict=False, prompt=None, extra_pnginfo=None):
        content = conditioning_file.store(conditioning)
        if strict and content.lost:
            raise ValueError(f"nothing was saved, because {'; '.join(content.lost)}; take it out, or set strict off")
        path = host.output_path(filename_prefix, conditioning_file.SUFFIX)
        texts = _workflow_texts(prompt, extra_pnginfo) if host.saves_workflow() else {}
        conditioning_file.write(path, content, texts)
        entry, size_bytes = host.output_entry(path), path.stat().st_size
        data = {
            **entry,
            "entries": len(conditioning),
            "tensors": conditioning_file.list_tensors(content),
            "bytes": size_bytes,
            "lost": list(content.lost),
        }
        lines = [
            f"saved {path.name} (entries: {len(conditioning)}, tensors: {len(content.tensors)}, "
            f"{size_bytes / 1000:,.0f} kB)",
            *content.lost,
        ]
        answer = shown(lines, data, (conditioning, as_json(data)))
        answer["ui"]["files"] = [entry]
        return answer


def _workflow_texts(prompt, extra_pnginfo) -> dict[str, str]:
    """The metadata that ComfyUI's Save nodes write: drop the file on the canvas, and the workflow is back."""
    texts = {} if prompt is None else {"prompt": json.dumps(prompt)}
    return texts | {key: json.dumps(value) for key, value in (extra_pnginfo or {}).items()}


class LoadConditioning:
    CATEGORY = "CVL/conditioning"
    DESCRIPTION = (
        "Loads an encoded prompt that Save Conditioning wrote, equal to what was saved. No text encoder is needed."
    )
    SEARCH_ALIASES = [
        "import conditioning",
        "load prompt",
        "load prompt embedding",
        "open conditioning",
        "cached prompt",
    ]
    RETURN_TYPES = ("CONDITIONING", "STRING")
    RETURN_NAMES = ("conditioning", "report")
    OUTPUT_TOOLTIPS = (
        "The encoded prompt as it was saved, on the CPU.",
        "The file, and what each entry has, as JSON.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = (
            f"Files *{conditioning_file.SUFFIX} of the output folder, marked [output], and of the input folder; the "
            "last one, bundled/, comes with the pack. Press R for those saved since."
        )
        return {"required": {"file": (conditioning_file.FILES.choices(), {"tooltip": tooltip})}}

    @classmethod
    def IS_CHANGED(cls, file, **_):
        return conditioning_file.FILES.fingerprint(file)

    def load(self, file):
        conditioning = conditioning_file.read(conditioning_file.FILES.path(file))
        entries = conditioning_file.summary(conditioning)
        lines = [
            f"{entry['tokens'].partition(', ')[0]}, with "
            f"{', '.join(map(option_words, entry['options'])) or 'no options'}"
            for entry in entries
        ]
        data = {"file": file, "entries": entries}
        return shown(lines, data, (conditioning, as_json(data)))


NODES = {
    "CVL_CompareConditioning": (CompareConditioning, "Compare Conditioning (CVL)"),
    "CVL_CombineConditioning": (CombineConditioning, "Combine Conditioning (CVL)"),
    "CVL_SaveConditioning": (SaveConditioning, "Save Conditioning (CVL)"),
    "CVL_LoadConditioning": (LoadConditioning, "Load Conditioning (CVL)"),
}
