"""From feature maps to class-agnostic proposals."""

from models.proposals.anchor_generator import (
    ANCHOR_GENERATOR_REGISTRY,
    DefaultAnchorGenerator,
    build_anchor_generator,
)
from models.proposals.build import PROPOSAL_GENERATOR_REGISTRY, build_proposal_generator
from models.proposals.rpn import RPN, RPN_HEAD_REGISTRY, StandardRPNHead, build_rpn_head
from models.proposals.selection import find_top_rpn_proposals

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "PROPOSAL_GENERATOR_REGISTRY",
    "RPN",
    "RPN_HEAD_REGISTRY",
    "DefaultAnchorGenerator",
    "StandardRPNHead",
    "build_anchor_generator",
    "build_proposal_generator",
    "build_rpn_head",
    "find_top_rpn_proposals",
]
