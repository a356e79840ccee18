"""The slider, the galleries and the charts on the nodes, in a real browser on a real server.

Needs COMFYUI_PATH (see serving.py for a server in another Python), playwright, and a Chromium.
"""

import shutil
from pathlib import Path

import pytest

from clip_vae_lora.tests.support.servers.canvas import canvas, chromium, use_vue_nodes
from clip_vae_lora.tests.support.servers.serving import served

PICTURES = Path(__file__).resolve().parents[3] / "example_workflows" / "input"
WAIT_MS = 300_000  # ends a hang and nothing else
MODEL = ["model", "CVL_LoadCLIPModel", {"file": "bundled/tiny_clip.safetensors"}]
CIRCLE, STAR = [[name, "CVL_ExampleImage", {"picture": name}] for name in ("red circle", "blue star")]
BUILD = """async ({nodes, links}) => {
  app.graph.clear();
  for (const old of document.querySelectorAll(".cvl-pictures")) old.remove();
  const made = {};
  for (const [id, type, values] of nodes) {
    const node = made[id] = LiteGraph.createNode(type);
    node.pos = [120 + 420 * (Object.keys(made).length % 3), 120 + 500 * (id === "judge" ? 0 : 1)];
    app.graph.add(node);
    for (const [name, value] of Object.entries(values)) node.widgets.find(w => w.name === name).value = value;
  }
  for (const [from, slot, to, name] of links) {
    made[from].connect(slot, made[to], made[to].inputs.findIndex(input => input.name === name));
  }
  app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0];
  window.judge = made.judge;
  await app.queuePrompt(0);
}"""


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    base = tmp_path_factory.mktemp("server")
    (base / "output").mkdir()
    for name in ("red_circle.png", "blue_star.png", "striped_green_heart.png"):
        shutil.copy(PICTURES / name, base / "output" / name)
    shutil.copy(PICTURES / "red_circle.png", base / "output" / "red_copy.png")
    with served(comfyui_path, base) as address:
        yield address


@pytest.fixture(scope="module")
def opened(server):
    with chromium() as browser:
        yield browser


@pytest.fixture(params=["classic", "Vue nodes"])
def page(opened, server, request):
    page = canvas(opened, server, "CVL_CompareImages")
    use_vue_nodes(page, request.param == "Vue nodes")
    yield page
    page.close()
    assert not page.errors


def run(page, nodes: list, links: list) -> None:
    page.evaluate(BUILD, {"nodes": nodes, "links": links})


def boxed(page, selector: str):
    found = page.locator(f".cvl-pictures {selector}")
    found.first.wait_for(timeout=WAIT_MS)
    return found


def loaded(page, selector: str) -> None:
    script = (
        "selector => [...document.querySelectorAll(selector)].some(image => image.complete && image.naturalWidth > 0)"
    )
    page.wait_for_function(script, arg=f".cvl-pictures {selector}", timeout=WAIT_MS)


def not_cut(page) -> bool:
    """Nothing of the box sticks out of it, and no letter is smaller than 11 px."""
    return page.evaluate("""() => [...document.querySelectorAll(".cvl-pictures")].every(box =>
      box.scrollHeight <= box.clientHeight + 1 && box.scrollWidth <= box.clientWidth + 1
      && [...box.querySelectorAll("*")].every(part => parseFloat(getComputedStyle(part).fontSize) >= 11))""")


def search(page, **more) -> None:
    nodes = [MODEL, ["index", "CVL_IndexFolder", {}], ["judge", "CVL_SearchImages", {"count": 3, **more}]]
    links = [["model", 0, "index", "clip_model"], ["model", 0, "judge", "clip_model"], ["index", 0, "judge", "index"]]
    run(page, nodes, links)


