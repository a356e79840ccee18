"""ComfyUI's canvas in a real Chromium, for tests of what the pack shows there."""

import itertools
import json
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, to drive a browser")
_NUMBERS = itertools.count(1)


@contextmanager
def chromium() -> Iterator["playwright.Browser"]:
    """A browser; the test skips where there is none."""
    with playwright.sync_playwright() as running:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        try:
            opened = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"needs a Chromium that playwright can start: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


def canvas(browser: "playwright.Browser", server: str, kind: str) -> "playwright.Page":
    """The canvas, loaded, with nodes of this kind known; `errors` is filled with what the page throws."""
    settings = json.dumps({"Comfy.TutorialCompleted": True, "Comfy.Graph.CanvasInfo": False}).encode()
    urllib.request.urlopen(urllib.request.Request(server + "/settings", settings, {"Content-Type": "application/json"}))
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error.stack)))
    page.goto(server)
    page.wait_for_function(f"!!(window.app?.graph && window.LiteGraph?.registered_node_types?.{kind})", timeout=120_000)
    page.wait_for_timeout(2000)
    page.keyboard.press("Escape")
    return page


def use_vue_nodes(page: "playwright.Page", on: bool) -> None:
    """Draws nodes the new way, or the classic one."""
    if on and page.evaluate("window.__COMFYUI_FRONTEND_VERSION__").startswith("1.27."):
        pytest.skip("the Vue nodes of frontend 1.27 show no DOM widgets, whosever they are")
    page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", on)


def load(page: "playwright.Page", kind: str, **saved: object) -> None:
    """Opens a graph with one node, as saved. Its id is a new one: newer frontends keep values by id."""
    node = {"id": next(_NUMBERS), "type": kind, "pos": [500, 200], "size": [400, 100], "flags": {}, "order": 0}
    node |= {"mode": 0, "properties": {}} | saved
    page.evaluate(
        """async graph => {
      await app.loadGraphData(graph);
      app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0];
      app.canvas.setDirty(true, true);
    }""",
        {
            "version": 0.4,
            "nodes": [node],
            "links": [],
            "groups": [],
            "config": {},
            "extra": {},
            "last_node_id": node["id"],
            "last_link_id": 0,
        },
    )
