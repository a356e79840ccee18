"""A node of ours that lies on the canvas connected to nothing, beside a graph that works, in a real browser.

Needs what test_prompt_count.py needs.
"""

import itertools
import json
import os
import time
import urllib.request
from unittest.mock import patch

import pytest

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS, catalog
from clip_vae_lora.tests.support.servers.canvas import canvas, chromium, use_vue_nodes
from clip_vae_lora.tests.support.servers.serving import served

WAIT_MS = 60_000
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN"}
PUT = """async ([kind, seed, missing]) => {
  await app.loadGraphData({version: 0.4, nodes: [], links: [], groups: [], config: {}, extra: {},
                           last_node_id: 0, last_link_id: 0});
  app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0];
  const put = (type, pos) => {
    const node = LiteGraph.createNode(type);
    node.pos = pos;
    app.graph.add(node);
    return node;
  };
  const image = put("EmptyImage", [60, 100]), shown = put("PreviewImage", [460, 100]), parked = put(kind, [860, 100]);
  image.connect(0, shown, 0);
  image.widgets.find(widget => widget.name === "color").value = seed;
  if (missing) for (const widget of parked.widgets ?? [])
    if (["file", "text", "loras", "index"].includes(widget.name)) widget.value = "nowhere.safetensors";
  await new Promise(done => setTimeout(done, 200));
  return {image: String(image.id), shown: String(shown.id), parked: String(parked.id)};
}"""


def needs_no_link(kind: str) -> bool:
    """Whether a node does its work alone, on a file say: then a Run is what runs it."""
    node = NODE_CLASS_MAPPINGS[kind]
    required = [spec[0] for spec in node.INPUT_TYPES().get("required", {}).values()]
    return (
        bool(getattr(node, "OUTPUT_NODE", False))
        and bool(required)
        and not [one for one in required if isinstance(one, str) and one not in WIDGETS]
    )


RINGED = "id => Boolean(app.graph._nodes.find(node => String(node.id) === id)?.has_errors)"
_COLOURS = itertools.count(1)  # so that no two runs are the same to the server's cache
# what works alone, on files, with a result of its own to show or to save: the input that says on what it works
ALONE = {"CVL_LoRAInfo": "file", "CVL_ConvertLoRA": "file", "CVL_EditLoRA": "file", "CVL_ResizeLoRA": "file"} | {
    **{"CVL_MergeLoRAs": "loras", "CVL_CompareLoRAs": "loras", "CVL_BakeLoRA": "checkpoint"},
    **{"CVL_ExtractLoRA": "tuned", "CVL_FindDuplicates": "index", "CVL_TrainCLIP": "subfolder"},
}
SEARCHES = {"CVL_FindDuplicates"}  # a new one has an index to look through: that of a new Index Folder
TRAINS = {"CVL_TrainCLIP"}  # alone it has the whole folder to learn from, and a folder that is gone ends its job
GONE = "nowhere.safetensors"
CHOOSE = """([id, name, value]) => {
  const node = app.graph._nodes.find(node => String(node.id) === id);
  node.widgets.find(widget => widget.name === name).value = value;
}"""


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    if os.environ.get("COMFYUI_URL"):
        yield os.environ["COMFYUI_URL"]
        return
    with served(comfyui_path, tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="module")
def opened(server):
    with chromium() as browser:
        page = canvas(browser, server, "CVL_TextEncode")
        yield page
        page.close()


@pytest.fixture(params=["classic", "Vue nodes"])
def page(opened, request):
    use_vue_nodes(opened, request.param == "Vue nodes")
    return opened


def run(page, server: str) -> tuple[dict, dict]:
    """Presses Run; the prompt that was sent, and the server's account of it."""
    with page.expect_response("**/api/prompt", timeout=WAIT_MS) as answered:
        page.evaluate("() => void app.queuePrompt(0)")
    assert answered.value.status == 200, answered.value.text()
    body = answered.value.json()
    assert not body["node_errors"], body["node_errors"]
    return json.loads(answered.value.request.post_data)["prompt"], account(server, body["prompt_id"])


def account(server: str, prompt_id: str) -> dict:
    """What the server says of a prompt, once it is through."""
    found = {}
    while prompt_id not in found:
        time.sleep(0.1)
        found = json.load(urllib.request.urlopen(f"{server}/history/{prompt_id}"))
    return found[prompt_id]


@pytest.mark.parametrize("missing", [False, True], ids=["as it comes", "file missing"])
@pytest.mark.parametrize("kind", [kind for kind in NODE_CLASS_MAPPINGS if kind not in ALONE])
def test_a_run_is_as_without_it(page, server, kind, missing):
    assert not needs_no_link(kind), "it would run at each Run, needed or not"
    seed = next(_COLOURS)
    ids = page.evaluate(PUT, [kind, seed, missing])
    before = page.evaluate(RINGED, ids["parked"])  # the front end itself rings a loader whose file is not there
    sent, history = run(page, server)
    assert history["status"]["status_str"] == "success"
    assert set(history["outputs"]) == {ids["shown"]}
    if getattr(NODE_CLASS_MAPPINGS[kind], "OUTPUT_NODE", False):
        assert set(sent) == {ids["image"], ids["shown"]}
    page.wait_for_timeout(100)
    assert page.evaluate(RINGED, ids["parked"]) == before and (missing or not before)
    assert page.locator(".p-toast-message-error, .p-dialog:visible").count() == 0


