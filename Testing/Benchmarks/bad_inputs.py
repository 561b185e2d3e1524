"""``python Testing/Benchmarks/bad_inputs.py [SEED] [--only WORD] [--jobs N]``: bad inputs through every door.

Each case runs in a process of its own, forked from one that has loaded everything, with 6 GB of address space and
60 s. It must end with exit code 0 and what the file holds, as a second reader or the maker of the file knows it, or
with 1 or 2, one line that names the file or option and says what to do, nothing half-written, and its inputs as they
were. Writes the table to ``bad_inputs.md`` when nothing is left out; ends with 1 where there are faults.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import gc
import hashlib
import importlib
import json
import platform
import re
import resource
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [
    str(HERE.parents[n] / part)
    for n, part in ((0, ""), (2, ""), (1, ""), (2, "AmbiguousSeg"), (2, "AmbiguousSeg/Scripts"))
]

import batch  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from AmbiguousSegBridge.worker import server  # noqa: E402
from bad_inputs_cases import READ, REFUSED, Call, Case, all_cases, sample  # noqa: E402
from bad_inputs_files import make_base  # noqa: E402

import AmbiguousSegLib.inference.estimate  # noqa: E402, F401
from AmbiguousSegLib.cli import SUBCOMMANDS  # noqa: E402
from AmbiguousSegLib.cli import main as command_line  # noqa: E402

MEMORY_BYTES, LIMIT_S, RESIDENT_BYTES = 6 << 30, 60, 2 << 30
INTERNAL = re.compile(
    r"\[Errno|enforce fail|itk::|\bITK\b|object at 0x|Traceback|\w+Error\b|Exception|NoneType|list index|not subscriptable"
    r"|unsupported operand|codec can't|invalid literal|unhashable type|argument of type|has no attribute"
    r"|recursion|invalid load key|division by zero|could not convert|broadcast|keyword argument|cannot reshape"
    r"|positional argument|not iterable|out of range for|to unpack|\bsize of tensor\b|Error in "
)
ADVICE = re.compile(
    r"\b(give|choose|check|copy|move|download|save|expected|known|must|leave|use|name|take|remove|rename|correct|install|"
    r"resample|sample|crop|put|replace|write|add|train|convert|export|make|takes|put text|is (?:it|this)|at most|must|represented|among|reduce|set|mend|free|keep|restart|try|"
    r"run|needs?|lower|higher|separate|arrange|prepare|holds no|invalid choice|list it|it has|unrecognized|expects?|bundled)\b",
    re.IGNORECASE,
)
NOISE = re.compile(r"Warning\b|WARNING|\bW: |TIFFRead|libpng|\.(py|cxx|cpp|hxx):\d+")


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("seed", nargs="?", type=int, default=1)
    p.add_argument("--only", help="regular expression on 'door | kind | title'")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--base", type=Path, help="keep the valid inputs there, or take those that were kept")
    p.add_argument("--show", action="store_true", help="print every message")
    options = p.parse_args()
    torch.set_num_threads(1)
    for name in SUBCOMMANDS:
        __import__(f"AmbiguousSegLib.cli.{'import_' if name == 'import' else name}")
    with tempfile.TemporaryDirectory(prefix="bad_inputs_") as folder, contextlib.suppress(KeyboardInterrupt):
        started = time.monotonic()
        base = options.base or Path(folder) / "base"
        if not base.exists():
            in_fork(lambda: make_all(base, options.seed))
        for name in json.loads((base / "modules.json").read_text()):  # once, not in every child
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        before = state_of(base)
        cases = [
            c
            for c in all_cases(base, options.seed)
            if not options.only or re.search(options.only, f"{c.door} | {c.kind} | {c.title}")
        ]
        results = run_all(cases, Path(folder), options)
        if state_of(base) != before:
            results.append(
                {
                    "door": "all",
                    "kind": "inputs",
                    "title": "base",
                    "fault": ["the shared inputs were changed"],
                    "said": "",
                }
            )
        report(results, options, time.monotonic() - started)
        return int(any(r["fault"] for r in results))
    return 130


def in_fork(work) -> None:
    """Work in a child, so that this process stays without threads."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("The valid inputs could not be made.")


