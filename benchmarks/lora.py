"""Five LoRAs on one model: how long until its weights are changed, beside the peers, as ratios of medians in one run.

    COMFYUI_PATH=... python benchmarks/lora.py [--rounds 5] [--scale 1.0] [--threads 1]

The weights are those of SD 1.5's transformer blocks (attention, feed-forward, projections) in fp16, the LoRAs have rank
32 in fp16. Contestants: ComfyUI's ModelPatcher with its own five patches a weight, the same ModelPatcher with our one
patch a weight, our own copy without ComfyUI, that copy after one strength of one LoRA of a single block has changed,
and PEFT's merge (which is what diffusers' fuse_lora calls) where peft is installed. All run in each round, in turn.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[1] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
ROOT = _checkout.bind()

from clip_vae_lora.lora.adapters import LoRA  # noqa: E402
from clip_vae_lora.lora.fusing import Change  # noqa: E402
from clip_vae_lora.nodes.host.patching import with_patches  # noqa: E402

RANK, COUNT = 32, 5
WIDTHS = [320] * 5 + [640] * 5 + [1280] * 6  # of SD 1.5's sixteen transformers: width of the text is 768


def network(scale: float) -> nn.Module:
    """The sixteen transformers' layers, `scale` times as wide."""
    blocks = nn.ModuleList()
    text = int(768 * scale)
    for width in (int(width * scale) for width in WIDTHS):
        own = {f"attn1_{name}": (width, width) for name in ("q", "k", "v", "out")}
        cross = {"attn2_q": (width, width), "attn2_k": (width, text), "attn2_v": (width, text)}
        rest = dict.fromkeys(("attn2_out", "proj_in", "proj_out"), (width, width))
        rest |= {"ff_1": (8 * width, width), "ff_2": (width, 4 * width)}
        sizes = own | cross | rest
        blocks.append(nn.ModuleDict({k: nn.Linear(i, o, bias=False) for k, (o, i) in sizes.items()}))
    return blocks.half().requires_grad_(False)


def adapters(model: nn.Module) -> list[dict[str, LoRA]]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return (torch.randn(*shape, generator=generator) * 0.02).half()

    return [{name: LoRA(random(weight.shape[0], RANK), random(RANK, weight.shape[1]), 16.0)
             for name, weight in model.named_parameters()} for _ in range(COUNT)]


def comfyui(model: nn.Module, loras: list[dict[str, LoRA]]) -> dict[str, Callable[[], None]]:
    before, sys.argv = sys.argv, ["main.py", "--cpu"]
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.options

    comfy.options.enable_args_parsing()
    from comfy.model_patcher import ModelPatcher
    from comfy.weight_adapter import LoRAAdapter

    from clip_vae_lora.nodes.host.comfyui_patches import patched

    sys.argv = before
    cpu = torch.device("cpu")

    def patch(patcher: ModelPatcher) -> None:
        for key in patcher.patches:
            patcher.patch_weight_to_device(key, cpu)
        patcher.unpatch_model(cpu)

    plain = ModelPatcher(model, cpu, cpu)
    theirs = plain.clone()
    for lora in loras:
        patches = {k: LoRAAdapter(set(), (a.up, a.down, a.alpha, None, None, None)) for k, a in lora.items()}
        theirs.add_patches(patches, 0.7)
    ours = patched(plain, {key: [Change(lora[key], 0.7) for lora in loras] for key in loras[0]})
    return {"ComfyUI": lambda: patch(theirs), "ours in ComfyUI": lambda: patch(ours)}


def standalone(model: nn.Module, loras: list[dict[str, LoRA]]) -> dict[str, Callable[[], None]]:
    changes = {key: [Change(lora[key], 0.7) for lora in loras] for key in loras[0]}
    last = list(changes)[-1].split(".")[0]  # one of the widest
    kept = []

    def whole() -> None:
        kept.clear()
        kept.append(with_patches(model, changes))

    def one() -> None:
        again = dict(changes)
        again |= {k: [Change(v[0].adapter, 0.1 + time.perf_counter() % 1), *v[1:]] for k, v in changes.items()
                  if k.split(".")[0] == last}
        with_patches(model, again)
        with_patches(model, changes)

    return {"ours": whole, "ours, one block's strength changed and back": one}


def peft(model: nn.Module, loras: list[dict[str, LoRA]]) -> dict[str, Callable[[], None]]:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    names = sorted({name.rsplit(".", 2)[-2] for name in loras[0]})
    for number in range(len(loras)):
        config = LoraConfig(r=RANK, lora_alpha=16, target_modules=names)
        model = inject_adapter_in_model(config, model, adapter_name=f"a{number}")
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    chosen = [f"a{number}" for number in range(len(loras))]

    def merge() -> None:
        for layer in layers:
            layer.merge(adapter_names=chosen)
        for layer in layers:
            layer.merged_adapters.clear()  # unmerging would cost as much again and is not what is measured

    return {"PEFT, diffusers": merge}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = network(given.scale)
    loras = adapters(model)
    contestants = standalone(model, loras)
    if os.environ.get("COMFYUI_PATH"):
        contestants |= comfyui(model, loras)
    if importlib.util.find_spec("peft"):
        contestants |= peft(network(given.scale), loras)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    with torch.inference_mode():
        for number in range(given.rounds + 1):
            for name in contestants:
                start = time.perf_counter()
                contestants[name]()
                if number:  # the first round warms up
                    times[name].append(time.perf_counter() - start)
    numbers = sum(weight.numel() for weight in model.parameters())
    print(f"{len(loras[0])} weights, {numbers / 1e6:.0f} M numbers, {COUNT} LoRAs of rank {RANK}, "
          f"{given.threads} threads")
    base = statistics.median(times.get("ComfyUI", times["ours"]))
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:45} {median:8.3f} s   {base / median:6.2f} x")


if __name__ == "__main__":
    main()
