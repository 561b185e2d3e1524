"""Sample many volumes without a display.

    Slicer --no-splash --no-main-window --python-script batch.py INPUT ... --model DIR --out DIR
    python batch.py INPUT ... --model DIR --out DIR          (where slicer-core or no Slicer at all is installed)

Each INPUT is a volume, a folder, or a .csv with one volume per row. Of a folder, each volume and each DICOM series
anywhere below it is taken; segmentations, localisers, reports and earlier results are left out, which the report says.
Of a .csv the columns name, seed, series, slice_first and slice_last (0-based, both included), point_x, point_y and
point_z (a place in the lesion, in LPS mm) or point_r, point_a and point_s (RAS mm, as 3D Slicer shows them), and
window_mm (how much is looked at around it) are optional, every other column is a channel, with paths relative to the
.csv; rows of one volume need names of their own. What is done with the same settings is skipped, unless files of
the volume have been written since (of an .mhd or .nhdr that names several data files, or a pattern for them, only the
header counts). A bad volume is reported, and the next one follows. Results lie in OUT/<name>/, the report in
OUT/batch.json and OUT/batch.csv, whose column warnings says in what a volume differs from what the model was trained
on. Nothing is ever asked or installed: what is missing is named, with what to run.

Started by torchrun (torchrun --nproc-per-node 4 batch.py ...), the processes share the volumes, each on a GPU of its
own, and the first one writes the report when all are through. Without it nothing is shared.

Exit code: 0 if every volume is done, 1 if some failed, 2 if nothing could be started.

Slicer itself takes the options it knows, -h and --help among them: ask plain Python for this help. The file is ASCII,
because Slicer reads scripts in the encoding of the system.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import io
import json
import math
import re
import shlex
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where AmbiguousSegBridge is

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
LPS_COLUMNS, RAS_COLUMNS = ("point_x", "point_y", "point_z"), ("point_r", "point_a", "point_s")
OWN_COLUMNS = ("name", "seed", "series", "slice_first", "slice_last", *LPS_COLUMNS, *RAS_COLUMNS, "window_mm")
LEFT_OUT, LONGEST_NAME = "left out", 200  # bytes, of a name of a folder
REQUEST, RESULT, SCENE = "request.json", "samples.json", "scene.mrb"
DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)\s*(.*?)\s*$", re.MULTILINE)  # of .mhd and .nhdr


@dataclass(frozen=True)
class Job:
    """One volume to sample: its channels in the model's order, and what its row of the table says about it."""

    name: str
    channels: tuple[Path, ...]
    slices: tuple[int, int] | None = None
    seed: int | None = None
    series: str | None = None
    point_mm: tuple[float, float, float] | None = None  # LPS
    window_mm: float | None = None
    problem: str = ""  # why it cannot be read
    note: str = ""  # doubt that it is a scan


@dataclass(frozen=True)
class Row:
    """What became of one volume: done, skipped, failed or left out; warnings say how it differs from training."""

    name: str
    status: str
    seconds: float
    message: str = ""
    detail: str = ""
    warnings: str = ""


Sample = Callable[[Job, Path], None]  # writes a job's results into a folder, samples.json last


def find_jobs(inputs: Sequence[Path], out: Path, series: str | None = None) -> tuple[list[Job], list[Row]]:
    """Jobs of all inputs, in order, and rows of what is left out.

    Raises:
        FileNotFoundError: if an input does not exist.
        ValueError: if a table cannot be read, two volumes have one name, or there is no volume at all; a series is
            asked for of several inputs.
    """
    jobs: list[Job] = []
    left_out: list[Row] = []
    for path in inputs:
        try:
            there = path.exists()
        except (OSError, ValueError):  # a name that is too long, or holds a character of number 0
            there = False
        if not there:
            raise FileNotFoundError(f"No such file or folder: {path}. Check the path.")
        if series is not None:
            if len(inputs) > 1 or path.suffix.lower() == ".csv":
                raise ValueError("--series chooses in one folder or file; of a .csv name it in the column 'series'.")
            jobs.append(Job(volume_name(path.resolve()), (path,), series=series))
        elif path.suffix.lower() == ".csv":
            jobs += read_table(path)
        elif path.is_dir():
            found, rows = jobs_in(path, out)
            jobs += found
            left_out += rows
        else:
            jobs.append(Job(volume_name(path.resolve()), (path,)))
    if not jobs:
        told = "; ".join(f"{row.name} is {row.message}" for row in left_out[:3])
        raise ValueError(
            f"No volume found{f' (left out: {told})' if told else ''}. Give volumes, folders of volumes, or a .csv "
            "with rows."
        )
    seen: dict[str, Job] = {}
    for job in jobs:
        other = seen.setdefault(job.name.lower(), job)
        if other is not job:
            both = f"{other.channels[0]} and {job.channels[0]}"
            raise ValueError(f"Two volumes are named {job.name!r}: {both}. Name them in the column 'name' of a .csv.")
    return jobs, left_out


