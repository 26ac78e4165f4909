"""Every config composes, every experiment at every preset too, and what the command line gets wrong is told in one line."""

import re
import subprocess
import sys
from itertools import product

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from experiments.__main__ import commands, completions
from experiments.setup.build import build
from experiments.setup.choices import CONFIGS, command_of
from experiments.setup.command_line import offer_inr_shapes, quoted, with_quoted_paths
from experiments.setup.config_store import register
from experiments.setup.help import help_text
from experiments.setup.run_folder import run_name
from experiments.setup.schema import SCHEMAS
from rapid_inr.compress.prune import RULES
from rapid_inr.compress.qat import METHODS
from tests.experiments.commands import composed

VERBS = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "common")
VALUES = ("train_00008", *METHODS, *RULES)  # what keys take
EXPERIMENTS = sorted(path.name for path in (CONFIGS / "experiment").iterdir())


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def with_hydra(verb, *overrides):
    register(verb)
    offer_inr_shapes([])
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(verb, overrides=list(overrides), return_hydra_config=True)


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_a_config_a_line_and_a_help_that_names_it(verb):
    assert commands()[verb]
    offer_inr_shapes([])
    text = help_text(verb, [])
    assert f"python -m experiments.{verb}" in text
    own, is_common, _ = text.partition("  seed=0")
    assert bool(is_common) == (verb in SCHEMAS)  # the others start no run
    assert "  device=" not in own
    keys = text.partition("Keys (key=value):")[2]
    assert re.findall(r"^  \S+=\S*$(?!\n {34})", keys, re.MULTILINE) == []  # each has its meaning
    words = re.findall(r"`(\w+_\w+|\w*[A-Z]\w*)`", keys)
    assert [word for word in words if f"{word}=" not in keys and word not in VALUES] == []  # no name of the code


def test_the_help_of_a_command_shows_its_own_groups_keys_and_experiments_with_their_comments():
    offer_inr_shapes([])
    text = help_text("encode", ["fit.steps=7"])
    assert "  inr=3x16  (any DEPTHxWIDTH)" in text
    assert re.search(r"int6 +hidden weights in 6 bits", text)
    assert re.search(r"memory/PRESET +The bytes of a stored dataset", text)
    assert re.search(r"fit\.steps=7 +optimiser steps", text)
    assert re.search(r"out=\?\?\? +FILE\.inr to write", text)
    assert "backbone" not in text
    assert "accuracy/" not in text
    assert re.search(r"plot=null +FILE\.png", help_text("compare", []))
    assert re.search(r"variant=null +2x12-8bit, .*, \.\.\. \(\d+ in\s+configs/variant\)\n", text, re.DOTALL)


def test_a_command_line_is_completed_with_commands_groups_and_choices():
    assert completions("rapid-inr tr") == ["train "]
    assert completions("rapid-inr train opt") == ["optimizer="]
    assert completions("rapid-inr train seed=1 optimizer=s") == ["segment", "short", "small_batch"]
    assert completions("rapid-inr train variant=raw,coin-") == ["raw,coin-2x10", "raw,coin-2x17"]
    assert completions("rapid-inr encode experiment=memory/") == [f"memory/{name}" for name in ("cpu", "paper", "smoke")]
    assert completions("rapid-inr none ") == completions("rapid-inr train seed=") == []


