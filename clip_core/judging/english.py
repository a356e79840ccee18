"""The English grammar for turning a question into a statement: kinds of words, articles, plurals, verb endings.

It has word lists and rules for endings, and no dictionary; unknown words stay as they are.
"""

import re

_NONE = {"0", "no", "none", "zero"}
DETERMINERS = set("a an the this that these those some any my your his her its our their no two three".split())
POINTERS = {"this", "that", "these", "those"}
PRONOUNS = {"it", "he", "she", "they", "there", "we", "you", "i", "everyone", "everything", "someone"}
PREPOSITIONS = set(
    "in on at under above below behind beside near inside outside over between next by with without from of to "
    "around against among during before after along across".split()
)
_DEGREES = set("very really too quite fully bright dark light pale mostly completely not".split())
_PLACES = {"here", "there", "outside", "inside", "indoors", "outdoors", "upstairs", "downstairs", "nowhere"}
_AT = {"night", "noon", "midday", "midnight", "dawn", "dusk", "sunrise", "sunset", "christmas"}
_DAYS = {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
_VERBS = set(
    "have wear hold look show contain eat sit stand ride play carry seem appear feel drink read run walk smile use "
    "like drive fly swim sleep want see face cover touch belong say mean make do go".split()
)
_SINGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "mice": "mouse",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "sheep": "sheep",
    "fish": "fish",
}


def split_at_verb(rest: str) -> tuple[str, str, str] | None:
    """Split at the first verb of the list behind the first word: subject, verb, rest. None without such a verb."""
    words = rest.split()
    place = next((n for n, word in enumerate(words) if n and word.lower() in _VERBS), None)
    return None if place is None else (" ".join(words[:place]), words[place], " ".join(words[place + 1 :]))


def split_complement(rest: str) -> tuple[str, str]:
    """Split into subject and complement: behind a pronoun; else before an article, preposition, -ing or adverb of
    degree; else before the last word. "the big circle red" -> ("the big circle", "red")
    """
    words = rest.split()
    small = [word.lower() for word in words]
    if small[0] in PRONOUNS or (
        len(words) > 1 and small[0] in POINTERS and (len(words) == 2 or _begins_complement(small[1]))
    ):
        return words[0], " ".join(words[1:])
    begin = 2 if small[0] in DETERMINERS else 1
    cut = next((n for n in range(begin, len(words)) if _begins_complement(small[n])), len(words) - 1)
    return " ".join(words[:cut]), " ".join(words[cut:])


def _begins_complement(word: str) -> bool:
    return word in DETERMINERS | PREPOSITIONS | _DEGREES or (word.endswith("ing") and len(word) > 4)


def third_person(verb: str) -> str:
    if verb == "have":
        return "has"
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "s"


def split_participle(rest: str) -> tuple[str, str]:
    """ "this photo taken" -> ("this photo", "taken")."""
    words = rest.split()
    last = words[-1].lower()
    if len(words) > 1 and (last in ("taken", "made", "shot", "drawn") or last.endswith(("ing", "ed"))):
        return " ".join(words[:-1]), words[-1]
    return rest, ""


def is_plural(noun: str) -> bool:
    last = noun.split()[-1].lower()
    return last in _SINGULAR or (last.endswith("s") and not last.endswith(("ss", "us", "is")))


def with_article(noun: str, verb: str = "is") -> str:
    """Put "a" or "an" before a noun, except before a name, a plural, or a noun with a determiner or a number."""
    first = noun.split()[0]
    counted = first.lower() in DETERMINERS | PRONOUNS | _NONE or first[0].isdigit() or first[0].isupper()
    if counted or verb in ("are", "were") or is_plural(noun):
        return noun
    return f"{'an' if first[0].lower() in 'aeiou' else 'a'} {noun}"


def there_is(noun: str, verb: str) -> str:
    """The noun behind "there is" or "there are", in the verb's tense: "there was a dog"."""
    if is_plural(noun) and noun.split()[0].lower() not in ("a", "an", "one", "1"):
        verb = {"is": "are", "was": "were"}.get(verb, verb)
    return f"there {verb} {with_article(noun, verb)}"


def is_one(answer: str) -> bool:
    return answer.lower() in ("1", "one", "a single", "only one")


def amount(answer: str) -> str:
    return "no" if answer.lower() in _NONE else answer


def as_many(noun: str, answer: str) -> str:
    """The noun of a "how many" question in the number of the answer: "cats" becomes "cat" for one."""
    if not is_one(answer):
        return noun
    head, _, last = noun.rpartition(" ")
    low = last.lower()
    if low in _SINGULAR:
        last = _SINGULAR[low]
    elif low.endswith("ies") and len(low) > 4:
        last = last[:-3] + "y"
    elif low.endswith(("ches", "shes", "sses", "xes")):
        last = last[:-2]
    elif low.endswith("s") and not low.endswith("ss"):
        last = last[:-1]
    return f"{head} {last}".strip()


def placed(answer: str) -> str:
    first = answer.split()[0].lower()
    return answer if first in PREPOSITIONS | _PLACES else f"in {answer}"


def timed(answer: str) -> str:
    first, last = answer.split()[0].lower(), answer.split()[-1].lower()
    if first in PREPOSITIONS:
        return answer
    word = "on" if last in _DAYS else "at" if last in _AT or re.match(r"\d+(?::\d\d| ?[ap]m)", answer) else "in"
    return f"{word} {answer}"
