"""A pickle becomes plain data, and a damaged one a sentence."""

import pytest

from clip_vae_lora.files.inert_pickle import Global, PersistentId, PickleError, Reduced, parse_pickle

from ..support.files.pickles import number, pickled, text


def test_a_pickle_becomes_plain_data():
    body = b"}(" + text("a") + number(5) + text("b") + b"](K\x01Ne" + text("c") + b"ctorch\nx\n)Ru"
    found = parse_pickle(pickled(body), lambda name: name == "torch.x")
    assert found == {"a": 5, "b": [1, None], "c": Reduced(Global("torch.x"), ())}
    assert parse_pickle(pickled(text("k") + b"Q"), lambda name: False) == PersistentId("k")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"t",
        b"(",
        b"u",
        b"K\x01b",
        b"h\x05",
        b"}K\x01s",
        b"(((((t",
        b"NR",
        b"K\x01K\x02R",
        b"a",
        b"(K\x01e",
        b"}(K\x01u",
        b"}()K\x01u",
        b"r\xff\xff\xff\xff",
        b"X\xff\xff\xff\xffab",
        b"\x8d" + b"\xff" * 8,
        b"NN",
        b"}" + b"(" * 9,
        b"\x8a\xffabc",
        b"\x96\xff\xff\xff\xff\x00\x00\x00\x00ab",
    ],
)
def test_a_damaged_pickle_is_one_error(body):
    with pytest.raises(PickleError):
        parse_pickle(pickled(body), lambda name: True)


def test_a_tuple_nested_without_end_is_no_key():
    """Python's own hash() of one a million deep ends the process."""
    with pytest.raises(PickleError):
        parse_pickle(pickled(b"})" + b"\x85" * 500_000 + b"Ns"), lambda name: True)
