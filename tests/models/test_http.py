"""Bad rows have their reasons, wrong endpoints are clear errors, and keys appear nowhere."""

from __future__ import annotations

import socket
import sqlite3
import ssl
import subprocess
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import pytest
from aiohttp import web
from fake_endpoint import answering, ask, asks, caller, fake, model, serving

from tapir import config
from tapir.errors import BudgetReached, EndpointError, RecipeError
from tapir.models.calls import Reply
from tapir.models.connection import Connection, secrets_in, told
from tapir.models.engine import Caller
from tapir.models.fake_server import Faults
from tapir.models.http import HttpBackend
from tapir.models.ledger import Ledger
from tapir.models.scripted import Rule

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def problems(url, ledger, count=60, **settings):
    one = caller(url, ledger, **settings)
    return Counter(reply.problem for _, reply in one.run(asks(count), stage="answer")), one.usage["answer"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("bad_rows", "bad_request"),
        ("filtered", "content_filter"),
        ("empty", "empty"),
        ("truncated", "truncated"),
        ("invalid_utf8", "invalid_utf8"),
    ],
)
def test_a_bad_row_costs_that_row_and_has_its_reason(ledger, fault, reason):
    with serving(fake(Faults(**{fault: 0.2}))) as url:
        found, usage = problems(url, ledger)
        again, _ = problems(url, ledger)
    assert set(found) == {None, reason}
    assert 0 < found[reason] < 30
    assert usage.failed == {reason: found[reason]}
    assert again == found


@pytest.mark.parametrize("stream", [False, True])
def test_passing_failures_are_tried_again(ledger, stream):
    server = fake(Faults(error_500=0.2, error_429=0.1, broken=0.1, retry_after_s=0.1))
    with serving(server) as url:
        found, usage = problems(url, ledger, stream=stream)
    assert found == {None: 60}
    assert usage.retried == server.counts["requests"] - 60 > 0


def test_a_row_that_never_gets_a_reply_in_time_is_bad_for_that_reason(ledger):
    with serving(fake(Faults(hang=0.05))) as url:
        limits = {"timeout_s": 0.2, "retries": 1, "in_flight": 64}
        found, _ = problems(url, ledger, limits=limits)
        assert set(found) == {None, "timeout"}
        server_is_well = fake()
    with serving(server_is_well, port=int(url.split(":")[2].split("/")[0])) as same_url:
        found, usage = problems(same_url, ledger)
    assert found == {None: 60}
    assert usage.cached > 40


def test_streams_give_the_same_replies(ledger, tmp_path):
    with serving(fake()) as url, Ledger(tmp_path / "streamed.sqlite") as other:
        plain = list(caller(url, ledger).run(asks(5), stage="answer"))
        streamed = list(caller(url, other, stream=True).run(asks(5), stage="answer"))
    assert plain == streamed


def test_log_probabilities_and_schemas_reach_the_model_and_come_back(ledger):
    rule = Rule("which", "A", probabilities={"A": 0.75, "B": 0.25})
    with serving(fake(rules=[rule])) as url:
        one = caller(url, ledger)
        request = ask("which?", top_logprobs=2, schema='{"type": "object"}')
        (_, sent), (_, kept) = (next(one.run([request], stage="judge")) for _ in range(2))
    assert sent.logprobs == kept.logprobs
    assert [token for token, _ in sent.logprobs[0].top] == ["A", "B"]


# --- wrong endpoints ---


def fails(url, ledger, *, match, **settings):
    with pytest.raises(EndpointError, match=match):
        list(caller(url, ledger, **settings).run(asks(1000), stage="answer"))


def test_a_wrong_key_stops_the_run_without_showing_it(ledger):
    server = fake(api_key="another")
    with serving(server) as url:
        rows = caller(url, ledger, api_key_env="TEACHER_KEY", environ={"TEACHER_KEY": KEY}).run(
            asks(1000), stage="answer"
        )
        with pytest.raises(EndpointError) as caught:
            list(rows)
    assert "check the key in TEACHER_KEY" in str(caught.value)
    assert KEY not in str(caught.value)
    assert server.counts["requests"] <= 16


def test_a_key_that_is_not_set_is_an_error_before_any_call():
    with pytest.raises(RecipeError, match="the environment variable TEACHER_KEY is not set"):
        HttpBackend(model("http://127.0.0.1:1/v1", api_key_env="TEACHER_KEY"), environ={})


