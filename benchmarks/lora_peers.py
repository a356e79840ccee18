"""Five LoRAs merged by ours, ComfyUI, PEFT and diffusers: the contenders of `benchmarks/lora.py`."""

import itertools
import os
import sys

import torch
from torch import nn

from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.lora.models import published
from clip_vae_lora.lora.models.names import spellings
from clip_vae_lora.lora.weights.fusing import Change
from clip_vae_lora.lora.weights.patching import with_patches

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
