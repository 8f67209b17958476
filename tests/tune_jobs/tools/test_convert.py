"""An exported ensemble gives the probabilities of predict, for any number of images."""

import sys
from collections import Counter

import numpy as np
import pytest
import torch

from edgenes import Ensemble, TrainingConfig, random_genotype
from edgenes.metrics import summary
from edgenes.selection import Calibration
from edgenes.space.genotype import SearchSpace
from edgenes.training.retraining import make_network
from tests.support.toys import blobs, seeded
from tune_jobs.study.saved import open_saved

IMAGES = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An ensemble of one untrained network, calibrated."""
    config = TrainingConfig(channels=4, cells=1)
    torch.manual_seed(0)
    network = make_network(config, random_genotype(SearchSpace(nodes=2), seeded(0)), 1, 3)
    ensemble = Ensemble.of([network], [config], blobs(), calibration=Calibration((2.0,), (0.0,)))
    place = tmp_path_factory.mktemp("study") / "ensemble"
    ensemble.save(place)
    return place


def check(folder, images, probabilities, entropy):
    expected = Ensemble.load(folder).predict(images)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(entropy, -(expected * np.log(expected)).sum(1), atol=1e-4)


@pytest.mark.slow  # torch.export itself begins slowly
def test_a_program_of_torch(folder, tmp_path, told):
    said = told("convert", folder.parent, "--to", "torch", "--out", tmp_path / "e.pt2")
    assert "differs from predict by at most" in said
    program = torch.export.load(tmp_path / "e.pt2").module()
    for count in (1, 5):
        probabilities, entropy, members = program(torch.from_numpy(IMAGES[:count]))
        assert probabilities.shape == (count, 3) and members.shape == (1, count, 3)
    check(folder, IMAGES, probabilities.detach().numpy(), entropy.detach().numpy())


@pytest.mark.slow
def test_onnx_and_int8(finished, tmp_path, told, answered):
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    pytest.importorskip("onnxscript", reason="needs the extra export")
    told("convert", finished, "--out", tmp_path / "float.onnx")
    answer = answered("convert", finished, "--out", tmp_path / "int8.onnx", "--int8")["int8"]
    data = open_saved(finished).data()
    for name in ("float", "int8"):
        path = tmp_path / f"{name}.onnx"
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        images = data.validation.images.transpose(0, 2, 3, 1).copy()
        found, entropy = session.run(["probabilities", "entropy"], {"images": images})
        expected = summary(found, data.validation.labels) | {"bytes": path.stat().st_size}
        assert answer[name] == pytest.approx(expected)
        if name == "float":
            [one] = session.run(["probabilities"], {"images": images[:1]})
            check(finished / "ensemble", images, found, entropy)
            np.testing.assert_allclose(one, found[:1], atol=1e-5)
    operators = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert operators["QLinearConv"] and not operators["Conv"]
    assert abs(answer["int8"]["nll"] - answer["float"]["nll"]) < 0.05


def test_int8_is_refused_where_it_cannot_be(folder, finished, tmp_path, monkeypatch, refused):
    out = ["--out", str(tmp_path / "e.onnx")]
    assert "--dataset" in refused("convert", folder, "--int8", *out)
    assert "10 classes" in refused("convert", finished, "--int8", "--dataset", "digits", *out)
    assert "--to onnx" in refused("convert", folder, "--int8", "--to", "torch", *out)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "export" in refused("convert", finished, "--int8", *out)
    assert not (tmp_path / "e.onnx").exists()


def test_a_file_is_not_overwritten_and_a_missing_ensemble_is_said(folder, tmp_path, refused):
    (tmp_path / "e.onnx").write_text("mine")
    assert "not overwritten" in refused("convert", folder, "--out", tmp_path / "e.onnx")
    assert (tmp_path / "e.onnx").read_text() == "mine"
    assert "config.json" in refused("convert", tmp_path, "--out", tmp_path / "f.onnx")
