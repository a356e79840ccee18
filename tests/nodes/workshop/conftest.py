"""The workshop's nodes with files in the models folder, and what they answer."""

import json
from types import SimpleNamespace

import pytest

from ...support.loras.shop import CONVOLUTION, KEY, QUERY, TEXT
from ...support.loras.shop_files import checkpoint, of_sdxl, written


@pytest.fixture
def shop(place):
    """`.loras`, `.checkpoints`: the folders. `.run(node, **inputs)`: the answer and its report. `.files()`: what was
    written.
    """
    loras, checkpoints = place.models / "loras", place.models / "checkpoints"
    written(loras / "a.safetensors", 0, **{"modelspec.trigger_phrase": "cat", "modelspec.title": "A"})
    written(loras / "b.safetensors", 50, "peft", **{"modelspec.trigger_phrase": "dog"})
    written(loras / "unet.safetensors", 100, places=(QUERY, CONVOLUTION))
    written(loras / "text.safetensors", 150, places=(TEXT,))
    written(loras / "key.safetensors", 200, places=(KEY,))  # whose inputs tell SD 1
    of_sdxl(loras / "sdxl.safetensors")
    checkpoint(checkpoints / "base.safetensors")
    written(checkpoints / "lora.safetensors", 0)

    def run(name, **inputs):
        node = place.node(name)
        answer = getattr(node, node.FUNCTION)(**inputs)
        return answer, json.loads(answer["ui"]["cvl_report"][0])

    def files():
        output = place.base / "output"
        return [path for path in output.rglob("*") if path.is_file()] if output.exists() else []

    return SimpleNamespace(loras=loras, checkpoints=checkpoints, run=run, files=files, place=place)
