"""Reading weights files without running what is in them, and loading them strictly."""

from models.checkpoints.loading import LoadReport, load_checkpoint
from models.checkpoints.reading import Checkpoint, read_checkpoint, sha256_of

__all__ = ["Checkpoint", "LoadReport", "load_checkpoint", "read_checkpoint", "sha256_of"]
