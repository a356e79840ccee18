"""Files that are to be put together, and the model whose names they share: one connected, published, or implied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..families.table import are_kin
from ..formats.read import LoRAFile
from ..kinds.adapters import LoRAError
from ..models.families import refuse_other_family, tell
from ..models.implied import UNSAID
from ..models.match import match
from ..models.published import model_for

Shapes = Mapping[str, Sequence[int]]
MOST_STRENGTH = 100.0


@dataclass(frozen=True, eq=False)
class Source:
    """A file at the strengths of a loader: on the diffusion model, on the text encoders, and by block.

    name: for reports. metadata: the texts of its header. blocks: as `models.blocks.select` reads them.
    """

    name: str
    file: LoRAFile
    metadata: Mapping[str, str]
    strength_model: float = 1.0
    strength_clip: float = 1.0
    blocks: str = ""


@dataclass(frozen=True)
class Layout:
    """The keys and shapes of the model that the files share; `connected`: it is a real one, not made from names."""

    name: str
    shapes: Shapes
    connected: bool = False


def check_strengths(sources: Sequence[Source]) -> None:
    """Refuse strengths that are no number a loader takes.

    Raises:
        LoRAError: NaN, infinity, or beyond 100; or no files at all.
    """
    if not sources:
        raise LoRAError("no LoRA is chosen: choose at least one file")
    for source in sources:
        for part, strength in (("model", source.strength_model), ("text encoders", source.strength_clip)):
            if not abs(strength) <= MOST_STRENGTH:  # NaN is not <= either
                raise LoRAError(
                    f"the strength of {source.name} on the {part} is {strength}: expected a number from "
                    f"-{MOST_STRENGTH:g} to {MOST_STRENGTH:g}"
                )


def check_families(sources: Sequence[Source], shapes: Shapes | None = None) -> None:
    """Refuse files that were made for different families, or for another one than the connected model's.

    Raises:
        LoRAError: the families differ; the sentence names the files and what they were made for.
    """
    told = [(source, tell(source.file).families) for source in sources]
    known = [(source, families) for source, families in told if families]
    for source, families in known[1:]:
        first, others = known[0]
        if not any(are_kin(one, other) for one in families for other in others):
            raise LoRAError(
                f"{first.name} was made for {' or '.join(others)} and {source.name} for {' or '.join(families)}: "
                "LoRAs of different families change different weights; take files of one family"
            )
    for source in sources if shapes is not None else ():
        try:
            refuse_other_family(source.file, shapes or {})
        except LoRAError as error:
            raise LoRAError(f"{source.name}: {error}") from error


def check_sizes(sources: Sequence[Source], clashes: Sequence[Mapping[str, str]]) -> None:
    """Refuse files that have the names of one family and the sizes of different models, such as Wan 1.3B and 14B.

    One of them is for another model where half of its modules or more have other shapes than those of the same names in
    the file that fits best. A few that differ are left out, which is said.

    Args:
        clashes: of each file its modules whose weight has another shape in the model that is connected, or that the
            files' names imply, with that reason.

    Raises:
        LoRAError: such files; the sentence names both, and both shapes.
    """
    fits = [len(one.file.adapters) - len(own) for one, own in zip(sources, clashes)]
    best = max(range(len(sources)), key=lambda number: fits[number] / max(1, len(sources[number].file.adapters)))
    for number, own in enumerate(clashes):
        if number == best or not own or len(own) < fits[number] or len(clashes[best]) > fits[best]:
            continue
        _, why = next(iter(own.items()))
        raise LoRAError(
            f"{sources[number].name} was made for another model than {sources[best].name}: {len(own)} of its "
            f"{len(sources[number].file.adapters)} modules have the names and not the sizes of that model; {why}; "
            "take files for one model"
        )


def layout_of(sources: Sequence[Source]) -> Layout | None:
    """The published model, or the one that the files' own names imply, that holds most of their modules.

    Implied models are put together: each file tells the shapes of the weights that it changes. None where no family is
    known that has the names.
    """
    candidates: dict[str, dict[str, tuple[int, ...]]] = {}
    for source in sources:
        if found := model_for(source.file):
            name, shapes = found
            known = candidates.setdefault(name, {})
            known.update({key: tuple(shape) for key, shape in shapes.items() if known.get(key, UNSAID) == UNSAID})
    if not candidates:
        return None
    best = max(candidates, key=lambda name: sum(len(match(one.file, candidates[name]).found) for one in sources))
    return Layout(best, candidates[best])
