"""Load Labels: labels that Learn Labels saved."""

from __future__ import annotations

from ..clip.learned import learned_facts
from ..reports import as_json, shown
from . import head_file


class LoadLabels:
    CATEGORY = "CVL/search"
    DESCRIPTION = (
        "Loads labels that Learn Labels has learned and saved. They belong to the CLIP that they were learned with; "
        "with another one they are refused."
    )
    SEARCH_ALIASES = ["load labels", "load classifier", "open labels", "learned tags", "few shot"]
    RETURN_TYPES = ("CVL_LABELS", "STRING")
    RETURN_NAMES = ("labels", "report")
    OUTPUT_TOOLTIPS = (
        "The labels, for Zero-Shot Classify, Rank Tags, Rank Images and Image Gate.",
        "The classes, the method, and the model that they belong to, as JSON.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = (
            f"Files *{head_file.SUFFIX} of the output folder, marked [output], and of the input folder; the last one, "
            "bundled/, comes with the pack. Press R for those saved since."
        )
        return {"required": {"file": (head_file.FILES.choices(), {"tooltip": tooltip})}}

    @classmethod
    def IS_CHANGED(cls, file: str, **_) -> str:
        return head_file.FILES.fingerprint(file)

    def load(self, file: str) -> dict:
        labels = head_file.read_labels(head_file.FILES.path(file))
        learned, made = labels.learned, labels.made
        data = {"file": file, **learned_facts(learned), "model": made.model_name, "model_key": made.model_key}
        lines = [
            f"{len(learned.classes)} classes, learned by {learned.method}: {', '.join(learned.classes[:12])}",
            f"made for {made.model_name} ({made.model_key[:12]})",
        ]
        return shown(lines, data, (labels, as_json(data)))


NODES = {"CVL_LoadLabels": (LoadLabels, "Load Labels (CVL)")}
