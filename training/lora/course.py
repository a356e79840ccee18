"""The course of a LoRA training: the pictures, what each step makes of them, and the validation beside it.

What a step draws (which pictures, which words of their captions, levels, noise) depends on its number and the seed
alone, so that a training that was interrupted goes on to the same bits.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ...lora.weights.inject import resting, silenced
from ..device import drawn_from, on_the_cpu
from ..distributed import current_group
from ..loop import TrainingError
from ..state import step_generator
from .data.buckets import batch_at
from .data.captions import said, with_trigger, without_trigger
from .data.prompts import Encode, Prompts
from .levels import bands, draw_levels
from .objective import Examples, drawn_noise, kept_loss, losses_of
from .plan import LoRAPlan
from .trainee import Trainee, digest_of, networks_of

_VALIDATION_SEED = 0x5EED
NO_GRADIENT = (
    "no gradient comes through this MODEL, whose layers compute in a way that cannot be differentiated: load it in "
    "fp16, bf16, fp8 or GGUF, without compiled or fused kernels"
)


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture to learn from: its raw latent [1, C, ...] and mask [1, 1, ...] or None, on the CPU."""

    name: str
    latent: Tensor
    caption: str
    repeats: int = 1
    mask: Tensor | None = None


@dataclass(frozen=True)
class Measured:
    """The validation after a step: the loss of each noise band, from little noise to much."""

    step: int
    bands: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.bands) / len(self.bands)


