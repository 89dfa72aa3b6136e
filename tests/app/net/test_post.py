"""The sender against receivers that behave badly, over real sockets on loopback."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.errors import AppError
from app.net import Egress, PostResult, Sender, check_url
from app.net.guard import AddressList, Lookup, system_lookup
from app.net.post import READ_BYTES_MAX
from tests.app.net.certificates import Authority
from tests.app.net.receiver import Receiver
from tests.app.net.tunnel import Tunnel

LOOSE = Egress(allow_private=True, strict_urls=False)
GUARDED = Egress(allow_private=False, strict_urls=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def post(*urls: str, egress: Egress = LOOSE, seconds: float = 5.0, lookup: Lookup = system_lookup) -> list[PostResult]:
    async def all_of_them() -> list[PostResult]:
        async with Sender(egress, seconds=seconds, lookup=lookup) as sender:
            return [await sender.post(url, b'{"a":1}', {"Content-Type": "application/json"}) for url in urls]

    return asyncio.run(all_of_them())


class Names:
    """A name server that answers each lookup with the next of its prepared answers, then the last one."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> AddressList:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in answer]


def test_a_receiver_gets_the_exact_bytes_and_no_internal_headers(receiver: Receiver):
    [answer] = post(receiver.url("/ok"))
    [request] = receiver.requests
    assert (answer.status, answer.body, answer.fault, answer.ip) == (200, b"ok", None, "127.0.0.1")
    assert request.body == b'{"a":1}'
    assert request.headers["content-type"] == "application/json"
    assert not {"cookie", "authorization"} & set(request.headers)


def test_phases_are_timed_and_a_kept_connection_has_none_to_connect(receiver: Receiver):
    first, second = post(receiver.url("/ok"), receiver.url("/ok"))
    assert first.timings.connect_ms is not None
    assert first.timings.ttfb_ms is not None
    assert second.timings.connect_ms is None
    assert second.ip == "127.0.0.1"
    assert receiver.connections == 1


def test_a_kept_connection_that_went_stale_is_replaced_at_once(receiver: Receiver):
    async def scenario() -> list[PostResult]:
        async with Sender(LOOSE, seconds=5.0) as sender:
            answers = [await sender.post(receiver.url("/ok"), b"1", {})]
            # The receiver answers this one and closes although it never said so.
            answers.append(await sender.post(receiver.url("/onceok"), b"2", {}))
            answers.append(await sender.post(receiver.url("/ok"), b"3", {}))
            return answers

    assert [answer.status for answer in asyncio.run(scenario())] == [200, 200, 200]
    assert [request.body for request in receiver.requests] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("path", ["/hang", "/drip", "/continues"])
def test_one_deadline_covers_receivers_that_hang_or_drip(receiver: Receiver, path: str):
    [answer] = post(receiver.url(path), seconds=0.4)
    assert (answer.status, answer.fault) == (None, "timeout")


def test_a_dripping_body_after_a_good_status_counts_as_received(receiver: Receiver):
    [answer] = post(receiver.url("/dripbody"), seconds=0.4)
    assert (answer.status, answer.fault) == (200, None)
    assert 0 < len(answer.body) < 8_000


@pytest.mark.parametrize("path", ["/flood", "/chunks"])
def test_of_an_endless_body_only_the_start_is_read(receiver: Receiver, path: str):
    [answer] = post(receiver.url(path))
    assert answer.status == 200
    assert len(answer.body) == READ_BYTES_MAX


def test_a_gzip_bomb_is_not_opened(receiver: Receiver):
    [answer] = post(receiver.url("/bomb"))
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.body.startswith(b"\x1f\x8b")
    assert len(answer.body) == READ_BYTES_MAX


def test_a_redirect_is_not_followed(receiver: Receiver):
    [answer] = post(receiver.url("/redirect?to=http://169.254.169.254/latest/meta-data/"))
    assert answer.status == 302
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("path", "fault"),
    [("/reset", "disconnected"), ("/close", "disconnected"), ("/garbage", "bad_answer"), ("/hugeheader", "bad_answer")],
)
def test_each_malformed_response_has_an_error_code(receiver: Receiver, path: str, fault: str):
    [answer] = post(receiver.url(path))
    assert (answer.status, answer.fault) == (None, fault)


def test_retry_after_is_kept_with_the_status(receiver: Receiver):
    [answer] = post(receiver.url("/status/429?retry_after=7"))
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")


def test_a_receiver_that_does_not_listen_is_unreachable(receiver: Receiver):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        [answer] = post(f"http://127.0.0.1:{busy.getsockname()[1]}/")
    assert answer.fault == "connect_failed"


def test_a_name_that_does_not_resolve():
    def unknown(host: str, port: int) -> AddressList:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert post("http://nowhere.example/", lookup=unknown)[0].fault == "dns_failed"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"],
)
def test_no_spelling_of_loopback_passes_the_guard(receiver: Receiver, host: str):
    [answer] = post(receiver.url("/ok", host=host), egress=GUARDED)
    assert answer.fault == "blocked"
    assert receiver.connections == 0


def test_of_several_answers_all_must_be_public(receiver: Receiver):
    names = Names(["8.8.8.8", "127.0.0.1"])
    [answer] = post(receiver.url("/ok", host="mixed.example"), egress=GUARDED, lookup=names)
    assert answer.fault == "blocked"
    assert receiver.connections == 0


