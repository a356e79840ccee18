"""Pictures, masks and latents in 16 bits on the CPU, as ComfyUI's --fp16-intermediates hands them round."""

import pytest
import torch

from ..device.conftest import calls  # noqa: F401  the fixture
from ..support.calls import latent, mask, pictures, tensors_of

HALVES = [torch.float16, torch.bfloat16]
ERROR = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}  # of values in 0..1: two roundings of 11 and of 8 bits


def half_of(values, dtype):
    if isinstance(values, dict):
        return {name: half_of(value, dtype) for name, value in values.items()}
    return values.to(dtype)


PICTURES = [
    "ZeroShotClassify",
    "VAEEncode",
    "CompareImages",
    "VAEEncodeInpaint",
    "CompositeInpaint",
    "LatentDistribution",
    "EncodeImage",
    "IndexFolder",
    "SearchImages",
    "ImageTextSimilarity",
    "RankImages",
    "ImageGate",
    "VisualQuestion",
    "RankTags",
]
LATENTS = ["VAEDecode", "LatentInterpolate", "SelectLatents"]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", PICTURES + LATENTS)
def test_a_node_takes_halves_on_the_cpu(name, dtype, calls, monkeypatch):  # noqa: F811
    from ..support import calls as module

    for maker in (pictures, latent, mask):
        monkeypatch.setattr(module, maker.__name__, lambda *a, _maker=maker, **k: half_of(_maker(*a, **k), dtype))
    for tensor in tensors_of(calls(name)["result"]):
        assert tensor.device.type == "cpu" and tensor.isfinite().all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("side", [24, 48])
def test_an_inpainted_half_of_another_size_is_scaled_as_its_float32(dtype, side, calls):  # noqa: F811
    node = calls.node("CVL_CompositeInpaint")
    original, inpainted = pictures(1, 32), pictures(1, side, seed=1)
    wanted = node.composite(original, inpainted, torch.ones(1, 32, 32))["result"][0]
    found = node.composite(original.to(dtype), inpainted.to(dtype), torch.ones(1, 32, 32))["result"][0]
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=ERROR[dtype])
