"""Where the voxels of an array lie in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike

ORTHONORMAL_TOLERANCE = 1e-3  # DICOM writes direction cosines with as few as four decimals
# Grids of two files are one when corners agree to this share of a voxel: direction cosines of four decimals (DICOM)
# against the quaternion of a NIfTI mask move the corners of 512 voxels by up to 0.05 of one.
FILE_TOLERANCE = 0.1
_EDGE = 1e-4  # of a voxel: a region that ends on a voxel border does not touch the next voxel

Region = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Box in LPS millimetres, parallel to the patient's axes: its lowest and its highest corner (x, y, z)."""

Point = tuple[float, float, float]
"""Place in LPS millimetres (x, y, z)."""

# Patient axes (x, y, z = 0, 1, 2; LPS) along (slices, rows, columns), and the sense in which each is followed.
PLANES = {
    "axial": ((2, +1), (1, +1), (0, +1)),  # slices to the head, rows to the back, columns to the left
    "coronal": ((1, +1), (2, -1), (0, +1)),  # slices to the back, rows to the feet, columns to the left
    "sagittal": ((0, +1), (2, -1), (1, +1)),  # slices to the left, rows to the feet, columns to the back
    "stored": None,  # Z, Y, X as in the file
}


@dataclass(frozen=True)
class Geometry:
    """Grid of a volume: what ties an array ``(Z, Y, X)`` to millimetres.

    Coordinates are LPS (ITK, DICOM): x to the patient's left, y to the back, z to the head. Tuples are in x, y, z
    order, as SimpleITK has them; arrays are in ``(Z, Y, X)`` order, as numpy has them.

    Attributes:
        size: voxels along x, y, z.
        spacing_mm: distance of neighbouring voxel centres along x, y, z.
        origin_mm: centre of the voxel with index (0, 0, 0).
        direction: row-major 3×3 matrix; column k is the unit vector along index axis k. Columns are perpendicular.
    """

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.size) != 3 or not all(isinstance(n, (int, np.integer)) and 1 <= n < 2**31 for n in self.size):
            raise ValueError(f"Geometry.size must be three positive integers (x, y, z), got {self.size}.")
        if len(self.spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise ValueError(f"Geometry.spacing_mm must be three positive numbers, got {self.spacing_mm}.")
        if len(self.direction) != 9:
            raise ValueError(f"Geometry.direction must be a row-major 3×3 matrix, got {len(self.direction)} numbers.")
        if len(self.origin_mm) != 3 or not np.all(np.isfinite(self.origin_mm)):
            raise ValueError(f"Geometry.origin_mm must be three finite numbers, got {self.origin_mm}.")
        axes = np.array(self.direction).reshape(3, 3)
        if not np.allclose(axes.T @ axes, np.eye(3), atol=ORTHONORMAL_TOLERANCE):
            raise ValueError(
                f"Geometry.direction must have perpendicular unit columns, got {self.direction}. Resample a sheared "
                "volume onto a rectangular grid first."
            )

    @classmethod
    def of(cls, image: sitk.Image) -> Geometry:
        """Geometry of a 3-D SimpleITK image."""
        if image.GetDimension() != 3:
            raise ValueError(f"Expected a 3-D image, got one of dimension {image.GetDimension()}.")
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a matching array, ``(Z, Y, X)``."""
        return self.size[::-1]

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres (1 mL = 1000 mm³)."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    def image(self, array: np.ndarray) -> sitk.Image:
        """SimpleITK image of ``array`` (Z, Y, X) on this grid; bool becomes uint8."""
        if array.shape != self.shape:
            raise ValueError(f"Array of shape {array.shape} does not fit a grid of shape {self.shape} (Z, Y, X).")
        image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == bool else array)
        image.SetSpacing(self.spacing_mm)
        image.SetOrigin(self.origin_mm)
        image.SetDirection(self.direction)
        return image

    def to_mm(self, index: ArrayLike) -> np.ndarray:
        """LPS positions in mm, float64 ``(..., 3)``, of continuous indices ``(..., 3)`` in x, y, z order."""
        return np.asarray(index, float) @ self._axes_mm().T + np.array(self.origin_mm)

    def to_index(self, position_mm: ArrayLike) -> np.ndarray:
        """Continuous indices, float64 ``(..., 3)`` in x, y, z order, of LPS positions ``(..., 3)`` in mm.

        Integers are voxel centres: voxel i reaches from i − 0.5 to i + 0.5.
        """
        return (np.asarray(position_mm, float) - np.array(self.origin_mm)) @ np.linalg.inv(self._axes_mm()).T

    def outer_corners_mm(self) -> np.ndarray:
        """The volume's eight corners, voxels' outer faces included: LPS positions in mm, float64 ``(8, 3)``."""
        return self.to_mm(np.array(list(product(*[(-0.5, n - 0.5) for n in self.size]))))

    def bounds_mm(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lowest and highest LPS coordinate of the volume, voxels' outer faces included, each (x, y, z)."""
        faces = self.outer_corners_mm()
        return tuple(faces.min(axis=0).tolist()), tuple(faces.max(axis=0).tolist())

    def same_grid(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """True if the two grids coincide: equal sizes, and all eight corners within ``tolerance_mm``."""
        return self.size == other.size and bool(
            np.all(np.linalg.norm(self._corners() - other._corners(), axis=1) <= tolerance_mm)
        )

    def same_in_files(self, other: Geometry) -> bool:
        """``same_grid`` as far as files of different formats keep a grid: corners agree to a tenth of a voxel."""
        return self.same_grid(other, FILE_TOLERANCE * min(self.spacing_mm))

    def difference(self, other: Geometry) -> str:
        """Where two grids differ most, in words for a message: size, or the property that displaces corners most."""
        if self.size != other.size:
            return f"size {self.size} against {other.size} voxels (x, y, z)"
        size = np.array(self.size)
        moves_mm = {
            "spacing_mm": np.max(np.abs(np.subtract(self.spacing_mm, other.spacing_mm)) * size),
            "origin_mm": np.max(np.abs(np.subtract(self.origin_mm, other.origin_mm))),
            "direction": np.max(np.abs(np.subtract(self.direction, other.direction))) * np.max(size * self.spacing_mm),
        }
        name = max(moves_mm, key=moves_mm.__getitem__)
        mine, theirs = (tuple(round(float(v), 6) for v in getattr(g, name)) for g in (self, other))
        return f"{name.removesuffix('_mm')} {mine} against {theirs}{' mm' if name.endswith('_mm') else ''}"

    def slicer_text(self) -> str:
        """The grid as 3D Slicer serialises a reference geometry: index-to-RAS matrix row by row, then the extent."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self._axes_mm(), self.origin_mm
        matrix[:2] *= -1  # LPS to RAS
        extent = [index for n in self.size for index in (0, n - 1)]
        return "".join(f"{number!r};" for number in [*matrix.ravel().tolist(), *extent])

    def _axes_mm(self) -> np.ndarray:
        return np.array(self.direction).reshape(3, 3) * np.array(self.spacing_mm)

    def _corners(self) -> np.ndarray:
        return self.to_mm(np.array(list(product(*[(0, n - 1) for n in self.size]))))


def lps_of_ras(position_mm: Sequence[float]) -> Point:
    """A place in RAS millimetres, as 3D Slicer has them, in LPS; and the other way round."""
    x, y, z = position_mm
    return -x, -y, z


@dataclass(frozen=True)
class Window:
    """The same part of every slice of a plane: first and last row, first and last column, both included.

    Counted from 0 as ``SliceAxes`` follows them, so that it is a rectangle of voxels in an oblique volume, too.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True)
class SliceAxes:
    """Index axes (x, y, z = 0, 1, 2) of a grid along (slices, rows, columns), and which are followed backwards."""

    index_axes: tuple[int, ...]
    backwards: tuple[bool, ...]

    @classmethod
    def of(cls, geometry: Geometry, plane: str) -> SliceAxes:
        """Those of a plane of ``PLANES``: the index axes nearest to the patient's; ``stored`` keeps the array's."""
        followed = PLANES[plane]
        if followed is None:
            return cls((2, 1, 0), (False,) * 3)
        direction = np.array(geometry.direction).reshape(3, 3)
        closeness = np.abs(direction)
        nearest = {}
        for _ in range(3):  # the closest pair of patient and index axis first, as ITK does
            patient, index = np.unravel_index(closeness.argmax(), (3, 3))
            nearest[patient] = int(index)
            closeness[patient], closeness[:, index] = -1, -1
        return cls(
            tuple(nearest[patient] for patient, _ in followed),
            tuple(bool(direction[patient, nearest[patient]] * sense < 0) for patient, sense in followed),
        )

    def of_index(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Values of the index axes x, y, z as those of (slices, rows, columns)."""
        return tuple(values[k] for k in self.index_axes)

    def view(self, array: np.ndarray) -> np.ndarray:
        """``(..., Z, Y, X)`` seen as ``(..., slices, rows, columns)``."""
        turned = np.moveaxis(array, [-1 - k for k in self.index_axes], (-3, -2, -1))
        steps = [slice(None, None, -1 if back else 1) for back in self.backwards]
        return turned[..., steps[0], steps[1], steps[2]]

    def place(self, geometry: Geometry, position_mm: Point) -> tuple[float, ...]:
        """Slice, row and column of a position; integers are voxel centres, and it may lie outside of the grid."""
        index = self.of_index(geometry.to_index(position_mm).tolist())
        counts = self.of_index(geometry.size)
        return tuple(n - 1 - i if back else i for i, n, back in zip(index, counts, self.backwards))

    def region(self, geometry: Geometry, box: Sequence[tuple[int, int]]) -> Region:
        """Box in LPS mm around these slices, rows and columns (first and last of each), voxels' outer faces included.

        Where the grid is parallel to the patient's axes, ``box`` gives them back.
        """
        ends = self.index_ends(geometry, box)
        corners = geometry.to_mm(list(product(*ends)))
        return tuple(corners.min(axis=0).tolist()), tuple(corners.max(axis=0).tolist())

    def index_ends(self, geometry: Geometry, box: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
        """Where these slices, rows and columns (first and last of each) begin and end along the index axes x, y, z.

        Voxels' outer faces are included: one slice is 1 thick.
        """
        counts = self.of_index(geometry.size)
        spans = [(n - 1 - b, n - 1 - a) if back else (a, b) for (a, b), n, back in zip(box, counts, self.backwards)]
        along = [spans[self.index_axes.index(k)] for k in range(3)]
        return [(first - 0.5, last + 0.5) for first, last in along]

    def box(self, geometry: Geometry, region: Region | Window) -> tuple[tuple[int, int], ...]:
        """First and last slice, row and column that ``region`` touches; a window is of all slices."""
        if isinstance(region, Window):
            return (0, self.of_index(geometry.size)[0] - 1), region.rows, region.columns
        if not np.all(np.isfinite(region)) or any(a > b for a, b in zip(*region)):
            raise ValueError(f"A region is its lowest and its highest corner in LPS mm, all finite, got {region}.")
        corners = geometry.to_index(list(product(*zip(*region))))
        first = np.maximum(np.floor(corners.min(axis=0) + 0.5 + _EDGE), 0).astype(int)
        last = np.minimum(np.ceil(corners.max(axis=0) - 0.5 - _EDGE), np.array(geometry.size) - 1).astype(int)
        if np.any(first > last):
            low, high = geometry.bounds_mm()
            raise ValueError(
                f"Region {region} does not overlap the volume, which reaches from {low} to {high} mm (LPS)."
            )
        ranges = self.of_index(list(zip(first.tolist(), last.tolist(), geometry.size)))
        return tuple((n - 1 - b, n - 1 - a) if back else (a, b) for (a, b, n), back in zip(ranges, self.backwards))