def make_all(base: Path, seed: int) -> None:
    make_base(base, seed)
    data, config = str(base / "data" / "folder"), str(base / "config.yaml")
    calls = [sample(base, base / "result", base / "ct.nrrd")]
    for place, images in (("run", 16), ("right/run", 16), ("right/run", 32)):
        line = ["train", "--config", config, "--data", data, "--out", str(base / place), "--device", "cpu", "--resume"]
        calls.append([*line, "--optimisation.images", str(images)])
    calls.append(
        ["import", str(base / "ema.pt"), "--kind", "cimd", "--image-size", "32", "--out", str(base / "imported")]
    )
    for words in calls:
        assert command_line(words) == 0, words
    (base / "modules.json").write_text(json.dumps([name for name in sys.modules if not name.startswith("__")]))


def state_of(folder: Path) -> dict[str, str]:
    """Of each file: kind, size and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        told = f"{stat.S_IFMT(about.st_mode)}"
        if stat.S_ISREG(about.st_mode):
            told += f" {about.st_size}"
            told += (
                f" {hashlib.sha256(path.read_bytes()).hexdigest()}"
                if about.st_size < 1 << 26
                else f" {about.st_mtime_ns}"
            )
        found[os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")] = told
    return found


def run_all(cases: list[Case], folder: Path, options: argparse.Namespace) -> list[dict]:
    """Results in the order of the cases."""
    results: list[dict | None] = [None] * len(cases)
    running: dict[int, int] = {}
    waiting = list(enumerate(cases))
    while waiting or running:
        gc.freeze()  # its objects stay shared with the children
        while waiting and len(running) < options.jobs:
            number, case = waiting.pop(0)
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    result = examine(case, folder / f"case{number}", np.random.default_rng([options.seed, number]))
                    (folder / f"{number}.json").write_text(json.dumps(result))
                os._exit(0)
            running[child] = number
        child, _ = os.wait()
        number = running.pop(child)
        case, file = cases[number], folder / f"{number}.json"
        told = json.loads(file.read_text()) if file.exists() else {"fault": ["the examiner failed"], "said": ""}
        results[number] = {"door": case.door, "kind": case.kind, "title": case.title} | told
        shutil.rmtree(folder / f"case{number}", ignore_errors=True)
        if told["fault"] or options.show:
            name = f"{number} {case.door} | {case.kind} | {case.title}"
            print(
                f"{'FAULT' if told['fault'] else 'ok'} {name}: {told['fault']} [{told.get('code')}, {told.get('seconds', 0):.1f} s, {told.get('cpu', 0):.2f} s] {told['said'][:700]}",
                flush=True,
            )
    return results  # type: ignore[return-value]


def examine(case: Case, place: Path, rng: np.random.Generator) -> dict:
    """Make a case, run it, judge it."""
    place.mkdir()
    try:
        call = case.make(place, rng)
    except BaseException:
        return {"fault": ["the case cannot be made: " + traceback.format_exc()[-600:]], "said": ""}
    before = state_of(place)
    log = place.with_name(f"{place.name}.log")
    log.mkdir()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        run(case.door, call, log, place)
    code: int | str | None = None
    while code is None:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
        elif time.monotonic() - started > LIMIT_S and hangs(child):
            os.kill(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
            code = "hang"
        else:
            time.sleep(0.01)
    seconds = time.monotonic() - started
    out, err = ((log / name).read_text(encoding="utf-8", errors="backslashreplace") for name in ("out", "err"))
    fault, said = judge(case, call, code, out, err)
    if usage.ru_maxrss * 1024 > RESIDENT_BYTES:
        fault.append(f"{usage.ru_maxrss / 1e6:.1f} GB of memory")
    fault += changed(before, state_of(place), place, call, code)
    if code == 0 and call.check is not None and not fault:
        try:
            wrong = call.check()
        except Exception as error:
            wrong = f"the check failed: {type(error).__name__}: {error}"
        fault += [wrong] if wrong else []
    shutil.rmtree(log, ignore_errors=True)
    return {
        "fault": fault,
        "said": said,
        "code": code,
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,
        "expect": call.expect,
    }


def hangs(child: int) -> bool:
    """Whether a process has had its time of the processor, or does nothing; one that others keep waiting has not."""
    try:
        words = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # another system: it had its time
        return True
    used = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    if used > LIMIT_S:
        return True
    time.sleep(1)
    return words[0] == "S" and Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13] == words[11:13]


def run(door: str, call: Call, log: Path, place: Path) -> None:
    """The child: limits, its own output, the door; never returns."""
    code = 70
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(log / name, os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = open(1, "w", encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        if call.limit_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (call.limit_bytes, call.limit_bytes))
        os.chdir(place)
        if door == "worker":
            code = ask_worker(call.words, log / "out")
        elif door == "batch.py":
            code = batch.main(call.words)
        else:
            code = command_line(call.words)
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def ask_worker(lines: list, answers: Path) -> int:
    """The worker, sent these lines; its input is closed when every job has ended."""
    read, write_to = os.pipe()
    os.dup2(read, 0)
    os.close(read)

    def send() -> None:
        for line in lines:
            data = line if isinstance(line, bytes) else line.encode()
            for at in range(0, len(data), 4096):
                os.write(write_to, data[at : at + 4096])
            os.write(write_to, b"\n")
        while sum(map(answers.read_bytes().count, (b'"finished"', b'"type":"failed"'))) < len(lines):
            time.sleep(0.02)
        os.close(write_to)

    threading.Thread(target=send, daemon=True).start()
    return server.main()


def judge(case: Case, call: Call, code: int | str, out: str, err: str) -> tuple[list[str], str]:
    """Faults, and the message."""
    if case.door == "worker":
        return judge_worker(call, code, out, err)
    fault = []
    lines = [line for line in re.split(r"[\n\r]", err) if line.strip()]
    if case.door == "batch.py":
        told = [line for line in lines if line.startswith("Nothing was started.") or ": error:" in line]
        told += [line for line in out.splitlines() if line.startswith("[") and ": failed" in line]
    else:
        told = [line for line in lines if re.match(r"error: |[\w .-]*: error: ", line)]
    said = " / ".join(told) or " / ".join(lines[-2:])
    if code not in (0, 1, 2):
        fault.append("hang" if code == "hang" else f"ended with {code}")
    if "Traceback" in err + out:
        fault.append("traceback")
        said += " / " + (err + out)[-400:]
    if code == 0 and call.expect == REFUSED:
        fault.append("not refused")
        said = said or out[-300:]
    if code in (1, 2):
        if call.expect == READ:
            fault.append("refused though it is right")
        if len(told) != 1:
            fault.append(f"{len(told)} lines of error")
        message = " ".join(told)
        seen = message + out if call.partly else message
        if call.names and not any(name in seen for name in call.names):
            fault.append(f"does not name {call.names[0]}")
        if found := INTERNAL.search(message):
            fault.append(f"internal words {found[0]!r}")
        if not ADVICE.search(message):
            fault.append("does not say what to do")
        if len(message) > 700:
            fault.append(f"{len(message)} characters")
    elif code == 0 and call.told and call.told not in out + err:
        fault.append(f"{call.told} is left out without a word")
    elif told and code == 0:
        fault.append("an error, and exit code 0")
    if found := NOISE.search(err):
        fault.append(f"noise {err[max(0, found.start() - 80) : found.end() + 120]!r}")
    return fault, said


def judge_worker(call: Call, code: int | str, out: str, err: str) -> tuple[list[str], str]:
    answers = [json.loads(line) for line in out.splitlines()]
    if call.expect == "ends":
        bad = [] if code == 2 else [f"ended with {code}"]
        return bad + (["an internal error"] if "Exception in thread" in err else []), err[-300:] if bad else ""
    endings = [a for a in answers if a["type"] in ("finished", "failed")]
    fault = [] if code == 0 else [f"ended with {code}"]
    if len(endings) != 2:
        return [*fault, f"{len(endings)} endings"], err[-500:]
    first, second = endings
    said = f"{first.get('failure', first).get('message', 'finished')} {first.get('failure', first).get('remedy', '')}"
    if second["type"] != "finished":
        fault.append("the job after it failed")
    if first["type"] == "finished" and call.expect == REFUSED:
        fault.append("not refused")
    if first["type"] == "failed":
        if call.expect == READ:
            fault.append("refused though it is right")
        if first["failure"]["kind"] == "internal":
            fault.append("internal")
        if "\n" in first["failure"]["message"] or INTERNAL.search(first["failure"]["message"]):
            fault.append("internal words")
    return fault, said


def changed(before: dict, after: dict, place: Path, call: Call, code: int | str) -> list[str]:
    """Inputs that are others now, and outputs that should not be there."""
    out = os.fsencode(call.out if call.out is not None else place / "out").decode("utf-8", "backslashreplace")
    inside = out.removeprefix(f"{place}/")
    faults = [
        f"{name} was changed or lost"
        for name in before
        if after.get(name) != before[name] and not name.startswith(inside)
    ]
    new = [name for name in after if name not in before]
    half = [name for name in new if re.search(r"(^|/)\.(writing-)?[0-9a-f]{12}", name)]
    if half:
        faults.append(f"left half-written: {half[0]}")
    if code != 0 and not call.partly and call.words[0] != "train" and new and not str(call.words[0]).startswith("{"):
        faults.append(f"written though it failed: {new[0]}")
    if code not in (0, 1, 130) and call.words[0] == "train" and new:
        faults.append(f"written though it was refused: {new[0]}")
    lost = [name for name in before if name.startswith(inside) and name not in after]
    return faults + [f"{name} was lost" for name in lost]


def report(results: list[dict], options: argparse.Namespace, seconds: float) -> None:
    rows: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for r in results:
        row = rows[r["door"], r["kind"]]
        row["inputs"] += 1
        row["faults" if r["fault"] else "read right" if r.get("code") == 0 else "refused"] += 1
    table = ["| door | kind | inputs | refused | read right | faults |", "|---|---|---:|---:|---:|---:|"]
    total: Counter = Counter()
    for (door, kind), row in sorted(rows.items()):
        total.update(row)
        table.append(
            f"| {door} | {kind} | {row['inputs']} | {row['refused']} | {row['read right']} | {row['faults']} |"
        )
    table.append(f"| all | | {total['inputs']} | {total['refused']} | {total['read right']} | {total['faults']} |")
    slow, large = max(r.get("cpu", 0) for r in results), max(r.get("peak", 0) for r in results)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = f"""# Bad inputs through every door

Made by `Testing/Benchmarks/bad_inputs.py {options.seed}`; Python {platform.python_version()}, PyTorch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, {time.strftime("%Y-%m-%d")}. Each input in a process of its own with 6 GB of address space and 60 s of a processor. *Refused*: exit code 1 or 2 (the worker: an error, and the next job is done), one line that names the file or the option and says what to do, nothing half-written, the inputs as they were. *Read right*: exit code 0 and the values that another reader finds in the file, or that its maker knows. Anything else is a fault: a traceback, a hang, a crash, memory, words of the inside of the program, a wrong value.

The slowest took {slow:.1f} s of a processor, the largest {large / 1e9:.2f} GB; all took {seconds / 60:.1f} minutes, {(children.ru_utime + children.ru_stime) / 60:.1f} of processors.

"""
    text += "\n".join(table) + "\n"
    print(text)
    if not options.only:
        HERE.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
