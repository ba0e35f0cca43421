"""Whether a version can be in the shadow of another one."""

from __future__ import annotations

from service.errors import Unprocessable
from service.repository.version import ModelVersion


def check_comparable(current: ModelVersion, candidate: ModelVersion, share: float) -> None:
    """Raise :class:`Unprocessable` unless ``candidate`` can be in the shadow of ``current``.

    Raises:
        Unprocessable: ``invalid_option``: the share is not above 0 and at most 1; ``shadow_of_itself``;
            ``shadow_not_supported``: one of them finds no instances; ``tasks_differ``: of another kind.
    """
    if not 0 < share <= 1:
        raise Unprocessable(
            "invalid_option",
            f"share is {share:g}; it is above 0 and at most 1, such as 0.1.",
            option="share",
        )
    if candidate is current:
        raise Unprocessable(
            "shadow_of_itself",
            f"Version {candidate.label} is the current one of {candidate.model!r}; name another one.",
            version=candidate.label,
        )
    ours, theirs = current.detector.description, candidate.detector.description
    for version, description in ((current, ours), (candidate, theirs)):
        if "instances" not in description.outputs:
            raise Unprocessable(
                "shadow_not_supported",
                f"Version {version.label} gives {', '.join(description.outputs)}; a shadow compares "
                "instances, and these have none.",
                version=version.label,
                outputs=list(description.outputs),
            )
    kinds = [(one.box_mode, one.takes_proposals) for one in (ours, theirs)]
    if kinds[0] != kinds[1]:
        raise Unprocessable(
            "tasks_differ",
            f"Version {candidate.label} is of another kind than version {current.label}: "
            f"{_kind(*kinds[1])} instead of {_kind(*kinds[0])}. Their answers cannot be compared.",
            current=ours.task,
            candidate=theirs.task,
        )


def _kind(box_mode: str, takes_proposals: bool) -> str:
    return f"{box_mode} boxes" + (" out of proposals that it is given" if takes_proposals else "")
