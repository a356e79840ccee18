"""The box of a node's report: it fits its text, it warns, it folds, it stands in one place.

Needs what test_prompt_count.py needs; COMFYUI_ARGS names another front end.
"""

import json

import pytest

from clip_vae_lora.tests.support.servers.canvas import open_workflow, placed, playwright, run
from clip_vae_lora.tests.support.servers.reports import (
    box,
    fails,
    opened_and_run,
    other_tab,
    says,
    two_pictures,
)


def test_the_box_fits_its_text_and_scrolls_beyond_twelve_lines(page):
    open_workflow(page, *two_pictures())
    for lines in (["one"], ["a line", "b"], [f"line {i}" for i in range(12)], ["words that wrap " * 12, "end"]):
        says(page, 12, lines)
        found = box(page)
        assert found["hidden"] <= 1 and found["inside"] <= 1 and found["wide"] <= 0, lines
        x, y, width, height = found["node"]
        assert x <= found["left"] and found["right"] <= x + width
        assert y < found["top"] and found["bottom"] <= y + height + 1, lines
        text = page.evaluate("""() => { const lines = [...document.querySelectorAll(".cvl-report-line")]
          .filter(line => line.offsetParent); return lines.reduce((sum, line) => sum + line.offsetHeight, 0) }""")
        assert found["height"] <= text + 20 + 4 + 4, "an empty band under the text"
    says(page, 12, [f"line {i}" for i in range(120)])
    found = box(page)
    assert found["hidden"] > 1000 and 10 * 16 < found["height"] <= 12 * 16 + 30
    assert found["bottom"] <= found["node"][1] + found["node"][3] + 1
    assert found["node"][3] < 500


def test_a_node_does_not_grow_over_the_one_below(page):
    nodes, links = two_pictures()
    below = placed("CVL_ExampleImage", 14, (500, 460), "red circle")
    open_workflow(page, [*nodes, below], links)
    says(page, 12, [f"line {i}" for i in range(40)])
    found = box(page)
    assert found["bottom"] <= found["node"][1] + found["node"][3] + 1
    assert found["node"][1] + found["node"][3] <= 460 - 30
    assert found["height"] >= 3 * 16


def test_a_size_that_the_user_chose_stays(page):
    open_workflow(page, *two_pictures())
    page.evaluate("() => app.canvas.graph._nodes.find(node => node.type === 'CVL_CompareImages').setSize([420, 600])")
    page.wait_for_timeout(400)
    says(page, 12, ["one", "two"])
    assert box(page)["node"][2:] == pytest.approx([420, 600], abs=2)
    says(page, 12, [f"line {i}" for i in range(30)])
    assert box(page)["node"][2:] == pytest.approx([420, 600], abs=2)


def luminance(colour: list[float]) -> float:
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


CONTRASTS = """() => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d");
  const rgb = colour => { canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(part => part / 255) };
  const root = [...document.querySelectorAll(".cvl-report")].find(root => root.offsetParent);
  const ground = getComputedStyle(root).backgroundColor;
  return [...root.querySelectorAll(".cvl-report-line, button")].map(line => [line.textContent, rgb(ground),
    rgb(getComputedStyle(line).color)]);
}"""


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_gravest_line_stands_first_and_every_colour_can_be_read(page, theme):
    page.evaluate("theme => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme)
    page.wait_for_timeout(500)
    open_workflow(page, *two_pictures())
    lines = ["a plain line", "the second differs", "⚠ careful", "✓ fine", "✖ broken", "  and why"]
    says(page, 12, lines, cvl_report=[json.dumps({"notes": ["the second differs"]})])
    marks = page.evaluate("""() => {
      const root = [...document.querySelectorAll(".cvl-report")].find(root => root.offsetParent);
      return [...root.querySelectorAll(".cvl-report-line")].map(line => [line.textContent, line.dataset.mark ?? ""]);
    }""")
    try:
        assert marks == [
            ["✖ broken", "error"],
            ["  and why", ""],
            ["the second differs", "note"],
            ["⚠ careful", "note"],
            ["a plain line", ""],
            ["✓ fine", "good"],
        ]
        shown = page.evaluate(CONTRASTS)
        fails(page, 12, "CVL_CompareImages", "no such file")  # what was reported before is grey then
        for text, ground, colour in shown + page.evaluate(CONTRASTS):
            darker, lighter = sorted([luminance(ground), luminance(colour)])
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, f"{text!r} in {theme}"
    finally:
        page.evaluate("() => app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")


def test_a_fold_is_remembered_and_the_copy_is_whole(page):
    open_workflow(page, *two_pictures())
    says(page, 12, [f"line {i}" for i in range(40)])
    root = page.locator(".cvl-report:visible")
    before = box(page)["node"][3]
    root.locator(".cvl-report-copy").click()
    playwright.expect(root.locator(".cvl-report-copy")).to_have_text("copied")
    root.locator(".cvl-report-fold").click()
    playwright.expect(root.locator(".cvl-report-body")).not_to_be_visible()
    playwright.expect(root.locator(".cvl-report-fold")).to_contain_text("line 0")
    if not page.vue:
        page.wait_for_function(
            "before => app.canvas.graph._nodes.find(n => n.type === 'CVL_CompareImages').size[1] < before", arg=before
        )
    saved = page.evaluate("() => JSON.parse(JSON.stringify((app.rootGraph ?? app.graph).serialize()))")
    open_workflow(page, saved["nodes"], saved["links"])
    playwright.expect(page.locator(".cvl-report-body:visible")).to_have_count(0)
    page.locator(".cvl-report:visible .cvl-report-fold").click()
    playwright.expect(page.locator(".cvl-report:visible .cvl-report-body")).to_be_visible()


def test_the_report_stands_above_the_picture_the_first_time_and_the_second(page):
    opened_and_run(page)
    names = "() => app.canvas.graph._nodes.find(node => node.type === 'CVL_CompareImages').widgets.map(w => w.name)"
    page.wait_for_timeout(800)
    first, place = page.evaluate(names), box(page)
    other_tab(page, "Previous")
    other_tab(page, "Next")
    run(page)
    page.wait_for_timeout(800)
    assert page.evaluate(names) == first
    again = box(page)
    assert again["top"] - again["node"][1] == pytest.approx(place["top"] - place["node"][1], abs=2)
    assert again["node"] == pytest.approx(place["node"], abs=2)
    assert first == ["gain", "cvl_report", "cvl_compare"]
