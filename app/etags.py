"""ETags of RFC 9110: whether a client has what it asks for."""


def matches_etag(condition: str, etag: str) -> bool:
    """Return whether an If-None-Match header names an ETag, by the weak comparison of RFC 9110."""
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return "*" in tags or etag.removeprefix("W/") in tags
