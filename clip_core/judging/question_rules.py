"""A rule for each form of English questions, which turns an answer into a statement.

A rule matches a pattern and returns a function from an answer to its statement, or None for a question of another form.
There is no parser: the end of a subject ("is the big circle red") is found by the answers, else by small word lists,
else it is before the last word.
"""

import re
from collections.abc import Callable, Sequence

from .english import (
    DETERMINERS,
    POINTERS,
    PREPOSITIONS,
    PRONOUNS,
    amount,
    as_many,
    is_one,
    placed,
    split_at_verb,
    split_complement,
    split_participle,
    there_is,
    third_person,
    timed,
    with_article,
)

_YES, _NO = {"yes", "yeah", "yep", "true"}, {"no", "nope", "false"}
_BE = "(?P<verb>is|are|was|were)"


_SHOWN = ("shown", "visible", "depicted")


Maker = Callable[[str], str]  # an answer -> its statement


def _match(pattern: str, asked: str) -> re.Match[str] | None:
    return re.fullmatch(pattern, asked, re.IGNORECASE)


def _is_there(asked: str, answers: Sequence[str]) -> Maker | None:
    """is there a dog; can you see any birds."""
    found = _match(f"{_BE} there (?P<thing>.+)", asked) or _match(
        "(?:(?:can|do|could) (?:you|we|i) see) (?P<thing>.+)", asked
    )
    if not found:
        return None

    # "yes" keeps the noun with its article; "no" takes it without one; any other answer is a noun of its own.
    verb = (found.groupdict().get("verb") or "is").lower()
    thing = re.sub("^any ", "", found["thing"], flags=re.IGNORECASE)
    bare = re.sub("^(?:an?|some|any) ", "", found["thing"], flags=re.IGNORECASE)

    def make(answer: str) -> str:
        if says_yes(answer):
            return f"there {verb} {thing}"
        return f"there {verb} no {bare}" if says_no(answer) else there_is(answer, verb)

    return make


def _how_many(asked: str, answers: Sequence[str]) -> Maker | None:
    """how many cats are there; ... can you see in the garden; ... are on the sofa; how many wheels does it have."""
    found = _match("how (?:many|much) (.+)", asked)
    if not found:
        return None

    # "how many wheels does it have": the owner is the subject.
    if owned := _match("(.+?) (do|does) (.+) have", found[1]):
        noun, verb, owner = owned[1], "has" if owned[2].lower() == "does" else "have", owned[3]
        return lambda answer: f"{owner} {verb} {amount(answer)} {as_many(noun, answer)}"

    # All other forms become "there are two cats ...". The question's own "are there" or "can you see" is removed, and
    # an "are" is marked by two blanks, as it stands between the noun and the place.
    seen = r" (?:(?:can|do|could) (?:you|we|i) see|(?:is|are|was|were) (?:there|shown|visible))\b"
    thing = re.sub(seen, "", found[1], flags=re.IGNORECASE)
    noun, _, rest = re.sub(f" {_BE}(?= |$)", " ", thing, count=1, flags=re.IGNORECASE).partition("  ")
    if not rest:  # "cats in the garden": without an "are" the place begins at the preposition
        words = noun.split()
        cut = next((n for n, word in enumerate(words) if n and word.lower() in PREPOSITIONS), len(words))
        noun, rest = " ".join(words[:cut]), " ".join(words[cut:])
    return lambda answer: f"there {'is' if is_one(answer) else 'are'} {amount(answer)} {as_many(noun, answer)} {rest}"


def _what_colour(asked: str, answers: Sequence[str]) -> Maker | None:
    """what colour is the circle; which shape does it have."""
    if asked_by_be := _match(f"(?:what|which) (?:colou?rs?|size) {_BE} (?P<who>.+)", asked):
        who, be = asked_by_be["who"], asked_by_be["verb"].lower()
        return lambda answer: f"{who} {be} {answer}"
    found = _match("(?:what|which) (?P<what>colou?rs?|shape|size) (?P<do>do|does) (?P<who>.+) have", asked)
    if not found:
        return None
    owner, quality, verb = found["who"], found["what"], "has" if found["do"].lower() == "does" else "have"
    return lambda answer: f"{owner} {verb} the {quality} {answer}"


