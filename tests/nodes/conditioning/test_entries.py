"""CONDITIONING as data, on the standalone host: joined and compared."""

import json
import math
import sys

import pytest
import torch

from clip_vae_lora.clip_core.encoding.conditioning import same
from clip_vae_lora.nodes.conditioning.entries import join_part
from clip_vae_lora.nodes.conditioning.nodes import CombineConditioning, CompareConditioning

from ...support.conditionings import copied, entry


def stock_average(to, other, strength: float):
    """ComfyUI's ConditioningAverage where both are equally long: the arithmetic of nodes.py."""
    (a, options_a), (b, options_b) = to, other
    pooled = [options["pooled_output"] for options in (options_a, options_b)]
    return (
        torch.mul(a, strength) + torch.mul(b, 1.0 - strength),
        torch.mul(pooled[0], strength) + torch.mul(pooled[1], 1.0 - strength),
    )


def combine(*arguments, **named):
    answer = CombineConditioning().combine(*arguments, **named)
    return answer["result"][0], json.loads(answer["result"][1]), answer["ui"]["text"][0]


# combined


@pytest.mark.parametrize("percent", range(0, 101, 7))
def test_an_average_is_the_stock_nodes_with_the_strength_as_share(percent):
    strength = percent / 100
    a, b = entry(), entry(seed=1)
    expected = stock_average(a, b, strength)
    for scale in (1, 2):  # only the weights' shares count
        ((hidden, options),), _, _ = combine([a], [b], "average", strength * scale, (1.0 - strength) * scale)
        assert torch.equal(hidden, expected[0]) and torch.equal(options["pooled_output"], expected[1])


def test_concat_is_the_stock_nodes_and_keeps_the_firsts_pooled_vector():
    a, b = entry(77), entry(154, seed=1)
    ((hidden, options),), data, text = combine([a], [b], "concat")
    assert torch.equal(hidden, torch.cat((a[0], b[0]), 1))
    assert options["pooled_output"] is a[1]["pooled_output"]
    assert data["entries"][0]["result"] == 231 and "the pooled vector is that of the first" in text


def test_a_sum_takes_the_pooled_vectors_too():
    a, b = entry(), entry(seed=1)
    ((hidden, options),), _, _ = combine([a], [b], "add", 1.0, -0.5)
    assert torch.equal(hidden, a[0] + b[0] * -0.5)
    assert torch.equal(options["pooled_output"], a[1]["pooled_output"] + b[1]["pooled_output"] * -0.5)


@pytest.mark.parametrize("mode", ["average", "add"])
def test_nothing_of_a_longer_second_is_cut_and_the_padding_is_said(mode):
    a, b = entry(77), entry(154, seed=1)
    ((hidden, _),), data, text = combine([a], [b], mode)
    assert hidden.shape[1] == 154 and data["entries"][0]["padded"] == [77, 0]
    assert "the first has 77 tokens: 77 of zeros were put behind them" in text


def test_the_inputs_stay_as_they_are():
    first, second = [entry(width_px=1), entry(seed=2)], [entry(seed=1)]
    before = copied(first), copied(second)
    made, _, _ = combine(first, second, "average")
    made[0][1]["new"] = 1
    assert same(before[0], first) and same(before[1], second)


def test_the_firsts_options_are_kept_and_what_the_second_loses_is_named():
    first = [entry(width=8, area=(1, 2, 3, 4), size=1024)]
    second = [entry(seed=1, size=512, guidance=3.5)]
    ((_, options),), data, text = combine(first, second, "add")
    assert options["area"] == (1, 2, 3, 4) and options["size"] == 1024 and "guidance" not in options
    assert "'size' is the first's, the second's is another (1024, not 512)" in text
    assert "the second's guidance is left out: the first has none" in data["notes"]


