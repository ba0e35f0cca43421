"""What dumped lazy configs say of their training, as keys of a YAML config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from golden import GOLDEN

from models import load_config
from models.errors import ConfigError
from models.training.lazy_solver import LazySolver, solver_of_lazy
from models.training.schedule import check_schedule, learning_rate_factor

FVCORE = "fvcore.common.param_scheduler"
SGD = {
    "_target_": "torch.optim.SGD",
    "lr": 0.1,
    "momentum": 0.9,
    "params": {
        "_target_": "detectron2.solver.get_default_optimizer_params",
        "weight_decay_norm": 0.0,
    },
    "weight_decay": 0.0001,
}
LENGTH = 1000


def dumped(folder: Path, **parts: Any) -> Path:
    """A dump with these parts beside the model, of a training of a thousand iterations."""
    content = {
        "model": {"_target_": "detectron2.modeling.GeneralizedRCNN"},
        "train": {"max_iter": LENGTH},
        "optimizer": SGD,
        **parts,
    }
    path = folder / "dumped.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def schedule(kind: str, **keywords: Any) -> dict[str, Any]:
    return {"_target_": f"{FVCORE}.{kind}ParamScheduler", **keywords}


def solver(folder: Path, **parts: Any) -> dict[str, Any]:
    """The keys under SOLVER of a dump that leaves nothing untold."""
    found = solver_of_lazy(dumped(folder, **parts))
    assert found.untold == ()
    return {key.removeprefix("SOLVER."): value for key, value in found.keys.items()}


def test_fcos_as_detectron2_dumps_it() -> None:
    assert solver_of_lazy(GOLDEN / "lazy__fcos_R_50_FPN_1x" / "config.yaml") == LazySolver(
        {
            "SOLVER.MAX_ITER": 90000,
            "SOLVER.IMS_PER_BATCH": 16,
            "SOLVER.AMP.ENABLED": False,
            "SOLVER.CHECKPOINT_PERIOD": 5000,
            "TEST.EVAL_PERIOD": 5000,
            "SOLVER.BASE_LR": 0.01,
            "SOLVER.MOMENTUM": 0.9,
            "SOLVER.WEIGHT_DECAY": 0.0001,
            "SOLVER.WEIGHT_DECAY_NORM": 0.0,
            "SOLVER.BIAS_LR_FACTOR": 1.0,
            "SOLVER.NESTEROV": False,
            "SOLVER.WARMUP_FACTOR": 0.001,
            "SOLVER.WARMUP_METHOD": "linear",
            "SOLVER.RESCALE_INTERVAL": False,
            "SOLVER.WARMUP_ITERS": 1000,
            "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
            "SOLVER.STEPS": (60000, 80000),
            "SOLVER.GAMMA": 0.1,
        },
        (),
    )


@pytest.mark.parametrize(
    "case",
    ["lazy__mask_rcnn_R_50_FPN_100ep_LSJ", "lazy__mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ"],
)
def test_long_trainings_as_detectron2_dumps_them(case: str) -> None:
    found = solver_of_lazy(GOLDEN / case / "config.yaml")
    assert found.untold == ()
    expected = {
        "SOLVER.MAX_ITER": 184375,
        "SOLVER.IMS_PER_BATCH": 64,
        "SOLVER.AMP.ENABLED": True,
        "SOLVER.BASE_LR": 0.1,
        "SOLVER.WEIGHT_DECAY": 4e-05,
        "SOLVER.WARMUP_FACTOR": 0.067,
        "SOLVER.WARMUP_ITERS": 500,
        "SOLVER.STEPS": (163889, 177546),
        "SOLVER.GAMMA": 0.1,
    }
    assert {key: found.keys[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("case", "factors"),
    [
        (
            "lazy__fcos_R_50_FPN_1x",
            {0: 0.001, 500: 0.5005, 1000: 1, 59_999: 1, 60_000: 0.1, 79_999: 0.1, 80_000: 0.01},
        ),
        (
            "lazy__mask_rcnn_R_50_FPN_100ep_LSJ",
            {0: 0.067, 250: 0.5335, 500: 1, 163_888: 1, 163_889: 0.1, 177_546: 0.01},
        ),
    ],
)
def test_the_keys_make_a_config_with_the_same_learning_rates(
    case: str, factors: dict[int, float]
) -> None:
    path = GOLDEN / case / "config.yaml"
    cfg = load_config(path, solver_of_lazy(path).overrides())
    check_schedule(cfg)
    found = {iteration: learning_rate_factor(cfg, iteration) for iteration in factors}
    assert found == pytest.approx(factors)


def test_what_is_not_there_has_pytorchs_default(tmp_path: Path) -> None:
    found = solver(tmp_path, optimizer={"_target_": "torch.optim.SGD", "lr": 1})
    assert found["BASE_LR"] == 1.0
    assert (found["MOMENTUM"], found["WEIGHT_DECAY"], found["NESTEROV"]) == (0.0, 0.0, False)


def test_norm_layers_decay_like_the_others_unless_something_else_is_said(tmp_path: Path) -> None:
    found = solver(tmp_path, optimizer={**SGD, "params": {}})
    assert found["WEIGHT_DECAY_NORM"] == found["WEIGHT_DECAY"] == 0.0001


def test_parameters_may_have_rates_and_decays_of_their_own(tmp_path: Path) -> None:
    own = {
        "base_lr": 0.2,
        "weight_decay": 0.3,
        "weight_decay_norm": 0.4,
        "weight_decay_bias": 0.5,
        "bias_lr_factor": 2,
    }
    found = solver(tmp_path, optimizer={**SGD, "nesterov": True, "params": own})
    keys = ("BASE_LR", "WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS", "BIAS_LR_FACTOR")
    assert [found[key] for key in keys] == [0.2, 0.3, 0.4, 0.5, 2.0]
    assert found["NESTEROV"] is True


def test_references_are_followed(tmp_path: Path) -> None:
    loader = {"train": {"total_batch_size": "${train.batch}"}}
    train = {"max_iter": LENGTH, "batch": 4}
    found = solver(tmp_path, dataloader=loader, train=train)
    assert found["IMS_PER_BATCH"] == 4


def test_milestones_are_parts_of_the_training_whatever_they_count(tmp_path: Path) -> None:
    for keywords in (
        {"milestones": [3, 6, 9]},
        {"milestones": [30, 60], "num_updates": 90},
        {"num_updates": 9},
        {},
    ):
        steps = schedule("MultiStep", values=[1.0, 0.5, 0.25], **keywords)
        found = solver(tmp_path, lr_multiplier=steps)
        assert (found["STEPS"], found["GAMMA"]) == ((334, 667), 0.5)
        assert found["WARMUP_ITERS"] == 0


def test_the_first_value_is_a_factor_on_the_learning_rate(tmp_path: Path) -> None:
    steps = schedule("MultiStep", values=[0.5, 0.05], milestones=[4], num_updates=5)
    found = solver(tmp_path, lr_multiplier=steps)
    assert found["BASE_LR"] == pytest.approx(0.05)
    assert found["STEPS"] == (800,)
    found = solver(tmp_path, lr_multiplier=schedule("Constant", value=0.5))
    assert (found["BASE_LR"], found["STEPS"]) == (pytest.approx(0.05), ())


def test_steps_of_equal_length(tmp_path: Path) -> None:
    steps = schedule("Step", values=[1, 0.1, 0.01, 0.001], num_updates=8)
    assert solver(tmp_path, lr_multiplier=steps)["STEPS"] == (250, 500, 750)


def test_a_cosine(tmp_path: Path) -> None:
    cosine = schedule("Cosine", start_value=1, end_value=0.01)
    found = solver(tmp_path, lr_multiplier=cosine)
    assert found["LR_SCHEDULER_NAME"] == "WarmupCosineLR"
    assert found["BASE_LR_END"] == pytest.approx(0.001)


def test_a_fixed_factor(tmp_path: Path) -> None:
    fixed = schedule("StepWithFixedGamma", base_value=1, num_decays=4, gamma=0.3, num_updates=10)
    found = solver(tmp_path, lr_multiplier=fixed)
    assert found["LR_SCHEDULER_NAME"] == "WarmupStepWithFixedGammaLR"
    assert (found["NUM_DECAYS"], found["GAMMA"]) == (4, 0.3)


def test_every_warm_up(tmp_path: Path) -> None:
    warm = {
        "_target_": "detectron2.solver.WarmupParamScheduler",
        "scheduler": schedule("Cosine", start_value=1, end_value=0),
        "warmup_factor": 0.1,
        "warmup_length": 0.0333,
        "warmup_method": "constant",
        "rescale_interval": True,
    }
    found = solver(tmp_path, lr_multiplier=warm)
    assert (found["WARMUP_ITERS"], found["WARMUP_FACTOR"]) == (33, 0.1)
    assert (found["WARMUP_METHOD"], found["RESCALE_INTERVAL"]) == ("constant", True)


WARM = {"_target_": "detectron2.solver.WarmupParamScheduler", "warmup_factor": 0.1}


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (
            {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.0001}},
            "optimizer is AdamW, and trainings here are by SGD",
        ),
        ({"optimizer": {**SGD, "dampening": 0.5}}, "optimizer has dampening, which nothing here"),
        (
            {"optimizer": {**SGD, "params": {"overrides": {"pos_embed": {"weight_decay": 0.0}}}}},
            "optimizer.params has overrides, which nothing",
        ),
        (
            {"optimizer": {**SGD, "params": {"_target_": "my.groups"}}},
            "optimizer.params is groups, which may give parts of the model rates of their own",
        ),
        (
            {"lr_multiplier": schedule("Polynomial", base_value=1, power=2)},
            "lr_multiplier is PolynomialParamScheduler, a schedule that is not known here",
        ),
        (
            {
                "lr_multiplier": {
                    **WARM,
                    "warmup_length": 0.1,
                    "scheduler": schedule("Linear", start_value=1, end_value=0),
                }
            },
            "lr_multiplier.scheduler is LinearParamScheduler, a schedule",
        ),
        (
            {"lr_multiplier": schedule("Step", values=[1, 0.5, 0.1], num_updates=3)},
            "[1.0, 0.5, 0.1], which do not fall by one factor",
        ),
        (
            {"train": {}, "lr_multiplier": schedule("Constant", value=1)},
            "length, train.max_iter, is not there",
        ),
        (
            {"train": {"model_ema": {"enabled": True, "decay": 0.9998}}},
            "train.model_ema is enabled, with a decay of 0.9998",
        ),
    ],
)
def test_what_no_key_says_is_a_sentence(
    tmp_path: Path, parts: dict[str, Any], sentence: str
) -> None:
    (told,) = solver_of_lazy(dumped(tmp_path, **parts)).untold
    assert sentence in told


def test_keys_of_another_optimiser_are_left_out(tmp_path: Path) -> None:
    adam = {"_target_": "torch.optim.AdamW", "lr": 0.0001, "weight_decay": 0.1}
    cosine = schedule("Cosine", start_value=1, end_value=0)
    found = solver_of_lazy(dumped(tmp_path, optimizer=adam, lr_multiplier=cosine))
    assert set(found.keys) == {
        *("SOLVER.MAX_ITER", "SOLVER.LR_SCHEDULER_NAME", "SOLVER.WARMUP_ITERS"),
    }


def test_nothing_beside_the_model_says_nothing(tmp_path: Path) -> None:
    parts = dict.fromkeys(("train", "optimizer", "lr_multiplier"))
    assert solver_of_lazy(dumped(tmp_path, **parts)) == LazySolver({}, ())


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"train": {"max_iter": "long"}}, "train.max_iter is 'long'; it is a whole number"),
        ({"train": {"amp": {"enabled": 1}}}, "train.amp.enabled is 1; it is true or false"),
        ({"optimizer": {**SGD, "lr": None}}, "BASE_LR is None; it is a number"),
        ({"optimizer": {**SGD, "momentum": True}}, "MOMENTUM is True; it is a number"),
        ({"optimizer": {**SGD, "params": [1]}}, r"optimizer.params is \[1\]; it is a call"),
        (
            {"lr_multiplier": schedule("MultiStep", values=[1, 0.1], milestones=[5, 6, 7])},
            "one value more than milestones",
        ),
        ({"lr_multiplier": schedule("MultiStep", values=[])}, "values is .*; it is a list"),
        ({"lr_multiplier": {**WARM, "scheduler": {}}}, "warmup_length is None; it is a number"),
    ],
)
def test_values_that_are_none_are_refused(
    tmp_path: Path, parts: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        solver_of_lazy(dumped(tmp_path, **parts))


def test_other_configs_are_refused() -> None:
    with pytest.raises(ConfigError, match="no dumped lazy config"):
        solver_of_lazy(GOLDEN / "custom__mask_rcnn_R_18_FPN" / "config.yaml")
