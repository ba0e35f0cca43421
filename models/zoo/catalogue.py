"""The published models, a line each: the parts of the config, the file, Detectron2's own figures."""

from __future__ import annotations

from dataclasses import dataclass

from models.config import Config
from models.zoo.large_scale_jitter import large_scale_jitter_config
from models.zoo.presets import compose

_HOST = "https://dl.fbaipublicfiles.com/detectron2"


@dataclass(frozen=True)
class ZooModel:
    """One model of Detectron2's zoo.

    Attributes:
        name: as Detectron2 has it, without the ending, such as
            ``COCO-Detection/faster_rcnn_R_50_FPN_3x``.
        config_id: ``name`` with the ending of Detectron2's config.
        architecture: the meta-architecture.
        class_set: the data set whose classes the model knows; see
            :func:`models.metadata.dataset_metadata`.
        url: the published weights. CC BY-SA 3.0.
        parts: what the config is composed of; see :mod:`models.zoo.presets`.
        box_ap, mask_ap, keypoint_ap, panoptic_quality, proposal_recall: as published, in percent, on
            the validation part of the data set; None where there is no such figure.
    """

    name: str
    config_id: str
    architecture: str
    class_set: str
    url: str
    parts: tuple[str, ...]
    box_ap: float | None = None
    mask_ap: float | None = None
    keypoint_ap: float | None = None
    panoptic_quality: float | None = None
    proposal_recall: float | None = None

    @property
    def short_name(self) -> str:
        """``name`` without its folder; a few models share one."""
        return self.name.rsplit("/", 1)[1]

    @property
    def file_name(self) -> str:
        """Name of the published file."""
        return self.url.rsplit("/", 1)[1]

    @property
    def md5_prefix(self) -> str:
        """What the file's MD5 begins with: the file is named after it."""
        return self.file_name.rsplit("_", 1)[1].removesuffix(".pkl")

    def config(self) -> Config:
        """The complete config, as :func:`models.load_config` reads it from Detectron2's file."""
        if self.config_id.endswith(".py"):
            return large_scale_jitter_config(self.parts[0])
        return compose(self.parts)


