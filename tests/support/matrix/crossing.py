"""Files of one family on the models of all others: none may be applied in part."""

from dataclasses import dataclass
from pathlib import Path

from . import dialects, families, models

KIN = (  # networks of one design, made from one another: a file of one is used on the other on purpose
    {"SDXL", "SSD-1B"},
    {"PixArt Alpha", "PixArt Sigma"},
    {"Flux.1", "Chroma", "Chroma Radiance", "LongCat-Image"},
    {"Cosmos-Predict2", "Anima"},
    {"Wan 2.1 T2V", "Wan 2.1 I2V", "Wan VACE", "Wan Camera", "Wan S2V", "Wan Animate", "Wan HuMo"},
)
DIALECTS = {"host": "diffusion_model A/B", "diffusers": "bare A/B"}


@dataclass(frozen=True)
class Crossing:
    """A file of `made_for` on a model of `model`: how many of its modules went on, and our sentence where none did."""

    made_for: str
    source: str
    model: str
    applied: int
    of: int
    error: str

    @property
    def in_part(self) -> bool:
        return 0 < self.applied < self.of


def crossings(application, built: dict[str, tuple[families.Family, object]], made_for: str, folder: Path):
    """The files of one family on every model but its own and its kin."""
    from safetensors.torch import save_file

    family, patcher = built[made_for]
    for source, modules in models.sources(family, patcher).items():
        dialect = next(one for one in dialects.MODEL_DIALECTS if one.name == DIALECTS[source])
        path = folder / f"{source}.safetensors"
        path.unlink(missing_ok=True)
        save_file(dialects.written(modules, dialect)[0], path)
        for name, (_, target) in built.items():
            if name == made_for or any({name, made_for} <= kin for kin in KIN):
                continue
            _, (use,) = application.put_on([application.LoRARequest(path, {"model": 1.0})], {"model": target})
            refused = isinstance(use, application.FailedLoRA)
            applied = 0 if refused else use.applied
            yield Crossing(made_for, source, name, applied, len(modules), use.sentence if refused else "")