def _when(asked: str, answers: Sequence[str]) -> Maker | None:
    """when was this photo taken; what time is it."""
    found = _match(f"(?:when|what time|what season) {_BE} (?P<who>.+)", asked)
    if not found:
        return None
    verb = found["verb"].lower()
    who, done = split_participle(found["who"])
    if who.lower() == "it" and not done:
        return lambda answer: f"it {verb} {answer}"
    return lambda answer: f"{who} {verb} {done} {timed(answer)}"


def _which_thing(asked: str, answers: Sequence[str]) -> Maker | None:
    """what animal is this; what animal is she holding; which fruit is on the table; which circle is bigger."""
    found = _match(
        rf"(?:what|which) (?P<kind>(?:kind|type|sort)s? of )?(?P<noun>\S+(?: \S+)??) {_BE} (?P<rest>.+)", asked
    )
    if not found:
        return None
    noun, verb, rest = found["noun"], found["verb"].lower(), found["rest"]
    first, *more = rest.lower().split()
    who, does = split_participle(rest)
    coloured = re.sub("^colou?r ", "", noun, flags=re.IGNORECASE)

    # The first word of the rest decides which part of the statement the answer is.
    # what animal is on the table: there is a cat on the table
    if first in PREPOSITIONS or first in _SHOWN:
        return lambda answer: f"{there_is(answer, verb)} {rest}"
    # what colour dress is she wearing: she is wearing a red dress
    if does and coloured != noun:
        return lambda answer: f"{who} {verb} {does} {with_article(f'{answer} {coloured}')}"
    # what animal is she holding: she is holding a cat
    if does:
        return lambda answer: f"{who} {verb} {does} {with_article(answer)}"
    # what animal is this: this is a cat
    if (not more and first in POINTERS | PRONOUNS) or (found["kind"] and first in DETERMINERS):
        return lambda answer: f"{rest} {verb} {with_article(answer, verb)}"
    # what material is the table: the material of the table is wood
    if first in DETERMINERS | PRONOUNS:
        return lambda answer: f"the {noun} of {rest} {verb} {answer}"
    # which circle is bigger: the red circle is bigger
    return lambda answer: f"the {answer} {noun} {verb} {rest}"


def _what_is(asked: str, answers: Sequence[str]) -> Maker | None:
    """what is this; what is on the table; what is the man doing; what is she holding."""
    found = _match(f"what {_BE} (?P<rest>.+)", asked)
    if not found:
        return None
    verb, rest = found["verb"].lower(), found["rest"]
    first, *more = rest.lower().split()
    who, does = split_participle(rest)
    if first in PREPOSITIONS or first in _SHOWN or first == "there":
        return lambda answer: f"{there_is(answer, verb)} {rest.removeprefix('there')}"
    if does.lower() == "doing":
        return lambda answer: f"{who} {verb} {answer}"
    if does:
        return lambda answer: f"{who} {verb} {does} {with_article(answer)}"
    if not more and first in POINTERS | PRONOUNS:
        return lambda answer: f"{rest} {verb} {with_article(answer, verb)}"
    return lambda answer: f"{rest} {verb} {answer}"


def _what_does(asked: str, answers: Sequence[str]) -> Maker | None:
    """what does the sign say; how does she look; what does it look like."""
    found = _match("(?:what|how) (do|does) (.+)", asked)
    split = split_at_verb(found[2]) if found else None
    if found is None or split is None:
        return None
    who, verb, rest = split
    verb = third_person(verb) if found[1].lower() == "does" else verb
    if rest.lower() == "like":
        return lambda answer: f"{who} {verb} like {with_article(answer)}"
    return lambda answer: f"{who} {verb} {answer} {rest}"


