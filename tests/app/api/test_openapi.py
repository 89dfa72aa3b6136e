"""The API against its own document: every response is as documented, and none is a 500."""

import threading
from collections.abc import Iterator

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS
from schemathesis.config import HealthCheck as AnyHealth
from schemathesis.engine import events, from_schema
from schemathesis.schemas import APIOperation
from schemathesis.wfc.auth import AuthenticationInfo, Header
from schemathesis.wfc.converter import wfc_to_auth_provider
from schemathesis.wfc.escalation import EscalatingAuthProvider

from app.accounts.keys import issue_key
from app.api.application import create_app
from app.cli.ports import free_port
from app.db import transaction
from app.roles import Role
from app.settings import get_settings
from tests.api_client import World

pytestmark = [pytest.mark.deep, pytest.mark.timeout(1500), pytest.mark.filterwarnings("ignore")]

schema = schemathesis.openapi.from_dict(create_app().openapi()).include(path_regex=r"^/(v1|v4|api|replicate)/")
# No crash, no status and no content type that the document does not name, and no access without the key.
CHECKED = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "ignored_auth"]
# Nobody reads another's objects, deleted objects are gone, and created objects exist.
CHECKED_IN_CHAINS = ["object_level_authorization", "use_after_free", "ensure_resource_availability"]
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
    """A key with every admin role."""
    with transaction() as session:
        return issue_key(session, world.alice_id, scopes=["admin"], roles=list(Role))[1]


def bearer(case: schemathesis.Case, world: World, admin: str) -> dict[str, str]:
    """The header of the one who uses this operation: the admin key, or a customer's."""
    return {"Authorization": f"Bearer {admin if case.path.startswith('/v1/admin') else world.alice}"}


# A stream of events ends with its video, and so does a call that waits for it; no worker makes one here.
# Schemathesis's own parametrization gives all operations one id, of which processes that share the work run only one.
OPERATIONS: dict[str, APIOperation] = {
    operation.label: operation
    for operation in (result.ok() for result in schema.exclude(path_regex="(events|sync)$").get_all_operations())
}


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_in_the_document(label: str, world: World, admin: str, base_url: str) -> None:
    @given(OPERATIONS[label].as_strategy())
    @settings(max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=HEALTH)
    def every_answer(case: schemathesis.Case) -> None:
        answer = case.call(base_url=base_url, headers=bearer(case, world, admin))
        case.validate_response(answer, checks=CHECKS.get_by_names(CHECKED))

    every_answer()


def test_chains_of_calls_keep_to_the_document_and_to_their_tenant(world: World, admin: str, base_url: str) -> None:
    """Chains of calls: values of one response, mostly ids, are used in the next call, also by another customer.

    The chains run in Schemathesis's own engine: Hypothesis alone calls a test flaky whose second run differs, and a
    server that invents ids and remembers what came before never answers twice the same. Two customers are peers, who
    must not see each other's things; what both are refused is called with the admin key.
    """
    chained = schemathesis.openapi.from_dict(create_app().openapi())
    chained = chained.include(path_regex=r"^/(v1|v4|api|replicate)/").exclude(path_regex="events$")
    config = chained.config
    config.update(base_url=base_url, suppress_health_check=[AnyHealth.all])
    config.seed = 1
    config.phases.update(phases=["stateful"])
    config.phases.stateful.max_steps = 10
    config.phases.stateful.generation.update(max_examples=120)
    config.checks.update(included_check_names=[*CHECKED, *CHECKED_IN_CHAINS])
    keys = {"alice": world.alice, "bob": world.bob, "admin": admin}
    users = [
        AuthenticationInfo(name, fixed_headers=[Header("Authorization", f"Bearer {key}")]) for name, key in keys.items()
    ]
    provider = EscalatingAuthProvider([wfc_to_auth_provider(each) for each in users], [*keys], peers=("alice", "bob"))
    chained.auth.providers.append(provider)
    called: set[tuple[str, str]] = set()
    faults: list[str] = []
    for event in from_schema(chained).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            faults.append(str(event))
        if isinstance(event, events.ScenarioFinished):
            called.update((node.value.method, node.value.operation.path) for node in event.recorder.cases.values())
            for checks in event.recorder.checks.values():
                faults.extend(str(check.failure_info.failure) for check in checks if check.failure_info)
    assert not faults
    assert ("POST", "/v1/videos") in called
    assert len(called) > 30