def jobs_in(folder: Path, out: Path) -> tuple[list[Job], list[Row]]:
    """Jobs of a folder, and rows of what is left out; a folder without either is a job of its own, which says why."""
    from AmbiguousSegLib.layouts.study_tree import find_volumes

    study = find_volumes(folder, [out])
    jobs = [Job(v.name, (v.path,), series=v.series, problem=v.problem, note=v.note) for v in study.volumes]
    if not jobs and not study.left_out:
        jobs = [Job(volume_name(folder.resolve()), (folder,))]
    return jobs, [Row(name, LEFT_OUT, 0.0, reason) for name, reason in study.left_out]


def volume_name(path: Path) -> str:
    """File name without its volume suffix; the whole name if it has none."""
    suffix = next((s for s in VOLUME_SUFFIXES if path.name.lower().endswith(s)), "")
    return path.name[: len(path.name) - len(suffix)]


def read_table(path: Path) -> list[Job]:
    """Jobs of a .csv (see above).

    Raises:
        ValueError: with file and line, if a column or cell is missing, or a number is none.
    """
    try:
        return _table(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}). Save it as CSV, UTF-8.") from error
    except csv.Error as error:
        raise ValueError(f"{path}: cannot be read as a table ({error}). Save it as CSV, UTF-8.") from error


def _table(path: Path) -> list[Job]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        columns = [column.strip() for column in reader.fieldnames or []]
        reader.fieldnames = columns
        for column in columns:
            if column not in OWN_COLUMNS and column.lower() in OWN_COLUMNS:
                raise ValueError(f"{path}: a column is named {column!r}; name it {column.lower()!r}.")
        channels = [column for column in columns if column not in OWN_COLUMNS]
        if not channels or any(";" in column or not column for column in columns):
            raise ValueError(
                f"{path}: expected a first line of column names separated by commas, one column per channel beside "
                f"the optional {', '.join(OWN_COLUMNS)}; got {columns}."
            )
        return [_job_of(row, channels, path, reader.line_num) for row in reader]


def _job_of(row: dict[str, str], channels: list[str], path: Path, line: int) -> Job:
    def number(column: str) -> int | None:
        text = (row.get(column) or "").strip()
        if text and not text.isdecimal():
            raise ValueError(f"{path}, line {line}: {column} must be an integer of at least 0, got {text!r}.")
        return int(text) if text else None

    if None in row or any(not (row[column] or "").strip() for column in channels):
        raise ValueError(f"{path}, line {line}: expected one cell for each column and a file for each of {channels}.")
    if any("\0" in str(cell) for cell in row.values()):
        raise ValueError(f"{path}, line {line}: a cell holds the character of number 0. Save it as CSV, UTF-8.")
    paths = tuple(path.parent / row[column].strip() for column in channels)
    name = (row.get("name") or "").strip() or volume_name(paths[0])
    if Path(name).name != name or name in (".", "..") or len(name.encode(errors="replace")) > LONGEST_NAME:
        raise ValueError(f"{path}, line {line}: name must be usable as the name of a folder, got {name[:60]!r}.")
    first, last = number("slice_first"), number("slice_last")
    if (first is None) != (last is None) or (first is not None and first > last):
        raise ValueError(f"{path}, line {line}: give both slice_first and slice_last, first <= last, or neither.")
    series = (row.get("series") or "").strip() or None
    try:
        point, window = _point_of(row)
    except ValueError as error:
        raise ValueError(f"{path}, line {line}: {error}") from None
    if point is not None and first is not None:
        raise ValueError(
            f"{path}, line {line}: a point chooses slices by itself; leave out slice_first and slice_last."
        )
    return Job(name, paths, None if first is None else (first, last), number("seed"), series, point, window)


