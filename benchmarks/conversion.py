"""Other projects' weights into our checkpoints: `python -m benchmarks.conversion`.

Files of the published models' names and shapes, with random numbers, are written to a temporary
folder; then each is converted by the command that a user types, in a process of its own. The time
is that of the whole command, with its imports; the peak is the memory of its process alone.
"""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import save_file

from benchmarks import detector, measure
from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.pretrained.sources import SOURCES
from maskrcnn_jax.pretrained.tables.mapping import export_arrays

# Kind of weights, depth of the ResNet, classes.
_CASES = {
    "torchvision R50": ("torchvision_v1", 50, 90),
    "Detectron2 R50": ("detectron2", 50, 80),
    "Detectron2 R101": ("detectron2", 101, 80),
    "matterport R101": ("matterport", 101, 80),
}
_TINY = {
    "backbone.width": 4,
    "fpn.channels": 8,
    "box_head.dense_channels": 8,
    "mask_head.channels": 8,
}


def main(argv: list[str] | None = None) -> list[dict]:
    parser = measure.argument_parser(__doc__, rounds=5)
    parser.add_argument("--only", choices=_CASES, help="one of the cases")
    arguments = measure.parse(parser, argv)
    lines = []
    for case in [arguments.only] if arguments.only else _CASES:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights"
            # Elsewhere, since the peak of a process that is started counts its parent's memory.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                pool.submit(write_file, file, *_CASES[case], arguments.tiny).result()
            side, facts = conversion(file, Path(folder) / "run")
            sizes = {"file": f"{file.stat().st_size / 2**20:.0f} MiB"}
            lines += measure.report(
                "conversion", case, sizes, {measure.OURS: side}, arguments.rounds, facts=facts
            )
    return lines


def conversion(file: Path, out: Path) -> tuple[measure.Side, dict]:
    """Returns a side that converts the file, and what the side learns on its way."""
    command = [sys.executable, "-m", "maskrcnn_jax.pretrained", str(file), "--out", str(out)]
    facts = {"peak_rss_mib": 0}

    def side():
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            printed = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} has ended with {process.returncode}")
        shutil.rmtree(out)
        peak = measure.mebibytes(usage.ru_maxrss)
        facts["peak_rss_mib"] = max(facts["peak_rss_mib"], peak)
        total = next(line.split() for line in printed.splitlines() if line.split()[:1] == ["total"])
        return seconds, {"arrays": int(total[1]), "numbers": int(total[2].replace(",", ""))}

    return side, facts


def write_file(file: Path, kind: str, depth: int, num_classes: int, tiny: bool) -> None:
    """Writes random weights of a kind as its project does."""
    source = next(source for source in SOURCES if source.name == kind)
    config = get_config().model
    set_values(config, {**source.model, "backbone.depth": depth})
    set_values(config, _TINY if tiny else {})
    state = export_arrays(detector.random_variables(config, num_classes), source.table(config))
    if kind == "matterport":
        _write_keras(file, state)
    elif kind == "detectron2":
        with file.open("wb") as opened:
            pickle.dump({"model": state, "__author__": "Detectron2 Model Zoo"}, opened)
    else:
        save_file(state, file)


def _write_keras(file: Path, state: dict[str, np.ndarray]) -> None:
    """Writes HDF5 with a group for each layer, in it one of the same name with its arrays."""
    with h5py.File(file, "w") as opened:
        for name, array in state.items():
            layer, weight = name.split("/")
            opened[f"{layer}/{layer}/{weight}:0"] = array


if __name__ == "__main__":
    main()
