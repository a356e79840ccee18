"""A node's report on the canvas, in a real browser on a real server: it stays, it is its own, it fits, it warns.

Needs what test_prompt_count.py needs; COMFYUI_ARGS names another front end.
"""

import json
import os

import pytest

from clip_vae_lora.tests.support.canvas import (
    canvas,
    chromium,
    linked,
    open_workflow,
    placed,
    playwright,
    run,
    use_vue_nodes,
)
from clip_vae_lora.tests.support.serving import served

RED_IS_SHOWN = "() => [...document.querySelectorAll('.cvl-report[data-mark=error]')].some(each => each.offsetParent)"


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


@pytest.fixture(scope="module", params=["classic", "Vue nodes"])
def opened(server, browser, request):
    page = canvas(browser, server, "CVL_CompareImages")
    use_vue_nodes(page, request.param == "Vue nodes")
    page.vue = request.param == "Vue nodes"
    yield page
    page.close()


@pytest.fixture
def page(opened):
    opened.errors.clear()
    yield opened
    assert not [error for error in opened.errors if "report" in error or "memory" in error]


def two_pictures(picture: str = "red circle", second: int = 0) -> tuple[list[dict], list[list]]:
    """A picture compared with itself, or with an empty one of this size."""
    example = placed("CVL_ExampleImage", 11, (60, 120), picture)
    compared = placed("CVL_CompareImages", 12, (500, 120), 4.0)
    nodes, links = [example, compared], [(1, "IMAGE", example, compared, "image", "first")]
    if second:
        empty = placed("EmptyImage", 13, (60, 620), second, second, 1, 0)
        nodes.append(empty)
        links.append((2, "IMAGE", empty, compared, "IMAGE", "second"))
    else:
        links.append((2, "IMAGE", example, compared, "image", "second"))
    return nodes, linked(*links)


def report(page, number: int = 12) -> str | None:
    """The report that the open graph's node of this id shows; None without."""
    return page.evaluate(
        """number => {
      const node = app.canvas.graph._nodes.find(node => String(node.id) === String(number));
      const element = node?.widgets?.find(widget => widget.name === "cvl_report")?.element;
      const lines = element && [...element.querySelectorAll(".cvl-report-line")].map(line => line.textContent);
      return lines ? lines.join("\\n") : null;
    }""",
        number,
    )


def expect_report(page, start: str | None, number: int = 12) -> None:
    page.wait_for_function(
        """([number, start]) => {
      const node = app.canvas.graph._nodes.find(node => String(node.id) === String(number));
      const widget = node?.widgets?.find(widget => widget.name === "cvl_report");
      if (start === null) return node && !widget;
      const element = widget?.element;
      const shown = element?.isConnected && element.getBoundingClientRect().height > 0;
      const lines = [...element?.querySelectorAll(".cvl-report-line") ?? []].map(line => line.textContent);
      return shown && lines.join("\\n").startsWith(start);
    }""",
        arg=[number, start],
        timeout=15_000,
    )


def says(page, number: int, lines: list[str], **ui: object) -> None:
    """A node's message, as the server would send it."""
    output = {"text": ["\n".join(lines)], **ui}
    page.evaluate(
        "detail => window.comfyAPI.api.api.dispatchEvent(new CustomEvent('executed', {detail}))",
        {"node": str(number), "display_node": str(number), "output": output, "prompt_id": "of this test"},
    )
    page.wait_for_timeout(500)