def test_the_slider_shows_more_of_the_first_picture_where_the_pointer_goes_right(page):
    links = [["red circle", 0, "judge", "first"], ["blue star", 0, "judge", "second"]]
    run(page, [CIRCLE, STAR, ["judge", "CVL_CompareImages", {}]], links)
    stage = boxed(page, ".cvl-stage").first
    loaded(page, ".cvl-first")
    box, clips = stage.bounding_box(), []
    for share in (0.2, 0.8):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        clips.append(page.locator(".cvl-first").first.evaluate("image => image.style.clipPath"))
    right = [float(clip.split()[1].rstrip("%")) for clip in clips]
    assert abs(right[0] - 80) < 3 and abs(right[1] - 20) < 3
    assert not_cut(page)
    boxed(page, ".cvl-mode").first.click()
    loaded(page, ".cvl-difference")


def test_a_gallery_shows_the_found_files_themselves_and_a_pick_is_what_comes_out(page, server):
    search(page)
    cards = boxed(page, ".cvl-card")
    sources = cards.locator("img").evaluate_all("images => images.map(image => image.src)")
    assert any("filename=red_circle.png" in source and "type=output" in source for source in sources)
    assert not_cut(page)
    heart = page.locator(".cvl-card", has_text="striped_green_heart.png").first
    heart.locator("img").click()
    assert page.evaluate("judge.widgets.find(w => w.name === 'picked').value") == '["striped_green_heart.png [output]"]'
    page.evaluate("app.queuePrompt(0)")
    said = "1 picked by hand: striped_green_heart.png"
    script = "said => [...document.querySelectorAll('.cvl-report-body')].some(box => box.textContent.includes(said))"
    page.wait_for_function(script, arg=said, timeout=WAIT_MS)
    assert heart.get_attribute("data-picked") is not None


def test_a_chart_is_drawn_in_letters_of_the_page_and_nothing_is_cut(page):
    links = [["model", 0, "judge", "clip_model"], ["red circle", 0, "judge", "image"]]
    run(page, [MODEL, CIRCLE, ["judge", "CVL_ZeroShotClassify", {}]], links)
    label = boxed(page, ".cvl-bars .cvl-label").first
    assert label.inner_text() == "red circle"
    assert not_cut(page)
    assert page.evaluate("judge.imgs === undefined")  # the same chart is not shown as a picture below it


def test_two_prompts_are_compared_in_curves_of_the_page_and_not_in_a_white_picture(page):
    encoder = ["encoder", "CVL_LoadTextEncoder", {"file": "bundled/tiny_clip.safetensors"}]
    first, second = [[name, "CVL_TextEncode", {"text": name}] for name in ("a red circle", "a blue star")]
    links = [["encoder", 0, name, "clip"] for name in (first[0], second[0])]
    links += [[first[0], 0, "judge", "first"], [second[0], 0, "judge", "second"]]
    run(page, [encoder, first, second, ["judge", "CVL_CompareConditioning", {}]], links)
    drawn = boxed(page, ".cvl-curves path")
    assert drawn.evaluate_all("paths => paths.map(path => path.dataset.tone)") == ["good", "warm", "cold"]
    assert all(drawn.evaluate_all("paths => paths.map(path => path.getBoundingClientRect().width > 100)"))
    assert not_cut(page)
    assert page.evaluate("judge.imgs === undefined")


STRIPES = "bundled/tiny_clip_stripes_lora.safetensors"


@pytest.mark.parametrize(
    ("kind", "values", "drawn"),
    [
        ("CVL_ResizeLoRA", {"file": STRIPES, "amount": 1.0}, ".cvl-bars .cvl-label"),
        ("CVL_CompareLoRAs", {"loras": f"{STRIPES} : 1\n{STRIPES} : 0.5"}, ".cvl-curves path"),
    ],
)
def test_what_the_workshop_measures_is_drawn_in_the_page_and_not_in_a_white_picture(page, kind, values, drawn):
    run(page, [["judge", kind, values]], [])
    shown = boxed(page, drawn)
    assert all(one.bounding_box()["width"] > 10 for one in shown.all())
    assert not_cut(page)
    assert page.evaluate("judge.imgs === undefined")
