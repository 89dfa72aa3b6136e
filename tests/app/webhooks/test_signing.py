"""Our signatures against three verifiers that other people wrote."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from standardwebhooks import Webhook, WebhookVerificationError
from svix.webhooks import Webhook as SvixWebhook

from app.clock import local_now
from app.webhooks.signing import format_secret, sign

KEY, OLD_KEY, FOREIGN_KEY = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
BODY = json.dumps({"id": "evt_1", "type": "video.completed", "data": {"id": "video_1", "prompt": "红色"}}).encode()


def headers(*keys: bytes, at: datetime | None = None) -> dict[str, str]:
    return sign(keys or (KEY,), event_id="evt_1", at=at or local_now(), body=BODY)


def accepts_standardwebhooks(signed: dict[str, str], key: bytes, body: bytes) -> bool:
    try:
        Webhook(format_secret(key)).verify(body.decode(), signed)
    except WebhookVerificationError:
        return False
    return True


def accepts_svix(signed: dict[str, str], key: bytes, body: bytes) -> bool:
    try:
        SvixWebhook(format_secret(key)).verify(body, signed)
    except WebhookVerificationError:
        return False
    return True


def accepts_openai(signed: dict[str, str], key: bytes, body: bytes) -> bool:
    client = OpenAI(api_key="none", webhook_secret=format_secret(key))
    try:
        client.webhooks.verify_signature(body.decode(), signed)
    except InvalidWebhookSignatureError:
        return False
    return True


verifiers = pytest.mark.parametrize("accepts", [accepts_standardwebhooks, accepts_svix, accepts_openai])


@verifiers
def test_a_signature_is_accepted(accepts):
    assert accepts(headers(), KEY, BODY)


@verifiers
def test_during_a_rotation_the_old_and_the_new_secret_both_verify(accepts):
    signed = headers(KEY, OLD_KEY)
    assert accepts(signed, KEY, BODY)
    assert accepts(signed, OLD_KEY, BODY)
    assert not accepts(signed, FOREIGN_KEY, BODY)


@verifiers
def test_another_body_id_time_or_key_is_refused(accepts):
    signed = headers()
    assert not accepts(signed, KEY, BODY.replace(b"completed", b"failed"))
    assert not accepts(signed | {"webhook-id": "evt_2"}, KEY, BODY)
    assert not accepts(signed | {"webhook-timestamp": str(int(signed["webhook-timestamp"]) - 1)}, KEY, BODY)
    assert not accepts(signed, FOREIGN_KEY, BODY)


@verifiers
def test_an_attempt_replayed_later_is_refused(accepts):
    assert not accepts(headers(at=local_now() - timedelta(minutes=6)), KEY, BODY)


@verifiers
def test_the_zone_of_the_moment_does_not_matter(accepts):
    shanghai = timezone(timedelta(hours=8))
    assert accepts(headers(at=local_now().astimezone(shanghai)), KEY, BODY)


def test_the_openai_sdk_unwraps_our_event():
    client = OpenAI(api_key="none", webhook_secret=format_secret(KEY))
    event = client.webhooks.unwrap(BODY.decode(), headers())
    assert event.type == "video.completed"
    assert event.data.id == "video_1"


def test_the_published_example_of_the_standard():
    # From the test suite of standard-webhooks/standard-webhooks (libraries/python/tests).
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1_614_265_330, UTC)
    signed = sign([key], event_id="msg_p5jXN8AQM9LWM0D4loKWxJek", at=at, body=b'{"test": 2432232314}')
    assert signed == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_nothing_goes_out_unsigned_or_ambiguous():
    with pytest.raises(ValueError, match="at least one secret"):
        sign([], event_id="evt_1", at=local_now(), body=BODY)
    with pytest.raises(ValueError, match="full stop"):
        sign([KEY], event_id="evt.1", at=local_now(), body=BODY)
    with pytest.raises(ValueError, match="zone"):
        sign([KEY], event_id="evt_1", at=datetime(2026, 4, 27), body=BODY)
    with pytest.raises(ValueError, match="24 to 64"):
        format_secret(b"short")
