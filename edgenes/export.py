"""An ensemble for other runtimes: one module of torch with everything in it, as ONNX, and run by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgenes.data.inputs import as_images
from edgenes.errors import ConfigError
from edgenes.nn.inference import folded
from edgenes.nn.network import Network
from edgenes.uncertainty import Uncertainty

OUTPUTS = ("probabilities", "entropy", "members")
CALIBRATION_BATCH = 64


class Exported(nn.Module):
    """A copy of an ensemble in evaluation mode: pixels uint8 (batch, H, W, channels) -> what OUTPUTS names.

    That is the probabilities (batch, classes), their entropies in nats (batch,), and the networks' log-probabilities
    (networks, batch, classes). `normalise` is done to the pixels, `combine` makes the probabilities of the logits.
    """

    def __init__(
        self,
        networks: Iterable[Network],
        normalise: Callable[[Tensor], Tensor],
        combine: Callable[[Tensor], Tensor],
    ):
        super().__init__()
        self.networks = nn.ModuleList([folded(network) for network in networks])
        self.normalise = normalise
        self.combine = combine
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pixels = self.normalise(images.permute(0, 3, 1, 2))
        logits = torch.stack([network(pixels) for network in self.networks])
        probabilities = self.combine(logits)
        return probabilities, torch.special.entr(probabilities).sum(-1), logits.log_softmax(-1)


def onnx_program(exported: Exported, images: Tensor) -> Any:
    """The module as a `torch.onnx.ONNXProgram` for any number of images; `images`, two or more, give their sizes.

    Raises ConfigError if packages of the extra `export` are missing.
    """
    try:
        import onnxruntime  # noqa: F401  which every caller runs the program with
        import onnxscript  # noqa: F401  which torch.onnx needs
    except ImportError as error:
        raise ConfigError("ONNX needs more packages: pip install 'edgenes-studio[export]'.") from error
    program: Any = torch.onnx.export(
        exported,
        (images,),
        input_names=["images"],
        output_names=list(OUTPUTS),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    for node in program.model.graph.all_nodes():  # where each stands in the source: half of a small file
        node.metadata_props.clear()
    return program


def quantised(model: bytes, images: np.ndarray) -> bytes:
    """An ONNX model of `onnx_program` with its convolutions and classifiers in int8, the rest in float32.

    `images`, as the model takes them, give the ranges of the activations (static quantisation).
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = iter([{"images": batch} for batch in np.array_split(images, -(-len(images) // CALIBRATION_BATCH))])
    reader = SimpleNamespace(get_next=lambda: next(batches, None))
    with TemporaryDirectory() as folder:
        plain, prepared, small = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "small"))
        plain.write_bytes(model)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            small,
            reader,
            quantization.QuantFormat.QOperator,
            activation_type=quantization.QuantType.QUInt8,
            # not the matrix product of the ensemble's mean: its probabilities would not add to 1
            op_types_to_quantize=["Conv", "Gemm"],
            per_channel=True,
            # 7 bits of a weight: with 8, sums overflow 16 bits on processors without VNNI
            reduce_range=True,
        )
        return small.read_bytes()


def onnx_session(model: bytes | str) -> Any:
    """The `onnxruntime.InferenceSession` of a model or its file, on the CPU, of as many threads as torch has now."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class AcceleratedEnsemble:
    """An ensemble in onnxruntime, which `Ensemble.accelerate` makes: the same answers up to rounding, sooner.

    It is the ensemble as it was then: later changes of weights do not reach it. It is safe to use from several threads.
    """

    def __init__(self, exported: Exported, image_size: int, channels: int, weights: tuple[float, ...]):
        self.image_size, self.channels, self.weights = image_size, channels, weights
        images = torch.zeros(2, image_size, image_size, channels, dtype=torch.uint8)
        self._session = onnx_session(onnx_program(exported, images).model_proto.SerializeToString())

    def predict(self, images: Any, batch_size: int = 512, *, resize: bool = False) -> np.ndarray:
        """As `Ensemble.predict`."""
        return np.concatenate(self._outputs("probabilities", images, batch_size, resize))

    def uncertainty(self, images: Any, batch_size: int = 512, *, resize: bool = False) -> Uncertainty:
        """As `Ensemble.uncertainty`."""
        return Uncertainty.of(np.concatenate(self._outputs("members", images, batch_size, resize), 1), self.weights)

    def _outputs(self, name: str, images: Any, batch_size: int, resize: bool) -> list[np.ndarray]:
        pixels = as_images(images, self.image_size, self.channels, resize).cpu().numpy()
        starts = range(0, max(len(pixels), 1), batch_size)
        return [self._session.run([name], {"images": pixels[k : k + batch_size]})[0] for k in starts]