def test_one_entry_is_put_to_every_one_of_the_first_and_equal_numbers_go_in_pairs():
    first, second = [entry(seed=n) for n in range(3)], [entry(seed=9)]
    made, _, _ = combine(first, second, "add")
    assert all(torch.equal(hidden, a[0] + second[0][0]) for (hidden, _), a in zip(made, first, strict=True))
    partners = [entry(seed=n) for n in (7, 8, 9)]
    made, _, _ = combine(first, partners, "add")
    assert all(torch.equal(hidden, a[0] + b[0]) for (hidden, _), a, b in zip(made, first, partners, strict=True))
    with pytest.raises(ValueError, match=r"as many entries in the second as in the first \(1\)"):
        combine(second, first, "add")


@pytest.mark.parametrize(
    "first, second, origin", [(True, False, "first alone"), (False, True, "second alone"), (False, False, "none")]
)
@pytest.mark.parametrize("mode", ["concat", "average", "add"])
def test_a_pooled_vector_that_only_one_has_is_taken_as_it_is(mode, first, second, origin):
    pair = [entry(), entry(seed=1)]
    vectors = [options["pooled_output"] for _, options in pair]
    for (_, options), has in zip(pair, (first, second)):
        if not has:
            del options["pooled_output"]
    ((_, options),), data, _ = combine([pair[0]], [pair[1]], mode, 0.5, 0.5)
    assert data["entries"][0]["pooled"] == origin
    assert options.get("pooled_output") is {"first alone": vectors[0], "second alone": vectors[1]}.get(origin)


def test_attention_masks_follow_their_tokens_and_strange_ones_are_left_alone():
    first, second = [entry(2, attention_mask=torch.tensor([[1, 0]]))], [entry(3, seed=1)]
    ((_, options),), _, _ = combine(first, second, "concat")
    assert options["attention_mask"].tolist() == [[1, 0, 1, 1, 1]]
    ((_, options),), data, _ = combine(second, first, "add")
    assert options["attention_mask"].tolist() == [[1, 1, 1]] and not [n for n in data["notes"] if "mask" in n]
    strange = torch.ones(1, 9)
    ((_, options),), _, text = combine([entry(2, attention_mask=strange)], second, "concat")
    assert options["attention_mask"] is strange
    assert "the second's 'attention_mask'" not in text


@pytest.mark.parametrize(
    "weights, said",
    [
        ((1.0, -1.0), "make 0"),
        ((math.nan, 1.0), "two weights were expected"),
        ((math.inf, 1.0), "two weights were expected"),
    ],
)
def test_weights_without_an_average_are_one_sentence(weights, said):
    with pytest.raises(ValueError, match=said):
        combine([entry()], [entry()], "average", *weights)


def test_options_that_are_no_tensors_are_a_sentence_or_left_alone():
    hidden = torch.ones(1, 2, 4)
    with pytest.raises(ValueError, match="pooled vector was expected in entry 1 of the second"):
        combine([[hidden, {}]], [[hidden, {"pooled_output": "x"}]], "average")
    combine([[hidden, {"attention_mask": "x"}]], [[hidden, {}]], "concat")


def test_nan_in_the_tokens_is_said_and_no_crash():
    broken = entry()
    broken[0][0, 3, 0] = math.nan
    _, data, text = combine([broken], [entry()], "add")
    assert "NaN or infinite numbers in 1 of its tokens" in text


@pytest.mark.parametrize(
    "value, said",
    [
        (None, "NoneType"),
        ("text", "str"),
        ([], "without entries"),
        ([1, 2], "list"),
        ([[None, {}]], "NoneType came"),
        ([[torch.zeros(2, 3), {}]], r"one of shape \[2, 3\]"),
    ],
)
def test_what_is_no_encoded_text_is_one_sentence(value, said):
    for node in (CombineConditioning().combine, CompareConditioning().compare):
        arguments = ["add"] if node.__name__ == "combine" else []
        with pytest.raises(ValueError, match=said) as error:
            node([entry()], value, *arguments)
        assert "\n" not in str(error.value)


def test_a_prompts_parts_are_joined_by_the_word_between_them():
    whole, part = [entry()], [entry(seed=1)]
    (behind,), notes = join_part(whole, part, "CONCAT", 0.5)
    assert torch.equal(behind[0], torch.cat((whole[0][0], part[0][0] * 0.5), 1)) and notes
    (between,), notes = join_part(whole, part, "AVERAGE", 0.25)
    assert torch.equal(between[0], whole[0][0] * 0.75 + part[0][0] * 0.25) and not notes


