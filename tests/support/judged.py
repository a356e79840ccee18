"""The bundled CLIP on drawn shapes, for the tests of the nodes that judge pictures."""

import torch

from clip_vae_lora.clip_core.features.preprocess import preprocess
from clip_vae_lora.clip_core.tokenizer import Tokenizer
from clip_vae_lora.files.images import read_image
from clip_vae_lora.nodes.image import EXAMPLES, EXAMPLES_FOLDER

ROUNDING = 2e-6  # six digits printed, and float32 sums in another order
CIRCLE, STAR, HEART = range(3)


def drawn_shapes():
    """[3, 256, 256, 3]: a red circle, a blue star, a striped green heart."""
    files = [EXAMPLES[name] for name in ("red circle", "blue star", "striped heart")]
    return torch.cat([read_image(EXAMPLES_FOLDER / file)[0] for file in files])


def cosines(model, image, texts):
    """By the network's own functions, one picture at a time."""
    network = model.network
    with torch.no_grad():
        words = network.text_features(Tokenizer().batch(texts, context=network.config.text.context)[0]).double()
        vision = network.config
        seen = [
            network.image_features(preprocess(one[None], vision.vision.image_px, vision.mean, vision.std)).double()
            for one in image
        ]
    return torch.nn.functional.cosine_similarity(torch.cat(seen)[:, None], words[None], dim=-1)
