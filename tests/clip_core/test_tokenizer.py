"""The tokenizer against open_clip's (OpenAI's own code), transformers', and laws."""

import html
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import ftfy
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clip_vae_lora.clip_core import tokenizer as module
from clip_vae_lora.clip_core.tokenizer import END, RULES, START, Tokenizer, merge, split_word, vocabulary

from ..support.growth import check_linear

SIGNS = st.characters(exclude_categories=("Cs",))
SNIPPETS = st.sampled_from(
    ["'s", "'LL", "n't", "&amp;", "&amp;amp;", "&lt", "&#128512;", "<|", "|>", "Ã©", "â€™", "ﬁ", "Ｆｕｌｌ", "İ", "Σ"]
    + ["ſ", "'ſ", "\u212a"]
    + [" ", "\t", "\x85", "\u200d", "\x1c", "\0", "👩‍👩‍👧", "🇩🇪", "漢字", "١٢٣", "e\u0301", "ก็", "a" * 30]
)
PARTS = st.one_of(st.text(SIGNS, max_size=8), SNIPPETS, st.text("abcdefghij ,.", max_size=12))
TEXTS = st.lists(PARTS, max_size=8).map("".join)
OURS = Tokenizer()
BY_RULES = {rules: Tokenizer(rules) for rules in RULES}
# what could make the words of a text others than those of its pieces: all control signs, all kinds of whitespace,
# special tokens and apostrophes at the edges, marks that compose, halves of a surrogate pair, HTML entities
EDGES = st.sampled_from(
    [chr(number) for number in range(0x21)]
    + [sign for sign in map(chr, range(0x80, 0x10000)) if sign.isspace()]
    + [*"\x7f&;<|>'!ſΣaA9é\u0301\u200b\ufeff\ud83d\ude00", "'s", "'LL", "<|", "<|endoftext|>", "<|ENDOFTEXT|>", "&amp;"]
    + ["&lt", "&#32;", "&#x1c;", "&Tab;", "Ã©", "ΟΔΟΣ", "\r\n", "\ud83d \ude00", "漢字", "cat", "(cat:1.2),", "a" * 33]
)


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


def word_by_word(rules, text):
    """The ids of a text without cutting it at whitespace, remembering anything, or a short cut in cleaning."""
    clean = html.unescape(html.unescape(ftfy.fix_text(text))) if rules == "openai" else text
    ids = []
    for word in RULES[rules].words(clean):
        ids += [word] if isinstance(word, int) else split_word(word)
    return ids


@settings(max_examples=3000, deadline=None)
@given(rules=st.sampled_from(sorted(RULES)), text=st.lists(EDGES, max_size=8).map("".join))
@example(rules="transformers", text="a\x1cb")
@example(rules="openai", text="a\x1cb &am\tp; &#32;")
def test_remembered_pieces_give_the_ids_of_the_whole_text(rules, text):
    assert BY_RULES[rules].encode(text) == word_by_word(rules, text)


def test_every_character_beside_every_whitespace_is_cut_as_in_the_whole_text():
    blanks = [sign for sign in map(chr, range(sys.maxunicode + 1)) if sign.isspace() and not "\x1c" <= sign <= "\x1f"]
    signs = [sign for sign in map(chr, range(0x12000)) if sign not in "\x1c\x1d\x1e\x1f" and not sign.isspace()]
    text = "".join(f"{sign}{blanks[place % len(blanks)]}{sign}a" for place, sign in enumerate(signs))
    for rules in RULES.values():
        assert rules.words(text) == [word for piece in text.split() for word in rules.words(piece)]


def test_merging_leads_to_every_entry_of_the_vocabulary():
    known = vocabulary()
    for number, (left, right) in enumerate(known.merges, 512):
        letters = known.pieces[left] + known.pieces[right]
        ids = [known.ids[letter] for letter in letters.removesuffix("</w>")]
        ids[-1] += 256 * letters.endswith("</w>")
        assert merge(ids, known.merges, first_merged=512) == [number]


@pytest.mark.parametrize("rules", sorted(RULES))
def test_every_ascii_character_beside_every_other_is_cut_as_in_the_whole_text(rules):
    for first in map(chr, range(128)):
        text = "".join(f"{first}{second}a{second}{first} " for second in map(chr, range(128)))
        assert BY_RULES[rules].encode(text) == word_by_word(rules, text)
        for second in "\t\n\x0b\x1c\x1f &;'<|9":  # alone as well: one strange sign sends a whole text the slow way
            text = f"Cat{first}{second}{first}it'll"
            assert BY_RULES[rules].encode(text) == word_by_word(rules, text)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "_KEPT", 10)
    tokenizer, text = Tokenizer("transformers"), " ".join(f"({word}{'x' * word}," for word in range(50))
    assert tokenizer.encode(text) == tokenizer.encode(text) == word_by_word("transformers", text)
    assert len(tokenizer._pieces) <= 10 and len(tokenizer._words) <= 10
    assert max(map(len, tokenizer._words)) <= 32


def test_threads_may_share_a_tokenizer(monkeypatch):
    monkeypatch.setattr(module, "_KEPT", 20)  # it is emptied all the time while others read
    tokenizer = Tokenizer("transformers")
    texts = [" ".join(f"{word * number} it's," for word in range(40)) for number in range(60)]
    right = [word_by_word("transformers", text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer.encode, texts * 5)) == right * 5


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
    words = RULES["openai"].words(RULES["openai"].clean(text))
    assert OURS.decode(OURS.encode(text)).split() == [word for word in words if isinstance(word, str)]


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["x", "漢", "😀", "!", "é", "x,", " x", "\x1cx "])
def test_ten_times_the_junk_takes_about_ten_times_as_long(sign):
    check_linear(lambda length: Tokenizer().encode(sign * length), 100_000)


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
