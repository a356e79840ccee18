"""Servers behind https: a certificate that is not trusted, one that is, the wrong scheme, and being sent on."""

import json
import shutil
import ssl
import subprocess

import pytest

from clip_vae_lora.headless.remote.login import Answer, new_base, refusal

from ...support.servers.killing import start
from ...support.servers.queue_server import prompt_of
from ...support.servers.threaded import Threaded


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(file, context of a server) of a certificate for 127.0.0.1 that nobody else has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "own.pem"]
    command += ["-days", "2", "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "own.pem", folder / "key.pem")
    return folder / "own.pem", context


@pytest.fixture
def moved(web):
    """moved(where) -> the address of a server that sends everybody on to `where`."""
    started = []

    def start(where):
        async def answer(request):
            return web.Response(status=301, headers={"Location": where + request.path_qs})

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        started.append(Threaded(web, app))
        return started[-1].url

    yield start
    for one in started:
        one.close()


def test_a_certificate_that_is_not_trusted_is_named_as_that(queue_server, go, certificate):
    server = queue_server(ssl_context=certificate[1])
    code, _, err = go(server.url)
    assert code == 3 and f"the certificate of {server.url} is not trusted (self-signed" in err
    assert "SSL_CERT_FILE" in err and not server.ran


def test_a_certificate_whose_file_is_named_is_trusted_and_http_is_sent_on_to_https(
    queue_server, certificate, moved, monkeypatch, tmp_path
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))  # which is read once, when a process begins
    server = queue_server(ssl_context=certificate[1])
    (tmp_path / "w.json").write_text(json.dumps(prompt_of("a")))
    for url in (server.url, moved(server.url)):
        process = start(tmp_path / "w.json", "--server", url, "--output", tmp_path / "out")
        out, err = process.communicate()
        assert process.returncode == 0, err
    assert len(server.ran) == 2 and len(server.sockets) == 2


def test_https_to_a_server_that_speaks_http_is_named_as_that(queue_server, go):
    url = queue_server().url.replace("http:", "https:")
    code, _, err = go(url)
    assert code == 3 and f"what answers at {url} speaks no https" in err and "try http://" in err


def test_another_server_of_the_same_routes_is_named_and_not_followed(queue_server, go, moved):
    server = queue_server()
    other = server.url.replace("127.0.0.1", "localhost")
    code, _, err = go(moved(other), "--header", "Authorization: Bearer abc")
    assert code == 3 and f"sends on to {other}, another one; give that to --server" in err and "login" not in err
    assert not server.ran


@pytest.mark.parametrize(
    "location, base",
    [
        ("https://host/x/system_stats?token=abc", "https://host/x"),
        ("/comfy/system_stats/", "http://host/comfy"),
        ("https://me:pw@host/system_stats", "https://host"),
        ("http://other/system_stats", None),
        ("/login", None),
    ],
)
def test_where_a_server_moves_to(location, base):
    assert new_base("http://host", "/system_stats", Answer(302, {"Location": location})) == base


def test_nobody_is_followed_from_https_to_http():
    answer = Answer(302, {"Location": "http://me:secret@host/system_stats?token=secret"})
    assert new_base("https://host", "/system_stats", answer) is None
    error = str(refusal("https://host", "/system_stats", answer))
    assert "sends on to http://host" in error and "secret" not in error
