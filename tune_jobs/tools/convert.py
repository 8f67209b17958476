"""A saved ensemble as one file for other runtimes: normalisation, weights and calibration in it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgenes.ensemble import Ensemble
from edgenes.errors import ConfigError
from tune_jobs.errors import StudyError
from tune_jobs.tools.commands import Convert
from tune_jobs.tools.folder import ensemble_file

IMAGES = 8
TOLERANCE = 1e-5


class _Exported(nn.Module):
    """Pixels uint8 (batch, H, W, channels) -> probabilities (batch, classes) and entropies in nats (batch,)."""

    def __init__(self, ensemble: Ensemble):
        super().__init__()
        self.ensemble = ensemble
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = self.ensemble(images.permute(0, 3, 1, 2))
        return probabilities, torch.special.entr(probabilities).sum(-1)


def run(command: Convert) -> dict[str, Any]:
    """Export the ensemble, and compare the file with `predict` on random images."""
    ensemble = Ensemble.load(ensemble_file(command.ensemble))
    if command.out.exists():
        raise StudyError(f"{command.out} is there already, and is not overwritten: give another --out, or remove it.")
    shape = (ensemble.image_size, ensemble.image_size, ensemble.mean.shape[1])
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), dtype=np.uint8)
    found = {"onnx": _onnx, "torch": _torch}[command.to](_Exported(ensemble), command.out, images)
    difference = None if found is None else float(np.abs(found - ensemble.predict(images)).max())
    if difference is not None and difference > TOLERANCE:
        raise StudyError(f"{command.out} differs from predict by {difference:.2g}: it is not to be used.")
    return {
        "file": str(command.out),
        "format": command.to,
        "bytes": command.out.stat().st_size,
        "input": {"images": ["batch", *shape], "dtype": "uint8"},
        "outputs": {"probabilities": ["batch", len(ensemble.class_names)], "entropy": ["batch"]},
        "classes": list(ensemble.class_names),
        "difference": difference,
    }


def _torch(model: nn.Module, out: Path, images: np.ndarray) -> np.ndarray:
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (torch.from_numpy(images),), dynamic_shapes=({0: batch},))
    torch.export.save(program, out)
    with torch.inference_mode():
        return torch.export.load(out).module()(torch.from_numpy(images))[0].numpy()


def _onnx(model: nn.Module, out: Path, images: np.ndarray) -> np.ndarray | None:
    try:
        import onnxscript  # noqa: F401  what torch.onnx needs
    except ImportError as error:
        raise ConfigError("ONNX needs more packages: pip install 'edgenes-studio[export]'.") from error
    program = torch.onnx.export(
        model,
        (torch.from_numpy(images),),
        input_names=["images"],
        output_names=["probabilities", "entropy"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    program.save(str(out), external_data=False)  # one file
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def text(answer: dict[str, Any]) -> str:
    """The file, its input and outputs, and how it was checked."""
    shape = " x ".join(map(str, answer["input"]["images"]))
    difference = answer["difference"]
    checked = "It was not checked, as onnxruntime is not installed."
    if difference is not None:
        checked = f"Checked: on random images it differs from predict by at most {difference:.1g}."
    return (
        f"Saved: {answer['file']} ({answer['bytes'] / 2**20:.1f} MiB)\n"
        f"Input images: uint8, {shape}. Outputs: probabilities of {len(answer['classes'])} classes, and their entropy "
        f"in nats.\n{checked}"
    )
