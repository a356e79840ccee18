"""Prompts as they are sent and noted, and completion while one writes, in a real browser on a real server.

Needs what test_prompt_count.py needs.
"""

import os
import re

import pytest

from clip_vae_lora.tests.support.servers.canvas import canvas, chromium, load, playwright, use_vue_nodes
from clip_vae_lora.tests.support.servers.serving import served

WAIT_MS = 30_000
TABLE = 'long_hair,0,4350743,"/lh,longhair"\nlong_legs,0,9,\nlongsword,0,800,\nsaber_(fate),0,5,\n'


@pytest.fixture(scope="module")
def opened(comfyui_path, tmp_path_factory):
    base = tmp_path_factory.mktemp("server")
    (base / "input").mkdir()
    (base / "models" / "embeddings").mkdir(parents=True)
    (base / "input" / "tags.csv").write_text(TABLE)
    for name in ("easynegative.safetensors", "bad_hands.pt"):
        (base / "models" / "embeddings" / name).touch()
    if os.environ.get("COMFYUI_URL"):
        pytest.skip("needs a server with files of its own")
    with served(comfyui_path, base) as address, chromium() as browser:
        page = canvas(browser, address, "CVL_TextEncode")
        page.evaluate("() => app.extensionManager.setting.set('clip-vae-lora.Words', 'tags.csv')")
        yield page
        page.close()


@pytest.fixture(params=["classic", "Vue nodes"])
def page(opened, request):
    use_vue_nodes(opened, request.param == "Vue nodes")
    opened.errors.clear()
    load(opened, "CVL_TextEncode")
    playwright.expect(line(opened).first).to_have_text("0 / 75 tokens · 1 chunk", timeout=WAIT_MS)
    yield opened
    assert not opened.errors


def line(page):
    return page.locator(".cvl-prompt-count")


def suggestions(page):
    return page.locator(".cvl-complete-row > :first-child")


def write(page, text: str) -> None:
    page.locator("textarea:visible").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.type(text)


def value(page) -> str:
    return page.evaluate("() => app.graph._nodes[0].widgets.find(w => w.name === 'text').value")


def expect_value(page, text: str) -> None:
    page.wait_for_function(
        "text => app.graph._nodes[0].widgets.find(w => w.name === 'text').value === text", arg=text, timeout=WAIT_MS
    )


# what is sent

TYPED = [
    "a {red|blue} cat // note\nsits /* here\n */ on {a|the {old|new}} mat",
    r"\{a\|b\} \(c\) {x}",
    "plain (words:1.2)",
    "{unclosed|b",
]


@pytest.mark.parametrize("kind, names", [("CVL_TextEncode", ["text"]), ("CVL_TextEncodeSDXL", ["text_g", "text_l"])])
@pytest.mark.parametrize("typed", TYPED)
def test_a_prompt_is_sent_as_that_of_the_stock_node_and_saved_as_typed(opened, kind, names, typed):
    for drawn in (0, 0.999):
        found = opened.evaluate(
            """async ([kind, names, typed, drawn]) => {
          const random = Math.random;
          try {
            app.graph.clear();
            const clip = LiteGraph.createNode("CLIPLoader"), ours = LiteGraph.createNode(kind);
            const stock = LiteGraph.createNode("CLIPTextEncode");
            for (const node of [clip, ours, stock]) app.graph.add(node);
            for (const node of [ours, stock]) clip.connect(0, node, 0);
            for (const node of [ours, stock]) for (const widget of node.widgets)
              if ([...names, "text"].includes(widget.name)) widget.value = typed;
            const before = ours.widgets.filter(w => w.serialize !== false).map(w => w.value);
            Math.random = () => drawn;
            const {workflow, output} = await app.graphToPrompt();
            const saved = workflow.nodes.find(node => node.type === kind).widgets_values;
            return {ours: names.map(name => output[ours.id].inputs[name]), stock: output[stock.id].inputs.text,
                    before, saved: JSON.parse(JSON.stringify(saved))};
          } finally {
            Math.random = random;
          }
        }""",
            [kind, names, typed, drawn],
        )
        assert found["ours"] == [found["stock"]] * len(names)
        assert found["saved"] == found["before"]


def test_the_line_counts_what_is_sent_and_says_that_it_is_drawn(page):
    write(page, "a {red|very dark blue} cat // not counted")
    shown = line(page).first
    playwright.expect(shown).to_contain_text("3 / 75 tokens · 1 chunk · ⚠ {a|b} is drawn anew", timeout=WAIT_MS)
    playwright.expect(shown).to_contain_text("(+1)")
    playwright.expect(shown).to_have_attribute("title", re.compile("are left out"))


# notes


