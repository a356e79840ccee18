"""In a real ComfyUI too, whatever comes over a link works or is a sentence."""

import pytest

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS

from ...support.calls import Calls, write_files
from ...support.files.odd_values import Listener, links, odd


@pytest.fixture(scope="module")
def calls(comfyui):
    import folder_paths

    write_files(comfyui.models, comfyui.base / "input")
    folder_paths.set_input_directory(str(comfyui.base / "input"))
    return Calls(lambda name: comfyui.nodes[name](), comfyui.base / "input")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name, node in NODE_CLASS_MAPPINGS.items() if links(node)])
def test_what_comes_over_a_link_works_or_is_a_sentence(comfyui, calls, name):
    node = Listener(comfyui.nodes[name]())
    getattr(calls, name.removeprefix("CVL_"))(node, 2)
    run = getattr(comfyui.nodes[name](), node.FUNCTION)
    for key, kind in links(comfyui.nodes[name]).items():
        for what, value in odd(kind).items():
            try:
                run(**{**node.given, key: value})
            except ValueError as error:
                assert len(str(error)) > 30, (key, what)