def _point_of(row: dict[str, str]) -> tuple[tuple[float, float, float] | None, float | None]:
    """Place that a row points at, in LPS mm, and the size of the window around it; ValueError for what is none."""
    from AmbiguousSegLib.inference.point_sampling import Pointing
    from AmbiguousSegLib.volume.geometry import lps_of_ras

    def numbers(columns: Sequence[str]) -> list[float]:
        texts = {column: text for column in columns if (text := (row.get(column) or "").strip())}
        try:
            values = [float(text) for text in texts.values()]
        except ValueError:
            values = [math.nan]
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{', '.join(texts)} must be numbers, in mm, got {', '.join(texts.values())}.")
        return values

    lps, ras, window = numbers(LPS_COLUMNS), numbers(RAS_COLUMNS), numbers(["window_mm"])
    if lps and ras:
        raise ValueError(
            f"both {', '.join(LPS_COLUMNS)} (LPS mm) and {', '.join(RAS_COLUMNS)} (RAS mm) are given; leave one out."
        )
    if sorted((len(lps), len(ras))) not in ([0, 0], [0, 3]):
        raise ValueError(f"give {', '.join(LPS_COLUMNS)} (LPS mm) or {', '.join(RAS_COLUMNS)} (RAS mm), all three.")
    if window and not (lps or ras):
        raise ValueError("window_mm belongs to a point; give the point, too.")
    if not (lps or ras):
        return None, None
    pointing = Pointing(tuple(lps) if lps else lps_of_ras(ras), window[0] if window else None)
    return pointing.point_mm, pointing.window_mm


def pointing_of(job: Job, options: argparse.Namespace):
    """What a job points at, or None; --window counts where its row gives no size."""
    from AmbiguousSegLib.inference.point_sampling import Pointing

    if job.point_mm is None:
        return None
    return Pointing(job.point_mm, options.window if job.window_mm is None else job.window_mm, options.grow_window)


def request_of(job: Job, options: argparse.Namespace) -> dict:
    """Everything the result depends on, as plain JSON: two equal requests give equal results.

    Raises FileNotFoundError if a channel or the model does not exist.
    """
    from AmbiguousSegLib.cli.refinement_arguments import refinement_asked
    from AmbiguousSegLib.configuration import to_dict

    return {
        "channels": [_state(path) for path in job.channels],
        "model_sha256": hashlib.sha256((options.model / "model.json").read_bytes()).hexdigest(),
        "samples": options.samples,
        "seed": options.seed if job.seed is None else job.seed,
        "sampler": options.sampler,
        "steps": options.steps,
        "grid": options.grid,
        "quality": options.quality,
        "series": job.series,
        "slices": None if job.slices is None else list(job.slices),
        "spacing_mm": options.spacing_mm,
        "pointing": None if (pointing := pointing_of(job, options)) is None else to_dict(pointing),
        "computation": [options.precision, options.cuda_graph, options.random_source],
        "refinement": None if (refine := refinement_asked(options)) is None else refine.in_json(),
        "fuse": options.fuse,
    }


