"""Names of modules in LoRA files: which of a model's keys a name means, and which name a dialect writes for a key.

An underscored name cannot be split back into a path (`to_out_0` is `to_out.0`), so no name is parsed. Each module of
the model is known by its own name and by those of other tools (`family_names`, `unet`), all of them with underscores
for dots; a file's name loses what tools put in front and is looked up among them. No torch here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from ..families.family import Family
from ..families.table import family_of_modules
from ..formats.dialects import DIALECTS
from .family_names import Spelled, spelled_by
from .places import Place, Slice, Target
from .spellings import spell_other, spell_part, spell_unet
from .unet import UNET, diffusers_unet, numbered_names

_WEIGHT, _BIAS, _SCALE = ".weight", ".bias", ".scale"
_BFL = (
    "double_blocks.",
    "single_blocks.",
    "img_in",
    "txt_in",
    "time_in.",
    "vector_in.",
    "guidance_in.",
    "final_layer.",
)
_PEFT = "base_model.model."
_MODEL, _ANY = "model", ""  # where a name may belong to: the diffusion model alone, or anything
_FRONT = {  # what tools put in front of a module's name -> what it says
    _PEFT: _ANY,
    "module.": _ANY,
    "lycoris_": _ANY,
    "lora_": _ANY,
    "model.diffusion_model.": _MODEL,
    "diffusion_model.": _MODEL,
    "transformer.": _MODEL,
    "unet.": _MODEL,
    "lora_unet_": _MODEL,
    "oft_unet_": _MODEL,
    "lora_prior_unet_": _MODEL,
    "lora_transformer_": _MODEL,
    "oft_transformer_": _MODEL,
}
_OWN = ("model.diffusion_model.", "diffusion_model.", "lora_unet_", "lora_prior_unet_", "oft_unet_")
_ENCODER = r"lora_te\d?_|lora_prior_te_|lora_vision_|text_encoder(?:_\d)?\.|text_encoders\.|image_encoder\."
_PREFIX = re.compile("|".join([_ENCODER, *map(re.escape, sorted(_FRONT, key=len, reverse=True))]))
_MANY = re.compile("__+")
_NOISE = re.compile(r"_orig_mod\.|\.base_layer(?=\.|$)|\.default$")


class Found(NamedTuple):
    """The targets of a name, none where it means nothing; `sure`: the name says itself that it is the model's own."""

    targets: tuple[Target, ...]
    sure: bool


_NOTHING = Found((), False)
_Known = dict[str, list[tuple[str, tuple[Target, ...]]]]  # name with underscores -> (name with dots, its targets)


