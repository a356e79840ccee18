"""The rows of LoRA Stack's list, in a real browser on a real server with LoRA files of its own.

Needs COMFYUI_PATH (see serving.py for a server in another Python), playwright, and a Chromium.
"""

import json
import urllib.request
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clip_vae_lora.tests.support.servers.canvas import canvas, chromium, load, playwright, use_vue_nodes
from clip_vae_lora.tests.support.servers.serving import served

WAIT_MS = 15_000
TAG = "<img src=x onerror=alert(1)>"
HEADERS = {
    "style.safetensors": {"modelspec.title": f"Ink {TAG}", "modelspec.trigger_phrase": f"sks, {TAG}"},
    "people/anna.safetensors": {"ss_tag_frequency": json.dumps({"10_anna": {"anna woman": 9, TAG: 5}})},
    "old/anna.safetensors": {},
    "zebra stripes.safetensors": {},
}
LIST = "# people\npeople/anna : 0.8 # mine\n\noff style.safetensors : 0.65 : 0.3 : attn2: 0.5\nzebra stripes : much"


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    base = tmp_path_factory.mktemp("server")
    for name, header in HEADERS.items():
        path = base / "models" / "loras" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, path, header)
    with served(comfyui_path, base) as address:
        yield address


@pytest.fixture(scope="module")
def opened(server):
    with chromium() as browser:
        page = canvas(browser, server, "CVL_LoRAStack")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield page


@pytest.fixture(params=["classic", "Vue nodes"])
def page(opened, request):
    """A canvas with one CVL_LoRAStack in the middle of it, that has LIST."""
    use_vue_nodes(opened, request.param == "Vue nodes")
    opened.unroute_all()
    opened.errors.clear()
    show(opened, LIST)
    yield opened
    opened.keyboard.press("Escape")
    assert not [error for error in opened.errors if "lora_" in error]


def show(page, text: str) -> None:
    load(page, "CVL_LoRAStack", widgets_values=[text, False, False], size=[400, 420])
    playwright.expect(page.locator(".cvl-loras:visible .cvl-row")).to_have_count(len(text.splitlines()))


def row(page, place: int):
    return page.locator(f'.cvl-loras:visible [data-place="{place}"]')


def part(page, place: int, field: str):
    return row(page, place).locator(f'[data-field="{field}"]')


def value(page) -> str:
    return page.evaluate("app.graph._nodes[0].widgets.find(w => w.name === 'loras').value")


def expect_list(page, text: str) -> None:
    page.wait_for_function(
        """wanted => app.graph._nodes[0]?.widgets.find(w => w.name === 'loras').value === wanted""",
        arg=text,
        timeout=WAIT_MS,
    )


def with_line(place: int, written: str) -> str:
    lines = LIST.split("\n")
    lines[place] = written
    return "\n".join(lines)


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
    playwright.expect(options).to_have_count(5, timeout=WAIT_MS)
    page.keyboard.type("ZEB saf")
    playwright.expect(options).to_have_text(["zebra stripes.safetensors"])
    page.keyboard.press("Enter")
    expect_list(page, with_line(1, "zebra stripes.safetensors : 0.8 # mine"))
    part(page, 1, "name").click()
    page.locator(".cvl-option", has_text="old/anna").click()
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


def test_a_name_that_is_none_or_several_is_marked_with_the_servers_sentence(page):
    show(page, "anna : 0.5\noff stlye")
    for place, sentence in enumerate(
        (
            "'anna' could be old/anna.safetensors or people/anna.safetensors; write which",
            "there is no LoRA 'stlye' in the folder loras; did you mean style.safetensors?",
        )
    ):
        playwright.expect(row(page, place).locator(".cvl-problem")).to_have_text(sentence, timeout=WAIT_MS)
        part(page, place, "words").click()
        playwright.expect(page.locator(".cvl-popup")).to_have_text(f"⚠ {sentence}")
        page.keyboard.press("Escape")


def test_trigger_words_are_shown_as_text_and_copied_by_a_click(page):
    playwright.expect(part(page, 3, "words")).to_be_enabled(timeout=WAIT_MS)
    part(page, 3, "words").click()
    popup = page.locator(".cvl-popup")
    playwright.expect(popup).to_contain_text(f"Ink {TAG}", timeout=WAIT_MS)
    assert not page.locator(".cvl-popup img").count()
    popup.locator(".cvl-chip").click()
    playwright.expect(popup.locator("[data-said=copied]")).to_have_count(1)
    assert page.evaluate("navigator.clipboard.readText()") == f"sks, {TAG}"
    page.keyboard.press("Escape")
    part(page, 1, "words").click()
    playwright.expect(popup.locator(".cvl-chip")).to_have_text(["anna woman", TAG, "copy all"], timeout=WAIT_MS)


def test_the_text_is_the_one_truth_in_both_views(page):
    page.locator(".cvl-modes:visible button", has_text="text").click()
    area = page.locator("textarea:visible").first
    playwright.expect(area).to_have_value(LIST)
    area.fill("style : 0.1\n# that is all")
    assert not page.locator(".cvl-loras:visible .cvl-row").count()
    page.locator(".cvl-modes:visible button", has_text="rows").click()
    playwright.expect(part(page, 0, "model")).to_have_value("0.10")
    page.evaluate("app.graph._nodes[0].widgets.find(w => w.name === 'loras').value = 'off style : 7'")
    playwright.expect(part(page, 0, "model")).to_have_value("7.00")
    assert not page.locator("textarea:visible").count()


