"""A value written where a link belongs, which ComfyUI lets an API client do, is a sentence in every node."""

import pytest

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS

WIDGETS = {"STRING", "INT", "FLOAT", "BOOLEAN", "*"}


def links(node) -> list[str]:
    specs = node.INPUT_TYPES()
    return [key for key, spec in specs["required"].items() if isinstance(spec[0], str) and spec[0] not in WIDGETS]


def values(node) -> dict:
    found = {}
    for key, spec in node.INPUT_TYPES()["required"].items():
        options = spec[1] if len(spec) > 1 else {}
        kinds = {"STRING": "a", "INT": 1, "FLOAT": 1.0, "BOOLEAN": True}
        found[key] = options.get("default", spec[0][0] if isinstance(spec[0], list | tuple) else kinds.get(spec[0]))
    return found


@pytest.mark.parametrize("name", [name for name, node in NODE_CLASS_MAPPINGS.items() if links(node)])
@pytest.mark.parametrize("value", ["x", 5])
def test_a_literal_for_a_link_is_named_with_its_input(place, name, value):
    node = NODE_CLASS_MAPPINGS[name]
    given = {**values(node), **dict.fromkeys(links(node), value)}
    with pytest.raises(
        ValueError, match="a link to a .* was expected, but the value '[x5]' came; link a node"
    ) as caught:
        getattr(node(), node.FUNCTION)(**given)
    assert str(caught.value).partition(":")[0] in links(node)
