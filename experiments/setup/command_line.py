"""The command line before Hydra reads it: paths as they are typed, any shape of an INR; and what it says of a wrong key."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.setup.config_store import schema
from experiments.setup.groups import OF_INRS
from experiments.setup.schema import SCHEMAS, CommonConfig
from rapid_inr.errors import UserError
from rapid_inr.runlog.differences import flatten

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Keys whose values are paths, which may hold whatever Hydra gives a meaning: commas, equals signs, brackets, quotes.
PATHS = (
    "dataset.root", "dataset.exclude", "store", "out", "files", "test_store", "baseline", "resume", "decoded", "stores_dir",
    "folder", "run_dir", "reuse", "backbone.weights", "root", "update", "plot",
)  # fmt: skip
WORDS = ("true", "false", "yes", "no", "on", "off", "inf", "nan")  # texts that Hydra would not take for a text
SWEEPS = re.compile(r",|^(choice|range|interval|glob|shuffle|sort)\(")


def is_multirun(arguments: Sequence[str]) -> bool:
    return "-m" in arguments or "--multirun" in arguments


def quoted(text: str) -> str:
    """Return a text as Hydra reads it whole, whatever is in it."""
    if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text) and text.lower() not in WORDS:
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + match[2].replace("'", r"\'"), text)
    return f"'{escaped}'"


def with_quoted_paths(arguments: Sequence[str]) -> list[str]:
    """Return a command line with bare paths in quotes and their ``~`` expanded; a sweep over several stays one."""
    multirun = is_multirun(arguments)
    return [_with_quoted_path(argument, multirun=multirun) for argument in arguments]


def _with_quoted_path(argument: str, *, multirun: bool) -> str:
    key, sign, value = argument.partition("=")
    if not sign or key.lstrip("+") not in PATHS or value in ("", "null", "???") or value[0] in "'\"[" or "${" in value:
        return argument
    value = os.path.expanduser(value)
    sweeps = multirun and SWEEPS.search(value) and not Path(value).exists()
    return argument if sweeps else f"{key}={quoted(value)}"


def offer_inr_shapes(arguments: Sequence[str]) -> None:
    """Let ``inr=DEPTHxWIDTH`` name any shape that the command line or a file of configs/ mentions; refuse what is no choice."""
    for argument in arguments:
        group, _, value = argument.lstrip("+").partition("=")
        if value == "null" and (CONFIGS / group).is_dir():
            raise UserError(f"{group} is null, expected a choice; leave it out, or --help lists the choices")
        for choice in value.split(",") if group == "inr" else ():
            if choice != "cosine" and not re.fullmatch(r"\d+x\d+", choice):
                raise UserError(f"inr is {choice!r}, expected DEPTHxWIDTH, for instance 3x16, or cosine")
    text = " ".join([*arguments, *(path.read_text(encoding="utf-8") for path in CONFIGS.rglob("*.yaml"))])
    for choice in set(re.findall(r"\b\d+x\d+\b", text)):
        if not (CONFIGS / "inr" / f"{choice}.yaml").exists():
            depth, hidden = map(int, choice.split("x"))
            ConfigStore.instance().store(group="inr", name=choice, node={"depth": depth, "hidden": hidden, "omega": None})


def command_of(experiment: str) -> str | None:
    """Return the command that ``experiment=NAME/PRESET`` is for, or None where configs/ has no such experiment."""
    path = CONFIGS / "experiment" / experiment.partition("/")[0] / "paper.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))["command"] if path.is_file() else None


def experiment_names(verb: str) -> list[str]:
    """Return NAME/PRESET of all experiments that a command can run."""
    paths = sorted((CONFIGS / "experiment").glob("*/*.yaml"))
    return [name for path in paths if command_of(name := f"{path.parent.name}/{path.stem}") == verb]


def require_experiment_of(verb: str, arguments: Sequence[str]) -> None:
    """Refuse an experiment that is unknown or another command's, several at once, and ``run_dir`` for several runs.

    Raises:
        UserError: with what to type instead.
    """
    multirun = is_multirun(arguments)
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        if key == "run_dir" and multirun:
            raise UserError("run_dir=... is the folder of one run; with -m set folder=..., which holds those of all jobs")
        if key != "experiment" or value in ("", "null"):
            continue
        if "," in value:
            raise UserError(f"experiment={value} names several; start each by itself, or: make reproduce PRESET=... ONLY=...")
        command = command_of(value)
        if command not in (None, verb):
            raise UserError(f"experiment={value} is for another command: python -m experiments.{command} -m experiment={value}")
        path = CONFIGS / "experiment" / f"{value}.yaml"
        if command is not None and not path.is_file():
            choices = " or ".join(name for name in experiment_names(verb) if name.startswith(f"{value.partition('/')[0]}/"))
            raise UserError(f"experiment is {value!r}, expected {choices}")


def choices_of(verb: str) -> str:
    """Return the config groups that a command has and their choices, for its ``--help``."""
    lines = []
    defaults = yaml.safe_load((CONFIGS / f"{verb}.yaml").read_text(encoding="utf-8"))["defaults"]
    for group in (group for entry in defaults if isinstance(entry, dict) for group in entry if not group.startswith("override ")):
        choices = sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
        if group == "experiment":
            names = [name.split("/") for name in experiment_names(verb)]
            presets = {name: ",".join(preset for other, preset in names if other == name) for name, _ in names}
            choices = [f"{name}/{{{several}}}" for name, several in presets.items()]
        if group == "inr":
            choices = ["DEPTHxWIDTH", *choices]
        lines += [f"{group}: {', '.join(choices)}"] if choices else []
    return "\n".join(lines)


def known_keys(verb: str) -> set[str]:
    """Return the dotted names of all keys of a command, those of its YAML file included."""
    typed = OmegaConf.to_container(schema(SCHEMAS.get(verb, CommonConfig)))
    own = yaml.safe_load((CONFIGS / f"{verb}.yaml").read_text(encoding="utf-8"))
    return set(flatten(typed)) | set(flatten({key: value for key, value in own.items() if key not in ("defaults", "hydra")}))


def require_read(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse what a command line changes of how SIRENs are fitted and compressed where ``inr`` is a cosine series.

    Raises:
        UserError: that names the first such key.
    """
    if cfg.get("inr") is None or cfg.inr.depth is not None:
        return
    touched = {override.lstrip("+").partition("=")[0].partition(".")[0] for override in overrides}
    for group in OF_INRS:
        if group == "inr" or group not in touched:
            continue
        usual = OmegaConf.structured(OmegaConf.get_type(cfg[group]))
        own, usual = (OmegaConf.to_container(some, resolve=True) for some in (cfg[group], usual))
        for key in own:
            if own[key] != usual[key] and (key, own[key]) != ("seed", cfg.seed):
                raise UserError(f"{group}.{key} is {own[key]}, expected {usual[key]}: inr=cosine has no {group}; leave it out")


