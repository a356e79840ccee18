"""The example workflows: canvas file and API twin are one graph, each can be read on one screen, and they do what the
README says.
"""

import json
from contextlib import redirect_stdout
from io import StringIO
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from clip_vae_lora.files.images import read_image
from clip_vae_lora.headless import command
from clip_vae_lora.headless.workflow.canvas import to_api
from clip_vae_lora.headless.workflow.embedded import specs_of
from clip_vae_lora.headless.workflow.folders import Folders
from clip_vae_lora.headless.workflow.graph import spec
from clip_vae_lora.headless.workflow.stock_nodes import stock_nodes
from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from clip_vae_lora.tests.support.drawn_graph import box, hidden_links, meet
from clip_vae_lora.training.scenes.reading import read_picture
from clip_vae_lora.training.scenes.scene import COLOURS, SHAPES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES, DATA = ROOT / "example_workflows", ROOT / "tests" / "data"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
# these need a checkpoint and a sampler
SAMPLED = ["own_best_of_8", "own_hires_decode", "own_inpaint", "own_prompt_lora", "own_train_lora"]
HERE = [name for name in NAMES if name not in SAMPLED]
NOTES = ("Note", "MarkdownNote")
SHOWS = {  # our nodes that save or judge, and so may be the last of a way; the others run only for what follows them
    *("CVL_ZeroShotClassify", "CVL_ImageTextSimilarity", "CVL_RankImages", "CVL_ImageGate", "CVL_VisualQuestion"),
    *("CVL_RankTags", "CVL_CompareImages", "CVL_CompareConditioning", "CVL_InspectTokens", "CVL_LoRAInfo"),
    *("CVL_SearchImages", "CVL_FindDuplicates", "CVL_IndexFolder", "CVL_SaveConditioning", "CVL_ConvertLoRA"),
    *("CVL_Doctor", "CVL_MergeLoRAs", "CVL_CompareLoRAs", "CVL_EditLoRA", "CVL_BakeLoRA", "CVL_ResizeLoRA"),
    *("CVL_ExtractLoRA", "CVL_RescaleVAE", "SaveImage", "PreviewImage", "PreviewAny"),
}

every_example = pytest.mark.parametrize("name", NAMES)


def canvas(name: str, folder: Path = EXAMPLES) -> dict:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def twin(name: str, folder: Path = EXAMPLES) -> dict:
    return canvas(name, folder / "api")


def specs(folder: Path):
    """The nodes that run without ComfyUI, and those of ComfyUI 0.33.0 that are written down in tests/data."""
    mine = specs_of({**stock_nodes(Folders(folder)), **NODE_CLASS_MAPPINGS})
    theirs = json.loads((DATA / "stock_nodes.json").read_text(encoding="utf-8"))
    known = {name: spec(one["input"], one["output"], one["output_node"]) for name, one in theirs.items()}
    return lambda name: mine(name) or known.get(name)


def same_graph(name: str, folder: Path, tmp_path: Path) -> None:
    made, notes = to_api(canvas(name, folder), specs(tmp_path))
    assert not notes
    assert {n: (v["class_type"], v["inputs"]) for n, v in made.items()} == {
        n: (v["class_type"], v["inputs"]) for n, v in twin(name, folder).items()
    }


def run(path: Path, output: Path, *more: str) -> dict:
    """What --json printed."""
    with redirect_stdout(StringIO()) as printed:
        assert command.main([str(path), "--output", str(output), "--json", *more]) == 0
    return json.loads(printed.getvalue())


def report(document, node):
    return json.loads(document["outputs"][node]["cvl_report"][0])


# files


def test_every_workflow_has_its_twin():
    assert NAMES and NAMES == sorted(path.stem for path in (EXAMPLES / "api").glob("*.json"))


@every_example
def test_the_canvas_file_and_its_twin_are_the_same_graph(name, tmp_path):
    same_graph(name, EXAMPLES, tmp_path)


@every_example
def test_a_picture_for_the_template_browser_lies_beside_it(name):
    path = EXAMPLES / f"{name}.jpg"
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "JPEG" and 400 <= picture.width <= 768 and 200 <= picture.height <= 768
        assert (
            sum(picture.convert("L").histogram()[level] > 0 for level in range(256)) > 50
        )  # something is to be seen on it
    assert path.stat().st_size <= 60_000


@every_example
def test_the_readme_names_it(name):
    assert f"example_workflows/{name}.json" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_node_of_the_pack_is_in_an_example():
    assert set(NODE_CLASS_MAPPINGS) <= {node["class_type"] for name in NAMES for node in twin(name).values()}


