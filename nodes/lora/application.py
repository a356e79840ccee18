"""Applying LoRA files: each is matched with the connected models, and all together become one patch per weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...files.errors import FileFormatError
from ...lora.formats.read import LoRAFile
from ...lora.kinds.adapters import LoRAError
from ...lora.kinds.whole import Replacement
from ...lora.kinds.widening import Widening
from ...lora.models.blocks import select
from ...lora.models.families import kin_of, refuse_other_family
from ...lora.models.match import HostNames, Match, match
from ...lora.models.parts import describe_parts
from ...lora.models.places import Place
from ...lora.weights.fusing import Change
from ..host import host
from .files import ParsedFile, read_lora

MOST_STRENGTH = 100.0
Shapes = Mapping[str, Sequence[int]]
_TEXT = ("lora_te", "text_encoder", "lycoris_text_encoder", "text_model", "clip_l.", "clip_g.", "t5xxl.", "te1", "te2")
_BFL_READER = ("img_in",)  # the first layer in Black Forest Labs' control LoRAs, which also replace norms
_OTHER_BASE = "load the model as GGUF, fp8 or a type that ComfyUI itself packs"
_INSTEAD = {"Nunchaku": "use the LoRA loader of the Nunchaku nodes, or load the model in another form"}
TARGETS = {
    "model": "a diffusion model (MODEL)",
    "clip": "a text encoder (CLIP)",
    "clip_model": "the picture half of a CLIP (CVL_CLIP_MODEL)",
}
_VISION = ("lora_vision", "vision_model", "visual.")


@dataclass(frozen=True)
class LoRARequest:
    """A LoRA file that a node asks for: its strength by target ("model", "clip", "clip_model"), and block selectors."""

    path: Path
    strengths: Mapping[str, float]
    blocks: str = ""
    label: str = ""  # before the sentence of an error: where it was asked for


class BlocksError(ValueError):
    """Block selectors that cannot be followed, or that select nothing in what is connected."""


@dataclass(frozen=True)
class FailedLoRA:
    """The result for a file that was not used: why, as it would be raised."""

    entry: LoRARequest
    error: FileFormatError | BlocksError | OSError

    @property
    def sentence(self) -> str:
        """Without the file's name, which stands beside it."""
        return self.error.sentence if isinstance(self.error, FileFormatError) else str(self.error)


@dataclass(frozen=True)
class AppliedLoRA:
    """The result for one file: its places in each target, the strength of each place with blocks, and the losses."""

    entry: LoRARequest
    parsed: ParsedFile
    matches: Mapping[str, Match]
    strengths: Mapping[str, Mapping[Place, float]]
    elsewhere: tuple[str, ...]  # modules for a kind of target that is not connected
    homeless: Mapping[str, str]  # the others without a place -> the nearest key, or ""
    misfits: Mapping[str, str]
    kin: tuple[str, str] | None = None  # the families of the file and of the model, where they are two of one design

    @property
    def applied(self) -> int:
        return sum(len(set(found.modules.values())) for found in self.matches.values())

    @property
    def lost(self) -> int:
        return len(self.homeless) + len(self.misfits) + len(self.parsed.file.unread)

    @property
    def state(self) -> str:
        """ "unused" where its strengths are all 0, "partly" where parts of it were lost, else "used"."""
        if not any(strength for of_target in self.strengths.values() for strength in of_target.values()):
            return "unused"
        return "partly" if self.lost else "used"


def put_on(
    entries: Sequence[LoRARequest], targets: Mapping[str, object], *, match_comfyui: bool = False, strict: bool = False
) -> tuple[dict[str, object], list[AppliedLoRA | FailedLoRA]]:
    """Apply LoRA files to targets. Returns the patched targets and the result for each file, used or not.

    Raises:
        ValueError: a strength is not a number. With `strict`, also where a file is no LoRA, is for another family of
            models, fits nothing or not with all its parts, or has block selectors that are wrong; nothing is patched.
    """
    for entry in entries:
        _check_strengths(entry)
    shapes = {name: host.weights(target) for name, target in targets.items()}
    names = {name: partial(host.module_names, target) for name, target in targets.items()}
    packed = {name: by for name, target in targets.items() if (by := host.packed_by(target))} if entries else {}
    results = [_try(entry, shapes, names, packed, strict) for entry in entries]
    changed = {}
    for name, target in targets.items():
        changes: dict[Place, list[Change]] = {}
        for use in used(results):
            for place, adapter in use.matches[name].found.items():
                if strength := use.strengths[name][place]:
                    changes.setdefault(place, []).append(Change(adapter, strength))
        changed[name] = host.patched(target, changes, match_comfyui=match_comfyui) if changes else target
    return changed, results


