"""Families of models: a LoRA file and a model of two different families are refused, and both are named.

A file is told by the names of its modules: its family is the one whose table knows most of them. Names that several
families have (`transformer_blocks.N.attn.to_q`) and sizes tell nothing by themselves.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..families.family import Family
from ..families.patterns import count_known, depths, known_to, pattern
from ..families.table import FAMILIES, are_kin, family_of_modules
from ..formats.read import LoRAFile
from ..formats.suffixes import parse
from ..kinds.adapters import LoRAError
from ..kinds.table import DOWN
from .names import front_off

SD1, SD2, SDXL, REFINER, SD3, FLUX = "SD 1", "SD 2", "SDXL", "SDXL refiner", "SD 3", "Flux"
SVD, _VIDEO = "SVD", ".time_stack."  # its layers between those of SD 2, which it was made from
_OF_VIDEO = re.compile(r"[._](?:time_stack|temporal_transformer_blocks|temporal_res_block)[._]")
_UNET = "diffusion_model."
_CONTEXT = {768: SD1, 1024: SD2, 2048: SDXL, 1280: REFINER}  # the width of the text that a UNet's cross attention reads
_CROSS = re.compile(r"(?:attentions|(?:input|output|middle)_blocks?)[._].*attn2[._](?:processor[._])?to_[kv]$")
_UNET_KEY = re.compile(r"diffusion_model\.(?:input|output)_blocks\.[\d.]+transformer_blocks\.\d+\.attn2\.to_k\.weight$")
_UNET_FRONTS = ("lora_unet_", "unet_", "unet.", "oft_unet_", "unet:")
_NO_DIFFUSION = re.compile(
    r"(?:lycoris_|lora_)?(?:te\d?_|text_encoder|text_model|text_projection|vision|visual|image_encoder|prior_te_|t5xxl\.)"
    r"|clip_[lgh]\.|.{0,40}conditioner\."
)
_MARKS = 2  # an error names so many


@dataclass(frozen=True)
class Told:
    """families: whose names a file has, the only one where it is known and several where they fit alike.

    marks: names that tell it. sure: no other family has these names, or as many blocks. known: how many patterns of
    names these families know, which are `patterns`.
    """

    families: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    sure: bool = True
    known: int = 0
    patterns: frozenset[str] = frozenset()

    @property
    def family(self) -> str | None:
        """The family, or kin that fit alike ("Flux or Chroma"); None where it is not known."""
        alike = self.sure and self.families and all(are_kin(self.families[0], other) for other in self.families)
        return " or ".join(self.families) if alike else None


def family_of_keys(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """The family of a model, from the keys and shapes of its state dict; None where several fit (text encoders)."""
    modules = {
        key[len(_UNET) :].removesuffix(".weight").removesuffix(".scale") for key in shapes if key.startswith(_UNET)
    }
    if family := family_of_modules(modules):
        return family.name
    if any(_VIDEO in key for key in shapes):
        return SVD
    widths = (shape[-1] for key, shape in shapes.items() if _UNET_KEY.match(key) and len(shape) > 1)
    return _CONTEXT.get(next(widths, 0))


def family_of_file(file: LoRAFile) -> str | None:
    """The family that a file was made for, from its modules' names; None where they fit several families."""
    return tell(file).family


def tell(file: LoRAFile) -> Told:
    """Tell finds the families whose names a file's modules have, and the names that are marks of theirs."""
    extents = {name: adapter.extent[1] for name, adapter in file.adapters.items()}
    return _tell(extents or dict.fromkeys(file.unread))


