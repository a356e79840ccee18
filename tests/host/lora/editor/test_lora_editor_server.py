"""The rows of LoRA Stack's list with the server, undo and copies, in a real browser on a real server.

Needs COMFYUI_PATH (see serving.py for a server in another Python), playwright, and a Chromium.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from ....support.loras.editor import HEADERS, LIST, TAG, WAIT_MS, expect_list, part, row, show, with_line
from ....support.servers.canvas import playwright


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
    popup.locator(".cvl-copy").click()
    playwright.expect(popup.locator("[data-said=copied]")).to_have_count(1)
    assert page.evaluate("navigator.clipboard.readText()") == f"sks, {TAG}"
    page.keyboard.press("Escape")
    part(page, 1, "words").click()
    playwright.expect(popup.locator(".cvl-chip")).to_have_text(["anna woman", TAG], timeout=WAIT_MS)
    playwright.expect(popup.locator("[aria-pressed=true]")).to_have_count(0)  # tags of the training are not its words


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


PLAIN = ("STRING", "BOOLEAN")


def test_nothing_but_the_text_is_saved_and_sent(page, server):
    spec = json.load(urllib.request.urlopen(f"{server}/object_info/CVL_LoRAStack"))["CVL_LoRAStack"]["input"]
    names = [
        name
        for group in spec.values()
        for name, (first, *_) in group.items()
        if first.upper() != first or first in PLAIN
    ]
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

    assert post("loras", b'{"menu": true}')[1]["menu"][:-1] == sorted(HEADERS)
    assert post("lora_header", b'{"name": "people/anna.safetensors"}')[1]["tags"] == ["anna woman", TAG]
    for name in ("../../secret.safetensors", "/etc/passwd", str(Path(__file__))):
        status, answer = post("lora_header", json.dumps({"name": name}).encode())
        assert status == 400 and "in the menu was expected" in answer["error"]
    with urllib.request.urlopen(f"{server}/clip_vae_lora/lora_preview?name=people/anna.safetensors") as response:
        assert response.headers["Content-Type"] == "image/jpeg" and response.read(2) == b"\xff\xd8"
        again = urllib.request.Request(response.url, headers={"If-None-Match": response.headers["ETag"]})
        assert "max-age" in response.headers["Cache-Control"]
    with pytest.raises(urllib.error.HTTPError, match="304"):
        urllib.request.urlopen(again)
    for name, status in (
        ("style.safetensors", 404),
        ("../../secret.png", 400),
        ("/etc/passwd", 400),
        ("people/anna.preview.png", 400),
        ("people/../people/anna.safetensors", 400),
    ):
        with pytest.raises(urllib.error.HTTPError, match=str(status)):
            urllib.request.urlopen(f"{server}/clip_vae_lora/lora_preview?name={urllib.parse.quote(name, safe='')}")
    assert post("loras", b"[")[0] == post("lora_header", b"[")[0] == 400
    assert post("loras", b" " * 70_000)[0] == 413
