"""Stage 1: the optimal genotype."""

import time
from collections.abc import Sequence
from typing import Any

from edgenes.checkpoint import write_text
from edgenes.methods.budget import Setting
from edgenes.methods.cost import search_work
from edgenes.methods.halving import best_by_halving
from edgenes.methods.survey import Measured, losses_on_h, optimal_genotype, survey
from edgenes.methods.trainer import Member
from edgenes.metrics import accuracy
from edgenes.predictor import PerformancePredictor
from edgenes.space.choices import LEAST_SURVEY
from edgenes.space.genotype import Genotype
from edgenes.space.published import published_genotype
from tune_jobs.config.genotype_file import read_genotype
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.execution.jobs import Bench, Job, run_jobs
from tune_jobs.execution.run import Run
from tune_jobs.files.layout import GENOTYPE, PREDICTOR
from tune_jobs.files.stored_trainer import StoredTrainer
from tune_jobs.files.workplace import Workplace
from tune_jobs.study.saved import stored_genotype

RANDOM_RIVALS = 6
"""Random genotypes that stand beside a searched one."""


def search_stage(run: Run, place: Workplace, setting: Setting, config: SweepConfig) -> Genotype:
    """Stage 1: the optimal genotype, found once or the user's own, in search/; the predictor beside it."""
    predictor = survey_stage(run, place, setting) if config.guided else None
    path = place.files.fetch(GENOTYPE)
    if path.exists():
        return stored_genotype(run.folder, setting.space)
    if predictor is not None and config.optimal_by == "predictor":
        genotype = optimal_genotype(predictor)
        run.progress.say(f"Optimal genotype: {genotype}.")
    elif config.optimal_by == "published":
        genotype = published_genotype(config.optimal, setting.space)
    elif config.genotype_file is not None:
        genotype = read_genotype(config.genotype_file, setting.space)
    else:
        job = {"name": config.optimal_by, "seed": setting.seed}
        results = run_jobs(run, place, setting, "search", search_job, [job], unit="search", baselines=config.baselines)
        if results.failed:
            raise StudyError(f"the search failed: {results.failed[0].reason}")
        run.progress.say(results.found[0]["summary"])
        genotype = Genotype.from_dict(results.found[0]["genotype"])
    write_text(path, genotype.to_json() + "\n")
    place.files.publish(GENOTYPE)
    return genotype


def survey_stage(run: Run, place: Workplace, setting: Setting) -> PerformancePredictor:
    """The predictor, fitted to the survey's retrainings, in search/predictor.json.

    Raises StudyError if too many retrainings of the first round failed.
    """
    path = place.files.fetch(PREDICTOR)
    if path.exists():
        return PerformancePredictor.load(path)

    def measure(k: int, members: Sequence[Member]) -> Measured:
        stage = "survey" if k == 0 else f"survey-{k + 1}"
        jobs = [{"name": f"survey {member.genotype.digest[:8]}", "member": member.to_dict()} for member in members]
        title = "Survey" if k == 0 else f"Survey, round {k + 1} (genotypes that the predictor now calls best)"
        results = run_jobs(
            run,
            place,
            setting,
            stage,
            survey_job,
            jobs,
            unit="short retraining",
            title=title,
            ahead=StoredTrainer.survey_ahead,
        )
        for report in results.failed:
            run.progress.say(f"a short retraining failed: {report.reason}")
        found = [(member, result["loss"]) for member, result in zip(members, results.found, strict=True) if result]
        if k == 0 and len(found) < LEAST_SURVEY:
            raise StudyError(
                f"{len(found)} retrainings of the survey succeeded, and a predictor needs {LEAST_SURVEY}: see the "
                "failed ones above. Free memory, lower --channels or --batch-size, and run the command again."
            )
        return found

    predictor = survey(setting, measure)
    run.progress.say(f"Predictor: {_summary(predictor, setting)}")
    predictor.save(path)
    place.files.publish(PREDICTOR)
    return predictor


def survey_job(job: Job, bench: Bench) -> dict[str, Any]:
    """Retrain a genotype shortly on W and score it on H."""
    [loss] = losses_on_h([Member.from_dict(job["member"])], bench.trainer)
    return {"loss": loss, "note": f"loss {loss:.3f}"}


def _summary(predictor: PerformancePredictor, setting: Setting) -> str:
    found, losses = predictor.rank_correlation, predictor.losses
    said = (
        f"its rank correlation with the loss of genotypes that it has not seen is {found} (1 is perfect, 0 chance). "
        f"It is fitted to {len(losses)} retrainings of {setting.survey_epochs} epochs with losses "
        f"{losses.min():.3f} to {losses.max():.3f}."
    )
    if found.above_chance:
        return said
    return (
        f"{said} That is not above chance: the candidates will be little better than random ones. Raise --survey or "
        "--survey-epochs."
    )


def search_job(job: Job, bench: Bench, baselines: bool) -> dict[str, Any]:
    """Search the optimal genotype; beside it the cheapest rival, random genotypes retrained as shortly as it."""
    setting, trainer, start = bench.setting, bench.trainer, time.monotonic()
    halving = job["name"] == "halving"
    if halving:  # what a search of the same operations pays for
        genotype = best_by_halving(setting, trainer, search_work(setting.search_config(), bench.data))
    else:
        genotype = trainer.search(setting.search_config()).genotype
    summary = f"Optimal genotype: {genotype} ({time.monotonic() - start:.0f} s)."
    if baselines:
        # Halving chose by the first retraining's score, which would flatter its choice.
        rivals = setting.random_genotypes(min(RANDOM_RIVALS, setting.space.genotypes))
        members = [
            Member(one, setting.training_config(one, repeat=int(halving), epochs=setting.short_epochs))
            for one in (genotype, *rivals)
        ]
        scores = [accuracy(each.probabilities, bench.data.validation.labels) for each in trainer.retrain(members)]
        summary += (
            f" After {setting.short_epochs} epochs of retraining its validation accuracy is {scores[0]:.3f}; "
            f"{len(rivals)} random genotypes: mean {sum(scores[1:]) / len(rivals):.3f}, best {max(scores[1:]):.3f}."
        )
    return {"genotype": genotype.to_dict(), "summary": summary}
