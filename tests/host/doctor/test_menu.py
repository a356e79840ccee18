"""The Doctor in the right-click menu of nodes, ours and stock ones, in a real browser on a real server.

Needs what tests/host/canvas needs; COMFYUI_ARGS names another front end.
"""

import json

from clip_vae_lora.tests.support.servers.canvas import linked, open_workflow, placed, run
from clip_vae_lora.tests.support.servers.reports import click_beside, press, report

WIRES = """() => app.graph._nodes.filter(n => n.type === 'CVL_Doctor').map(doctor => doctor.inputs
    .filter(input => input.link != null).map(input => {
      const link = app.graph.getLink?.(input.link) ?? app.graph.links[input.link];
      return [input.name, Number(link.origin_id), link.origin_slot];
    }))"""


def right_click(page, node: int) -> None:
    """Opens the menu of a node, at its title."""
    at = page.evaluate(
        """id => {
      const node = app.graph.getNodeById(id), { ds, canvas } = app.canvas, box = canvas.getBoundingClientRect();
      const [x, y] = [node.pos[0] + 60, node.pos[1] - 12];
      return [box.left + (x + ds.offset[0]) * ds.scale, box.top + (y + ds.offset[1]) * ds.scale];
    }""",
        node,
    )
    page.mouse.click(*at, button="right")
    page.wait_for_timeout(500)


def choose(page, node: int, words: str) -> None:
    """Chooses an entry of a node's menu by its exact words."""
    right_click(page, node)
    entry = page.get_by_text(words, exact=True).last
    entry.wait_for(state="visible", timeout=5000)
    entry.click()
    page.wait_for_timeout(500)


def checkpoint(number: int) -> dict:
    outputs = [
        {"name": name, "type": name, "links": [], "slot_index": at} for at, name in enumerate(("MODEL", "CLIP", "VAE"))
    ]
    return placed("CheckpointLoaderSimple", number, (150, 250), "none.safetensors", outputs=outputs)


def test_doctor_connects_all_outputs_of_a_stock_node(page):
    open_workflow(page, [checkpoint(1)])
    choose(page, 1, "Doctor")
    assert page.evaluate(WIRES) == [[["model", 1, 0], ["clip", 1, 1], ["vae", 1, 2]]]
    choose(page, 1, "Doctor")  # once more: it is there already
    assert len(page.evaluate(WIRES)) == 1


def test_what_is_added_stands_free_and_is_one_step_of_undo(page):
    other = placed("EmptyLatentImage", 2, (520, 240), 512, 512, 1)
    open_workflow(page, [checkpoint(1), other])
    choose(page, 1, "Doctor")
    boxes = page.evaluate("() => app.graph._nodes.map(n => [n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30])")
    doctor, latent = boxes[2], boxes[1]
    assert doctor[1] >= latent[1] + latent[3] or doctor[0] >= latent[0] + latent[2]
    click_beside(page)
    press(page, "Control+z")
    assert page.evaluate(WIRES) == [] and page.evaluate("app.graph._nodes.length") == 2


def test_what_goes_into_a_node_can_be_asked_before_it_runs(page):
    first = placed("CVL_ExampleImage", 1, (100, 200), "red circle")
    shown = placed("PreviewImage", 2, (500, 200))
    open_workflow(page, [first, shown], linked((1, "IMAGE", first, shown, "image", "images")))
    choose(page, 2, "Doctor: what goes in")
    assert page.evaluate(WIRES) == [[["image", 1, 0]]]


def test_two_outputs_of_one_type_get_two_inputs(page):
    outputs = [
        {"name": name, "type": kind, "links": [], "slot_index": at}
        for at, (name, kind) in enumerate(
            (("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent", "LATENT"))
        )
    ]
    open_workflow(page, [placed("InpaintModelConditioning", 1, (150, 250), True, outputs=outputs)])
    choose(page, 1, "Doctor")
    assert page.evaluate(WIRES) == [[["latent", 1, 2], ["positive", 1, 0], ["negative", 1, 1]]]


def test_a_node_that_gives_nothing_a_doctor_takes_has_no_such_entry(page):
    open_workflow(page, [placed("PrimitiveInt", 1, (200, 300), 3, "fixed")])
    right_click(page, 1)
    assert page.get_by_text("Doctor", exact=True).count() == 0
    page.keyboard.press("Escape")


def test_the_report_is_a_table_with_its_findings_above(page):
    first = placed("CVL_ExampleImage", 1, (60, 150), "red circle")
    latent = placed("EmptyLatentImage", 2, (60, 400), 512, 512, 1)
    doctor = placed("CVL_Doctor", 3, (460, 150), size=[560, 200])
    links = linked(
        (1, "IMAGE", first, doctor, "image", "image"),
        (2, "LATENT", latent, doctor, "LATENT", "latent"),
    )
    open_workflow(page, [first, latent, doctor], links)
    assert run(page) == "execution_success"
    page.wait_for_timeout(800)
    assert "nothing was found that does not fit" in report(page, 3)
    rows = page.evaluate(
        """() => [...document.querySelectorAll('.cvl-report-grid')].at(-1) && [...[...document.querySelectorAll(
      '.cvl-report-grid')].at(-1).children].map(row => [...row.children].map(cell => cell.textContent))"""
    )
    assert [row[0] for row in rows] == ["input", "LATENT", "IMAGE"] and {len(row) for row in rows} == {6}
    assert json.dumps(rows).count("512") == 0 and "4 channels" in rows[1][1]
