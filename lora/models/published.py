"""State-dict keys and shapes of the published models, made from their sizes: names for a file without its model.

Sources: the constructors themselves, CompVis' openaimodel.py, transformers' CLIP and T5, black-forest-labs/flux
model.py, Stability's sd3-ref mmdit.py; keys as ComfyUI has them.
"""

from collections.abc import Callable, Mapping, Sequence

from ..formats.dialects import DIALECTS
from ..formats.read import LoRAFile
from .families import FLUX, REFINER, SD1, SD2, SD3, SDXL, tell
from .implied import UNSAID, implied_models
from .match import match
from .names import spellings

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
_WITHOUT_BIAS = ("to_q.weight", "to_k.weight", "to_v.weight", "_embedding.weight", "text_projection.weight")


def _resnet(at: str, cin: int, cout: int, time: int) -> dict[str, Shape]:
    """A residual block of a UNet."""
    shapes: dict[str, Shape] = {
        f"{at}.in_layers.0.weight": (cin,),
        f"{at}.in_layers.2.weight": (cout, cin, 3, 3),
        f"{at}.emb_layers.1.weight": (cout, time),
        f"{at}.out_layers.0.weight": (cout,),
        f"{at}.out_layers.3.weight": (cout, cout, 3, 3),
    }
    return shapes | ({f"{at}.skip_connection.weight": (cout, cin, 1, 1)} if cin != cout else {})


def _attention(at: str, width: int, depth: int, context: int, linear: bool) -> dict[str, Shape]:
    """A transformer of a UNet, of `depth` blocks."""
    square: Shape = (width, width) if linear else (width, width, 1, 1)
    shapes = {f"{at}.norm.weight": (width,), f"{at}.proj_in.weight": square, f"{at}.proj_out.weight": square}
    for n in range(depth):
        block = f"{at}.transformer_blocks.{n}"
        for name, inner in (("attn1", width), ("attn2", context)):
            shapes |= {
                f"{block}.{name}.to_q.weight": (width, width),
                f"{block}.{name}.to_k.weight": (width, inner),
                f"{block}.{name}.to_v.weight": (width, inner),
                f"{block}.{name}.to_out.0.weight": (width, width),
            }
        shapes |= {f"{block}.ff.net.0.proj.weight": (8 * width, width), f"{block}.ff.net.2.weight": (width, 4 * width)}
        shapes |= {f"{block}.norm{k}.weight": (width,) for k in (1, 2, 3)}
    return shapes


def unet(
    base: int,
    multipliers: Sequence[int],
    depths: Sequence[int],
    middle: int,
    context: int,
    label: int = 0,
    linear: bool = True,
) -> dict[str, Shape]:
    """A UNet's keys and shapes, `diffusion_model.` in front. `depths`: transformer blocks per level."""
    time, stack, width = 4 * base, [base], base
    out: dict[str, Shape] = {
        "time_embed.0.weight": (time, base),
        "time_embed.2.weight": (time, time),
        "input_blocks.0.0.weight": (base, 4, 3, 3),
    }
    if label:
        out |= {"label_emb.0.0.weight": (time, label), "label_emb.0.2.weight": (time, time)}
    number = 1
    for level, (multiplier, depth) in enumerate(zip(multipliers, depths)):
        for _ in range(2):
            at = f"input_blocks.{number}"
            out |= _resnet(f"{at}.0", width, multiplier * base, time)
            width = multiplier * base
            out |= _attention(f"{at}.1", width, depth, context, linear) if depth else {}
            stack.append(width)
            number += 1
        if level < len(multipliers) - 1:
            out[f"input_blocks.{number}.0.op.weight"] = (width, width, 3, 3)
            stack.append(width)
            number += 1
    out |= _resnet("middle_block.0", width, width, time) | _resnet("middle_block.2", width, width, time)
    out |= _attention("middle_block.1", width, middle, context, linear)
    number = 0
    for level in reversed(range(len(multipliers))):
        for place in range(3):
            at = f"output_blocks.{number}"
            out |= _resnet(f"{at}.0", width + stack.pop(), multipliers[level] * base, time)
            width = multipliers[level] * base
            out |= _attention(f"{at}.1", width, depths[level], context, linear) if depths[level] else {}
            if level and place == 2:
                out[f"{at}.{2 if depths[level] else 1}.conv.weight"] = (width, width, 3, 3)
            number += 1
    out |= {"out.0.weight": (base,), "out.2.weight": (4, base, 3, 3)}
    return {f"diffusion_model.{key}": shape for key, shape in out.items()}


