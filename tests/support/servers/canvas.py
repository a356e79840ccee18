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
RUN_MS = 600_000  # ends a hang and nothing else


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


class Messages:
    """The server's messages to a page: held back between `hold` and `release`."""

    def __init__(self, page: "playwright.Page"):
        self.held: list[str | bytes] | None = None
        page.route_web_socket(lambda url: url.split("?")[0].endswith("/ws"), self._join)

    def _join(self, to_page: "playwright.WebSocketRoute") -> None:
        self._to_page = to_page
        to_page.connect_to_server().on_message(self._pass_on)

    def _pass_on(self, message: str | bytes) -> None:
        if self.held is None:
            self._to_page.send(message)
        else:
            self.held.append(message)

    def hold(self) -> None:
        self.held = []

    def release(self) -> None:
        held, self.held = self.held, None
        for message in held:
            self._to_page.send(message)


def canvas(browser: "playwright.Browser", server: str, kind: str) -> "playwright.Page":
    """The canvas, loaded, with nodes of this kind known; `errors` is filled with what the page throws in a file of a
    pack (front end 1.27 throws in its own at each start), `messages` can be held back.
    """
    settings = json.dumps({"Comfy.TutorialCompleted": True, "Comfy.Graph.CanvasInfo": False}).encode()
    urllib.request.urlopen(urllib.request.Request(server + "/settings", settings, {"Content-Type": "application/json"}))
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    page.errors = []
    page.messages = Messages(page)
    page.on("pageerror", lambda error: _of_a_pack(str(error.stack)) and page.errors.append(str(error.stack)))
    page.goto(server)
    page.wait_for_function(f"!!(window.app?.graph && window.LiteGraph?.registered_node_types?.{kind})", timeout=120_000)
    page.wait_for_timeout(2000)
    page.keyboard.press("Escape")
    return page


def _of_a_pack(stack: str) -> bool:
    return "/extensions/" in stack.replace("/extensions/core/", "")


def use_vue_nodes(page: "playwright.Page", on: bool) -> None:
    """Draws nodes the new way, or the classic one."""
    if on and page.evaluate("window.__COMFYUI_FRONTEND_VERSION__").startswith("1.27."):
        pytest.skip("the Vue nodes of frontend 1.27 show no DOM widgets, whosever they are")
    page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", on)


def speak(page: "playwright.Page", language: str) -> None:
    """Sets the front end's language, which the page takes on when it is loaded anew."""
    page.evaluate("language => app.extensionManager.setting.set('Comfy.Locale', language)", language)
    page.wait_for_timeout(1000)
    page.reload()
    page.wait_for_function("!!(window.app?.graph && LiteGraph.registered_node_types?.CVL_LoRAStack)", timeout=120_000)
    page.wait_for_timeout(2000)
    page.keyboard.press("Escape")


def placed(kind: str, number: int, pos: tuple[int, int], *values: object, **saved: object) -> dict:
    """A node as a workflow holds it, its widgets' values in order."""
    node = {"id": number, "type": kind, "pos": list(pos), "size": [300, 60], "flags": {}, "order": number, "mode": 0}
    return node | {"properties": {}, "inputs": [], "outputs": [], "widgets_values": list(values)} | saved


def linked(*links: tuple[int, int, dict, dict, str, str]) -> list[list]:
    """Links of a workflow, written into its nodes: (number, type, from, to, output, input)."""
    rows = []
    for number, kind, source, target, output, taken in links:
        source["outputs"] = source["outputs"] or []
        slot = next((i for i, out in enumerate(source["outputs"]) if out["name"] == output), len(source["outputs"]))
        if slot == len(source["outputs"]):
            source["outputs"].append({"name": output, "type": kind, "links": []})
        source["outputs"][slot]["links"].append(number)
        target["inputs"].append({"name": taken, "type": kind, "link": number})
        rows.append([number, source["id"], slot, target["id"], len(target["inputs"]) - 1, kind])
    return rows


def open_workflow(page: "playwright.Page", nodes: list[dict], links: list[list] = ()) -> None:
    """Opens a workflow in a tab of its own, at 100 %."""
    whole = {"version": 0.4, "nodes": nodes, "links": list(links), "groups": [], "config": {}, "extra": {}}
    whole |= {"last_node_id": max(node["id"] for node in nodes), "last_link_id": len(links)}
    page.evaluate(
        """async graph => {
      await app.loadGraphData(graph);
      await new Promise(done => setTimeout(done, 100));  // some front ends fit the view first
      app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0];
      app.canvas.setDirty(true, true);
    }""",
        whole,
    )
    page.wait_for_timeout(300)


NOTE_ENDS = """() => {
  if (window.cvlEnds) return;
  window.cvlEnds = {};
  for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
    window.comfyAPI.api.api.addEventListener(kind, ({detail}) => (window.cvlEnds[detail.prompt_id] = kind));
}"""


def run(page: "playwright.Page") -> str:
    """Runs the open workflow and waits for its end; how it ended, or what the server has against it."""
    page.evaluate(NOTE_ENDS)
    with page.expect_response("**/api/prompt", timeout=RUN_MS) as answered:
        page.evaluate("() => void app.queuePrompt(0, 1)")
    answer = answered.value
    if not answer.ok:
        return f"refused: {answer.text()}"
    ended = page.wait_for_function("id => window.cvlEnds[id]", arg=answer.json()["prompt_id"], timeout=RUN_MS)
    page.wait_for_timeout(600)  # the front end lays the new pictures out
    return ended.json_value()


def load(page: "playwright.Page", kind: str, **saved: object) -> None:
    """Opens a graph with one node, as saved. Its id is a new one: newer frontends keep values by id."""
    node = {"id": next(_NUMBERS), "type": kind, "pos": [500, 200], "size": [400, 100], "flags": {}, "order": 0}
    node |= {"mode": 0, "properties": {}} | saved
    open_workflow(page, [node])
