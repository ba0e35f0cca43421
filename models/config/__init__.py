"""Detectron2-compatible YAML in, one frozen and typed config out."""

from models.config.config import Config
from models.config.loading import default_config, load_config

__all__ = ["Config", "default_config", "load_config"]
