"""What was picked by hand, and the cards of a gallery."""

import pytest

from clip_vae_lora.nodes.galleries import card, picked_places, read_picks, with_gallery
from clip_vae_lora.nodes.host.shared.data_folders import Places


@pytest.mark.parametrize(
    ("text", "picks"),
    [("", []), (" 3, 0 ", ["3", "0"]), ("[3, 0]", ["3", "0"]), ("a b.png\nc.png", ["a b.png", "c.png"])]
    + [('["a, b.png [output]"]', ["a, b.png [output]"]), ("[x].png", ["[x].png"])],
)
def test_picks_are_a_json_list_or_places_or_a_name_a_line(text, picks):
    assert read_picks(text) == picks


@pytest.mark.parametrize("text", ["4", "-1", "cat.png", "0, 9"])
def test_a_pick_that_is_no_place_in_the_batch_is_one_sentence(text):
    with pytest.raises(ValueError, match="places from 0 to 3 were expected in picked"):
        picked_places(text, 4)


def test_a_picture_picked_twice_counts_once_and_the_order_is_that_of_the_picks():
    assert picked_places("2, 0, 2", 3) == [2, 0]


def test_a_found_file_is_named_as_the_host_serves_it(tmp_path):
    places = Places(tmp_path / "output", (tmp_path / "input",), tmp_path / "temp")
    root = tmp_path.resolve()
    assert places.entry_of(root / "output/a/b.png") == {"filename": "b.png", "subfolder": "a", "type": "output"}
    assert places.entry_of(root / "input/b.png") == {"filename": "b.png", "subfolder": "", "type": "input"}
    assert places.entry_of(root / "elsewhere/b.png") is None


def test_a_gallery_names_the_files_of_its_cards_in_their_order():
    files = [{"filename": name, "subfolder": "", "type": "output"} for name in ("a.png", "b.png")]
    groups = [("one", card(files[1], "b.png")), ("none", card(None, "c.png")), ("two", card(files[0], "a.png"))]
    ui = with_gallery({"ui": {"text": ["t"]}, "result": ()}, groups)["ui"]
    assert ui["images"] == [files[1], files[0]] and [group["title"] for group in ui["cvl_gallery"]] == ["one", "two"]