def _state(path: Path) -> dict[str, str]:
    """A volume as it is now: changes when a file of it is written anew, added or removed."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path, *_data_file(path)]
    states = [(file.name, (state := file.stat()).st_size, state.st_mtime_ns) for file in files]
    return {"path": str(path.resolve()), "files_sha256": hashlib.sha256(json.dumps(states).encode()).hexdigest()}


def _data_file(path: Path) -> list[Path]:
    """The file of voxels that a header names, if it names just one."""
    if path.suffix.lower() not in (".mhd", ".nhdr"):
        return []
    found = DATA_FILE.search(path.read_bytes())
    data = path.parent / (found[1].decode(errors="replace") if found else "")
    return [data] if data.is_file() else []


def is_done(folder: Path, request: dict, mrb: bool) -> bool:
    """True if ``folder`` holds the complete result of an equal request."""
    wanted = [folder / REQUEST, folder / RESULT] + [folder / SCENE] * mrb
    if not all(path.is_file() for path in wanted):
        return False
    earlier = json.loads(wanted[0].read_text(encoding="utf-8"))
    unnamed = dict.fromkeys(("grid", "spacing_mm", "series", "pointing", "refinement"))  # in earlier versions
    return {**unnamed, "computation": [None, False, None], "fuse": False, **earlier} == request


def run_jobs(
    jobs: Sequence[Job], options: argparse.Namespace, sample: Sample, left_out: Sequence[Row] = (), processes=None
) -> list[Row]:
    """Sample each job that is not done; a failure is reported and the next job follows. The report is kept current.

    Several processes (AmbiguousSegLib.processes.Processes) take a job each whenever they are free. The first one has
    the rows of all when all are through; until then its report is that of what it did itself.
    """
    from AmbiguousSegLib.processes import PeerError

    first, rows = processes is None or processes.first, list(left_out)
    for row in rows if first else ():
        print(f"{row.name}: left out, as it is {row.message}", flush=True)
    numbers = range(len(jobs)) if processes is None else processes.take(len(jobs))
    taken = []
    for number, job in ((i + 1, jobs[i]) for i in numbers):
        taken.append(number)
        start = time.perf_counter()
        try:
            status, seconds = _run_job(job, options, sample), round(time.perf_counter() - start, 2)
            warnings = " ".join(filter(None, [job.note, _warnings_in(options.out / job.name)]))
            row = Row(job.name, status, seconds, warnings=warnings)
        except Exception as error:  # whatever is wrong with one volume must not stop the study
            if isinstance(error, PeerError):
                raise
            told = _said(error), traceback.format_exc()
            row = Row(job.name, "failed", round(time.perf_counter() - start, 2), *told)
        rows.append(row)
        print(f"[{number}/{len(jobs)}] {row.name}: {row.status} ({row.seconds:.1f} s) {row.message}", flush=True)
        if first:
            write_report(rows, options)
    if processes is not None:
        own = list(zip(taken, rows[len(left_out) :]))
        everyone = sorted((pair for part in processes.gathered(own) for pair in part), key=lambda pair: pair[0])
        rows = [*left_out, *(row for _, row in everyone)]
        if first:
            write_report(rows, options)
    return rows


def _said(error: Exception) -> str:
    from AmbiguousSegLib.files import said

    expected = isinstance(error, (ImportError, OSError, ValueError, MemoryError))
    return said(error) if expected else f"{type(error).__name__}: {error}"


def _run_job(job: Job, options: argparse.Namespace, sample: Sample) -> str:
    from AmbiguousSegLib.layouts.study_tree import segmentation_reason

    if job.problem:
        raise ValueError(job.problem)
    for path in job.channels:
        if reason := segmentation_reason(path):
            raise ValueError(f"{path} is a segmentation ({reason}), expected an image; leave it out.")
    folder, request = options.out / job.name, request_of(job, options)
    if not options.overwrite and is_done(folder, request, options.mrb):
        return "skipped"
    for stale in (RESULT, SCENE):  # what is left of another request must not pass for this one's
        (folder / stale).unlink(missing_ok=True)
    _write(folder / REQUEST, json.dumps(request, indent=2))
    sample(job, folder)
    if not is_done(folder, request, options.mrb):
        raise RuntimeError(f"The sampler returned, but {folder} is not complete. Please report this.")
    return "done"


def _warnings_in(folder: Path) -> str:
    """In what a sampled volume differs from what the model was trained on, and what else to know of its samples."""
    told = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    window = told.get("window", {}).get("warnings", [])
    return " ".join([*told.get("input_warnings", []), *told.get("notes", []), *window])


def write_report(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Write OUT/batch.json (with tracebacks) and OUT/batch.csv."""
    settings = {key: str(value) for key, value in vars(options).items()}
    report = {"settings": settings, "volumes": [asdict(row) for row in rows]}
    _write(options.out / "batch.json", json.dumps(report, indent=2))
    table = io.StringIO(newline="")
    columns = ("name", "status", "seconds", "message", "warnings")
    csv.writer(table).writerows([columns, *([getattr(row, column) for column in columns] for row in rows)])
    _write(options.out / "batch.csv", table.getvalue())


def _write(path: Path, text: str) -> None:
    from AmbiguousSegLib.files import replacing

    with replacing(path) as temporary:
        temporary.write_bytes(text.encode(errors="backslashreplace"))  # file names need not be Unicode


