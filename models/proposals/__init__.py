"""From feature maps to class-agnostic proposals."""

from models.proposals.anchor_generator import (
    ANCHOR_GENERATOR_REGISTRY,
    DefaultAnchorGenerator,
    build_anchor_generator,
)
from models.proposals.build import PROPOSAL_GENERATOR_REGISTRY, build_proposal_generator
from models.proposals.rotated_anchor_generator import RotatedAnchorGenerator
from models.proposals.rpn import RPN
from models.proposals.rpn_head import RPN_HEAD_REGISTRY, StandardRPNHead, build_rpn_head
from models.proposals.rrpn import RRPN, find_top_rrpn_proposals
from models.proposals.selection import find_top_rpn_proposals

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "PROPOSAL_GENERATOR_REGISTRY",
    "RPN",
    "RPN_HEAD_REGISTRY",
    "RRPN",
    "DefaultAnchorGenerator",
    "RotatedAnchorGenerator",
    "StandardRPNHead",
    "build_anchor_generator",
    "build_proposal_generator",
    "build_rpn_head",
    "find_top_rpn_proposals",
    "find_top_rrpn_proposals",
]
