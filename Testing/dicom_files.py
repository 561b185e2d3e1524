"""A small CT series whose pixels tell the slice they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROWS, COLUMNS, SLICES = 5, 7, 3  # 35 pixels: a frame does not end on a byte
ALONG_ROW, DOWN_COLUMN = np.array([0.8, 0.6, 0.0]), np.array([-0.36, 0.48, 0.8])  # oblique, perpendicular
STRAIGHT = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])


def write_series(
    folder: Path,
    axes: tuple[np.ndarray, np.ndarray] = (ALONG_ROW, DOWN_COLUMN),
    backwards: bool = False,
    slices: int = SLICES,
    **attributes,
) -> list[Path]:
    """Files in the order of their names and instance numbers; ``backwards``: against that of their positions.

    ``attributes`` are set in each file, ``None`` takes one away. Pixels are random in [0, 1000).
    """
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    random, normal = np.random.default_rng(3), np.cross(*axes)
    files = []
    for number in range(slices):
        place = slices - 1 - number if backwards else number
        d = pydicom.Dataset()
        d.SOPClassUID, d.SOPInstanceUID, d.Modality = CTImageStorage, generate_uid(), "CT"
        d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = study, series, frame
        d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = "Nobody^Real", "1", "", ""
        d.StudyDate, d.StudyTime, d.StudyID, d.AccessionNumber = "20200101", "120000", "1", ""
        d.SeriesNumber, d.InstanceNumber = 1, number + 1
        d.ImagePositionPatient = [float(v) for v in np.array([10.0, -20.0, 30.0]) + 2.5 * place * normal]
        d.ImageOrientationPatient = [float(v) for v in np.concatenate(axes)]
        d.PixelSpacing, d.SliceThickness = [0.8, 0.6], 2.0
        d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
        d.PixelData = random.integers(0, 1000, (ROWS, COLUMNS), dtype=np.uint16).tobytes()
        for name, value in attributes.items():
            if value is None:
                del d[name]
            else:
                setattr(d, name, value)
        d.file_meta = pydicom.dataset.FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        files.append(folder / f"{number:03d}.dcm")
        d.save_as(files[-1], enforce_file_format=True)
    return files
