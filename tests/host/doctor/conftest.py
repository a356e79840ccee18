"""A server, a browser, and a canvas in it, drawn the classic way and the new one."""

import os

import pytest

from clip_vae_lora.tests.support.servers.canvas import canvas, chromium, use_vue_nodes
from clip_vae_lora.tests.support.servers.serving import served


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    if os.environ.get("COMFYUI_URL"):
        yield os.environ["COMFYUI_URL"]
        return
    with served(comfyui_path, tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module", params=["classic", "Vue nodes"])
def page(server, browser, request):
    found = canvas(browser, server, "CVL_Doctor")
    use_vue_nodes(found, request.param == "Vue nodes")
    found.vue = request.param == "Vue nodes"
    yield found
    assert not found.errors
    found.close()
