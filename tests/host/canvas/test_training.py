"""What Train LoRA shows on the canvas while it trains: curves and samples in the page, in its language.

Needs what test_prompt_count.py needs.
"""

import json
import re

from clip_vae_lora.tests.host.canvas.test_every_report import LOOK, OPEN, overlaps, problems, strays
from clip_vae_lora.tests.support.servers.canvas import open_workflow, placed, speak
from clip_vae_lora.tests.support.servers.reports import click_beside, other_tab, says, two_pictures
from clip_vae_lora.tests.support.servers.serving import ROOT

WAIT_MS = 120_000
TRAINER = 21
CHART = {
    "first": 1,
    "step": 20,
    "steps": 60,
    "seconds_a_step": 0.25,
    "losses": [[step, 1.0 / step] for step in range(1, 21)],
    "smoothed": [[step, 1.2 / step] for step in range(1, 21)],
    "validation": [{"step": step, "bands": [0.5 - step / 100, 0.6, 0.7, 0.8 - step / 200]} for step in (0, 10, 20)],
    "prompt": "a striped thing",
    "samples": [{"step": step, "filename": "none.png", "subfolder": "", "type": "temp"} for step in (0, 10, 20)],
}
SEND = """([kind, detail]) => window.comfyAPI.api.api.dispatchEvent(new CustomEvent(kind, {detail}))"""
SHOWN = """number => {
  const node = app.canvas.graph._nodes.find(({id}) => String(id) === String(number));
  const box = node?.widgets?.find(({name}) => name === "cvl_chart")?.element;
  if (!box?.offsetHeight) return null;
  const read = (selector) => [...box.querySelectorAll(selector)].map(({textContent}) => textContent);
  return {titles: read(".cvl-title"), names: read(".cvl-legend span"), labels: read(".cvl-samples a"),
          axes: read(".cvl-axis span"), paths: [...box.querySelectorAll("path")].map((path) => path.getAttribute("d")),
          cut: [box.scrollWidth - box.clientWidth, box.scrollHeight - box.clientHeight]};
}"""


def send(
    page,
    kind: str = "clip_vae_lora.meanwhile",
    prompt: str = "of this test",
    number: int = TRAINER,
    **changed: object,
) -> None:
    output = {"cvl_chart": [json.dumps({**CHART, **changed})]}
    detail = {"node": str(number), "display_node": str(number), "prompt_id": prompt, "output": output}
    page.evaluate(SEND, [kind, detail])


def shown(page) -> dict:
    script = f"number => ({SHOWN})(number)"
    page.wait_for_function(script, arg=TRAINER, timeout=WAIT_MS)
    page.wait_for_timeout(600)
    return page.evaluate(SHOWN, TRAINER)


def trainer() -> dict:
    return placed("CVL_TrainLoRA", TRAINER, (900, 60), size=[380, 400])


def test_the_course_is_drawn_while_it_trains_and_goes_on_with_the_next_message(page):
    open_workflow(page, [trainer()])
    send(page, step=0, steps=60, losses=[], smoothed=[], validation=CHART["validation"][:1], samples=[])
    begun = shown(page)
    assert begun["titles"] == ["validation, relative to the start"] and len(begun["paths"]) == 3
    send(page)
    later = shown(page)
    assert later["titles"] == ["step 20 of 60, 0.25 s a step", "validation, relative to the start", "a striped thing"]
    assert later["names"] == ["loss", "smoothed", "little noise", "much noise", "mean"]
    assert later["labels"] == ["step 20", "step 10", "step 0"] and later["axes"] == ["step 0", "60"] * 2
    across = [float(x) for x in re.findall(r"[ML]([\d.]+) ", later["paths"][1])]
    assert max(across) < 1000 / 3 + 3  # a third of the steps, a third of the width
    assert later["cut"] == [0, 0]


def test_the_course_stays_after_another_tab_and_a_reload(page):
    open_workflow(page, [trainer(), *two_pictures()[0]])
    click_beside(page)
    send(page)
    shown(page)
    send(page, "executed", step=60)
    done = shown(page)
    open_workflow(page, two_pictures()[0])
    other_tab(page, "Previous")
    assert shown(page)["titles"][0] == "step 60 of 60, 0.25 s a step"
    page.reload()
    page.wait_for_function("!!(window.app?.graph && LiteGraph.registered_node_types?.CVL_TrainLoRA)", timeout=WAIT_MS)
    assert shown(page) == done


def test_the_course_never_shows_in_another_workflow_than_its_own(page):
    nodes, links = two_pictures()
    open_workflow(page, [trainer(), *nodes], links)
    click_beside(page)
    with page.expect_response("**/api/prompt") as answered:
        page.evaluate("() => void app.queuePrompt(0, 1)")
    prompt = answered.value.json()["prompt_id"]
    page.wait_for_function("id => fetch(`history/${id}`).then(r => r.json()).then(all => id in all)", arg=prompt)
    open_workflow(page, [trainer()])
    click_beside(page)
    send(page, prompt=prompt)
    page.wait_for_timeout(1500)
    assert page.evaluate(SHOWN, TRAINER) is None
    other_tab(page, "Previous")
    send(page, prompt=prompt)
    assert shown(page)["titles"]


def test_the_course_is_chinese_where_the_page_is(page):
    speak(page, "zh")
    try:
        open_workflow(page, [trainer()])
        send(page)
        found = shown(page)
        said = [*found["titles"][:2], *found["names"], *found["labels"]]
        assert found["titles"][0] == "第 20 步，共 60 步，每步 0.25 秒"
        assert not [text for text in said if re.search("[A-Za-z]{2}", text)]
    finally:
        speak(page, "en")


def test_a_training_of_the_users_own_pictures_covers_nothing_and_stays_in_its_group(page):
    graph = json.loads((ROOT / "example_workflows" / "own_train_lora.json").read_text(encoding="utf-8"))
    (number,) = [node["id"] for node in graph["nodes"] if node["type"] == "CVL_TrainLoRA"]
    page.evaluate(OPEN, graph)
    send(page, number=number)
    chart = {"cvl_chart": [json.dumps({**CHART, "step": 60})]}
    says(page, number, [f"line {place} of the report of a training" for place in range(5)], **chart)
    page.wait_for_timeout(1500)
    looked = page.evaluate(LOOK, page.vue)
    assert not problems(looked) and not overlaps(looked) and not strays(looked, graph["groups"])