def test_a_name_is_checked_at_every_connection_so_rebinding_fails(receiver: Receiver):
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    # The first answer closes its connection, so that the second request has to connect again.
    closing = receiver.url("/file/1", host="rebinding.example")
    first, second = post(closing, receiver.url("/ok", host="rebinding.example"), lookup=names)
    assert (first.status, second.fault) == (200, "blocked")
    assert names.asked == ["rebinding.example", "rebinding.example"]
    assert len(receiver.requests) == 1


def test_connections_use_the_checked_answers_of_one_lookup(receiver: Receiver):
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    [answer] = post(receiver.url("/ok", host="hooks.example"), lookup=names)
    assert (answer.status, names.asked) == (200, ["hooks.example"])
    assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"


def test_the_environments_proxy_is_ignored(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert post(receiver.url("/ok"))[0].status == 200


def test_with_an_egress_proxy_connections_go_to_the_proxy_only(receiver: Receiver):
    names = Names(["10.9.9.9"])
    behind = Egress(allow_private=False, strict_urls=False, proxy=receiver.url(""))
    [answer] = post("http://hooks.example/ok", egress=behind, lookup=names)
    assert answer.status == 200
    assert receiver.requests[0].target == "http://hooks.example/ok"
    assert (names.asked, answer.ip) == ([], None)


def test_an_https_receiver_is_reached_through_the_proxys_tunnel(authority: Authority):
    names = Names(["10.9.9.9"])
    with Receiver(tls=authority.context_for("hooks.example")) as receiver, Tunnel(receiver.port) as tunnel:
        behind = Egress(proxy=tunnel.url, strict_urls=False, ca_file=authority.ca_file)
        good, wrong = post("https://hooks.example/ok", "https://other.example/ok", egress=behind, lookup=names)
    assert (good.status, good.fault) == (200, None)
    assert tunnel.asked == ["CONNECT hooks.example:443 HTTP/1.1", "CONNECT other.example:443 HTTP/1.1"]
    # Names are the proxy's to resolve, and its address is nobody's to know; certificates are still ours to check.
    assert (names.asked, good.ip, wrong.ip) == ([], None, None)
    assert wrong.fault == "tls_failed"
    assert len(receiver.requests) == 1


def test_a_proxy_that_refuses_the_receiver_is_an_unreachable_receiver():
    with Tunnel(status=407) as tunnel:
        [answer] = post("https://hooks.example/ok", egress=Egress(proxy=tunnel.url, strict_urls=False))
    assert (answer.status, answer.fault) == (None, "connect_failed")


def test_a_proxy_that_is_down_is_our_fault_and_named_so(receiver: Receiver):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        down = Egress(strict_urls=False, proxy=f"http://127.0.0.1:{busy.getsockname()[1]}")
        assert post("http://hooks.example/ok", egress=down)[0].fault == "proxy_failed"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def tls_rules(ca_file: Path) -> Egress:
    return Egress(allow_private=True, strict_urls=False, ca_file=ca_file)


def test_a_trusted_certificate_passes_and_the_handshake_is_timed(authority: Authority):
    with Receiver(tls=authority.context_for("hooks.example")) as receiver:
        url = receiver.url("/ok", host="hooks.example")
        [answer] = post(url, egress=tls_rules(authority.ca_file), lookup=Names(["127.0.0.1"]))
    assert answer.status == 200
    assert answer.timings.tls_ms is not None


def test_wrong_expired_and_unknown_certificates_fail(authority: Authority):
    names = Names(["127.0.0.1"])
    with Receiver(tls=authority.context_for("other.example")) as receiver:
        url = receiver.url("/ok", host="hooks.example")
        assert post(url, egress=tls_rules(authority.ca_file), lookup=names)[0].fault == "tls_failed"
        assert receiver.requests == []
        assert post(receiver.url("/ok", host="other.example"), lookup=names)[0].fault == "tls_failed"
    with Receiver(tls=authority.context_for("late.example", lifetime=timedelta(days=30))) as receiver:
        url = receiver.url("/ok", host="late.example")
        assert post(url, egress=tls_rules(authority.ca_file), lookup=names)[0].fault == "tls_failed"


def test_two_names_on_one_address_are_checked_each_against_its_own_certificate(authority: Authority):
    with Receiver(tls=authority.context_for("a.example")) as receiver:
        first, second = post(
            receiver.url("/ok", host="a.example"),
            receiver.url("/ok", host="b.example"),
            egress=tls_rules(authority.ca_file),
            lookup=Names(["127.0.0.1"]),
        )
    assert (first.status, second.fault) == (200, "tls_failed")


def test_plain_text_on_a_tls_port_fails(receiver: Receiver):
    [answer] = post(receiver.url("/ok").replace("http://", "https://"), seconds=0.4)
    assert answer.status is None
    assert answer.fault in ("tls_failed", "timeout")


def test_a_url_that_became_forbidden_is_blocked_when_sent():
    assert post("http://hooks.example.com/", egress=Egress())[0].fault == "blocked"


def test_check_url_says_which_field_and_why():
    with pytest.raises(AppError) as caught:
        check_url("ftp://hooks.example.com/", field="callback_url")
    assert (caught.value.code, caught.value.field) == ("url_refused", "callback_url")
    assert "scheme" in caught.value.message
