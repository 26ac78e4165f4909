"""Prepare the command line for Hydra (any path, any shape of an INR), and word what is wrong with it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.setup.choices import CONFIGS, choices_of, command_of, experiment_names, read_command
from experiments.setup.config_store import schema
from experiments.setup.groups import OF_SIRENS
from experiments.setup.schema import SCHEMAS, CommonConfig
from rapid_inr.errors import UserError
from rapid_inr.runlog.differences import flatten

# Keys whose values are paths. A path may have commas, equals signs, brackets and quotes, which mean something to Hydra.
PATHS = (
    "dataset.root", "dataset.exclude", "store", "out", "files", "test_store", "baseline", "resume", "decoded", "stores_dir",
    "folder", "run_dir", "reuse", "backbone.weights", "root", "records", "update", "plot",
)  # fmt: skip
WORDS = ("true", "false", "yes", "no", "on", "off", "inf", "nan")  # Hydra reads these as values, not as text
SWEEPS = re.compile(r",|^(choice|range|interval|glob|shuffle|sort)\(")


def is_multirun(arguments: Sequence[str]) -> bool:
    return "-m" in arguments or "--multirun" in arguments


def quoted(text: str) -> str:
    """Return a text in quotes, so that Hydra takes it literally."""
    if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text) and text.lower() not in WORDS:
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + match[2].replace("'", r"\'"), text)
    return f"'{escaped}'"


def with_quoted_paths(arguments: Sequence[str]) -> list[str]:
    """Return a command line with paths in quotes and ``~`` expanded. A sweep over several paths stays a sweep."""
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
    """Let ``inr`` take every DEPTHxWIDTH of the command line and configs/; refuse other names, and null for a group."""
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


def require_experiment_of(verb: str, arguments: Sequence[str]) -> None:
    """Refuse an unknown preset, an experiment of another command, several experiments, and ``run_dir`` for several runs.

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
        if command is not None and not (CONFIGS / "experiment" / f"{value}.yaml").is_file():
            choices = " or ".join(name for name in experiment_names(verb) if name.startswith(f"{value.partition('/')[0]}/"))
            raise UserError(f"experiment is {value!r}, expected {choices}")


def known_keys(verb: str) -> set[str]:
    """Return the dotted names of a command's keys, from its dataclass and its YAML file."""
    typed = OmegaConf.to_container(schema(SCHEMAS.get(verb, CommonConfig)))
    own = {key: value for key, value in read_command(verb).items() if key not in ("defaults", "hydra")}
    return set(flatten(typed)) | set(flatten(own))


def require_read(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """With ``inr=cosine``, refuse keys on the command line that fit or compress SIRENs.

    Raises:
        UserError: that names the first such key.
    """
    if cfg.get("inr") is None or cfg.inr.depth is not None:
        return
    touched = {override.lstrip("+").partition("=")[0].partition(".")[0] for override in overrides}
    for group in OF_SIRENS:
        if group not in touched:
            continue
        usual = OmegaConf.structured(OmegaConf.get_type(cfg[group]))
        own, usual = (OmegaConf.to_container(some, resolve=True) for some in (cfg[group], usual))
        for key in own:
            if own[key] != usual[key] and (key, own[key]) != ("seed", cfg.seed):
                raise UserError(
                    f"{group}.{key} is {own[key]}, expected {usual[key]}: it is a key of SIRENs, and inr is cosine; leave it out"
                )


def unknown(key: str, verb: str) -> UserError:
    """Return the error for a key that a command lacks, with the most similar key that it has."""
    known = known_keys(verb)
    groups = {name.partition(".")[0] for name in known}
    close = difflib.get_close_matches(key, sorted(known | groups), n=1, cutoff=0.6)
    return UserError(f"{key} is unknown" + (f"; did you mean {close[0]}?" if close else f"; --help lists the keys of {verb}"))


def explained(error: HydraException | OmegaConfBaseException, verb: str) -> Exception:
    """Return a plain error for what Hydra found wrong with an override, or the error itself if it is plain already."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return UserError(f"{error.override} cannot be read; text with spaces or brackets goes in quotes, as in 'KEY=[\"a b\"]'")
    if match := re.match(rf"In '{verb}': Could not find '(\w+)/(.+)'", text):
        group, choice = match.groups()
        choices = choices_of(verb, group)
        close = difflib.get_close_matches(choice, experiment_names() if group == "experiment" else choices, n=1)
        return UserError(
            f"{group} is {choice!r}" + (f"; did you mean {close[0]}?" if close else f", expected {', '.join(choices)}")
        )
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
    """Refuse keys that are in neither the dataclasses nor the YAML file of a command.

    ``debug=...`` sets keys of several commands; those that this one lacks are removed.
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
