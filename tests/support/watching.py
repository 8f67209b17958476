"""A real study that is looked at while it runs, by Prometheus, by optuna-dashboard and on Ray's dashboard."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote

from tests.faults.harness import HERE, LIMIT, SCRIPT
from tests.faults.supervise import descendants
from tests.support.servers import free_port, started

PROMETHEUS = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: ray
    file_sd_configs: [{{files: ['{found}'], refresh_interval: 1s}}]
"""


def get(url: str) -> Any:
    """The answer of a server of this machine: a JSON value, or bytes."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        body = answer.read()
        return json.loads(body) if "json" in answer.headers.get("Content-Type", "") else body


@contextlib.contextmanager
def prometheus(folder: Path, ray: Path) -> Iterator[str | None]:
    """Prometheus, scraping the Ray whose files are in `ray`; yields its address, None where it is not installed."""
    program = shutil.which("prometheus")
    if program is None or os.environ.get("EVERY_SERVER") != "1":
        yield None
        return
    (folder / "prometheus.yml").write_text(PROMETHEUS.format(found=ray / "ray" / "prom_metrics_service_discovery.json"))
    port = free_port()
    command = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with started([*command, f"--web.listen-address=127.0.0.1:{port}"], folder / "prometheus.log"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def optuna_dashboard(out: Path, log: Path) -> Iterator[str]:
    """optuna-dashboard on the study in `out`, as the study's own command starts it."""
    port = free_port()
    command = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()", f"sqlite:///{out / 'study.db'}"]
    with started([*command, "--artifact-dir", str(out / "artifacts"), "--port", str(port), "--quiet"], log):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def study(out: Path, ray: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen]:
    """The main job on digits with `options`, its Ray's files in `ray`; its output goes to OUT.log."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own |= {"RAY_TMPDIR": str(ray), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(HERE / "supervise.py"), sys.executable, str(SCRIPT), *options, "--out", str(out)]
    with started(command, out.with_suffix(".log"), env=own) as process:
        yield process


def dashboard_address(out: Path) -> str | None:
    """The address of Ray's dashboard that the study printed."""
    words = out.with_suffix(".log").read_text().split()
    return next((word for word in words if word.startswith("http://")), None)


@dataclass
class Seen:
    """What was seen of a study while it ran."""

    out: Path
    panels: dict[str, float] = field(default_factory=dict)
    """The last number that each panel of the Grafana dashboard showed."""
    actors: set[tuple[str, str]] = field(default_factory=set)
    """Class and name of Ray's actors."""
    titles: set[str] = field(default_factory=set)
    """Titles of the workers' processes."""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)
    """optuna-dashboard's trials, as long as the study ran."""
    note: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)
    status: int | None = None


def dashboard_panels() -> dict[str, str]:
    """The queries of the Grafana dashboard by their panels' titles, for all studies."""
    text = (Path(__file__).parents[2] / "tune_jobs" / "watch" / "grafana.json").read_text()
    panels = json.loads(text)["panels"]
    return {panel["title"]: panel["targets"][0]["expr"].replace("$study", ".*") for panel in panels}


def look_at_titles(seen: Seen, process: subprocess.Popen) -> None:
    """Note what Ray's workers call themselves now."""
    for pid in descendants(process.pid):
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if title.startswith("ray::"):
                seen.titles.add(title)


def look(seen: Seen, server: str | None, optuna: str | None, ray: str | None) -> None:
    """Look once at everything that is up."""
    if server is not None:
        for title, query in dashboard_panels().items():
            for row in get(f"{server}/api/v1/query?query={quote(query)}")["data"]["result"]:
                seen.panels[title] = float(row["value"][1])
    if ray is not None:
        for actor in get(f"{ray}/api/v0/actors?detail=1")["data"]["result"]["result"]:
            seen.actors.add((actor["class_name"], actor["repr_name"]))
        seen.jobs = get(f"{ray}/api/jobs/")
    if optuna is not None:
        studies = get(f"{optuna}/api/studies")["study_summaries"]
        if studies:
            number = studies[0]["study_id"]
            found = get(f"{optuna}/api/studies/{number}?after=0")
            seen.trials, seen.note = found["trials"], found["note"]["body"]
            for trial in seen.trials:
                for artifact in trial["artifacts"]:
                    name = f"{trial['number']} {artifact['filename']}"
                    if name not in seen.pictures:
                        url = f"{optuna}/artifacts/{number}/{trial['trial_id']}/{artifact['artifact_id']}"
                        seen.pictures[name] = get(url)


def watch(folder: Path, ray: Path, *options: str, **environment: str) -> Seen:
    """Run a study and look at it once a second until it ends."""
    seen = Seen(folder / "study")
    deadline = time.monotonic() + LIMIT
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(prometheus(folder, ray))
        process = stack.enter_context(study(seen.out, ray, *options, **environment))
        optuna = None
        while process.poll() is None:
            assert time.monotonic() < deadline, seen.out.with_suffix(".log").read_text()
            if optuna is None and (seen.out / "study.db").exists():
                optuna = stack.enter_context(optuna_dashboard(seen.out, folder / "optuna-dashboard.log"))
            # Each server takes a moment to be up, and Ray's goes with the study.
            with contextlib.suppress(URLError, ConnectionError, TimeoutError, KeyError):
                look(seen, server, optuna, dashboard_address(seen.out))
            for _ in range(10):  # a short job has its title for a moment
                look_at_titles(seen, process)
                time.sleep(0.1)
        seen.status = process.returncode
    return seen