def text(prefix: str, width: int, layers: int, embed: int | None = None) -> dict[str, Shape]:
    """A CLIP text encoder's keys and shapes."""
    out: dict[str, Shape] = {
        "embeddings.token_embedding.weight": (49408, width),
        "embeddings.position_embedding.weight": (77, width),
        "final_layer_norm.weight": (width,),
    }
    for n in range(layers):
        at = f"encoder.layers.{n}"
        out |= {f"{at}.self_attn.{p}_proj.weight": (width, width) for p in ("q", "k", "v", "out")}
        out |= {
            f"{at}.mlp.fc1.weight": (4 * width, width),
            f"{at}.mlp.fc2.weight": (width, 4 * width),
            f"{at}.layer_norm1.weight": (width,),
            f"{at}.layer_norm2.weight": (width,),
        }
    out = {f"{prefix}text_model.{key}": shape for key, shape in out.items()}
    return out | ({f"{prefix}text_projection.weight": (embed, width)} if embed else {})


def t5(width: int = 4096, hidden: int = 10240, layers: int = 24) -> dict[str, Shape]:
    """The keys and shapes of T5 1.1 XXL's encoder, as Flux and SD 3 have it."""
    out: dict[str, Shape] = {"shared.weight": (32128, width)}
    for n in range(layers):
        at = f"encoder.block.{n}.layer"
        out |= {f"{at}.0.SelfAttention.{p}.weight": (width, width) for p in "qkvo"}
        out |= {f"{at}.1.DenseReluDense.{name}.weight": (hidden, width) for name in ("wi_0", "wi_1")}
        out[f"{at}.1.DenseReluDense.wo.weight"] = (width, hidden)
    return {f"t5xxl.transformer.{key}": shape for key, shape in out.items()}


def sd15() -> dict[str, Shape]:
    return unet(320, (1, 2, 4, 4), (1, 1, 1, 0), 1, 768, linear=False) | text("clip_l.transformer.", 768, 12)


def sd2() -> dict[str, Shape]:
    return unet(320, (1, 2, 4, 4), (1, 1, 1, 0), 1, 1024) | text("clip_h.transformer.", 1024, 24)


def sdxl() -> dict[str, Shape]:
    return (
        unet(320, (1, 2, 4), (0, 2, 10), 10, 2048, label=2816)
        | text("clip_l.transformer.", 768, 12)
        | text("clip_g.transformer.", 1280, 32, 1280)
    )


def refiner() -> dict[str, Shape]:
    return unet(384, (1, 2, 4, 4), (0, 4, 4, 0), 4, 1280, label=2560) | text("clip_g.transformer.", 1280, 32, 1280)


def flux(width: int = 3072, double: int = 19, single: int = 38, context: int = 4096, mlp: int = 4) -> dict[str, Shape]:
    """Flux' keys and shapes, from black-forest-labs/flux model.py."""
    out: dict[str, Shape] = {
        "img_in.weight": (width, 64),
        "txt_in.weight": (width, context),
        "final_layer.linear.weight": (64, width),
        "final_layer.adaLN_modulation.1.weight": (2 * width, width),
    }
    for name, inner in (("time_in", 256), ("vector_in", 768), ("guidance_in", 256)):
        out |= {f"{name}.in_layer.weight": (width, inner), f"{name}.out_layer.weight": (width, width)}
    for n in range(double):
        for side in ("img", "txt"):
            at = f"double_blocks.{n}.{side}"
            out |= {
                f"{at}_mod.lin.weight": (6 * width, width),
                f"{at}_attn.qkv.weight": (3 * width, width),
                f"{at}_attn.proj.weight": (width, width),
                f"{at}_mlp.0.weight": (mlp * width, width),
                f"{at}_mlp.2.weight": (width, mlp * width),
            }
            out |= {f"{at}_attn.norm.{k}_norm.scale": (128,) for k in ("query", "key")}
    for n in range(single):
        at = f"single_blocks.{n}"
        out |= {
            f"{at}.linear1.weight": ((3 + mlp) * width, width),
            f"{at}.linear2.weight": (width, (1 + mlp) * width),
            f"{at}.modulation.lin.weight": (3 * width, width),
        }
        out |= {f"{at}.norm.{k}_norm.scale": (128,) for k in ("query", "key")}
    biases = {key[:-6] + "bias": shape[:1] for key, shape in out.items() if key.endswith("weight")}
    return {f"diffusion_model.{key}": shape for key, shape in (out | biases).items()}


