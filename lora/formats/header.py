"""The facts in a LoRA file's header about its training, and in the notes that other programs lay beside it.

They are untrusted: texts are cut and cleaned, never run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .list_text import split_words

_MOST_FACTS, _LONGEST, _LONGEST_NAME = 200, 500, 100
_LONGEST_JSON, _MOST_WORDS = 4_000_000, 20
_LONGEST_PROMPT = 400  # a longer text beside a file is a description, not words for a prompt
_MOST_NAMED = 100
_FIRST = ("modelspec.", "ss_")
_WORDS = ("modelspec.trigger_phrase", "modelspec.tags", "ss_tag_frequency")
_TITLES = ("modelspec.title", "ss_output_name")
_BASE_MODELS = ("modelspec.architecture", "ss_base_model_version", "ss_sd_model_name", "base_model")
_EMPTY = ("", "None", "null", "{}", "[]")


def clean(text: str, longest: int = _LONGEST) -> str:
    """The text on one line, without control and direction characters, cut at `longest` characters."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text[: longest + 1])
    return " ".join(kept[:longest].split()) + ("…" if len(text) > longest else "")


def training_facts(metadata: Mapping[str, str]) -> dict[str, str]:
    """The header's texts, the known trainers' first; entries that only programs use are left out."""
    names = [name for name in metadata if name not in _WORDS and not name.endswith(":rank")]
    names.sort(key=lambda name: (not name.startswith(_FIRST), name[:_LONGEST_NAME]))
    facts = {}
    for name in names[:_MOST_FACTS]:
        value = clean(metadata[name])
        if value not in _EMPTY and not metadata[name].startswith("data:"):
            facts[clean(name, _LONGEST_NAME)] = value
    return facts


def title(metadata: Mapping[str, str]) -> str:
    """The author's title; empty where the header has none."""
    return _first(metadata, _TITLES)


def base_model(metadata: Mapping[str, str]) -> str:
    """The base model of the training, as the trainer calls it; empty where the header does not name it."""
    return _first(metadata, _BASE_MODELS)


def _first(metadata: Mapping[str, str], names: Sequence[str]) -> str:
    values = (clean(metadata.get(name, "")) for name in names)
    return next((value for value in values if value not in _EMPTY), "")


def named_words(metadata: Mapping[str, str]) -> list[str]:
    """The words that the author names; not every tag of the training."""
    phrase = clean(metadata.get("modelspec.trigger_phrase", ""))
    return [] if phrase in _EMPTY else words_of([phrase])


def tags(metadata: Mapping[str, str]) -> list[str]:
    """The commonest tags of the training pictures, the most used first."""
    return [tag for tag, _ in _tags(metadata.get("ss_tag_frequency", "")).most_common(_MOST_WORDS)]


def words_of(texts: Iterable[object]) -> list[str]:
    """The words of several texts, those between commas apart, each once."""
    found: dict[str, None] = {}
    for text in texts:
        if isinstance(text, str):
            found |= dict.fromkeys(word for word in split_words(clean(text, 4 * _LONGEST)) if word not in _EMPTY)
    return [clean(word, _LONGEST_NAME) for word in list(found)[:_MOST_NAMED]]


def words_of_text(text: str) -> list[str]:
    """The words of a .txt beside a file; none where it is longer than a prompt would be."""
    return words_of(text.splitlines()) if len(text) <= _LONGEST_PROMPT else []


def facts_of_notes(notes: object) -> dict[str, object]:
    """`title`, `base_model` and `words` of what Civitai helpers and A1111 write beside a file: .civitai.info, .json."""
    notes = notes if isinstance(notes, Mapping) else {}
    civitai = notes["civitai"] if isinstance(notes.get("civitai"), Mapping) else notes
    model = civitai["model"] if isinstance(civitai.get("model"), Mapping) else {}
    trained = civitai.get("trainedWords")
    bases = (civitai.get("baseModel"), notes.get("base_model"), notes.get("sd version"))
    titles = (model.get("name"), notes.get("model_name"))
    return {
        "title": next((clean(one) for one in titles if isinstance(one, str) and one.strip()), ""),
        "base_model": next((clean(one) for one in bases if isinstance(one, str) and clean(one) not in _EMPTY), ""),
        "words": words_of([*(trained if isinstance(trained, list) else ()), notes.get("activation text")]),
    }


def trigger_words(metadata: Mapping[str, str]) -> list[str]:
    """The author's trigger phrase, or without one the commonest tags of the training pictures; empty without either."""
    phrase = clean(metadata.get("modelspec.trigger_phrase", ""))
    if phrase not in _EMPTY:
        return [phrase]
    return tags(metadata)


def _tags(text: str) -> Counter[str]:
    """The tag counts of all data sets together, from kohya's {data set: {tag: count}}."""
    try:
        sets = json.loads(text) if text and len(text) <= _LONGEST_JSON else {}
    except (ValueError, RecursionError):
        sets = {}
    counts: Counter[str] = Counter()
    for tags in sets.values() if isinstance(sets, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if isinstance(count, int) and not isinstance(count, bool) and 0 < count < 10**9 and clean(tag):
                counts[clean(tag, _LONGEST_NAME)] += count
    return counts
