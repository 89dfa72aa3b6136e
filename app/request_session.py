"""The database session of a request, as the routes of the API and of the pages declare it."""

from typing import Annotated

from fastapi import Depends
from sqlalchemy.orm import Session

from app.db import get_session

# Scope "function": the session is committed and closed before the response is sent.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]
