"""A saved ensemble as one file for other runtimes: normalisation, weights and calibration in it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgenes.ensemble import Ensemble
from edgenes.export import OUTPUTS, Exported, onnx_program, onnx_session
from tune_jobs.errors import StudyError
from tune_jobs.tools.commands import Convert
from tune_jobs.tools.folder import ensemble_file

IMAGES = 8
TOLERANCE = 1e-5


def run(command: Convert) -> dict[str, Any]:
    """Export the ensemble, and compare the file with `predict` on random images."""
    ensemble = Ensemble.load(ensemble_file(command.ensemble))
    if command.out.exists():
        raise StudyError(f"{command.out} is there already, and is not overwritten: give another --out, or remove it.")
    shape = (ensemble.image_size, ensemble.image_size, ensemble.mean.shape[1])
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), dtype=np.uint8)
    found = {"onnx": _onnx, "torch": _torch}[command.to](ensemble.exported(), command.out, images)
    difference = float(np.abs(found - ensemble.predict(images)).max())
    if difference > TOLERANCE:
        raise StudyError(f"{command.out} differs from predict by {difference:.2g}: it is not to be used.")
    classes = len(ensemble.class_names)
    return {
        "file": str(command.out),
        "format": command.to,
        "bytes": command.out.stat().st_size,
        "input": {"images": ["batch", *shape], "dtype": "uint8"},
        "outputs": dict(
            zip(OUTPUTS, (["batch", classes], ["batch"], [len(ensemble.networks), "batch", classes]), strict=True)
        ),
        "classes": list(ensemble.class_names),
        "difference": difference,
    }


def _torch(model: Exported, out: Path, images: np.ndarray) -> np.ndarray:
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (torch.from_numpy(images),), dynamic_shapes=({0: batch},))
    torch.export.save(program, out)
    with torch.inference_mode():
        return torch.export.load(out).module()(torch.from_numpy(images))[0].numpy()


def _onnx(model: Exported, out: Path, images: np.ndarray) -> np.ndarray:
    onnx_program(model, torch.from_numpy(images)).save(str(out), external_data=False)  # one file
    return onnx_session(str(out)).run(["probabilities"], {"images": images})[0]


def text(answer: dict[str, Any]) -> str:
    """The file, its input and outputs, and how it was checked."""
    shape = " x ".join(map(str, answer["input"]["images"]))
    return (
        f"Saved: {answer['file']} ({answer['bytes'] / 2**20:.1f} MiB)\n"
        f"Input images: uint8, {shape}. Outputs: probabilities of {len(answer['classes'])} classes, their entropy in "
        "nats, and the members' log-probabilities.\n"
        f"Checked: on random images it differs from predict by at most {answer['difference']:.1g}."
    )
