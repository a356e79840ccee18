"""Where a server is and who we are to it, from what a user writes."""

import base64

import pytest

from clip_vae_lora.headless.remote.address import read_address
from clip_vae_lora.headless.workflow.graph import WorkflowError


def test_an_address_is_taken_apart_and_holds_no_secret():
    address = read_address("https://me:p%40ss@host:8443/comfy/?token=abc&x=1")
    assert address.url == "https://host:8443/comfy" and address.query == {"token": "abc", "x": "1"}
    assert base64.b64decode(address.headers["Authorization"].removeprefix("Basic ")) == b"me:p@ss"
    assert "abc" not in repr(address) and "p@ss" not in repr(address) and "Basic" not in repr(address)


def test_a_given_header_comes_before_the_environments_and_both_before_the_addresss():
    environment = {"CVL_TOKEN": "tok", "CVL_HEADERS": "X-A: 1\n\nX-B: 2\n"}
    bare = read_address("me:pw@h", (), {})
    assert bare.url == "http://h" and bare.headers["Authorization"].startswith("Basic ")
    known = read_address("me:pw@h", (), environment)
    assert known.headers == {"Authorization": "Bearer tok", "X-A": "1", "X-B": "2"}
    given = read_address("me:pw@h", ["authorization: Bearer mine", "X-B:3"], environment)
    assert given.headers == {"Authorization": "Bearer mine", "X-A": "1", "X-B": "3"}


@pytest.mark.parametrize(
    "text, shown",
    [
        ("http://me:s3cret@host:80a/x?token=s3cret", "http://...@host:80a/x?..."),
        ("me:s3cret@", "...@"),
        ("ftp://me:s3@cret@h", "ftp://...@h"),
        ("host:8188x?token=s3cret", "host:8188x?..."),
    ],
)
def test_an_address_that_is_none_is_named_without_its_secrets(text, shown):
    with pytest.raises(WorkflowError, match="is no address") as raised:
        read_address(text)
    assert repr(shown) in str(raised.value) and "cret" not in str(raised.value)


@pytest.mark.parametrize("line", ["Bearer secret", ": secret", "A b: secret", "X: secret\r\nY: z", "X: sec\0ret"])
def test_a_header_that_is_none_is_refused_without_repeating_it(line):
    with pytest.raises(WorkflowError, match='expected "Name: value"') as raised:
        read_address("h", [line])
    assert "sec" not in str(raised.value)
