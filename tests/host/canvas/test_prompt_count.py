"""The live count under a prompt, in a real browser on a real server.

Needs COMFYUI_PATH (see serving.py for a server in another Python), playwright, and a Chromium. COMFYUI_URL names a
server that runs already, with the pack in it.
"""

import json
import os
import urllib.request

import pytest

from clip_vae_lora.tests.support.servers.canvas import canvas, chromium, load, playwright, use_vue_nodes
from clip_vae_lora.tests.support.servers.serving import served

ROUTE = "**/clip_vae_lora/tokens"
WAIT_MS = 15_000  # for the first answer, which reads the tokenizer's table


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    if os.environ.get("COMFYUI_URL"):
        yield os.environ["COMFYUI_URL"]
        return
    with served(comfyui_path, tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(server, browser):
    page = canvas(browser, server, "CVL_TextEncodeSDXL")
    yield page
    page.close()


@pytest.fixture(params=["classic", "Vue nodes"])
def page(opened, request):
    """A canvas with one CVL_TextEncode in the middle of it, the server's answers let through."""
    use_vue_nodes(opened, request.param == "Vue nodes")
    opened.unroute_all()
    opened.errors.clear()
    load(opened, "CVL_TextEncode")
    expect_line(opened, "0 / 75 tokens · 1 chunk")
    yield opened
    assert not opened.errors


def line(page):
    return page.locator(".cvl-prompt-count")


def expect_line(page, text: str) -> None:
    playwright.expect(line(page).first).to_have_text(text, timeout=WAIT_MS)


def expect_in_line(page, text: str) -> None:
    playwright.expect(line(page).first).to_contain_text(text, timeout=WAIT_MS)


def type_prompt(page, text: str) -> None:
    page.locator("textarea:visible").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def value(page, widget: str = "text"):
    return page.evaluate("name => app.graph._nodes[0].widgets.find(w => w.name === name).value", widget)


def choose(page, widget: str, chosen: str) -> None:
    page.evaluate("([name, to]) => app.graph._nodes[0].widgets.find(w => w.name === name).value = to", [widget, chosen])


def test_the_line_follows_what_is_typed(page):
    type_prompt(page, "a red circle")
    expect_line(page, "3 / 75 tokens · 1 chunk")
    type_prompt(page, "cat " * 76)
    expect_line(page, "76 tokens · 2 chunks (75 + 1)")


def test_the_line_follows_the_dialect_and_the_joining_words(page):
    type_prompt(page, "a cat BREAK a dog")
    expect_in_line(page, "5 / 75 tokens · 1 chunk · ⚠")
    choose(page, "dialect", "a1111")
    expect_line(page, "4 tokens · 2 chunks (2 + 2)")
    choose(page, "dialect", "comfy")
    choose(page, "joining", "BREAK CONCAT AVERAGE")
    expect_line(page, "4 tokens · 2 chunks (2 + 2)")


def test_what_is_lost_is_said_with_a_warning_sign(page):
    type_prompt(page, "a embedding:nowhere")
    expect_in_line(page, "1 / 75 tokens · 1 chunk · ⚠ embedding nowhere not used")


def test_a_click_opens_the_coloured_tokens_and_another_closes_them(page):
    type_prompt(page, "a (red:1.3) and (blue:0.7) cat")
    expect_line(page, "5 / 75 tokens · 1 chunk")
    panel = page.locator(".cvl-prompt-panel").first
    assert not panel.is_visible()
    line(page).first.click()
    red, blue, cat = (panel.locator("span", has_text=word) for word in ("red", "blue", "cat"))
    playwright.expect(red).to_have_attribute("title", "id 736 · weight 1.3")
    colours = [span.evaluate("span => getComputedStyle(span).backgroundColor") for span in (red, blue, cat)]
    assert colours[0].startswith("rgba(220, 60, 60") and colours[1].startswith("rgba(70, 120, 230")
    assert colours[2] == "rgba(0, 0, 0, 0)"  # weight 1
    playwright.expect(panel).to_contain_text("chunk 1 · 5 / 75")
    line(page).first.click()
    assert not panel.is_visible()


def test_an_answer_is_shown_as_text_never_as_html(page):
    tag = "<img src=x onerror=alert(1)>"
    chunk = {"used": 1, "join": tag, "weight": 1, "pieces": [{"text": tag, "id": 1, "weight": 1}]}
    said = {"tokens": 1, "limit": 75, "chunks": [chunk], "notes": [tag], "embeddings": [tag], "more": tag}
    page.route(ROUTE, lambda route: route.fulfill(json=said))
    line(page).first.click()
    expect_in_line(page, tag)
    assert page.locator(".cvl-prompt-panel").first.text_content().count(tag) == 5
    assert page.locator(".cvl-prompt-panel img, .cvl-prompt-count img").count() == 0


def test_typing_does_not_wait_for_a_slow_server(page):
    page.route(ROUTE, lambda route: None)  # asked, and never answered
    type_prompt(page, "a painting of an old harbour " * 4)
    assert value(page) == "a painting of an old harbour " * 4


def test_an_answer_that_comes_too_late_is_thrown_away(page):
    held = []

    def hold_the_first(route):
        held.append(route) if not held else route.continue_()

    page.route(ROUTE, hold_the_first)
    type_prompt(page, "one two")
    page.wait_for_timeout(600)
    assert len(held) == 1
    type_prompt(page, "one two three")
    expect_line(page, "3 / 75 tokens · 1 chunk")
    try:
        held[0].fulfill(json={"tokens": 99, "limit": 75, "chunks": [{"used": 99}], "notes": []})
    except playwright.Error:
        pass  # the page has given the old question up
    page.wait_for_timeout(400)
    expect_line(page, "3 / 75 tokens · 1 chunk")


def test_keys_in_a_row_are_one_question(page):
    asked = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/tokens") else None)
    page.locator("textarea:visible").first.click()
    page.keyboard.type("twenty letters in a row", delay=40)
    expect_line(page, "5 / 75 tokens · 1 chunk")
    assert len(asked) <= 6  # for 23 keys: one after the last, and where a busy machine paused between two


def test_without_a_server_there_is_no_count_and_nothing_else_breaks(page):
    page.route(ROUTE, lambda route: route.abort())
    type_prompt(page, "a cat")
    expect_in_line(page, "no count")
    assert value(page) == "a cat"
    page.unroute_all()
    type_prompt(page, "a cat sat")
    expect_line(page, "3 / 75 tokens · 1 chunk")


def test_a_prompt_too_long_to_count_is_told_so(page):
    page.evaluate("() => app.graph._nodes[0].widgets.find(w => w.name === 'text').value = 'a'.repeat(70000)")
    expect_in_line(page, "no count · ⚠ this prompt has more than the 64 kB")


def test_a_prompt_that_comes_by_a_link_is_not_counted(page):
    page.evaluate("""() => {
      const from = LiteGraph.createNode("PrimitiveStringMultiline");
      from.pos = [50, 200];
      app.graph.add(from);
      const to = app.graph._nodes.find(node => node.comfyClass === "CVL_TextEncode");
      from.connect(0, to, to.inputs.findIndex(input => input.name === "text"));
    }""")
    expect_line(page, "comes from a link")
    page.evaluate(
        "() => { const to = app.graph._nodes.find(node => node.comfyClass === 'CVL_TextEncode');"
        "to.disconnectInput(to.inputs.findIndex(input => input.name === 'text')) }"
    )
    expect_line(page, "0 / 75 tokens · 1 chunk")


@pytest.mark.parametrize("kind", ["CVL_TextEncode", "CVL_TextEncodeSDXL", "CVL_InspectTokens"])
def test_nothing_of_it_is_in_the_saved_graph_or_in_the_prompt(page, server, kind):
    spec = json.load(urllib.request.urlopen(f"{server}/object_info/{kind}"))[kind]["input"]
    widgets = [name for group in spec.values() for name, (first, *_) in group.items() if first != "CLIP"]
    load(page, kind)
    found = page.evaluate("""async () => {
      const node = app.graph._nodes[0];
      for (const w of node.widgets) if (w.name.startsWith("text")) w.value = "words for " + w.name;
      const wanted = node.widgets.filter(w => w.serialize !== false).map(w => w.value);
      await new Promise(done => setTimeout(done, 600));
      const loader = LiteGraph.createNode("CLIPLoader");  // one that is connected to nothing is not sent
      app.graph.add(loader);
      loader.connect(0, node, node.inputs.findIndex(input => input.type === "CLIP"));
      const size = node.serialize().size, isOurs = one => one.type === node.type;
      document.querySelector(".cvl-prompt-count").click();
      await new Promise(done => setTimeout(done, 300));
      const prompt = (await app.graphToPrompt()).output;
      const saved = JSON.parse(JSON.stringify(app.graph.serialize()));
      await app.loadGraphData(JSON.parse(JSON.stringify(saved)));
      await new Promise(done => setTimeout(done, 600));
      const back = app.graph._nodes.find(isOurs), {clip, ...inputs} = prompt[String(node.id)].inputs;
      return {wanted, size, saved: saved.nodes.find(isOurs), inputs,
              back: back.widgets.filter(w => w.serialize !== false).map(w => w.value),
              again: JSON.parse(JSON.stringify(back.serialize()))};
    }""")
    assert len(found["wanted"]) == len(widgets)
    assert found["saved"]["widgets_values"] == found["wanted"] == found["back"] == found["again"]["widgets_values"]
    assert sorted(found["inputs"]) == sorted(widgets)
    assert "cvl_count" not in json.dumps(found["saved"])
    assert abs(found["saved"]["size"][1] - found["size"][1]) <= 2  # the open panel is not part of it; Vue rounds
