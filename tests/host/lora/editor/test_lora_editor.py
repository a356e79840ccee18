"""Editing the rows of LoRA Stack's list, in a real browser on a real server with LoRA files of its own.

Needs COMFYUI_PATH (see serving.py for a server in another Python), playwright, and a Chromium.
"""

import re

from ....support.loras.editor import LIST, WAIT_MS, expect_list, part, row, with_line
from ....support.servers.canvas import load, playwright


def test_each_line_is_a_row_that_shows_what_it_says(page):
    assert part(page, 0, "text").input_value() == "# people"
    assert part(page, 1, "name").text_content() == "people/anna"
    assert [part(page, 1, which).input_value() for which in ("model", "clip")] == ["0.80", "0.80"]
    assert [part(page, 3, which).input_value() for which in ("model", "clip")] == ["0.65", "0.30"]
    assert part(page, 3, "blocks").input_value() == "attn2: 0.5"
    assert [part(page, place, "on").get_attribute("aria-checked") for place in (1, 3)] == ["true", "false"]
    assert part(page, 4, "text").input_value() == "zebra stripes : much"
    playwright.expect(row(page, 4)).to_contain_text("the strength 'much' is not a number from -100 to 100")
    playwright.expect(row(page, 1)).to_contain_text("# mine")
    assert not page.locator("textarea:visible").count()


def test_rows_keep_their_shape_beside_the_pictures_of_other_nodes(page):
    names = ["style.safetensors : 1 : 0.8", "off " + "a long name " * 12 + ": 1 : 0.5 : attn2: 0.5"]
    load(page, "CVL_LoRAStack", widgets_values=["\n".join(names), False, False], size=[400, 420])
    playwright.expect(page.locator(".cvl-loras:visible .cvl-row")).to_have_count(2)
    playwright.expect(row(page, 1)).to_have_class(re.compile("cvl-wrong"), timeout=WAIT_MS)  # the server has answered
    shape = """() => [...document.querySelectorAll('.cvl-loras .cvl-row *')].map(part => {
        const { left, top, width, height } = part.getBoundingClientRect();
        return [part.className, left, top, width, height].map(String).join(' '); })"""
    before = page.evaluate(shape)
    page.evaluate("""async () => {
        const script = (await (await fetch('/extensions')).json()).find(path => path.endsWith('/lora_editor.js'));
        (await import(script.replace('lora_editor.js', 'gallery_style.mjs'))).installStyle(); }""")
    assert page.locator("#cvl-pictures-style").count() == 1
    assert page.evaluate(shape) == before
    inside = """() => [...document.querySelectorAll('.cvl-loras .cvl-row [data-field="info"], .cvl-loras .cvl-bar')]
        .map(part => part.closest('.cvl-list').getBoundingClientRect().right - part.getBoundingClientRect().right)"""
    assert all(room >= -1 for room in page.evaluate(inside))


def test_switches_and_strengths_write_their_own_line_alone(page):
    part(page, 1, "on").click()
    expect_list(page, with_line(1, "off people/anna : 0.8 # mine"))
    part(page, 1, "on").click()
    expect_list(page, LIST)
    part(page, 1, "model").click()
    page.keyboard.type("0.5")
    expect_list(page, with_line(1, "people/anna : 0.5 # mine"))
    assert part(page, 1, "clip").input_value() == "0.50"  # linked
    part(page, 1, "clip").click()
    page.keyboard.type("-1")
    page.keyboard.press("Tab")
    expect_list(page, with_line(1, "people/anna : 0.5 : -1 # mine"))
    part(page, 1, "model").click()
    for key in ("ArrowUp", "ArrowUp", "Shift+ArrowUp", "Enter"):
        page.keyboard.press(key)
    expect_list(page, with_line(1, "people/anna : 1.1 : -1 # mine"))
    part(page, 1, "model").click()
    page.keyboard.type("much")  # no number: nothing is written, and what was there comes back
    page.keyboard.press("Enter")
    expect_list(page, with_line(1, "people/anna : 1.1 : -1 # mine"))
    playwright.expect(part(page, 1, "model")).to_have_value("1.10")


def test_a_click_right_after_typing_is_not_lost(page):
    for _ in range(3):
        part(page, 1, "model").click()
        page.keyboard.type("0.5")
        part(page, 3, "on").hover()
        page.mouse.down()
        page.wait_for_timeout(250)  # the rows must not be made anew now
        page.mouse.up()
        expect_list(page, with_line(1, "people/anna : 0.5 # mine").replace("off ", ""))
        part(page, 3, "on").click()
        part(page, 1, "model").fill("0.8")
        page.keyboard.press("Enter")
        expect_list(page, LIST)


