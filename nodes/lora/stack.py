"""The node that applies a list of LoRAs, written as text by a person or a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..host import host
from ..reports import as_json, shown
from .application import AppliedLoRA, FailedLoRA, files_of, put_on, used
from .beside import header_of, header_words, known_of
from .load import OPTIONS
from .report import chart, failure_line, kept_of, report_of
from .rows import Row, fingerprint, rows_of

Result = (
    AppliedLoRA | FailedLoRA | None
)  # None: not tried, for nothing is connected, or the row is off or has a problem
_WORST_FIRST = ("failed", "partly", "")


class LoRAStack:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Applies any number of LoRAs, written one a line, to a MODEL and a CLIP at once, and gives their trigger words."
        " "
        "Reports for each how much of it was used; one that cannot be used is marked red, and with strict an error."
    )
    SEARCH_ALIASES = [
        "lora stack",
        "lora stacker",
        "multi lora",
        "multiple loras",
        "LoraLoader",
        "lora loader",
        "lora loader stack",
        "power lora",
        "power lora loader",
        "lora list",
        "apply lora stack",
        "LORA_STACK",
        "merge lora",
        "merge loras",
        "combine loras",
        "lora manager",
        "lora block weight",
        "trigger words",
    ]
    RETURN_TYPES = ("MODEL", "CLIP", "STRING", "STRING", "LORA_STACK")
    RETURN_NAMES = ("model", "clip", "report", "trigger_words", "lora_stack")
    OUTPUT_TOOLTIPS = (
        "The MODEL with the LoRAs, if one was connected.",
        "The CLIP with the LoRAs, if one was connected.",
        "For each file what it holds, what was applied where, and what was not, as JSON.",
        "The words to write into the prompt for the LoRAs that are on and were used, with commas between.",
        "The LoRAs that are on, as other packs' stack: name, model strength, clip strength. They are on the MODEL and "
        "the CLIP above already: use one or the other.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "loras": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "One a line: name : strength_model : strength_clip : blocks # words: a, b. All but "
                        "the name may be left out. A line that begins with off or - is off; from # on it is a comment.",
                    },
                ),
            },
            "optional": {
                "model": ("MODEL", {"tooltip": "The diffusion model to change, if any."}),
                "clip": ("CLIP", {"tooltip": "The text encoder to change, if any."}),
                **OPTIONS,
                "lora_stack": (
                    "LORA_STACK",
                    {"tooltip": "LoRAs of another pack's stack; they are put on before those of the list."},
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, loras: str, **_: object) -> str:
        return fingerprint(loras)

    def load(
        self,
        loras: str,
        model: object | None = None,
        clip: object | None = None,
        match_comfyui: bool = False,
        strict: bool = False,
        lora_stack: object | None = None,
    ) -> dict:
        targets = {"model": model, "clip": clip}
        connected = {name: target for name, target in targets.items() if target is not None}
        if strict and not connected:
            raise ValueError("nothing is connected to put the LoRAs on; connect a MODEL or a CLIP")
        rows = rows_of(loras, lora_stack)
        if strict and (wrong := next((row for row in rows if row.problem), None)):
            raise ValueError(f"{wrong.place}: {wrong.problem}")
        results = dict.fromkeys(range(len(rows)))
        changed: Mapping[str, object] = connected
        if connected:
            asked = [place for place, row in enumerate(rows) if row.request]
            requests = [row.request for row in rows if row.request]
            changed, found = put_on(requests, connected, match_comfyui=match_comfyui, strict=strict)
            self.files = files_of(found)
            results |= dict(zip(asked, found))
        told = [_tell(row, results[place], connected) for place, row in enumerate(rows)]
        words = list(dict.fromkeys(word for row, one in zip(rows, told) for word in _words_of(row, one)))
        report = _report(rows, told, words)
        rounding, report["rounding"] = kept_of(used([one for one in results.values() if one]), connected)
        stack = [entry for row in rows if (entry := _stack_entry(row))]
        lines = _lines(rows, told, words, connected) + rounding + _stack_notes(rows, told)
        model, clip = (
            changed.get(name, host.absent(f"LoRA Stack (CVL) has no {name} to pass on: none is connected to it"))
            for name in targets
        )
        images = host.save_preview(chart(report["files"]), "cvl_lora") if report["files"] else []
        return shown(
            lines, report, (model, clip, as_json(report), ", ".join(words), stack), images, own=[", ".join(words)]
        )


def _tell(row: Row, result: Result, connected: Mapping[str, object]) -> dict:
    """What became of a row: `lines` for the node, `data` on a file that was used, its `entry` in the report."""
    entry = {"line": row.number, "name": row.name, "text": row.written, "from_stack": row.from_stack}
    if isinstance(result, AppliedLoRA):
        lines, data = report_of(result, connected)
        sentence = "\n".join(lines).removeprefix("⚠ ").removeprefix(f"{data['file']}: ")
        state = {"state": data["state"], "sentence": sentence}
        return {"lines": lines, "data": data, "entry": entry | state, "parsed": result.parsed}
    if not row.on:
        return {"lines": [], "data": None, "entry": entry | {"state": "off", "sentence": ""}}
    problem = result.sentence if isinstance(result, FailedLoRA) else row.problem
    if problem:
        line = failure_line(row.name, problem, row.place.replace(" of the LoRAs", ""))
        return {"lines": [line], "data": None, "entry": entry | {"state": "failed", "sentence": problem}}
    return {"lines": [], "data": None, "entry": entry | {"state": "passed on", "sentence": ""}}


def _words_of(row: Row, told: Mapping) -> Sequence[str]:
    """The trigger words of a row that is on and used; where nothing is connected, of one that is passed on."""
    if told["entry"]["state"] not in ("used", "partly", "passed on") or row.request is None:
        return ()
    if row.words is not None:
        return row.words
    path = row.request.path
    try:
        return known_of(path, *(header_words(told["parsed"]) if "parsed" in told else header_of(path))).words
    except (OSError, ValueError):
        return ()  # it is passed on without being read; who reads it says what is wrong


def _report(rows: Sequence[Row], told: Sequence[Mapping], words: Sequence[str]) -> dict:
    return {
        "files": [one["data"] for one in told if one["data"]],
        "off": [row.name for row in rows if not row.on],
        "rows": [one["entry"] for one in told],
        "trigger_words": list(words),
    }


def _lines(rows: Sequence[Row], told: Sequence[Mapping], words: Sequence[str], connected: Mapping) -> list[str]:
    """The lines for the node, the gravest first."""

    def of(state: str) -> list[str]:
        grave = [
            one for one in told if (one["entry"]["state"] if one["entry"]["state"] in _WORST_FIRST else "") == state
        ]
        return [line for one in grave for line in one["lines"]]

    lines = of("failed") + of("partly")
    if not connected:
        lines.append("⚠ nothing is connected to put the LoRAs on: they are only passed on as a stack; connect a MODEL")
    lines += [f"trigger words: {', '.join(words)}"] if words else []
    lines += of("")
    off = [row.name for row in rows if not row.on]
    lines += [f"off: {', '.join(off)}"] if off else []
    return lines or ["no LoRA is on: what is connected is passed on as it is"]


def _stack_entry(row: Row) -> tuple[str, float, float] | None:
    """A row as other packs' stack has it; they know the folder loras alone."""
    if row.request is None or row.choice.startswith("bundled/"):
        return None
    return row.choice, row.request.strengths["model"], row.request.strengths["clip"]


def _stack_notes(rows: Sequence[Row], told: Sequence[Mapping]) -> list[str]:
    """What a LORA_STACK cannot say of the rows."""
    with_blocks = [row.name for row in rows if row.request and row.request.blocks]
    bundled = [row.name for row in rows if row.request and row.choice.startswith("bundled/")]
    notes = []
    if with_blocks:
        notes.append(f"the output lora_stack has no strengths by block: {', '.join(with_blocks)} goes on without them")
    if bundled:
        notes.append(f"not in the output lora_stack, for other packs do not have it: {', '.join(bundled)}")
    return notes


NODES = {"CVL_LoRAStack": (LoRAStack, "LoRA Stack (CVL)")}
