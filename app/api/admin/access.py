"""Callers of the admin interface: keys with the scope `admin` and an admin role."""

from typing import Annotated

from fastapi import Depends, Query

from app.accounts.caller import Caller
from app.admin.moderation import MODERATORS
from app.api.access import needs
from app.roles import ADMIN_ROLES, Role, Scope

# Any admin role may read; each action requires its own role.
AdminCaller = Annotated[Caller, Depends(needs(Scope.ADMIN, *sorted(ADMIN_ROLES)))]
AuthorCaller = Annotated[Caller, Depends(needs(Scope.ADMIN, Role.PRICING_AUTHOR))]
ApproverCaller = Annotated[Caller, Depends(needs(Scope.ADMIN, Role.PRICING_APPROVER))]
PricingCaller = Annotated[Caller, Depends(needs(Scope.ADMIN, Role.PRICING_AUTHOR, Role.PRICING_APPROVER))]
OperatorCaller = Annotated[Caller, Depends(needs(Scope.ADMIN, Role.OPERATOR))]
ModeratorCaller = Annotated[Caller, Depends(needs(Scope.ADMIN, *MODERATORS))]

After = Annotated[str | None, Query(max_length=64, description="Id of the last item of the previous page.")]
Limit = Annotated[int, Query(ge=1, le=100)]
