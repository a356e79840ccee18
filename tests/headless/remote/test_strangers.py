"""Who answers at the address: a login in many forms, another program, ComfyUI behind a prefix or a token."""

import pytest

from ...support.servers.threaded import Threaded


@pytest.mark.parametrize("login, said", [(401, "HTTP 401"), (302, "/login"), ("page", "a page to log in")])
def test_a_login_is_named_as_such(queue_server, proxy, go, login, said):
    server = queue_server()
    code, out, err = go(proxy(server, login=login).url)
    assert code == 3 and "wants a login" in err and said in err and "--header" in err and out == ""
    assert not server.ran


@pytest.mark.parametrize("login", [401, 302, "page"])
def test_a_header_a_variable_and_a_token_in_the_address_are_let_in(queue_server, proxy, go, monkeypatch, login):
    server = queue_server()
    before = proxy(server, login=login)
    assert go(before.url, "--header", "X-Key: abc")[0] == 0
    assert go(f"{before.url}/?token=abc")[0] == 0
    monkeypatch.setenv("CVL_HEADERS", "X-Key: abc")
    assert go(before.url)[0] == 0
    assert len(server.ran) == 3 and len(server.sockets) == 3  # the websocket was let in, too


def test_a_token_is_sent_as_bearer(queue_server, proxy, go, monkeypatch):
    before = proxy(queue_server(), login=401, secret=("Authorization", "Bearer abc"))
    assert go(before.url)[0] == 3
    monkeypatch.setenv("CVL_TOKEN", "abc")
    assert go(before.url)[0] == 0


def test_a_name_and_password_in_the_address_are_sent_and_never_said(queue_server, proxy, go):
    before = proxy(queue_server(), login=401, secret=("Authorization", "Basic bWU6cHc="))
    place = before.url.removeprefix("http://")
    assert go(f"me:pw@{place}")[0] == 0
    code, _, err = go(f"me:wrong@{place}")
    assert code == 3 and "wrong" not in err


def test_a_login_in_the_middle_of_a_run_is_named_and_nothing_is_sent_twice(queue_server, proxy, go):
    server = queue_server(job_s=1)
    code, _, err = go(proxy(server, silent_s=0, login_after_prompt=401).url)
    assert code == 3 and "wants a login" in err and len(server.ran) == 1


def test_a_path_prefix_goes_before_every_route(queue_server, proxy, go):
    before = proxy(queue_server(), prefix="/comfy")
    assert go(f"{before.url}/comfy/")[0] == 0
    code, _, err = go(before.url)
    assert code == 3 and "is no ComfyUI" in err and "HTTP 404" in err


@pytest.mark.parametrize(
    "text, kind", [("<html>It works!</html>", "text/html"), ("{}", "application/json"), ("hi", "x/y")]
)
def test_another_program_is_named_as_such(web, go, text, kind):
    app = web.Application()

    async def answer(request):
        return web.Response(text=text, content_type=kind)

    app.router.add_get("/{path:.*}", answer)
    other = Threaded(web, app)
    try:
        code, _, err = go(other.url)
        assert code == 3 and f"what answers at {other.url} is no ComfyUI" in err
    finally:
        other.close()


def test_a_server_that_sends_on_to_another_path_of_itself_is_followed(queue_server, proxy, go):
    server = queue_server()
    assert go(proxy(server, prefix="/new", moves=True).url)[0] == 0
    assert len(server.ran) == 1 and len(server.sockets) == 1
