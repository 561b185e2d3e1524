"""Section "Export": a run as files that other programs read."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.panels.context import Context, silent
from AmbiguousSegBridge.parameters import ExportContent
from AmbiguousSegBridge.scene.masks import crops_of, map_array, mask_of
from AmbiguousSegBridge.scene.run_node import sample_index
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.worker.runner import Failure, Job, Listener, crops_argument
from AmbiguousSegLib.labels import file_names
from AmbiguousSegLib.outputs.export_formats import FORMATS
from AmbiguousSegLib.volume.crops import Crop


class ExportPanel:
    """The worker writes the files, so that a large volume freezes nothing."""

    def __init__(self, context: Context) -> None:
        self.context, self.ui = context, context.ui
        self._number: int | None = None
        self.ui.exportButton.connect("clicked(bool)", self._on_export)
        self.ui.exportFormSelector.connect("currentIndexChanged(int)", self._on_form)

    def refresh(self) -> None:
        """Show the state; the button's tool tip says why it cannot be pressed."""
        selector = self.ui.exportFormSelector
        with silent(selector):
            selector.clear()
            for name in FORMATS:
                selector.addItem(_(FORMATS[name].title), name)
            selector.currentIndex = list(FORMATS).index(self._form())
        button = self.ui.exportButton
        if self._number is not None:
            button.text, button.enabled, button.toolTip = _("Cancel"), True, _("Stop exporting")
            return
        reason = self._reason()
        button.text, button.enabled, button.toolTip = _("Export"), not reason, reason or _("Write the files")

    def stop(self) -> None:
        """The scene is being closed."""
        self._number = None
        self.ui.exportLabel.text = ""

    def _form(self) -> str:
        """Name of the format chosen; the first where a scene names one that is not here."""
        name = self.context.parameters.exportForm.lower()  # earlier versions wrote SEG_NRRD
        return name if name in FORMATS else next(iter(FORMATS))

    def _on_form(self, index: int) -> None:
        self.context.parameters.exportForm = self.ui.exportFormSelector.itemData(index)

    def _reason(self) -> str:
        run, parameters = self.context.run(), self.context.parameters
        if run is None or not run.samples:
            return _("Generate segmentations first")
        if self.context.generating:
            return _("Wait until the samples are there")
        if parameters.exportFolder == Path():
            return _("Choose a folder")
        if parameters.exportContent is ExportContent.SHOWN and not 1 <= parameters.shownSample <= len(run.samples):
            return _("Choose one sample in the section Result first")
        if self._form() == "dicom":
            if find_spec("highdicom") is None:
                return _("DICOM SEG needs the Python package highdicom, which comes with Slicer 5.12")
            if not source_files(run.input):
                return _("DICOM SEG needs a volume that was loaded from the DICOM database")
        return ""

    def _on_export(self, _checked: bool = False) -> None:
        if self._number is not None:
            self.context.runner.cancel(self._number)
            return
        nothing = _("Nothing was exported.")
        with self.context.errors_shown(nothing):
            if not self.context.packages_there(nothing):
                return
            run, parameters = self.context.run(), self.context.parameters
            if run is None:  # it may have gone a moment before the press
                return
            folder = parameters.exportFolder
            overwrite = folder.is_dir() and any(folder.iterdir())
            if overwrite and not slicer.util.confirmOkCancelDisplay(
                _("Folder {folder} is not empty. Replace files of the same names?").format(folder=folder)
            ):
                return
            job = export_job(run, parameters.exportContent, self._form(), parameters.shownSample - 1, folder, overwrite)
            listener = Listener(finished=self._on_finished, failed=self._on_failed, cancelled=self._on_cancelled)
            self._number = self.context.runner.start(job, listener)
            self.ui.exportLabel.text = _("Writing...")
            self.refresh()

    def _on_finished(self, result: dict[str, Any], _folder: Path) -> None:
        text = _("{count} files written to {folder}").format(
            count=len(result["files"]), folder=Path(result["files"][0]).parent if result["files"] else "-"
        )
        self._end("\n".join([text, *result.get("notes", [])]))

    def _on_failed(self, failure: Failure) -> None:
        self._end("")
        self.context.show_failure(failure, _("Nothing was exported."))

    def _on_cancelled(self) -> None:
        self._end(_("Cancelled; nothing was written."))

    def _end(self, text: str) -> None:
        self._number = None
        self.ui.exportLabel.text = text
        if self.context.parameters is not None:
            self.refresh()


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
