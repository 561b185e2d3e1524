"""Words of the section "Review"."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.scene.review import Choice
from AmbiguousSegLib.evaluation.review import CHANGED, DELETED, MODE, Reviewed

REVIEWER = "AmbiguousSeg/Reviewer"  # in the application's settings


def default_reviewer() -> str:
    """Who was entered last on this computer; else the user of Slicer's settings."""
    entered = qt.QSettings().value(REVIEWER, "")
    return entered or slicer.app.applicationLogic().GetUserInformation().GetName() or ""


def title_of(choice: Choice) -> str:
    """What a choice is called."""
    if choice.kind == MODE:
        text = _("mode {mode}, {share} % of the samples: {mask}")
        return text.format(mode=choice.mode, share=f"{100 * choice.share:.0f}", mask=choice.mask)
    return choice.mask


def accepted_text(reviewed: Reviewed) -> str:
    """What was accepted, and whether it is still that."""
    if (decision := reviewed.decision) is None:
        return ""
    texts = {CHANGED: _("{mask} (changed since)"), DELETED: _("{mask} (deleted since)")}
    mask = decision.mask
    if decision.mode is not None:
        mask = _("mode {mode}, {mask}").format(mode=decision.mode, mask=mask)
    return texts.get(reviewed.state, "{mask}").format(mask=mask)
