"""What completes a prompt: the route with the user's word list, and the search in the canvas (run by node)."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from clip_vae_lora.nodes.routes import ROUTES
from clip_vae_lora.nodes.text import word_list

WEB = Path(__file__).resolve().parents[3] / "web"
needs_node = pytest.mark.skipif(not shutil.which("node"), reason="needs node")


def asked(name: str) -> dict:
    return ROUTES["/clip_vae_lora/words"].function({"list": name})


@pytest.fixture
def inputs(place):
    (place.base / "input" / "lists").mkdir(parents=True)
    return place.base / "input"


def test_a_text_has_a_word_a_line(inputs):
    (inputs / "mine.txt").write_text(
        "\ufeffgolden hour\n# a remark\n\n  film   grain \ngolden hour\n", encoding="utf-8"
    )
    assert asked("mine.txt")["words"] == [("golden hour", 0, []), ("film grain", 0, [])]


def test_a_table_of_tag_completion_is_read_with_counts_and_other_names_most_used_first(inputs):
    table = 'long_hair,0,4350743,"/lh,longhair"\nlong_legs,0,9,\n1girl,0,6008644,"1girls,sole_female"\n^_^,0,x,\n'
    (inputs / "lists" / "danbooru.csv").write_text(table, encoding="utf-8")
    assert asked("lists/danbooru.csv")["words"] == [
        ("1girl", 6008644, ["1girls", "sole_female"]),
        ("long_hair", 4350743, ["/lh", "longhair"]),
        ("long_legs", 9, []),
        ("^_^", 0, []),
    ]


def test_embeddings_are_named_as_prompts_write_them(place, inputs):
    (place.models / "embeddings" / "bad").mkdir()
    for name in ("bad/hands.pt", "easy.safetensors", "x.v2.safetensors"):
        (place.models / "embeddings" / name).touch()
    assert asked("")["embeddings"] == ["bad/hands", "easy", "x.v2"]


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "..\\secret.txt", "nowhere.txt", "lists", "a\0b"])
def test_no_name_leads_out_of_the_input_folder(inputs, place, name):
    (place.base / "secret.txt").write_text("password")
    answer = asked(name)
    assert answer["words"] == []
    assert "there is no" in answer["problem"] or "ends in .txt or .csv" in answer["problem"]


def test_a_list_that_is_too_large_or_no_text_is_told_so(inputs, monkeypatch):
    (inputs / "big.txt").write_text("x" * 100)
    (inputs / "raw.txt").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setattr(word_list, "MOST_BYTES", 50)
    assert "at most 0 MB was expected" in asked("big.txt")["problem"]
    assert "UTF-8" in asked("raw.txt")["problem"]


def test_no_more_words_are_sent_than_a_page_can_hold(monkeypatch):
    monkeypatch.setattr(word_list, "MOST_WORDS", 3)
    assert len(word_list.words(map(str, range(9)), table=False)) == 3


@pytest.mark.parametrize("question", [None, [], {}, {"list": 3}])
def test_another_question_is_refused(question):
    with pytest.raises(ValueError, match="name of a word list was expected"):
        word_list.answer(question)


def in_node(module: str, expression: str, data: object = None):
    code = f"import * as M from {json.dumps((WEB / module).as_uri())};"
    code += f"const data = {json.dumps(data)}; process.stdout.write(JSON.stringify({expression}));"
    done = subprocess.run(["node", "--input-type=module", "-e", code], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_the_most_used_words_that_begin_with_what_is_typed_are_found_also_by_other_names():
    data = [["long_hair", 9, ["lh hair"]], ["long_legs", 20, []], ["along", 99, []], ["LONG exposure", 1, []]]
    found = in_node("complete_search.mjs", "M.beginning(M.prepare(data), 'long ', 2).map(({word}) => word)", data)
    assert found == ["long_legs", "long_hair"]
    found = in_node(
        "complete_search.mjs", "M.beginning(M.prepare(data), 'LH', 2).map(({word, as}) => [word, as])", data
    )
    assert found == [["long_hair", "lh hair"]]


@needs_node
def test_a_search_among_a_hundred_thousand_words_agrees_with_looking_at_each():
    data = [[f"{number * 7919 % 99991:05d} word", number * 31 % 1009, []] for number in range(100_000)]
    found = in_node(
        "complete_search.mjs",
        "(words => M.beginning(M.prepare(words), '12', 5).map(({count}) => count))"
        "(Array.from({length: 100000}, (_, n) => "
        "[String(n * 7919 % 99991).padStart(5, '0') + ' word', n * 31 % 1009, []]))",
    )
    counts = {}
    for word, count, _ in data:
        counts[word] = max(count, counts.get(word, 0))
    assert found == sorted((count for word, count in counts.items() if word.startswith("12")), reverse=True)[:5]


@needs_node
@pytest.mark.parametrize(
    ("text", "kind", "typed"),
    [
        ("a, embedding:ba", "embedding", "ba"),
        ("(embedding:", "embedding", ""),
        ("a <lora:st", "network", "<lora:st"),
        ("cat, long_h", "words", ["long_h"]),
        ("a photo of a wom", "words", ["photo of a wom", "of a wom", "a wom", "wom"]),
        ("(red:1.2", "words", ["1.2"]),
        ("x", None, None),
        ("red, ", None, None),
    ],
)
def test_what_is_being_written_stands_before_the_caret(text, kind, typed):
    found = in_node("complete_search.mjs", "M.writtenAt(data, data.length)", text) or {"kind": None}
    assert found["kind"] == kind
    if kind:
        assert typed == (found["typed"] if kind != "words" else [start["typed"] for start in found["starts"]])


@needs_node
def test_in_the_middle_of_a_word_nothing_is_completed():
    assert in_node("complete_search.mjs", "M.writtenAt('landscape', 4)") is None


@needs_node
@pytest.mark.parametrize(
    ("word", "written"),
    [("long_hair", "long hair"), ("^_^", "^_^"), ("saber_(fate)", r"saber \(fate\)"), ("a b", "a b")],
)
def test_a_word_is_written_as_prompts_read_it(word, written):
    assert in_node("complete_search.mjs", "M.written(data)", word) == written


@needs_node
@pytest.mark.parametrize(
    ("typed", "sent", "drawn", "cut"),
    [
        ("a {red|blue} cat // note\nsits", "a red cat \nsits", True, True),
        ("{a|{b|c}} {d}", "a d", True, False),
        ("{{x|y} z|w}", "x z", True, False),
        (r"\{a\|b\} \(c\)", r"{a|b} \(c\)", False, False),
        ("a /* x\ny */ b", "a  b", False, True),
        ("a } b {c", "a } b c", False, False),
        ("{|b}", "", True, False),
    ],
)
def test_what_is_sent_is_known_but_for_the_draw(typed, sent, drawn, cut):
    assert in_node("dynamic.mjs", "M.sentText(data)", typed) == {"text": sent, "drawn": drawn, "cut": cut}
