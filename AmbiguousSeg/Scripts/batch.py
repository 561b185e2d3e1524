"""Sample many volumes without a display.

    Slicer --no-splash --no-main-window --python-script batch.py INPUT ... --model DIR --out DIR
    python batch.py INPUT ... --model DIR --out DIR          (where slicer-core or no Slicer at all is installed)

It is "ambiguousseg study" for Slicer, and writes a scene of each volume with --mrb.

Each INPUT is a volume, a folder, or a table (.csv, .json) with one volume per row. Of a folder, each volume and each
DICOM series anywhere below it is taken; segmentations, localisers, reports and earlier results are left out, which the
report says. Of a table the columns name, subject, model, seed, series, slice_first and slice_last (0-based, both
included), region (X0 X1 Y0 Y1 Z0 Z1 in LPS mm), point_x, point_y and point_z (a place in the lesion, in LPS mm) or
point_r, point_a and point_s (RAS mm, as 3D Slicer shows them), window_mm (how much is looked at around it), raters
(files of segmentations, separated by semicolons) and rater_NAME are optional, every other column is a channel, with
paths relative to the table; rows of one volume need names of their own. What is done with the same settings is
skipped, unless files of the volume have been written since (of an .mhd or .nhdr that names several data files, or a
pattern for them, only the header counts). A bad volume is reported, and the next one follows. Results lie in
OUT/<name>/, what became of each volume in OUT/batch.json and OUT/batch.csv, whose column warnings says in what a volume
differs from what the model was trained on, volumes and figures of all in OUT/study.csv and OUT/study.json, settings in
OUT/study.yaml. Nothing is ever asked or installed: what is missing is named, with what to run.

Several of these may work on one OUT at once, each on what no other one does. Started by torchrun (torchrun
--nproc-per-node 4 batch.py ...), the processes share the volumes, each on a GPU of its own, and the first one writes
the report when all are through. Job arrays give each a share, --shard 2/8. Without these nothing is shared.

Exit code: 0 if every volume is done, 1 if some failed or it was stopped, 2 if nothing could be started.

Slicer itself takes the options it knows, -h and --help among them: ask plain Python for this help. The file is ASCII,
because Slicer reads scripts in the encoding of the system.
"""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where AmbiguousSegBridge is

SCENE = "scene.mrb"


def library_sampler(options):
    """What samples a job, and writes its scene where that is asked for; errors as that of the library."""
    from AmbiguousSegLib.cli import study

    if options.mrb:
        check_scene()
    return study.library_sampler(options, _scene_into if options.mrb else None)


def _scene_into(samples, volume, name, folder) -> None:
    write_scene(samples, volume, name, folder / SCENE)


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
    if in_application():
        return ""
    requirements = Path(__file__).resolve().parents[1] / "Resources" / "requirements.txt"
    command = [sys.executable, "-m", "pip", "install", "torch>=2.6", "SimpleITK", "scipy", "-r", str(requirements)]
    return "Run: " + (subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command))


def main(argv, make_sampler=library_sampler) -> int:
    """Run the study and return the exit code (see above)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # Slicer's own cannot be, and takes any character
            stream.reconfigure(errors="backslashreplace")  # a name shall be told, not end the study
    try:
        import AmbiguousSegBridge  # noqa: F401  (makes AmbiguousSegLib importable)

        from AmbiguousSegLib.cli import study
    except ImportError as error:
        print(f"Nothing was started. {error}. {how_to_install()}", file=sys.stderr)
        return 2
    parser = study.study_parser("batch.py", __doc__)
    parser.add_argument("--mrb", action="store_true", help=f"write a Slicer scene per volume, {SCENE}")
    extra = {"extra": lambda options: (SCENE,) if options.mrb else ()}
    try:
        return study.run(parser, argv, make_sampler, check_packages, how_to_install, **extra)
    except SystemExit as stop:  # argparse has said why, or another process of a run has
        return int(stop.code or 0)


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