def test_a_list_that_comes_by_a_link_has_no_rows_until_it_is_cut(page):
    page.evaluate("""() => {
      const from = LiteGraph.createNode("PrimitiveStringMultiline");
      from.pos = [50, 200];
      app.graph.add(from);
      const to = app.graph._nodes.find(node => node.comfyClass === "CVL_LoRAStack");
      from.connect(0, to, to.inputs.findIndex(input => input.name === "loras"));
    }""")
    playwright.expect(page.locator(".cvl-count:visible")).to_have_text("comes from a link")
    assert not page.locator(".cvl-loras:visible .cvl-row").count()
    page.evaluate(
        "() => { const to = app.graph._nodes.find(node => node.comfyClass === 'CVL_LoRAStack');"
        "to.disconnectInput(to.inputs.findIndex(input => input.name === 'loras')) }"
    )
    playwright.expect(page.locator(".cvl-loras:visible .cvl-row")).to_have_count(5)


def test_undo_takes_an_edit_back_and_redo_brings_it_again(page):
    off, changed = (with_line(1, f"off people/anna : {strength} # mine") for strength in (0.8, 0.25))

    def settled(text):
        expect_list(page, text)
        page.wait_for_timeout(400)  # the frontend makes one step of what happens within 50 ms; it undoes by loading

    settled(LIST)
    part(page, 1, "on").click()
    settled(off)
    part(page, 1, "model").click()
    page.keyboard.type("0.25")
    page.keyboard.press("Enter")
    settled(changed)
    for key, text in (("Control+Z", off), ("Control+Z", LIST), ("Control+Y", off)):
        page.keyboard.press(key)
        settled(text)
    playwright.expect(part(page, 1, "on")).to_have_attribute("aria-checked", "false")


def test_a_copied_node_has_rows_of_its_own(page):
    page.evaluate("""() => {
      app.canvas.selectItems([app.graph._nodes[0]]);
      app.canvas.copyToClipboard();
      app.canvas.pasteFromClipboard();
      app.graph._nodes[1].pos = [950, 200];
    }""")
    second = page.locator(".cvl-loras:visible").filter(has=page.locator('[data-place="1"]')).nth(1)
    playwright.expect(second.locator(".cvl-row")).to_have_count(5)
    second.locator('[data-place="1"] [data-field="on"]').click()
    texts = page.evaluate("app.graph._nodes.map(n => n.widgets.find(w => w.name === 'loras').value)")
    assert sorted(texts) == sorted([LIST, with_line(1, "off people/anna : 0.8 # mine")])


def test_nothing_but_the_text_is_saved_and_sent(page, server):
    spec = json.load(urllib.request.urlopen(f"{server}/object_info/CVL_LoRAStack"))["CVL_LoRAStack"]["input"]
    names = [name for group in spec.values() for name, (first, *_) in group.items() if first not in ("MODEL", "CLIP")]
    part(page, 1, "on").click()
    part(page, 1, "openBlocks").click()
    expected = [with_line(1, "off people/anna : 0.8 # mine"), False, False]
    for mode in ("rows", "text"):
        page.locator(".cvl-modes:visible button", has_text=mode).click()
        page.wait_for_timeout(300)
        found = page.evaluate("""async () => {
          const prompt = (await app.graphToPrompt()).output;
          const saved = JSON.parse(JSON.stringify(app.graph.serialize()));
          await app.loadGraphData(JSON.parse(JSON.stringify(saved)));
          await new Promise(done => setTimeout(done, 500));
          return {saved: saved.nodes[0], inputs: Object.values(prompt)[0].inputs,
                  again: JSON.parse(JSON.stringify(app.graph._nodes[0].serialize()))};
        }""")
        assert found["saved"]["widgets_values"] == found["again"]["widgets_values"] == expected
        assert found["inputs"] == dict(zip(names, expected))
        assert "cvl_" not in json.dumps(found["saved"])
        assert abs(found["saved"]["size"][1] - found["again"]["size"][1]) <= 2


def test_without_the_servers_answer_the_rows_work_all_the_same(page):
    page.route("**/clip_vae_lora/*", lambda route: route.abort())
    show(page, LIST)
    part(page, 1, "on").click()
    expect_list(page, with_line(1, "off people/anna : 0.8 # mine"))
    playwright.expect(row(page, 4)).to_contain_text("this line cannot be followed")
    part(page, 1, "name").click()
    playwright.expect(page.locator(".cvl-menu")).to_contain_text("the server did not answer")


def test_the_routes_answer_json_and_take_no_paths(server):
    def post(route: str, body: bytes) -> tuple[int, dict]:
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{server}/clip_vae_lora/{route}", body)) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    assert post("loras", b'{"menu": true}')[1]["menu"][1:] == sorted(HEADERS)
    assert post("lora_header", b'{"name": "people/anna.safetensors"}')[1]["trigger_words"] == ["anna woman", TAG]
    for name in ("../../secret.safetensors", "/etc/passwd", str(Path(__file__))):
        status, answer = post("lora_header", json.dumps({"name": name}).encode())
        assert status == 400 and "in the menu was expected" in answer["error"]
    assert post("loras", b"[")[0] == post("lora_header", b"[")[0] == 400
    assert post("loras", b" " * 70_000)[0] == 413