def sd3(width: int = 1536, depth: int = 24, context: int = 4096) -> dict[str, Shape]:
    """SD 3's keys and shapes, from Stability's sd3-ref mmdit.py."""
    out: dict[str, Shape] = {
        "x_embedder.proj.weight": (width, 16, 2, 2),
        "context_embedder.weight": (width, context),
        "final_layer.linear.weight": (64, width),
        "final_layer.adaLN_modulation.1.weight": (2 * width, width),
    }
    for name, inner in (("t_embedder", 256), ("y_embedder", 2048)):
        out |= {f"{name}.mlp.0.weight": (width, inner), f"{name}.mlp.2.weight": (width, width)}
    for n in range(depth):
        for side in ("x", "context"):
            at, last = f"joint_blocks.{n}.{side}_block", side == "context" and n == depth - 1
            out |= {
                f"{at}.adaLN_modulation.1.weight": ((2 if last else 6) * width, width),
                f"{at}.attn.qkv.weight": (3 * width, width),
            }
            more = {
                f"{at}.attn.proj.weight": (width, width),
                f"{at}.mlp.fc1.weight": (4 * width, width),
                f"{at}.mlp.fc2.weight": (width, 4 * width),
            }
            out |= {} if last else more
    return {f"diffusion_model.{key}": shape for key, shape in out.items()}


def _with_biases(shapes: Shapes) -> dict[str, Shape]:
    """The same keys with the biases that the layers of UNets and CLIPs have."""
    biases = {
        key[:-6] + "bias": shape[:1]
        for key, shape in shapes.items()
        if key.endswith(".weight") and not key.endswith(_WITHOUT_BIAS)
    }
    return {**shapes, **biases}


def _flux_with_text() -> dict[str, Shape]:
    return flux() | _with_biases(text("clip_l.transformer.", 768, 12)) | t5()


def _sd3_with_text(width: int, depth: int) -> dict[str, Shape]:
    texts = text("clip_l.transformer.", 768, 12, 768) | text("clip_g.transformer.", 1280, 32, 1280)
    return _with_biases(sd3(width, depth) | texts) | t5()


PUBLISHED: dict[str, tuple[str, Callable[[], Shapes]]] = {  # the model: its family, its keys and shapes
    "SD 1": (SD1, lambda: _with_biases(sd15())),
    "SD 2": (SD2, lambda: _with_biases(sd2())),
    "SDXL": (SDXL, lambda: _with_biases(sdxl())),
    "SDXL refiner": (REFINER, lambda: _with_biases(refiner())),
    "Flux": (FLUX, _flux_with_text),
    "SD 3 medium": (SD3, lambda: _sd3_with_text(1536, 24)),
    "SD 3.5 large": (SD3, lambda: _sd3_with_text(2432, 38)),
}


def published_model(file: LoRAFile) -> tuple[str, Shapes] | None:
    """The published model that holds most of a file's modules, with its keys and shapes; None where none holds any.

    Of models that hold equally many, the model whose spellings are the file's own names is taken.
    """
    families, best = tell(file).families, (0, 0)
    chosen: tuple[str, Shapes] | None = None
    for model, (of_family, make) in PUBLISHED.items():
        if families and of_family not in families:
            continue
        shapes = make()
        found = match(file, shapes)
        if not found.found:
            continue
        names = spellings(shapes, file.dialect) if file.dialect in DIALECTS else {}
        own = sum(names.get(place) == module for place, module in found.modules.items())
        if (len(found.found), own) > best:
            best, chosen = (len(found.found), own), (model, shapes)
    return chosen


def model_for(file: LoRAFile) -> tuple[str, Shapes] | None:
    """A model that a file fits, with its keys and shapes: a published one, or the one that the file's own names imply.

    None where no family is known that has the names, or where several write them differently.
    """
    told, of_published = tell(file), {family for family, _ in PUBLISHED.values()}
    if not told.families or of_published & set(told.families):
        found = published_model(file)
        if found and (len(told.families) < 2 or not _homeless(file, found[1])):
            return found
    implied = implied_models(file)
    spelled = []
    for shapes in implied.values():
        names = spellings(shapes, "diffusers")
        spelled.append({(key, names.get(key)) for key, shape in shapes.items() if shape != UNSAID})
    return next(iter(implied.items())) if spelled and all(one == spelled[0] for one in spelled) else None


def _homeless(file: LoRAFile, shapes: Shapes) -> bool:
    found = match(file, shapes)
    return bool(found.homeless or found.misfit)
