"""The rows of a LoRA Stack: the lines of its list and what came in by LORA_STACK, each with its file or its problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...lora.formats import list_text
from .. import catalog
from .application import LoRARequest

_NOBODY = ("", "None", "none")  # what other packs write for a place without a LoRA


@dataclass(frozen=True)
class Row:
    """One LoRA that is asked for. number: its line, or its place in the LORA_STACK; written: the line's own text;
    request: None where it is off or has a problem; words: those chosen, None for the file's own.
    """

    number: int
    name: str
    on: bool = True
    written: str = ""
    choice: str = ""
    request: LoRARequest | None = None
    problem: str = ""
    words: tuple[str, ...] | None = None
    from_stack: bool = False

    @property
    def place(self) -> str:
        """Where it stands, for a sentence."""
        return f"entry {self.number} of lora_stack" if self.from_stack else f"line {self.number} of the LoRAs"


def rows_of(text: str, lora_stack: object = None) -> list[Row]:
    """The rows of a LORA_STACK, then those of a list; nothing is read.

    Raises:
        ValueError: the LORA_STACK is none.
    """
    menu = catalog.choices("lora")
    written = text.splitlines()
    rows = [
        _row(list_text.LoRALine(number, *entry), menu, "", from_stack=True)
        for number, entry in enumerate(_entries_of(lora_stack), 1)
    ]
    for line in list_text.parse_each(text):
        if isinstance(line, list_text.ListError):
            wrong = written[line.number - 1]
            rows.append(Row(line.number, list_text.clean_name(wrong), written=wrong, problem=line.sentence))
        else:
            rows.append(_row(line, menu, written[line.number - 1]))
    return rows


def _row(line: list_text.LoRALine, menu: Sequence[str], written: str, *, from_stack: bool = False) -> Row:
    found = Row(line.number, line.name, line.on, written, words=line.words, from_stack=from_stack)
    if not line.on:
        return found
    changes: dict[str, object] = {}
    try:
        choice = list_text.choice(line, menu)
        strengths: Mapping[str, float] = {"model": line.strength_model, "clip": line.strength_clip}
        label = f"{found.place}: "
        changes = {
            "choice": choice,
            "request": LoRARequest(catalog.path("lora", choice), strengths, line.blocks, label),
        }
    except list_text.ListError as error:
        changes = {"problem": error.sentence}
    except OSError as error:
        changes = {"problem": f"the file of {line.name[:80]!r} is gone or cannot be opened: {error.strerror or error}"}
    return Row(**{**vars(found), **changes})


def _entries_of(lora_stack: object) -> list[tuple[str, float, float]]:
    """The (name, model strength, clip strength) of other packs' type."""
    if lora_stack is None:
        return []
    entries = []
    for entry in lora_stack if isinstance(lora_stack, list | tuple) else [lora_stack]:
        usable = isinstance(entry, list | tuple) and len(entry) >= 3 and isinstance(entry[0], str)
        numbers = usable and all(isinstance(one, int | float) and not isinstance(one, bool) for one in entry[1:3])
        if not numbers:
            raise ValueError(
                "a LORA_STACK is a list of (name, model strength, clip strength), but "
                f"{entry!r:.80} came; connect a node that makes LoRA stacks"
            )
        if entry[0] not in _NOBODY:
            entries.append((entry[0], float(entry[1]), float(entry[2])))
    return entries


def fingerprint(text: object) -> str:
    """A text that changes when one of the listed files changes, or what is read beside it, or the list."""
    if not isinstance(text, str):
        return ""
    rows = [row for row in rows_of(text) if row.on]
    return "\n".join(row.problem or catalog.fingerprint("lora", row.choice) for row in rows)
