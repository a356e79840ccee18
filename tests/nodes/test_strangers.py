"""Whatever comes over a link, a node works or says a sentence: any type and shape, nothing, other objects."""

import pytest

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS

from ..support.calls import Calls, write_files
from ..support.files.odd_values import WIDGETS, Listener, links, odd


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name, node in NODE_CLASS_MAPPINGS.items() if links(node)])
def test_what_comes_over_a_link_works_or_is_a_sentence(place, name):
    write_files(place.models, place.base / "input")
    calls = Calls(lambda one: NODE_CLASS_MAPPINGS[one](), place.base / "input")
    node = Listener(NODE_CLASS_MAPPINGS[name]())
    getattr(calls, name.removeprefix("CVL_"))(node, 2)
    run = getattr(NODE_CLASS_MAPPINGS[name](), node.FUNCTION)
    for key, kind in links(NODE_CLASS_MAPPINGS[name]).items():
        for value in odd(kind).values():
            try:
                run(**{**node.given, key: value})
            except ValueError as error:
                assert len(str(error)) > 30, (key, value)


def wanted_links(node) -> list[str]:
    specs = node.INPUT_TYPES()
    return [
        key for key, spec in specs["required"].items() if isinstance(spec[0], str) and spec[0] not in {*WIDGETS, "*"}
    ]


def values(node) -> dict:
    found = {}
    for key, spec in node.INPUT_TYPES()["required"].items():
        options = spec[1] if len(spec) > 1 else {}
        kinds = {"STRING": "a", "INT": 1, "FLOAT": 1.0, "BOOLEAN": True}
        found[key] = options.get("default", spec[0][0] if isinstance(spec[0], list | tuple) else kinds.get(spec[0]))
    return found


@pytest.mark.parametrize("name", [name for name, node in NODE_CLASS_MAPPINGS.items() if wanted_links(node)])
@pytest.mark.parametrize("value", ["x", 5])
def test_a_literal_for_a_link_is_named_with_its_input(place, name, value):
    node = NODE_CLASS_MAPPINGS[name]
    given = {**values(node), **dict.fromkeys(wanted_links(node), value)}
    with pytest.raises(
        ValueError, match="a link to a .* was expected, but the value '[x5]' came; link a node"
    ) as caught:
        getattr(node(), node.FUNCTION)(**given)
    assert str(caught.value).partition(":")[0] in wanted_links(node)