def test_an_unknown_model_stops_the_run(ledger):
    with serving(fake(models=("other",))) as url:
        fails(url, ledger, match="404: The model `fake` does not exist; check base_url")


def test_a_wrong_path_stops_the_run(ledger):
    with serving(fake()) as url:
        fails(f"{url}/v2", ledger, match="404.*check base_url")


def test_a_closed_port_stops_the_run(ledger):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        fails(url, ledger, match="cannot be reached", limits={"retries": 1})


def test_an_endpoint_that_turns_down_everything_is_wrong_and_nothing_is_remembered(ledger):
    with serving(fake(Faults(bad_rows=1.0))) as url:
        fails(url, ledger, match="turned down all of the first .* check the model's token_param")
    assert all(ledger.get(e.address) is None for e in ledger.entries())


def test_an_outage_stops_the_run_and_finished_calls_are_kept(ledger):
    with serving(fake(Faults(outage_after=40, error_500=0))) as url:
        fails(url, ledger, match="answered none of 3 rows in turn", limits={"retries": 1})
    with serving(fake(), port=int(url.split(":")[2].split("/")[0])) as same_url:
        _, usage = problems(same_url, ledger, count=100)
    assert usage.cached == 40


def test_plain_http_where_tls_is_expected_stops_the_run(ledger):
    with serving(fake()) as url:
        fails(url.replace("http", "https"), ledger, match="no trusted TLS connection")


def test_a_redirect_to_another_host_is_not_followed(ledger):
    async def away(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "http://elsewhere.example/v1/chat/completions"})

    with answering(away) as url:
        fails(url, ledger, match="redirects to http://elsewhere.example, another host")


def test_a_page_of_html_is_not_a_reply(ledger):
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>Welcome</html>", content_type="text/html")

    with answering(page) as url:
        fails(url, ledger, match="not a chat completion: <html>Welcome", limits={"retries": 0})


def test_an_account_without_credit_stops_the_run(ledger):
    async def broke(request: web.Request) -> web.Response:
        error = {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}
        return web.json_response(error, status=429)

    with answering(broke) as url:
        fails(url, ledger, match="no credit left")


# --- bodies ---


def test_the_body_follows_the_recipe(ledger):
    bodies = []

    async def keep(request: web.Request) -> web.Response:
        bodies.append((await request.json(), dict(request.headers)))
        choice = {"message": {"content": "ok"}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice]})

    settings = {
        "token_param": "max_completion_tokens",
        "drop_params": ("temperature",),
        "headers_env": {"X-Team": "TEAM"},
        "environ": {"TEAM": "blue"},
        "extra_body": {"top_k": 5},
    }
    with answering(keep) as url:
        one = caller(url, ledger, **settings)
        reply = one.one(ask("hi", stop=("END",), top_p=0.5), stage="answer")
    body, headers = bodies[0]
    assert body == {
        "model": "fake",
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 64,
        "stop": ["END"],
        "top_p": 0.5,
        "top_k": 5,
    }
    assert headers["X-Team"] == "blue"
    assert "without temperature" in one.identity
    # No usage was told: bounds stand in for it, and say so.
    assert (reply.usage_known, reply.completion_tokens) == (False, 64)


# --- several addresses ---


def balanced(ledger, *urls, count=200, said=None, **limits):
    """All rows of a caller of several addresses."""
    settings = config.Model(base_urls=urls, model="fake", limits=config.Limits(**{"retries": 2, **limits}))
    backend = HttpBackend(settings, environ={}, say=None if said is None else said.append)
    return list(Caller(backend, ledger, limits=settings.limits).run(asks(count), stage="answer"))


def test_calls_are_balanced_over_several_addresses(ledger):
    one, two = fake(), fake()
    with serving(one) as first, serving(two) as second:
        rows = balanced(ledger, first, second, retries=5)
    assert len(rows) == 200
    assert min(one.counts["requests"], two.counts["requests"]) > 60


async def _broke(request: web.Request) -> web.Response:
    return web.json_response({"error": {"message": "broke"}}, status=500)


BROKEN = {
    "503": lambda: serving(fake(Faults(outage_after=0))),
    "500": lambda: answering(_broke),
    "404": lambda: serving(fake(models=("other",))),
    "401": lambda: serving(fake(api_key="another")),
    "400 for every row": lambda: serving(fake(Faults(bad_rows=1.0))),
    "refused": lambda: closed_port(),
}


@contextmanager
def closed_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}/v1"


