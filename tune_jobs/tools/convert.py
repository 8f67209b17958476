"""A saved ensemble as one file for other runtimes: normalisation, weights and calibration in it."""

from io import BytesIO
from typing import Any

import numpy as np
import torch

from edgenes.data.dataset import Dataset
from edgenes.ensemble import Ensemble
from edgenes.errors import ConfigError
from edgenes.export import OUTPUTS, Exported, onnx_program, onnx_session, quantised
from edgenes.metrics import summary
from tune_jobs.errors import StudyError
from tune_jobs.progress.text import aligned
from tune_jobs.tools.commands import Convert
from tune_jobs.tools.folder import channels_last, data_of, ensemble_file, new_place

IMAGES = 8
TOLERANCE = 1e-5
CALIBRATION_IMAGES = 512
"""Training images that give the ranges of activations in int8."""


def run(command: Convert) -> dict[str, Any]:
    """Export the ensemble, and compare the file with `predict` on random images; int8 is scored on V too."""
    if command.int8 and command.to != "onnx":
        raise ConfigError("--int8 is of ONNX only: give --to onnx.")
    ensemble = Ensemble.load(ensemble_file(command.ensemble))
    new_place(command.out)
    data = data_of(ensemble, command.dataset, command.root) if command.int8 else None
    shape = (ensemble.image_size, ensemble.image_size, ensemble.mean.shape[1])
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), dtype=np.uint8)
    content, found = {"onnx": _onnx, "torch": _torch}[command.to](ensemble.exported(), images)
    difference = float(np.abs(found - ensemble.predict(images)).max())
    if difference > TOLERANCE:
        raise StudyError(
            f"the export differs from predict by {difference:.2g}, so nothing was written: try other versions of "
            "torch, onnx and onnxruntime."
        )
    int8 = None
    if data is not None:
        content, int8 = _int8(content, data)
    command.out.write_bytes(content)
    classes = len(ensemble.class_names)
    return {
        "file": str(command.out),
        "format": command.to,
        "int8": int8,
        "bytes": len(content),
        "input": {"images": ["batch", *shape], "dtype": "uint8"},
        "outputs": dict(
            zip(OUTPUTS, (["batch", classes], ["batch"], [len(ensemble.networks), "batch", classes]), strict=True)
        ),
        "classes": list(ensemble.class_names),
        "difference": difference,
    }


def _torch(model: Exported, images: np.ndarray) -> tuple[bytes, np.ndarray]:
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (torch.from_numpy(images),), dynamic_shapes=({0: batch},))
    file = BytesIO()
    torch.export.save(program, file)
    with torch.inference_mode():
        found = torch.export.load(BytesIO(file.getvalue())).module()(torch.from_numpy(images))[0].numpy()
    return file.getvalue(), found


def _onnx(model: Exported, images: np.ndarray) -> tuple[bytes, np.ndarray]:
    content = onnx_program(model, torch.from_numpy(images)).model_proto.SerializeToString()
    return content, _probabilities(content, images)


def _int8(model: bytes, data: Dataset) -> tuple[bytes, dict[str, Any]]:
    """The model in int8, and both models' sizes and scores on V."""
    chosen = np.random.default_rng(0).permutation(len(data.training))[:CALIBRATION_IMAGES]
    small = quantised(model, channels_last(data.training.images[chosen]))
    images, labels = channels_last(data.validation.images), data.validation.labels
    each = {name: (content, _probabilities(content, images)) for name, content in (("float", model), ("int8", small))}
    scores = {name: {"bytes": len(content), **summary(found, labels)} for name, (content, found) in each.items()}
    return small, {"data": data.name, "validation_images": len(labels), **scores}


def _probabilities(model: bytes, images: np.ndarray) -> np.ndarray:
    return onnx_session(model).run(["probabilities"], {"images": images})[0]


def text(answer: dict[str, Any]) -> str:
    """The file, its input and outputs, and how it was checked."""
    shape = " x ".join(map(str, answer["input"]["images"]))
    lines = [
        f"Saved: {answer['file']} ({answer['bytes'] / 2**20:.1f} MiB)",
        f"Input images: uint8, {shape}. Outputs: probabilities of {len(answer['classes'])} classes, their entropy in "
        "nats, and the members' log-probabilities.",
        f"Checked: on random images {'the float model' if answer['int8'] else 'it'} differs from predict by at most "
        f"{answer['difference']:.1g}.",
    ]
    if answer["int8"]:
        rows = [["", "KiB", "accuracy", "NLL", "ECE", "Brier"]]
        for name in ("float", "int8"):
            found = answer["int8"][name]
            values = (f"{found[each]:.4f}" for each in ("accuracy", "nll", "ece", "brier"))
            rows.append([name, f"{found['bytes'] / 1024:.0f}", *values])
        lines += ["", f"On {answer['int8']['validation_images']} validation images of {answer['int8']['data']}:"]
        lines.append(aligned(rows))
    return "\n".join(lines)