def box(page, number: int = 12) -> dict:
    """Where the report of a node and the node itself lie, in canvas units, and how much of the text is hidden."""
    return page.evaluate(
        """number => {
      const node = app.canvas.graph._nodes.find(node => String(node.id) === String(number));
      const root = node.widgets.find(widget => widget.name === "cvl_report").element;
      const body = root.querySelector(".cvl-report-body"), at = root.getBoundingClientRect();
      const drawn = document.querySelector(`[data-node-id="${number}"]`), title = LiteGraph.NODE_TITLE_HEIGHT;
      const height = drawn && LiteGraph.vueNodesMode ? drawn.offsetHeight - title : node.size[1];
      const canvas = app.canvas.canvas.getBoundingClientRect();
      const {scale, offset} = app.canvas.ds;
      const [x, y] = [(at.x - canvas.x) / scale - offset[0], (at.y - canvas.y) / scale - offset[1]];
      return {top: y, bottom: y + root.offsetHeight, left: x, right: x + root.offsetWidth, height: root.offsetHeight,
              hidden: body.scrollHeight - body.clientHeight, wide: body.scrollWidth - body.clientWidth,
              inside: root.scrollHeight - root.clientHeight,
              node: [node.pos[0], node.pos[1], node.size[0], height]};
    }""",
        number,
    )


def history(page) -> dict:
    return page.evaluate("""() => {
      const workflow = app.extensionManager.workflow.activeWorkflow, {undoQueue, redoQueue} = workflow.changeTracker;
      return {undo: undoQueue.length, redo: redoQueue.length, modified: workflow.isModified};
    }""")


def click_beside(page) -> None:
    """A click on the empty canvas, after which the front end looks for changes."""
    page.mouse.click(1250, 700)
    page.wait_for_timeout(400)


def move(page, number: int = 12) -> None:
    page.evaluate(
        "number => { const node = app.canvas.graph._nodes.find(node => String(node.id) === String(number));"
        "node.pos = [node.pos[0] + 40, node.pos[1] + 10] }",
        number,
    )
    click_beside(page)


def press(page, keys: str) -> None:
    page.keyboard.press(keys)
    page.wait_for_timeout(1000)


def other_tab(page, step: str) -> None:
    page.evaluate("step => app.extensionManager.command.execute(`Workspace.${step}OpenedWorkflow`)", step)
    page.wait_for_timeout(1000)


def opened_and_run(page, *what) -> None:
    open_workflow(page, *two_pictures(*what))
    click_beside(page)
    assert run(page) == "execution_success"
    expect_report(page, "PSNR")


def test_a_report_is_there_after_undo_and_redo_and_is_no_step_of_its_own(page):
    opened_and_run(page)
    click_beside(page)
    before = history(page)
    move(page)
    assert history(page)["undo"] == before["undo"] + 1
    press(page, "Control+z")
    expect_report(page, "PSNR")
    expect_report(page, "red circle", 11)
    click_beside(page)
    assert history(page) == before | {"redo": 1}
    press(page, "Control+y")
    expect_report(page, "PSNR")
    assert history(page)["undo"] == before["undo"] + 1


def test_undo_over_a_run_keeps_the_report(page):
    open_workflow(page, *two_pictures())
    click_beside(page)
    move(page, 11)
    move(page, 12)
    assert run(page) == "execution_success"
    press(page, "Control+z")
    expect_report(page, "PSNR")
    click_beside(page)
    press(page, "Control+z")
    expect_report(page, "PSNR")
    expect_report(page, "red circle", 11)
    assert history(page)["redo"] == 2


def test_a_run_does_not_change_the_workflow(page):
    open_workflow(page, *two_pictures())
    click_beside(page)
    page.evaluate(
        "() => app.extensionManager.workflow.activeWorkflow.changeTracker.reset("
        "app.extensionManager.workflow.activeWorkflow.changeTracker.activeState)"
    )
    move(page)
    press(page, "Control+z")
    before = history(page)
    run(page)
    click_beside(page)
    assert history(page) == before
    assert not before["modified"]


def test_a_report_is_there_after_another_tab(page):
    opened_and_run(page)
    open_workflow(page, *two_pictures("striped heart"))
    expect_report(page, None)
    other_tab(page, "Previous")
    expect_report(page, "PSNR")
    expect_report(page, "red circle", 11)
    other_tab(page, "Next")
    expect_report(page, None)


