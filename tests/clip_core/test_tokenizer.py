"""The tokenizer against open_clip's (OpenAI's own code), transformers', and laws."""

import time
import unicodedata

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clip_vae_lora.clip_core.tokenizer import END, RULES, START, Tokenizer, merge, vocabulary

SIGNS = st.characters(exclude_categories=("Cs",))
SNIPPETS = st.sampled_from(
    ["'s", "'LL", "n't", "&amp;", "&amp;amp;", "&lt", "&#128512;", "<|", "|>", "Ã©", "â€™", "ﬁ", "Ｆｕｌｌ", "İ", "Σ"]
    + ["ſ", "'ſ", "\u212a"]
    + [" ", "\t", "\x85", "\u200d", "\x1c", "\0", "👩‍👩‍👧", "🇩🇪", "漢字", "١٢٣", "e\u0301", "ก็", "a" * 30]
)
PARTS = st.one_of(st.text(SIGNS, max_size=8), SNIPPETS, st.text("abcdefghij ,.", max_size=12))
TEXTS = st.lists(PARTS, max_size=8).map("".join)
OURS = Tokenizer()


@pytest.fixture(scope="module")
def openai_tokenizer():
    """OpenAI's code as open_clip keeps it, with OpenAI's own names of the special tokens."""
    made = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    for name, number in {"<|startoftext|>": START, "<|endoftext|>": END}.items():
        made.encoder[name], made.cache[name] = number, name
    rest = made.pat.pattern.removeprefix("<start_of_text>|<end_of_text>|")
    made.pat = regex.compile(rf"<\|startoftext\|>|<\|endoftext\|>|{rest}", regex.IGNORECASE)
    return made


@pytest.fixture(scope="module")
def hf_tokenizer():
    known = vocabulary()
    merges = [(known.pieces[left], known.pieces[right]) for left, right in known.merges]
    return pytest.importorskip("transformers").CLIPTokenizer(dict(known.ids), merges)


@settings(max_examples=2000, deadline=None)
@given(text=TEXTS)
@example(text="a photo of a cat")
@example(text="x" * 10_000)
@example(text="\ud800 lone surrogate")
@example(text="<|endoftext|> in ><|startoftext|> the <|ENDOFTEXT|> middle")
def test_ids_are_those_of_openai(openai_tokenizer, text):
    assert OURS.encode(text) == openai_tokenizer.encode(text)


@settings(max_examples=2000, deadline=None)
@given(text=TEXTS)
@example(text="<|endoftext|> in ><|startoftext|> the <|ENDOFTEXT|> middle")
@example(text="ΟΔΥΣΣΕΥΣ Σ ﬁne &amp; “curly” Ｆｕｌｌ")
def test_the_rules_of_transformers_give_the_ids_of_its_tokenizer(hf_tokenizer, text):
    # `regex` knows letters of Unicode 16 and newer, the `tokenizers` library and this Python do not
    text = "".join(sign for sign in text if unicodedata.category(sign) != "Cn")
    assert Tokenizer("transformers").encode(text) == hf_tokenizer(text)["input_ids"][1:-1]


@pytest.mark.parametrize(
    ("text", "same"),
    [("a photo of a cat, 4K!", True), ("été 漢字 🐱", True), ("“curly”", False), ("&amp;", False), ("ΟΔΟΣ", False)],
)
def test_transformers_differs_from_openai_only_where_the_docstring_says(text, same):
    assert (Tokenizer("openai").encode(text) == Tokenizer("transformers").encode(text)) is same


def test_start_and_end_can_be_written_in_a_text():
    assert OURS.encode("<|startoftext|> cat <|ENDOFTEXT|>") == [START, 2368, END]


def test_openai_does_not_see_an_end_token_behind_another_sign():
    assert END not in OURS.encode("!<|endoftext|>")


def test_a_pair_is_joined_at_all_its_places_before_a_pair_of_lower_rank_that_arises():
    merges = {(0, 1): 5, (15, 0): 2}  # 15 is what (0, 1) makes
    assert merge([0, 1, 0, 1], merges, first_merged=10) == [15, 15]
    assert merge([0, 1, 0], merges, first_merged=10) == [12]


@given(st.lists(st.integers(0, 2), max_size=30), st.permutations([(a, b) for a in range(3) for b in range(3)]))
def test_merging_is_that_of_the_textbook(ids, order):
    merges = {pair: rank for rank, pair in enumerate(order[:5])}
    merges |= {(10, 0): 5, (1, 11): 6, (12, 12): 7}

    def textbook(word):
        while True:
            ranks = [merges[pair] for pair in zip(word, word[1:]) if pair in merges]
            if not ranks:
                return word
            rank, out, place = min(ranks), [], 0
            while place < len(word):
                if place + 1 < len(word) and merges.get((word[place], word[place + 1])) == rank:
                    out.append(10 + rank)
                    place += 2
                else:
                    out.append(word[place])
                    place += 1
            word = out

    assert merge(ids, merges, first_merged=10) == textbook(ids)


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=20))
def test_decoding_gives_the_cleaned_text_back(text):
    words = RULES["openai"](text)
    assert OURS.decode(OURS.encode(text)).split() == [word for word in words if isinstance(word, str)]


@pytest.mark.parametrize("sign", ["x", "漢", "😀", "!", "é"])
def test_ten_times_the_junk_takes_about_ten_times_as_long(sign):
    def seconds(length):
        started = time.perf_counter()
        Tokenizer().encode(sign * length)
        return time.perf_counter() - started

    seconds(100)
    short, long = (min(seconds(length) for _ in range(3)) for length in (10_000, 100_000))
    assert long < 40 * short  # quadratic would be 100; the margin is for a busy machine


def test_a_batch_is_padded_and_says_how_much_was_cut():
    rows, cut = OURS.batch(["cat", "", "cat " * 80], pad=0)
    assert rows.shape == (3, 77)
    assert rows[0, :4].tolist() == [START, 2368, END, 0]
    assert rows[1, :3].tolist() == [START, END, 0]
    assert rows[2, -2:].tolist() == [2368, END]
    assert cut == [0, 0, 5]


def test_a_piece_is_what_one_reads():
    assert [OURS.piece(number) for number in (320, 2368, START)] == ["a ", "cat ", "<|startoftext|>"]


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="no tokenizer rules called 'T5'"):
        Tokenizer("T5")
