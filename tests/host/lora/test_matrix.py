"""LoRAs of every family in every dialect: never less than the stock loader, and nothing of another family in part.

Needs a real ComfyUI: set COMFYUI_PATH to its folder. `python -m tests.support.matrix.run` prints the same as a table.
"""

import importlib

import pytest

from ...support.matrix import crossing, models, table, texts, whole
from ...support.matrix.families import FAMILIES


@pytest.fixture(scope="module")
def application(comfyui):
    return importlib.import_module(f"{comfyui.ours.__name__}.nodes.lora.application")


def lines(found) -> list[str]:
    return [table.line(pair) for pair in found]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_model_gets_all_that_the_stock_loader_gives_it_and_in_the_right_place(application, family, tmp_path):
    found = whole.of_family(application, family, tmp_path)
    if not found:
        pytest.skip(f"this ComfyUI has no {family.host}")
    assert any(pair.ours for pair in found)
    assert not lines(pair for pair in found if pair.verdict in ("worse", "values"))


@pytest.mark.parametrize("family", texts.TEXT_FAMILIES, ids=lambda family: family.name)
def test_a_text_encoder_gets_all_that_the_stock_loader_gives_it(application, family, tmp_path):
    found = whole.of_text_family(application, family, tmp_path)
    if not found:
        pytest.skip(f"this ComfyUI has no {family.host}")
    assert any(pair.ours for pair in found)
    assert not lines(pair for pair in found if pair.verdict in ("worse", "values"))


@pytest.fixture(scope="module")
def built(comfyui):
    return {family.name: (family, patcher) for family in FAMILIES if (patcher := models.model(family))}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_no_model_of_another_family_takes_a_part_of_a_file(application, built, family, tmp_path):
    if family.name not in built:
        pytest.skip(f"this ComfyUI has no {family.host}")
    assert not [one for one in crossing.crossings(application, built, family.name, tmp_path) if one.in_part]
