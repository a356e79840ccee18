"""Lists of keys and shapes of published LoRAs, against models of full size: every module whose shape a model has.

Needs a real ComfyUI in COMFYUI_PATH, and in LORA_KEY_LISTS a folder of Python files that each assign one dict of key ->
shape, named after the family: InvokeAI's tests/backend/patches/lora_conversions/lora_state_dicts is one.
"""

import ast
import importlib
import json
import os
from pathlib import Path

import pytest
import torch

from ...support.matrix import models, pairs, texts
from ...support.matrix.families import TABLE, Family

FOLDER = os.environ.get("LORA_KEY_LISTS")
LISTS = sorted(Path(FOLDER).glob("*_format.py")) if FOLDER else []
pytestmark = pytest.mark.skipif(not LISTS, reason="needs key lists: set LORA_KEY_LISTS to their folder")


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """The tensors that a file lists, all of one number, which takes no memory."""
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    listed = next(node.value for node in statements if isinstance(node, ast.Assign | ast.AnnAssign))
    return {key: torch.full((), 0.5).expand(shape) for key, shape in ast.literal_eval(listed).items()}


@pytest.fixture(scope="module")
def full(comfyui):
    """Family -> the model and the CLIP in their published sizes, where this ComfyUI has them."""
    encoders = {family.name: family for family in texts.TEXT_FAMILIES}
    built = {}
    for entry in json.loads(TABLE.with_name("lora_full_sizes.json").read_text(encoding="utf-8")):
        encoder = encoders[entry.pop("texts")]
        if (patcher := models.model(Family(**entry))) is not None:
            built[entry["name"]] = patcher, texts.clip(encoder)
    return built


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_a_published_file_is_placed_whole_where_its_shapes_fit(comfyui, full, path):
    name = path.stem.split("_")[0]
    if name not in full:
        pytest.skip(f"this ComfyUI has no {name}")
    module = importlib.import_module
    file = module(f"{comfyui.ours.__name__}.lora.formats.read").read(tensors_of(path))
    matching = module(f"{comfyui.ours.__name__}.lora.models.match")
    patches = module(f"{comfyui.ours.__name__}.nodes.host.comfyui.patches")
    found, homeless, misfit, theirs = set(), set(file.adapters), {}, set()
    for target in full[name]:
        if target is None:
            continue
        match = matching.match(file, patches.weights(target))
        found |= set(match.found)
        homeless &= set(match.homeless)
        misfit |= match.misfit
        theirs |= places(pairs.stock(target, tensors_of(path)))
    ours = {(place, None) if isinstance(place, str) else (place.key, tuple(place.rows)) for place in found}
    unfit = {why.partition(":")[0] for why in misfit.values()}
    lost = {place for place in theirs - ours if place[0] not in unfit}
    report = f"{len(file.adapters)} modules: {len(ours)} places of ours, {len(theirs)} of the stock loader's, "
    report += f"{len(homeless)} without a place, {len(misfit)} of another shape"
    assert not lost and not homeless and not file.unread, f"{report}; {sorted(lost)[:2]} {sorted(homeless)[:2]}"


def places(patcher) -> set:
    """The places that a patcher's patches change."""
    return {(key, patch[3] and tuple(patch[3])) for key, several in patcher.patches.items() for patch in several}
