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

    def message(self, *, n_images: int, unreadable: Sequence[str] = ()) -> str:
        """Say what of a folder was left out: ``57 files: 3 unreadable (...), 2 in sub-folders (...), 4 not images (...)``.

        Args:
            n_images: images of the dataset, readable or not.
            unreadable: one message each.

        Returns:
            One line that names the first of each kind; empty if nothing was left out.
        """
        kinds = {"unreadable": unreadable, "in sub-folders": self.in_subfolders, "not images": self.not_images}
        named = [f"{len(files)} {kind} (the first: {files[0]})" for kind, files in kinds.items() if files]
        n_files = n_images + len(self.in_subfolders) + len(self.not_images)
        return f"{n_files} files: {', '.join(named)}" if named else ""


NOTHING_PASSED_OVER = PassedOver()
