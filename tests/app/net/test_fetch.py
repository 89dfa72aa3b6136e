import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from app.errors import AppError
from app.net import Egress, FetchResult, fetch_to
from app.net.guard import AddressList
from tests.app.net.receiver import Receiver

LOOSE = Egress(allow_private=True, strict_urls=False)
GUARDED = Egress(allow_private=False, strict_urls=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def fetch(
    folder: Path, url: str, *, bytes_max: int = 1_000_000, seconds: float = 5.0, egress: Egress = LOOSE
) -> FetchResult:
    return fetch_to(folder / "picture", url, bytes_max=bytes_max, seconds=seconds, field="first_frame", egress=egress)


def refused(folder: Path, url: str, **rules: object) -> AppError:
    with pytest.raises(AppError) as caught:
        fetch(folder, url, **rules)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.field) == ("url_refused", "first_frame")
    assert list(folder.iterdir()) == []
    return caught.value


def test_a_file_arrives_complete_with_its_hash(receiver: Receiver, tmp_path: Path):
    fetched = fetch(tmp_path, receiver.url("/file/300000"))
    assert fetched.path.read_bytes() == b"f" * 300_000
    assert (fetched.bytes, fetched.content_type) == (300_000, "image/png")
    assert fetched.sha256 == sha256(b"f" * 300_000).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["picture"]


def test_redirects_are_followed_up_to_five(receiver: Receiver, tmp_path: Path):
    target = receiver.url("/file/10")
    assert fetch(tmp_path, receiver.url(f"/redirect?to={target}")).bytes == 10
    (tmp_path / "picture").unlink()
    assert "more than 5 times" in refused(tmp_path, receiver.url("/circle")).message
    assert len(receiver.requests) == 2 + 6


def test_a_redirect_to_a_private_address_reads_like_an_unreachable_one(receiver: Receiver, tmp_path: Path):
    inward = refused(tmp_path, receiver.url("/redirect?to=http://169.254.169.254/latest/meta-data/"))
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        nobody = refused(tmp_path, f"http://127.0.0.1:{busy.getsockname()[1]}/")
    assert inward.message == nobody.message
    assert set(inward.facts) == set(nobody.facts)


def test_a_redirect_to_another_scheme_is_refused(receiver: Receiver, tmp_path: Path):
    refused(tmp_path, receiver.url("/redirect?to=file:///etc/passwd"))


def test_the_guard_checks_every_connection(receiver: Receiver, tmp_path: Path):
    refused(tmp_path, receiver.url("/file/10"), egress=GUARDED)
    assert receiver.connections == 0


def test_a_name_that_becomes_private_between_two_redirects_is_blocked(receiver: Receiver, tmp_path: Path):
    answers = ["127.0.0.1", "169.254.169.254"]

    def turning(host: str, port: int) -> AddressList:
        return [(socket.AF_INET, answers.pop(0))]

    url = receiver.url("/redirect?to=/file/10", host="turning.example")
    with pytest.raises(AppError, match="cannot be reached"):
        fetch_to(tmp_path / "picture", url, bytes_max=100, seconds=5, egress=LOOSE, lookup=turning)
    assert (answers, len(receiver.requests)) == ([], 1)


def test_too_large_is_refused_by_its_announced_length_and_while_streaming(receiver: Receiver, tmp_path: Path):
    assert "larger than 1,000 bytes" in refused(tmp_path, receiver.url("/file/1001"), bytes_max=1_000).message
    assert "larger than" in refused(tmp_path, receiver.url("/chunks"), bytes_max=200_000).message


def test_a_dripping_server_meets_the_deadline(receiver: Receiver, tmp_path: Path):
    assert "0.4 seconds" in refused(tmp_path, receiver.url("/dripbody"), seconds=0.4).message


@pytest.mark.parametrize("path", ["/status/404", "/bomb", "/reset", "/garbage", "/status/500"])
def test_other_responses_are_refused_with_a_message(receiver: Receiver, tmp_path: Path, path: str):
    refused(tmp_path, receiver.url(path))


def test_in_service_the_form_of_the_url_counts_too(tmp_path: Path):
    assert "IP address" in refused(tmp_path, "https://10.0.0.1/a.png", egress=Egress()).message