def test_no_two_examples_share_an_id_of_a_node_or_of_a_link():
    """The front end finds nodes by id: results of one open workflow must not show in another."""
    spans = []
    for name in NAMES:
        graph = canvas(name)
        ids = [int(node["id"]) for node in graph["nodes"]] + [link[0] for link in graph["links"]]
        assert len(set(ids)) == len(ids)
        assert graph["last_node_id"] == max(node["id"] for node in graph["nodes"])
        assert graph["last_link_id"] == max(link[0] for link in graph["links"])
        spans.append((min(ids), max(ids), name))
    for (_, last, name), (first, _, other) in zip(sorted(spans), sorted(spans)[1:]):
        assert last < first, f"{name} and {other} share ids"


# what a user sees


@every_example
def test_notes_explain_it(name):
    notes = [node for node in canvas(name)["nodes"] if node["type"] == "MarkdownNote"]
    text = " ".join(node["widgets_values"][0] for node in notes)
    assert notes and "**Next:**" in text and len(text) > 150


@every_example
def test_each_title_keeps_the_name_of_its_node_and_each_node_has_a_colour(name):
    for node in canvas(name)["nodes"]:
        own = NODE_DISPLAY_NAME_MAPPINGS.get(node["type"])
        assert own is None or "title" not in node or node["title"].startswith(own)
        assert node["color"] and node["bgcolor"]


@every_example
def test_no_node_is_one_that_the_hosts_have_given_up(name):
    assert not {"ImageBatch", "LatentBatch"} & {node["type"] for node in canvas(name)["nodes"]}


@every_example
def test_every_node_leads_to_one_that_shows_something(name):
    """Nothing in an example stands there without ever running."""
    nodes = twin(name)
    needed, new = set(), {key for key, node in nodes.items() if node["class_type"] in SHOWS}
    while new:
        needed |= new
        links = [value for key in new for value in nodes[key]["inputs"].values() if isinstance(value, list)]
        new = {source for source, _ in links} - needed
    assert needed == set(nodes)


@every_example
def test_nodes_and_groups_do_not_overlap_and_each_node_is_in_one_group(name):
    graph = canvas(name)
    boxes = [box(node) for node in graph["nodes"]]
    groups = [(x, y, x + width, y + height) for x, y, width, height in (one["bounding"] for one in graph["groups"])]
    assert not any(meet(one, other) for one, other in combinations(boxes, 2))
    assert not any(meet(one, other) for one, other in combinations(groups, 2))
    for x, y, right, bottom in boxes:
        around = [one for one in groups if one[0] <= x and one[1] <= y and right <= one[2] and bottom <= one[3]]
        assert len(around) == 1


@every_example
def test_no_link_runs_behind_a_node(name):
    assert not hidden_links(canvas(name))


@every_example
def test_it_opens_at_its_beginning_where_text_is_drawn(name):
    """The canvas draws no text below 0.6; at the saved zoom the whole graph fits a screen of 1600 x 1000, and nothing
    of it lies behind the front end's bars on the left and above.
    """
    graph = canvas(name)
    scale, (left, top) = graph["extra"]["ds"]["scale"], graph["extra"]["ds"]["offset"]
    boxes = [one["bounding"] for one in graph["groups"]]
    assert scale >= 0.7
    assert 64 <= (min(one[0] for one in boxes) + left) * scale <= 150
    assert 48 <= (min(one[1] for one in boxes) + top) * scale <= 150
    assert (max(one[0] + one[2] for one in boxes) + left) * scale <= 1600
    assert (max(one[1] + one[3] for one in boxes) + top) * scale <= 1100  # the least of it is space for what grows


# what they do


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """What both forms of the quickstart printed with --json; the API's with the LoRA at 0."""
    off = ("--set", "106.strength_model=0", "--set", "106.strength_clip=0")
    canvas_run = run(EXAMPLES / "quickstart.json", tmp_path_factory.mktemp("output"))
    return [canvas_run, run(EXAMPLES / "api" / "quickstart.json", tmp_path_factory.mktemp("output"), *off)]


@pytest.mark.slow
def test_the_quickstart_draws_what_its_prompt_says_and_clip_sees_it(quickstart):
    saved = [Path(image) for image in quickstart[0]["images"] if Path(image).name.startswith("quickstart_")]
    read = [read_picture(read_image(path)[0][0].movedim(-1, 0)) for path in saved]
    wanted = (SHAPES.index("star"), tuple(COLOURS).index("blue"))
    assert len(read) == 4 and sum(one is not None and (one.shape, one.colour) == wanted for one in read) >= 3
    assert sum(picture["best"] == "blue star" for picture in report(quickstart[0], "104")["pictures"]) >= 3


