"""Questions and answers as statements: the forms of English that are known, and what becomes of all others."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clip_vae_lora.clip_core.judging.question_rules import RULES
from clip_vae_lora.clip_core.judging.questions import statements

KNOWN = [  # question, answers with their statements
    ("What colour is the circle?", {"red": "the circle is red"}),
    ("what color are the shoes", {"red": "the shoes are red"}),
    ("what colour does the car have?", {"red": "the car has the colour red"}),
    ("What is this?", {"dog": "this is a dog", "owl": "this is an owl", "a cat": "this is a cat"}),
    ("what's on the table?", {"apple": "there is an apple on the table", "apples": "there are apples on the table"}),
    ("what is the man holding?", {"umbrella": "the man is holding an umbrella"}),
    ("what is the man doing?", {"running": "the man is running"}),
    ("what is the colour of the sky?", {"blue": "the colour of the sky is blue"}),
    ("what animal is this?", {"owl": "this is an owl", "two dogs": "this is two dogs"}),
    ("which fruit is on the table?", {"apple": "there is an apple on the table"}),
    ("which circle is bigger?", {"red": "the red circle is bigger"}),
    ("what breed is the dog?", {"poodle": "the breed of the dog is poodle"}),
    ("what colour dress is she wearing?", {"red": "she is wearing a red dress"}),
    ("what does the sign say?", {"stop": "the sign says stop"}),
    ("what do they wear?", {"hats": "they wear hats"}),
    ("how does the man look?", {"sad": "the man looks sad"}),
    ("what does it look like?", {"cat": "it looks like a cat"}),
    ("How many cats are there?", {"one": "there is one cat", "2": "there are 2 cats", "none": "there are no cats"}),
    ("how many people are wearing hats?", {"one": "there is one person wearing hats"}),
    ("how many cats can you see in the garden?", {"3": "there are 3 cats in the garden"}),
    ("how many wheels does the car have?", {"four": "the car has four wheels", "one": "the car has one wheel"}),
    ("how many boxes?", {"1": "there is 1 box", "5": "there are 5 boxes"}),
    ("how old is the man?", {"young": "the man is young"}),
    ("how is the weather?", {"sunny": "the weather is sunny"}),
    ("is there a cat?", {"yes": "there is a cat", "No.": "there is no cat"}),
    ("are there any cats in the garden?", {"no": "there are no cats in the garden"}),
    ("can you see a tree?", {"yes": "there is a tree", "no": "there is no tree"}),
    ("is the big circle red?", {"yes": "the big circle is red", "no": "the big circle is not red"}),
    ("is this photo blurry?", {"yes": "this photo is blurry", "no": "this photo is not blurry"}),
    ("is this a cat?", {"yes": "this is a cat", "no": "this is not a cat"}),
    ("is the man wearing a hat?", {"yes": "the man is wearing a hat", "no": "the man is not wearing a hat"}),
    ("is it raining?", {"yes": "it is raining", "no": "it is not raining"}),
    ("is it day or night?", {"day": "it is day", "night": "it is night"}),
    ("is it a cat or an owl?", {"cat": "it is a cat", "owl": "it is an owl"}),
    ("is the animal a cat or a dog?", {"a cat": "the animal is a cat", "a dog": "the animal is a dog"}),
    ("does the man wear a hat?", {"yes": "the man wears a hat", "no": "the man does not wear a hat"}),
    ("do they have wings?", {"yes": "they have wings", "no": "they do not have wings"}),
    ("who is this?", {"Grace Hopper": "this is Grace Hopper"}),
    ("who is in the picture?", {"a man": "a man is in the picture"}),
    ("who wears the hat?", {"the man": "the man wears the hat"}),
    ("where is the cat?", {"on the table": "the cat is on the table", "the kitchen": "the cat is in the kitchen"}),
    ("where was this photo taken?", {"Paris": "this photo was taken in Paris"}),
    (
        "when was this taken?",
        {
            "winter": "this was taken in winter",
            "night": "this was taken at night",
            "Sunday": "this was taken on Sunday",
            "in 1950": "this was taken in 1950",
        },
    ),
    ("what season is it?", {"winter": "it is winter"}),
    ("In this picture, what colour is the star?", {"blue": "the star is blue"}),
]


@pytest.mark.parametrize("question, expected", KNOWN, ids=[question for question, _ in KNOWN])
def test_a_known_form_becomes_a_statement(question, expected):
    assert statements(question, list(expected)).texts == tuple(expected.values())


def test_every_rule_is_used_by_one_of_those_forms():
    assert {statements(question, list(expected)).rule for question, expected in KNOWN} == set(RULES)


@pytest.mark.parametrize("question", ["why is he sad?", "the sky", "whose hat", "is", "what", "how many", "who"])
def test_any_other_question_is_followed_by_the_answer(question):
    made = statements(question, ["rain"])
    assert made.rule == "question and answer" and made.texts == (f"{question.rstrip('?')} rain",)


def test_only_a_denied_yes_or_no_question_says_what_is_not():
    assert statements("is it red?", ["yes", "no"]).denies and not statements("is it red?", ["yes"]).denies
    assert not statements("what colour is it?", ["no"]).denies


@pytest.mark.parametrize(
    "question, pattern", [("what colour?", "a {answer} thing"), ("a {answer} thing", ""), ("", "a {} thing")]
)
def test_a_pattern_of_ones_own_goes_before_the_rules(question, pattern):
    assert statements(question, ["{x}", "blue"], pattern).texts == ("a {x} thing", "a blue thing")


@pytest.mark.parametrize(
    "question, answers, pattern, says",
    [
        ("what is it?", [], "", "no answers"),
        ("what is it?", ["a", " "], "", "no answers"),
        (" ? ", ["a"], "", "no question"),
        ("what is it?", ["a"], "a thing", "no place for the answer"),
    ],
)
def test_what_cannot_be_made_a_statement_is_refused_in_one_sentence(question, answers, pattern, says):
    with pytest.raises(ValueError, match=says) as error:
        statements(question, answers, pattern)
    assert "\n" not in str(error.value)


WORDS = st.lists(
    st.sampled_from(
        "is are was what which who where when how many colour does the a this it cat cats red "
        "or in on there wearing have no yes see do taken doing like shown old".split()
    ),
    min_size=1,
    max_size=7,
).map(" ".join)


@settings(max_examples=400, deadline=None)
@given(WORDS | st.text(max_size=30), st.lists(WORDS | st.text(min_size=1, max_size=8), min_size=1, max_size=3))
@example("is this", ["0"])
def test_no_words_in_any_order_fail_and_each_answer_has_one_line(question, answers):
    try:
        texts = statements(question, answers).texts
    except ValueError as error:
        assert "no question" in str(error) or not all(answer.strip() for answer in answers)
        return
    assert len(texts) == len(answers) and all(text.strip() for text in texts)
