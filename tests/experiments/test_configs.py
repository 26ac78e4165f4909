from pathlib import Path

import pytest
from experiments.planning import plan_sweep
from experiments.points import levels
from hydra import compose, initialize_config_dir

from experiments.setup import build
from experiments.setup.cli import CONFIGS, compose_command
from kernels.spec import SirenSpec

VERBS = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "common")


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def composed(verb: str, *overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(verb, overrides=list(overrides))


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_a_config_and_every_config_a_command(verb):
    assert composed(verb).seed == 0
    assert (CONFIGS.parent / "experiments" / f"{verb}.py").is_file()


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_command_names_it(verb):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        template = compose(verb, return_hydra_config=True).hydra.help.template
    assert f"python -m experiments.{verb}" in template
    assert "$CONFIG" in template


@pytest.mark.parametrize("choice", choices("inr"))
def test_every_inr_is_the_shape_its_name_says(choice):
    cfg = composed("encode", f"inr={choice}").inr
    spec = SirenSpec(cfg.depth, cfg.hidden, cfg.omega or 15.0)
    assert choice == f"{spec.depth}x{spec.hidden}"


@pytest.mark.parametrize(
    ("group", "builder"),
    [("fit", build.build_fit), ("quantize", build.build_quantize), ("optimizer", build.build_optimizer),
     ("augment", build.build_augment), ("backbone", build.build_backbone_config), ("codec", build.build_codec)],
)  # fmt: skip
def test_every_choice_builds(group, builder):
    verb = {"fit": "encode", "quantize": "encode", "codec": "codec"}.get(group, "train")
    for choice in choices(group):
        builder(composed(verb, f"{group}={choice}"))


@pytest.mark.parametrize("choice", choices("dataset"))
def test_every_dataset_takes_the_options_that_the_command_line_promises(choice):
    cfg = composed("encode", f"dataset={choice}")
    promised = {"root", "split", "limit", "size", "resize", "exclude", "download", "on_corrupt"}
    assert cfg.dataset.name == choice
    assert promised <= set(cfg.dataset)


def test_the_papers_recipe_is_as_published():
    fit = build.build_fit(composed("encode", "fit=paper"))
    assert (fit.steps, fit.lr, fit.pixels_per_step) == (5000, 5e-4, None)
    assert composed("encode", "inr=5x13").inr == {"depth": 5, "hidden": 13, "omega": 30}
    optimizer = build.build_optimizer(composed("train", "optimizer=paper"))
    assert (optimizer.epochs, optimizer.batch_size, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (
        200,
        128,
        0.01,
        0.9,
        5e-4,
    )


def test_coins_recipe_is_as_published():
    fit = build.build_fit(composed("encode", "fit=coin"))
    assert (fit.steps, fit.lr, fit.decay, fit.pixels_per_step) == (50_000, 2e-4, "none", None)


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_has_its_three_scales_and_each_command_of_theirs_composes(experiment):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for scale in ("smoke", "cpu", "paper"):
            cfg = compose("sweep", overrides=[f"experiment={experiment}", f"scale={scale}"])
            sweep = plan_sweep(cfg)
            assert sweep.folder.as_posix() == f"runs/{experiment}/{scale}"
            assert levels(sweep.points)
            for point in {(point.verb, *point.labels.values()): point for point in sweep.points[::4]}.values():
                compose_command(point.verb, sweep.command(point))


def test_every_group_is_a_folder_that_some_command_uses():
    used = {key for verb in VERBS for key in composed(verb)} | {"debug", "experiment", "search"}
    assert {path.name for path in Path(CONFIGS).iterdir() if path.is_dir()} <= used
