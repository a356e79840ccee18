"""A node's report on the canvas, in a real browser on a real server: it stays, and it is its own.

Needs what test_prompt_count.py needs; COMFYUI_ARGS names another front end.
"""

import json

import pytest

from clip_vae_lora.tests.support.servers.canvas import linked, open_workflow, placed, run
from clip_vae_lora.tests.support.servers.reports import (
    EQUAL,
    click_beside,
    close_dialogs,
    expect_red,
    expect_report,
    history,
    move,
    opened_and_run,
    other_tab,
    press,
    report,
    two_pictures,
)


def test_a_report_is_there_after_undo_and_redo_and_is_no_step_of_its_own(page):
    opened_and_run(page)
    click_beside(page)
    before = history(page)
    move(page)
    assert history(page)["undo"] == before["undo"] + 1
    press(page, "Control+z")
    expect_report(page, EQUAL)
    expect_report(page, "red circle", 11)
    click_beside(page)
    assert history(page) == before | {"redo": 1}
    press(page, "Control+y")
    expect_report(page, EQUAL)
    assert history(page)["undo"] == before["undo"] + 1


def test_undo_over_a_run_keeps_the_report(page):
    open_workflow(page, *two_pictures())
    click_beside(page)
    move(page, 11)
    move(page, 12)
    assert run(page) == "execution_success"
    press(page, "Control+z")
    expect_report(page, EQUAL)
    click_beside(page)
    press(page, "Control+z")
    expect_report(page, EQUAL)
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
    expect_report(page, EQUAL)
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
    assert report(page, 11).startswith("red circle") and report(page, 12).startswith(EQUAL)
    move(page)
    press(page, "Control+z")
    assert report(page, 11).startswith("red circle") and report(page, 12).startswith(EQUAL)
    other_tab(page, "Next")
    if fails:
        expect_red(page)
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
    expect_report(page, EQUAL, inner)
    page.evaluate("() => app.canvas.setGraph(app.rootGraph ?? app.graph)")
    page.wait_for_timeout(500)
    assert run(page) == "execution_success"
    page.evaluate(
        "() => { const made = app.canvas.graph._nodes.find(node => node.subgraph);"
        "app.canvas.openSubgraph(made.subgraph, made) }"
    )
    page.wait_for_timeout(500)
    expect_report(page, EQUAL, inner)
    page.evaluate("() => app.canvas.setGraph(app.rootGraph ?? app.graph)")
    page.wait_for_timeout(500)
    page.evaluate(
        "() => { const graph = app.canvas.graph; graph.unpackSubgraph(graph._nodes.find(node => node.subgraph)) }"
    )
    page.wait_for_timeout(800)
    numbers = page.evaluate("() => app.canvas.graph._nodes.map(node => [node.type, node.id])")
    expect_report(page, EQUAL, dict(numbers)["CVL_CompareImages"])


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
    assert kept["CVL_CompareImages"].startswith(EQUAL)
    assert all(len(json.dumps(node["widgets_values"])) < 40 for node in saved["nodes"])
    page.reload()
    page.wait_for_function("!!(window.app?.graph && window.LiteGraph?.registered_node_types?.CVL_CompareImages)")
    page.wait_for_timeout(3000)
    expect_report(page, EQUAL)
    open_workflow(page, saved["nodes"], saved["links"])
    expect_report(page, EQUAL)
    expect_report(page, "red circle", 11)


def test_a_picture_that_another_workflow_has_made_already_is_shown_too(page):
    opened_and_run(page)
    nodes, links = two_pictures()
    for node in nodes:  # the same nodes in a workflow of its own: all they compute is there already
        node["id"] += 30
    links = [
        [number, source + 30, slot, target + 30, place, kind] for number, source, slot, target, place, kind in links
    ]
    open_workflow(page, nodes, links)
    assert run(page) == "execution_success"
    expect_report(page, EQUAL, 42)
    expect_report(page, "red circle", 41)
    page.wait_for_function("() => app.nodeOutputs['41']?.images?.length === 1")


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
