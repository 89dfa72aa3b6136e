"""The API against its own document: whatever is sent, it answers as the document says, and never with a 500."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS

from app.accounts.keys import issue_key
from app.cli.ports import free_port
from app.db import transaction
from app.doors.api import create_app
from app.roles import Role
from app.settings import get_settings
from tests.world import World

pytestmark = [pytest.mark.deep, pytest.mark.timeout(1500), pytest.mark.filterwarnings("ignore")]

schema = schemathesis.openapi.from_dict(create_app().openapi()).include(path_regex=r"^/(v1|api)/")
# No crash, no status and no content type that the document does not name, and no access without the key.
ASKED = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "ignored_auth"]
HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]


@pytest.fixture
def base_url(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The API on a port, without Redis: rate limits fail open, so that every answer is about what was sent."""
    monkeypatch.setenv("CINEMETER_REDIS_URL", "redis://127.0.0.1:9/0")
    get_settings.cache_clear()
    port = free_port(0, "127.0.0.1")
    server = uvicorn.Server(uvicorn.Config(create_app(), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(timeout=0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def admin(world: World) -> str:
    """A key that may do everything in the house."""
    with transaction() as session:
        return issue_key(session, world.alice_id, scopes=["admin"], roles=list(Role))[1]


def bearer(case: schemathesis.Case, world: World, admin: str) -> dict[str, str]:
    """The header of the one who uses this operation: the house's own key, or a customer's."""
    return {"Authorization": f"Bearer {admin if case.path.startswith('/v1/admin') else world.alice}"}


# A stream of events ends with its video, which no worker makes here.
@schema.exclude(path_regex="events$").parametrize()
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=HEALTH)
def test_every_answer_is_in_the_document(case: schemathesis.Case, world: World, admin: str, base_url: str) -> None:
    answer = case.call(base_url=base_url, headers=bearer(case, world, admin))
    case.validate_response(answer, checks=CHECKS.get_by_names(ASKED))


def test_every_answer_is_in_the_document_whatever_came_before(world: World, admin: str, base_url: str) -> None:
    """Chains of calls: what one answer names, an id above all, is used in the next call."""
    machine = schema.exclude(path_regex="events$").as_state_machine()

    class Customers(machine):  # type: ignore[misc, valid-type]
        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            return {"base_url": base_url, "headers": bearer(case, world, admin)}

        def validate_response(self, response: Any, case: schemathesis.Case, *_: object, **__: object) -> None:
            called.add((case.method, case.operation.path))
            # An admin may have paused the intake before, which is a 503 that the document names.
            paused = response.status_code == 503 and response.json()["code"] == "intake_paused"
            asked = [name for name in ASKED if not (paused and name == "not_a_server_error")]
            case.validate_response(response, checks=CHECKS.get_by_names(asked))

    called: set[tuple[str, str]] = set()
    Customers.run(
        settings=settings(
            max_examples=120,
            stateful_step_count=10,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
    )
    assert ("POST", "/v1/videos") in called
    assert len(called) > 40