def test_the_gravest_note_stands_first_and_all_of_them_open(page):
    write(page, "((red)) [x] <lora:style:1> embedding:nowhere AND ")
    page.keyboard.press("Escape")
    shown = line(page).first
    playwright.expect(shown).to_contain_text("⚠ embedding nowhere not used", timeout=WAIT_MS)
    more = page.locator(".cvl-prompt-more").first
    box, button = more.bounding_box(), shown.bounding_box()
    assert more.text_content().startswith(" (+") and box["x"] + box["width"] <= button["x"] + button["width"]
    shown.click()
    said = page.locator(".cvl-prompt-panel .cvl-prompt-said")
    playwright.expect(said.nth(1)).to_contain_text("<lora:style:1>", timeout=WAIT_MS)
    assert said.count() == 1 + int(more.text_content().strip(" (+)"))
    shown.click()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_note_can_be_read_in_both_themes(opened, theme):
    use_vue_nodes(opened, False)
    opened.evaluate("theme => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme)
    load(opened, "CVL_TextEncode")
    write(opened, "<lora:style:1> x")
    opened.keyboard.press("Escape")
    playwright.expect(line(opened).first).to_contain_text("⚠", timeout=WAIT_MS)
    contrast = opened.evaluate(
        """() => {
      const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
      const light = colours => {
        for (const colour of colours) { paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1); }
        const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map(c => c / 255)
          .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const behind = LiteGraph.NODE_DEFAULT_BGCOLOR;
      const {color} = getComputedStyle(document.querySelector(".cvl-prompt-count"));
      const [a, b] = [light([behind]), light([behind, color])];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }"""
    )
    opened.evaluate("() => app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")
    assert contrast >= 4.5


def test_the_two_prompts_of_sdxl_say_which_they_are(opened):
    load(opened, "CVL_TextEncodeSDXL")
    playwright.expect(line(opened).nth(0)).to_have_text("large encoder (G): 0 / 75 tokens · 1 chunk", timeout=WAIT_MS)
    playwright.expect(line(opened).nth(1)).to_have_text("small encoder (L): 0 / 75 tokens · 1 chunk", timeout=WAIT_MS)


@pytest.mark.parametrize("mode", [2, 4], ids=["muted", "bypassed"])
def test_the_line_is_dim_where_the_node_is_off(page, mode):
    page.evaluate("mode => { app.graph._nodes[0].mode = mode; app.canvas.setDirty(true, true); }", mode)
    page.wait_for_timeout(500)
    opacity = page.evaluate("""() => {
      let all = 1;
      let at = document.querySelector(".cvl-prompt-count");
      for (; at; at = at.parentElement) all *= getComputedStyle(at).opacity;
      return all;
    }""")
    assert 0.2 <= opacity <= 0.6


def test_there_is_no_gap_under_the_line_of_a_high_node(page):
    page.evaluate(
        "() => { const node = app.graph._nodes[0]; node.setSize([400, 900]); app.canvas.setDirty(true, true); }"
    )
    page.wait_for_timeout(600)
    area, shown = page.locator("textarea:visible").first.bounding_box(), line(page).first.bounding_box()
    assert 0 <= shown["y"] - (area["y"] + area["height"]) < 30 and area["height"] > 300
    box = page.evaluate("() => document.querySelector('.cvl-prompt-box').getBoundingClientRect().height")
    assert box < 40


# completion


def test_embeddings_are_completed_by_keyboard_and_can_be_undone(page):
    write(page, "a cat, embedding:ne")
    playwright.expect(suggestions(page)).to_have_text(["easynegative"], timeout=WAIT_MS)
    page.keyboard.press("Tab")
    expect_value(page, "a cat, embedding:easynegative")
    assert not page.locator(".cvl-complete").count()
    page.keyboard.press("Control+Z")
    page.wait_for_timeout(300)
    assert value(page).startswith("a cat, embedding:ne") and "easynegative" not in value(page)


def test_own_words_are_completed_the_most_used_first(page):
    write(page, "a girl with long")
    playwright.expect(suggestions(page)).to_have_text(["long_hair", "longsword", "long_legs"], timeout=WAIT_MS)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect_value(page, "a girl with long hair")


def test_enter_and_escape_are_their_own_where_no_list_is_open(page):
    write(page, "zzz")
    page.wait_for_timeout(400)
    page.keyboard.press("Enter")
    page.keyboard.type("long")
    playwright.expect(suggestions(page).first).to_be_visible(timeout=WAIT_MS)
    page.keyboard.press("Escape")
    assert not page.locator(".cvl-complete").count()
    page.keyboard.press("Enter")
    expect_value(page, "zzz\nlong\n")


def test_a_lora_tag_is_told_that_it_loads_nothing_and_enter_stays_enter(page):
    write(page, "a <lora:st")
    playwright.expect(suggestions(page)).to_contain_text(["loads nothing here"], timeout=WAIT_MS)
    page.keyboard.press("Enter")
    expect_value(page, "a <lora:st\n")


def test_the_list_stays_closed_where_another_packs_is_open_and_where_it_is_switched_off(page):
    page.evaluate("""() => {
      const other = document.createElement("div");
      other.className = "pysssss-autocomplete"; other.textContent = "theirs"; other.style.position = "fixed";
      document.body.append(other);
    }""")
    write(page, "long")
    page.wait_for_timeout(600)
    assert not page.locator(".cvl-complete").count()
    page.evaluate("() => document.querySelector('.pysssss-autocomplete').remove()")
    page.evaluate("() => app.extensionManager.setting.set('clip-vae-lora.Complete', false)")
    write(page, "long")
    page.wait_for_timeout(600)
    assert not page.locator(".cvl-complete").count()
    page.evaluate("() => app.extensionManager.setting.set('clip-vae-lora.Complete', true)")


def test_nothing_opens_in_a_prompt_that_is_not_ours(page):
    load(page, "CLIPTextEncode")
    page.wait_for_timeout(300)
    write(page, "long")
    page.wait_for_timeout(600)
    assert not page.locator(".cvl-complete").count()
