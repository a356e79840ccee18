"""Whole CLIPs of OpenAI's structure in a TorchScript archive, its tensors in OpenAI's precisions, to features."""

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint.find import find_clip
from clip_vae_lora.clip_core.config import to_metadata
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.files.tensors import open_tensors

from ...support.files.archives import write_archive

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")


@pytest.mark.parametrize("size", ["ViT-B-32", "ViT-L-14-336", "RN50", "RN50x4"])
def test_an_archive_gives_the_features_of_the_network_it_was_made_of(networks, tmp_path, size):
    pytest.importorskip("open_clip")
    config = networks.tiny(size)
    theirs = networks.open_clip_model(config)
    stored = {  # openai/CLIP clip/model.py `convert_weights`: convolutions, linear layers and projections are halves
        name: tensor.half() if tensor.ndim > 1 and "embedding" not in name else tensor
        for name, tensor in theirs.state_dict().items()
    }
    theirs.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    with open_tensors(write_archive(tmp_path / "a.pt", stored)) as file:
        source = find_clip(file.shapes, to_metadata(config))  # shapes do not tell the tiny ones' heads
        ours = CLIP(source.config).eval()
        ours.load_state_dict(source.translate(file.read(source.names)))
    assert (source.layout, source.notes) == ("openai", ())
    ids, pixels = networks.ids(), networks.pixels(config)
    with torch.no_grad():
        for found, expected in (
            (ours.text_features(ids), theirs.encode_text(ids)),
            (ours.image_features(pixels), theirs.encode_image(pixels)),
        ):
            length = expected.norm(dim=-1, keepdim=True)
            torch.testing.assert_close(found / length, expected / length, atol=1e-5, rtol=1e-5)  # float32 rounding
