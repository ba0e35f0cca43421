"""``detserve models``: the versions in a model repository, on its folder or through a running server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Never

import typer

models = typer.Typer(
    name="models",
    help="List, add, promote, roll back and remove versions: in a folder (--root) or on a server (--url).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="Its name.", show_default=False)]
_Root = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the repository; default: DETSERVE_REPOSITORY.", show_default=False
    ),
]
_Url = Annotated[
    str | None, typer.Option(help="A running server instead, such as http://127.0.0.1:8000.")
]
_Token = Annotated[
    str | None,
    typer.Option(
        help="Its admin token; default: DETSERVE_ADMIN_TOKEN, which no process list shows."
    ),
]


@models.command(name="list")
def list_command(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Only this one.", show_default=False)
    ] = None,
    root: _Root = None,
    url: _Url = None,
    token: _Token = None,
    json: Annotated[bool, typer.Option("--json", help="Answer with JSON.")] = False,
) -> None:
    """Show all versions, which is current, and why one is not complete."""
    if url is not None:
        _exit_unless_one(root)
        from service.cli import models_online as online

        raise typer.Exit(
            online.told(
                url, _token(token), lambda client: online.list_models(client, model, as_json=json)
            )
        )
    from service.cli import models_offline as offline

    raise typer.Exit(offline.list_models(_root(root), model, as_json=json))


@models.command()
def add(
    model: _Model,
    version: Annotated[
        str | None,
        typer.Argument(metavar="[VERSION]", help="Its name; default: the next number."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Checkpoint. Without it the folder MODEL/VERSION is sealed as it is."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Detectron2 config; not for torchvision's own detectors.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Class names, one a line; default: labels.txt beside the config."),
    ] = None,
    model_yaml: Annotated[Path | None, typer.Option(help="Defaults of the version.")] = None,
    golden: Annotated[
        Path | None,
        typer.Option(help="golden.json; its pictures are in the folder golden beside it."),
    ] = None,
    plugins: Annotated[
        list[Path] | None,
        typer.Option("--import", help="Python files of yours that register components."),
    ] = None,
    root: _Root = None,
    url: _Url = None,
    token: _Token = None,
) -> None:
    """Copy or upload files into a new version, checked and hashed; it takes no traffic yet."""
    from service.cli import models_offline as offline

    files = offline.NewVersion(weights, config, labels, model_yaml, golden)
    if weights is None and files.given:
        _wrong_use("--weights is missing: a version is made of it and of the other files.")
    files = files.with_sidecars()
    if url is not None:
        _exit_unless_one(root)
        if weights is None:
            _wrong_use("--weights is missing: there is no folder to seal on a server.")
        if plugins:
            _wrong_use("--import is for --root; a server has its own.")
        from service.cli import models_online as online

        raise typer.Exit(
            online.told(
                url, _token(token), lambda client: online.add(client, model, version, files)
            )
        )
    if weights is None and version is None:
        _wrong_use("Name the version whose folder is to be sealed, or give --weights.")
    raise typer.Exit(offline.add(_root(root), model, version, files, plugins=plugins or ()))


@models.command()
def promote(
    model: _Model,
    version: Annotated[
        str,
        typer.Argument(help="Version, alias, or latest.", metavar="VERSION", show_default=False),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(help="Gate: a COCO annotation file, on the server under its model root."),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Folder of its pictures, on the server; default: beside it.")
    ] = None,
    min_ap: Annotated[
        float | None, typer.Option(min=0, max=100, help="Gate: the least AP, 0 to 100.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0, max=100, help="Gate: AP points that it may lose against the current one."
        ),
    ] = None,
    no_gate: Annotated[
        bool, typer.Option("--no-gate", help="Without the gate in the version's model.yaml.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Load and check it, and change nothing.")
    ] = False,
    allow_class_changes: Annotated[
        bool, typer.Option("--allow-class-changes", help="Class ids may change their meaning.")
    ] = False,
    strategy: Annotated[
        str | None,
        typer.Option(help="side_by_side, or in_place where two versions do not fit the memory."),
    ] = None,
    root: _Root = None,
    url: _Url = None,
    token: _Token = None,
) -> None:
    """Make a version current: a server loads and checks it first; a folder just records it."""
    gate = {"images": images, "min_ap": min_ap, "max_drop": max_drop}
    given = {key: value for key, value in gate.items() if value is not None}
    if given and dataset is None:
        _wrong_use("A gate needs --dataset.")
    if dataset is not None and no_gate:
        _wrong_use("--dataset and --no-gate exclude each other.")
    if strategy not in (None, "side_by_side", "in_place"):
        _wrong_use(f"--strategy is side_by_side or in_place, not {strategy!r}.")
    options: dict[str, Any] = {}
    if dataset is not None:
        options["gate"] = {"dataset": dataset, **given}
    elif no_gate:
        options["gate"] = False
    options |= {
        key: value
        for key, value in (
            ("dry_run", dry_run),
            ("allow_class_changes", allow_class_changes),
            ("strategy", strategy),
        )
        if value
    }
    if url is not None:
        _exit_unless_one(root)
        from service.cli import models_online as online

        raise typer.Exit(
            online.told(
                url, _token(token), lambda client: online.promote(client, model, version, options)
            )
        )
    if options:
        _wrong_use("Gates, --dry-run and the like need a server that loads the version: --url.")
    from service.cli import models_offline as offline

    raise typer.Exit(offline.promote_version(_root(root), model, version))


@models.command()
def rollback(model: _Model, root: _Root = None, url: _Url = None, token: _Token = None) -> None:
    """Make the previous version current again."""
    if url is not None:
        _exit_unless_one(root)
        from service.cli import models_online as online

        raise typer.Exit(
            online.told(url, _token(token), lambda client: online.go_back(client, model))
        )
    from service.cli import models_offline as offline

    raise typer.Exit(offline.go_back(_root(root), model))


@models.command()
def remove(
    model: _Model,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="Its name.", show_default=False)
    ],
    root: _Root = None,
    url: _Url = None,
    token: _Token = None,
) -> None:
    """Delete a version that is not current and has no alias."""
    if url is not None:
        _exit_unless_one(root)
        from service.cli import models_online as online

        raise typer.Exit(
            online.told(url, _token(token), lambda client: online.remove(client, model, version))
        )
    from service.cli import models_offline as offline

    raise typer.Exit(offline.remove(_root(root), model, version))


def _root(root: Path | None) -> Path:
    given = root or os.environ.get("DETSERVE_REPOSITORY")
    if not given:
        _wrong_use("Name the folder with --root (or DETSERVE_REPOSITORY), or a server with --url.")
    return Path(given)


def _exit_unless_one(root: Path | None) -> None:
    if root is not None:
        _wrong_use("--root and --url exclude each other: a folder, or a server.")


def _token(token: str | None) -> str | None:
    return token or os.environ.get("DETSERVE_ADMIN_TOKEN")


def _wrong_use(message: str) -> Never:
    from service.cli.models_tables import fail

    raise typer.Exit(fail(message, 2))
