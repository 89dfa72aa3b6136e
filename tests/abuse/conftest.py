"""The site of the page tests, for tests that act as a stranger and as a customer."""

from tests.app.web.conftest import site as site
