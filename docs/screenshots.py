"""Take the pictures of docs/: a real study on digits, seen in a headless Chromium while it runs.

PYTHONPATH=. python docs/screenshots.py [OPTIONS OF THE STUDY]    # needs playwright and Debian's package chromium
"""

import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.error import URLError

from playwright.sync_api import Page, sync_playwright

from tests.support.watching import dashboard_address, get, optuna_dashboard, study

HERE = Path(__file__).parent
CHROMIUM = "/usr/bin/chromium"
SWITCHES = (
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
SIZE = {"width": 1280, "height": 1040}


def take(page: Page, name: str, **clip: int) -> None:
    """Save what the page shows as docs/NAME.png."""
    path = HERE / f"{name}.png"
    page.screenshot(path=path, **({"clip": clip} if clip else {}))
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB", flush=True)


def of_ray(page: Page, address: str) -> None:
    """Ray's dashboard: the study's actors, and the workers with the trials they are at."""
    page.goto(f"{address}/#/actors")
    page.wait_for_selector("text=sweep_trial", timeout=60_000)
    page.wait_for_timeout(3000)
    take(page, "ray-actors", x=0, y=0, width=1280, height=640)
    page.goto(f"{address}/#/cluster")
    page.wait_for_selector("text=ALIVE", timeout=60_000)
    page.wait_for_selector("text=sweep trial", timeout=60_000)
    page.wait_for_timeout(1000)
    page.get_by_text("sweep trial").last.scroll_into_view_if_needed()
    take(page, "ray-workers", x=0, y=SIZE["height"] - 380, width=1280, height=350)  # the last rows are the trials'


def of_optuna(page: Page, address: str, number: int, trial: int) -> None:
    """optuna-dashboard: the study, and one trial with its note and pictures."""
    page.goto(f"{address}/dashboard/studies/{number}")
    page.wait_for_timeout(6000)
    take(page, "optuna-study")
    page.set_viewport_size({"width": 1280, "height": 1220})  # as long as a trial's page
    page.goto(f"{address}/dashboard/studies/{number}/trials?numbers={trial}")
    page.wait_for_selector("text=Artifacts", timeout=60_000)
    page.wait_for_timeout(5000)
    take(page, "optuna-trial")


def main() -> int:
    """Run the study and take every picture."""
    folder = Path(tempfile.mkdtemp(prefix="shots-", dir="/tmp"))
    out = folder / "anneal-digits"
    try:
        with ExitStack() as stack:
            process = stack.enter_context(study(out, folder, "--dashboard", *sys.argv[1:]))
            browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=CHROMIUM, args=[*SWITCHES])
            page = browser.new_page(viewport=SIZE)
            while not (out / "study.db").exists() and process.poll() is None:
                time.sleep(1)
            optuna = stack.enter_context(optuna_dashboard(out, folder / "optuna.log"))
            complete: list[int] = []
            while len(complete) < 6:
                assert process.poll() is None, out.with_suffix(".log").read_text()
                time.sleep(2)
                try:
                    [summary] = get(f"{optuna}/api/studies")["study_summaries"]
                    trials = get(f"{optuna}/api/studies/{summary['study_id']}?after=0")["trials"]
                except (URLError, ConnectionError, ValueError):
                    continue  # not up yet
                complete = [trial["number"] for trial in trials if trial["state"] == "Complete"]
            of_ray(page, dashboard_address(out))
            of_optuna(page, optuna, summary["study_id"], complete[-1])
            assert process.poll() is None, "the study ended before its pictures were taken"
            process.wait()
            page.set_viewport_size({"width": 893, "height": 1185})
            page.goto(f"file://{out}/report/index.html")
            page.wait_for_timeout(3000)
            take(page, "report")
            browser.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
