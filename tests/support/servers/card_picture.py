"""Takes the card of an example anew, the picture that the list of templates shows: the example is run in a real
ComfyUI, and the part of it with some nodes is photographed, as wide as they are, from their top.

    COMFYUI_PATH=/path/to/ComfyUI python tests/support/servers/card_picture.py lora_extract CVL_ExtractLoRA

COMFYUI_PATH, COMFYUI_ARGS and COMFYUI_URL are those of tests/host; look at what comes before you commit it.
"""

import importlib.util
import io
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
CARD = 640, 420
WINDOW = {"width": 1500, "height": 1000}
AT = 110, 110  # clear of the front end's bars
TAKEN = 1280, 840  # of the window
VIEW = """([kinds, [x, y], wide]) => {
  const {canvas} = app, nodes = canvas.graph._nodes.filter(({type}) => kinds.includes(type));
  const place = canvas.canvas.getBoundingClientRect();
  const [left, top] = [0, 1].map(axis => Math.min(...nodes.map(({pos}) => pos[axis])));
  const right = Math.max(...nodes.map(({pos, size}) => pos[0] + size[0]));
  canvas.deselectAll?.();
  canvas.ds.scale = wide / (right - left + 40);
  canvas.ds.offset = [(x - place.x) / canvas.ds.scale - left + 20, (y - place.y) / canvas.ds.scale - top + 50];
  canvas.setDirty(true, true);
}"""


def photograph(page, kinds: list[str]) -> bytes:
    """The part of the open workflow with nodes of these kinds, as a JPEG."""
    page.evaluate(VIEW, [kinds, AT, TAKEN[0]])
    page.wait_for_timeout(2000)
    taken = page.screenshot(clip={"x": AT[0], "y": AT[1], "width": TAKEN[0], "height": TAKEN[1]})
    made = io.BytesIO()
    Image.open(io.BytesIO(taken)).convert("RGB").resize(CARD, Image.Resampling.LANCZOS).save(made, "JPEG", quality=85)
    return made.getvalue()


def main() -> None:
    from clip_vae_lora.tests.support.servers.help_picture import asked, ran

    example, kinds = asked(__doc__)
    with ran(example, kinds[0], WINDOW) as page:
        (ROOT / "example_workflows" / f"{example}.jpg").write_bytes(photograph(page, kinds))


def _bind_the_checkout() -> None:
    spec = importlib.util.spec_from_file_location("_cvl_checkout", ROOT / "headless" / "checkout.py")
    checkout = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checkout)
    checkout.bind()


if __name__ == "__main__":
    _bind_the_checkout()
    main()
