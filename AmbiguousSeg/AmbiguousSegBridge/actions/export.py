"""Export: a run as files that other programs read, written by the worker, so that a large volume freezes nothing."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.actions.work import Work
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.parameters import ExportContent
from AmbiguousSegBridge.scene.masks import crops_of, map_array, mask_of
from AmbiguousSegBridge.scene.run_node import sample_index
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.worker.runner import Job, Listener, crops_argument
from AmbiguousSegLib.labels import file_names
from AmbiguousSegLib.outputs.export_formats import FORMATS
from AmbiguousSegLib.volume.crops import Crop


class Export(Work):
    """Has the run shown written."""

    NOTHING = _("Nothing was exported.")
    CANCELLED = _("Cancelled; nothing was written.")

    def problem(self, snapshot: Snapshot) -> str:
        """Why nothing can be written; empty where it can."""
        run, parameters = snapshot.run, snapshot.parameters
        if run is None or not run.samples:
            return _("Generate segmentations first")
        if snapshot.generating:
            return _("Wait until the samples are there")
        if parameters.exportFolder == Path():
            return _("Choose a folder")
        if parameters.exportContent is ExportContent.SHOWN and snapshot.sample_alone is None:
            return _("Choose one sample in the section Result first")
        if form_of(parameters) == "dicom":
            if find_spec("highdicom") is None:
                return _("DICOM SEG needs the Python package highdicom, which comes with Slicer 5.12")
            if not source_files(run.input):
                return _("DICOM SEG needs a volume that was loaded from the DICOM database")
        return ""

    def press(self) -> None:
        """Begin, or cancel what is under way."""
        if self.busy:
            self.cancel()
            return
        with self.context.errors_shown(self.NOTHING):
            run, parameters = self.context.run(), self.context.parameters
            if run is None or not self.context.packages_there(self.NOTHING):  # it may have gone before the press
                return
            folder = parameters.exportFolder
            overwrite = folder.is_dir() and any(folder.iterdir())
            if overwrite and not slicer.util.confirmOkCancelDisplay(
                _("Folder {folder} is not empty. Replace files of the same names?").format(folder=folder)
            ):
                return
            shown = parameters.shownSample - 1
            job = export_job(run, parameters.exportContent, form_of(parameters), shown, folder, overwrite)
            listener = Listener(finished=self._finished, failed=self._failed, cancelled=self._cancelled)
            self._begin(job, listener, _("Writing..."))

    def _finished(self, result: dict[str, Any], _folder: Path) -> None:
        files = result["files"]
        text = _("{count} files written to {folder}").format(
            count=len(files), folder=Path(files[0]).parent if files else "-"
        )
        self._end("\n".join([text, *result.get("notes", [])]))


def form_of(parameters: Any) -> str:
    """Name of the format chosen; the first where a scene names one that is not here."""
    name = parameters.exportForm.lower()  # earlier versions wrote SEG_NRRD
    return name if name in FORMATS else next(iter(FORMATS))


def export_job(run: Run, content: ExportContent, form: str, shown: int, folder: Path, overwrite: bool = False) -> Job:
    """Job that writes a run: every sample, the consensus and the maps, or one of them.

    Args:
        form: name of a format of ``FORMATS``.
        shown: position in ``run.samples`` of the sample to write, for ``ExportContent.SHOWN``.
    """
    what, named = " + ".join(run.label_names), list[tuple[str, str, Crop]]()
    arrays: dict[str, np.ndarray] = {}
    if content is not ExportContent.CONSENSUS:
        for position, (node, crop) in enumerate(zip(run.samples, crops_of(run))):
            if content is ExportContent.EVERYTHING or position == shown:
                number = sample_index(node) + 1
                named.append((f"sample_{number:02d}", f"{what} {number}", crop))
    if content is not ExportContent.SHOWN and run.consensus is not None:
        named.append(("consensus", f"{what} (consensus)", mask_of(run.consensus, run)))
    if content is ExportContent.EVERYTHING:
        ends = [f"_{name}" for name in file_names(run.labels)] if len(run.labels) > 1 else [""]
        maps = {"mean" + end: node for end, node in zip(ends, run.means)}
        maps |= {"variance" + end: node for end, node in zip(ends, run.variances)} | {"entropy": run.entropy}
        # What the user deleted is missing.
        arrays = {f"{name}.npy": map_array(node) for name, node in maps.items() if node is not None}
    entries, mask_arrays = crops_argument("mask", [crop for _stem, _title, crop in named])
    entries = [{**entry, "stem": stem, "title": title} for entry, (stem, title, _crop) in zip(entries, named)]
    arguments = {
        "masks": entries,
        "maps": {name.removesuffix(".npy"): name for name in arrays},
        "geometry": asdict(run.geometry),
        "folder": str(folder),
        "form": form,
        "labels": [asdict(label) for label in run.labels],
        "source_files": source_files(run.input),
        "model_name": run.provenance.get("model", {}).get("name", ""),
        "overwrite": overwrite,
    }
    return Job("export", arguments, {**arrays, **mask_arrays}, lasting=True)


def source_files(volume: slicer.vtkMRMLScalarVolumeNode | None) -> list[str]:
    """DICOM files that a volume was loaded from, as far as Slicer's DICOM database knows them."""
    uids = volume.GetAttribute("DICOM.instanceUIDs") if volume is not None else None
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return []
    return [path for path in (database.fileForInstance(uid) for uid in uids.split()) if path]