def _who(asked: str, answers: Sequence[str]) -> Maker | None:
    """who is this; who is in the picture; who is wearing a hat; who wears the hat."""
    found = _match(r"who (\S+) (.+)", asked)
    if not found:
        return None
    verb, rest = found[1], found[2]
    if verb.lower() in ("is", "are", "was", "were") and rest.split()[0].lower() in POINTERS | DETERMINERS | PRONOUNS:
        return lambda answer: f"{rest} {verb} {answer}"
    return lambda answer: f"{answer} {verb} {rest}"


def _where(asked: str, answers: Sequence[str]) -> Maker | None:
    """where is the cat; where was this photo taken."""
    found = _match(f"where {_BE} (?P<who>.+)", asked)
    if not found:
        return None
    verb = found["verb"].lower()
    who, done = split_participle(found["who"])
    return lambda answer: f"{who} {verb} {done} {placed(answer)}"


def _how(asked: str, answers: Sequence[str]) -> Maker | None:
    """how is the weather; how old is the man."""
    found = _match(rf"how (?:\S+ )?{_BE} (?P<who>.+)", asked)
    if not found:
        return None
    who, verb = found["who"], found["verb"].lower()
    return lambda answer: f"{who} {verb} {answer}"


def _is_it(asked: str, answers: Sequence[str]) -> Maker | None:
    """is the circle red; is it day or night."""
    found = _match(f"{_BE} (?:not )?(?P<rest>.+)", asked)
    if not found:
        return None
    verb = found["verb"].lower()
    subject, said = _cut_at_answer(found["rest"], answers) or split_complement(found["rest"])
    if not said:
        return None
    article = re.match("(?:an?|the) ", said, re.IGNORECASE)

    # "yes" and "no" affirm or deny the complement; any other answer takes its place, with its article if it had one.

    def make(answer: str) -> str:
        if says_yes(answer):
            return f"{subject} {verb} {said}"
        if says_no(answer):
            return f"{subject} {verb} not {said}"
        if article and answer.lower() in said.lower() and " " not in answer:
            return f"{subject} {verb} {'the ' + answer if article[0].lower() == 'the ' else with_article(answer)}"
        return f"{subject} {verb} {answer}"

    return make


def _does_it(asked: str, answers: Sequence[str]) -> Maker | None:
    """does the man wear a hat."""
    found = _match("(do|does) (.+)", asked)
    split = split_at_verb(found[2]) if found else None
    if found is None or split is None:
        return None
    who, verb, rest = split
    does = found[1].lower()
    says = third_person(verb) if does == "does" else verb

    def make(answer: str) -> str:
        if says_no(answer):
            return f"{who} {does} not {verb} {rest}"
        return f"{who} {says} {rest if says_yes(answer) else answer}"

    return make


def _cut_at_answer(rest: str, answers: Sequence[str]) -> tuple[str, str] | None:
    """Split into subject and complement before the first answer that the question contains; None if it has none."""
    patterns = (rf"(?:\b(?:an?|the) )?(?<!\w){re.escape(answer)}(?!\w)" for answer in answers)
    named = (re.search(pattern, rest, re.IGNORECASE) for pattern in patterns)
    place = min((found.start() for found in named if found and found.start()), default=0)
    return (rest[:place].strip(), rest[place:]) if place else None


def says_yes(answer: str) -> bool:
    return answer.lower().strip(" .!") in _YES


def says_no(answer: str) -> bool:
    return answer.lower().strip(" .!") in _NO


RULES: dict[str, Callable[[str, Sequence[str]], Maker | None]] = {
    "is there": _is_there,
    "how many": _how_many,
    "what colour": _what_colour,
    "when": _when,
    "what is": _what_is,
    "which thing": _which_thing,
    "what does": _what_does,
    "who": _who,
    "where": _where,
    "how": _how,
    "is it": _is_it,
    "does it": _does_it,
}
