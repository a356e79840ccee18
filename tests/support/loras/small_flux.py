"""Flux in a real ComfyUI, 256 wide: whole, or with layers that the host itself quantises."""

from collections.abc import Mapping

import torch

LAYOUTS = {  # ComfyUI's name of a format: its layout
    "float8_e4m3fn": "TensorCoreFP8E4M3Layout",
    "mxfp8": "TensorCoreMXFP8Layout",
    "nvfp4": "TensorCoreNVFP4Layout",
    "int8_tensorwise": "TensorWiseINT8Layout",
    "convrot_w4a4": "TensorCoreConvRotW4A4Layout",
    "asym_w4a8_int8": "AsymW4A8Int8Layout",
}
_WIDTH = 256


def flux(quantised: str = "", dtype: torch.dtype = torch.float32, blocks: tuple[int, int] = (1, 1)):
    """A MODEL whose matrices inside the blocks are in a format of `LAYOUTS`, or plain numbers.

    blocks: the number of those with two streams, and of those with one.
    """
    import comfy.ldm.flux.model as network
    import comfy.model_patcher
    import comfy.ops
    import comfy.supported_models

    settings = {
        "image_model": "flux", "in_channels": 16, "patch_size": 2, "out_channels": 16, "vec_in_dim": 64,
        "context_in_dim": 128, "hidden_size": _WIDTH, "mlp_ratio": 4.0, "num_heads": _WIDTH // 128, "depth": blocks[0],
        "depth_single_blocks": blocks[1], "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True,
        "guidance_embed": True, "dtype": dtype,
    }  # fmt: skip
    if "txt_ids_dims" in network.FluxParams.__dataclass_fields__:
        settings["txt_ids_dims"] = []
    config = comfy.supported_models.Flux(settings)
    model = config.get_model({}, "", device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    if quantised:
        _quantise_(model, quantised)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)


def _quantise_(model: torch.nn.Module, name: str) -> None:
    """Puts layers of `mixed_precision_ops` in the place of the blocks' Linears, with the same numbers quantised."""
    import comfy.ops
    from comfy.quant_ops import QuantizedTensor

    linear = comfy.ops.mixed_precision_ops(compute_dtype=torch.float32).Linear
    for path, module in list(model.named_modules()):
        if "blocks." not in path or not isinstance(module, torch.nn.Linear):
            continue
        layer = linear(module.in_features, module.out_features, bias=True, device="cpu")
        layer.bias = module.bias
        layer.quant_format, layer.layout_type = name, LAYOUTS[name]
        held = QuantizedTensor.from_float(module.weight.detach(), LAYOUTS[name])
        layer.weight = torch.nn.Parameter(held, requires_grad=False)
        owner, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(owner), leaf, layer)


def lora_of(shapes: Mapping[str, tuple[int, ...]], size: float = 0.02, rank: int = 4) -> dict[str, torch.Tensor]:
    """A LoRA of every matrix of a diffusion model, under the model's own names."""
    generator, tensors = torch.Generator().manual_seed(5), {}
    for key, shape in shapes.items():
        if len(shape) == 2 and key.endswith(".weight"):
            module = key.removesuffix(".weight")
            for end, own in (("lora_A", (rank, shape[1])), ("lora_B", (shape[0], rank))):
                tensors[f"{module}.{end}.weight"] = torch.randn(own, generator=generator) * size**0.5
    return tensors