def _try(
    entry: LoRARequest,
    shapes: Mapping[str, Shapes],
    names: Mapping[str, HostNames],
    packed: Mapping[str, str],
    strict: bool,
) -> AppliedLoRA | FailedLoRA:
    try:
        return _place_file(entry, shapes, names, packed, strict)
    except (FileFormatError, BlocksError, OSError) as error:
        if strict:
            raise ValueError(f"{entry.label}{error}") from error
        return FailedLoRA(entry, error)


def used(results: Sequence[AppliedLoRA | FailedLoRA]) -> list[AppliedLoRA]:
    """The results of the files that were used."""
    return [result for result in results if isinstance(result, AppliedLoRA)]


def files_of(results: Sequence[AppliedLoRA | FailedLoRA]) -> list[ParsedFile]:
    """The parsed files, for a node to keep, so that another strength does not read them again."""
    return [use.parsed for use in used(results)]


def _check_strengths(entry: LoRARequest) -> None:
    for name, strength in entry.strengths.items():
        number = isinstance(strength, int | float) and not isinstance(strength, bool)
        if not number or not abs(strength) <= MOST_STRENGTH:  # NaN is not <= either
            raise ValueError(
                f"the strength of {entry.path.name} on the {name} is {strength!r}: expected a number from "
                f"-{MOST_STRENGTH:g} to {MOST_STRENGTH:g}"
            )


def _place_file(
    entry: LoRARequest,
    shapes: Mapping[str, Shapes],
    names: Mapping[str, HostNames],
    packed: Mapping[str, str],
    strict: bool,
) -> AppliedLoRA:
    read = read_lora(entry.path)
    file = read.file
    _refuse_a_part(entry.path, file, shapes, {})
    matches = {name: match(file, of_target, names[name]) for name, of_target in shapes.items()}
    _refuse_a_part(entry.path, file, shapes, matches)
    if reason := _packed(file, matches, packed):
        raise FileFormatError(entry.path, reason)
    if not any(found.found for found in matches.values()):
        raise FileFormatError(entry.path, _nothing_fits(read, matches))
    if reason := _half_a_control(file, matches):
        raise FileFormatError(entry.path, reason)
    homeless = {
        module: next((found.homeless[module] for found in matches.values() if found.homeless[module]), "")
        for module in file.adapters
        if all(module in found.homeless for found in matches.values())
    }
    elsewhere = tuple(module for module in homeless if not _is_for(module, shapes))
    misfits = {module: why for found in matches.values() for module, why in found.misfit.items()}
    homeless = {module: nearest for module, nearest in homeless.items() if module not in elsewhere}
    kin = next((pair for of_target in shapes.values() if (pair := kin_of(file, of_target))), None)
    use = AppliedLoRA(entry, read, matches, _strengths(entry, shapes, matches), elsewhere, homeless, misfits, kin)
    if strict and use.lost:
        more = f", and {use.lost - 1} more" if use.lost > 1 else ""
        raise FileFormatError(
            entry.path,
            f"strict is on and not all of it can be applied: {_first_loss(use)}{more}; nothing was changed",
        )
    return use


def _refuse_a_part(path: Path, file: LoRAFile, shapes: Mapping[str, Shapes], matches: Mapping[str, Match]) -> None:
    """Refuse a file of another family, which would be applied in part; before it is matched where both are known."""
    try:
        for name, of_target in shapes.items():
            placed = set(matches[name].modules.values()) if matches else None
            refuse_other_family(file, of_target, placed)
    except LoRAError as error:
        raise FileFormatError(path, str(error)) from error


