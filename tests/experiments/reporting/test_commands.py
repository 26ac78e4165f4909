"""The commands that tables print, which a reader types as they are."""

import re
import shlex
from itertools import product
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from experiments.reporting.commands import commands_of, swept_commands
from experiments.reporting.glance import OWN
from tests.experiments.commands import composed

ROOT = Path(__file__).parents[3]


def started(*commands):
    return pd.DataFrame({"command": [f"python -m experiments.{command}" for command in commands]})


def test_an_override_that_the_preset_has_by_now_is_left_out_and_another_is_kept():
    whole = "train experiment=accuracy/whole track=off"
    assert swept_commands(
        started(
            f"{whole} variant=raw seed=0 optimizer.lr=0.08 autocast=True",
            f"{whole} variant=raw seed=1",
            f"{whole} variant=3x16-7bit seed=1 optimizer.lr=0.5 autocast=True",
        )
    ) == [
        "python -m experiments.train -m experiment=accuracy/whole variant=raw seed=0,1",
        "python -m experiments.train experiment=accuracy/whole variant=3x16-7bit seed=1 optimizer.lr=0.5",
    ]


def test_an_override_that_undoes_what_the_variant_sets_is_kept():
    sevens, eights = (f"train experiment=accuracy/whole variant=3x16-7bit quantize.bits={bits}" for bits in (7, 8))
    sweeps = ("experiment=accuracy/whole variant=3x16-7bit", eights.removeprefix("train "))
    assert swept_commands(started(sevens, eights)) == [f"python -m experiments.train {sweep}" for sweep in sweeps]


def test_each_experiment_has_a_command_and_keeps_what_its_sweep_varies():
    runs = started(*(f"benchmark experiment=speedup_{data}/paper workers=1 repeats=3" for data in ("cifar10", "houses")))
    assert commands_of("speedup", "paper", runs) == [
        f"python -m experiments.benchmark experiment=speedup_{data}/paper workers=1 repeats=3" for data in ("cifar10", "houses")
    ]
    assert commands_of("speedup", "paper", runs[1:])[0] == "python -m experiments.benchmark -m experiment=speedup_cifar10/paper"


def test_the_overrides_of_an_experiment_that_is_gone_are_kept():
    (command,) = swept_commands(started("train experiment=gone/whole optimizer.lr=0.08"))
    assert command.endswith(" experiment=gone/whole optimizer.lr=0.08")


def test_a_store_is_written_under_its_own_name():
    command = "python -m experiments.encode inr=3x16 track=off out=/data/stores/houses.inr run_dir=runs/a overwrite=true"
    assert OWN.sub("", command) == "encode inr=3x16 out=houses.inr"


def test_every_command_of_the_first_table_lacks_nothing():
    (table,) = re.findall(r"<!-- glance:claims -->(.*)<!-- /glance", (ROOT / "README.md").read_text(), re.DOTALL)
    commands = [shlex.split(command) for command in re.findall(r"`((?:encode|train|benchmark) [^`]+)`", table)]
    assert len(commands) >= 5
    for verb, *words in commands:
        keys, values = zip(*(word.split("=", 1) for word in words if word != "-m"), strict=True)
        for chosen in product(*(value.split(",") if "-m" in words else [value] for value in values)):
            cfg = composed(verb, *map("=".join, zip(keys, chosen, strict=True)), "run_dir=run", "folder=runs")
            assert "???" not in OmegaConf.to_yaml(cfg), (verb, words)  # a missing value