def unknown(key: str, verb: str) -> UserError:
    """Return the error of a key that a command does not have, with the most similar one that it has."""
    known = known_keys(verb)
    groups = {name.partition(".")[0] for name in known}
    close = difflib.get_close_matches(key, sorted(known | groups), n=1, cutoff=0.6)
    return UserError(f"{key} is unknown" + (f"; did you mean {close[0]}?" if close else f"; --help lists the keys of {verb}"))


def explained(error: HydraException | OmegaConfBaseException, verb: str) -> Exception:
    """Return an error that says plainly what Hydra has found wrong with an override, or the same where it does so itself."""
    text = str(error)
    if match := re.match(r"Could not override '([^']+)'", text):
        return unknown(match[1].lstrip("+"), verb)
    if text.startswith("Error merging override "):
        override = text.splitlines()[0].removeprefix("Error merging override ")
        reason = str(error.__cause__ or "").partition("\n")[0]
        kinds = {"Integer": "an integer", "Float": "a number", "valid bool": "true or false", "Boolean": "true or false"}
        expected = next((words for kind, words in kinds.items() if kind in reason), None)
        if match := re.search(r"incompatible with type hint '(.*)'", reason):
            expected = match[1]
        key, _, value = override.partition("=")
        return UserError(f"{key} is {value!r}, expected {expected}" if expected else f"{override}: {reason}")
    return error


def require_known(cfg: DictConfig, verb: str, unknown_names: Sequence[str]) -> None:
    """Refuse keys that neither the dataclasses nor the YAML file of a command have.

    ``debug=...`` sets keys of several commands, so those that this one lacks are taken out instead.
    """
    if not unknown_names:
        return
    known = known_keys(verb)
    known |= {name.partition(".")[0] for name in known}
    of_debug = {key for path in (CONFIGS / "debug").glob("*.yaml") for key in yaml.safe_load(path.read_text(encoding="utf-8"))}
    for name in set(unknown_names) - known:
        if name not in of_debug:
            raise unknown(name, verb)
        OmegaConf.set_struct(cfg, False)
        del cfg[name]
