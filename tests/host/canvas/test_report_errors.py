"""What stopped a node or a prompt stands on the node; and panels show nothing of our widgets.

Needs what test_prompt_count.py needs; COMFYUI_ARGS names another front end.
"""

import pytest

from clip_vae_lora.tests.support.servers.canvas import linked, open_workflow, placed, run
from clip_vae_lora.tests.support.servers.reports import (
    EQUAL,
    click_beside,
    close_dialogs,
    expect_red,
    expect_report,
    move,
    press,
    report,
    says,
    two_pictures,
)

RESIZE = """size => {
  for (const widget of app.canvas.graph._nodes.find(node => node.type === "EmptyImage").widgets)
    if (["width", "height"].includes(widget.name)) widget.value = size;
}"""


PICTURE = """name => {
  app.canvas.graph._nodes.find(node => node.type === "CVL_ExampleImage").widgets[0].value = name;
}"""


def test_what_stopped_a_node_stands_on_it_in_red_until_it_runs_again(page):
    open_workflow(page, *two_pictures("red circle", 64))
    assert run(page) == "execution_error"
    expect_red(page)
    assert "64 px" in report(page)
    close_dialogs(page)
    page.evaluate(RESIZE, 256)
    assert run(page) == "execution_success"
    expect_report(page, "they differ by")
    assert "64 px" not in report(page)


LINES = """() => {
  const {widgets} = app.canvas.graph._nodes.find(node => node.type === "CVL_CompareImages");
  const root = widgets.find(widget => widget.name === "cvl_report").element;
  return [...root.querySelectorAll(".cvl-report-line")].map(line =>
    [line.textContent, "earlier" in line.dataset, getComputedStyle(line).color]);
}"""


def test_the_report_below_an_error_is_grey_and_said_to_be_of_an_earlier_run(page):
    open_workflow(page, *two_pictures("red circle", 256))
    assert run(page) == "execution_success"
    expect_report(page, "they differ by")
    before = report(page).split("\n")
    page.evaluate(RESIZE, 64)
    assert run(page) == "execution_error"
    expect_red(page)
    close_dialogs(page)
    lines = page.evaluate(LINES)
    assert "64 px" in lines[0][0] and not lines[0][1]
    past = [(text, colour) for text, earlier, colour in lines if earlier]
    assert [text for text, _ in past] == ["report of an earlier run:", *before]
    assert len({colour for _, colour in past}) == 1 and past[0][1] != lines[0][2]
    page.evaluate(RESIZE, 256)
    assert run(page) == "execution_success"
    expect_report(page, "they differ by")
    assert report(page).split("\n") == before and not any(earlier for _, earlier, _ in page.evaluate(LINES))


def reloaded(page) -> None:
    page.reload()
    page.wait_for_function("!!(window.app?.graph && window.LiteGraph?.registered_node_types?.CVL_CompareImages)")
    page.wait_for_timeout(3000)


@pytest.mark.parametrize("had_run", [False, True], ids=["never ran", "has a report"])
def test_what_stopped_a_node_stands_on_it_after_a_reload_too_until_it_runs_again(page, had_run):
    open_workflow(page, *two_pictures("red circle", 256 if had_run else 64))
    click_beside(page)
    if had_run:
        assert run(page) == "execution_success"
        expect_report(page, "they differ by")
        move(page)  # the front end keeps the workflow for a reload
    page.evaluate(RESIZE, 64)
    click_beside(page)
    assert run(page) == "execution_error"
    expect_red(page)
    close_dialogs(page)
    before = page.evaluate(LINES)
    reloaded(page)
    expect_red(page)
    assert page.evaluate(LINES) == before
    assert "64 px" in before[0][0] and any(earlier for _, earlier, _ in before) == had_run
    move(page)
    press(page, "Control+z")
    expect_red(page)
    assert page.evaluate(LINES) == before
    page.evaluate(RESIZE, 256)
    click_beside(page)
    assert run(page) == "execution_success"
    expect_report(page, "they differ by")
    now = page.evaluate(LINES)
    assert not any(earlier for _, earlier, _ in now)
    reloaded(page)
    expect_report(page, "they differ by")
    assert page.evaluate(LINES) == now


def test_after_a_reload_the_newest_report_is_there_whenever_the_workflow_was_kept(page):
    open_workflow(page, *two_pictures("red circle"))
    assert run(page) == "execution_success"
    expect_report(page, "red circle", 11)
    click_beside(page)
    page.evaluate(PICTURE, "blue star")
    click_beside(page)  # the front end keeps the workflow, with this report in it
    page.wait_for_timeout(1500)
    assert run(page) == "execution_success"
    expect_report(page, "blue star", 11)
    reloaded(page)
    expect_report(page, "blue star", 11)