def test_the_command_of_an_experiment_may_have_a_comment(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.setup.choices.CONFIGS", tmp_path)
    (tmp_path / "experiment" / "mine").mkdir(parents=True)
    (tmp_path / "experiment" / "mine" / "paper.yaml").write_text("command: train      # what it is for\n")
    assert command_of("mine/smoke") == "train"


def test_the_entry_point_runs_a_command_and_names_the_nearest(program):
    assert program("experiments", "info", "store=a.inr").communicate()[1].startswith("error: no store at a.inr")
    assert program("experiments", "tarin").communicate()[1] == "error: tarin is no command; did you mean train?\n"
    assert "  train " in program("experiments").communicate()[0]


@pytest.mark.parametrize("group", ["fit", "quantize", "prune", "refine", "optimizer", "augment", "backbone", "pipeline", "codec"])
def test_every_choice_builds(group):
    built = {
        choice: build(composed("codec" if group == "codec" else "train", f"{group}={choice}")[group]) for choice in choices(group)
    }
    if group == "pipeline":
        assert all(choice == config.name for choice, config in built.items())


@pytest.mark.parametrize("choice", choices("dataset"))
def test_a_dataset_has_its_own_name(choice):
    assert composed("encode", f"dataset={choice}").dataset.name == choice


def test_the_papers_recipe_is_as_published():
    fit = build(composed("encode", "fit=paper").fit)
    assert (fit.steps, fit.lr, fit.pixels_per_step, fit.betas) == (5000, 5e-4, None, (0.9, 0.999))
    inr = composed("encode", "inr=5x13").inr
    assert (inr.depth, inr.hidden, inr.omega) == (5, 13, 30)
    o = build(composed("train", "optimizer=paper").optimizer)
    assert (o.epochs, o.batch_size, o.lr, o.momentum, o.weight_decay, o.warmup) == (200, 128, 0.01, 0.9, 5e-4, 0)


def test_coins_recipe_is_as_published():
    fit = build(composed("encode", "fit=coin").fit)
    assert (fit.steps, fit.lr, fit.decay, fit.pixels_per_step) == (50_000, 2e-4, "none", None)


def test_the_seed_of_a_fit_is_that_of_the_command():
    assert build(composed("encode", "seed=3").fit).seed == 3


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes_at_every_preset_and_its_runs_have_names_of_their_own(name, monkeypatch):
    presets = {path.stem: path for path in (CONFIGS / "experiment" / name).glob("*.yaml")}
    assert presets.pop("smoke")  # which test_sweep.py runs
    assert "paper" in presets
    for path in presets.values():
        choice = f"experiment={name}/{path.stem}"
        cfg = with_hydra(command_of(name), choice)
        assert (cfg.folder, cfg.preset, cfg.command) == (f"runs/{name}/{path.stem}", path.stem, command_of(name))
        params = {key: str(values).replace(" ", "").split(",") for key, values in (cfg.hydra.sweeper.params or {}).items()}
        jobs = [[f"{key}={value}" for key, value in zip(params, job, strict=True)] for job in product(*params.values())]
        names = set()
        for job in jobs:
            cfg.hydra.overrides.task = [choice, *job]
            monkeypatch.setattr(HydraConfig, "get", lambda cfg=cfg: cfg.hydra)
            names.add(run_name("now", _root_=cfg))
        assert len(names) == len(jobs)
        assert not any("/" in run for run in names)
        monkeypatch.undo()
        first = composed(command_of(name), choice, *jobs[0])
        assert OmegaConf.to_container(first.dataset, resolve=True)["name"] in choices("dataset")


def test_every_variant_serves_an_experiment():
    texts = "".join(path.read_text() for path in (CONFIGS / "experiment").rglob("*.yaml"))
    texts += "".join(path.read_text() for path in (CONFIGS / "variant").glob("*.yaml"))
    assert [name for name in choices("variant") if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", texts)] == []


def test_make_reproduce_knows_every_experiment_and_goes_on_after_a_failure(tmp_path):
    root = CONFIGS.parent
    listed = re.search(r"EXPERIMENTS := ((?:.*\\\n)*.*)", (root / "Makefile").read_text())[1].replace("\\\n", "").split()
    assert sorted(listed) == EXPERIMENTS
    (tmp_path / "fake").write_text('#!/bin/sh\necho "$@"\ncase "$@" in *memory*) exit 3;; esac\n')
    (tmp_path / "fake").chmod(0o755)
    make = ["make", "--no-print-directory", "-o", ".venv/installed", "reproduce"]  # also where `make test` is the parent
    options = [f"PYTHON_M={tmp_path}/fake", "PRESET=smoke", "ONLY=memory accuracy"]
    done = subprocess.run([*make, *options], cwd=root, capture_output=True, text=True)
    assert "experiments.encode -m experiment=memory/smoke" in done.stdout
    assert "experiments.train -m experiment=accuracy/smoke" in done.stdout
    assert done.stdout.splitlines()[-1] == "failed: memory"
    assert done.returncode != 0


@pytest.mark.parametrize(
    "path", ["a,b=c", "50% #1 (x)", "it's", 'say "hi"', "photos/grün", "7", "true", "a b", "x{y}", "[z]q", "b\\c"]
)
def test_a_path_is_taken_as_it_is_typed(path):
    if path.startswith("["):
        path = f"./{path}"  # a bracket alone begins a list
    assert composed("encode", "dataset=flat", f"dataset.root={path}").dataset.root == path
    assert composed("encode", *[f"out={quoted(path)}"]).out == path


def test_a_home_folder_is_expanded_and_a_sweep_over_stores_stays_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me")
    assert with_quoted_paths(["store=~/a,b.inr"]) == ["store='/home/me/a,b.inr'"]
    assert with_quoted_paths(["-m", "store=a.inr,b.inr", "seed=0,1"]) == ["-m", "store=a.inr,b.inr", "seed=0,1"]
    (tmp_path / "a,b.inr").touch()
    assert with_quoted_paths(["-m", f"store={tmp_path}/a,b.inr"]) == ["-m", f"store='{tmp_path}/a,b.inr'"]
    assert with_quoted_paths(["store=null", "store='x'", "store=[a,b]"]) == ["store=null", "store='x'", "store=[a,b]"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+seeed=1"], "seeed is unknown; did you mean seed?"),
        (["seeed=1"], "seeed is unknown; did you mean seed?"),
        (["optimizer.epocs=3"], "optimizer.epocs is unknown; did you mean optimizer.epochs?"),
        (["+optimizer.rate=1"], "optimizer.rate is unknown"),
        (["optimizer.epochs=ten"], "optimizer.epochs is 'ten', expected an integer"),
        (["fit.steps=2.5"], "fit.steps is '2.5', expected an integer"),
        (["fit.steps=true"], "fit.steps is 'true', expected an integer"),
        (["fit.betas=[0.9]"], "fit.betas"),
        (["fit.steps=0"], "fit.steps is 0"),
        (["autocast=1"], "autocast is '1', expected Union[bool, str]"),
        (["autocast=maybe"], "autocast is 'maybe', expected auto, true or false"),
        (["inr.depth=0"], "inr.depth is 0, expected 1 to 256"),
        (["inr.omega=1e300"], "inr.omega is 1e+300, expected above 0 and at most 1e+06, or null"),
        (["optimizer.epochs=0"], "optimizer.epochs is 0, expected at least 1"),
        (["optimizer.lr=inf"], "optimizer.lr is inf, expected in (0, 100]"),
        (["dataset.size=0.5"], "dataset.size is 0.5"),
        (["dataset.exclude=[1,2.5]"], "dataset.exclude is"),
        (["pipeline.workers=2"], "pipeline=resident takes no pipeline.workers"),
        (["optimizer=null"], "optimizer is null, expected a choice; leave it out, or --help lists the choices"),
        (["variant=null"], "variant is null, expected a choice"),
        (["inr=wide"], "inr is 'wide', expected DEPTHxWIDTH, for instance 3x16"),
        (["optimizer=fats"], "optimizer is 'fats'; did you mean fast?"),
        (["experiment=accuracy"], "expected accuracy/cpu or accuracy/h200 or accuracy/paper or accuracy/smoke or accuracy/whole"),
        (["experiment=acuracy/smoke"], "experiment is 'acuracy/smoke'; did you mean accuracy/smoke?"),
        (["experiment=nothing"], "experiment is 'nothing', expected accuracy/cpu, accuracy/"),
        (["experiment=memory/cpu"], "another command: python -m experiments.encode -m experiment=memory/cpu"),
        (["-m", "experiment=accuracy/smoke,pruning/smoke"], "names several"),
        (["-m", "seed=0,1", "run_dir=a"], "run_dir=... is the folder of one run; with -m set folder=..."),
        (["experiment=accuracy/smoke"], "varies variant; add -m to run all of them, or choose one: variant=raw,"),
    ],
)
def test_what_the_command_line_gets_wrong_is_one_line(command, tmp_path, overrides, message):
    code, _, err = command("train", "dataset=shapes", *overrides)
    assert (code, message in err, err.count("\n")) == (2, True, 1), err
    assert not list(tmp_path.iterdir())


def test_debug_values_reach_only_the_keys_that_a_command_has():
    cfg = composed("info", "debug=smoke", "store=a.inr")
    assert "fit" not in cfg
    assert composed("encode", "debug=smoke").fit.steps == 20


def test_another_package_called_kernels_is_named(tmp_path):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import experiments.train"],
        cwd=CONFIGS.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert f"`import kernels` finds {tmp_path}/kernels/__init__.py" in done.stderr.splitlines()[-1]


def test_a_variant_wins_over_its_experiment():
    assert composed("train", "experiment=segmentation/paper", "variant=3x16-8bit").inr.depth == 3
    coin = composed("encode", "experiment=rate_distortion_kodak/paper", "variant=coin")
    assert (coin.fit.steps, coin.fit.start, coin.refine.steps, coin.quantize.bits) == (50_000, "siren", 0, 16)


@pytest.mark.parametrize(("name", "steps"), [("kodak", 10_000), ("photos", 5_000), ("cifar10", 600)])
def test_a_rate_distortion_experiment_has_its_own_steps_and_coin_those_of_its_authors(name, steps):
    for variant, expected in {"8bit": steps, "coin": 50_000}.items():
        assert composed("encode", f"experiment=rate_distortion_{name}/paper", f"variant={variant}").fit.steps == expected
    assert composed("encode", f"experiment=rate_distortion_{name}/smoke", "variant=coin").fit.steps == 20