@pytest.mark.parametrize("kind", sorted(set(ALONE) - SEARCHES))
def test_a_run_is_as_without_what_works_alone_as_long_as_nothing_is_chosen_there(page, server, kind):
    ids = page.evaluate(PUT, [kind, next(_COLOURS), False])
    sent, history = run(page, server)
    assert history["status"]["status_str"] == "success"
    assert set(sent) == {ids["image"], ids["shown"]} and set(history["outputs"]) == {ids["shown"]}
    page.wait_for_timeout(100)
    assert not page.evaluate(RINGED, ids["parked"])
    assert page.locator(".p-toast-message-error, .p-dialog:visible").count() == 0


@pytest.mark.parametrize("kind", sorted(set(ALONE) - TRAINS))
def test_what_works_alone_on_what_is_gone_says_so_and_the_run_beside_it_is_the_same(page, server, kind):
    ids = page.evaluate(PUT, [kind, next(_COLOURS), False])
    page.evaluate(CHOOSE, [ids["parked"], ALONE[kind], GONE])
    _, history = run(page, server)
    assert history["status"]["status_str"] == "success"
    assert set(history["outputs"]) == {ids["shown"], ids["parked"]} and history["outputs"][ids["shown"]]["images"]
    assert history["outputs"][ids["parked"]]["text"][0].startswith("✖")
    page.wait_for_timeout(100)
    assert page.locator(".p-toast-message-error, .p-dialog:visible").count() == 0


@pytest.mark.parametrize("kind", sorted(set(ALONE) - SEARCHES - TRAINS))
def test_what_works_alone_says_what_it_lacks_when_nothing_else_is_there_to_run(page, server, kind):
    ids = page.evaluate(PUT, [kind, next(_COLOURS), False])
    page.evaluate("id => app.graph.remove(app.graph._nodes.find(node => String(node.id) === id))", ids["shown"])
    _, history = run(page, server)
    assert history["status"]["status_str"] == "success"
    (said,) = (output["text"][0] for output in history["outputs"].values())
    assert said.startswith("✖ no ") or said.startswith("✖ the tuned model is missing")


def test_a_lora_chosen_in_a_parked_node_is_looked_into(page, server):
    ids = page.evaluate(PUT, ["CVL_LoRAInfo", next(_COLOURS), False])
    page.evaluate(CHOOSE, [ids["parked"], "file", "bundled/tiny_clip_stripes_lora.safetensors"])
    _, history = run(page, server)
    assert set(history["outputs"]) == {ids["shown"], ids["parked"]}
    assert "stripes" in history["outputs"][ids["parked"]]["text"][0]


def test_nothing_is_written_at_the_first_run_of_a_new_node():
    """A menu of what writes or reads a file by itself begins with nothing, also where there are files of the user's."""
    with patch.multiple(catalog.host, folder_names=lambda folder: ["own.safetensors"]):
        for kind in set(ALONE) - SEARCHES:
            inputs = NODE_CLASS_MAPPINGS[kind].INPUT_TYPES()["required"]
            choices, words = inputs[ALONE[kind]]
            begins = words.get("default", choices[0])
            assert begins in ("", "none") and words["cvl_nothing"] == begins


def test_what_does_its_work_alone_runs_though_nothing_is_connected():
    assert {kind for kind in NODE_CLASS_MAPPINGS if needs_no_link(kind)} <= set(ALONE)


def test_it_takes_part_as_soon_as_something_is_connected_and_is_saved_and_copied_as_any_other(page):
    found = page.evaluate(
        """async put => {
      const ids = await (eval(put))(["CVL_CompareImages", 3, false]);
      const [image, node] = [ids.image, ids.parked].map(id => app.graph._nodes.find(n => String(n.id) === id));
      const parts = async () => Object.values((await app.graphToPrompt()).output).map(n => n.class_type).sort();
      const said = {parked: await parts(), virtual: node.isVirtualNode};
      said.own = Object.keys(node).includes("isVirtualNode");
      image.connect(0, node, 0);
      said.half = await parts();
      image.connect(0, node, 1);
      said.whole = await parts();
      node.disconnectInput(0); node.disconnectInput(1);
      said.again = await parts();
      const saved = JSON.parse(JSON.stringify(app.graph.serialize()));
      said.saved = saved.nodes.map(n => n.type).sort();
      said.marked = JSON.stringify(saved).includes("isVirtualNode");
      await app.loadGraphData(saved);
      said.back = app.graph._nodes.map(n => n.type).sort();
      const first = app.graph._nodes.find(n => n.type === "CVL_CompareImages"), copy = first.clone();
      app.graph.add(copy);
      said.copied = [copy.type, copy.isVirtualNode, copy.inputs.length - first.inputs.length];
      return said;
    }""",
        PUT,
    )
    plain = ["EmptyImage", "PreviewImage"]
    assert found["parked"] == found["again"] == plain and found["virtual"] and not found["own"]
    assert found["half"] == found["whole"] == sorted([*plain, "CVL_CompareImages"])
    assert found["saved"] == sorted([*plain, "CVL_CompareImages"])
    assert found["back"] == found["saved"]
    assert found["copied"] == ["CVL_CompareImages", True, 0] and not found["marked"]


def test_over_the_api_a_parked_node_fails_alone(server):
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 5}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "CVL_CompareImages", "inputs": {}},
        "4": {"class_type": "CVL_TextEncode", "inputs": {"text": "a cat"}},
    }
    request = urllib.request.Request(
        f"{server}/prompt", json.dumps({"prompt": prompt}).encode(), {"Content-Type": "application/json"}
    )
    answer = json.load(urllib.request.urlopen(request))
    assert set(answer["node_errors"]) == {"3"}  # and nobody asked for 4
    history = account(server, answer["prompt_id"])
    assert history["status"]["status_str"] == "success"
    assert set(history["outputs"]) == {"2"}
