"""`rapid-inr COMMAND ...` or `python -m experiments COMMAND ...`: run a command, as `python -m experiments.COMMAND ...` does."""

from __future__ import annotations

import ast
import difflib
import os
import runpy
import signal
import sys
from pathlib import Path

from experiments import end_at_once
from experiments.setup.choices import choices_of, groups_of

COMPLETION = "complete -o nospace -C 'rapid-inr --complete' rapid-inr"  # for bash; zsh needs bashcompinit first


def commands() -> dict[str, str]:
    """Return what each command does, by its name: a file directly in this folder is a command."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = docstring.partition("\n")[0].partition("`: ")[2].strip()
    return found


def completions(line: str) -> list[str]:
    """Return how the last word of a command line may continue: a command, a config group, or a choice of one.

    A shell takes what follows ``=`` for a word by itself.
    """
    *before, word = line.split(" ")
    if len(before) == 1:
        return [f"{name} " for name in commands() if name.startswith(word)]
    if len(before) < 2 or before[1] not in commands():
        return []
    group, sign, choice = word.rpartition("=")
    if not sign:
        return [f"{name}=" for name in groups_of(before[1]) if name.startswith(word)]
    *several, last = choice.split(",")
    names = choices_of(before[1], group) if group in groups_of(before[1]) else []
    return [",".join([*several, name]) for name in names if name.startswith(last)]


def main() -> None:
    """Run the command that the command line names; without one, list them."""
    if sys.argv[1:2] == ["--complete"]:
        print("\n".join(completions(os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])])))
        return
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in commands():
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, end_at_once)
        del sys.argv[1]
        runpy.run_module(f"experiments.{verb}", run_name="__main__", alter_sys=True)
        return
    if verb not in ("-h", "--help"):
        near = difflib.get_close_matches(verb, commands(), n=1)
        print(f"error: {verb} is no command" + (f"; did you mean {near[0]}?" if near else ""), file=sys.stderr)
        sys.exit(2)
    print("rapid-inr COMMAND [--help] [group=choice] [key=value]      (or: python -m experiments.COMMAND ...)\n")
    for name, does in commands().items():
        print(f"  {name:12s} {does}")
    print(f"\nTab completion in bash: {COMPLETION}")


if __name__ == "__main__":
    main()