# compared


def test_a_plot_without_matplotlib_is_a_sentence(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match="run pip install matplotlib"):
        place.node("CVL_CompareConditioning").compare([entry()], [entry()])


def compare(place, *arguments):
    answer = place.node("CVL_CompareConditioning").compare(*arguments)
    plot, report = answer["result"]
    assert plot.ndim == 4 and plot.shape[-1] == 3 and plot.min() >= 0 and plot.max() <= 1
    return json.loads(report), answer["ui"]["text"][0], plot


def test_equal_conditionings_have_identical_bits_and_that_is_said(place):
    data, text, _ = compare(place, [entry()], copied([entry()]))
    (row,) = data["entries"]
    assert row["identical_bits"] and row["pooled"]["identical_bits"] and row["mean_cosine"] == 1
    assert "the same: 77 tokens with identical bits; summary (pooled) vector: identical bits" in text
    assert data["notes"] == []


def test_different_lengths_are_compared_over_what_both_have_and_that_is_said(place):
    data, text, _ = compare(place, [entry(154)], [entry(77)])
    (row,) = data["entries"]
    assert row["compared"] == len(row["cosine"]) == 77 and len(row["first_length"]) == 154
    assert "154 and 77 tokens: the first 77 are compared, 77 of the first have no partner" in text


def test_the_least_alike_token_is_named(place):
    a = entry()
    b = copied([a])
    b[0][0][0, 12] *= -1
    data, text, _ = compare(place, [a], b)
    assert data["entries"][0]["lowest_at_token"] == 12 and "(token 12)" in text
    assert data["entries"][0]["length_ratio"] == [1.0] * 77


def test_options_that_differ_are_named(place):
    data, _, _ = compare(place, [entry(size=1, area=2)], [entry(size=2, mask=3)])
    assert data["notes"] == [
        "only the first has the option area",
        "only the second has the option mask",
        "the option 'size' differs",
    ]


def test_numbers_that_are_none_are_lines_in_the_report_and_null_in_the_json(place):
    a = entry()
    a[0][0, 5] = math.nan
    a[1]["pooled_output"][:] = math.inf
    data, text, _ = compare(place, [a], [entry(seed=1)])
    (row,) = data["entries"]
    assert row["cosine"][5] is None and row["first_length"][5] is None and row["cosine"][6] is not None
    assert row["pooled"]["cosine"] is None and "not a number" in text
    assert "the first has NaN or infinite numbers in 1 of its tokens" in text


def test_every_row_and_entry_has_a_plot_up_to_a_limit_that_is_said(place):
    many = [entry(3, seed=n) for n in range(11)]
    data, text, plot = compare(place, many, [entry(3)])
    assert len(data["entries"]) == 11 and len(plot) == 8 and "the first 8 of 11 are drawn" in text


def test_a_token_alone_and_all_zeros_can_be_drawn(place):
    zeros = [[torch.zeros(1, 1, 4), {}]]
    data, text, _ = compare(place, zeros, [[-zeros[0][0], {}]])
    assert data["entries"][0]["cosine"] == [None] and "none of which can be compared" in text
    with pytest.raises(ValueError, match="a plot needs a token"):
        compare(place, [[torch.zeros(1, 0, 4), {}]], [[torch.zeros(1, 0, 4), {}]])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("mode", ["concat", "average", "add"])
def test_tokens_of_eight_bits_are_joined_as_the_numbers_they_are(mode, dtype):
    small, whole = [entry()], [entry(seed=1)]
    small[0][0] = small[0][0].to(dtype)
    wide = copied(small)
    wide[0][0] = wide[0][0].float()
    for pair, expected in (((small, whole), (wide, whole)), ((whole, small), (whole, wide))):
        assert torch.equal(combine(*pair, mode)[0][0][0], combine(*expected, mode)[0][0][0])
