"""``detserve extend``: its files, which everything else reads, what it shows and what it refuses."""

from pathlib import Path

import pytest
import torch
import torchvision.models.detection as detection
import typer
from small_models import write_small_model
from tiny_models import tiny_config, tiny_model
from typer.testing import CliRunner, Result

from models import Predictor, load_config, num_classes
from models.metadata import dataset_metadata
from models.sidecars import LABELS, STUFF_LABELS
from service.cli.evaluate_local import LocalModel, find_model
from service.cli.extend import extend
from service.cli.models_offline import NewVersion, add
from service.inference.loading import load_torch_detector
from service.repository.disk.folder import RepositoryFolder
from service.repository.labels import SIDECAR
from service.repository.shelf import FolderShelf

SHAPES = Path(__file__).parents[3] / "models" / "pretrained" / "shapes"
WEIGHTS = SHAPES / "model_final.pth"


def run(*arguments: object, weights: Path = WEIGHTS) -> Result:
    app = typer.Typer()
    app.command()(extend)
    return CliRunner().invoke(app, ["--weights", str(weights), *map(str, arguments)])


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def test_the_result_is_served_under_its_new_names(tmp_path: Path) -> None:
    out = tmp_path / "extended"
    result = run("--add", "ring,cross", "--add", "gear", "--rename", "disc=circle", "--out", out)
    assert result.exit_code == 0, result.output
    names = ["circle", "rectangle", "triangle", "star", "ring", "cross", "gear"]
    assert lines(out / "labels.txt") == names
    detector = load_torch_detector(
        config=out / "config.yaml", weights=out / "model_final.pth", labels=None, device="cpu"
    )
    assert list(detector.description.class_names) == names
    assert detector.description.class_names_source == "labels.txt"
    predictor = Predictor.from_files(out / "config.yaml", out / "model_final.pth", device="cpu")
    assert num_classes(predictor.model) == 7


def test_it_can_be_extended_again(tmp_path: Path) -> None:
    assert run("--add", "ring", "--out", tmp_path / "a").exit_code == 0
    result = run(
        "--remove", "ring,star", "--out", tmp_path / "b", weights=tmp_path / "a" / "model_final.pth"
    )
    assert result.exit_code == 0, result.output
    assert lines(tmp_path / "b" / "labels.txt") == ["disc", "rectangle", "triangle"]


def test_labels_lie_where_the_server_looks() -> None:
    assert LABELS == SIDECAR


def test_it_shows_what_became_of_what(tmp_path: Path) -> None:
    result = run(
        "--keep", "disc,star", "--add", "[ring]", "--reorder", "star,[ring],disc", "--out", tmp_path
    )
    assert result.exit_code == 0, result.output
    table = [line.split() for line in result.output.splitlines()]
    assert ["0", "star", "3", "star"] in table
    assert ["1", "[ring]", "new"] in table
    assert ["2", "disc", "0", "disc"] in table
    for text in (
        "removed: rectangle",
        "removed: triangle",
        "roi_heads.box_predictor.bbox_pred.weight: 16 -> 12 rows",
        "can only rise",
        "The optimiser's state",
        "none is found (the threshold is 0.05)",
    ):
        assert text in result.output


def test_of_many_classes_only_the_changed_are_shown(tmp_path: Path) -> None:
    many = 120
    torch.save({"model": tiny_model(ROI_HEADS__NUM_CLASSES=many).state_dict()}, tmp_path / "m.pth")
    (tmp_path / "config.yaml").write_text(tiny_config(ROI_HEADS__NUM_CLASSES=many).dump())
    result = run("--add", "ring", "--out", tmp_path / "out", weights=tmp_path / "m.pth")
    assert result.exit_code == 0, result.output
    assert "120 classes are as they were" in result.output
    assert "class_7" not in result.output
    assert "The names of the things are not known" in result.output
    assert lines(tmp_path / "out" / "labels.txt")[119:] == ["class_119", "ring"]


def test_names_of_the_data_set_do_without_labels(tmp_path: Path) -> None:
    overrides = {"ROI_HEADS__NUM_CLASSES": 80}
    cfg = tiny_config(**overrides).override("DATASETS.TEST", ("coco_2017_val",))
    torch.save({"model": tiny_model(**overrides).state_dict()}, tmp_path / "m.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    result = run(
        "--keep", "traffic light,person", "--out", tmp_path / "o", weights=tmp_path / "m.pth"
    )
    assert result.exit_code == 0, result.output
    assert lines(tmp_path / "o" / "labels.txt") == ["person", "traffic light"]


