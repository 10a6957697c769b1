"""Who may ask the studio what."""

from __future__ import annotations

import pytest
from asking import Asker

from tapir.studio.guard import Access
from tapir.studio.serving import serving


def test_every_answer_carries_a_policy_without_inline_script_or_style(reader):
    _, headers, _ = reader.ask("/")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example"])
def test_a_name_that_somebody_pointed_at_us_gets_nothing(reader, host: str):
    assert reader.ask("/", Host=host)[0] == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_another_sites_origin_gets_nothing(reader, origin: str):
    assert reader.ask("/", Origin=origin)[0] == 403


def test_without_annotate_nothing_can_be_changed(reader):
    assert reader.ask("/run/run/marks", form={"kind": "drop"})[0] == 405
    assert reader.ask("/run/run/marks", method="DELETE")[0] == 405
    assert "<form" in reader.page("/run/run/rows")  # filters stay
    assert reader.ask("/run/run/annotate")[0] == 404


def test_a_change_needs_our_own_origin_and_form_token(writer):
    form = {"kind": "drop", "instruction_id": "x", "value": "drop", "form_token": "guessed"}
    assert writer.ask("/run/run/marks", form=form)[0] == 403
    assert writer.ask("/run/run/marks", form=form, Origin="https://evil.example")[0] == 403
    assert writer.ask("/run/run/marks", form=form, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert writer.ask("/run/run/marks", form={"form_token": "x" * 70_000})[0] == 413


def test_loopback_needs_no_token_and_every_other_address_does():
    assert Access.of("127.0.0.1").token is None
    assert Access.of("::1").token is None
    assert Access.of("0.0.0.0").token
    assert not Access.of("127.0.0.1").knows_host("10.0.0.7:8321")


def test_bound_elsewhere_it_answers_to_addresses_and_named_hosts_only():
    access = Access.of("0.0.0.0", names=frozenset({"box.lan"}))
    assert access.knows_host("10.0.0.7:8321")
    assert access.knows_host("box.lan:8321")
    assert not access.knows_host("evil.example")


def test_a_token_in_the_address_becomes_a_cookie(finished_run):
    access = Access("0.0.0.0", token="s3cret")
    with serving(finished_run.root.parent, access=access) as url:
        asker = Asker(url)
        assert asker.ask("/")[0] == 403
        assert asker.ask("/?token=wrong")[0] == 403
        status, headers, _ = asker.ask("//evil.example?token=s3cret&a=1")
        assert (status, headers["location"]) == (303, "/evil.example?a=1")
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert asker.ask("/", Cookie=cookie.partition(";")[0])[0] == 200


@pytest.mark.parametrize(
    "path", ["/run/..%2F..%2Fetc", "/run/%2e%2e", "/static/..%2fapp.py", "/run/run/instruction/..%2F"]
)
def test_no_address_leads_out_of_the_folder(reader, path: str):
    assert reader.ask(path)[0] == 404