@pytest.mark.parametrize("retries", [1, 2])
@pytest.mark.parametrize("broken", BROKEN)
def test_one_broken_address_costs_no_row(ledger, broken, retries):
    # The good one takes its time: the broken one always has the fewest calls in flight.
    good = fake(latency_s=0.03)
    said = []
    with serving(good) as first, BROKEN[broken]() as second:
        rows = balanced(ledger, first, second, count=100, said=said, retries=retries)
    assert Counter(reply.problem for _, reply in rows) == {None: 100}
    assert good.counts["requests"] == 100
    told = [line for line in said if "it is passed over while" in line]
    assert len(told) == (broken in ("404", "401"))


def test_a_broken_address_is_hardly_asked(ledger):
    good, bad = fake(latency_s=0.03), fake(Faults(outage_after=0))
    with serving(good) as first, serving(bad) as second:
        balanced(ledger, first, second)
    assert bad.counts["requests"] <= 10  # half of the first 16, then one after each rest


def test_a_cap_counts_the_calls_of_all_addresses(ledger):
    good, bad = fake(latency_s=0.03), fake(Faults(outage_after=0))
    with serving(good) as first, serving(bad) as second:
        settings = config.Model(base_urls=(first, second), model="fake")
        backend = HttpBackend(settings, environ={})
        one = Caller(backend, ledger, budget=config.Budget(calls=50), run_id="r")
        with pytest.raises(BudgetReached):
            list(one.run(asks(200), stage="answer"))
    assert good.counts["requests"] + bad.counts["requests"] == 50


def test_an_address_that_takes_no_connections_costs_no_row(ledger):
    with serving(fake(latency_s=0.01)) as first, _full_backlog() as second:
        rows = balanced(ledger, first, second, count=60, connect_timeout_s=0.2, retries=0)
    assert Counter(reply.problem for _, reply in rows) == {None: 60}


@contextmanager
def _full_backlog():
    """A port whose queue is full: connections to it hang."""
    with socket.socket() as busy, socket.socket() as one, socket.socket() as two:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(busy.getsockname())
        yield f"http://127.0.0.1:{busy.getsockname()[1]}/v1"


def test_bad_rows_are_still_bad_rows_at_several_addresses(ledger):
    bad = Faults(bad_rows=0.2)
    with serving(fake(bad)) as first, serving(fake(bad)) as second:
        found = Counter(reply.problem for _, reply in balanced(ledger, first, second))
    assert set(found) == {None, "bad_request"}
    assert 20 < found["bad_request"] < 60


def test_an_address_that_comes_back_is_asked_again(ledger):
    late = fake(Faults(outage_after=0))
    with serving(fake(latency_s=0.08)) as first, serving(late) as second:
        settings = config.Model(base_urls=(first, second), model="fake")
        one = Caller(HttpBackend(settings, environ={}), ledger)
        rows = one.run(asks(320), stage="answer")
        next(rows)
        late.faults = Faults()
        assert all(reply.problem is None for _, reply in rows)
    assert late.counts["replies"] > 30


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (("503", "500"), "answered none of 3 rows in turn .*503: down; .*500: broke"),
        (("404", "401"), "answered 404.*; .*answered 401.*"),
        (("refused", "refused"), "cannot be reached"),
        (("404", "refused"), "cannot be reached .*answered 404.*"),
        (("400 for every row", "400 for every row"), "turned down all of the first .* check the model's token_param"),
    ],
)
def test_where_every_address_is_broken_the_run_stops_with_one_error(ledger, broken, match):
    one, two = broken
    with BROKEN[one]() as first, BROKEN[two]() as second, pytest.raises(EndpointError, match=match):
        balanced(ledger, first, second, retries=1)


# --- secrets ---


def test_a_key_echoed_by_the_server_is_nowhere_in_what_we_keep(ledger, tmp_path):
    def echo(request, found):
        return Reply(text=f"your key is {KEY}", reasoning=KEY, completion_tokens=3)

    with serving(fake(rules=[Rule("", echo)], api_key=KEY)) as url:
        for stream in (False, True):
            settings = {"api_key_env": "K", "environ": {"K": KEY}, "stream": stream, "identity": f"m{stream}"}
            one = caller(url, ledger, **settings)
            reply = one.one(ask("what is my key?"), stage="answer")
            assert reply.text == "your key is [redacted]"
            assert KEY not in repr(one.remote)
    database = sqlite3.connect(ledger.path)
    dump = "\n".join(database.iterdump())
    database.close()
    assert KEY not in dump
    shown = [ledger.show(entry.address) for entry in ledger.entries()]
    assert len(shown) == 2
    assert all(KEY.encode() not in entry.reply.raw and KEY not in repr(entry) for entry in shown)