# Folder: name, parts, model id and file, then figures: B box, M mask, K keypoint AP; Q panoptic
# quality; R recall of 1000 proposals.
_TABLE = """
COCO-Detection
faster_rcnn_R_50_C4_1x             c4              137257644 model_final_721ade B35.7
faster_rcnn_R_50_DC5_1x            dc5             137847829 model_final_51d356 B37.3
faster_rcnn_R_50_FPN_1x            fpn             137257794 model_final_b275ba B37.9
faster_rcnn_R_50_C4_3x             c4+3x           137849393 model_final_f97cb7 B38.4
faster_rcnn_R_50_DC5_3x            dc5+3x          137849425 model_final_68d202 B39.0
faster_rcnn_R_50_FPN_3x            fpn+3x          137849458 model_final_280758 B40.2
faster_rcnn_R_101_C4_3x            c4+r101+3x      138204752 model_final_298dad B41.1
faster_rcnn_R_101_DC5_3x           dc5+r101+3x     138204841 model_final_3e0943 B40.6
faster_rcnn_R_101_FPN_3x           fpn+r101+3x     137851257 model_final_f6e8b1 B42.0
faster_rcnn_X_101_32x8d_FPN_3x     fpn+x101+3x     139173657 model_final_68b088 B43.0
retinanet_R_50_FPN_1x              retinanet       190397773 model_final_bfca0b B37.4
retinanet_R_50_FPN_3x              retinanet+3x    190397829 model_final_5bd44e B38.7
retinanet_R_101_FPN_3x             retinanet+r101+3x 190397697 model_final_971ab9 B40.4
rpn_R_50_C4_1x                     c4+rpn+rpn-c4   137258005 model_final_450694 R51.6
rpn_R_50_FPN_1x                    fpn+rpn         137258492 model_final_02ce48 R58.0
fast_rcnn_R_50_FPN_1x              fpn+fast-rcnn   137635226 model_final_e5f7ce B37.8
COCO-InstanceSegmentation
mask_rcnn_R_50_C4_1x               c4+mask         137259246 model_final_9243eb B36.8 M32.2
mask_rcnn_R_50_DC5_1x              dc5+mask        137260150 model_final_4f86c3 B38.3 M34.2
mask_rcnn_R_50_FPN_1x              fpn+mask        137260431 model_final_a54504 B38.6 M35.2
mask_rcnn_R_50_C4_3x               c4+mask+3x      137849525 model_final_4ce675 B39.8 M34.4
mask_rcnn_R_50_DC5_3x              dc5+mask+3x     137849551 model_final_84107b B40.0 M35.9
mask_rcnn_R_50_FPN_3x              fpn+mask+3x     137849600 model_final_f10217 B41.0 M37.2
mask_rcnn_R_101_C4_3x              c4+r101+mask+3x 138363239 model_final_a2914c B42.6 M36.7
mask_rcnn_R_101_DC5_3x             dc5+r101+mask+3x 138363294 model_final_0464b7 B41.9 M37.3
mask_rcnn_R_101_FPN_3x             fpn+r101+mask+3x 138205316 model_final_a3ec72 B42.9 M38.6
mask_rcnn_X_101_32x8d_FPN_3x       fpn+x101+mask+3x 139653917 model_final_2d9806 B44.3 M39.5
COCO-Keypoints
keypoint_rcnn_R_50_FPN_1x          fpn+keypoints   137261548 model_final_04e291 B53.6 K64.0
keypoint_rcnn_R_50_FPN_3x          fpn+keypoints+3x 137849621 model_final_a6e10b B55.4 K65.5
keypoint_rcnn_R_101_FPN_3x         fpn+r101+keypoints+3x 138363331 model_final_997cc7 B56.4 K66.1
keypoint_rcnn_X_101_32x8d_FPN_3x   fpn+x101+keypoints+3x 139686956 model_final_5ad38f B57.3 K66.0
COCO-PanopticSegmentation
panoptic_fpn_R_50_1x               fpn+panoptic    139514544 model_final_dbfeb4 B37.6 M34.7 Q39.4
panoptic_fpn_R_50_3x               fpn+panoptic+3x 139514569 model_final_c10459 B40.0 M36.5 Q41.5
panoptic_fpn_R_101_3x              fpn+r101+panoptic+3x 139514519 model_final_cafdb1 B42.4 M38.5 Q43.0
LVISv0.5-InstanceSegmentation
mask_rcnn_R_50_FPN_1x              fpn+mask+lvis   144219072 model_final_571f7c B23.6 M24.4
mask_rcnn_R_101_FPN_1x             fpn+r101+mask+lvis 144219035 model_final_824ab5 B25.6 M25.9
mask_rcnn_X_101_32x8d_FPN_1x       fpn+x101+mask+lvis 144219108 model_final_5e3439 B26.7 M27.1
Cityscapes
mask_rcnn_R_50_FPN                 fpn+mask+cityscapes 142423278 model_final_af9cf5 M36.5
PascalVOC-Detection
faster_rcnn_R_50_C4                c4+voc          142202221 model_final_b1acc2 B51.9
Misc
mask_rcnn_R_50_FPN_1x_dconv_c3-c5  fpn+mask+deformable 138602867 model_final_65c703 B41.5 M37.5
mask_rcnn_R_50_FPN_3x_dconv_c3-c5  fpn+mask+deformable+3x 144998336 model_final_821d0b B42.7 M38.5
cascade_mask_rcnn_R_50_FPN_1x      fpn+mask+cascade 138602847 model_final_e9d89b B42.1 M36.4
cascade_mask_rcnn_R_50_FPN_3x      fpn+mask+cascade+3x 144998488 model_final_480dd8 B44.3 M38.5
mask_rcnn_R_50_FPN_3x_syncbn       fpn+mask+syncbn+3x 169527823 model_final_3b3c51 B41.9 M37.8
mask_rcnn_R_50_FPN_3x_gn           fpn+mask+gn+3x  138602888 model_final_dc5d9e B42.6 M38.6
scratch_mask_rcnn_R_50_FPN_3x_gn   fpn+mask+gn+scratch+3x 138602908 model_final_01ca85 B39.9 M36.6
scratch_mask_rcnn_R_50_FPN_9x_gn   fpn+mask+gn+scratch+scratch-9x 183808979 model_final_da7b4c B43.7 M39.6
scratch_mask_rcnn_R_50_FPN_9x_syncbn fpn+mask+syncbn+scratch+scratch-9x 184226666 model_final_5ce33e B43.6 M39.3
panoptic_fpn_R_101_dconv_cascade_gn_3x fpn+r101+panoptic+deformable+large-panoptic 139797668 model_final_be35db B47.4 M41.3 Q46.1
cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv fpn+x152+mask+deformable+large-cascade 18131413 model_0039999_e76410 B50.2 M44.0
Detectron1-Comparisons
faster_rcnn_R_50_FPN_noaug_1x      fpn+old-box     137781054 model_final_7ab50c B36.9
mask_rcnn_R_50_FPN_noaug_1x        fpn+mask+old-box+old-mask 137781281 model_final_62ca52 B37.8 M34.9
keypoint_rcnn_R_50_FPN_1x          fpn+keypoints+old-keypoints 137781195 model_final_cce136 B53.1 K64.2
new_baselines
mask_rcnn_R_50_FPN_100ep_LSJ       r50         42047764 model_final_bb69de B44.6 M40.3
mask_rcnn_R_50_FPN_200ep_LSJ       r50         42047638 model_final_89a8d3 B46.3 M41.7
mask_rcnn_R_50_FPN_400ep_LSJ       r50         42019571 model_final_14d201 B47.4 M42.5
mask_rcnn_R_101_FPN_100ep_LSJ      r101        42025812 model_final_4f7b58 B46.4 M41.6
mask_rcnn_R_101_FPN_200ep_LSJ      r101        42131867 model_final_0bb7ae B48.0 M43.1
mask_rcnn_R_101_FPN_400ep_LSJ      r101        42073830 model_final_f96b26 B48.9 M43.7
mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ regnetx 42047771 model_final_b7fbab B46.0 M41.3
mask_rcnn_regnetx_4gf_dds_FPN_200ep_LSJ regnetx 42132721 model_final_5d87c1 B48.1 M43.1
mask_rcnn_regnetx_4gf_dds_FPN_400ep_LSJ regnetx 42025447 model_final_f1362d B48.6 M43.5
mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ regnety 42047784 model_final_6ba57e B46.1 M41.6
mask_rcnn_regnety_4gf_dds_FPN_200ep_LSJ regnety 42047642 model_final_27b9c1 B47.8 M43.0
mask_rcnn_regnety_4gf_dds_FPN_400ep_LSJ regnety 42045954 model_final_ef3a80 B48.2 M43.3
"""  # noqa: E501  # a table

