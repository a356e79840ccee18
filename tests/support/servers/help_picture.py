"""Takes the pictures of help pages anew: an example is run in a real ComfyUI, and some of its nodes are photographed.

    COMFYUI_PATH=/path/to/ComfyUI python tests/support/servers/help_picture.py lora_workshop CVL_MergeLoRAs

COMFYUI_PATH, COMFYUI_ARGS and COMFYUI_URL are those of tests/host; look at what comes before you commit it.
"""

import argparse
import importlib.util
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[3]
MARGIN_PX, TITLE_PX = 6, 30
MOST_BYTES, COLOURS = 40_000, 96  # a larger picture gets a palette
WINDOW = {"width": 1500, "height": 1700}
AT = 400, 150  # where the node comes to lie, clear of the front end's bars
PUT = """async ([kind, x, y]) => {
  const {canvas} = app, node = canvas.graph._nodes.find(({type}) => type === kind);
  const place = canvas.canvas.getBoundingClientRect();
  canvas.deselectAll?.();
  canvas.ds.scale = 1;
  canvas.ds.offset = [x - place.x - node.pos[0], y - place.y - node.pos[1]];
  canvas.setDirty(true, true);
  await new Promise(done => setTimeout(done, 1000));
  return [...node.size];
}"""


def photograph(page, kind: str) -> bytes:
    """A node of the open workflow as a PNG."""
    width, height = page.evaluate(PUT, [kind, *AT])
    clip = {"x": AT[0] - MARGIN_PX, "y": AT[1] - TITLE_PX - MARGIN_PX}
    clip |= {"width": width + 2 * MARGIN_PX, "height": height + TITLE_PX + 2 * MARGIN_PX}
    taken = page.screenshot(clip=clip)
    return taken if len(taken) <= MOST_BYTES else with_palette(taken)


def with_palette(png: bytes) -> bytes:
    made = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS).save(made, "PNG", optimize=True)
    return made.getvalue()


def main() -> None:
    example, kinds = asked(__doc__)
    with ran(example, kinds[0], WINDOW) as page:
        for kind in kinds:
            (ROOT / "web" / "docs" / f"{kind}.png").write_bytes(photograph(page, kind))


def asked(description: str) -> tuple[str, list[str]]:
    """The example and the ids of nodes in it that the command line names."""
    parser = argparse.ArgumentParser(description=description.split("\n", 1)[0])
    parser.add_argument("example", help="an example workflow's name, without .json")
    parser.add_argument("kinds", nargs="+", metavar="node", help="ids of nodes in it, such as CVL_MergeLoRAs")
    found = parser.parse_args()
    return found.example, found.kinds


@contextmanager
def ran(example: str, kind: str, window: dict[str, int]) -> Iterator["Page"]:
    """A page of that size with the example after a run; `kind` is a node's that it waits for."""
    from clip_vae_lora.tests.support.servers.canvas import canvas, chromium, run

    graph = json.loads((ROOT / "example_workflows" / f"{example}.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as base, server(Path(base)) as address, chromium() as browser:
        page = canvas(browser, address, kind)
        page.set_viewport_size(window)
        page.evaluate("() => app.extensionManager.setting.set('Comfy.Minimap.Visible', false)")
        page.evaluate("graph => app.loadGraphData(graph)", graph)
        page.wait_for_timeout(1000)
        if (ended := run(page)) != "execution_success":
            raise SystemExit(f"{example} did not run to its end: {ended}")
        page.wait_for_timeout(3000)
        yield page


def server(base: Path) -> AbstractContextManager[str]:
    """The address of the server that runs already, or of one for this picture."""
    from clip_vae_lora.tests.support.servers.serving import served

    running, folder = os.environ.get("COMFYUI_URL"), "comfyui-clip-vae-lora"  # which stands on the nodes' badges
    return nullcontext(running) if running else served(Path(os.environ["COMFYUI_PATH"]), base, folder=folder)


def _bind_the_checkout() -> None:
    spec = importlib.util.spec_from_file_location("_cvl_checkout", ROOT / "headless" / "checkout.py")
    checkout = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checkout)
    checkout.bind()


if __name__ == "__main__":
    _bind_the_checkout()
    main()
