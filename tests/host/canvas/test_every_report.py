"""Every node's report at 100 %: nothing of it is cut and nothing is covered, and it is there after undo, another tab,
a reload and a second run. The nodes run in the examples, which have all of them.

Needs what test_prompt_count.py needs; COMFYUI_ARGS names another front end.
"""

import json
from pathlib import Path

import pytest

from clip_vae_lora.nodes import NODES
from clip_vae_lora.tests.support.servers.canvas import run
from clip_vae_lora.tests.support.servers.reports import click_beside, other_tab, press
from clip_vae_lora.tests.support.servers.serving import ROOT

WAIT_MS = 120_000
MOST_LINES, LINE_PX = 12, 16  # a longer report scrolls
HIGH_CHART_PX = 370  # a higher chart scrolls
STEPS = 20  # of a training, whose report is the same after few


def _example(path: Path) -> dict:
    graph = json.loads(path.read_text(encoding="utf-8"))
    for node in graph["nodes"]:
        if node["type"] == "CVL_TrainLoRA":
            names = [one["name"] for one in node["inputs"] if one.get("widget")]
            node["widgets_values"][names.index("steps")] = STEPS
    return graph


EXAMPLES = {
    path.stem: _example(path)
    for path in sorted((ROOT / "example_workflows").glob("*.json"))
    if not path.stem.startswith("own_")  # those want a checkpoint of the user's
}
OPEN = """async graph => {
  await app.loadGraphData(graph);
  await new Promise(done => setTimeout(done, 500));
}"""
REPORTS = """() => Object.fromEntries(app.canvas.graph._nodes.filter(node => node.type.startsWith("CVL_")).map(node => {
  const element = node.widgets?.find(widget => widget.name === "cvl_report")?.element;
  const lines = [...element?.querySelectorAll(".cvl-report-line") ?? []].map(line => line.textContent);
  return [`${node.id} ${node.type}`, lines.join("\\n")];
}))"""
# Each node, title and all, as it is drawn, and where its report stands in it: in units of the canvas at 100 %.
LOOK = """async vue => {
  const {canvas} = app, place = canvas.canvas.getBoundingClientRect(), found = [];
  const frame = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  canvas.ds.scale = 1;
  for (const node of canvas.graph._nodes) {
    canvas.ds.offset = [400 - node.pos[0], 100 - node.pos[1]];
    canvas.setDirty(true, true);
    await frame();
    await frame();
    const rect = element => {
      const {x, y, width, height} = element.getBoundingClientRect();
      return [x - place.x - canvas.ds.offset[0], y - place.y - canvas.ds.offset[1], width, height];
    };
    const drawn = vue && document.querySelector(`[data-node-id="${node.id}"]`);
    const {collapsed} = node.flags, [width, height] = collapsed ? [node._collapsed_width, 0] : node.size;
    const own = drawn ? rect(drawn) : [node.pos[0], node.pos[1] - 30, width, height + 30];
    const one = {name: `${node.id} ${node.type}`, drawn: !vue || Boolean(drawn), own};
    const root = collapsed ? null : node.widgets?.find(widget => widget.name === "cvl_report")?.element;
    if (root) {
      const body = root.querySelector(".cvl-report-body"), lines = [...body.children];
      one.report = rect(root);
      one.hidden = body.scrollHeight - body.clientHeight;
      one.wide = body.scrollWidth - body.clientWidth;
      one.stuck = root.scrollHeight - root.clientHeight;
      one.text = lines.reduce((sum, line) => sum + line.offsetHeight, 0);
    }
    one.scrolled = (node.widgets ?? []).flatMap(({element}) => [...element?.querySelectorAll?.(".cvl-scroll") ?? []])
      .map(room => [room.scrollHeight - room.clientHeight, room.clientHeight]);
    one.others = (node.widgets ?? []).filter(widget => widget.element?.isConnected && widget.name !== "cvl_report"
      && widget.element.offsetParent).map(widget => [widget.name, rect(widget.element)]);
    found.push(one);
  }
  return found;
}"""


def overlaps(looked: list[dict]) -> set[tuple[str, str]]:
    """Which nodes cover which."""
    found = set()
    for place, one in enumerate(looked):
        for other in looked[place + 1 :]:
            (x, y, width, height), (left, top, wide, high) = one["own"], other["own"]
            if min(x + width, left + wide) - max(x, left) > 1 and min(y + height, top + high) - max(y, top) > 1:
                found.add((one["name"], other["name"]))
    return found


