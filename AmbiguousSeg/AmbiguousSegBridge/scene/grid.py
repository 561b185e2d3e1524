"""Between the library's grids (LPS, arrays ``(Z, Y, X)``) and MRML's (RAS, a matrix from IJK)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from AmbiguousSegLib.volume.geometry import Geometry, Point, Region

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ORTHOGONAL_WITHIN = PARALLEL_WITHIN = 1e-4


def ijk_to_ras(geometry: Geometry) -> vtk.vtkMatrix4x4:
    """Matrix from voxel index (i, j, k) to RAS millimetres."""
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = np.reshape(geometry.direction, (3, 3)) * np.array(geometry.spacing_mm)
    ijk_to_lps[:3, 3] = geometry.origin_mm
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((LPS_TO_RAS @ ijk_to_lps).ravel())
    return matrix


def geometry_from(matrix: vtk.vtkMatrix4x4, size: Sequence[int]) -> Geometry:
    """Grid of ``size`` (x, y, z) voxels placed by an IJK-to-RAS ``matrix``.

    Raises:
        ValueError: if the axes are not perpendicular (a sheared acquisition), which a Geometry cannot say.
    """
    ijk_to_lps = LPS_TO_RAS @ np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
    axes = ijk_to_lps[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    direction = axes / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), rtol=0, atol=ORTHOGONAL_WITHIN):
        raise ValueError(
            "The axes of the volume are not perpendicular (a sheared or tilted acquisition). "
            "Resample it to a regular grid first, e.g. with the module Resample Scalar/Vector/DWI Volume."
        )
    return Geometry(
        tuple(int(n) for n in size),
        tuple(float(s) for s in spacing),
        tuple(float(p) for p in ijk_to_lps[:3, 3]),
        tuple(float(d) for d in direction.ravel()),
    )


def geometry_of(volume_node: slicer.vtkMRMLVolumeNode) -> Geometry:
    """Grid of a volume node in its own coordinates, that is, before its parent transform.

    Raises:
        ValueError: if the node holds no voxels or its axes are not perpendicular.
    """
    image = volume_node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise ValueError(f"Volume {volume_node.GetName()!r} holds no voxels. Load or choose another volume.")
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return geometry_from(matrix, image.GetDimensions())


def lies_on(volume_node: slicer.vtkMRMLVolumeNode, geometry: Geometry) -> bool:
    """Whether a volume's voxels are those of a grid; one that is empty or sheared lies on none."""
    try:
        return geometry_of(volume_node).same_grid(geometry)
    except ValueError:
        return False


def channel_arrays(volume_nodes: Sequence[slicer.vtkMRMLScalarVolumeNode]) -> tuple[list[np.ndarray], Geometry]:
    """Voxels, as they lie in memory, and grid of one volume whose channels are separate nodes, in the order given.

    Returns:
        one array ``(Z, Y, X)`` per node, of its own dtype and without a copy, and the grid of the first node.

    Raises:
        ValueError: if there is no node, a node is not scalar, or two nodes differ in grid or parent transform.
    """
    if not volume_nodes:
        raise ValueError("No volume given. Choose one volume node for each channel of the model.")
    first = volume_nodes[0]
    geometry = geometry_of(first)
    arrays = []
    for node in volume_nodes:
        if not geometry_of(node).same_grid(geometry) or node.GetTransformNodeID() != first.GetTransformNodeID():
            raise ValueError(
                f"Volumes {first.GetName()!r} and {node.GetName()!r} lie on different grids or under different "
                "transforms. Resample one to the other first, e.g. with the module Resample Scalar/Vector/DWI Volume."
            )
        components = node.GetImageData().GetNumberOfScalarComponents()
        if components != 1:
            raise ValueError(
                f"Volume {node.GetName()!r} has {components} components per voxel; one is expected. "
                "Split it into one scalar volume per component first."
            )
        arrays.append(vtk_to_numpy(node.GetImageData().GetPointData().GetScalars()).reshape(geometry.shape))
    return arrays, geometry


def read_channels(volume_nodes: Sequence[slicer.vtkMRMLScalarVolumeNode]) -> tuple[np.ndarray, Geometry]:
    """``channel_arrays`` as one float32 array ``(C, Z, Y, X)``, a copy; raises as it does."""
    arrays, geometry = channel_arrays(volume_nodes)
    return np.stack(arrays, dtype=np.float32, casting="unsafe"), geometry


def region_of(roi: slicer.vtkMRMLMarkupsROINode, volume_node: slicer.vtkMRMLVolumeNode) -> Region:
    """Box, in the volume's own coordinates and parallel to the patient's axes, that holds a region of interest.

    A rotated region, and one under another transform than the volume's, gives the box around it, see ``is_turned``.

    Raises:
        ValueError: if the region was not placed yet, or a warp lies between it and the volume.
    """
    bounds = [0.0] * 6
    roi.GetRASBounds(bounds)
    if not all(low < high for low, high in zip(bounds[0::2], bounds[1::2])):
        raise ValueError(f"Region {roi.GetName()!r} has no extent. Place it in the slice views, or choose none.")
    from_world = _from_world(volume_node)
    corners = product(*zip(bounds[0::2], bounds[1::2]))
    lps = np.array([from_world.MultiplyPoint((*corner, 1.0)) for corner in corners]) @ LPS_TO_RAS
    return tuple(lps[:, :3].min(axis=0).tolist()), tuple(lps[:, :3].max(axis=0).tolist())


def point_of(position_ras: Sequence[float], volume_node: slicer.vtkMRMLVolumeNode) -> Point:
    """Place in the volume's own coordinates, LPS mm, of a place in the scene's, RAS mm.

    Raises:
        ValueError: if a warp lies between the two.
    """
    place = np.array(_from_world(volume_node).MultiplyPoint((*position_ras, 1.0))) @ LPS_TO_RAS
    x, y, z = place[:3].tolist()
    return x, y, z


def _from_world(volume_node: slicer.vtkMRMLVolumeNode) -> vtk.vtkMatrix4x4:
    """Matrix from the scene's coordinates to the volume's own; ValueError if a warp lies between the two."""
    parent = volume_node.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise ValueError(
            f"Volume {volume_node.GetName()!r} is under a non-linear transform. Harden the transform, or use no region "
            "and no point."
        )
    from_world = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(None, parent, from_world)
    return from_world


def is_turned(roi: slicer.vtkMRMLMarkupsROINode, volume_node: slicer.vtkMRMLVolumeNode) -> bool:
    """Whether more than a region of interest is taken: ``region_of``, and the volume's slices, rows and columns after
    it, are boxes around it, unless the axes of region, world, patient and volume are all parallel."""
    to_ras, parent = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASDirectionMatrix(to_ras)
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(volume_node.GetParentTransformNode(), None, parent)
    return any(_turns(matrix) for matrix in (roi.GetObjectToWorldMatrix(), to_ras, parent))


def _turns(matrix: vtk.vtkMatrix4x4) -> bool:
    """Whether a matrix maps an axis to anything but an axis."""
    columns = np.array([[matrix.GetElement(row, column) for row in range(3)] for column in range(3)])
    shares = np.abs(columns) / np.linalg.norm(columns, axis=1, keepdims=True)
    return bool((np.minimum(shares, 1 - shares) > PARALLEL_WITHIN).any())
