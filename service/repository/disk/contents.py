"""Whether the files of a version make a model, found out without serving it and without running
anything that they hold."""

from __future__ import annotations

import torch

from models.architectures import build_model
from models.checkpoints import read_checkpoint
from models.checkpoints.inspection import inspect_config
from models.checkpoints.loading import check_fit
from models.checkpoints.torchvision_files import detect_torchvision
from models.config import Config, load_config
from models.config.class_keys import main_classes_key, stuff_classes_key
from models.errors import ConfigError
from models.evaluation.golden_answers import GoldenAnswers
from service.repository.disk.folder import VersionFolder
from service.repository.labels import ClassNames
from service.repository.model_settings import ModelSettings
from service.repository.sidecars import with_sidecars


def check_contents(version: VersionFolder) -> None:
    """Read the weights with the restricted readers and hold them against the config, and so the names.

    Golden answers are read, not tried. The model is built without memory for its weights.

    Raises:
        ModelError: a file cannot be read, is not safe, or does not fit the others.
        VersionProblem: there is not exactly one weights file.
    """
    weights = version.weights
    settings = ModelSettings.read(version.model_yaml) if version.model_yaml else ModelSettings()
    checkpoint = read_checkpoint(weights)
    if version.config is not None and settings.zoo_model is not None:
        raise ConfigError(
            "The version has a config.yaml, and its model.yaml names a model of the zoo; a model has "
            "one config."
        )
    if version.config is not None:
        cfg = load_config(version.config, root=version.root)
    elif settings.zoo_model is not None:
        cfg = settings.zoo_model.config()
    else:
        known = detect_torchvision(checkpoint.state_dict)
        if known is None:
            raise ConfigError(
                f"{weights.name} needs a config: config.yaml, or zoo in model.yaml. Only weights of "
                "torchvision's own detectors do without."
            )
        cfg = known.config()
    with torch.device("meta"):
        model = build_model(cfg)
    check_fit(model, checkpoint, weights.name)
    if version.golden is not None:
        GoldenAnswers.load(version.path)
    _check_names(version, settings, cfg)


def _check_names(version: VersionFolder, settings: ModelSettings, cfg: Config) -> None:
    facts = inspect_config(cfg)
    semantic = facts.num_classes is None
    # A proposal network has no classes, and then there is nothing to name.
    num_classes = facts.num_stuff_classes if semantic else facts.num_classes
    if num_classes is not None and (version.labels is not None or settings.class_names is not None):
        ClassNames.find(
            version.labels,
            config=version.config,
            num_classes=num_classes,
            settings=settings.class_names,
            key=main_classes_key(cfg),
        )
    with_sidecars(
        None,
        version.path,
        num_stuff_classes=0 if semantic else facts.num_stuff_classes or 0,
        num_keypoints=facts.num_keypoints or 0,
        root=version.root,
        stuff_key=stuff_classes_key(cfg),
    )
