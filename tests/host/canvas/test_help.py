"""The help panel, opened by the i of a selected node, in a real browser: its page, its picture, and tables that fit."""

import json
import urllib.request

import pytest

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from clip_vae_lora.tests.nodes.test_face import locale
from clip_vae_lora.tests.support.servers.canvas import canvas, load, playwright
from clip_vae_lora.tests.support.servers.serving import served

BUTTON = "[data-testid=info-button], .selection-toolbox button:has(.pi-question-circle), .selection-toolbox "
BUTTON += "button:has([class*=info]), .selection-toolbox button:has(.pi-info-circle)"
PANEL = ".node-help-content"
WAIT_MS = 60_000
WINDOW = {"width": 1600, "height": 1000}  # the panel is about 282 px wide then


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    """The front end finds no help of a pack whose folder has a dot in its name, whosever it is."""
    with served(comfyui_path, tmp_path_factory.mktemp("server"), folder="some_other-name") as address:
        yield address


@pytest.fixture(scope="module", params=["en", "zh"])
def page(server, browser, request):
    """A canvas in one language; `names` are those its nodes have there."""
    say(server, request.param)
    opened = canvas(browser, server, "CVL_TextEncode")
    opened.set_viewport_size(WINDOW)
    names = {name: texts["display_name"] for name, texts in locale("nodeDefs.json").items()}
    opened.names = NODE_DISPLAY_NAME_MAPPINGS if request.param == "en" else names
    yield opened
    opened.close()
    say(server, "en")


def say(server: str, language: str) -> None:
    body = json.dumps({"Comfy.Locale": language}).encode()
    urllib.request.urlopen(urllib.request.Request(server + "/settings", body, {"Content-Type": "application/json"}))


def open_help(page: "playwright.Page", name: str) -> "playwright.Locator":
    """The panel with this node's page and picture in it. It may be open already, and then follows the selection."""
    load(page, name)
    page.evaluate("() => { const [node] = app.graph.nodes ?? app.graph._nodes; app.canvas.selectNode(node); }")
    title = page.locator(f"{PANEL} h1").filter(visible=True)
    try:
        playwright.expect(title).to_have_text(page.names[name], timeout=2_000)
    except AssertionError:
        page.locator(BUTTON).first.click(timeout=WAIT_MS)
        playwright.expect(title).to_have_text(page.names[name], timeout=WAIT_MS)
    page.wait_for_function(
        "([panel, file]) => [...document.querySelectorAll(panel + ' img')].some("
        "image => image.src.endsWith(file) && image.complete && image.naturalWidth > 100)",
        arg=[PANEL, f"/{name}.png"],
        timeout=WAIT_MS,
    )
    return page.locator(PANEL).filter(visible=True).first


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_a_page_shows_its_node_and_no_table_or_picture_is_wider_than_the_panel(page, name):
    width, *wide = open_help(page, name).evaluate(
        """panel => [panel.clientWidth, ...[...panel.querySelectorAll("table, img")].map(one => one.tagName === "IMG"
          ? one.offsetWidth : Math.max(one.scrollWidth, ...[...one.rows].map(row => row.offsetWidth)))]"""
    )
    assert len(wide) >= 3
    if not page.evaluate("window.__COMFYUI_FRONTEND_VERSION__").startswith("1.27."):  # its sidebar is narrower still
        assert max(wide) <= width