def family_of_tensors(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """The family of a file, from the names and shapes of its tensors alone; None where they fit several families.

    >>> up = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    >>> family_of_tensors({up: (4, 768)})
    'SD 1'
    """
    inputs: dict[str, int | None] = {}
    for name, shape in shapes.items():
        if part := parse(name):
            width = shape[1] if part.role == DOWN and len(shape) > 1 else None
            inputs[part.module] = inputs.get(part.module) or width
    return _tell(inputs).family


def _tell(inputs: Mapping[str, int | None]) -> Told:
    """The same from each module's name and the width of its inputs, where it is known."""
    names = [name for name in inputs if not _NO_DIFFUSION.match(name)]
    if video := next((name for name in names if _OF_VIDEO.search(name)), None):
        return Told((SVD,), (video,))
    for name in names:
        width = inputs[name] if _is_cross(name) else None
        if width in _CONTEXT:
            return Told((_CONTEXT[width],), (name,))
    if (told := _by_names(names)).families:
        return told
    two_encoders = next((name for name in inputs if name.startswith(("lora_te2_text_model", "text_encoder_2."))), None)
    return Told((SDXL,), (two_encoders,)) if two_encoders and any(map(_is_unet, names)) else told


def refuse_other_family(
    file: LoRAFile, shapes: Mapping[str, Sequence[int]], placed: Collection[str] | None = None
) -> None:
    """Refuse a file whose family is known to differ from the model's, or to be none of those that it may be of.

    Args:
        placed: the file's modules that have a place in the model; without them, files are refused whose family and
            model are both known. A file that has a place for every module is of a family unknown here.

    Raises:
        LoRAError: the families differ; the message names both, and the marks of the file's.
    """
    model = family_of_keys(shapes)
    told = tell(file) if any(key.startswith(_UNET) for key in shapes) else Told()
    kin = [family for family in told.families if model and are_kin(model, family)]
    if told.families and len(kin) == len(told.families):
        return
    made_for, marks = " or ".join(told.families), " and ".join(told.marks)
    if told.families and told.sure and model and not kin:
        raise LoRAError(
            f"this LoRA was made for {made_for} (it has {marks}), and the model connected is {model}: connect a "
            f"{made_for} model, or choose a LoRA for {model}; nothing was changed"
        )
    names = [name for name in file.adapters if not _NO_DIFFUSION.match(name)]
    own = [name for name in names if name in (placed or ())]
    if not own or len(own) == len(names):
        return
    patterns = frozenset(map(_pattern, own))
    if kin or not told.families:
        if not _is_less(len(patterns), len({_pattern(name) for name in names})):
            return
        lost = next(name for name in names if name not in own and _pattern(name) not in patterns)
        raise LoRAError(
            f"this LoRA was made for another kind of model: only {len(own)} of its {len(names)} modules have a place "
            f"in the {f'{model} ' if model else ''}model connected, which has no {lost}: choose a LoRA for this model; "
            "nothing was changed"
        )
    if not model and len(patterns & told.patterns) >= told.known:
        return
    raise LoRAError(
        f"this LoRA was made for {made_for} (it has {marks}), and {len(own)} of its {len(names)} modules have a "
        f"place in the {f'{model} ' if model else ''}model connected: choose a LoRA for this model; "
        "nothing was changed"
    )


def _is_less(own: int, of: int) -> bool:
    """Whether a model has so few of a file's kinds of modules that the file is of another: not four fifths of them.

    Two that are missing tell nothing: a trainer may have had layers of its own.
    """
    return of - own > 2 and 5 * own < 4 * of


def kin_of(file: LoRAFile, shapes: Mapping[str, Sequence[int]]) -> tuple[str, str] | None:
    """The families of a file and of a model where they are two of one design; None where they are one or unknown."""
    told, model = tell(file), family_of_keys(shapes)
    if not told.sure or len(told.families) != 1 or not model or model == told.families[0]:
        return None
    return (told.families[0], model) if are_kin(model, told.families[0]) else None


def _by_names(names: Sequence[str]) -> Told:
    """The families whose tables know most of these names, at least four fifths of their patterns."""
    of_name = {name: _pattern(name) for name in names}
    patterns = frozenset(of_name.values())
    counts = count_known(patterns)
    most = max(counts.values())
    if not most or 5 * most < 4 * len(patterns):
        return Told()
    flat = [front_off(name) for name in names]
    asked = {family.name: depths(flat, family) for family in FAMILIES if counts[family.name] == most}
    # Of families that know the same names, those with fewer blocks than the file has are none of it.
    fit = [
        family
        for family in FAMILIES
        if family.name in asked
        and all(count <= family.depth.get(stack, count) for stack, count in asked[family.name].items())
    ]
    # The last blocks of two stacks are a mark: Flux has 19 and 38, HunyuanVideo 20 and 40. Those of one are where all
    # have another number: Z-Image has 30 and Ideogram 4 has 34.
    least = 0 if all(family.depth for family in fit) else 1
    exact = [
        family
        for family in fit
        if len(family.depth) > least
        and all(asked[family.name].get(stack) == most for stack, most in family.depth.items())
    ]
    marks, sure = _marks(of_name, exact or fit)
    # Names that others have one by one are a mark together: `img_mod` is Lens', and `add_q_proj` Flux', too.
    known_elsewhere = max((count for name, count in counts.items() if name not in asked), default=0)
    sure = sure or (len(fit) == 1 and len(patterns) == most > 1 and 5 * known_elsewhere < 4 * most)
    return Told(tuple(family.name for family in exact or fit), marks, sure or bool(exact), most, patterns)


def _marks(of_name: Mapping[str, str], chosen: Sequence[Family]) -> tuple[tuple[str, ...], bool]:
    """The names that the fewest other families have, and whether there is one that none of them has."""
    others = [family for family in FAMILIES if family not in chosen]
    shared = set.intersection(*(set(known_to(family)) for family in chosen)) if chosen else set()
    rarity: dict[str, tuple[int, str]] = {}
    for name, one in of_name.items():
        if one in shared and one not in rarity:
            rarity[one] = (sum(one in known_to(family) for family in others), name)
    ranked = sorted(rarity.values())
    return tuple(name for _, name in ranked[:_MARKS]), bool(ranked and not ranked[0][0])


def _pattern(name: str) -> str:
    return pattern(front_off(name).removesuffix("_bias").removesuffix("_scale"))


def _is_cross(name: str) -> bool:
    if _CROSS.search(name):
        return True
    number = name.removeprefix("unet:")
    return number != name and number.isdecimal() and int(number[-6:]) % 9 in (6, 7) and len(number) < 6


def is_of_encoder(name: str) -> bool:
    """Whether a module's name says that it is a text or image encoder's, in any dialect."""
    return bool(_NO_DIFFUSION.match(name))


def _is_unet(name: str) -> bool:
    return name.startswith(_UNET_FRONTS)
