"""Errors leave a node as kinds that everybody knows, with their sentence and the way they came."""

import traceback

import pytest
import torch

from clip_vae_lora import nodes
from clip_vae_lora.clip_core.prompts.dialects import PromptError
from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.nodes.host.shared.device_errors import DeviceFullError, DeviceLostError
from clip_vae_lora.nodes.reports import at_the_edge, known_kind


def raising(error: Exception) -> type:
    class Node:
        FUNCTION = "run"

        def run(self, value=1):
            deep(error)

    return Node


def deep(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PromptError("a weight was expected"), ValueError),
        (DeviceLostError("the card gave up"), RuntimeError),
        (DeviceFullError("memory ran out"), known_kind(DeviceFullError)),
        (KeyError("x"), KeyError),
        (FileNotFoundError(2, "gone"), FileNotFoundError),
    ],
)
def test_an_error_leaves_as_the_nearest_kind_that_is_not_ours(error, kind):
    with pytest.raises(kind) as raised:
        at_the_edge(raising(error))().run()
    assert type(raised.value) is kind and str(raised.value) == str(error)
    assert [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)][-1] == "deep"


def test_memory_that_ran_out_stays_the_kind_at_which_the_host_unloads_its_models():
    assert known_kind(DeviceFullError) in (getattr(torch, "OutOfMemoryError", None), torch.cuda.OutOfMemoryError)


def test_what_was_the_cause_stays_the_cause(tmp_path):
    error = FileFormatError(tmp_path / "x", "damaged")
    error.__cause__ = OSError("disk")
    with pytest.raises(ValueError, match="damaged") as raised:
        at_the_edge(raising(error))().run()
    assert raised.value.__cause__ is error.__cause__


@pytest.mark.parametrize("name", nodes.NODE_CLASS_MAPPINGS)
def test_every_node_is_registered_with_its_edge_and_is_else_itself(name):
    there, inside = nodes.NODE_CLASS_MAPPINGS[name], nodes.NODES[name][0]
    assert issubclass(there, inside) and there.__name__ == inside.__name__ and there.__module__ == inside.__module__
    assert getattr(there, there.FUNCTION).__wrapped__ is getattr(inside, inside.FUNCTION)


def test_a_bad_file_is_a_plain_value_error_at_the_edge(place):
    (place.models / "text_encoders" / "page.safetensors").write_text("<html>")
    with pytest.raises(ValueError, match="page.safetensors") as raised:
        nodes.NODE_CLASS_MAPPINGS["CVL_LoadTextEncoder"]().load("page.safetensors")
    assert type(raised.value) is ValueError


class TakesLists:
    FUNCTION, INPUT_IS_LIST = "run", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}, "optional": {"latent": ("LATENT",)}}

    def run(self, model, latent=None):
        raise KeyError("the fault itself")


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ([TakesLists()], KeyError, "the fault itself"),  # lists are how it gets everything
        ([None], ValueError, "nothing came"),
        ([{}], ValueError, "a value of type dict came"),
        (["a name"], ValueError, "a link to a MODEL was expected"),
        ([], KeyError, "the fault itself"),
    ],
)
def test_a_node_that_takes_lists_is_asked_for_what_is_in_them(given, kind, said):
    with pytest.raises(kind, match=said):
        at_the_edge(TakesLists)().run(model=given)