class Course:
    """The pictures, their prompts and what a step makes of them."""

    def __init__(self, trainee: Trainee, pictures: Sequence[Picture], encode: Encode, plan: LoRAPlan):
        if not pictures:
            raise TrainingError("at least one picture was expected, and there is none: choose another folder")
        self.trainee, self.plan = trainee, plan
        self.held_out, self.pictures = _split(pictures, plan)
        self.prompts = Prompts(trainee, encode)
        self._of_text = {} if trainee.text is None else {"text_encoder": digest_of(trainee.text.network)}
        latents = on_the_cpu([trainee.to_model(picture.latent) for picture in pictures])
        self.latents = {picture.name: latent for picture, latent in zip(pictures, latents)}
        self.order = [number for number, picture in enumerate(self.pictures) for _ in range(picture.repeats)]
        self.groups = [tuple(self.pictures[number].latent.shape[1:]) for number in self.order]

    def loss(self, number: int, generator: Generator) -> Tensor:
        """The loss of the batch of this number, with gradients; of several processes the share of this one.

        Each process draws what the whole batch draws, and computes its own pictures: the k-th of all goes to the
        process k modulo their number.
        """
        plan, group = self.plan, current_group()
        rows = batch_at(number, self.groups, plan.batch, plan.seed)
        some = [self.pictures[self.order[row]] for row in rows]
        texts = [said(picture.caption, plan.captions, generator) for picture in some]
        level = draw_levels(self.trainee.levels, len(some), generator, plan.levels)
        noise = drawn_noise(torch.cat([self.latents[picture.name] for picture in some]), generator)
        own = [place for place in range(len(some)) if (number * plan.batch + place) % group.size == group.rank]
        if not own:
            return torch.zeros(())
        level, noise = level[own].to(self.trainee.device), noise[own].to(self.trainee.device)
        with self._dropping(generator):
            examples = self._examples([some[place] for place in own], [texts[place] for place in own])
            loss = losses_of(self.trainee, examples, level, noise, plan.weighting).sum() / len(some)
            if not loss.requires_grad:
                raise TrainingError(NO_GRADIENT)
            if not plan.keep:
                return loss
            kept = self._kept(examples, [texts[place] for place in own], level, noise)
            return loss + plan.keep * kept / len(some)

    def _dropping(self, generator: Generator) -> AbstractContextManager:
        """Let dropout depend on the step alone."""
        if not self.plan.dropout:
            return nullcontext()
        return drawn_from(int(torch.randint(2**62, (), generator=generator)), self.trainee.device)

    def _kept(self, examples: Examples, texts: Sequence[str], level: Tensor, noise: Tensor) -> Tensor:
        """How far the answers to the class word, in the trigger's place, have moved from the base's own (by its own
        text encoder), on the same noisy latents.
        """
        trigger, word = self.plan.captions.trigger, self.plan.class_word
        without = [without_trigger(text, trigger, word) for text in texts]
        latents = examples.latent.split(1)
        noisy = self.trainee.noised(level, noise, examples.latent)
        with torch.no_grad(), silenced(self.trainee.network):
            base = self.trainee.denoised(noisy, level, self.prompts.of_base(without, latents))
        guess = self.trainee.denoised(noisy, level, self.prompts.of(without, latents))
        return kept_loss(self.trainee, guess, base, level, self.plan.weighting).sum()

    def _examples(self, some: Sequence[Picture], texts: Sequence[str]) -> Examples:
        latent = torch.cat([self.latents[picture.name] for picture in some]).to(self.trainee.device)
        prompts = self.prompts.of(texts, latent.split(1))
        masks = [picture.mask for picture in some]
        mask = None
        if any(one is not None for one in masks):
            whole = torch.ones_like(self.latents[some[0].name][:, :1])
            mask = torch.cat([whole if one is None else one for one in masks]).to(self.trainee.device)
        return Examples(latent, prompts, mask)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Have the model, and its text encoder, as they are used: without dropout and without gradients."""
        with ExitStack() as stack:
            for network in networks_of(self.trainee):
                stack.enter_context(resting(network))
            yield

    def fixed_noise(self) -> Tensor:
        """The noise that samples are drawn from, always the same, of the first picture's size. [1, C, ...]"""
        generator = step_generator(_VALIDATION_SEED, 1)
        return drawn_noise(self.latents[self.pictures[0].name], generator).to(self.trainee.device)

    def measure(self, step: int) -> Measured:
        """The loss on the held-out pictures, or without any on those trained on: always the same levels and noise."""
        some = self.held_out or self.pictures[: 2 * self.plan.batch]
        levels = bands(self.trainee.levels)
        generator = step_generator(_VALIDATION_SEED, 0)
        sums = torch.zeros(len(levels), dtype=torch.float64)
        with self.resting():
            for picture in some:
                examples = self._examples([picture], [with_trigger(picture.caption, self.plan.captions.trigger)])
                for band, level in enumerate(levels):
                    noise = drawn_noise(examples.latent, generator)
                    at = level[None].to(self.trainee.device)
                    sums[band] += losses_of(self.trainee, examples, at, noise).double().sum().cpu()
        return Measured(step, tuple((sums / len(some)).tolist()))

    def facts(self) -> dict[str, str]:
        """The data, for the checkpoint: names, captions and a sum of the latents; and of a text encoder that learns."""
        digest = hashlib.sha256()
        for picture in (*self.pictures, *self.held_out):
            digest.update(f"{picture.name}\0{picture.caption}\0{picture.repeats}\0".encode())
            digest.update(self.latents[picture.name].numpy().tobytes())
        return {
            "data": digest.hexdigest()[:16],
            "pictures": str(len(self.pictures)),
            "held_out": str(len(self.held_out)),
            **self._of_text,
        }

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for picture in self.pictures:
            size = " x ".join(map(str, reversed(picture.latent.shape[-2:])))
            found[size] = found.get(size, 0) + 1
        return found


def _split(pictures: Sequence[Picture], plan: LoRAPlan) -> tuple[list[Picture], list[Picture]]:
    """The held-out pictures and the others; at least one stays to be trained on."""
    count = min(len(pictures) - 1, round(len(pictures) * plan.held_out))
    if count < 1:
        return [], list(pictures)
    order = torch.randperm(len(pictures), generator=Generator().manual_seed(plan.seed + 1)).tolist()
    out = set(order[:count])
    return [pictures[n] for n in sorted(out)], [picture for n, picture in enumerate(pictures) if n not in out]
