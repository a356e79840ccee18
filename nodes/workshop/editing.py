"""Editing a file: its header alone, with the same tensors bit by bit, or these too; for the node and the command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...files.tensors import open_tensors, write_tensors
from ...lora.formats import read as formats
from ...lora.formats.dialects import DIALECTS
from ...lora.formats.header import named_words
from ...lora.models.parts import describe_part
from ...lora.workshop.editing.edit import Edit, blocks_of, edit
from ...lora.workshop.editing.header import HeaderEdit, edit_header, kept_entries
from ...lora.workshop.naming import named
from ...lora.workshop.outcome import AS_THE_FILES, DTYPES
from ..lora.files import ParsedFile
from .sources import AS_IT_IS, Base, laid_out, lost_lines, size_text, source_of, text_of

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class EditSettings:
    """What changes: the header, the strength, the alpha (0 keeps it), type and dialect, and the blocks that stay."""

    header: HeaderEdit
    strength: float = 1.0
    alpha: float = 0.0
    dtype: str = AS_THE_FILES
    dialect: str = AS_IT_IS
    keep: str = ""
    drop: str = ""

    @property
    def edit(self) -> Edit:
        if self.dtype not in DTYPES:
            raise ValueError(f"the type is {self.dtype!r}: expected one of {', '.join(DTYPES)}")
        return Edit(self.strength, self.alpha or None, DTYPES[self.dtype], self.keep, self.drop)


def edit_file(parsed: ParsedFile, base: Base, settings: EditSettings, path: Path) -> tuple[list[str], dict]:
    """Edit a file into `path`. Returns the lines for a person and the data for a program.

    Raises:
        ValueError: the edit cannot be made, or the file cannot be written; the sentence says why.
    """
    wanted = settings.edit
    if settings.dialect not in (AS_IT_IS, *DIALECTS):
        raise ValueError(f"the dialect is {settings.dialect!r}: expected one of {', '.join(DIALECTS)}")
    if not (wanted.asked or settings.header.asked or settings.dialect != AS_IT_IS):
        raise ValueError("nothing is to be changed: set a word, a strength, a type, a dialect or blocks")
    if wanted.asked or settings.dialect != AS_IT_IS:
        lines, data = _with_tensors(parsed, base, settings, wanted, path)
    else:
        lines, data = _header_alone(parsed, settings.header, path)
    data = {"file": str(path), "edited": parsed.path.name, "size_bytes": path.stat().st_size} | data
    head = f"{path.name}: {parsed.path.name} edited, {size_text(data['size_bytes'])}"
    changes = _header_lines(parsed.metadata, data["header"])
    if data["trigger_words"]:
        changes.append(f"trigger words: {', '.join(data['trigger_words'])}")
    return [head, *lines, *changes], data


def _header_alone(parsed: ParsedFile, change: HeaderEdit, path: Path) -> tuple[list[str], dict]:
    """The same tensors, whatever they are, under another header."""
    header = edit_header(parsed.metadata, change)
    with open_tensors(parsed.path) as file:
        tensors = file.read(file.shapes)
    write_tensors(path, tensors, header)
    data = {"tensors": "as they were", "header": header, "trigger_words": named_words(header)}
    return ["its tensors are the same, bit by bit"], data


def _with_tensors(
    parsed: ParsedFile, base: Base, settings: EditSettings, wanted: Edit, path: Path
) -> tuple[list[str], dict]:
    """The adapters of a file changed, and written in its own dialect or in another one."""
    source = source_of(parsed, parsed.path.name)
    gathered = laid_out([source], Base(base.shapes, base.weight_of or _no_weight))  # every kind can be edited
    changed = edit(gathered, wanted)
    own = parsed.file.dialect if parsed.file.dialect in DIALECTS else "kohya"
    if settings.dialect in (AS_IT_IS, own):
        dialect = own
        adapters = {gathered.layers[place][0].module: adapter for place, adapter in changed.adapters.items()}
        unnamed: Mapping[object, str] = {}
        if len(adapters) < len(changed.adapters):  # one module of the file has several places in the model
            adapters, unnamed = named(gathered, changed.adapters, dialect)
    else:
        dialect = settings.dialect
        adapters, unnamed = named(gathered, changed.adapters, dialect)
    header = edit_header(kept_entries(parsed.metadata), settings.header)
    tensors, texts = formats.write(adapters, dialect, header)
    write_tensors(path, tensors, texts)
    data = {
        "tensors": "changed",
        "dialect": dialect,
        "weights": len(adapters),
        "dropped": [text_of(place) for place in changed.dropped],
        "as_before": {text_of(place): why for place, why in changed.refused.items()},
        "not_written": {text_of(place): why for place, why in unnamed.items()},
        "left_out": gathered.left_out,
        "header": texts,
        "trigger_words": named_words(texts),
    }
    lines = [f"{len(adapters)} weights written the {dialect} way"]
    if changed.dropped:
        dropped = blocks_of(dict.fromkeys(changed.dropped))
        lines.append(f"dropped: {', '.join(dropped)} ({len(changed.dropped)} weights)")
    for word, lost in (("as before", changed.refused), ("not written", unnamed)):
        lines += [f"⚠ {word}: {describe_part(text_of(place))}: {why}" for place, why in list(lost.items())[:5]]
        lines += [f"  and {len(lost) - 5} more"] if len(lost) > 5 else []
    return lines + lost_lines(gathered), data


def _no_weight(key: str):
    raise ValueError(f"an edit asked for the weight {key}, which it does not need")


def _header_lines(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """How many entries of the header are new, changed or gone."""
    new = [name for name in after if name not in before]
    gone = [name for name in before if name not in after]
    other = [name for name in after if name in before and after[name] != before[name]]
    told: Sequence[tuple[str, list[str]]] = (("new", new), ("changed", other), ("gone", gone))
    said = [
        f"{len(names)} {word} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for word, names in told
        if names
    ]
    return [f"entries of the header: {', '.join(said)}"] if said else []
