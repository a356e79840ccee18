"""What users and saved workflows see of the nodes: texts, locales, and the face that must not change."""

import inspect
import json
import re
from pathlib import Path

import pytest

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from clip_vae_lora.tests.nodes.write_schema import faces

ROOT = Path(__file__).resolve().parents[2]
LOCALES = ROOT / "locales"
WIDGETS = {"COMBO", "INT", "FLOAT", "STRING", "BOOLEAN"}
MESSAGE_SYNTAX = set("{}@|$%")  # vue-i18n's: one of these in a locale can keep ComfyUI's whole page from starting

every_node = pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)


def specs(name: str) -> dict[str, tuple[str, dict, str]]:
    """input name -> (type, options, required or optional), in the order of the canvas"""
    groups = NODE_CLASS_MAPPINGS[name].INPUT_TYPES()
    return {
        key: ("COMBO" if isinstance(spec[0], list) else spec[0], spec[1] if len(spec) > 1 else {}, group)
        for group in ("required", "optional")
        for key, spec in groups.get(group, {}).items()
    }


def default(name: str, key: str):
    """What a widget holds on a new node; None for a socket."""
    kind, options, group = specs(name)[key]
    menu = NODE_CLASS_MAPPINGS[name].INPUT_TYPES()[group][key][0]
    return options.get("default", menu[0] if kind == "COMBO" else None)


# the class


def test_every_node_has_a_display_name_of_its_own():
    assert set(NODE_DISPLAY_NAME_MAPPINGS) == set(NODE_CLASS_MAPPINGS)
    assert len(set(NODE_DISPLAY_NAME_MAPPINGS.values())) == len(NODE_CLASS_MAPPINGS)


@every_node
def test_an_id_has_the_prefix_and_plain_letters_because_paths_and_locales_are_made_of_it(name):
    assert re.fullmatch(r"CVL_[A-Za-z0-9_]+", name)


@every_node
def test_a_node_has_a_category_a_description_and_search_words(name):
    node = NODE_CLASS_MAPPINGS[name]
    assert re.fullmatch(r"CVL/[^/]+", node.CATEGORY)
    assert node.DESCRIPTION.strip() and node.DESCRIPTION.rstrip().endswith(".")
    assert node.SEARCH_ALIASES and all(isinstance(alias, str) and alias for alias in node.SEARCH_ALIASES)


@every_node
def test_every_input_has_a_tooltip(name):
    assert not [key for key, (_, options, _) in specs(name).items() if not options.get("tooltip", "").strip()]


@every_node
def test_every_output_has_a_name_and_a_tooltip(name):
    node = NODE_CLASS_MAPPINGS[name]
    assert len(set(node.RETURN_NAMES)) == len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES)
    assert all(text.strip() for text in (*node.RETURN_NAMES, *node.OUTPUT_TOOLTIPS))


@every_node
def test_numbers_say_their_default_and_limits_because_the_frontends_own_are_surprising(name):
    for key, (kind, options, _) in specs(name).items():
        if kind in ("INT", "FLOAT"):
            assert {"default", "min", "max"} <= set(options), key
            assert options["min"] <= options["default"] <= options["max"], key
            assert kind == "INT" or options.get("step", 0) > 0, key


@every_node
def test_a_seed_says_whether_it_changes_by_itself_because_the_frontend_would_add_that_unasked(name):
    for key in {"seed", "noise_seed"} & set(specs(name)):
        assert "control_after_generate" in specs(name)[key][1]


PROMPTS = {"CVL_TextEncode": {"text"}, "CVL_TextEncodeSDXL": {"text_g", "text_l"}, "CVL_InspectTokens": {"text"}}


@every_node
def test_prompts_are_dynamic_as_in_the_stock_node_and_all_other_text_reaches_a_node_as_it_was_typed(name):
    dynamic = {key for key, (_, options, _) in specs(name).items() if options.get("dynamicPrompts")}
    assert dynamic == PROMPTS.get(name, set()), "the frontend replaces braces and cuts comments there"


@every_node
def test_the_functions_parameters_are_the_inputs_and_their_defaults_the_widgets(name):
    node = NODE_CLASS_MAPPINGS[name]
    parameters = inspect.signature(getattr(node(), node.FUNCTION)).parameters
    assert list(parameters) == [*specs(name), *node.INPUT_TYPES().get("hidden", {})]
    for key, (_, _, group) in specs(name).items():
        expected = inspect.Parameter.empty if group == "required" else default(name, key)
        assert parameters[key].default == expected, key


