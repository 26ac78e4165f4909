"""The files in the folders of a dataset that are not among its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PassedOver:
    """Files in the folders of a dataset that are not among its images, without hidden files.

    Args:
        in_subfolders: images in deeper folders than the layout has.
        not_images: files with other suffixes.
    """

    in_subfolders: tuple[Path, ...] = ()
    not_images: tuple[Path, ...] = ()

    def __add__(self, other: PassedOver) -> PassedOver:
        return PassedOver(self.in_subfolders + other.in_subfolders, self.not_images + other.not_images)

    def kinds(self, unreadable: Sequence[str] = ()) -> dict[str, Sequence[Path | str]]:
        """Return the left-out files by reason; unreadable images as messages."""
        kinds = {"unreadable": unreadable, "in sub-folders": self.in_subfolders, "of another type": self.not_images}
        return {why: files for why, files in kinds.items() if files}

    def message(self, *, n_images: int | None = None, unreadable: Sequence[str] = ()) -> str:
        """Describe the left-out files of a folder: ``3 of 57 files left out: 1 unreadable (...), 2 of another type (...)``.

        Args:
            n_images: images of the dataset, readable or not; None if unknown.
            unreadable: one message each.

        Returns:
            One line that names the first of each kind; empty if nothing was left out.
        """
        kinds = self.kinds(unreadable)
        named = ", ".join(f"{len(files)} {why} ({'the first: ' * (len(files) > 1)}{files[0]})" for why, files in kinds.items())
        if not named or n_images is None:
            return named
        n_files = n_images + len(self.in_subfolders) + len(self.not_images)
        return f"{sum(map(len, kinds.values()))} of {n_files} files left out: {named}"


NOTHING_PASSED_OVER = PassedOver()
