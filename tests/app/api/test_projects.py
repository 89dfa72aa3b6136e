"""Two projects of one account, each with a key of its own: neither can reach the other's objects."""

import io
from typing import Any

import pytest
from PIL import Image

from app.accounts.keys import issue_key
from app.accounts.projects import archive_project, create_project
from app.db import transaction
from tests.api_client import SCOPES, World

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


@pytest.fixture
def projects(world: World) -> dict[str, str]:
    """The key of each of Alice's projects, by the project's id."""
    with transaction() as session:
        ids = [create_project(session, world.alice_id, name).id for name in ("east", "west")]
        return {each: issue_key(session, world.alice_id, scopes=SCOPES, project_id=each)[1] for each in ids}


def upload(world: World, key: str) -> str:
    file = io.BytesIO()
    Image.new("RGB", (320, 200), (10, 120, 200)).save(file, "PNG")
    answer = world.post("/v1/assets", key=key, files={"file": ("a.png", file.getvalue(), "image/png")})
    assert answer.status_code == 200, answer.text
    asset: str = answer.json()["id"]
    return asset


def listed(world: World, key: str) -> list[str]:
    return [each["id"] for each in world.get("/v1/assets", key=key).json()["data"]]


def test_a_projects_assets_are_its_own(world: World, projects: dict[str, str]) -> None:
    east, west = projects.values()
    asset = upload(world, east)
    order: dict[str, Any] = {**ORDER, "first_frame": asset}
    assert world.post("/v1/videos", order, key=east).json()["resolved"]["mode"] == "i2v"
    for stranger in (west, world.test_key, world.bob):
        assert listed(world, stranger) == []
        refused = world.post("/v1/videos", order, key=stranger)
        assert (refused.status_code, refused.json()["field"]) == (404, "first_frame")
        assert world.get(f"/v1/assets/{asset}", key=stranger).status_code == 404
        assert world.delete(f"/v1/assets/{asset}", key=stranger).status_code == 404
        after = world.get("/v1/assets", key=stranger, params={"after": asset})
        assert (after.status_code, after.json()["field"]) == (422, "after")
    of_test = upload(world, world.test_key)
    assert listed(world, world.alice) == listed(world, east) == [asset], "the account sees its projects' assets"
    assert listed(world, world.test_key) == [of_test]


def test_an_archived_project_takes_no_more_orders_from_its_own_keys(world: World, projects: dict[str, str]) -> None:
    (east, key), (_, other) = projects.items()
    assert world.post("/v1/videos", ORDER, key=key).status_code == 200
    with transaction() as session:
        archive_project(session, world.alice_id, east)
    refused = world.post("/v1/videos", ORDER, key=key)
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (409, "conflict", "project")
    assert "archived" in refused.json()["detail"]
    assert world.post("/v1/videos", ORDER, key=other).status_code == 200


def test_no_call_is_answered_with_another_projects_film(world: World, projects: dict[str, str]) -> None:
    east, west = projects.values()
    quote = world.post("/v1/videos/quotes", ORDER, key=east).json()
    order = {**ORDER, "quote_id": quote["id"]}
    film = world.post("/v1/videos", order, key=east).json()
    assert world.post("/v1/videos", order, key=east).json()["id"] == film["id"]
    assert world.post("/v1/videos", order, key=world.alice).json()["id"] == film["id"]
    response = world.post("/v1/videos", order, key=west)
    assert response.status_code in (404, 422), response.text
    assert film["id"] not in response.text
    world.work()
    sold = world.get(f"/v1/videos/{film['id']}/content", key=east).content

    def extend(key: str) -> Any:
        fields = {"prompt": "and on", "seconds": "1"}
        return world.post("/v1/videos/extensions", key=key, data=fields, files={"video": ("a.mp4", sold, "video/mp4")})

    assert extend(east).json()["parent"]["id"] == film["id"]
    refused = extend(west)
    assert (refused.status_code, refused.json()["field"]) == (422, "video")
