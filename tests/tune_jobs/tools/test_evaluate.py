"""An ensemble evaluated: its numbers, what is computed once, which images are read, and what is refused."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from edgenes import Ensemble, load_data, metrics
from edgenes.checkpoint import read_json
from edgenes.data.corruptions import corrupt
from edgenes.errors import ConfigError, DataError
from tune_jobs.files.layout import TEST_READS
from tune_jobs.tools import evaluate
from tune_jobs.tools.commands import Evaluate


def last(images):
    return images.transpose(0, 2, 3, 1)


@pytest.fixture
def own(finished):
    """The ensemble and the data of the study."""
    ensemble = Ensemble.load(finished / "ensemble")
    config = ensemble.card["config"]
    return ensemble, load_data(config["dataset"], images=config["images"])


def test_validation_images_and_their_corruptions_are_scored_and_computed_once(finished, own, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "CORRUPTIONS", {"fog": None, "contrast": None})
    ensemble, data = own
    command = Evaluate(ensemble=finished, out=tmp_path / "out", shift=True, ood=("noise", "inverted"))
    reads = (finished / TEST_READS).read_text()
    answer = command.run()
    assert (finished / TEST_READS).read_text() == reads
    assert answer["part"] == "validation" and len(answer["notes"]) == 1 and answer["cached"] == 0
    table = pd.read_csv(tmp_path / "out" / "conditions.csv").set_index(["corruption", "severity", "model"])
    for name, severity in (("clean", 0), ("fog", 5)):
        images = data.validation.images if name == "clean" else corrupt(data.validation.images, name, severity)
        expected = metrics.summary(ensemble.predict(last(images)), data.validation.labels)
        found = table.loc[name, severity, "ensemble"]
        assert found[list(expected)].to_dict() == pytest.approx(expected, abs=1e-4)
    assert {(row["data"], row["model"], row["score"]) for row in answer["ood"]} == set(
        product(("noise", "inverted"), ("ensemble", "deep ensemble"), ("epistemic", "entropy"))
    )
    assert 'src="data:image/png;base64,' in (tmp_path / "out" / "index.html").read_text()
    monkeypatch.setattr(evaluate, "corrupt", pytest.fail)
    monkeypatch.setattr(evaluate, "save_checkpoint", None)
    again = command.run()
    assert again["cached"] == 10 and again["conditions"] == answer["conditions"] and again["ood"] == answer["ood"]
    assert str(tmp_path / "out") in command.text(again)


def test_the_deep_ensemble_beside_it_is_the_one_that_the_study_scored_and_each_test_read_is_recorded(
    study, own, tmp_path
):
    name = own[0].card["config"]["dataset"]
    command = Evaluate(ensemble=study / "ensemble", out=tmp_path / "out", dataset=name, part="test")
    before = len((study / TEST_READS).read_text().splitlines())
    answer = command.run()
    assert answer["part"] == "test" and answer["images"] == len(own[1].test)
    assert len((study / TEST_READS).read_text().splitlines()) == before + 1
    found = {row["model"]: row for row in answer["severities"]}
    told = read_json(study / "result.json")["baseline"]["optimal_ensemble"]["test"]
    assert {name: found["deep ensemble"][name] for name in ("accuracy", "nll", "ece", "brier")} == pytest.approx(
        {name: told[name] for name in ("accuracy", "nll", "ece", "brier")}, abs=1e-4
    )
    for stored in (study / "predictions").glob("*.pt"):
        stored.unlink()
    answer = command.run()
    assert "deep ensemble" not in {row["model"] for row in answer["severities"]}
    assert len(answer["notes"]) == 2


def test_other_data_are_matched_by_the_names_of_their_classes(finished, own, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ensemble, data = own
    names = np.array(data.class_names)
    order = np.random.default_rng(0).permutation(len(names))
    part = data.validation
    arrays = {"x_train": last(part.images), "y_train": order[part.labels], "class_names": names[order.argsort()]}
    arrays |= {"x_test": arrays["x_train"][:60], "y_test": arrays["y_train"][:60]}
    np.savez(tmp_path / "other.npz", **arrays)
    answer = Evaluate(ensemble=finished, out=tmp_path / "out", dataset=str(tmp_path / "other.npz")).run()
    expected = metrics.accuracy(ensemble.predict(last(part.images[:60])), part.labels[:60])
    assert answer["severities"][0]["accuracy"] == pytest.approx(expected) and not answer["notes"]
    command = Evaluate(ensemble=finished, out=tmp_path / "out", dataset=str(tmp_path / "other.npz"), part="all")
    assert command.run()["images"] == len(arrays["x_train"]) + len(arrays["x_test"])
    with pytest.raises(ConfigError, match="training images"):
        replace(command, dataset=None).run()
    with pytest.raises(ConfigError, match="--device cuda"):
        replace(command, device="cuda").run()
    np.savez(tmp_path / "other.npz", **arrays | {"class_names": np.array([f"class {name}" for name in names])})
    with pytest.raises(DataError, match="--ood"):
        Evaluate(ensemble=finished, out=tmp_path / "out", dataset=str(tmp_path / "other.npz")).run()


def test_broken_pictures_of_other_data_are_left_out_on_request(finished, own, tmp_path):
    _, data = own
    for label in (0, 1):
        for half in ("train", "test"):
            folder = tmp_path / "other" / half / data.class_names[label]
            folder.mkdir(parents=True)
            for number, image in enumerate(last(data.validation.images[data.validation.labels == label])[:12]):
                Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    (folder / "3.png").write_bytes(b"")
    command = Evaluate(ensemble=finished, out=tmp_path / "out", dataset=str(tmp_path / "other"))
    with pytest.raises(DataError, match="--skip-broken"):
        command.run()
    whole = len(list((tmp_path / "other" / "test").rglob("*.png"))) - 1
    assert replace(command, skip_broken=True).run()["images"] == whole


def test_the_published_arrays_are_read_a_severity_at_a_time(finished, own, tmp_path):
    ensemble, _ = own
    rng = np.random.default_rng(0)
    pictures, labels = rng.integers(0, 256, (50, 8, 8, 3), dtype=np.uint8), rng.integers(3, size=50)
    command = Evaluate(ensemble=finished, out=tmp_path / "out", corrupted=tmp_path)
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(DataError):
        command.run()
    np.save(tmp_path / "fog.npy", pictures)
    np.save(tmp_path / "speckle_noise.npy", pictures)  # one of the four extra ones
    rows = [row for row in command.run()["conditions"] if row["model"] == "ensemble" and row["severity"]]
    grey = np.rint(pictures @ [0.299, 0.587, 0.114]).astype(np.uint8)
    assert [(row["corruption"], row["severity"]) for row in rows] == [("fog", severity) for severity in range(1, 6)]
    expected = metrics.nll(ensemble.predict(grey[40:]), labels[40:])
    assert rows[-1]["nll"] == pytest.approx(expected, rel=1e-3)
    np.save(tmp_path / "labels.npy", labels[:, None])
    with pytest.raises(DataError, match="as many labels"):
        command.run()
    np.save(tmp_path / "labels.npy", labels)
    np.save(tmp_path / "fog.npy", pictures[:49])
    with pytest.raises(DataError, match=r"fog\.npy"):
        command.run()
