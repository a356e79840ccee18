"""Our tokenizer beside OpenAI's own code (in open_clip) and beside transformers' CLIPTokenizer, on generated strings.

    python benchmarks/tokenizer_parity.py --strings 100000

Prints the number of strings with different ids, the smallest of them, and how long each tokenizer took.
"""

import argparse
import importlib.util
import time
import unicodedata
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[1] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.clip_core.tokenizer import Tokenizer, vocabulary  # noqa: E402

# any character of any plane, each plane as likely as the next
ANY_PLANE = st.integers(0, 16).flatmap(
    lambda plane: st.characters(
        min_codepoint=plane << 16, max_codepoint=(plane << 16) + 0xFFFF, exclude_categories=["Cs"]
    )
)
SNIPPETS = st.sampled_from(
    ["'s", "'LL", "&amp;", "&amp;amp;", "&lt", "&#128512;", "<|endoftext|>", "<|STARTOFTEXT|>", "Ã©", "â€™", "ﬁ", "Ｆ"]
    + ["İ", "Σ", "ſ", "'ſ", "\u212a", "\t", "\x85", "\u200d", "\x1c", "\0", "🇩🇪", "漢字", "١٢٣", "e\u0301", "ก็"]
    + ["a" * 40]
)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz   ,.!0123456789'", max_size=25)
PARTS = st.one_of(st.text(ANY_PLANE, max_size=10), st.text(max_size=10), SNIPPETS, WORDS)
TEXTS = st.lists(PARTS, max_size=6).map("".join)


class Comparison:
    """Counts where two encoders differ, and how long each takes."""

    def __init__(self, name, ours, theirs, keep=lambda text: text):
        self.name, self.ours, self.theirs, self.keep = name, ours, theirs, keep
        self.strings, self.different, self.smallest, self.seconds = 0, 0, None, [0.0, 0.0]

    def see(self, text):
        text, found = self.keep(text), []
        for place, encode in enumerate((self.ours, self.theirs)):
            started = time.perf_counter()
            found.append(list(encode(text)))
            self.seconds[place] += time.perf_counter() - started
        self.strings += 1
        if found[0] != found[1]:
            self.different += 1
            if self.smallest is None or len(text) < len(self.smallest):
                self.smallest = text

    def report(self):
        print(
            f"{self.name}: {self.different} of {self.strings} strings differ; ours {self.seconds[0]:.1f} s, "
            f"theirs {self.seconds[1]:.1f} s" + (f"; the smallest: {self.smallest!r}" if self.different else "")
        )


def comparisons():
    import regex
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    # open_clip calls its special tokens <start_of_text> and <end_of_text>; here they are OpenAI's again
    openai = SimpleTokenizer()
    for name, number in {"<|startoftext|>": 49406, "<|endoftext|>": 49407}.items():
        openai.encoder[name], openai.cache[name] = number, name
    rest = openai.pat.pattern.removeprefix("<start_of_text>|<end_of_text>|")
    openai.pat = regex.compile(rf"<\|startoftext\|>|<\|endoftext\|>|{rest}", regex.IGNORECASE)
    known = vocabulary()
    hf = CLIPTokenizer(dict(known.ids), [(known.pieces[a], known.pieces[b]) for a, b in known.merges])

    def hf_ids(text):
        return hf(text)["input_ids"][1:-1]

    def assigned(text):
        """Without what this Python's Unicode does not know: there the tables of `regex` and `tokenizers` differ."""
        return "".join(sign for sign in text if unicodedata.category(sign) != "Cn")

    return [
        Comparison("OpenAI's code, rules 'openai'", Tokenizer().encode, openai.encode),
        Comparison("CLIPTokenizer, rules 'transformers'", Tokenizer("transformers").encode, hf_ids, assigned),
        Comparison("  without leaving anything out", Tokenizer("transformers").encode, hf_ids),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strings", type=int, default=100_000)
    count, compared, planes = parser.parse_args().strings, comparisons(), Counter()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(TEXTS)
    def run(text):
        planes.update({ord(sign) >> 16 for sign in text})
        for comparison in compared:
            comparison.see(text)

    run()
    print(f"strings with a character of each plane: {dict(sorted(planes.items()))}")
    for comparison in compared:
        comparison.report()


if __name__ == "__main__":
    main()
