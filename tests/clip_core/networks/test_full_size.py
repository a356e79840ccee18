"""Two CLIPs in full size, with seeded random weights, against open_clip in float32."""

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint.find import find_clip
from clip_vae_lora.clip_core.config import PUBLISHED
from clip_vae_lora.clip_core.networks.layers import UNFILLED


@pytest.mark.slow
@pytest.mark.parametrize("size", ["RN50", "ViT-B-32"])
def test_the_features_are_those_of_open_clip(networks, size):
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    theirs = open_clip.create_model(f"{size}-quickgelu", load_weights=False)
    config = PUBLISHED[size]
    if size == "RN50":
        _as_trained_(theirs.visual, networks.pixels(config))
    state = theirs.eval().state_dict()
    source = find_clip(networks.shapes(state), activation="quick_gelu")
    assert source.config == config
    ours = source.build(UNFILLED).eval()
    ours.load_state_dict(source.translate(state))
    ids, pixels = networks.ids(), networks.pixels(config)
    with torch.no_grad():
        for found, expected in (
            (ours.text_features(ids), theirs.encode_text(ids)),
            (ours.image_features(pixels), theirs.encode_image(pixels)),
        ):
            length = expected.norm(dim=-1, keepdim=True)
            torch.testing.assert_close(found / length, expected / length, atol=1e-5, rtol=0)  # float32 rounding


def _as_trained_(resnet: torch.nn.Module, pixels: torch.Tensor) -> None:
    """The statistics of some pictures in the norms, and blocks that add a part of what passes them: open_clip's fresh
    ones add nothing, and ones that add all make rounding errors grow from block to block.
    """
    with torch.no_grad():
        for name, module in resnet.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
                module.weight.uniform_(0.5, 1.5).mul_(0.3 if name.endswith("bn3") else 1.0)
                module.bias.normal_(0, 0.1)
        resnet.train()(pixels)
