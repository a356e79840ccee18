"""A server with LoRA files of its own, and a canvas with one LoRA Stack.

Imports stand in the fixtures: playwright is needed by the editor's tests alone, and its absence skips them alone.
"""

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ....support.servers.serving import served


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    from ....support.loras.editor import HEADERS

    base = tmp_path_factory.mktemp("server")
    for name, header in HEADERS.items():
        path = base / "models" / "loras" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, path, header)
    Image.new("RGB", (400, 600), "red").save(base / "models" / "loras" / "people" / "anna.preview.png")
    with served(comfyui_path, base) as address:
        yield address


@pytest.fixture(scope="module")
def opened(server):
    from ....support.servers.canvas import canvas, chromium

    with chromium() as browser:
        page = canvas(browser, server, "CVL_LoRAStack")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield page


@pytest.fixture(params=["classic", "Vue nodes"])
def page(opened, request):
    """A canvas with one CVL_LoRAStack in the middle of it, that has LIST."""
    from ....support.loras.editor import LIST, show
    from ....support.servers.canvas import use_vue_nodes

    use_vue_nodes(opened, request.param == "Vue nodes")
    opened.unroute_all()
    opened.errors.clear()
    opened.evaluate("localStorage.removeItem('cvl.loras.recent')")
    show(opened, LIST)
    yield opened
    opened.keyboard.press("Escape")
    assert not opened.errors