@pytest.mark.slow
def test_the_quickstarts_lora_changes_what_the_model_knows(quickstart):
    with_lora, alone = (report(one, "108")["pictures"][0]["probabilities"] for one in quickstart)
    assert with_lora["striped heart"] > 0.9 and alone["striped heart"] < 0.6  # a coin toss without it
    assert report(quickstart[0], "106")["applied"] == report(quickstart[0], "106")["modules"]


@pytest.mark.slow
def test_both_forms_give_the_same_numbers(quickstart):
    for node in ("104", "113", "116"):
        assert report(quickstart[0], node) == report(quickstart[1], node)


@pytest.mark.slow
def test_the_zero_shot_example_finds_one_label_of_a_hundred(tmp_path):
    found = report(run(EXAMPLES / "api" / "zero_shot.json", tmp_path), "204")
    (picture,) = found["pictures"]
    assert found["label_count"] == 100 and len(picture["top"]) == 5
    assert picture["best"] == "blue star" and picture["probabilities"]["blue star"] > 0.9


@pytest.mark.slow
def test_the_inpainting_example_changes_the_heart_and_no_pixel_around_it(tmp_path):
    document = run(EXAMPLES / "inpaint_and_latents.json", tmp_path)
    (pasted,) = [
        report(document, node) for node in document["outputs"] if "untouched" in str(document["outputs"][node])
    ]
    assert 0.8 < pasted["untouched"] < 0.9 and pasted["largest_share"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name for name in HERE if name not in ("quickstart", "own_search_output", "train_lora", "train_vae", "train_clip")],
)
def test_it_runs_without_comfyui(name, tmp_path):
    assert run(EXAMPLES / f"{name}.json", tmp_path)["outputs"]


def test_your_own_output_folder_is_searched(tmp_path):
    for picture in ("red_circle.png", "blue_star.png"):
        (tmp_path / picture).write_bytes((EXAMPLES / "input" / picture).read_bytes())
    document = run(EXAMPLES / "own_search_output.json", tmp_path)
    (said,) = [ui["text"][0] for ui in document["outputs"].values() if "red_circle.png" in str(ui.get("text"))]
    assert said.index("red_circle.png") < said.index("blue_star.png")


def test_a_tour_of_the_examples_leaves_few_files():
    """PreviewImage where a file is not the point."""
    savers = [node["class_type"] for name in HERE for node in twin(name).values()]
    assert savers.count("SaveImage") == 1 and savers.count("PreviewImage") >= 8  # the first picture is kept


# the examples of version 0.1, kept as they were

OLD = DATA / "workflows_0_1"
OLD_NAMES = sorted(path.stem for path in OLD.glob("*.json"))
LONG = ("quickstart", "judge", "inpaint_and_latents")


def default(kind: str, name: str) -> object:
    """What a node's input has where nobody has chosen."""
    first, *options = NODE_CLASS_MAPPINGS[kind].INPUT_TYPES()["optional"][name]
    return (options[0] if options else {}).get("default", first[0] if isinstance(first, list) else None)


@pytest.mark.parametrize("name", OLD_NAMES)
def test_a_workflow_of_version_0_1_opens_as_the_graph_it_was(name, tmp_path):
    assert len(OLD_NAMES) == 9
    made, notes = to_api(canvas(name, OLD), specs(tmp_path))
    assert not notes and made.keys() == twin(name, OLD).keys()
    for key, node in twin(name, OLD).items():
        assert made[key]["class_type"] == node["class_type"]
        assert node["inputs"].items() <= made[key]["inputs"].items()
        for more in made[key]["inputs"].keys() - node["inputs"].keys():  # what has come since stands at its default
            assert made[key]["inputs"][more] == default(node["class_type"], more)


@pytest.mark.parametrize("form", ["canvas", "api"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in OLD_NAMES]
)
def test_a_workflow_of_version_0_1_runs_to_its_end(name, form, tmp_path):
    path = OLD / "api" / f"{name}.json" if form == "api" else OLD / f"{name}.json"
    document = run(path, tmp_path)
    last = {key for key, node in twin(name, OLD).items() if node["class_type"] in SHOWS}
    assert last <= set(document["outputs"])  # each that saves or judges has said what it did