def library_sampler(options: argparse.Namespace) -> Sample:
    """The real sampler: the model is loaded once, here; ImportError, OSError or ValueError if it cannot be."""
    import torch  # noqa: F401  (first: where it is missing, scipy fails in words that say nothing)

    from AmbiguousSegLib.cli.common import CommandError
    from AmbiguousSegLib.cli.computation import computation_of
    from AmbiguousSegLib.cli.refinement_arguments import check_fusion, refinement_asked
    from AmbiguousSegLib.cli.sample import sampler_settings
    from AmbiguousSegLib.devices import device_of_process
    from AmbiguousSegLib.ensemble.fusion import with_fusion
    from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
    from AmbiguousSegLib.model import load_model
    from AmbiguousSegLib.outputs.result_folder import write_outputs
    from AmbiguousSegLib.volume.io import read_volume
    from AmbiguousSegLib.volume.scan_kind import is_picture, modality_of, with_pixels_of

    if options.mrb:
        check_scene()
    try:
        model = load_model(options.model, device_of_process(options.device))
        sampler = sampler_settings(model, options)
        computation, refine = computation_of(options, model.method, model.device), refinement_asked(options)
        check_fusion(options)
    except CommandError as error:
        raise ValueError(str(error)) from error
    print(f"Model {model.card.name!r} on {model.device}, {model.card.intended_use}", flush=True)

    def sample(job: Job, folder: Path) -> None:
        volume, geometry = read_volume(job.channels, job.series)
        seed = options.seed if job.seed is None else job.seed
        part = {"slice_range": job.slices, "pointing": pointing_of(job, options)}
        request = SampleRequest(
            options.samples, seed=seed, sampler=sampler, computation=computation, refine=refine, **part
        )
        modality, picture = modality_of(job.channels, job.series), any(map(is_picture, job.channels))
        if picture and options.spacing_mm is not None:
            geometry, picture = with_pixels_of(options.spacing_mm, geometry, job.channels), False
        samples = sample_volume(model, volume, geometry, request, modality=modality, picture=picture)
        if options.mrb:
            write_scene(samples, volume, job.name, folder / SCENE)
        samples, fused = with_fusion(samples) if options.fuse else (samples, None)
        write_outputs(samples, volume, folder, overwrite=True, fused=fused)

    return sample


def write_scene(samples, volume, name: str, path: Path) -> None:
    """Write first channel and samples as a scene; in Slicer through the application's scene, which is cleared."""
    import slicer
    from AmbiguousSegBridge.scene.host import make_host
    from AmbiguousSegBridge.scene.sample_sets import add_sample_set, add_volume, save_scene

    scene = slicer.mrmlScene if in_application() else make_host()
    scene.Clear()
    node = add_volume(scene, volume[0], samples.geometry, name)
    add_sample_set(scene, samples, f"{name} samples", node)
    save_scene(scene, path)


def in_application() -> bool:
    """True inside the Slicer application; slicer-core has no ``slicer.app``."""
    slicer = sys.modules.get("slicer")
    return hasattr(getattr(slicer, "app", None), "commandOptions")


def check_packages() -> None:
    """In Slicer: ImportError with what to run, or which Slicer to take, if a package is missing. Nobody is asked."""
    if not in_application():
        return
    from AmbiguousSegBridge.worker import packages

    try:
        packages.ensure(False)
    except packages.PackagesError as error:
        raise ImportError(str(error)) from error


def check_scene() -> None:
    """ValueError with what to run if nothing here can write a scene: before hours of sampling, not after them."""
    if "slicer" not in sys.modules and importlib.util.find_spec("slicer") is None:
        python = shlex.quote(sys.executable)
        raise ValueError(f"--mrb needs slicer-core. Run: {python} -m pip install slicer-core, or leave out --mrb.")


