"""Strengths by mouse, a row's actions, switches of all rows, and the marks of a run, in a real browser.

Needs COMFYUI_PATH (see serving.py for a server in another Python), playwright, and a Chromium.
"""

from ....support.loras.editor import LIST, WAIT_MS, expect_list, part, row, show, with_line
from ....support.servers.canvas import playwright


def test_a_strength_is_dragged_and_stepped(page):
    box = part(page, 1, "model").bounding_box()
    page.mouse.move(box["x"] + 8, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + 8 + 21, box["y"] + 8, steps=5)
    page.mouse.up()
    expect_list(page, with_line(1, "people/anna : 1 # mine"))  # four steps of 0.05
    page.wait_for_timeout(300)
    part(page, 1, "model+").click()
    expect_list(page, with_line(1, "people/anna : 1.05 # mine"))
    part(page, 1, "model−").click(modifiers=["Shift"])
    expect_list(page, with_line(1, "people/anna : 0.55 # mine"))


def test_the_wheel_turns_a_strength_that_is_edited_and_else_the_canvas(page):
    part(page, 1, "model").click()
    before = page.evaluate("app.canvas.ds.scale")
    page.mouse.wheel(0, -100)
    expect_list(page, with_line(1, "people/anna : 0.85 # mine"))
    assert page.evaluate("app.canvas.ds.scale") == before
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    part(page, 1, "model").hover()
    page.mouse.wheel(0, -100)
    page.wait_for_timeout(300)
    expect_list(page, with_line(1, "people/anna : 0.85 # mine"))


def test_all_are_switched_and_one_is_left_on_alone(page):
    show(page, "style : 1\noff people/anna : 1\nzebra stripes : 1")
    every = page.locator(".cvl-every:visible")
    playwright.expect(every).to_have_attribute("aria-checked", "mixed")
    every.click()
    expect_list(page, "style : 1\npeople/anna : 1\nzebra stripes : 1")
    every.click()
    expect_list(page, "off style : 1\noff people/anna : 1\noff zebra stripes : 1")
    part(page, 1, "on").click(modifiers=["Alt"])
    expect_list(page, "off style : 1\npeople/anna : 1\noff zebra stripes : 1")
    part(page, 1, "on").click(modifiers=["Alt"])
    expect_list(page, "style : 1\npeople/anna : 1\nzebra stripes : 1")


def test_a_right_click_has_the_rows_actions(page):
    lines = LIST.split("\n")

    def choose(place, action):
        part(page, place, "name").click(button="right")
        page.locator(f'.cvl-action[data-action="{action}"]').click()

    choose(1, "double")
    expect_list(page, "\n".join([*lines[:2], lines[1], *lines[2:]]))
    choose(2, "remove")
    expect_list(page, LIST)
    choose(1, "on")
    expect_list(page, with_line(1, "off people/anna : 0.8 # mine"))
    choose(1, "on")
    choose(1, "down")
    expect_list(page, "\n".join([lines[0], lines[2], lines[3], lines[1], lines[4]]))
    choose(3, "up")
    expect_list(page, "\n".join([lines[0], lines[2], lines[1], lines[3], lines[4]]))
    choose(3, "solo")
    solo = [lines[0], lines[2], f"off {lines[1]}", lines[3].removeprefix("off "), lines[4]]
    expect_list(page, "\n".join(solo))


def test_what_is_wrong_is_written_large_enough_to_read(page):
    problem = row(page, 4).locator(".cvl-problem")
    playwright.expect(problem).to_be_visible()
    size, height, line = problem.evaluate(
        "e => [parseFloat(getComputedStyle(e).fontSize), e.clientHeight, parseFloat(getComputedStyle(e).lineHeight)]"
    )
    assert size >= 11 and height >= line


def test_rows_are_marked_by_a_run_until_they_are_edited(page):
    text = "bundled/tiny_clip_stripes_lora : 1\nstyle : 1\nnowhere : 1\noff zebra stripes : 1"
    show(page, text)
    page.evaluate("""() => {
      const stack = app.graph._nodes[0];
      const clip = LiteGraph.createNode("CVL_LoadTextEncoder"), view = LiteGraph.createNode("PreviewAny");
      clip.pos = [50, 200]; view.pos = [950, 200];
      app.graph.add(clip); app.graph.add(view);
      clip.connect(0, stack, stack.inputs.findIndex(input => input.name === "clip"));
      stack.connect(3, view, 0);
      return app.queuePrompt(0, 1);
    }""")
    wanted = ["used", "failed", "failed", "off"]
    for place, state in enumerate(wanted):
        playwright.expect(row(page, place)).to_have_attribute("data-state", state, timeout=8 * WAIT_MS)
    sentence = row(page, 1).locator(".cvl-problem").text_content()
    assert len(sentence) > 20
    part(page, 1, "words").click()
    playwright.expect(page.locator(".cvl-said")).to_have_text(f"⚠ {sentence}", timeout=WAIT_MS)
    page.keyboard.press("Escape")
    part(page, 1, "model+").click()
    playwright.expect(row(page, 1)).to_have_attribute("data-state", "")
    playwright.expect(row(page, 0)).to_have_attribute("data-state", "used")


def test_a_collapsed_node_tells_how_many_are_on(page):
    title = page.evaluate("""() => {
      const stack = app.graph._nodes[0];
      const open = stack.getTitle();
      stack.flags.collapsed = true;
      const title = stack.getTitle();
      stack.flags.collapsed = false;
      return [open, title];
    }""")
    assert title == ["LoRA Stack (CVL)", "1 of 2 on · LoRA Stack (CVL)"]
