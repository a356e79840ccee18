"""What a run said of a row stays with it: after undo, in another tab and back, and after a reload. Needs playwright."""

import json

import pytest

pytest.importorskip("playwright", reason="needs playwright, to drive a browser")

from clip_vae_lora.tests.support.loras.editor import part, show, value
from clip_vae_lora.tests.support.servers.canvas import open_workflow, placed
from clip_vae_lora.tests.support.servers.reports import click_beside, move, other_tab, press, says

WRITTEN = "style.safetensors : 0.65"
SENTENCE = "0 of 24 modules fit this model"
RED = """([wanted]) => {
  const node = app.graph._nodes.find(({type}) => type === "CVL_LoRAStack");
  const root = node?.widgets.find(({name}) => name === "cvl_loras")?.element;
  const row = root?.isConnected && root.querySelector('[data-place="0"]');
  return row?.classList?.contains("cvl-wrong") && row.querySelector(".cvl-problem").textContent === wanted;
}"""


def expect_red(page) -> None:
    page.wait_for_function(RED, arg=[SENTENCE], timeout=30_000)


def test_a_row_that_did_not_fit_is_red_after_undo_another_tab_and_a_reload(page):
    show(page, WRITTEN)
    number = page.evaluate("app.graph._nodes[0].id")
    rows = [{"text": WRITTEN, "state": "failed", "sentence": SENTENCE}]
    says(page, number, [f"✖ {SENTENCE}"], cvl_report=[json.dumps({"rows": rows})])
    node = "app.graph._nodes.find(({type}) => type === 'CVL_LoRAStack')"
    page.evaluate(f"output => {node}.onExecuted(output)", {"text": [""], "cvl_report": [json.dumps({"rows": rows})]})
    expect_red(page)
    click_beside(page)
    move(page, number)
    press(page, "Control+z")
    expect_red(page)
    open_workflow(page, [placed("CVL_ExampleImage", 5, (60, 120), "red circle")])
    other_tab(page, "Previous")
    expect_red(page)
    page.reload()
    page.wait_for_function("!!(window.app?.graph && window.LiteGraph?.registered_node_types?.CVL_LoRAStack)")
    expect_red(page)
    assert value(page) == WRITTEN
    part(page, 0, "model").fill("0.5")
    part(page, 0, "model").press("Enter")
    page.wait_for_function(f"args => !({RED})(args)", arg=[SENTENCE], timeout=30_000)  # an edited row has not run
