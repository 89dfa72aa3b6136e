"""Response schemas of the event feed; webhooks send the same event, as its stored bytes."""

import json
from typing import Any, Literal

from pydantic import BaseModel, Field

from app.events.feed import EventPage
from app.events.tables import Event
from app.events.types import sample_data


class EventOut(BaseModel):
    """One event, as webhooks send it and the feed lists it."""

    id: str = Field(description="Also the webhook-id header of every delivery of this event.")
    object: Literal["event"]
    type: str
    created_at: int = Field(description="Unix seconds of the fact.")
    timestamp: str = Field(description="The same time, ISO 8601.")
    sequence: int | None = Field(None, description="Counts the events of one job from 1; a gap means a missed event.")
    data: dict[str, Any]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "id": "evt_4m2k9x8s7q1w5v3t6r0n4jhg",
                    "object": "event",
                    "type": "video.completed",
                    "created_at": 1777248000,
                    "timestamp": "2026-04-27T00:00:00.000Z",
                    "sequence": 3,
                    "data": sample_data("video.completed", "acct_sample"),
                }
            ]
        }
    }


class EventList(BaseModel):
    """A page of the feed, oldest first. Request the next one with `after=last_id`.

    A page can be empty and have more: `last_id` then is an event of another project, or of the other of test and live.
    """

    object: Literal["list"] = "list"
    data: list[EventOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


def show_event(event: Event) -> EventOut:
    """Return the API representation of an event: its stored body, parsed."""
    return EventOut.model_validate(json.loads(event.body))


def show_page(page: EventPage) -> EventList:
    """Return the API representation of a page of the feed."""
    events = [show_event(event) for event in page.events]
    first_id = events[0].id if events else None
    return EventList(data=events, first_id=first_id, last_id=page.cursor, has_more=page.has_more)