def how_to_install() -> str:
    """For a Python outside of Slicer: what installs all that is needed."""
    requirements = Path(__file__).resolve().parents[1] / "Resources" / "requirements.txt"
    command = [sys.executable, "-m", "pip", "install", "torch>=2.6", "SimpleITK", "scipy", "-r", str(requirements)]
    return "Run: " + (subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    from AmbiguousSegLib.cli.computation import add_computation_arguments
    from AmbiguousSegLib.cli.refinement_arguments import add_fusion_argument, add_refinement_arguments
    from AmbiguousSegLib.quality import Quality

    parser = argparse.ArgumentParser("batch.py", None, __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="volume, folder or .csv")
    series_help = "which of several DICOM series or volumes of the one INPUT, as the message that lists them names it"
    parser.add_argument("--series", metavar="UID", help=series_help)
    parser.add_argument("--model", help="model folder, or name of a bundled model (default: the bundled one)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--samples", type=int, default=8, help="segmentations per volume (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="seed, unless the table gives one (default 0)")
    parser.add_argument("--spacing-mm", type=float, help="size of a pixel of pictures, which do not tell it")
    parser.add_argument("--sampler", help="sampler (default: the model's)")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the model's)")
    parser.add_argument("--grid", help="which of the training steps they are, such as trailing (default: the model's)")
    parser.add_argument(
        "--quality",
        choices=[q.value for q in Quality],
        help="in place of sampler, steps and grid; a model's card says what each gives",
    )
    window_help = "size of what is looked at around a row's point (default: the model's field of view)"
    parser.add_argument("--window", type=float, metavar="MM", help=window_help)
    grow_help = "sample again in a larger window where its border cuts off what is marked around a point"
    parser.add_argument("--grow-window", action="store_true", help=grow_help)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps ... (default: a GPU if there is one)")
    add_computation_arguments(parser)
    add_refinement_arguments(parser)
    add_fusion_argument(parser)
    parser.add_argument("--mrb", action="store_true", help=f"write a Slicer scene per volume, {SCENE}")
    parser.add_argument("--overwrite", action="store_true", help="sample again what is done already")
    return parser.parse_args(argv)


def main(argv: Sequence[str], make_sampler: Callable[[argparse.Namespace], Sample] = library_sampler) -> int:
    """Run the batch and return the exit code (see above)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # Slicer's own cannot be, and takes any character
            stream.reconfigure(errors="backslashreplace")  # a name shall be told, not end the study
    try:
        import AmbiguousSegBridge  # noqa: F401  (makes AmbiguousSegLib importable)

        from AmbiguousSegLib.cli.common import CommandError, check_out
        from AmbiguousSegLib.processes import PeerError, processes_of_run
        from AmbiguousSegLib.resources import find_model

        options = parse(argv)
        try:
            check_out(options.out, (), overwrite=True)
        except CommandError as error:
            raise ValueError(str(error)) from error
        jobs, left_out = find_jobs(options.inputs, options.out, options.series)
        if (options.window is not None or options.grow_window) and all(job.point_mm is None for job in jobs):
            raise ValueError("--window and --grow-window belong to points; name points in the columns of a .csv.")
        for job in jobs:
            pointing_of(job, options)  # a size that is none fails here, before the model is loaded
        options.model = find_model(options.model)
        check_packages()
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    except (ImportError, OSError, ValueError) as error:
        return nothing_started(error)
    try:
        with ExitStack() as until_the_end:
            try:
                processes = until_the_end.enter_context(processes_of_run())
                sample = make_sampler(options)
            except (ImportError, OSError, ValueError) as error:
                return nothing_started(error)
            rows = run_jobs(jobs, options, sample, left_out, processes)
    except PeerError as error:
        print(f"Stopped. {error}", file=sys.stderr)
        return 1
    if processes is not None and not processes.first:
        return 0
    count = Counter(row.status for row in rows)
    print("\n".join(f"{row.status:8s} {row.name} {row.message or row.warnings}" for row in rows))
    told = ", ".join(f"{count[status]} {status}" for status in ("done", "skipped", "failed"))
    told += f", {count[LEFT_OUT]} left out" if count[LEFT_OUT] else ""
    print(f"{told}; report in {options.out}")
    return 1 if count["failed"] else 0


def nothing_started(error: Exception) -> int:
    """Say why, and the exit code."""
    outside = isinstance(error, ImportError) and not in_application()
    print(f"Nothing was started. {error}" + (f". {how_to_install()}" if outside else ""), file=sys.stderr)
    return 2


def run_and_exit() -> None:
    """Run, and leave Slicer (which would stay open) or Python with the exit code, whatever happens."""
    code = 1
    try:
        code = main(sys.argv[1:])
    finally:
        if in_application():
            sys.modules["slicer"].util.exit(code)
    if not in_application():
        sys.exit(code)


if __name__ == "__main__":
    run_and_exit()
