"""Predictions of nnU-Net, or of any program that writes a mask for each case, as samples of the cases of a data set.

``OUT/NAME.nii.gz`` as ``nnUNetv2_predict -o OUT`` writes it, with ``OUT/dataset.json`` for what the values mean, and
with ``--save_probabilities`` ``OUT/NAME.npz`` (key "probabilities", ``(classes with background, Z, Y, X)``; version 1:
"softmax"). Where a folder holds no masks, those in its folders are taken, as many samples of a case as there are masks
of it: predictions of several folds or networks, ``fold_0/validation`` to ``fold_4/validation`` of a cross-validation
(each case is in one of them), or ``sample_01``, ``sample_02``. Pickles (``NAME.pkl``) are never opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.data.file_case import RaterFile, load_rater
from AmbiguousSegLib.ensemble.nested_draws import nested_label_maps
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.names import ending_of, listed, some, without_data_files
from AmbiguousSegLib.layouts.nnunet_labels import DESCRIPTION, classes_of, describes_nnunet, named_labels, stored_labels
from AmbiguousSegLib.layouts.npz_file import array_headers, read_array
from AmbiguousSegLib.text_files import read_json
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.headers import read_header
from AmbiguousSegLib.volume.scan_kind import is_picture

_FOLD = re.compile(r"fold_(\d+|all)")
_HELD_OUT = "validation"  # the folder of a fold with the predictions of the cases that it did not train on
_KEYS = ("probabilities", "softmax")  # version 2, version 1
MOST_CHANNELS = 65_536  # that an .npz is believed to have: as many values as a mask of nnU-Net can hold
_ROUNDING = 0.02  # by which stored probabilities may leave [0, 1] or sum to other than 1: they may be float16


@dataclass(frozen=True)
class Predictions:
    """Masks that one system predicted.

    Attributes:
        folder: that was given.
        files: of each case, by its name, one mask for each sample.
        described: what ``dataset.json`` of each folder with masks holds, where there is one of nnU-Net.
    """

    folder: Path
    files: dict[str, tuple[Path, ...]]
    described: dict[Path, tuple[Path, dict]] = field(repr=False)
    _meant: dict[Any, tuple[tuple[int, int], ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def labels(self) -> tuple[Label, ...]:
        """Labels that the first ``dataset.json`` names; none where there is none, or they are regions that overlap."""
        return next((named_labels(told, file) for file, told in self.described.values()), ())

    def of(self, identity: str) -> tuple[Path, ...]:
        """The masks of a case, found by its identity, with "_" for "/" in it; none where there are none."""
        return self.files.get(identity, self.files.get(identity.replace("/", "_"), ()))

    def masks(self, identity: str, geometry: Geometry, labels: Sequence[Label]) -> Iterator[np.ndarray]:
        """The label maps of a case one by one: uint8 ``(Z, Y, X)`` of the labels 1 to K, on the grid of its image.

        Raises:
            ValueError: another size, spacing, origin or direction; values that are no labels; as ``stored_labels``.
        """
        for path in self.of(identity):
            grid = geometry
            if is_picture(path) and geometry.size[2] == 1:  # does not tell the size of its pixels
                own = read_header(path).geometry
                grid = own if own.size == geometry.size else geometry
            rater = RaterFile(str(self.folder), path, labels=self._stored(path, labels))
            yield load_rater(rater, grid, [label.name for label in labels])

    def draws(
        self, identity: str, geometry: Geometry, labels: Sequence[Label], thresholds: Sequence[float]
    ) -> Iterator[np.ndarray]:
        """Label maps as ``masks``, drawn by ``nested_label_maps`` from the mean of the probabilities of all its masks.

        That mean is the ensemble of folds or networks that nnU-Net itself makes.

        Raises:
            ValueError: no probabilities beside the mask, of another shape, of regions, or that are none; as ``masks``.
        """
        for _ in self.masks(identity, geometry, labels):  # refuses another grid, which an .npz does not tell
            pass
        files = self.of(identity)
        mean = self._probabilities(files[0], geometry, labels)
        for file in files[1:]:
            mean += self._probabilities(file, geometry, labels)
        mean /= len(files)
        yield from nested_label_maps(mean, thresholds)

    def sample_set(
        self, identity: str, geometry: Geometry, labels: Sequence[Label], thresholds: Sequence[float] | None = None
    ) -> SampleSet:
        """All samples of a case: its masks, or (``thresholds``) as many draws from its probabilities.

        Raises:
            ValueError: no mask of this case; as ``masks`` and ``draws``.
        """
        if not (files := self.of(identity)):
            raise ValueError(f"{shown(self.folder)} holds no prediction of {identity}; predict it, or leave it out.")
        if thresholds is None:
            drawn, how = self.masks(identity, geometry, labels), "masks"
        else:
            drawn, how = self.draws(identity, geometry, labels, thresholds), "thresholds of probabilities"
        origin = {"predictions": [str(file) for file in files], "taken as": how}
        return SampleSet(np.stack(list(drawn)), geometry, origin, tuple(labels))

    def _stored(self, path: Path, labels: Sequence[Label]) -> tuple[tuple[int, int], ...]:
        if path.parent not in self.described:
            return ()
        file, told = self.described[path.parent]
        key = (file, tuple(labels))
        if key not in self._meant:  # what it warns of is told once
            self._meant[key] = stored_labels(told, labels, file)
        return self._meant[key]

    def _probabilities(self, mask: Path, geometry: Geometry, labels: Sequence[Label]) -> np.ndarray:
        """Of the labels 1 to K: float32 ``(K, Z, Y, X)``."""
        file = mask.with_name(f"{_name(mask)}.npz")
        if not file.is_file():
            raise ValueError(
                f"{shown(file)} does not exist; predict with --save_probabilities, or take the masks as they are."
            )
        headers = array_headers(file)
        key = next((key for key in _KEYS if key in headers), None)
        if key is None or headers[key].dtype.kind != "f":
            held = some([f"{name} ({header.dtype})" for name, header in headers.items()], 10)
            raise ValueError(
                f"{shown(file)} holds {held or 'nothing'}, expected floats under {' or '.join(_KEYS)}; predict with "
                "--save_probabilities."
            )
        meant = self._channels(mask, headers[key].shape[0] if headers[key].shape else 0, labels, file)
        expected = (len(meant), *geometry.shape)
        if headers[key].shape != expected:
            raise ValueError(
                f"{shown(file)} has probabilities of shape {headers[key].shape}, expected {expected} (classes with "
                "background, Z, Y, X); version 1 of nnU-Net stores them cropped, predict anew with version 2."
            )
        stored = read_array(file, key)
        found = np.zeros((len(labels), *geometry.shape), np.float32)
        for channel, label in enumerate(meant):
            if label:
                found[label - 1] += stored[channel]
        total = stored.sum(axis=0, dtype=np.float32)
        if not (np.abs(total - 1) <= _ROUNDING).all() or not (stored >= -_ROUNDING).all():
            raise ValueError(
                f"{shown(file)} holds no probabilities that sum to 1 over the classes; predict with "
                "--save_probabilities."
            )
        return found

    def _channels(self, mask: Path, count: int, labels: Sequence[Label], file: Path) -> tuple[int, ...]:
        """Which label each channel is, 0: background."""
        if mask.parent not in self.described:
            alike = tuple(range(len(labels) + 1))
            return (0, *(1,) * (count - 1)) if len(labels) == 1 and 1 < count <= MOST_CHANNELS else alike
        description, told = self.described[mask.parent]
        values = [value for own in classes_of(told, description).values() for value in own]
        if "regions_class_order" in told or len(set(values)) < len(values):
            raise ValueError(
                f"{shown(file)}: probabilities of regions overlap and do not sum to 1; take the masks as they are."
            )
        meant = dict(self._stored(mask, labels))
        if sorted(meant) != list(range(1, len(meant) + 1)):
            raise ValueError(
                f"{shown(description)} numbers its labels {some([str(v) for v in sorted(meant)], 10)}, expected 1 to "
                f"{len(meant)}, as the channels of {shown(file)} follow them."
            )
        return (0, *(meant[value] for value in sorted(meant)))


def find_predictions(folder: Path) -> Predictions:
    """The masks of a folder, or of its folders, by the names of the cases; only names and ``dataset.json`` are read.

    Where there are folders ``fold_0``, ``fold_1`` …, others beside them (a mean of all folds) are left out.

    Raises:
        FileNotFoundError: the folder is not there.
        ValueError: it holds no masks; two masks of one case in one folder; a ``dataset.json`` that cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{shown(folder)} is no folder; --predictions takes folders of masks.")
    folders = listed(folder)[0]
    within = [folder / name for name in ([n for n in folders if _FOLD.fullmatch(n)] or folders)]
    within = [place / _HELD_OUT if (place / _HELD_OUT).is_dir() else place for place in within]
    places = [folder] if _masks(folder, "") else within
    files: dict[str, list[Path]] = {}
    described = {}
    for place in places:
        above = folder.parents[1] if folder.name == _HELD_OUT and _FOLD.fullmatch(folder.parent.name) else folder
        found = next((own for own in (place, *place.parents) if (own / DESCRIPTION).is_file() or own == above), above)
        told = read_json(found / DESCRIPTION) if (found / DESCRIPTION).is_file() else None
        ending = str(told.get("file_ending", "")) if isinstance(told, dict) and describes_nnunet(told) else ""
        if isinstance(told, dict) and describes_nnunet(told):
            described[place] = (found / DESCRIPTION, told)
        for name, path in (_masks(place, ending) or _masks(place, "")).items():
            files.setdefault(name, []).append(path)
    if not files:
        raise ValueError(
            f"{shown(folder)} holds no masks, nor do its folders; give a folder of NAME.nii.gz (or NRRD, PNG …), one "
            "for each case."
        )
    return Predictions(folder, {name: tuple(paths) for name, paths in files.items()}, described)


def _masks(place: Path, ending: str) -> dict[str, Path]:
    """Masks of a folder by the name of their case; with ``ending``, those of this ending alone."""
    found: dict[str, Path] = {}
    for file in without_data_files(listed(place)[1]):
        if not (file.endswith(ending) if ending else ending_of(file)):
            continue
        name = file.removesuffix(ending) if ending else _name(Path(file))
        if name in found:
            raise ValueError(
                f"{shown(place)} holds {found[name].name} and {file}, two masks of {name}; give each sample a folder "
                "of its own."
            )
        found[name] = place / file
    return found


def _name(mask: Path) -> str:
    return mask.name[: len(mask.name) - len(ending_of(mask.name))]
