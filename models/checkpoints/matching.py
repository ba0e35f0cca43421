"""The suffix rule: which of the model's tensors a file with shortened names means.

``res2.0.conv1.weight`` in a file is ``backbone.bottom_up.res2.0.conv1.weight`` in a model. Only files
that ask for it are matched so; every other file has the model's full names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from models.errors import CheckpointError

_MAX_LISTED = 20


def match_by_suffix(*, model: Collection[str], file: Collection[str]) -> dict[str, str]:
    """Names of the file -> names of the model.

    Each of the model's names takes the file's longest name that is equal to it or ends it after a
    dot. Names of the file that no tensor of the model takes are left out.

    Raises:
        CheckpointError: two of the model's tensors take the same one of the file; lists them.
    """
    given = frozenset(file)
    takers: dict[str, list[str]] = {}
    for name in model:
        found = next((suffix for suffix in _suffixes(name) if suffix in given), None)
        if found is not None:
            takers.setdefault(found, []).append(name)
    ambiguous = {name: sorted(names) for name, names in takers.items() if len(names) > 1}
    if ambiguous:
        listed = [
            f"  {name} could be {' or '.join(names)}" for name, names in sorted(ambiguous.items())
        ]
        if len(listed) > _MAX_LISTED:
            listed = [*listed[:_MAX_LISTED], f"  and {len(listed) - _MAX_LISTED} more"]
        raise CheckpointError(
            "The file's short names mean more than one tensor of this model; nothing was loaded.\n"
            + "\n".join(listed),
            ambiguous=ambiguous,
        )
    return {name: names[0] for name, names in takers.items()}


def _suffixes(name: str) -> Iterator[str]:
    """The name itself and what is left after each of its dots, longest first."""
    while name:
        yield name
        name = name.partition(".")[2]
