"""The dialects of LoRA files, a row each: how each one spells up and down, and where it keeps alpha. No torch here.

Reading (`suffixes`), writing (`writing`) and the names of modules (`models.names`, `models.conversion`) know a dialect
from its row. Sources: kohya-ss/sd-scripts, KohakuBlueleaf/LyCORIS, OneTrainer, huggingface peft and diffusers,
cloneofsimo/lora, XLabs Flux, black-forest-labs/flux.
"""

from typing import NamedTuple

STORED, FOLDED, DESCRIBED = "an .alpha beside each", "multiplied into up", "in the header's adapter_config"


class Dialect(NamedTuple):
    """How a tool spells a LoRA.

    down, up: what follows the module's name. alpha: where the scale is kept. splits: fused weights (q, k and v of one
    tensor) are modules of their own. read_as: the dialect that a reader reports for these suffixes, "" where the names
    of the modules, and not the suffixes, tell the dialect. older: further suffixes (down, up) that are read.
    """

    down: str
    up: str
    alpha: str
    splits: bool = False
    read_as: str = ""
    older: tuple[tuple[str, str], ...] = ()


DIALECTS = {
    "kohya": Dialect(".lora_down.weight", ".lora_up.weight", STORED),
    "diffusers": Dialect(
        ".lora_A.weight",
        ".lora_B.weight",
        FOLDED,
        splits=True,
        read_as="diffusers",
        older=((".lora_A", ".lora_B"), (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")),
    ),
    "peft": Dialect(".lora_A.weight", ".lora_B.weight", DESCRIBED, splits=True),
    "lycoris": Dialect(".lora_down.weight", ".lora_up.weight", STORED, splits=True),  # stand-alone, and SimpleTuner's
    "onetrainer": Dialect(".lora_down.weight", ".lora_up.weight", STORED, splits=True),
    "diffusers_0.2": Dialect(".lora.down.weight", ".lora.up.weight", FOLDED, splits=True, read_as="diffusers"),
    "diffusers_0.1": Dialect("_lora.down.weight", "_lora.up.weight", FOLDED),  # read by a rule of its own
    "xlabs": Dialect(".down.weight", ".up.weight", FOLDED),  # likewise
    "bfl": Dialect(".lora_A.weight", ".lora_B.weight", FOLDED),
    "cloneofsimo": Dialect(":down", ":up", FOLDED),  # likewise
}


def spellings_of_lora() -> dict[str, tuple[bool, str]]:
    """The suffixes of a LoRA's factors -> (whether it is up, dialect), for dialects with suffixes of their own."""
    spelled: dict[str, tuple[bool, str]] = {}
    for dialect in DIALECTS.values():
        for down, up in ((dialect.down, dialect.up), *dialect.older) if dialect.read_as else ():
            spelled |= {down[1:]: (False, dialect.read_as), up[1:]: (True, dialect.read_as)}
    return spelled
