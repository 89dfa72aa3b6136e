"""Which visible label a film shows: fixed with its order, by the account's policy and by what the order declares."""

from app.accounts.tables import Account
from app.errors import AppError
from app.jobs.spec import Spec
from app.provenance.label_policy import LABEL_TITLES, VisibleLabel
from app.settings import get_settings


def policy_of(account: Account) -> VisibleLabel:
    """Return the label of an account's films: its own, or else the setting's."""
    return VisibleLabel(account.visible_label or get_settings().visible_label)


def labelled(spec: Spec, account: Account) -> Spec:
    """Return a Spec with the visible label that a film of the account gets now; a deepfake always has one.

    Clips that are reused keep the label that was drawn into them. Raises AppError `conflict` where that is another one.
    """
    label = policy_of(account)
    if spec.deepfake and label is VisibleLabel.NONE:
        label = VisibleLabel.CORNER_SIGN
    if label is spec.visible_label:
        return spec
    if any(shot.reuse_clips for shot in spec.shots):
        message = (
            f"The clips of that film are labelled “{LABEL_TITLES[spec.visible_label]}”, and films of this account "
            f"“{LABEL_TITLES[label]}” now. They cannot be used again; order the film anew."
        )
        raise AppError("conflict", message, field="video", value=str(spec.visible_label), allowed=str(label))
    return spec.model_copy(update={"visible_label": label})