@pytest.mark.parametrize("fails", [False, True], ids=["report", "error"])
def test_a_message_never_shows_in_the_workflow_that_is_open_meanwhile(page, fails):
    opened_and_run(page)
    open_workflow(page, *two_pictures("photograph", 64 if fails else 0))
    click_beside(page)
    page.messages.hold()
    page.evaluate("() => { app.queuePrompt(0, 1) }")
    deadline = 100
    ends = ("execution_error",) if fails else ("execution_success",)
    while not any(end in str(message) for end in ends for message in page.messages.held) and deadline:
        page.wait_for_timeout(200)
        deadline -= 1
    other_tab(page, "Previous")
    expect_report(page, "red circle", 11)
    page.messages.release()
    page.wait_for_timeout(1500)
    close_dialogs(page)
    assert report(page, 11).startswith("red circle") and report(page, 12).startswith("PSNR inf")
    move(page)
    press(page, "Control+z")
    assert report(page, 11).startswith("red circle") and report(page, 12).startswith("PSNR inf")
    other_tab(page, "Next")
    if fails:
        page.wait_for_function(RED_IS_SHOWN)
        assert "64" in report(page, 12)
    else:
        expect_report(page, "photograph", 11)


def subgraphs(page) -> bool:
    return page.evaluate("() => typeof app.canvas.graph.convertToSubgraph === 'function'")


def test_a_report_is_there_within_a_subgraph_and_after_unpacking(page):
    opened_and_run(page)
    if not subgraphs(page):
        pytest.skip("this front end has no subgraphs")
    page.evaluate("""() => {
      app.canvas.selectItems(app.canvas.graph._nodes);
      return app.extensionManager.command.execute("Comfy.Graph.ConvertToSubgraph");
    }""")
    page.wait_for_timeout(600)
    page.evaluate(
        "() => { const made = app.canvas.graph._nodes.find(node => node.subgraph);"
        "app.canvas.openSubgraph(made.subgraph, made) }"
    )
    page.wait_for_timeout(800)
    numbers = page.evaluate("() => app.canvas.graph._nodes.map(node => [node.type, node.id])")
    inner = dict(numbers)["CVL_CompareImages"]
    expect_report(page, "PSNR", inner)
    page.evaluate("() => app.canvas.setGraph(app.rootGraph ?? app.graph)")
    page.wait_for_timeout(500)
    assert run(page) == "execution_success"
    page.evaluate(
        "() => { const made = app.canvas.graph._nodes.find(node => node.subgraph);"
        "app.canvas.openSubgraph(made.subgraph, made) }"
    )
    page.wait_for_timeout(500)
    expect_report(page, "PSNR", inner)
    page.evaluate("() => app.canvas.setGraph(app.rootGraph ?? app.graph)")
    page.wait_for_timeout(500)
    page.evaluate(
        "() => { const graph = app.canvas.graph; graph.unpackSubgraph(graph._nodes.find(node => node.subgraph)) }"
    )
    page.wait_for_timeout(800)
    numbers = page.evaluate("() => app.canvas.graph._nodes.map(node => [node.type, node.id])")
    expect_report(page, "PSNR", dict(numbers)["CVL_CompareImages"])


def test_a_copy_has_no_report(page):
    opened_and_run(page)
    page.evaluate("""() => {
      app.canvas.selectItems(app.canvas.graph._nodes.filter(node => node.type === "CVL_CompareImages"));
      app.canvas.copyToClipboard(); app.canvas.pasteFromClipboard();
    }""")
    page.wait_for_timeout(800)
    found = page.evaluate("""() => app.canvas.graph._nodes.filter(node => node.type === "CVL_CompareImages")
      .map(node => [Boolean(node.properties.cvl_report), node.widgets.some(widget => widget.name === "cvl_report")])""")
    assert sorted(found) == [[False, False], [True, True]]