def strays(looked: list[dict], groups: list[dict]) -> list[str]:
    """Which nodes stand in no group as a whole."""
    rooms = [group["bounding"] for group in groups]

    def within(box: list[float], room: list[float]) -> bool:
        (x, y, width, height), (left, top, wide, high) = box, room
        return x >= left and y >= top and x + width <= left + wide and y + height <= top + high

    return [f"{one['name']}: {one['own']}" for one in looked if not any(within(one["own"], room) for room in rooms)]


def problems(looked: list[dict]) -> list[str]:
    """What of the reports cannot be read, and what sticks out of its node."""
    said = []
    for one in looked:
        name, (x, y, width, height) = one["name"], one["own"]
        boxes = [*one["others"], *([["report", one["report"]]] if "report" in one else [])]
        for what, (left, top, wide, high) in boxes:
            if left < x - 1 or left + wide > x + width + 1 or top < y - 1 or top + high > y + height + 1:
                said.append(f"{name}: {what} {[left, top, wide, high]} is not within {one['own']}")
        for hidden, high in one.get("scrolled", []):
            if hidden > 2 and high < HIGH_CHART_PX:
                said.append(f"{name}: {hidden} px of a chart are hidden, {high} px are shown")
        for at, (what, a) in enumerate(boxes):
            for beside, b in boxes[at + 1 :]:
                if min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) > 1:
                    said.append(f"{name}: {what} {a} and {beside} {b} cover each other")
        if "report" in one and name.split()[1].startswith("CVL_"):
            most = MOST_LINES * LINE_PX
            if one["wide"] > 0 or one["stuck"] > 1 or one["hidden"] > max(1, one["text"] - most + 8):
                said.append(
                    f"{name}: of {one['text']} px of text {one['hidden']} are hidden, {one['wide']} to the side"
                )
    return said


def open_example(page, name: str) -> None:
    page.evaluate(OPEN, EXAMPLES[name])
    page.wait_for_timeout(500)


def expect_reports(page, reports: dict[str, str]) -> None:
    """Waits until every report is there, and is the same."""
    script = f"wanted => JSON.stringify(({REPORTS})()) === JSON.stringify(wanted)"
    page.wait_for_function(script, arg=reports, timeout=20_000)


def test_the_examples_have_every_node_and_show_it_open():
    nodes = [node for graph in EXAMPLES.values() for node in graph["nodes"] if not node["flags"].get("collapsed")]
    assert {node["type"] for node in nodes} >= set(NODES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_report_is_whole_covers_nothing_and_stays(page, name):
    open_example(page, name)
    click_beside(page)
    before = page.evaluate(LOOK, page.vue)
    assert all(one["drawn"] for one in before) and not overlaps(before)

    assert run(page) == "execution_success"
    page.wait_for_timeout(1500)
    page.wait_for_function(f"() => Object.values(({REPORTS})()).every(Boolean)", timeout=20_000)
    reports = page.evaluate(REPORTS)
    looked = page.evaluate(LOOK, page.vue)
    assert not problems(looked) and not overlaps(looked) and not strays(looked, EXAMPLES[name]["groups"])

    click_beside(page)
    page.evaluate("() => { const [node] = app.canvas.graph._nodes; node.pos = [node.pos[0] - 40, node.pos[1] - 40] }")
    click_beside(page)
    press(page, "Control+z")
    expect_reports(page, reports)
    page.evaluate(OPEN, {"version": 0.4, "nodes": [], "links": [], "last_node_id": 0, "last_link_id": 0})
    assert page.evaluate(REPORTS) == {}
    other_tab(page, "Previous")
    expect_reports(page, reports)
    looked = page.evaluate(LOOK, page.vue)
    assert not problems(looked) and not overlaps(looked)

    page.reload()
    page.wait_for_function(
        "!!(window.app?.graph && LiteGraph.registered_node_types?.CVL_CompareImages)", timeout=WAIT_MS
    )
    page.wait_for_timeout(3000)
    expect_reports(page, reports)
    looked = page.evaluate(LOOK, page.vue)
    assert not problems(looked) and not overlaps(looked)

    assert run(page) == "execution_success"  # all is cached now, but for what looks into a folder that has changed
    page.wait_for_timeout(1500)
    page.wait_for_function(f"() => Object.values(({REPORTS})()).every(Boolean)", timeout=20_000)
    again = page.evaluate(REPORTS)
    expect_reports(page, {node: again[node] if "IndexFolder" in node else text for node, text in reports.items()})
    looked = page.evaluate(LOOK, page.vue)
    assert not problems(looked) and not overlaps(looked)