class Names:
    """The names of all places of a model: `find` looks a name up, `spelled` gives those to write."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]):
        self.shapes = shapes
        self._model: _Known = {}
        self._other: _Known = {}
        self.modules = dict(_model_modules(shapes))
        self.family: Family | None = family_of_modules(self.modules)
        self.unet = diffusers_unet(list(self.modules))
        self.parts: list[Spelled] = list(spelled_by(self.family, self.modules)) if self.family else []
        self.present = {key.partition(".")[0] for key in shapes if ".transformer." in key}
        self._add_model()
        for key in shapes:
            if key.endswith(_WEIGHT) and not key.startswith(UNET):
                targets = (Target(key),)
                spelled = {name for names in spell_other(key[: -len(_WEIGHT)], self.present).values() for name in names}
                for name in {_unprefixed(name) for name in spelled}:
                    _put(self._other, name, targets)
        self._numbers = {name: (Target(key),) for name, key in numbered_names(list(shapes)).items()}

    def _add_model(self) -> None:
        root = self.family.root if self.family else ""
        for module, (key, _) in self.modules.items():
            targets: tuple[Target, ...] = (Target(key),)
            _put(self._model, module, targets)
            for name in self.unet.get(module, ()):
                _put(self._model, name, targets)
                if ".to_" in name:  # diffusers before 0.20
                    _put(self._model, name.replace(".to_", ".processor.to_"), targets)
                    _put(self._model, name.replace(".to_", ".processor.to_").removesuffix(".0"), targets)
            if root and module.startswith(root):
                _put(self._model, module.removeprefix(root), targets)
        for name, _, targets, _ in self.parts:
            _put(self._model, name, targets)

    def find(self, name: str) -> Found:
        """The targets of a file's name of a module."""
        if found := self._find(name):
            return found
        # A bias lies beside its module's weight, in the same rows and the same order.
        if name.endswith(_BIAS) and (found := self._find(name[: -len(_BIAS)])):
            moved = [self._beside(target) for target in found.targets]
            return Found(tuple(one for one in moved if one), found.sure) if all(moved) else _NOTHING
        # The scale of a norm is its weight: the host has it under either name.
        return (self._find(name[: -len(_SCALE)]) if name.endswith(_SCALE) else None) or _NOTHING

    def nearest(self) -> dict[str, str]:
        """All names with underscores -> the key, for telling what a name is most like."""
        every = {**self._model, **self._other}
        return {name: _key(known[0][1][0].place) for name, known in every.items()}

    def _beside(self, target: Target) -> Target | None:
        place = target.place
        key = _key(place).removesuffix(_WEIGHT) + _BIAS
        if key not in self.shapes:
            return None
        return target._replace(place=Slice(key, place.rows) if isinstance(place, Slice) else key)

    def _find(self, name: str) -> Found | None:
        if name in self._numbers:
            return Found(self._numbers[name], True)
        for rest, scope, sure in _rests(name):
            for table in (self._model,) if scope == _MODEL else (self._model, self._other) if not scope else ():
                if targets := _get(table, rest):
                    return Found(targets, sure or table is self._other)
            if scope not in (_MODEL, _ANY) and (targets := _get(self._other, f"{scope}:{rest}")):
                return Found(targets, True)
        return None

    def __getitem__(self, name: str) -> Target:
        return self.find(name).targets[0]

    def get(self, name: str) -> Target | None:
        targets = self.find(name).targets
        return targets[0] if len(targets) == 1 else None


class Keys:
    """The keys that names mean, where a name means one whole weight."""

    def __init__(self, names: Names):
        self._names = names

    def get(self, name: str) -> str | None:
        target = self._names.get(name)
        return target.place if target and isinstance(target.place, str) and not target.swapped else None

    def __getitem__(self, name: str) -> str:
        if (key := self.get(name)) is None:
            raise KeyError(name)
        return key

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None


def name_map(keys: Iterable[str]) -> Keys:
    """The module names of all dialects -> the model's keys. A name that two keys share means none.

    `keys` are a model's state-dict keys: `diffusion_model.*`, `clip_l.transformer.*` and the like, our dual CLIP's
    `text_model.*` / `vision_model.*`, or any network's. `target_map` has the names of rows of a weight too.
    """
    return Keys(Names(dict.fromkeys(keys, ())))


def target_map(shapes: Mapping[str, Sequence[int]]) -> Names:
    """The module names of all dialects -> their targets: whole weights, rows of them, swapped halves, several at once.

    Those of the last four models are kept, so that a second LoRA on one model does not spell its keys again.
    """
    return _target_map(tuple((key, tuple(shape)) for key, shape in shapes.items()))


@lru_cache(maxsize=4)
def _target_map(items: tuple[tuple[str, tuple[int, ...]], ...]) -> Names:
    return Names(dict(items))


def front_off(name: str) -> str:
    """A file's name without what tools put in front of it, with underscores for dots."""
    return _plain(list(_rests(name))[-1][0])