def test_a_report_is_saved_with_the_workflow_and_stays_through_a_reload(page):
    opened_and_run(page)
    saved = page.evaluate("() => JSON.parse(JSON.stringify((app.rootGraph ?? app.graph).serialize()))")
    kept = {node["type"]: node["properties"]["cvl_report"]["text"] for node in saved["nodes"]}
    assert kept["CVL_CompareImages"].startswith("PSNR")
    assert all(len(json.dumps(node["widgets_values"])) < 40 for node in saved["nodes"])
    page.reload()
    page.wait_for_function("!!(window.app?.graph && window.LiteGraph?.registered_node_types?.CVL_CompareImages)")
    page.wait_for_timeout(3000)
    expect_report(page, "PSNR")
    open_workflow(page, saved["nodes"], saved["links"])
    expect_report(page, "PSNR")
    expect_report(page, "red circle", 11)


def test_a_cached_node_for_which_nothing_is_sent_gets_its_report_too(page):
    def coded():
        example, vae = placed("CVL_ExampleImage", 21, (60, 120), "red circle"), placed("CVL_LoadVAE", 22, (60, 620))
        encode, decode = placed("CVL_VAEEncode", 23, (450, 120)), placed("CVL_VAEDecode", 24, (800, 120))
        preview = placed("PreviewImage", 25, (1150, 120))
        del vae["widgets_values"], encode["widgets_values"], decode["widgets_values"]
        return [example, vae, encode, decode, preview], linked(
            (1, "IMAGE", example, encode, "image", inputs["CVL_VAEEncode"][0]),
            (2, "VAE", vae, encode, "vae", "vae"),
            (3, "LATENT", encode, decode, "latent", inputs["CVL_VAEDecode"][0]),
            (4, "VAE", vae, decode, "vae", "vae"),
            (5, "IMAGE", decode, preview, "image", "images"),
        )

    inputs = page.evaluate("""() => Object.fromEntries(["CVL_VAEEncode", "CVL_VAEDecode"].map(kind => [kind,
      LiteGraph.createNode(kind).inputs.filter(input => ["IMAGE", "LATENT"].includes(input.type))
        .map(input => input.name)]))""")
    open_workflow(page, *coded())
    assert run(page) == "execution_success"
    for number in (23, 24):
        expect_report(page, "", number)
        assert report(page, number)
    first = report(page, 24)
    open_workflow(page, *coded())
    expect_report(page, None, 24)
    assert run(page) == "execution_success"
    expect_report(page, first, 24)


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
        for text, ground, colour in page.evaluate(CONTRASTS):
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
    if not page.vue:
        assert first.index("cvl_report") < first.index("$$canvas-image-preview")


def test_what_stopped_a_node_stands_on_it_in_red_until_it_runs_again(page):
    open_workflow(page, *two_pictures("red circle", 64))
    assert run(page) == "execution_error"
    page.wait_for_function(RED_IS_SHOWN)
    assert "64" in report(page)
    close_dialogs(page)
    page.evaluate("""() => { for (const w of app.canvas.graph._nodes.find(n => n.type === "EmptyImage").widgets)
      if (["width", "height"].includes(w.name)) w.value = 256 }""")
    assert run(page) == "execution_success"
    expect_report(page, "PSNR")
    assert "64" not in report(page)


def close_dialogs(page) -> None:
    for _ in range(2):
        page.keyboard.press("Escape")
        page.wait_for_timeout(200)


def test_a_prompt_that_the_server_refuses_says_so_on_the_node(page):
    nodes, links = two_pictures()
    alone = placed("CVL_CompareImages", 15, (900, 120), 4.0)
    alone["inputs"] = [{"name": name, "type": "IMAGE", "link": None} for name in ("first", "second")]
    open_workflow(page, [*nodes, alone], links)
    page.evaluate("() => { app.queuePrompt(0, 1) }")
    page.wait_for_function(RED_IS_SHOWN)
    assert "first" in report(page, 15) and "second" in report(page, 15)
    close_dialogs(page)
    page.evaluate(
        "() => { const node = app.canvas.graph._nodes.find(n => String(n.id) === '15'); app.canvas.graph.remove(node) }"
    )
    assert run(page) == "execution_success"
    expect_report(page, "PSNR")


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
    page.evaluate("() => { const node = app.canvas.graph._nodes[0]; node.setSize([500, node.size[1] + 60]) }")
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
