"""Workflows with a gallery in them, and what a test does with its pictures."""

import shutil
from pathlib import Path

from .canvas import open_workflow, run
from .serving import ROOT

WAIT_MS = 60_000  # ends a hang and nothing else
MODEL = ["model", "CVL_LoadCLIPModel", {"file": "bundled/tiny_clip.safetensors"}, [40, 60]]
INDEX = ["index", "CVL_IndexFolder", {}, [40, 330]]
LOAD = ["load", "LoadImage", {}, [1000, 100]]
SEARCH = ["judge", "CVL_SearchImages", {"count": 3}, [450, 60]]
DUPLICATES = ["judge", "CVL_FindDuplicates", {}, [450, 60]]
RANK = ["judge", "CVL_RankImages", {"prompt": "a red circle"}, [450, 60]]
PICTURES = [
    ["a", "CVL_ExampleImage", {"picture": "red circle"}, [40, 330]],
    ["b", "CVL_ExampleImage", {"picture": "blue star"}, [40, 560]],
    ["batch", "ImageBatch", {}, [40, 800]],
    ["preview", "PreviewImage", {}, [1000, 600]],
]
INDEXED = [["model", 0, "index", "clip_model"], ["index", 0, "judge", "index"]]
JUDGED = [["model", 0, "judge", "clip_model"]]
BATCHED = [
    ["a", 0, "batch", "image1"],
    ["b", 0, "batch", "image2"],
    ["batch", 0, "judge", "image"],
    ["judge", 0, "preview", "images"],
]
WORKFLOWS = {
    "search": ([MODEL, INDEX, SEARCH, LOAD], INDEXED + JUDGED),
    "duplicates": ([MODEL, INDEX, DUPLICATES, LOAD], INDEXED),
    "rank": ([MODEL, *PICTURES, RANK, LOAD], JUDGED + BATCHED),
}
BUILD = """async ({nodes, links}) => {
  await app.loadGraphData({version: 0.4, nodes: [], links: [], groups: [], config: {}, extra: {}, last_node_id: 0,
    last_link_id: 0});
  const made = {};
  for (const [id, type, values, pos] of nodes) {
    const node = made[id] = LiteGraph.createNode(type);
    node.pos = pos;
    app.graph.add(node);
    for (const [name, value] of Object.entries(values)) node.widgets.find(w => w.name === name).value = value;
  }
  for (const [from, slot, to, name] of links) {
    made[from].connect(slot, made[to], made[to].inputs.findIndex(input => input.name === name));
  }
  return JSON.parse(JSON.stringify(app.graph.serialize()));  // as saved: without what is undefined
}"""


def found_pictures(base: Path) -> None:
    """Put four pictures, two of them equal, into a server's output folder, and one into its input folder."""
    for folder in ("output", "input"):
        (base / folder).mkdir(exist_ok=True)
    pictures = ROOT / "example_workflows" / "input"
    for name in ("red_circle.png", "blue_star.png", "striped_green_heart.png"):
        shutil.copy(pictures / name, base / "output" / name)
    shutil.copy(pictures / "red_circle.png", base / "output" / "red_copy.png")
    shutil.copy(pictures / "blue_star.png", base / "input" / "blue_star.png")


def opened_gallery(page, kind: str) -> None:
    """Open a workflow with a gallery in a tab of its own and run it."""
    nodes, links = WORKFLOWS[kind]
    saved = page.evaluate(BUILD, {"nodes": nodes, "links": links})
    open_workflow(page, saved["nodes"], saved["links"])
    assert run(page) == "execution_success"
    expect_cards(page)


def cards(page):
    return page.locator(".cvl-pictures:visible .cvl-card")


def expect_cards(page) -> None:
    """Wait until the gallery is on its node and a picture in it is drawn."""
    page.wait_for_function(
        """() => {
      const node = app.canvas.graph._nodes.find(({widgets}) => widgets?.some(({name}) => name === "cvl_gallery"));
      const root = node?.widgets.find(({name}) => name === "cvl_gallery").element;
      return root?.isConnected && [...root.querySelectorAll(".cvl-card img")].some(({complete, naturalWidth}) =>
        complete && naturalWidth > 0);
    }""",
        timeout=WAIT_MS,
    )


def drag(page, place: int, to: tuple[float, float]) -> None:
    """Drag a picture of the gallery to a point of the canvas, in its own units, as a hand would."""
    box = cards(page).nth(place).locator("img").bounding_box()
    start = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
    corner = page.evaluate("() => { const {x, y} = app.canvas.canvas.getBoundingClientRect(); return [x, y] }")
    end = [to[0] + corner[0], to[1] + corner[1]]
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + 30, start[1] + 10)
    page.mouse.move(end[0] - 5, end[1], steps=3)
    page.mouse.move(*end)
    page.mouse.up()
    page.wait_for_timeout(1000)


def loaders(page) -> list[str]:
    """What each Load Image of the open graph has as its file."""
    return page.evaluate(
        "() => app.graph._nodes.filter(({type}) => type === 'LoadImage').map(({widgets}) => widgets[0].value)"
    )