@every_node
def test_the_change_mark_accepts_every_input(name):
    node = NODE_CLASS_MAPPINGS[name]
    if hasattr(node, "IS_CHANGED"):
        inspect.signature(node.IS_CHANGED).bind(**dict.fromkeys(specs(name), ""))


# the locales


def locale(file: str) -> dict:
    return json.loads((LOCALES / "zh" / file).read_text(encoding="utf-8"))


def strings(value) -> list[str]:
    return [value] if isinstance(value, str) else [text for inner in value.values() for text in strings(inner)]


def test_english_is_in_the_classes_alone():
    assert not (LOCALES / "en").exists()


@pytest.mark.parametrize("path", sorted(LOCALES.rglob("*.json")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_locales_strings_have_none_of_the_message_syntax(path):
    found = strings(json.loads(path.read_text(encoding="utf-8")))
    assert found and not [text for text in found if not text.strip() or MESSAGE_SYNTAX & set(text)]


def test_the_locale_names_every_node_input_and_output_and_no_others():
    definitions = locale("nodeDefs.json")
    assert set(definitions) == set(NODE_CLASS_MAPPINGS)
    for name, texts in definitions.items():
        places = range(len(NODE_CLASS_MAPPINGS[name].RETURN_TYPES))
        assert set(texts) == {"display_name", "description", "inputs", "outputs"}, name
        assert list(texts["inputs"]) == list(specs(name)), name
        assert list(texts["outputs"]) == [str(place) for place in places], name
        for text in [*texts["inputs"].values(), *texts["outputs"].values()]:
            assert set(text) == {"name", "tooltip"}, name


def test_the_locale_names_the_menu_folders_and_our_own_wire_types():
    texts, nodes = locale("main.json"), NODE_CLASS_MAPPINGS.values()
    assert set(texts["nodeCategories"]) == {part for node in nodes for part in node.CATEGORY.split("/")}
    assert set(texts["dataTypes"]) == {kind for node in nodes for kind in node.RETURN_TYPES if kind.startswith("CVL_")}


# the example workflows

EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
every_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)


def api_nodes(document: dict) -> dict[str, dict]:
    return {key: node for key, node in document.items() if isinstance(node, dict) and "class_type" in node}


def our_inputs(document: dict) -> list[tuple[str, dict]]:
    """(id, input name -> value or link) of each of our nodes in a workflow of the canvas or of the API."""
    found = [(node["class_type"], node["inputs"]) for node in api_nodes(document).values()]
    graphs = [document, *document.get("definitions", {}).get("subgraphs", [])]
    for node in [node for graph in graphs for node in graph.get("nodes", [])]:
        if node["type"].startswith("CVL_"):
            names = [key for key, (kind, _, _) in specs(node["type"]).items() if kind in WIDGETS]
            values = node.get("widgets_values", [])
            assert len(values) <= len(names), f"{node['type']} has more values than widgets"
            found.append((node["type"], dict(zip(names, values))))  # inputs that came later have their defaults
    return [(name, values) for name, values in found if name.startswith("CVL_")]


@every_example
def test_an_example_uses_only_nodes_and_inputs_that_exist_with_values_they_take(path):
    ours = our_inputs(json.loads(path.read_text(encoding="utf-8")))
    assert ours
    for name, values in ours:
        menus = {entry["name"]: entry["options"] for entry in faces()[name]["inputs"] if "options" in entry}
        for key, value in values.items():
            kind, options, _ = specs(name)[key]
            if isinstance(value, list):
                continue
            if kind in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"], f"{name}.{key}"
            assert key not in menus or value in menus[key], f"{name}.{key}: another machine has no {value!r}"


@every_example
def test_the_links_of_an_example_fit_the_types_of_our_nodes(path):
    nodes = api_nodes(json.loads(path.read_text(encoding="utf-8")))
    for node in nodes.values():
        for key, value in node["inputs"].items():
            source = nodes[value[0]]["class_type"] if isinstance(value, list) else None
            if source in NODE_CLASS_MAPPINGS and node["class_type"] in NODE_CLASS_MAPPINGS:
                taken = specs(node["class_type"])[key][0].split(",")
                assert NODE_CLASS_MAPPINGS[source].RETURN_TYPES[value[1]] in taken


# the saved face
