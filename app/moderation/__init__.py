"""Moderation: what must not be made is refused before it is ordered, and each outcome is recorded."""
