"""One network that learned from an ensemble: trained on its probabilities in the place of the labels."""

import time
from dataclasses import replace
from typing import Any, cast

import numpy as np

from edgenes.ensemble import Ensemble
from edgenes.errors import ConfigError
from edgenes.metrics import nll, summary
from edgenes.nn.network import Network
from edgenes.selection import calibrate
from tune_jobs.errors import StudyError
from tune_jobs.files.environment import environment
from tune_jobs.files.layout import file_digest
from tune_jobs.files.stored_trainer import Teacher, network_of
from tune_jobs.progress.text import aligned
from tune_jobs.stages.trial import milliseconds
from tune_jobs.study.saved import open_saved
from tune_jobs.tools.commands import Distill
from tune_jobs.tools.folder import channels_last, ensemble_file, new_place, study_of
from tune_jobs.tools.machine import choose_device, progress_line, threads


def run(command: Distill) -> dict[str, Any]:
    """Train the network on W and H as the ensemble answers them, score both on V, and save it as an ensemble of one."""
    path = ensemble_file(command.ensemble.absolute())
    ensemble, teacher = Ensemble.load(path), file_digest(path)
    study = study_of(path)
    if study is None:
        raise StudyError(f"{path.parent} lies in no study, which would keep the network: give the study's folder.")
    saved = open_saved(study, command.storage).with_data(command.dataset, command.root)
    data = saved.data().without_test()
    if ensemble.card.get("data") != data.digest:
        raise StudyError(f"{path.parent} was made of other data than the study in {study}.")
    images, labels = channels_last(data.validation.images), data.validation.labels
    members = ensemble.uncertainty(images).members
    number = chosen_member(command, ensemble, members, labels)
    member, config = cast(Network, ensemble.networks[number]), ensemble.configs[number]
    device = choose_device(saved, command.device)
    config = replace(config, device=device, epochs=config.epochs if command.epochs is None else command.epochs)
    about = {"ensemble": teacher, "member": number + 1, "epochs": config.epochs}
    name = f"distilled-{teacher[:8]}-member-{number + 1}-epochs-{config.epochs}"
    target = new_place(command.out or study / "ensembles" / name, folder=True)

    method = saved.config.calibration

    def alone(network: Network, probabilities: np.ndarray) -> Ensemble:
        return Ensemble.of([network], [config], data, calibration=calibrate(probabilities, labels, method))

    with threads(saved.config.execution.cpus_per_trial), progress_line("Distilling", shown=not command.json) as show:
        show(0, 1, f"{config.epochs} epochs")
        answers = ensemble.predict(channels_last(data.training.images))
        trainer = saved.context(device).place.trainer(data)
        stored = trainer.candidate(config, member.genotype, Teacher(teacher, answers))
        student = alone(network_of(stored.value, config, data, member.genotype).cpu(), stored.value.probabilities)
        each = {"ensemble": ensemble, "member": alone(member, members[number]), "distilled": student}
        rows = {name: _scores(one, images, labels) for name, one in each.items()}
    student.card = {
        "dataset": data.name,
        "data": data.digest,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "distilled": about,
        "config": saved.config.to_dict(),
        "validation": rows["distilled"],
        "environment": environment(),
        "device": device,
    }
    student.save(target)
    return {
        "folder": str(target),
        "cached": stored.cached,
        "seconds": stored.seconds,
        **about,
        "validation_images": len(labels),
        "validation": rows,
    }


def chosen_member(command: Distill, ensemble: Ensemble, members: np.ndarray, labels: np.ndarray) -> int:
    """The position of the command's member, else of the one with the largest weight, of equals the best on V by NLL.

    `members` are probabilities (members, samples, classes) on V.
    """
    count = len(ensemble.weights)
    if command.member is None:
        return max(range(count), key=lambda k: (ensemble.weights[k], -nll(members[k], labels)))
    if not 1 <= command.member <= count:
        raise ConfigError(f"--member must be within 1 to {count}, got {command.member}.")
    return command.member - 1


def _scores(ensemble: Ensemble, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {**summary(ensemble.predict(images), labels), "milliseconds": milliseconds(ensemble)}


def text(answer: dict[str, Any]) -> str:
    """The network beside the ensemble and beside the member of the same genotype, in a table."""
    names = {
        "ensemble": "ensemble",
        "member": f"member {answer['member']}, trained on labels",
        "distilled": "the same network, distilled",
    }
    rows = [["", "accuracy", "NLL", "ECE", "Brier", "one image, ms"]]
    for key, name in names.items():
        found = answer["validation"][key]
        values = (f"{found[each]:.4f}" for each in ("accuracy", "nll", "ece", "brier"))
        rows.append([name, *values, f"{found['milliseconds']:.2f}"])
    lines = [
        f"{answer['validation_images']} validation images; ensemble and member were chosen on them, so their numbers "
        "are flattered:",
        aligned(rows),
        f"Trained for {answer['epochs']} epochs, {answer['seconds']:.0f} s.",
    ]
    if answer["cached"]:
        lines.append("The network was found in the study's store.")
    return "\n".join([*lines, f"Saved: {answer['folder']}"])
