"""ProposalNetwork: proposals at the size that is asked for."""

import pytest
import torch
from tiny_models import tiny_config, tiny_image, tiny_model

from models import build_model
from models.errors import ConfigError


def test_proposals_come_best_first_at_the_size_that_is_asked_for() -> None:
    model = tiny_model(META_ARCHITECTURE="ProposalNetwork")
    image = tiny_image()
    plain, scaled = model([{"image": image}, {"image": image, "height": 48, "width": 256}])
    assert list(plain) == ["proposals"]
    plain, scaled = plain["proposals"], scaled["proposals"]
    assert 0 < len(plain) <= 50
    assert plain.objectness_logits.tolist() == sorted(plain.objectness_logits.tolist())[::-1]
    factors = torch.tensor([2.0, 0.5, 2.0, 0.5])
    torch.testing.assert_close(scaled.proposal_boxes.tensor, plain.proposal_boxes.tensor * factors)


def test_predict_equals_the_call() -> None:
    model = tiny_model(META_ARCHITECTURE="ProposalNetwork")
    inputs = [{"image": tiny_image()}]
    predicted, called = (x[0]["proposals"] for x in (model.predict(inputs), model(inputs)))
    assert torch.equal(predicted.proposal_boxes.tensor, called.proposal_boxes.tensor)


def test_precomputed_proposals_make_no_network() -> None:
    cfg = tiny_config(
        META_ARCHITECTURE="ProposalNetwork", PROPOSAL_GENERATOR__NAME="PrecomputedProposals"
    )
    with pytest.raises(ConfigError, match="needs a proposal generator"):
        build_model(cfg)
