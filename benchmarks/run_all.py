"""All benchmarks, one after the other, and the page that shows them.

    python -m benchmarks.run_all --threads 2 --peer torchvision --peer-python PATH --write

takes about 20 minutes on 2 cores, prints every line of every benchmark and, with `--write`, puts
the numbers into benchmarks/RESULTS.md; with `--only NAME`, that benchmark's section alone. Run it
on a machine that does nothing else.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from benchmarks import measure, scaling

# Each in a process of its own, so that peak memory is its own.
_WITH_PEER = ("predict", "train_step", "ops")
_ALONE = ("input_pipeline", "evaluation", "conversion", "exported", "scaling")
# They need data and hours, or a chip: run and written by hand.
_APART = ("accelerator", "side_by_side")
_ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("RESULTS.md")


def main(argv: list[str] | None = None) -> None:
    parser = measure.argument_parser(__doc__.splitlines()[0], rounds=0)
    measure.add_peer_arguments(parser)
    parser.add_argument("--only", choices=(*_WITH_PEER, *_ALONE), help="one of the benchmarks")
    parser.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md")
    arguments = parser.parse_args(argv)
    common = [f"--threads={arguments.threads}"] if arguments.threads else []
    common += [f"--rounds={arguments.rounds}"] if arguments.rounds else []
    common += ["--tiny"] if arguments.tiny else []
    peer = []
    if arguments.peer:
        peer = [f"--peer={arguments.peer}", f"--peer-python={arguments.peer_python}"]
    sections = {}
    for name in [arguments.only] if arguments.only else (*_WITH_PEER, *_ALONE):
        options = [*common, *(peer if name in _WITH_PEER else ())]
        lines = run(name, options)
        shown = [o for o in options if not o.startswith("--peer-python")]
        sections[name] = section(name, lines, " ".join([f"python -m benchmarks.{name}", *shown]))
    if arguments.write:
        RESULTS.write_text(page(sections_of(RESULTS.read_text()) | sections))


def run(name: str, options: list[str]) -> list[dict]:
    """Runs one benchmark, passing its lines on; returns them."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    lines = []
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(json.loads(line))
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} has ended with status {process.returncode}")
    return lines


def page(sections: dict[str, str]) -> str:
    """Returns the page of these sections: those of benchmarks, in their usual order, come first."""
    order = [name for name in (*_WITH_PEER, *_ALONE, *_APART) if name in sections]
    order += [name for name in sections if name not in order]
    return "\n".join([_HEAD, *(sections[name] for name in order)])


def sections_of(text: str) -> dict[str, str]:
    """Returns the sections of a page as `page` takes them."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {part.split("\n", 1)[0].removeprefix("## "): part.strip() + "\n" for part in parts}


def section(name: str, lines: list[dict], command: str) -> str:
    """Returns the section of a benchmark for lines as it prints them."""
    ours = [line for line in lines if line["side"] == measure.OURS]
    machine, versions = ours[0]["machine"], dict(ours[0]["versions"])
    for line in lines:
        versions |= line["versions"]
    timed = "median_s" in ours[0]
    return _SECTION.format(
        name=name,
        command=command,
        machine=f"{machine['processor']}, {machine['cores']} cores; {machine['device']}",
        load=max(line["machine"]["load_1min"] for line in ours),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        tables=_table(ours, lines) if timed else scaling.tables(ours),
    )


def _table(ours: list[dict], lines: list[dict]) -> str:
    return "\n".join([_COLUMNS, *(_row(line, lines) for line in ours)])


def _row(line: dict, lines: list[dict]) -> str:
    same = (line["benchmark"], line["case"])
    peers = [
        other
        for other in lines
        if (other["benchmark"], other["case"]) == same and other["side"] != measure.OURS
    ]
    cells = [
        line["case"],
        ", ".join(f"{name} {_plain(value)}" for name, value in line["sizes"].items()),
        _time(line),
        "<br>".join(f"{other['side'].split(' ', 1)[-1]}: {_time(other)}" for other in peers),
        f"{line['speedup']:.2f}" if line.get("same_work") else "",
        line.get("images_per_s", ""),
        line.get("compile_s", ""),
        line.get("compiled_memory_mib", {}).get("temp", ""),
        line["peak_rss_mib"],
    ]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _time(line: dict) -> str:
    """Returns the median and the quartiles in a unit that suits them."""
    unit, factor = ("s", 1) if line["median_s"] >= 1 else ("ms", 1000)
    low, high = line["quartiles_s"]
    median, low, high = (f"{factor * t:.3g}" for t in (line["median_s"], low, high))
    return f"{median} {unit} ({low}-{high})"


def _plain(value) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


_HEAD = """# Results

Written by `benchmarks/run_all.py`; every number is measured, none is edited.

Times are medians of rounds in which the sides take turns, with quartiles. "Speedup" is the peer's
median in its faster memory layout divided by ours; it is empty where there is no peer, or where
the two sides did not find the same number of proposals, RoIs or boxes. Compilation is without a
cache. "Temporary" is what XLA says that the compiled program needs besides arguments and results;
"peak" is the highest memory of the whole process up to that result. What the sizes and cases mean
is said at the top of each benchmark's file. "Load" is the machine's highest load average of a
minute during the run: above the number of cores, other programs took their share.
"""

_SECTION = """## {name}

- command: `{command}`
- machine: {machine}; load {load}
- versions: {versions}

{tables}
"""

_COLUMNS = """\
| case | sizes | maskrcnn_jax | peers | speedup | images/s | compile, s | temporary, MiB | peak, MiB |
|---|---|---|---|---|---|---|---|---|"""  # noqa: E501


if __name__ == "__main__":
    main()
