"""Stand-in for Slicer's module ``SampleData``: sources are registered, and loaded as Slicer does; nothing is fetched.

The custom downloader belongs to the button in the module (``press``); ``downloadSample`` and its kin ask for the
addresses, after the rewrite rules, and here only file addresses can be had.
"""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass, field

import slicer

from SlicerHost import errors


@dataclass
class SampleDataSource:
    """One set of sample data; fields with several entries must agree in length."""

    sampleName: str | None = None
    sampleDescription: str | None = None
    uris: str | list | None = None
    fileNames: str | list | None = None
    nodeNames: str | list | None = None
    checksums: str | list | None = None
    loadFiles: bool | list | None = None
    customDownloader: object = None
    thumbnailFileName: str | None = None
    loadFileTypes: str | list | None = None
    loadFileProperties: dict = field(default_factory=dict)

    def __post_init__(self):
        several = ("uris", "fileNames", "nodeNames", "checksums", "loadFiles", "loadFileTypes")
        if isinstance(self.uris, str):
            for name in several:
                setattr(self, name, [getattr(self, name)])
        elif self.uris is None:
            raise TypeError("A sample data source needs uris, got None")  # Slicer's fails there, too
        for name in several[2:]:
            if getattr(self, name) is None or isinstance(getattr(self, name), str):
                setattr(self, name, [getattr(self, name)] * len(self.uris))
        lengths = {name: len(getattr(self, name)) for name in several}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"All fields of a sample data source must have the same length, got {lengths}")


_STORAGE = {  # by load file type: classes of node and storage node
    "VolumeFile": ("vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode"),
    "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
}
_rules: dict = {}


def reset() -> None:
    """Forget the rewrite rules; the sources go with ``slicer.modules``."""
    _rules.clear()


def press(sampleName: str):
    """What the button of a sample does in the module Sample Data."""
    source = SampleDataLogic().sourceForSampleName(sampleName)
    if source is None or source.customDownloader is None:
        raise errors.lacks(f"the sample {sampleName!r}, or it has no customDownloader")
    return source.customDownloader(source)


class SampleDataLogic:
    """Registers sources in ``slicer.modules.sampleDataSources`` and loads them."""

    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str) -> None:
        known = vars(slicer.modules).setdefault("sampleDataSourceCategories", {})
        known.setdefault(category, {})["title"] = title

    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", **fields) -> None:
        known = vars(slicer.modules).setdefault("sampleDataSources", {})
        source = SampleDataSource(**fields)
        if source not in known.setdefault(category, []):
            known[category].append(source)

    @staticmethod
    def registerUrlRewriteRule(name: str, rewriteFunction) -> None:
        _rules[name] = rewriteFunction

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        known = vars(slicer.modules).get("sampleDataSources", {}).values()
        return next((s for sources in known for s in sources if s.sampleName == sampleName), None)

    def downloadFromSource(self, source: SampleDataSource, maximumAttemptsCount: int = 3, forceDownload: bool = False):
        nodes = []
        for uri, file_name, name, kind in zip(
            source.uris, source.fileNames, source.nodeNames, source.loadFileTypes, strict=True
        ):
            for rule in _rules.values():
                uri = rule(uri)
            if not uri.startswith("file:") or kind not in _STORAGE:
                raise errors.lacks(f"downloading {uri} as {kind}")
            path = f"{slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()}/{file_name}"
            urllib.request.urlretrieve(uri, path)
            node, storage = (slicer.mrmlScene.AddNewNodeByClass(cls) for cls in _STORAGE[kind])
            node.SetName(name)
            storage.SetFileName(path)
            if not storage.ReadData(node):
                raise RuntimeError(f"{path} could not be loaded")
            nodes.append(node)
        return nodes

    def downloadSamples(self, sampleName: str) -> list:
        source = self.sourceForSampleName(sampleName)
        return [] if source is None else self.downloadFromSource(source)

    def downloadSample(self, sampleName: str):
        return self.downloadSamples(sampleName)[0]

    def logMessage(self, message: str, logLevel: int = 10) -> None:
        """Nothing is shown."""


def downloadSample(sampleName: str):
    return SampleDataLogic().downloadSample(sampleName)


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    raise errors.lacks(f"SampleData.{name}")
