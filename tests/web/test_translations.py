"""What a translation keeps of its English."""

import re

from clip_vae_lora.tests.support import sentences

from .test_sentences import HOLE


def test_a_translation_keeps_what_is_filled_in():
    """Either all places have numbers, or none; only an ending of the plural may go."""
    assert not [english for english, there in sentences.chinese().items() if not keeps_its_holes(english, there)]
    assert not keeps_its_holes("{} of {}", "{}") and not keeps_its_holes("{} of {}", "{1} {}")
    assert keeps_its_holes("{} file{} of {}", "{2} {0}")


def keeps_its_holes(english: str, there: str) -> bool:
    holes, kept = HOLE.findall(english), HOLE.findall(there)
    places = [int(hole) if hole else place for place, hole in enumerate(kept)]
    endings = {place for place, hole in enumerate(HOLE.finditer(english)) if english[: hole.start()][-1:].isalpha()}
    wanted = {int(hole) if hole else place for place, hole in enumerate(holes)}
    alike = not any(kept) or all(kept)
    return alike and len(set(places)) == len(places) and set(places) <= wanted and wanted - set(places) <= endings


def test_a_translation_has_no_english_sentence_in_it():
    found = []
    for english, there in sentences.chinese().items():
        quoted = re.sub(r'["“`\'].*?["”`\']|[(（][^)）]*[)）]|\[[^\]]*\]', " ", there)
        if re.search(r"[a-z]{3,} [a-z]{2,} [a-z]{2,}", quoted):
            found.append(english)
    assert not found
