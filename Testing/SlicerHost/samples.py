"""Sets of samples and scenes to test the bridge with."""

from __future__ import annotations

import numpy as np
import slicer
from AmbiguousSegBridge.scene.sample_sets import add_volume

from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.volume.geometry import Geometry

SIZE = (13, 11, 7)  # x, y, z
MODEL_NAME = 'toy; a:b="é"'


def oblique(degrees: float = 25.0) -> tuple[float, ...]:
    """Directions rotated about z and then x: no axis stays parallel to the patient's."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return tuple((about_x @ about_z).ravel())


PLAIN = Geometry(SIZE, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
OBLIQUE = Geometry(SIZE, (0.7, 0.9, 3.1), (-123.4, 56.7, -890.1), oblique())
MIRRORED = Geometry(SIZE, (0.5, 0.5, 5.0), (10.0, -20.0, 30.0), (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def make_samples(geometry: Geometry = OBLIQUE) -> SampleSet:
    """Five masks: random, a block inside, one that touches all borders, a single corner voxel, and an empty one."""
    masks = np.zeros((5, *geometry.shape), bool)
    masks[0] = np.random.default_rng(0).random(geometry.shape) < 0.3
    masks[1, 2:4, 3:8, 4:9] = True
    masks[2, ::6, ::10, ::12] = True
    masks[3, -1, -1, -1] = True
    return SampleSet(masks, geometry, {"seed": 7, "model": {"name": MODEL_NAME}}, (Label("nodule"),))


TERMINOLOGY = "Segmentation category and type~SCT^49755003^Structure~SCT^{code}^{name}~^^~Anatomic codes~^^~^^"
CORE_AND_HALO = (
    Label("core", (0.9, 0.2, 0.1), TERMINOLOGY.format(code="1", name="Core")),
    Label("the halo", (0.2, 0.4, 0.9), TERMINOLOGY.format(code="2", name="Halo")),
)


def make_class_samples(geometry: Geometry = OBLIQUE) -> SampleSet:
    """Four label maps of a core and a halo: random, a core inside a halo, a halo alone, and an empty one."""
    masks = np.zeros((4, *geometry.shape), np.uint8)
    masks[0] = np.random.default_rng(1).choice(3, geometry.shape, p=(0.6, 0.25, 0.15))
    masks[1, 1:5, 2:9, 3:10] = 2
    masks[1, 2:4, 3:8, 4:9] = 1
    masks[2, 2:4, 3:8, 4:12] = 2
    return SampleSet(masks, geometry, {"seed": 7, "model": {"name": MODEL_NAME}}, CORE_AND_HALO)


def node_names(scene) -> list[str]:
    return sorted(scene.GetNthNode(n).GetName() or "" for n in range(scene.GetNumberOfNodes()))


def node_classes(scene) -> list[str]:
    return sorted(scene.GetNthNode(n).GetClassName() for n in range(scene.GetNumberOfNodes()))


def hierarchy_of(scene):
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def input_volume(scene, geometry=OBLIQUE, name="scan"):
    return add_volume(scene, np.arange(np.prod(SIZE), dtype=np.int16).reshape(geometry.shape), geometry, name)
