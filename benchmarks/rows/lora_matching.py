"""How long it takes to read and match a LoRA of 1,000 and of 3,000 modules: names, families and shapes, no numbers.

    python benchmarks/rows/lora_matching.py [--rounds 5] [--json]

The file is of Qwen-Image's names in each dialect, on a model of as many blocks. "first" is a model that is met for the
first time, whose names are spelled; "again" a second file on it. Seconds of the processor, the best of the rounds.
"""

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("_cvl_checkout", ROOT / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.lora.formats.read import read  # noqa: E402
from clip_vae_lora.lora.models import names  # noqa: E402
from clip_vae_lora.lora.models.families import refuse_other_family  # noqa: E402
from clip_vae_lora.lora.models.match import match  # noqa: E402

LAYERS = (
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj")),
    *("attn.to_add_out", "img_mod.1", "img_mlp.net.0.proj", "img_mlp.net.2", "txt_mod.1", "txt_mlp.net.0.proj"),
    "txt_mlp.net.2",
)
DIALECTS = {"bare": "{}", "transformer": "transformer.{}", "kohya": "lora_unet_{}", "lycoris": "lycoris_{}"}
WIDTH, RANK = 8, 1


def modules(count: int) -> list[str]:
    """The first `count` modules of the blocks."""
    every = (f"transformer_blocks.{block}.{layer}" for block in range(count) for layer in LAYERS)
    return [name for _, name in zip(range(count), every)]


def seconds(count: int, dialect: str, known: bool) -> float:
    """The processor's time to read and match a file of so many modules, on a model that is known or not."""
    form, flat = DIALECTS[dialect], dialect in ("kohya", "lycoris")
    own = modules(count)
    shapes = {f"diffusion_model.{name}.weight": (WIDTH, WIDTH) for name in own}
    tensors = {}
    for name in own:
        module = form.format(name.replace(".", "_") if flat else name)
        tensors[f"{module}.lora_up.weight"] = torch.ones(WIDTH, RANK)
        tensors[f"{module}.lora_down.weight"] = torch.ones(RANK, WIDTH)
    if known:
        names.target_map(shapes)
    else:
        names._target_map.cache_clear()
    started = time.process_time()
    file = read(tensors)
    refuse_other_family(file, shapes)
    found = match(file, shapes)
    refuse_other_family(file, shapes, set(found.modules.values()))
    spent = time.process_time() - started
    if len(found.found) != count:
        raise RuntimeError(f"{len(found.found)} of {count} modules have a place")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    rows = [
        {
            "modules": count,
            "dialect": dialect,
            "first_s": round(min(seconds(count, dialect, False) for _ in range(wanted.rounds)), 3),
            "again_s": round(min(seconds(count, dialect, True) for _ in range(wanted.rounds)), 3),
        }
        for count in (1000, 3000)
        for dialect in DIALECTS
    ]
    if wanted.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    for row in rows:
        times = f"first {row['first_s']:.3f} s, again {row['again_s']:.3f} s"
        sys.stdout.write(f"{row['modules']:5} modules, {row['dialect']:11}: {times}\n")


if __name__ == "__main__":
    main()
