"""Held-out scores: what training, tests and the README all report. Pictures are drawn anew from the seed given."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ..clip_core.features.texts import text_features
from ..clip_core.judging.ranking import similarity
from ..clip_core.networks.clip import CLIP
from ..clip_core.tokenizer import Tokenizer
from .device import sent
from .scenes.captions import describe
from .scenes.drawing import draw
from .scenes.scene import (
    BACKGROUNDS,
    COLOURS,
    COUNTS,
    HELD_OUT,
    PAIRS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scenes,
    pair_label,
    random_scenes,
)

TEMPLATE = "a photo of a {}"
_BATCH = 256


def normalise(pictures: Tensor, model: CLIP) -> Tensor:
    """Pictures in 0..1 as the model's pixels. [B, 3, S, S] -> [B, 3, S, S]"""
    numbers = (torch.tensor(values)[:, None, None] for values in (model.config.mean, model.config.std))
    mean, std = (sent(values, pictures.device) for values in numbers)
    return (pictures - mean) / std


def device_of(model: CLIP) -> torch.device:
    """Return the device of the model's weights, on which it computes."""
    return model.logit_scale.device


def picture_features(model: CLIP, pictures: Tensor) -> Tensor:
    """Encode pictures in batches on the model's device. [B, 3, S, S] in 0..1 -> [B, E]"""
    device = device_of(model)
    return torch.cat([model.image_features(normalise(sent(part, device), model)) for part in pictures.split(_BATCH)])


def caption_features(model: CLIP, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Encode captions in one pass on the model's device. [N, E]"""
    return model.text_features(sent(tokens(tokenizer, texts), device_of(model)))


def tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Ids, cut after the longest text: what follows the end token has no influence on it. [N, T]"""
    rows = [tokenizer.encode(text) for text in texts]
    return tokenizer.batch(texts, context=min(77, max(len(row) for row in rows) + 2))[0]


def choose(model: CLIP, tokenizer: Tokenizer, pictures: Tensor, texts: Sequence[str]) -> Tensor:
    """Zero-shot: the text with the largest cosine for each picture. [B, 3, S, S] -> [B] on the CPU"""
    with torch.inference_mode():
        texts_there = caption_features(model, tokenizer, texts)
        return similarity(picture_features(model, pictures), texts_there).argmax(dim=1).cpu()


def accuracy(model: CLIP, tokenizer: Tokenizer, pictures: Tensor, texts: Sequence[str], truth: Tensor) -> float:
    """Share of the pictures whose chosen text is the true one, 0..1."""
    return float((choose(model, tokenizer, pictures, texts) == truth).double().mean())


def pair_texts() -> list[str]:
    """One text for each (shape, colour), in the order of PAIRS."""
    return [TEMPLATE.format(pair_label(pair)) for pair in PAIRS]


def pair_index(scenes: Scenes) -> Tensor:
    """Where each scene's (shape, colour) stands in PAIRS. [B]"""
    return scenes.shape * len(COLOURS) + scenes.colour


def pair_score(model: CLIP, tokenizer: Tokenizer, scenes: Scenes, pictures: Tensor) -> float:
    """Zero-shot 1 of all (shape, colour) pairs, the never trained ones among the candidates, 0..1."""
    return accuracy(model, tokenizer, pictures, pair_texts(), pair_index(scenes))


def clip_scores(model: CLIP, tokenizer: Tokenizer, seed: int, count: int = 1000) -> dict[str, float]:
    """All the zero-shot scores of a CLIP on `count` fresh pictures for each of trained and never trained pairs, 0..1.

    `trained pairs` and `never trained pairs` are 1 of 90; the others 1 of the fact's values, on trained pairs.
    """
    generator = Generator().manual_seed(seed)
    side = model.config.vision.image_px
    scenes = random_scenes(count, generator)
    pictures = draw(scenes, side, generator)
    unseen = random_scenes(count, generator, HELD_OUT)
    unseen_pictures = draw(unseen, side, generator)
    texts = {
        "shape": [TEMPLATE.format(name) for name in SHAPES],
        "colour": [TEMPLATE.format(f"{name} shape") for name in COLOURS],
        "background": [f"a photo of a shape on a {name} background" for name in BACKGROUNDS],
        "size": [f"a photo of a {name} shape" for name in SIZES],
        "count": ["a photo of a shape", *(f"a photo of {name} shapes" for name in COUNTS[1:])],
    }
    scores = {
        "trained pairs": pair_score(model, tokenizer, scenes, pictures),
        "never trained pairs": pair_score(model, tokenizer, unseen, unseen_pictures),
    }
    for fact, lines in texts.items():
        scores[fact] = accuracy(model, tokenizer, pictures, lines, getattr(scenes, fact))
    for fact in ("shape", "colour"):
        scores[f"{fact}, never trained pairs"] = accuracy(
            model, tokenizer, unseen_pictures, texts[fact], getattr(unseen, fact)
        )
    return scores


def recall_scores(model: CLIP, tokenizer: Tokenizer, seed: int, count: int = 200) -> dict[str, float]:
    """Recall@1 both ways among `count` fresh pictures and their captions, which name all there is: the share that finds
    its own among all, 0..1. Two scenes may be described alike; whichever of them comes second is counted as missed.
    """
    generator = Generator().manual_seed(seed)
    scenes = random_scenes(count, generator)
    pictures, texts = draw(scenes, model.config.vision.image_px, generator), describe(scenes)
    with torch.inference_mode():
        images = picture_features(model, pictures).cpu()
        cosine = similarity(images, text_features(model, tokenizer, texts).features)  # [pictures, captions]
    own = torch.arange(count)
    hits = {"picture to text": cosine.argmax(1) == own, "text to picture": cosine.argmax(0) == own}
    return {way: float(each.double().mean()) for way, each in hits.items()}


def texture_score(model: CLIP, tokenizer: Tokenizer, seed: int, count: int = 1000) -> float:
    """ "a striped red circle" against "a plain red circle", half of the pictures each, all pairs: 0..1, chance 0.5."""
    generator = Generator().manual_seed(seed)
    scenes = random_scenes(count, generator, PAIRS, textures=(0, 1))
    pictures = draw(scenes, model.config.vision.image_px, generator)
    with torch.inference_mode():
        images = picture_features(model, pictures)
        names = [pair_label(pair) for pair in PAIRS]
        said = [[f"a photo of a {texture} {name}" for name in names] for texture in TEXTURES[:2]]
        both = torch.stack([similarity(images, caption_features(model, tokenizer, texts)) for texts in said])
        cosines = both.cpu()  # [2, B, pairs]
    own = cosines[:, torch.arange(count), pair_index(scenes)]  # [2, B]
    return float((own.argmax(dim=0) == scenes.texture).double().mean())