_FIGURES = {
    "B": "box_ap",
    "M": "mask_ap",
    "K": "keypoint_ap",
    "Q": "panoptic_quality",
    "R": "proposal_recall",
}
_ARCHITECTURES = {"retinanet": "RetinaNet", "rpn": "ProposalNetwork", "panoptic": "PanopticFPN"}
_CLASS_SETS = {
    "keypoints": "keypoints_coco_2017_val",
    "panoptic": "coco_2017_val_panoptic_separated",
    "lvis": "lvis_v0.5_val",
    "cityscapes": "cityscapes_fine_instance_seg_val",
    "voc": "voc_2007_test",
}


def _read_table() -> dict[str, ZooModel]:
    models: dict[str, ZooModel] = {}
    folder = ""
    for line in _TABLE.strip().splitlines():
        words = line.split()
        if len(words) == 1:
            folder = words[0]
            continue
        short_name, joined, model_id, file_stem, *figures = words
        name, parts = f"{folder}/{short_name}", tuple(joined.split("+"))
        models[name] = ZooModel(
            name=name,
            config_id=f"{name}.{'py' if folder == 'new_baselines' else 'yaml'}",
            architecture=_first(_ARCHITECTURES, parts, "GeneralizedRCNN"),
            class_set=_first(_CLASS_SETS, parts, "coco_2017_val"),
            url=f"{_HOST}/{name}/{model_id}/{file_stem}.pkl",
            parts=parts,
            **{_FIGURES[figure[0]]: float(figure[1:]) for figure in figures},
        )
    return models


def _first(table: dict[str, str], parts: tuple[str, ...], default: str) -> str:
    return next((table[part] for part in parts if part in table), default)


MODELS = _read_table()
"""Every model by its full name, in the order of Detectron2's page."""