def test_names_of_a_versions_own_settings(tmp_path: Path) -> None:
    torch.save({"model": tiny_model().state_dict()}, tmp_path / "model_final.pth")
    (tmp_path / "config.yaml").write_text(tiny_config().dump())
    (tmp_path / "model.yaml").write_text('classes: [ant, bee, {name: cat, color: "#ff0000"}]\n')
    weights = tmp_path / "model_final.pth"
    assert run("--remove", "bee", "--out", tmp_path / "o", weights=weights).exit_code == 0
    assert lines(tmp_path / "o" / "labels.txt") == ["ant", "cat"]
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    labels = ["--labels", tmp_path / "names.txt"]
    assert run("--remove", "y", "--out", tmp_path / "p", *labels, weights=weights).exit_code == 0
    assert lines(tmp_path / "p" / "labels.txt") == ["x", "z"]


@pytest.fixture
def panoptic(tmp_path: Path) -> Path:
    overrides = {"META_ARCHITECTURE": "PanopticFPN", "MASK_ON": True}
    torch.save({"model": tiny_model(**overrides).state_dict()}, tmp_path / "model_final.pth")
    (tmp_path / "config.yaml").write_text(tiny_config(**overrides).dump())
    (tmp_path / "labels.txt").write_text("ant\nbee\ncat\n")
    (tmp_path / STUFF_LABELS).write_text("things\nsky\nsea\nsand\nroad\n")
    return tmp_path / "model_final.pth"


