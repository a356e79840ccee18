"""UNets: what diffusers and cloneofsimo call the modules of the original (LDM) names. No torch here.

Both number the blocks in an order of their own. Sources: diffusers' UNet2DConditionModel and conversion scripts,
cloneofsimo/lora.
"""

from collections.abc import Iterable

UNET = "diffusion_model."
_WHOLE = {  # LDM: diffusers, for the modules outside the numbered blocks
    "input_blocks.0.0": ("conv_in",),
    "out.0": ("conv_norm_out",),
    "out.2": ("conv_out",),
    "time_embed.0": ("time_embedding.linear_1",),
    "time_embed.2": ("time_embedding.linear_2",),
    "label_emb.0.0": ("add_embedding.linear_1", "class_embedding.linear_1"),
    "label_emb.0.2": ("add_embedding.linear_2", "class_embedding.linear_2"),
    "middle_block.0": ("mid_block.resnets.0",),
    "middle_block.1": ("mid_block.attentions.0",),
    "middle_block.2": ("mid_block.resnets.1",),
}
_RESNET = {  # LDM: diffusers, inside a residual block
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_CLONEOFSIMO = [f"{a}.{p}" for a in ("attn1", "attn2") for p in ("to_q", "to_k", "to_v", "to_out.0")]
_UNET_CLONEOFSIMO.insert(4, "ff.net.0.proj")
_TEXT_CLONEOFSIMO = ("k_proj", "v_proj", "q_proj", "out_proj")  # the order in which transformers registers them


def diffusers_unet(modules: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The diffusers names of LDM modules, for SD1, SD2, SDXL and the refiner; the modules themselves tell the sizes.

    A level of `input_blocks` ends with a downsampler (`op`), one of `output_blocks` with an upsampler (`conv`), so
    counting the blocks in order gives the diffusers numbers.
    "input_blocks.4.1.proj_in" -> "down_blocks.1.attentions.0.proj_in"
    """
    modules = list(modules)
    # First name every numbered child ("input_blocks.4.1"): the table starts with the modules outside the blocks.
    table = dict(_WHOLE)
    for section, prefix in (("input_blocks", "down_blocks"), ("output_blocks", "up_blocks")):
        level, place = 0, -(section == "input_blocks")  # conv_in counts as a block
        for number, parts in sorted(_children(modules, section).items()):
            for part, inside in sorted(parts.items()):
                at = f"{section}.{number}.{part}"
                if at in table:
                    continue  # conv_in
                if inside & {"op", "conv"}:
                    sampler = "downsamplers" if "op" in inside else "upsamplers"
                    table[at] = (f"{prefix}.{level}.{sampler}.0",)
                    level, place = level + 1, -1
                else:
                    kind = "resnets" if "in_layers" in inside else "attentions"
                    table[at] = (f"{prefix}.{level}.{kind}.{place}",)
            place += 1
    # Then every module inside a child takes the child's name and its own rest.
    return {module: names for module in modules if (names := _unet_module(module, table))}


def _children(modules: list[str], section: str) -> dict[int, dict[int, set[str]]]:
    """The children of each numbered block: section.N.M.child... -> {N: {M: {child, ...}}}"""
    found: dict[int, dict[int, set[str]]] = {}
    for module in modules:
        parts = module.split(".")
        if parts[0] == section and len(parts) > 2 and parts[1].isdecimal() and parts[2].isdecimal():
            found.setdefault(int(parts[1]), {}).setdefault(int(parts[2]), set()).update(parts[3:4])
    return found


def _unet_module(module: str, table: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The diffusers names of one module; empty where the table has no child that it lies in."""
    if module in table:
        return table[module]
    parts = module.split(".")
    for length in (3, 2):
        if names := table.get(".".join(parts[:length])):
            rest = ".".join(parts[length:])
            rest = "conv" if rest == "op" else _RESNET.get(rest, rest)
            return tuple(f"{name}.{rest}" for name in names)
    return ()


def numbered_names(keys: list[str]) -> dict[str, str]:
    """cloneofsimo's names `unet:N` and `text_encoder:N` -> keys: N counts layers in diffusers' order of registration.

    diffusers registers down blocks, up blocks, then the middle. Only UNets with one transformer block per attention
    (SD1, SD2) ever had this format.
    """
    # The UNet: the same nine layers in every attention block, block by block.
    blocks = sorted(
        key.split(".transformer_blocks.")[0]
        for key in keys
        if key.startswith(UNET) and key.endswith(".transformer_blocks.0.attn1.to_q.weight")
    )
    deeper = any(key.startswith(UNET) and ".transformer_blocks.1." in key for key in keys)
    layers = [
        f"{block}.transformer_blocks.0.{layer}.weight"
        for block in sorted(blocks, key=_register_order)
        for layer in _UNET_CLONEOFSIMO
    ]
    names = {f"unet:{n}": key for n, key in enumerate([] if deeper else layers)}
    start = next(
        (
            s
            for s in ("clip_l.transformer.", "clip_h.transformer.", "")
            if f"{s}text_model.encoder.layers.0.self_attn.k_proj.weight" in keys
        ),
        None,
    )
    # The text encoder: the four projections of every layer.
    if start is not None:
        path = start + "text_model.encoder.layers."
        count = len({key[len(path) :].partition(".")[0] for key in keys if key.startswith(path)})
        text = [f"{path}{n}.self_attn.{p}.weight" for n in range(count) for p in _TEXT_CLONEOFSIMO]
        names |= {f"text_encoder:{n}": key for n, key in enumerate(text)}
    known = set(keys)
    return {name: key for name, key in names.items() if key in known}


def _register_order(block: str) -> tuple[int, list[int]]:
    """A sort key for blocks: down, up, middle, and by number within each."""
    section = next((n for n, part in enumerate(("input_blocks", "output_blocks")) if part in block), 2)
    return section, [int(part) for part in block.split(".") if part.isdecimal()]
