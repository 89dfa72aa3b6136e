"""Sign deliveries by Standard Webhooks 1.0: symmetric signatures v1, one for each valid secret.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
The signed text is `{id}.{timestamp}.{body}` over the exact bytes sent; a signature is the base64 of its HMAC-SHA256.
"""

import base64
import hmac
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"


def format_secret(key: bytes) -> str:
    """Format a key as customers see it: `whsec_` and its base64. Raises ValueError unless it has 24 to 64 bytes."""
    if not 24 <= len(key) <= 64:
        raise ValueError("a webhook secret has 24 to 64 bytes")
    return PREFIX + base64.b64encode(key).decode()


def sign(keys: Sequence[bytes], *, event_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers of one attempt at `at` (aware): the id stays the same over retries, the time differs.

    `keys` has the current secret first; during a rotation the older ones follow, so that receivers with either accept.
    Raises ValueError when there is no key, the id contains a full stop, or `at` has no time zone.
    """
    if not keys:
        raise ValueError("a delivery is signed with at least one secret")
    if "." in event_id or at.tzinfo is None:
        raise ValueError("an event id must not contain a full stop, and `at` needs a time zone")
    timestamp = str(int(at.timestamp()))
    signed = f"{event_id}.{timestamp}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
