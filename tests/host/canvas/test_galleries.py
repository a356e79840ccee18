"""Galleries on the canvas: they stay, their pictures are dragged and picked, and the clipboard is spoken of truly.

Needs what test_pictures.py needs; COMFYUI_ARGS names another front end.
"""

import pytest

from clip_vae_lora.tests.support.servers.canvas import canvas, chromium, open_workflow, playwright, run, use_vue_nodes
from clip_vae_lora.tests.support.servers.galleries import (
    WAIT_MS,
    WORKFLOWS,
    cards,
    drag,
    expect_cards,
    found_pictures,
    loaders,
    opened_gallery,
)
from clip_vae_lora.tests.support.servers.reports import click_beside, move, other_tab, press, two_pictures
from clip_vae_lora.tests.support.servers.serving import served

GALLERY = "app.graph._nodes.find(({widgets}) => widgets?.some(({name}) => name === 'cvl_gallery'))"
TOAST = ".p-toast-message, [role=region] > ol > [role=alert]"  # of old and of new front ends
PICKED = f"() => {GALLERY}.widgets.find(({{name}}) => name === 'picked').value"

CLEARED = """([clientX, clientY]) => {  // nothing lies under that point
  const at = app.canvas.convertEventToCanvasOffset({clientX, clientY});
  for (const node of app.canvas.graph._nodes) {
    const [x, y, width, height] = [...node.pos, ...node.size];
    const isThere = at[0] > x - 20 && at[0] < x + width + 20 && at[1] > y - 50 && at[1] < y + height + 20;
    if (isThere) node.pos = [x, y + 5000];
  }
  app.canvas.draw(true, true);  // classic nodes are found where they were drawn
}"""


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    base = tmp_path_factory.mktemp("server")
    found_pictures(base)
    with served(comfyui_path, base) as address:
        yield address


@pytest.fixture(scope="module")
def opened(server):
    with chromium() as browser:
        page = canvas(browser, server, "CVL_SearchImages")
        yield page
        page.close()


@pytest.fixture(params=["classic", "Vue nodes"])
def page(opened, request):
    """One page for all tests: what was drawn one way before must not disturb what is drawn the other way."""
    use_vue_nodes(opened, request.param == "Vue nodes")
    opened.errors.clear()
    yield opened
    assert not opened.errors


def test_a_found_picture_is_dragged_onto_load_image_and_onto_the_empty_canvas(page):
    opened_gallery(page, "search")
    drag(page, 1, (1100, 130))
    second = cards(page).nth(1).locator("img").get_attribute("alt").removesuffix(" [output]")
    assert loaders(page) == [f"{second} [output]"]
    drag(page, 0, (1100, 800))
    first = cards(page).nth(0).locator("img").get_attribute("alt").removesuffix(" [output]")
    assert sorted(loaders(page)) == sorted([f"{second} [output]", f"{first} [output]"])
    assert page.evaluate(PICKED) == ""
    page.wait_for_function(
        "() => app.graph._nodes.filter(({type, imgs}) => type === 'LoadImage' && imgs?.length)"
        ".length === 2 || LiteGraph.vueNodesMode",
        timeout=15_000,
    )


def test_a_picture_let_go_on_a_message_over_the_empty_canvas_is_loaded_there(page):
    opened_gallery(page, "search")
    page.evaluate("() => app.extensionManager.toast.add({severity: 'info', summary: 'a message', detail: 'of a test'})")
    toast = page.locator(TOAST).filter(has_text="a message").first
    playwright.expect(toast).to_be_visible()
    page.wait_for_timeout(500)  # it comes in sliding
    box = toast.bounding_box()
    corner = page.evaluate("() => { const {x, y} = app.canvas.canvas.getBoundingClientRect(); return [x, y] }")
    before = len(loaders(page))
    page.evaluate(CLEARED, [box["x"] + 20, box["y"] + 20])
    drag(page, 0, (box["x"] + 20 - corner[0], box["y"] + 20 - corner[1]))
    assert len(loaders(page)) == before + 1
    assert page.locator(TOAST).count() == 1  # the front end did not take the picture for a workflow
    toast.locator("button").last.click()
    playwright.expect(page.locator(TOAST)).to_have_count(0)


@pytest.mark.parametrize("kind", WORKFLOWS)
def test_a_gallery_is_there_after_undo_another_tab_and_a_reload(page, kind):
    opened_gallery(page, kind)
    count = cards(page).count()
    click_beside(page)
    number = page.evaluate(f"() => {GALLERY}.id")
    move(page, number)
    press(page, "Control+z")
    expect_cards(page)
    open_workflow(page, *two_pictures())
    assert cards(page).count() == 0
    other_tab(page, "Previous")
    expect_cards(page)
    page.reload()
    page.wait_for_function(
        "!!(window.app?.graph && window.LiteGraph?.registered_node_types?.CVL_SearchImages)", timeout=WAIT_MS
    )
    expect_cards(page)
    assert cards(page).count() == count
    click_beside(page)
    move(page, number)
    press(page, "Control+z")
    expect_cards(page)


@pytest.mark.parametrize("kind", ["search", "rank"])
def test_a_click_reaches_the_picked_input_and_what_comes_out(page, kind):
    opened_gallery(page, kind)
    name = cards(page).nth(1).locator("img").get_attribute("alt")
    cards(page).nth(1).locator("img").click()
    picked = page.evaluate(PICKED)
    assert name in picked if kind == "search" else picked == "1"
    assert cards(page).nth(1).get_attribute("data-picked") is not None
    assert run(page) == "execution_success"
    expect_cards(page)
    said = page.evaluate(f"() => {GALLERY}.properties.cvl_report.text")
    assert "picked by hand" in said
    page.locator(".cvl-pictures:visible .cvl-clear").first.click()
    assert page.evaluate(PICKED) == ""


def test_names_that_did_not_reach_the_clipboard_are_not_said_to_be_copied(page):
    opened_gallery(page, "duplicates")
    copy = page.locator(".cvl-pictures:visible .cvl-copy").first
    page.evaluate("""() => {
      const refused = () => Promise.reject(new Error("not allowed"));
      Object.defineProperty(navigator, "clipboard", {value: {writeText: refused}, configurable: true});
      window.ownCopy = document.execCommand;
      document.execCommand = () => false;
    }""")
    copy.click()
    page.wait_for_timeout(300)
    assert copy.text_content() == "not copied"
    page.evaluate("() => { document.execCommand = () => true }")
    copy.click()
    page.wait_for_timeout(300)
    assert copy.text_content() == "copied"
    page.evaluate("() => { document.execCommand = window.ownCopy; delete navigator.clipboard }")
