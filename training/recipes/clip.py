"""The bundled CLIP: tiny, with the whole vocabulary, trained on drawn scenes and captions made from the same facts.

Captions name random parts of the facts, which is what makes the model learn words rather than whole captions; a pair
of a picture and a caption of another picture that happens to be true counts neither as right nor as wrong (`fits`).
The contrastive loss alone learns colours within a hundred steps and then stands still for a thousand: shapes have no
pull on the pictures before the texts tell them apart, nor on the texts before the pictures do. So beside it one linear
layer, thrown away in the end, reads the facts off the features of pictures and of captions alike.
The token table stays random, rounded to 8 bits: a table of 49,408 rows for sixty words to learn needs no training, and
any other word a user types still has a vector of its own.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn import Parameter
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...clip_core.config import CLIPConfig, TextConfig, VisionConfig
from ...clip_core.networks.clip import CLIP, initialise_
from ...clip_core.tokenizer import Tokenizer
from ...files.tensors import open_tensors
from ..device import products_in, sent
from ..loop import Checkpoint, OnStep, TrainingPlan, fit, trainable
from ..losses import contrastive_loss, fact_loss
from ..scenes.captions import Captions, fits, write_captions
from ..scenes.drawing import draw, without_colour
from ..scenes.scene import FACT_SIZES, FACTS, random_scenes
from ..scores import device_of, normalise, tokens

CONFIG = CLIPConfig(
    text=TextConfig(width=64, layers=2, heads=1, mlp=256, embed=64),
    vision=VisionConfig(width=128, layers=4, heads=2, mlp=512, patch_px=8, image_px=48, embed=64),
)
PLAN = TrainingPlan(steps=5000, seed=1, lr=1e-3, weight_decay=0.1, warm_up=100, average=0.998)
BATCH = 64
FACTS_WEIGHT = 1.0
TABLE = "text_model.embeddings.token_embedding.weight"
TABLE_DTYPE = torch.float8_e4m3fn
_LOUDER = 16.0  # 8-bit floats hold values around 0.3 to 6 %, but those around 0.02 only to 10 % and worse


def new_clip(seed: int, config: CLIPConfig = CONFIG) -> CLIP:
    """An untrained model whose token table is frozen, at values that 8 bits hold exactly; the caller's random state is
    left alone.
    """
    with trainable(), torch.random.fork_rng(devices=[]):
        model = initialise_(CLIP(config), seed)
        with torch.no_grad():
            embeddings = model.text_model.embeddings
            embeddings.position_embedding.weight.mul_(_LOUDER)
            table = embeddings.token_embedding.weight
            table.copy_((table * _LOUDER).to(TABLE_DTYPE))
            positions = model.get_parameter("vision_model.embeddings.position_embedding.weight")
            positions[1:] = grid_waves(config.vision.grid, config.vision.width)
        table.requires_grad_(False)
    return model


def grid_waves(grid: int, width: int) -> Tensor:
    """Where each patch is, as sines and cosines of its row and column: a start from which shapes are learned much
    sooner than from random positions (Beyer et al., arXiv 2205.01580). [grid * grid, width]
    """
    rate = torch.exp(torch.arange(width // 4) / (width // 4) * -math.log(2 * grid))
    line = torch.arange(grid)[:, None] * rate * 2  # [grid, width / 4], radians, 2 and less from patch to patch
    waves = torch.cat([line.sin(), line.cos()], dim=1)  # [grid, width / 2]
    down = waves[:, None].expand(-1, grid, -1)
    across = waves[None].expand(grid, -1, -1)
    return torch.cat([down, across], dim=2).flatten(0, 1)


def trained_parameters(model: CLIP) -> dict[str, Parameter]:
    """Return all parameters but the token table."""
    return {name: parameter for name, parameter in model.named_parameters() if name != TABLE}


def train_clip(
    plan: TrainingPlan = PLAN,
    *,
    batch: int = BATCH,
    precision: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    on_step: OnStep | None = None,
    checkpoint: Checkpoint | None = None,
) -> CLIP:
    """Train the bundled CLIP on `device`, where it stays; `precision` is that of the matrix products, the weights
    themselves are float32. Batches are drawn on the CPU: every device sees the same.
    """
    model, tokenizer = new_clip(plan.seed).to(device), Tokenizer()
    head = new_fact_head(model.config.text.embed, plan.seed).to(device)

    def step_loss(step: int, generator: Generator) -> Tensor:
        drawn = draw_batch(model, tokenizer, batch, generator, grey=grey_share(step / plan.steps))
        return batch_loss(model, head, drawn, *features(model, drawn, precision))

    parameters = trained_parameters(model) | {f"head.{name}": weight for name, weight in head.named_parameters()}
    with attention_at_few_tokens(torch.device(device)):
        fit(step_loss, parameters, plan, on_step=on_step, checkpoint=checkpoint)
    return model


def attention_at_few_tokens(device: torch.device) -> AbstractContextManager:
    """On a CPU separate products, twice as fast there as the fused kernel's backward pass at so few tokens."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def new_fact_head(embed: int, seed: int) -> nn.Linear:
    """Reads all facts off normalised features."""
    with trainable(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(embed, sum(FACT_SIZES))


def grey_share(done: float) -> float:
    """Share of the pictures without colour: all in the first fifth of the training, falling to a quarter by half.

    A model that knows colours before shapes learns which shape never comes in red, and goes on to deny red triangles
    when it knows triangles well. One that knows shapes first has no use for that.
    """
    return min(1.0, max(0.25, 1.0 - (done - 0.2) / 0.3 * 0.75))


@dataclass(frozen=True)
class Batch:
    """Pictures with a caption each, and their facts: on the model's device, but for the captions."""

    pixels: Tensor  # [B, 3, S, S], normalised
    ids: Tensor  # [B, T]
    captions: Captions  # on the CPU
    facts: Tensor  # [B, 8]
    shown: Tensor  # [B, 8] bool, the facts that the pictures show
    named: Tensor  # [B, 8] bool, the facts that the captions name
    fits: Tensor  # [B, B] bool, caption j is true of picture i


def draw_batch(
    model: CLIP, tokenizer: Tokenizer, size: int, generator: Generator, *, grey: float, textures: tuple[int, ...] = (0,)
) -> Batch:
    """A fresh batch for `model`, drawn on the CPU and sent to its device.

    Args:
        grey: share of the pictures without colour, 0..1; their captions do not speak of it.
        textures: indices into TEXTURES; captions speak of them where there is more than one.
    """
    scenes = random_scenes(size, generator, textures=textures)
    colourless = torch.rand(size, generator=generator) < grey
    captions = write_captions(scenes, generator, textures=len(textures) > 1, colourless=colourless)
    pictures = draw(scenes, model.config.vision.image_px, generator)
    pictures[colourless] = without_colour(pictures[colourless], generator)
    shown = torch.ones_like(captions.named)
    shown[:, FACTS.index("colour")] = ~colourless
    facts = scenes.table()
    drawn = (
        normalise(pictures, model),
        tokens(tokenizer, captions.texts),
        facts,
        shown,
        captions.named,
        fits(captions, facts, shown),
    )
    pixels, ids, *table = (sent(values, device_of(model)) for values in drawn)
    return Batch(pixels, ids, captions, *table)


def features(model: CLIP, batch: Batch, precision: torch.dtype) -> tuple[Tensor, Tensor]:
    """Encode the pictures and the captions, in float32. [B, E] twice"""
    with products_in(precision, batch.pixels.device):
        return model.image_features(batch.pixels).float(), model.text_features(batch.ids).float()


def batch_loss(
    model: CLIP, head: nn.Linear, batch: Batch, images: Tensor, texts: Tensor, read: tuple[str, ...] = FACTS
) -> Tensor:
    """The contrastive loss of a batch plus that of reading the facts named in `read` off both features."""
    wanted = sent(torch.tensor([name in read for name in FACTS]), images.device)
    facts = _read_off(head, images, batch.facts, batch.shown & wanted) + _read_off(
        head, texts, batch.facts, batch.named & wanted
    )
    return contrastive_loss(images, texts, model.logit_scale, batch.fits) + FACTS_WEIGHT * facts


def _read_off(head: nn.Linear, rows: Tensor, table: Tensor, named: Tensor) -> Tensor:
    """The loss of reading the facts off features brought to a mean square of 1."""
    even = nn.functional.normalize(rows, dim=-1) * rows.shape[-1] ** 0.5
    return fact_loss(head(even), table, FACT_SIZES, named)


def stored_clip(model: CLIP) -> dict[str, Tensor]:
    """The tensors of the file: Hugging Face's names, 16 bits, the token table 8."""
    return {
        name: tensor.detach().to(TABLE_DTYPE if name == TABLE else torch.float16)
        for name, tensor in model.state_dict().items()
    }


def read_clip(path: Path, config: CLIPConfig = CONFIG) -> CLIP:
    """The model as stored, in float32."""
    model = new_clip(0, config)
    with open_tensors(path) as file:
        model.load_state_dict(file.read(file.shapes, dtype=torch.float32))
    return model.eval()
