"""What the page shows under a node belongs to that node, also when undo has made it anew. Needs playwright."""

import pytest

from clip_vae_lora.tests.support.servers.canvas import open_workflow, placed
from clip_vae_lora.tests.support.servers.reports import click_beside, move, other_tab, press, says

OWN = {"CVL_TextEncode": 1, "CVL_TextEncodeSDXL": 2, "CVL_InspectTokens": 1, "CVL_LoRAStack": 1}
SHOWN = """([number, wanted]) => {
  const node = app.graph._nodes.find(({id}) => String(id) === String(number));
  const own = node?.widgets.filter(({element}) => element?.dataset.cvlWidget) ?? [];
  const seen = [...document.querySelectorAll("[data-cvl-widget]")].filter(root => root.offsetParent);
  return own.length === wanted && seen.length === wanted && own.every(({element}) => seen.includes(element));
}"""


def expect_own(page, number: int, wanted: int) -> None:
    page.wait_for_function(SHOWN, arg=[number, wanted], timeout=15_000)


@pytest.mark.parametrize("kind", OWN)
def test_after_undo_and_another_tab_the_page_shows_the_widgets_of_the_node_that_is_there(page, kind):
    open_workflow(page, [placed(kind, 12, (400, 120), size=[420, 460])])
    expect_own(page, 12, OWN[kind])
    says(page, 12, ["one line"])
    expect_own(page, 12, OWN[kind] + 1)
    click_beside(page)
    move(page)
    press(page, "Control+z")
    expect_own(page, 12, OWN[kind] + 1)
    press(page, "Control+y")
    expect_own(page, 12, OWN[kind] + 1)
    open_workflow(page, [placed("CVL_ExampleImage", 12, (400, 120), "red circle")])
    other_tab(page, "Previous")
    expect_own(page, 12, OWN[kind] + 1)