def spellings(shapes: Iterable[str] | Mapping[str, Sequence[int]], dialect: str) -> dict[Place, str]:
    """The places of a model -> the module names to write for them in a dialect; `target_map` maps them back.

    A place without a name in the dialect is missing. Keys without shapes give whole weights only.

    Raises:
        ValueError: the dialect is unknown.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"the dialect is {dialect!r}: expected one of {', '.join(DIALECTS)}")
    names = target_map(shapes if isinstance(shapes, Mapping) else dict.fromkeys(shapes, ()))
    if dialect == "cloneofsimo":
        return {key: name for name, key in numbered_names(list(names.shapes)).items()}
    # Whole weights: the first spelling of the dialect that means this key and no other.
    chosen: dict[Place, str] = {}
    for key, spelled in _whole_spellings(names, dialect):
        if name := next((name for name in spelled if names.find(name).targets == (Target(key),)), None):
            chosen[key] = name
    # By the family's table, rows of weights too. A weight with swapped halves is written by its own name.
    for name, tool, targets, first in names.parts:
        place, swapped, _ = targets[0]
        written = spell_part(name, tool).get(dialect) if first and _key(place).endswith(_WEIGHT) else None
        if written and not swapped and names.find(written).targets == targets:
            chosen[place] = written
    return chosen


def _whole_spellings(names: Names, dialect: str) -> Iterator[tuple[str, list[str]]]:
    """Each key with its spellings in a dialect, the name to write first."""
    ldm_first = any(module.startswith("label_emb.") for module in names.modules)  # kohya names SDXL the LDM way
    for module, (key, _) in names.modules.items():
        if dialect == "bfl":
            yield key, [module] if module.startswith(_BFL) else []
        elif key.endswith(_WEIGHT):
            yield key, spell_unet(module, names.unet.get(module, ()), ldm_first).get(dialect, [])
        elif dialect == "diffusers":
            yield key, [key]
    for key in names.shapes:
        if key.endswith(_WEIGHT) and not key.startswith(UNET):
            yield key, spell_other(key[: -len(_WEIGHT)], names.present).get(dialect, [])


def _model_modules(shapes: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, tuple[str, Sequence[int]]]]:
    """The modules of a diffusion model with their keys and shapes: a module's name stands for its weight.

    A norm's scale stands for its module too; other tensors are found under their full names, and a bias beside its
    weight.
    """
    for key, shape in shapes.items():
        if not key.startswith(UNET):
            continue
        name = key[len(UNET) :]
        stem = name.rpartition(".")[0]
        weighted = f"{UNET}{stem}{_WEIGHT}" in shapes
        if name.endswith(_WEIGHT) or (name.endswith(_SCALE) and not weighted):
            yield stem, (key, shape)
        elif not (name.endswith(_BIAS) and weighted):
            yield name, (key, shape)


def _rests(name: str) -> Iterator[tuple[str, str, bool]]:
    """What is left of a name as each thing in front of it is taken off: (rest, where it belongs to, is it sure)."""
    scope, sure = _ANY, False
    yield name, scope, sure
    rest = _NOISE.sub("", name)
    if rest != name:
        yield rest, scope, sure
    while found := _PREFIX.match(rest):
        front, said = found[0], _FRONT.get(found[0])
        if scope not in (_ANY, _MODEL) and front != _PEFT:
            return  # an encoder's own "transformer." is a part of the name
        rest = rest[found.end() :]
        scope = front.strip("_.") if said is None else said or scope
        sure = sure or front in _OWN
        yield rest, scope, sure


def _unprefixed(name: str) -> str:
    """A spelling as it is looked up: an encoder's prefix stays, as the beginning of the name."""
    rest, scope, _ = list(_rests(name))[-1]
    return f"{scope}:{rest}" if scope not in (_MODEL, _ANY) else name if scope == _MODEL else rest


def _plain(name: str) -> str:
    flat = name.replace(".", "_")
    return _MANY.sub("_", flat).strip("_") if "__" in flat or flat[:1] == "_" or flat[-1:] == "_" else flat


def _put(table: _Known, name: str, targets: tuple[Target, ...]) -> None:
    known = table.setdefault(_plain(name), [])
    if (name, targets) not in known:
        known.append((name, targets))


def _get(table: _Known, name: str) -> tuple[Target, ...]:
    """The targets of a name; of names that only dots tell apart those of the name itself, or nothing."""
    known = table.get(_plain(name), ())
    meant = {targets for _, targets in known}
    if len(meant) > 1:
        meant = {targets for spelled, targets in known if spelled == name}
    return next(iter(meant)) if len(meant) == 1 else ()


def _key(place: Place) -> str:
    return place if isinstance(place, str) else place.key
