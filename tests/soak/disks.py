"""`python -m tests.soak.disks [COMMAND ...]`: a disk that is full after so many pages or files, and places that are read-only.

The disk is a tmpfs with so many pages, or files, left. Each command must end with one line that says what is wrong, and come to
its usual result when there is room again. Root alone can mount one; anybody else is told so.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.soak.commands import empty_folder, leftovers
from tests.soak.forks import COMMANDS, LOG, clean, code_of, fork, prepare, result_of, run

PAGE, ROOMY = 4096, "size=1g,nr_inodes=1m"
NAMES = [name for name in COMMANDS if name not in ("tables", "compare")]  # which write nothing
OUTPUTS = {"encode": "ro/a.inr", "export": "ro/files", "decode": "ro/pictures", "report": "ro/report.html"}


def mount(folder: str, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)


@contextmanager
def tmpfs(folder: str) -> Iterator[None]:
    Path(folder).mkdir()
    mount(folder, ROOMY)
    place = Path(folder).absolute()
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def leave(*, pages: int | None = None, files: int | None = None) -> None:
    """Leave room for so many pages or files on the disk that is worked on; for any number by default."""
    use = os.statvfs(".")
    size = "1g" if pages is None else (use.f_blocks - use.f_bfree + pages) * PAGE
    inodes = "1m" if files is None else use.f_files - use.f_ffree + files
    mount(str(Path.cwd()), f"remount,size={size},nr_inodes={inodes}")


def require_plain_end(name: str, code: int, reason: str) -> None:
    """Raise unless a command has ended as it should where it cannot write: it says so in one line that names a file."""
    text = LOG.read_text()
    errors = [line for line in text.splitlines() if line.startswith(("error: ", "failed: ")) or "jobs failed" in line]
    several = name.startswith("multirun")
    assert code == 2 or (several and code == 1), (name, code, text)
    assert "Traceback" not in text, (name, text)
    assert errors, (name, text)
    named = reason if several else rf"{reason}[^:]*: '"  # Hydra writes a file there, and its error names none
    assert re.search(named, text), (name, text)


def fill(name: str, kind: str, expected: Any) -> int:
    """Run a command on a disk with room for 0, 1, 2, ... `kind`, a fifth more each time, or twice as much, until it succeeds.

    Returns:
        How often it did not.
    """
    room, tried = 0, 0
    while True:
        clean(name)
        leave(**{kind: room})
        code = code_of(fork(name))
        if code == 0:
            leave()
            return tried
        require_plain_end(name, code, "No space left")
        leave()
        run(name, *(["overwrite=true"] if name == "decode" else []))  # which writes into no folder with pictures otherwise
        assert result_of(name) == expected, f"{name} ended with something else after {room} {kind}"
        left = [path for path in leftovers(Path()) if not path.startswith("kept/")]
        assert not left, f"{name} left {left} after {room} {kind}"
        tried += 1
        room += max(1, room // (1 if name.startswith("multirun") else 5))


def read_only(name: str) -> int:
    """Run a command where all, its output, or its run's folder is read-only; return how many ways there were."""
    clean(name)
    mount(".", f"remount,ro,{ROOMY}")
    code = code_of(fork(name))
    mount(".", f"remount,rw,{ROOMY}")
    require_plain_end(name, code, "Read-only")
    places = [f"out={OUTPUTS[name]}"] if name in OUTPUTS else []
    places += ["run_dir=ro/run"] if any(part.startswith("run_dir=") for part in COMMANDS[name]) else []
    for place in places:
        clean(name)
        with tmpfs("ro"):
            mount("ro", f"remount,ro,{ROOMY}")
            require_plain_end(name, code_of(fork(name, place)), "Read-only")
    return 1 + len(places)


def main(names: list[str]) -> None:
    with empty_folder():
        try:
            with tmpfs("work"):
                prepare()
                for name in names:
                    clean(name)
                    run(name)
                    expected = result_of(name)
                    full = ", ".join(f"{fill(name, kind, expected)} with the disk full of {kind}" for kind in ("pages", "files"))
                    print(f"{name}: {full}, {read_only(name)} with places read-only: each a plain end", flush=True)
                os.chdir("..")
        except subprocess.CalledProcessError as error:
            sys.exit(f"a tmpfs cannot be mounted here, so no disk was filled: {error.stderr.decode().strip()}")


if __name__ == "__main__":
    main(sys.argv[1:] or NAMES)