def test_a_prompt_of_which_nothing_can_run_is_refused_in_words_on_the_node(page):
    (example, compared), links = two_pictures()
    compared["inputs"][1]["link"] = None
    example["outputs"][0]["links"] = [links[0][0]]
    open_workflow(page, [example, compared], links[:1])
    assert run(page).startswith("refused: ")
    expect_red(page)
    close_dialogs(page)
    assert "second" in report(page)


def test_a_prompt_that_the_server_refuses_says_so_on_the_node(page):
    nodes, links = two_pictures()
    half = placed("CVL_CompareImages", 15, (900, 120), 4.0)
    links += linked((3, "IMAGE", nodes[0], half, "image", "first"))
    half["inputs"].append({"name": "second", "type": "IMAGE", "link": None})
    open_workflow(page, [*nodes, half], links)
    page.evaluate("() => { app.queuePrompt(0, 1) }")
    expect_red(page, 15)
    assert "second" in report(page, 15) and "first" not in report(page, 15)
    close_dialogs(page)
    page.evaluate(
        "() => { const node = app.canvas.graph._nodes.find(n => String(n.id) === '15'); app.canvas.graph.remove(node) }"
    )
    assert run(page) == "execution_success"
    expect_report(page, EQUAL)


PANEL = "Comfy.RightSidePanel.IsOpen"
OURS = {"CVL_LoRAStack": ".cvl-loras", "CVL_TextEncode": ".cvl-prompt-count", "CVL_CompareImages": ".cvl-report"}
SELECT = "() => { app.canvas.deselectAll?.(); app.canvas.selectItems(app.canvas.graph._nodes) }"


def panel(page, shown: bool) -> None:
    """Opens or closes the properties panel at the right."""
    page.evaluate("([id, on]) => app.extensionManager.setting.set(id, on)", [PANEL, shown])
    page.wait_for_timeout(1200)


@pytest.mark.parametrize("kind", OURS)
def test_the_properties_panel_has_no_entry_of_ours_and_leaves_the_width_alone(page, kind):
    if page.evaluate("id => app.extensionManager.setting.get(id)", PANEL) is None:
        pytest.skip("this front end has no properties panel")
    node = placed(kind, 31, (200, 200))
    del node["widgets_values"]
    node["size"] = [400, 200]
    open_workflow(page, [node])
    if kind == "CVL_CompareImages":
        says(page, 31, ["one", "two"])
    page.wait_for_timeout(500)
    width = f"() => [...document.querySelectorAll('{OURS[kind]}')].find(each => each.offsetParent).offsetWidth"
    before = page.evaluate(width)
    assert before > 340
    page.evaluate(SELECT)
    outside = page.evaluate("() => document.body.innerText")
    panel(page, True)
    try:
        said = page.evaluate("() => document.body.innerText")
        assert len(said) > len(outside) + 20 and "cvl_" not in said
        page.evaluate(
            f"() => [...document.querySelectorAll('{OURS[kind]}')].find(each => each.offsetParent).scrollTop = 0"
        )
    finally:
        panel(page, False)
    assert page.evaluate(width) == before
    page.evaluate(
        "() => { const node = app.canvas.graph._nodes[0]; node.setSize([500, node.size[1] + 60]);"
        " app.canvas.setDirty(true, true) }"
    )
    page.wait_for_timeout(600)
    assert page.evaluate(width) == pytest.approx(before + 100, abs=2)


def test_the_widgets_of_a_subgraph_that_can_be_edited_are_none_of_ours(page):
    if not page.evaluate(
        "() => app.extensionManager.command.commands.some(c => c.id === 'Comfy.Graph.EditSubgraphWidgets')"
    ):
        pytest.skip("this front end does not edit the widgets of a subgraph")
    nodes, links = two_pictures()
    stack = placed("CVL_LoRAStack", 16, (900, 120))
    del stack["widgets_values"]
    open_workflow(page, [*nodes, stack], links)
    says(page, 12, ["one"])
    page.evaluate("""async () => {
      app.canvas.selectItems(app.canvas.graph._nodes);
      await app.extensionManager.command.execute("Comfy.Graph.ConvertToSubgraph");
      app.canvas.selectItems(app.canvas.graph._nodes);
      await app.extensionManager.command.execute("Comfy.Graph.EditSubgraphWidgets");
    }""")
    page.wait_for_timeout(1500)
    said = page.evaluate("() => document.body.innerText")
    assert "gain" in said and "cvl_" not in said
    panel(page, False)