PASSWORD = "p%2Fss%40w0rd-9"


@contextmanager
def refusing_proxy(status, monkeypatch):
    """A proxy of this environment, with a login, that lets nothing through."""

    class Refusing(BaseHTTPRequestHandler):
        def do_CONNECT(self):
            self.send_error(status, f"no login {PASSWORD} or p/ss@w0rd-9")

        do_POST = do_CONNECT

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever).start()
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://anna:{PASSWORD}@127.0.0.1:{server.server_port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        try:
            yield
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("url", "status", "match"),
    [
        ("https://llm.example.com/v1", 407, r"the proxy refused the connection \(407\); check HTTPS_PROXY"),
        ("https://llm.example.com/v1", 503, r"the proxy refused the connection \(503\); check HTTPS_PROXY"),
        ("http://llm.example.com/v1", 407, "answered 407.*proxy's answer: check HTTP_PROXY"),
    ],
)
def test_a_proxy_that_refuses_costs_nothing_and_its_login_is_not_shown(ledger, monkeypatch, url, status, match):
    with refusing_proxy(status, monkeypatch):
        one = caller(url, ledger, budget=config.Budget(calls=100), run_id="r", limits={"retries": 0, "in_flight": 1})
        with pytest.raises(EndpointError, match=match) as caught:
            list(one.run(asks(5), stage="answer"))
    with ledger.reading() as db:
        assert one.ration.spent(db).tokens == 0
    kept = " ".join(repr(entry) + entry.reply.raw.decode() for entry in ledger.entries())
    assert not any(part in f"{caught.value} {kept}" for part in ("anna", "p/ss", "p%2Fss", "w0rd"))


def test_a_proxys_login_counts_as_a_secret_however_it_is_written(monkeypatch):
    with refusing_proxy(407, monkeypatch):
        secrets = Connection(model("https://llm.example.com/v1"), {}).secrets
    assert set(secrets) == {PASSWORD, "p/ss@w0rd-9", "YW5uYTpwL3NzQHcwcmQtOQ=="}


def test_an_error_that_quotes_a_proxys_url_is_told_without_its_login():
    error = aiohttp.ClientConnectionError("TLS in TLS to https://llm.example.com by https://anna:p@ss@proxy.example:1")
    assert told(error) == "TLS in TLS to https://proxy.example:1"


def test_a_proxy_that_is_no_url_is_not_shown(ledger, monkeypatch):
    monkeypatch.setenv("https_proxy", "anna:secret@proxy.example")
    with pytest.raises(EndpointError, match="correct base_url, or the proxy in HTTPS_PROXY") as caught:
        list(caller("https://llm.example.com/v1", ledger).run(asks(5), stage="answer"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("placeholder", ["EMPTY", "token", "none", "low", "team a", "Bearer dummy", "anything"])
def test_a_placeholder_for_a_key_changes_no_answer(ledger, placeholder):
    said = f"Check if the queue is EMPTY, none of the tokens low: {placeholder}, a dummy or anything"
    with serving(fake(rules=[Rule("", said)])) as url:
        one = caller(url, ledger, headers_env={"X-Key": "K"}, api_key_env="K", environ={"K": placeholder})
        reply = one.one(ask("hi"), stage="answer")
    assert (reply.text, reply.usage_known) == (said, True)


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        (KEY, {KEY}),
        (f"Bearer {KEY}", {KEY}),
        (f"token  {KEY}", {KEY}),
        ("hunter2!", {"hunter2!"}),
        ("correct horse battery", {"correct horse battery"}),
        ("qwertyuiopasdfghjklzxcvbnm", {"qwertyuiopasdfghjklzxcvbnm"}),
        ("mIxedLetters", {"mIxedLetters"}),
        ("hunter2", set()),
        ("Basic production", set()),
    ],
)
def test_what_counts_as_a_secret(value, secrets):
    assert secrets_in(value) == secrets


def test_tls_trusts_nobody_unknown(ledger, tmp_path):
    certificate = _self_signed(tmp_path)

    async def never(request: web.Request) -> web.Response:
        raise AssertionError("a call went through an untrusted connection")

    with answering(never, certificate) as url:
        fails(url, ledger, match="no trusted TLS connection.*SSL_CERT_FILE")


def _self_signed(folder) -> ssl.SSLContext:
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context