def test_the_node_grows_and_shrinks_with_its_rows(page):
    page.evaluate("app.graph.clear()")
    load(page, "CVL_LoRAStack", widgets_values=["style : 1", False, False])
    page.wait_for_timeout(500)
    heights = []
    for count in (1, 6, 2):
        text = "\n".join(["style : 1"] * count)
        page.evaluate("to => app.graph._nodes[0].widgets.find(w => w.name === 'loras').value = to", text)
        playwright.expect(page.locator(".cvl-loras:visible .cvl-row")).to_have_count(count)
        page.wait_for_timeout(300)
        heights.append(page.evaluate("app.graph._nodes[0].size[1]"))
    assert heights[1] > heights[0] + 80 and heights[2] < heights[1]


def test_a_name_is_searched_and_chosen_by_keys_and_by_mouse(page):
    part(page, 1, "name").click()
    options = page.locator(".cvl-option")
    playwright.expect(options).to_have_text(["anna.safetensors"], timeout=WAIT_MS)  # the folder of its own
    page.keyboard.type("ZEB saf")
    playwright.expect(options).to_have_text(["zebra stripes.safetensors"])
    page.keyboard.press("Enter")
    expect_list(page, with_line(1, "zebra stripes.safetensors : 0.8 # mine"))
    part(page, 1, "name").click()
    page.locator(".cvl-folder", has_text="old").click()
    page.locator(".cvl-option", has_text="anna").click()
    expect_list(page, with_line(1, "old/anna.safetensors : 0.8 # mine"))
    part(page, 1, "name").click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    playwright.expect(options).to_have_count(0)
    expect_list(page, with_line(1, "old/anna.safetensors : 0.8 # mine"))


def test_rows_are_added_and_removed(page):
    page.locator(".cvl-add:visible").click()
    page.keyboard.type("zebra")
    playwright.expect(page.locator(".cvl-option")).to_have_count(1, timeout=WAIT_MS)
    page.keyboard.press("Enter")
    expect_list(page, LIST + "\nzebra stripes.safetensors : 1")
    part(page, 0, "remove").click()
    part(page, 0, "remove").click()
    expect_list(page, "\n".join(LIST.split("\n")[2:]) + "\nzebra stripes.safetensors : 1")
    for _ in range(3):
        page.locator('.cvl-loras:visible [data-field="remove"]').first.click()
    playwright.expect(page.locator(".cvl-loras:visible .cvl-empty")).to_be_visible()


def test_rows_are_moved_by_keys_and_by_dragging(page):
    part(page, 1, "handle").focus()
    page.keyboard.press("ArrowDown")  # over the empty line
    lines = LIST.split("\n")
    expect_list(page, "\n".join([lines[0], lines[2], lines[3], lines[1], lines[4]]))
    page.keyboard.press("ArrowUp")
    expect_list(page, "\n".join([lines[0], lines[2], lines[1], lines[3], lines[4]]))
    page.wait_for_timeout(200)
    start, end = part(page, 3, "handle").bounding_box(), row(page, 0).bounding_box()
    page.mouse.move(start["x"] + 6, start["y"] + 8)
    page.mouse.down()
    page.mouse.move(start["x"] + 6, end["y"] + 60, steps=4)
    page.mouse.move(start["x"] + 6, end["y"] + 2, steps=4)
    assert page.locator(".cvl-before").count() == 1
    page.mouse.up()
    expect_list(page, "\n".join([lines[3], lines[0], lines[2], lines[1], lines[4]]))


def test_a_comment_and_a_line_that_is_wrong_are_written_as_text(page):
    part(page, 0, "text").fill("# other people")
    expect_list(page, with_line(0, "# other people"))
    part(page, 4, "text").click()
    page.keyboard.press("Control+A")
    page.keyboard.type("zebra stripes : 0.5")
    page.keyboard.press("Enter")
    playwright.expect(part(page, 4, "name")).to_have_text("zebra stripes")
    playwright.expect(row(page, 4).locator(".cvl-problem")).to_be_hidden(timeout=WAIT_MS)


def test_blocks_are_opened_and_written(page):
    part(page, 1, "openBlocks").click()
    page.keyboard.type("IN07-IN08: 0, attn2: 0.5")
    expect_list(page, with_line(1, "people/anna : 0.8 : 0.8 : IN07-IN08: 0, attn2: 0.5 # mine"))
    page.keyboard.type(" # no")  # would be a comment: it is not written
    assert part(page, 1, "blocks").get_attribute("class") == "cvl-bad"
    page.keyboard.press("Enter")
    expect_list(page, with_line(1, "people/anna : 0.8 : 0.8 : IN07-IN08: 0, attn2: 0.5 # mine"))
