"""Give errors of an order the field names that the caller used: `parameters.duration`, not `seconds`."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from app.api.problems import from_validation
from app.errors import AppError


@contextmanager
def caller_field_names(names: dict[str, str]) -> Iterator[None]:
    """Rename the fields of errors inside the block to the caller's names.

    `names` maps each native field that the order sets to the caller's name.
    """
    try:
        yield
    except ValidationError as error:
        raise _renamed(from_validation(error.errors()), names) from error
    except AppError as error:
        raise _renamed(error, names) from error


def _renamed(error: AppError, names: dict[str, str]) -> AppError:
    name = names.get(error.field or "")
    if name is None:
        return error
    message = error.message.replace(f"{error.field}:", f"{name}:", 1)
    facts = {key: value for key, value in error.facts.items() if key != "errors"}
    return AppError(error.code, message, field=name, **facts)