def target_of(module: str) -> str:
    """What a module is for, as far as its name tells: "model", "clip", or "clip_model" for the picture half of one."""
    if module.startswith(_VISION):
        return "clip_model"
    return "clip" if module.startswith(_TEXT) or "conditioner." in module[:40] else "model"


def _is_for(module: str, targets: Mapping[str, object]) -> bool:
    """Whether a module belongs to one of the connected targets."""
    wanted = target_of(module)
    return wanted in targets or (wanted == "clip" and "clip_model" in targets)


def _strengths(
    entry: LoRARequest, shapes: Mapping[str, Shapes], matches: Mapping[str, Match]
) -> dict[str, dict[Place, float]]:
    factors: Mapping[Place, float] = {}
    if entry.blocks.strip():
        places: dict[Place, None] = {}
        for name, found in matches.items():
            places |= dict.fromkeys([*shapes[name], *found.found])
        try:
            factors = select(entry.blocks, places).strengths
        except LoRAError as error:
            raise BlocksError(f"the blocks for {entry.path.name}: {error}") from error
    return {
        name: {place: entry.strengths[name] * factors.get(place, 1.0) for place in found.found}
        for name, found in matches.items()
    }


def _first_loss(use: AppliedLoRA) -> str:
    for module, nearest in use.homeless.items():
        return f"{_both(module)} has no place in what is connected (nearest: {nearest or 'none'})"
    whys = [*use.misfits.values(), *(f"{name}: {why}" for name, why in use.parsed.file.unread.items())]
    return describe_parts(whys[0], keep_names=True)


def _both(module: str) -> str:
    """The part of the model in words, with the file's own name for it: an error has no JSON to look it up in."""
    return describe_parts(module, keep_names=True)


def _packed(file: LoRAFile, matches: Mapping[str, Match], packed: Mapping[str, str]) -> str:
    """Why a file cannot be used on layers that are packed for good; "" where they are not, or are not asked for."""
    for name, by in packed.items():
        placed = set(matches[name].modules.values())
        lost = [module for module in file.adapters if target_of(module) == name and module not in placed]
        if lost:
            return (
                f"{len(lost)} of its {len(file.adapters)} modules are for layers of the {name} that are packed by "
                f"{by}, which take no LoRA: {_INSTEAD.get(by, _OTHER_BASE)}; nothing was changed"
            )
    return ""


def _half_a_control(file: LoRAFile, matches: Mapping[str, Match]) -> str:
    """Why a control LoRA cannot be used: the layer that reads the control picture has no place; "" for other files."""
    placed = {module for found in matches.values() for module in found.modules.values()}
    readers = [module for module, adapter in file.adapters.items() if isinstance(adapter, Widening)]
    if any(isinstance(adapter, Replacement) for adapter in file.adapters.values()):
        readers += [module for module in _BFL_READER if module in file.adapters]
    if not (lost := next((module for module in readers if module not in placed), "")):
        return ""
    why = next((found.misfit[lost] for found in matches.values() if lost in found.misfit), "there is no such layer")
    return (
        f"it is a control LoRA, and the layer that reads the control picture ({lost}) cannot be changed here: "
        f"{describe_parts(why, keep_names=True)}; the rest of it would do harm alone, nothing was changed"
    )


def _nothing_fits(read: ParsedFile, matches: Mapping[str, Match]) -> str:
    file, whose = read.file, " or ".join(matches)
    if file.adapters and not any(_is_for(module, matches) for module in file.adapters):
        wanted = dict.fromkeys(target_of(module) for module in file.adapters)
        return (
            f"all of its {len(file.adapters)} modules are for {' and '.join(TARGETS[name] for name in wanted)}, "
            f"which is not connected: connect it; the {whose} was not changed"
        )
    if not file.adapters:
        first, why = next(iter(file.unread.items()), ("no module", "it holds only learned words"))
        lost = f"{_both(first)}: {why}"
        return f"a LoRA was expected, but none of its modules can be applied ({lost}); the {whose} was not changed"
    misfit = next((why for found in matches.values() for why in found.misfit.values()), None)
    reason = describe_parts(misfit or f"it has no place for {next(iter(file.adapters))}", keep_names=True)
    return (
        f"none of its {len(file.adapters)} modules fits the {whose} connected: {reason}; "
        "it was made for another kind of model, nothing was changed"
    )
