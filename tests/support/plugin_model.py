"""A plug-in as a user writes it, in a file outside of the project, and a model that is made of it."""

from __future__ import annotations

from pathlib import Path

import yaml
from small_models import save_seeded

from models import build_model, load_config
from service.plugins import import_plugins

PLUGIN = '''
"""A backbone of one convolution, and RoI heads that are sure of all that they find."""

from torch import nn
from torch.nn import functional as F

from models import BACKBONE_REGISTRY, ROI_HEADS_REGISTRY, Backbone, ShapeSpec, StandardROIHeads


@BACKBONE_REGISTRY.register()
class PluginBackbone(Backbone):
    def __init__(self, cfg, input_shape):
        super().__init__()
        self.conv = nn.Conv2d(input_shape.channels, cfg.MODEL.MY_BACKBONE.CHANNELS, 8, stride=8)

    def forward(self, x):
        return {"mine": F.relu(self.conv(x))}

    def output_shape(self):
        return {"mine": ShapeSpec(channels=self.conv.out_channels, stride=8)}

    @property
    def size_divisibility(self):
        return 8


@ROI_HEADS_REGISTRY.register()
class PluginROIHeads(StandardROIHeads):
    def forward(self, images, features, proposals, targets=None):
        instances, losses = super().forward(images, features, proposals, targets)
        for found in instances:
            found.scores = found.scores * 0 + 0.875
        return instances, losses
'''

CONFIG = {
    "VERSION": 2,
    "INPUT": {"MIN_SIZE_TEST": 96, "MAX_SIZE_TEST": 160},
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "WEIGHTS": "",
        "PIXEL_STD": [60.0, 60.0, 60.0],
        "BACKBONE": {"NAME": "PluginBackbone"},
        "MY_BACKBONE": {"CHANNELS": 16},
        "ANCHOR_GENERATOR": {"SIZES": [[32]]},
        "RPN": {"IN_FEATURES": ["mine"], "POST_NMS_TOPK_TEST": 30},
        "ROI_HEADS": {
            "NAME": "PluginROIHeads",
            "IN_FEATURES": ["mine"],
            "NUM_CLASSES": 3,
            "SCORE_THRESH_TEST": 0.05,
        },
        "ROI_BOX_HEAD": {
            "NAME": "FastRCNNConvFCHead",
            "NUM_FC": 1,
            "FC_DIM": 32,
            "POOLER_RESOLUTION": 7,
        },
    },
}
SCORE = 0.875
"""What the plug-in's heads say of everything."""


def write_plugin_model(folder: Path) -> tuple[Path, Path, Path]:
    """Write the plug-in, a config that names its parts, and seeded weights."""
    plugin, config, weights = (folder / n for n in ("my_plugin.py", "config.yaml", "model.pth"))
    plugin.write_text(PLUGIN)
    config.write_text(yaml.safe_dump(CONFIG))
    import_plugins([plugin])
    save_seeded(build_model(load_config(config)), weights)
    return plugin, config, weights
