"""What is declared of uploads: with the file, with the order, or by an owner for all; a likeness forces a label."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from app.accounts.accounts import declare_rights, require_declarations
from app.assets.tables import Asset
from app.db import transaction
from app.jobs.spec import Spec
from app.jobs.tables import Job
from tests.api_client import World

pytestmark = pytest.mark.xdist_group("service")

RIGHTS = {"rights": True}
LIKENESS = {"rights": True, "likeness": True, "consent": True}


def picture(color: str = "red") -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", (832, 480), color).save(drawn, "PNG")
    return drawn.getvalue()


def upload(world: World, **fields: str) -> Any:
    form = {f"declaration[{name}]": (None, value) for name, value in fields.items()}
    return world.post("/v1/assets", files={"file": ("a.png", picture(), "image/png"), **form})


def order(world: World, **fields: object) -> Any:
    values = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
    return world.post("/v1/videos", values | fields)


def declaration_of(asset_id: str) -> Any:
    with transaction() as session:
        return session.get_one(Asset, asset_id).declaration


def spec_of(film_id: str) -> Spec:
    with transaction() as session:
        return Spec.model_validate(session.get_one(Job, film_id).spec)


def test_a_declaration_is_stored_with_the_file_on_every_way_in(world: World) -> None:
    plain, declared = upload(world).json(), upload(world, rights="true").json()
    assert (plain["declaration"], declared["declaration"]["rights"]) == (None, True)
    sent = {"filename": "a.png", "content_type": "image/png", "bytes": 100, "declaration": LIKENESS}
    assert world.post("/v1/assets/uploads", sent).json()["declaration"] == LIKENESS
    for wrong, field in (({"rights": False}, "rights"), ({"rights": True, "likeness": True}, "consent")):
        refused = world.post("/v1/assets/uploads", sent | {"declaration": wrong})
        assert (refused.status_code, refused.json()["field"]) == (422, f"declaration.{field}"), refused.text
        assert refused.json()["allowed"] == [True]
    assert order(world, first_frame=plain["id"], declaration=RIGHTS).status_code == 200
    assert declaration_of(plain["id"]) == RIGHTS, "an order declares its files"


def test_a_film_made_with_a_declared_likeness_shows_a_label(world: World) -> None:
    asset = upload(world, rights="true", likeness="true", consent="true").json()["id"]
    films = [order(world, first_frame=asset), order(world)]
    specs = [spec_of(answer.json()["id"]) for answer in films]
    assert [(spec.deepfake, str(spec.visible_label)) for spec in specs] == [(True, "corner_sign"), (False, "none")]
    quiet = upload(world).json()["id"]
    later = order(world, first_frame=quiet, declaration=LIKENESS)
    assert later.json()["resolved"]["deepfake"] is True
    assert declaration_of(quiet) == LIKENESS
    order(world, first_frame=quiet, declaration=RIGHTS)
    assert declaration_of(quiet) == LIKENESS, "a likeness is not taken back by another order"


def test_a_quote_neither_bypasses_a_likeness_nor_is_lost_by_it(world: World) -> None:
    body = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}

    def quoted(asset_id: str, **fields: object) -> Any:
        quote = world.post("/v1/videos/quotes", body | {"first_frame": asset_id})
        return order(world, first_frame=asset_id, quote_id=quote.json()["id"], **fields)

    refused = quoted(upload(world).json()["id"], declaration=LIKENESS)
    assert (refused.status_code, refused.json()["code"], refused.json()["differs"]) == (
        422,
        "quote_mismatch",
        ["deepfake"],
    ), refused.text
    shown = upload(world, rights="true", likeness="true", consent="true").json()["id"]
    answer = quoted(shown)
    assert answer.status_code == 200, answer.text
    spec = spec_of(answer.json()["id"])
    assert (spec.deepfake, str(spec.visible_label)) == (True, "corner_sign")
    # Whoever declares only later that files have to be declared finds the quotes of before.
    undeclared = upload(world).json()["id"]
    quote_id = world.post("/v1/videos/quotes", body | {"first_frame": undeclared}).json()["id"]
    with transaction() as session:
        require_declarations(session, world.alice_id, True)
    assert order(world, first_frame=undeclared, quote_id=quote_id).json()["field"] == "declaration"


def test_a_remix_reads_only_declared_files_too(world: World) -> None:
    asset = upload(world).json()["id"]
    film = order(world, first_frame=asset).json()["id"]
    world.work()
    with transaction() as session:
        require_declarations(session, world.alice_id, True)
    refused = world.post(f"/v1/videos/{film}/remix", {"prompt": "more bars"})
    assert (refused.status_code, refused.json()["field"]) == (422, "declaration"), refused.text
    with transaction() as session:
        declare_rights(session, world.alice_id, "member_owner")
    assert world.post(f"/v1/videos/{film}/remix", {"prompt": "more bars"}).status_code == 200


def test_an_account_may_have_to_declare_its_files(world: World) -> None:
    before = upload(world).json()["id"]
    with transaction() as session:
        require_declarations(session, world.alice_id, True)
    for refused in (upload(world), order(world, first_frame=before)):
        problem = refused.json()
        assert (refused.status_code, problem["field"], problem["allowed"]) == (422, "declaration", [RIGHTS]), problem
    assert upload(world, rights="true").status_code == 200
    assert order(world).status_code == 200, "nothing is uploaded"
    assert order(world, first_frame=before, declaration=RIGHTS).status_code == 200
    assert order(world, first_frame=before).status_code == 200, "it is declared now"


def test_clients_that_cannot_declare_go_on_by_the_owners_declaration(world: World) -> None:
    with transaction() as session:
        require_declarations(session, world.alice_id, True)
    form = {"model": "synthetic", "prompt": "bars", "seconds": "1", "size": "832x480"}
    files: dict[str, Any] = {name: (None, value) for name, value in form.items()}
    files["input_reference"] = ("a.png", picture(), "image/png")
    task = {
        "model": "synthetic",
        "input": {"prompt": "bars", "img_url": f"data:image/png;base64,{PIXELS}"},
        "parameters": {"duration": 1, "resolution": "480P"},
    }
    path = "/api/v1/services/aigc/video-generation/video-synthesis"

    def statuses() -> list[int]:
        answers = [
            world.post("/v1/videos", files=files),
            world.post(path, task, headers={"X-DashScope-Async": "enable"}),
        ]
        return [answer.status_code for answer in answers]

    assert all(status >= 400 for status in statuses())
    with transaction() as session:
        declare_rights(session, world.alice_id, "member_owner")
    assert statuses() == [200, 200]
    assert upload(world).status_code == 200


PIXELS = base64.b64encode(picture("blue")).decode()
