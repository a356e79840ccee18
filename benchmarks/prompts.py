"""Seeded prompts as people write them, for `benchmarks/text.py`."""

import random

from clip_vae_lora.clip_core.tokenizer import Tokenizer, vocabulary

FOREIGN = "café naïve señorita Düsseldorf Ångström jalapeño кошка ψυχή 漢字 日本語 東京 桜の木 서울 ก็ e\u0301clair"


QUALITY = "masterpiece; best quality; 8k; 4k uhd; 1girl; f/1.8; 35mm; 1980s; 16:9; don't look back; artist's choice"


class Prompts:
    """Seeded prompts as people write them: tags of one to five words between commas, common words often and rare ones
    rarely: the 12,000 most frequent of CLIP's own vocabulary, and among them 1,000 that are not in it; some are
    capitalised; weights, brackets, numbers; a word in ten prompts that is not ASCII.
    """

    def __init__(self, seed: int):
        self._random, self._tokenizer = random.Random(seed), Tokenizer("transformers")
        ends = [piece.removesuffix("</w>") for piece in vocabulary().pieces if piece.endswith("</w>")]
        self._words = [word for word in ends if word.isascii() and word.isalpha() and len(word) > 1][:12_000]
        glued = ["".join(random.Random(number).sample(self._words, 2)) for number in range(1000)]
        random.Random(0).shuffle(places := list(range(len(self._words))))
        for place, word in zip(places, glued):
            self._words.insert(place, word)
        total, self._shares = 0.0, []
        for rank in range(len(self._words)):
            total += 1 / (rank + 20)  # Zipf's law, flattened for the first few
            self._shares.append(total)

    def one(self, least: int = 20, most: int = 80) -> str:
        """A prompt of `least` to `most` tokens."""
        while True:
            tags = [self._tag() for _ in range(self._random.randint(4, 24))]
            text = ", ".join(tags)
            if least <= len(self._tokenizer.encode(text)) <= most:
                return text

    def many(self, count: int) -> list[str]:
        return [self.one() for _ in range(count)]

    def characters(self, count: int) -> str:
        """A prompt of `count` characters."""
        text = ""
        while len(text) < count:
            text += self._tag() + ", "
        return text[:count]

    def weighted(self) -> str:
        """A prompt of one chunk in which two words have weights."""
        return f"({self._word()}:1.3), {self.one(20, 55)}, ({self._word()}:0.7)"

    def _word(self) -> str:
        (word,) = self._random.choices(self._words, cum_weights=self._shares)
        return word.capitalize() if self._random.random() < 0.05 else word

    def _tag(self) -> str:
        chance = self._random.random()
        if chance < 0.1:
            return self._random.choice(QUALITY.split("; "))
        if chance < 0.11:
            return self._random.choice(FOREIGN.split())
        words = " ".join(self._word() for _ in range(self._random.randint(1, 5)))
        weight = self._random.randint(5, 15) / 10
        return {0: f"({words}:{weight})", 1: f"(({words}))", 2: f"[{words}]"}.get(self._random.randrange(20), words)
