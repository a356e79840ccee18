"""Five LoRAs on a UNet's weights: time and peak memory until they are merged, beside ComfyUI, PEFT and diffusers.

    COMFYUI_PATH=/path/to/ComfyUI python benchmarks/lora.py --model sd15 sdxl --dtype float16 float32 --rounds 3

Every run is a process of its own: it builds the weights of a published UNet and five LoRAs of rank 32 in fp16, merges
once to warm up and then once on the clock; rounds alternate between the contenders. Peak is resident memory above what
the process held before, the merged weights included; PEFT and diffusers overwrite the originals, the others keep them.
`--layers linear` are the transformers' layers (what a kohya LoRA changes), `all` has the residual blocks' too (LoCon).
`--part 4` takes every fourth layer of each size. "one strength" is the time after the strength of a LoRA of one block
(of middling size) has changed, all others being as before.
"""

import argparse
import ctypes
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[1] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.lora.kinds.adapters import LoRA  # noqa: E402
from clip_vae_lora.lora.models import published  # noqa: E402
from clip_vae_lora.lora.models.names import spellings  # noqa: E402
from clip_vae_lora.lora.weights.fusing import Change  # noqa: E402
from clip_vae_lora.lora.weights.patching import with_patches  # noqa: E402

RANK, COUNT, STRENGTHS = 32, 5, (0.7, 0.3, 1.0, -0.5, 0.8)
LINEAR = (".transformer_blocks.", ".proj_in.", ".proj_out.")
CONVOLUTIONS = (".in_layers.2.", ".out_layers.3.", ".emb_layers.1.", ".skip_connection.", ".op.", ".conv.")
XL = {
    "block_out_channels": (320, 640, 1280),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
MODELS = {"sd15": (published.sd15, {"cross_attention_dim": 768}), "sdxl": (published.sdxl, XL)}


def chosen(options):
    """The UNet's weights that are changed: key -> shape, every so-manieth of each shape."""
    wanted, seen, found = LINEAR + (CONVOLUTIONS if options.layers == "all" else ()), {}, {}
    for key, shape in MODELS[options.model[0]][0]().items():
        if key.startswith("diffusion_model.") and len(shape) > 1 and any(part in key for part in wanted):
            seen[shape] = seen.get(shape, -1) + 1
            if seen[shape] % options.part == 0:
                found[key] = shape
    return found


def numbers(shape, dtype, seed):
    """Random numbers; long rows of them repeat, which no contender notices and saves a minute."""
    count = torch.Size(shape).numel()
    block = torch.randn(min(count, 2**20 + 1), generator=torch.Generator().manual_seed(seed)) * 0.02
    return block.to(dtype).repeat(-(-count // len(block)))[:count].view(shape)


def adapters(shapes):
    half = torch.float16
    return [
        {
            key: LoRA(numbers((out, RANK), half, 2 * n), numbers((RANK, inner, *kernel), half, n), 16)
            for key, (out, inner, *kernel) in shapes.items()
        }
        for n in range(COUNT)
    ]


def network(shapes, dtype):
    """Modules within modules that have these weights under these names."""
    root = nn.Module()
    for seed, (key, shape) in enumerate(shapes.items()):
        module = root
        for name in key.split(".")[:-1]:
            module.add_module(name, getattr(module, name, nn.Module()))
            module = getattr(module, name)
        module.weight = nn.Parameter(numbers(shape, dtype, seed % 7), requires_grad=False)
    return root


def fused(loras):
    return {key: [Change(lora[key], s) for lora, s in zip(loras, STRENGTHS)] for key in loras[0]}


def ours(options):
    shapes = chosen(options)
    model, changes, kept = network(shapes, options.dtype[0]), fused(adapters(shapes)), []

    return lambda: kept.append(with_patches(model, changes)), kept.clear


def one_strength(options):
    shapes = chosen(options)
    model, changes = network(shapes, options.dtype[0]), fused(adapters(shapes))
    sizes: dict[tuple[str, ...], int] = {}
    for key, shape in shapes.items():
        block = key.split(".")[1:3]  # diffusion_model, output_blocks, N
        sizes[tuple(block)] = sizes.get(tuple(block), 0) + torch.Size(shape).numel()
    block = list(sorted(sizes, key=sizes.get)[len(sizes) // 2])
    kept, times = [], itertools.count(1)

    def merge():
        strength = next(times) / 8
        kept.append(
            with_patches(
                model,
                changes
                | {
                    key: [Change(several[0].adapter, strength), *several[1:]]
                    for key, several in changes.items()
                    if key.split(".")[1:3] == block
                },
            )
        )
        del kept[:-1]

    merge()
    return merge, lambda: None


def comfyui(options, in_one=False):
    sys.argv = ["main.py", "--cpu"]
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.options

    comfy.options.enable_args_parsing()
    from comfy.model_patcher import ModelPatcher
    from comfy.weight_adapter import LoRAAdapter

    from clip_vae_lora.nodes.host.comfyui.patches import patched

    shapes, cpu = chosen(options), torch.device("cpu")
    loras, patcher = adapters(shapes), ModelPatcher(network(shapes, options.dtype[0]), cpu, cpu)
    if in_one:
        patcher = patched(patcher, fused(loras))
    for lora, strength in () if in_one else zip(loras, STRENGTHS):
        patcher.add_patches(
            {key: LoRAAdapter(set(), (a.up, a.down, a.alpha, None, None, None)) for key, a in lora.items()}, strength
        )

    def merge():
        for key in patcher.patches:
            patcher.patch_weight_to_device(key, cpu)

    return merge, lambda: patcher.unpatch_model(cpu)


def unet(options, load):
    """diffusers' UNet with the five adapters, which `load` puts on: (model, [(name, tensors, alphas), ...])."""
    from diffusers import UNet2DConditionModel

    shapes = chosen(options)
    with torch.device("meta"):
        model = UNet2DConditionModel(**MODELS[options.model[0]][1]).to(options.dtype[0])
    model = model.to_empty(device="cpu").requires_grad_(False)
    for seed, weight in enumerate(model.parameters()):
        weight.copy_(numbers(weight.shape, weight.dtype, seed % 7))
    spelled = spellings(list(MODELS[options.model[0]][0]()), "diffusers")
    names = {key: spelled[key].removeprefix("unet.") for key in shapes}
    for number, lora in enumerate(adapters(shapes)):
        tensors = {}
        for key, adapter in lora.items():
            conv = len(shapes[key]) == 4
            tensors[f"{names[key]}.lora_A.weight"] = adapter.down
            tensors[f"{names[key]}.lora_B.weight"] = adapter.up[..., None, None] if conv else adapter.up
        load(model, f"a{number}", tensors, sorted(names.values()))
    return model


def layers(model):
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def unmark(model):
    """Forgets that the adapters were merged: taking them out again is not what is measured."""
    for layer in layers(model):
        layer.merged_adapters.clear()


def peft(options):
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    def load(model, name, tensors, modules):
        inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=16, target_modules=modules), model, name)
        set_peft_model_state_dict(model, tensors, name)

    model = unet(options, load)

    def merge():
        for layer in layers(model):
            layer.merge(adapter_names=[f"a{n}" for n in range(COUNT)])

    return merge, lambda: unmark(model)


def diffusers(options):
    model = unet(options, lambda model, name, tensors, _: model.load_lora_adapter(tensors, None, adapter_name=name))
    model.set_adapters([f"a{n}" for n in range(COUNT)], list(STRENGTHS))

    names = [f"a{n}" for n in range(COUNT)]
    return lambda: model.fuse_lora(adapter_names=names), lambda: unmark(model)


CONTENDERS = {
    "ComfyUI": comfyui,
    "ours in ComfyUI": lambda options: comfyui(options, True),
    "ours": ours,
    "ours, one strength": one_strength,
    "PEFT merge": peft,
    "diffusers fuse_lora": diffusers,
}


def one(options):
    """In a process of its own: merges twice, prints the seconds of the second time and the bytes of the peak."""
    merge, release = CONTENDERS[options.one](options)
    with torch.inference_mode():
        merge()
        release()
        ctypes.CDLL(None).malloc_trim(0)
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        started = time.perf_counter()
        merge()
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak": status("VmHWM") - before}))


def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def run(name, model, dtype, options):
    done = subprocess.run(
        [
            sys.executable,
            __file__,
            "--one",
            name,
            "--model",
            model,
            "--dtype",
            dtype,
            "--layers",
            options.layers,
            "--part",
            str(options.part),
            "--threads",
            str(options.threads),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(model, dtype, options):
    names = [name for name in options.only or CONTENDERS if "ComfyUI" not in name or os.environ.get("COMFYUI_PATH")]
    found = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            found[name].append(run(name, model, dtype, options))
    times = {name: statistics.median(run["seconds"] for run in runs) for name, runs in found.items()}
    print(
        f"\n{model}, {dtype}, {options.layers} layers, 1 of {options.part} of each size, {options.threads} threads, "
        f"median of {options.rounds}\n| | seconds | times ComfyUI's speed | peak MB |\n|---|---|---|---|"
    )
    for name, runs in found.items():
        peak = statistics.median(run["peak"] for run in runs)
        ratio = f"{times['ComfyUI'] / times[name]:.2f}" if "ComfyUI" in times else ""
        print(f"| {name} | {times[name]:.2f} | {ratio} | {peak / 1e6:,.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["sd15", "sdxl"], choices=MODELS)
    parser.add_argument("--dtype", nargs="+", default=["float16"], choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--layers", default="all", choices=["linear", "all"])
    parser.add_argument("--part", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", choices=CONTENDERS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    if options.one:
        options.dtype = [getattr(torch, options.dtype[0])]
        return one(options)
    for model in options.model:
        for dtype in options.dtype:
            compare(model, dtype, options)


if __name__ == "__main__":
    main()