def test_the_stuff_of_a_panoptic_model(panoptic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(
        "--add-stuff", "snow", "--rename-stuff", "road=street", "--remove-stuff", "sea",
        "--reorder-stuff", "things,snow,street,sand,sky", "--out", out, weights=panoptic,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert lines(out / "labels.txt") == ["ant", "bee", "cat"]
    assert lines(out / STUFF_LABELS) == ["things", "snow", "street", "sand", "sky"]
    model = Predictor.from_files(out / "config.yaml", out / "model_final.pth", device="cpu").model
    assert (num_classes(model), num_classes(model, "stuff")) == (3, 5)


def test_the_names_of_the_stuff_are_served_and_measured(panoptic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("--add-stuff", "snow", "--out", out, weights=panoptic).exit_code == 0
    detector = load_torch_detector(
        config=out / "config.yaml", weights=out / "model_final.pth", labels=None, device="cpu"
    )
    names = ("things", "sky", "sea", "sand", "road", "snow")
    assert detector.description.stuff_class_names == names
    subject = LocalModel.load(find_model(str(out), None), device="cpu", mode="exact").subject
    assert subject.stuff_class_names == names


def test_the_names_of_the_stuff_go_along_into_a_repository(panoptic: Path, tmp_path: Path) -> None:
    model = RepositoryFolder(tmp_path).create_model("maps")
    files = NewVersion(weights=panoptic, config=panoptic.with_name("config.yaml")).with_sidecars()
    assert files.stuff_labels is not None
    assert add(tmp_path, "maps", "1", files) == 0
    shelf = FolderShelf(model)
    found = shelf.candidate("1").source
    detector = load_torch_detector(
        config=found.config,
        weights=found.weights,
        labels=found.labels,
        root=found.root,
        device="cpu",
    )
    assert detector.description.stuff_class_names == ("things", "sky", "sea", "sand", "road")
    (model.path / "1" / STUFF_LABELS).write_text("things\nsky\n")
    problem = model.version("1").problem
    assert problem is not None
    assert problem.code == "file_changed"


def test_an_extended_keypoint_model_keeps_the_names_of_its_keypoints(tmp_path: Path) -> None:
    person = dataset_metadata("keypoints_coco_2017_val")
    assert person is not None
    overrides: dict[str, object] = {
        "KEYPOINT_ON": True,
        "ROI_HEADS__NUM_CLASSES": 1,
        "ROI_KEYPOINT_HEAD__NUM_KEYPOINTS": 17,
    }
    cfg = tiny_config(**overrides).override("DATASETS.TEST", ("keypoints_coco_2017_val",))
    torch.save({"model": tiny_model(**overrides).state_dict()}, tmp_path / "model_final.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    folders = [tmp_path, tmp_path / "a", tmp_path / "b"]
    for old, new, name in zip(folders, folders[1:], ("dog", "cat"), strict=False):
        result = run("--add", name, "--out", new, weights=old / "model_final.pth")
        assert result.exit_code == 0, result.output
        detector = load_torch_detector(
            config=new / "config.yaml", weights=new / "model_final.pth", labels=None, device="cpu"
        )
        description = detector.description
        assert description.class_names[0] == "person"
        assert description.class_names[-1] == name
        assert description.keypoint_names == person.keypoint_names
        assert len(description.keypoint_skeleton) == len(person.keypoint_skeleton)
        assert flip_of(new) == flip_of(tmp_path)


def flip_of(folder: Path) -> tuple[int, ...]:
    """Which keypoint is where in the mirror, as test-time augmentation takes it."""
    detector = load_torch_detector(
        config=folder / "config.yaml", weights=folder / "model_final.pth", labels=None, device="cpu"
    )
    assert detector._keypoint_flip is not None
    return tuple(detector._keypoint_flip)


def test_stuff_without_names_is_numbered(panoptic: Path, tmp_path: Path) -> None:
    (tmp_path / STUFF_LABELS).unlink()
    result = run("--add-stuff", "snow", "--out", tmp_path / "out", weights=panoptic)
    assert result.exit_code == 0, result.output
    assert "The names of the stuff are not known" in result.output
    assert lines(tmp_path / "out" / STUFF_LABELS)[4:] == ["class_4", "snow"]


def test_stuff_labels_are_checked(panoptic: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("things\nsky\n")
    result = run(
        "--add", "dog", "--stuff-labels", tmp_path / "short.txt", "--out", tmp_path / "out",
        weights=panoptic,
    )  # fmt: skip
    assert result.exit_code == 2
    assert "has 2 names, but the model has 5 classes (MODEL.SEM_SEG_HEAD.NUM_CLASSES)" in (
        result.output
    )
    result = run("--add", "ring", "--stuff-labels", tmp_path / "short.txt", "--out", tmp_path / "o")
    assert result.exit_code == 2
    assert "--stuff-labels is for panoptic models" in result.output


@pytest.mark.parametrize("name", ["semantic", "fcos"])
def test_other_architectures(name: str, tmp_path: Path) -> None:
    config, weights = write_small_model(name, tmp_path)
    assert config is not None
    result = run("--add", "new", "--out", tmp_path / "out", weights=weights)
    assert result.exit_code == 0, result.output
    assert lines(tmp_path / "out" / "labels.txt")[-1] == "new"
    detector = load_torch_detector(
        config=tmp_path / "out" / "config.yaml",
        weights=tmp_path / "out" / "model_final.pth",
        labels=None,
        device="cpu",
    )
    assert detector.description.class_names[-1] == "new"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Nothing is to change"),
        (["--remove", "dsic"], "remove: the model has no class 'dsic'. Did you mean disc?"),
        (["--rename", "disk=x"], "Did you mean disc?"),
        (["--rename", "disc"], "--rename takes OLD=NEW, not 'disc'"),
        (["--rename", "disc=a,disc=b"], "--rename has the name 'disc' twice"),
        (["--add", "star"], "the name 'star' comes twice"),
        (["--add", "a,,b"], "'' is no name"),
        (["--remove", "disc,rectangle,triangle,star"], "No class would be left"),
        (["--reorder", "disc,star"], "rectangle, triangle are missing"),
        (
            ["--add", "a", "--zoo", "mask_rcnn_R_50_FPN_3x", "--config", "c.yaml"],
            "exclude each other",
        ),
        (["--add", "a", "--config", "none.yaml"], "There is no config file 'none.yaml'"),
        (["--add", "a", "--zoo", "no_such_model"], "The zoo has no model 'no_such_model'"),
        (["--add-stuff", "a"], "no classes of 'stuff', only of 'things'"),
    ],
)
def test_what_is_refused(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    result = run(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert sentence in result.output
    assert not (tmp_path / "out").exists()


def test_labels_of_another_number(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("disc\nstar\n")
    result = run("--add", "ring", "--labels", tmp_path / "names.txt", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert (
        "The labels file names.txt has 2 names, but the model has 4 classes "
        "(MODEL.ROI_HEADS.NUM_CLASSES); give one name a line, in the order of the ids."
    ) in result.output


def test_labels_of_another_number_name_retinanets_key(tmp_path: Path) -> None:
    overrides = {"META_ARCHITECTURE": "RetinaNet"}
    torch.save({"model": tiny_model(**overrides).state_dict()}, tmp_path / "m.pth")
    (tmp_path / "config.yaml").write_text(tiny_config(**overrides).dump())
    (tmp_path / "labels.txt").write_text("ant\nbee\n")
    result = run("--add", "dog", "--out", tmp_path / "out", weights=tmp_path / "m.pth")
    assert result.exit_code == 2
    assert "the model has 3 classes (MODEL.RETINANET.NUM_CLASSES)" in result.output


def test_a_config_of_another_number(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    cfg = load_config(SHAPES / "config.yaml", ["MODEL.ROI_HEADS.NUM_CLASSES", 80])
    config.write_text(cfg.dump())
    result = run("--config", config, "--add", "ring", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "the file has 4 classes but MODEL.ROI_HEADS.NUM_CLASSES is 80" in result.output


def test_weights_without_a_config(tmp_path: Path) -> None:
    weights = tmp_path / "model.pth"
    weights.write_bytes(WEIGHTS.read_bytes())
    result = run("--add", "ring", "--out", tmp_path / "out", weights=weights)
    assert result.exit_code == 2
    assert "There is no config.yaml beside model.pth" in result.output
    model = detection.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None, weights_backbone=None, num_classes=3
    )
    torch.save(model.state_dict(), weights)
    result = run("--add", "ring", "--out", tmp_path / "out", weights=weights)
    assert result.exit_code == 2
    assert "holds a detector of torchvision's" in result.output


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    result = run("--add", "ring", "--out", SHAPES)
    assert result.exit_code == 2
    assert "has a model_final.pth already" in result.output
