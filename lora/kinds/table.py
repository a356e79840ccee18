"""The kinds of adapters, a row each: the suffixes of a kind's tensors, and how it is built, written and measured.

Reading (`suffixes`, `building`), writing (`writing`) and measuring (`low_rank.change_norm`) know a kind from its row
only. A new kind is a file with its class, and a row here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Generic, TypeVar

from torch import Tensor

from .adapters import Adapter, ConfigFacts, LoRA, build_of_table
from .hadamard import LoHa
from .kronecker import LoKr
from .magnitude import IA3, GLoRA, build_ia3, build_ia3_of_peft, marks_of_ia3
from .orthogonal import OFT, InputOFT, build_input_oft, marks_of_input_oft
from .whole import Difference, Replacement, build_norm_difference, marks_of_replacement

DOWN, UP, MID = "down", "up", "mid"
OWN_WEIGHT = "weight"  # the suffix of any module's own weight: a part of a kind only beside another part of that kind

Parts = Mapping[str, Tensor]
A = TypeVar("A", bound=Adapter)
SizePart = float | Tensor | tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Kind(Generic[A]):
    """A kind of adapter in files.

    adapter: the class. A part must be in a file if its field in the class has no default.
    parts: the suffix of each tensor -> the field of the class.
    roles: suffix -> the name of the part in messages; by default the suffix without ".weight" and without the text
        before its last point. No two kinds have a role in common.
    bias: the suffix of the same kind of change of a module's bias; its field is that of the first part.
    numbers: the fields that are one number in a file, of any type.
    scaled: the change is multiplied by alpha / rank, and may have a magnitude (DoRA).
    dialect: of the suffixes; "" where several tools write them.
    by_peft: PEFT writes it, so the adapter's name may be left inside its suffix ("ia3_l.default").
    algorithm: LyCORIS' name of the kind.
    build: (module, tensors by field, configuration) -> adapter, `alpha` 1 where it is scaled; by default the class is
        called with the fields as they stand, and with the file's alpha if it has such a field.
    marks: (module, adapter) -> the tensors by suffix that are written besides the fields that are tensors; LoRAError
        where no suffix can say what the adapter does.
    size: the numbers, matrices and thin pairs (up, down) whose Frobenius norms multiply to that of the change at
        strength 1; None where only the change itself tells.
    """

    adapter: type[A]
    parts: Mapping[str, str]
    roles: Mapping[str, str] = field(default_factory=dict)
    bias: str = ""
    numbers: tuple[str, ...] = ()
    scaled: bool = False
    dialect: str = "kohya"
    by_peft: bool = False
    algorithm: str = ""
    build: Callable[[str, Parts, ConfigFacts], A] | None = None
    marks: Callable[[str, A], Mapping[str, Tensor]] | None = None
    size: Callable[[A], Sequence[SizePart]] | None = None

    def role(self, suffix: str) -> str:
        return self.roles.get(suffix) or suffix.removesuffix(".weight").rpartition(".")[2]

    @cached_property
    def fields(self) -> dict[str, str]:
        """The fields by role."""
        return {self.role(suffix): name for suffix, name in self.parts.items()}

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """The roles that every adapter of the kind has."""
        given = {one.name for one in fields(self.adapter) if one.default is MISSING}
        return tuple(role for role, name in self.fields.items() if name in given)

    @cached_property
    def has_alpha(self) -> bool:
        return any(one.name == "alpha" for one in fields(self.adapter))


KINDS: dict[str, Kind] = {
    "LoRA": Kind(
        LoRA,
        {"lora_down.weight": "down", "lora_up.weight": "up", "lora_mid.weight": "mid"},
        roles={"lora_down.weight": DOWN, "lora_up.weight": UP, "lora_mid.weight": MID},
        scaled=True,
        size=lambda lora: (
            (lora.factors(),) if lora.mid is not None else ((lora.up.flatten(1), lora.down.flatten(1)), lora.scale)
        ),
    ),
    "table": Kind(
        LoRA,
        {"lora_embedding_A": "down", "lora_embedding_B": "up"},
        roles={"lora_embedding_A": "down of a table", "lora_embedding_B": "up of a table"},
        scaled=True,
        dialect="diffusers",
        by_peft=True,
        build=build_of_table,
    ),
    "LoHa": Kind(
        LoHa,
        {
            "hada_w1_a": "a1",
            "hada_w1_b": "b1",
            "hada_w2_a": "a2",
            "hada_w2_b": "b2",
            "hada_t1": "t1",
            "hada_t2": "t2",
        },
        scaled=True,
        algorithm="loha",
    ),
    "LoKr": Kind(
        LoKr,
        {f"lokr_{name}": name for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
        scaled=True,
        algorithm="lokr",
        size=lambda lokr: (*lokr.matrices(), lokr.scale),  # of a Kronecker product it is the product of the norms
    ),
    "GLoRA": Kind(
        GLoRA,
        {f"{name}.weight": name for name in ("a1", "a2", "b1", "b2")},
        scaled=True,
        algorithm="glora",
    ),
    "OFT": Kind(OFT, {"oft_blocks": "blocks", "rescale": "rescale"}, algorithm="diag-oft"),
    "InputOFT": Kind(
        InputOFT,
        {"oft_R.weight": "angles", "oft_R.scaled_oft": "divisor"},
        numbers=("divisor",),
        dialect="",
        by_peft=True,
        build=build_input_oft,
        marks=marks_of_input_oft,
    ),
    "IA3": Kind(
        IA3,
        {OWN_WEIGHT: "factors", "on_input": "on_input"},
        roles={OWN_WEIGHT: "factors"},
        numbers=("on_input",),
        algorithm="ia3",
        build=build_ia3,
        marks=marks_of_ia3,
    ),
    "PEFT IA3": Kind(
        IA3,
        {"ia3_l": "factors"},
        dialect="diffusers",
        by_peft=True,
        build=build_ia3_of_peft,
    ),
    "difference": Kind(
        Difference,
        {"diff": "value"},
        bias="diff_b",
        dialect="",
        algorithm="full",
        size=lambda difference: (difference.value,),
    ),
    "norm difference": Kind(
        Difference,
        {"w_norm": "value"},
        bias="b_norm",
        dialect="",
        algorithm="full",
        build=build_norm_difference,
        size=lambda difference: (difference.value,),
    ),
    "replacement": Kind(Replacement, {"set_weight": "value"}, dialect="", marks=marks_of_replacement),
}


def row_of(adapter: Adapter) -> Kind | None:
    """The row for writing and measuring an adapter: the row of its own name, or the first row of its class.

    None for an adapter around another adapter, such as a DoRA.
    """
    named = KINDS.get(adapter.kind)
    if named is not None and named.adapter is type(adapter):
        return named
    return next((kind for kind in KINDS.values() if kind.adapter is type(adapter)), None)
