"""Every node in a real ComfyUI whose models lie on a card that is not there, with inputs as nodes get them."""

from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch

from ..support.calls import DRAWN, Calls, tensors_of, write_files
from ..support.cards.card import card

NEAR = {"rtol": 1e-3, "atol": 1e-3}  # attention in separate products, and the host's own casts


@pytest.fixture(scope="module")
def nodes(comfyui):
    import folder_paths

    inputs = comfyui.base / "input"
    write_files(comfyui.models, inputs)
    folder_paths.set_input_directory(str(inputs))
    return comfyui.nodes, inputs


def calls_of(nodes) -> Calls:
    return Calls(lambda name: nodes[0][name](), nodes[1])


def managed(stack: ExitStack, free_bytes: int = 22_000_000_000):
    """The host's management told that there is a card."""
    import comfy.model_management as management

    cost = stack.enter_context(card(free_bytes=free_bytes))
    there = torch.device("cuda", 0)
    for name in ("get_torch_device", "vae_device", "text_encoder_device"):
        stack.enter_context(patch.object(management, name, lambda *_, **__: there))
    stack.enter_context(patch.object(management, "cpu_state", management.CPUState.GPU))
    stack.enter_context(patch.object(management, "vram_state", management.VRAMState.NORMAL_VRAM))
    stack.enter_context(
        patch.object(
            management,
            "get_free_memory",
            lambda device=None, torch_free_too=False: (free_bytes, free_bytes) if torch_free_too else free_bytes,
        )
    )
    stack.enter_context(patch.object(management, "current_loaded_models", []))
    return cost


NEEDS_BACKWARD = ("TrainLoRA", "TrainCLIP")  # which the pretended card does not have
NAMES = [name for name in vars(Calls) if name[0].isupper() and name not in NEEDS_BACKWARD]


@pytest.mark.parametrize("name", NAMES)
def test_a_node_mixes_no_devices_and_gives_the_cpus_numbers_on_the_cpu(name, nodes):
    with torch.inference_mode():
        expected = tensors_of(calls_of(nodes)(name)["result"])
        with ExitStack() as stack:
            managed(stack)
            found = tensors_of(calls_of(nodes)(name)["result"])
            assert [tensor.device.type for tensor in found] == ["cpu"] * len(expected)
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, **DRAWN.get(name, NEAR))
