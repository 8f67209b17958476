"""What is wrong with a study, and its repair."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgenes.errors import EdgeNESError
from tune_jobs.errors import StudyError
from tune_jobs.files.integrity import check_folder
from tune_jobs.files.layout import CONFIG, DATABASE, TRIALS
from tune_jobs.files.lease import study_lock
from tune_jobs.progress.text import counted
from tune_jobs.study.saved import refuse_experiment
from tune_jobs.tools.checks import Case, Finding, examine
from tune_jobs.tools.command import StudyCommand
from tune_jobs.tools.folder import DRIVER, contents, driver

ROUNDS = 5
"""Repairs may bring further damage to light: a configuration written anew lets the rest be checked."""


@dataclass(frozen=True, kw_only=True)
class Doctor(StudyCommand):
    """Say what is wrong with a study and what a repair would do; exit status 1 if anything is."""

    repair: bool = False
    """Do what is said; nothing that holds information is deleted, it is set aside as NAME.damaged."""

    def run(self) -> dict[str, Any]:
        folder = Path(self.study).absolute()
        if not folder.is_dir():
            raise StudyError(
                f"there is no study in {folder}: give the folder that --out named, or runs/anneal-DATASET."
            )
        refuse_experiment(folder)
        if not any((folder / name).exists() for name in (CONFIG, DATABASE, TRIALS, "search")):
            raise StudyError(f"there is no study in {folder}: it holds none of a study's files.")
        holder = driver(folder)
        driven = holder is not None and holder["state"] == "alive"
        repaired: list[dict[str, str]] = []
        failed: dict[str, str] = {}
        with ExitStack() as stack:
            if self.repair:
                check_folder(folder)
                stack.enter_context(study_lock(folder))
            findings = self._examine(folder, driven and not self.repair)
            if holder is not None and not driven:
                what = f"process {holder['pid']} on {holder['host']} no longer drives the study; {DRIVER} names it"
                if self.repair:  # by holding the lock
                    repaired.append({"what": what, "did": "removed it"})
                else:
                    findings.append(Finding(what, "no damage: the next run takes the study over", harmless=True))
            for _ in range(ROUNDS if self.repair else 0):
                due = [finding for finding in findings if finding.repair and finding.what not in failed]
                for finding in [finding for finding in due if finding.first] or due:
                    try:
                        finding.repair()
                        repaired.append({"what": finding.what, "did": finding.cure})
                    except (EdgeNESError, OSError) as error:
                        failed[finding.what] = str(error)
                if not due:
                    break
                findings = self._examine(folder, False)
        wrong = [finding for finding in findings if not finding.harmless]
        return {
            "folder": str(folder),
            "driven": driven,
            "sound": not wrong,
            "findings": [
                {"what": f.what, "cure": f.cure, "repairable": f.repair is not None, "failed": failed.get(f.what)}
                for f in wrong
            ],
            "notes": [{"what": f.what, "cure": f.cure} for f in findings if f.harmless],
            "repaired": repaired,
        }

    def _examine(self, folder: Path, driven: bool) -> list[Finding]:
        return list(examine(Case(folder, self.storage, contents(folder), driven)))

    def text(self, answer: dict[str, Any]) -> str:
        wrong, repaired = answer["findings"], answer["repaired"]
        verdict = "sound" if answer["sound"] else f"{counted(len(wrong), 'thing')} wrong"
        if repaired:
            verdict += f", {len(repaired)} repaired"
        lines = [f"{answer['folder']}: {verdict}" + (" (a driver is at work)" if answer["driven"] else "")]
        for finding in repaired:
            lines += [f"  repaired  {finding['what']}", f"            did: {finding['did']}"]
        for finding in wrong:
            verb = "repair" if finding["repairable"] else "to do"
            lines += [f"  wrong     {finding['what']}", f"            {verb}: {finding['cure']}"]
            if finding["failed"]:
                lines.append(f"            the repair failed: {finding['failed']}")
        for note in answer["notes"]:
            lines += [f"  note      {note['what']}", f"            {note['cure']}"]
        if any(f["repairable"] and not f["failed"] for f in wrong):
            lines.append("To repair: the same command with --repair.")
        return "\n".join([lines[0], *(line.replace(f"{answer['folder']}/", "") for line in lines[1:])])

    def status(self, answer: dict[str, Any]) -> int:
        return 0 if answer["sound"] else 1
