"""What a command left out of a dataset: one warning that counts it, and a table that names all of it."""

from __future__ import annotations

from collections.abc import Sequence

from rapid_inr.data.passed_over import NOTHING_PASSED_OVER, PassedOver
from rapid_inr.runlog.run import Run, write_csv


def warn_left_out(
    run: Run, unreadable: Sequence[str], *, passed_over: PassedOver = NOTHING_PASSED_OVER, n_images: int | None = None
) -> None:
    """Count what was left out in one warning, and write ``left_out.csv`` into the run; arguments as for `PassedOver.message`."""
    message = passed_over.message(n_images=n_images, unreadable=unreadable)
    if message:
        path = run.folder / "left_out.csv"
        write_csv(path, [{"why": why, "file": file} for why, files in passed_over.kinds(unreadable).items() for file in files])
        run.warn("files_left_out", f"{message}; {path} names all")
