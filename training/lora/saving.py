"""A trained LoRA as a file: names of a dialect, and a header that tells how it was made."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from ...lora.formats.read import write
from ...lora.kinds.adapters import Adapter
from ...lora.models.conversion import rename
from ...lora.models.places import Place
from .course import Picture
from .plan import LoRAPlan
from .run import TrainedLoRA
from .targets import PREFIX

_MODULES = {  # what made the adapters, in the words of sd-scripts
    "LoRA": {"ss_network_module": "networks.lora"},
    "DoRA": {
        "ss_network_module": "lycoris.kohya",
        "ss_network_args": json.dumps({"algo": "lora", "dora_wd": "True", "wd_on_output": "False"}),
    },
    "LoKr": {"ss_network_module": "lycoris.kohya", "ss_network_args": json.dumps({"algo": "lokr"})},
}


def places_of(adapters: Mapping[str, Adapter]) -> dict[Place, Adapter]:
    """The adapters under the names of the model's weights."""
    return {f"{PREFIX}{name}.weight": adapter for name, adapter in adapters.items()}


def places_in_text(adapters: Mapping[str, Adapter]) -> dict[Place, Adapter]:
    """The adapters under the names of the text encoder's weights."""
    return {f"{name}.weight": adapter for name, adapter in adapters.items()}


def lora_file(
    made: TrainedLoRA,
    shapes: Mapping[str, Sequence[int]],
    plan: LoRAPlan,
    pictures: Sequence[Picture],
    *,
    title: str,
    resolution_px: int,
    dialect: str = "kohya",
    told: Mapping[str, str] | None = None,
    text_shapes: Mapping[str, Sequence[int]] | None = None,
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """The tensors and the header of a LoRA file, and the weights without a name in this dialect -> why.

    shapes, text_shapes: names and shapes of the model's and the text encoder's weights. told: more fields for the
    header.

    Raises:
        LoRAError, ValueError: an unknown dialect, or one that cannot hold these adapters.
    """
    own = rename(places_of(made.adapters), shapes, dialect)
    of_text = rename(places_in_text(made.text_adapters), text_shapes or {}, dialect)
    adapters = own.named | of_text.named
    header = header_of(made, plan, pictures, title=title, resolution_px=resolution_px) | dict(told or {})
    tensors, header = write(adapters, dialect, header)
    return tensors, header, {str(place): why for place, why in (own.unnamed | of_text.unnamed).items()}


def header_of(
    made: TrainedLoRA, plan: LoRAPlan, pictures: Sequence[Picture], *, title: str, resolution_px: int
) -> dict[str, str]:
    """The fields that programs read of a LoRA: kohya's `ss_`, Stability's `modelspec`, and the plan."""
    tags = Counter(tag.strip() for picture in pictures for tag in picture.caption.split(",") if tag.strip())
    trigger = plan.captions.trigger
    header = {
        "ss_output_name": title,
        **_MODULES.get(plan.kind, _MODULES["LoRA"]),
        "ss_network_dim": str(plan.rank),
        "ss_network_alpha": str(plan.alpha),
        "ss_learning_rate": str(plan.lr),
        "ss_optimizer": "torch.optim.AdamW",
        "ss_lr_scheduler": "cosine",
        "ss_lr_warmup_steps": str(plan.warm_up),
        "ss_max_train_steps": str(plan.steps),
        "ss_steps": str(len(made.losses)),
        "ss_batch_size_per_device": str(plan.batch),
        "ss_gradient_accumulation_steps": str(plan.accumulate),
        "ss_seed": str(plan.seed),
        "ss_resolution": f"({resolution_px}, {resolution_px})",
        "ss_num_train_images": str(sum(picture.repeats for picture in pictures)),
        "ss_num_validation_images": str(len(made.held_out)),
        "ss_tag_frequency": json.dumps({title: dict(tags.most_common(200))}, ensure_ascii=False),
        "ss_training_comment": "trained by comfyui-clip-vae-lora",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": title,
        "modelspec.resolution": f"{resolution_px}x{resolution_px}",
        "cvl.plan": json.dumps(plan.describe(), ensure_ascii=False),
        "cvl.modules": json.dumps({"model": len(made.adapters), "text encoder": len(made.text_adapters)}),
    }
    if made.text_adapters:
        header |= {"ss_unet_lr": str(plan.lr), "ss_text_encoder_lr": str(plan.lr * plan.text_encoder_rate)}
    if plan.weighting.min_snr:
        header["ss_min_snr_gamma"] = str(plan.weighting.min_snr)
    if trigger:
        header["modelspec.trigger_phrase"] = trigger
    return header
