"""Many plausible segmentations of one image, and their comparison with what several raters drew.

Arrays are ``(N, Z, Y, X)`` for masks of a volume and ``(B, C, H, W)`` for batches of slices; lengths are
millimetres and end in ``_mm``. The library never imports Slicer, VTK or Qt.
"""

__version__ = "0.1.0"
