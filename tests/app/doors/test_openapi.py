"""The API against its own document: whatever is sent, it answers as the document says, and never with a 500."""

import threading
from collections.abc import Iterator

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS

from app.cli.ports import free_port
from app.doors.api import create_app
from app.settings import get_settings
from tests.world import World

pytestmark = [pytest.mark.deep, pytest.mark.timeout(1500), pytest.mark.filterwarnings("ignore")]

schema = schemathesis.openapi.from_dict(create_app().openapi())
# No crash, no status and no content type that the document does not name, and no access without the key.
ASKED = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "ignored_auth"]


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


@schema.include(path_regex=r"^/(v1|api)/").exclude(path_regex="events$").parametrize()
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_every_answer_is_in_the_document(case: schemathesis.Case, world: World, base_url: str) -> None:
    answer = case.call(base_url=base_url, headers={"Authorization": f"Bearer {world.alice}"})
    case.validate_response(answer, checks=CHECKS.get_by_names(ASKED))
