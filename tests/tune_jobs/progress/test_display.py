"""What a person sees of a running study: plain lines, the live table, and nothing of Ray's own."""

import io
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edgenes.errors import ConfigError
from tune_jobs.execution.quiet import quiet_ray
from tune_jobs.progress.display import STEP_SECONDS, WIDTH, Progress
from tune_jobs.progress.state import STATES, StageState
from tune_jobs.progress.text import duration, time_left

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def plain(clock):
    """A display that writes lines, and what it has written."""
    file = io.StringIO()
    progress = Progress(Console(file=file, force_terminal=False), clock)
    return progress, lambda: file.getvalue().splitlines()


def live(clock, width=80, height=24, **options):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, height=height, legacy_windows=False, **options)
    return Progress(console, clock), file


def table(progress, width=80, height=24):
    """The lines of the live table."""
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(progress.render())
    return console.file.getvalue().splitlines()


def stage_of(total=10, earlier=0, replaces_failed=False):
    return StageState("Sweep", total, earlier, "trial", replaces_failed, 0.0)


@pytest.mark.parametrize(
    "seconds, text", [(0, "0s"), (59.6, "1m 00s"), (92, "1m 32s"), (3599.7, "1h 00m"), (7500, "2h 05m"), (-1, "0s")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    "seconds, text",
    [
        (1, "less than a minute left"),
        (50, "about 1 min left"),
        (190, "about 3 min left"),
        (28 * 60, "about 30 min left"),
        (5.2 * 3600, "about 5 hours left"),
        (75 * 3600, "about 3 days left"),
    ],
)
def test_estimates_are_round(seconds, text):
    assert time_left(seconds) == text


def test_time_left_comes_from_this_run_and_the_jobs_at_once():
    state = stage_of(total=10, earlier=2)
    for name in "ab":
        state.begin(name, "", 0.0)
    assert state.seconds_left() is None  # nothing to judge by
    state.end("cached", "cached", 1.0)
    assert state.seconds_left() is None  # what was cached says nothing of the rest
    state.end("a", "complete", 60.0)
    state.begin("c", "", 60.0)
    # 2 earlier, 1 cached, 1 complete, 2 running: 4 not begun. 6 jobs of 60 s, two at a time.
    assert state.seconds_left() == pytest.approx(180.0)
    state.running["b"].step, state.running["b"].of = 5, 10
    assert state.seconds_left() == pytest.approx(165.0)


def test_time_left_is_no_shorter_than_the_longest_job():
    state = stage_of(total=3)
    for name in "abc":
        state.begin(name, "", 0.0)
    state.end("a", "complete", 60.0)
    state.end("b", "complete", 60.0)
    assert state.seconds_left() == pytest.approx(60.0)  # the third has no use for the places of the others
    state.end("c", "complete", 60.0)
    assert state.seconds_left() is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["begin", *STATES])), max_size=30), st.booleans())
def test_jobs_are_counted_once_whatever_happens_to_them(events, replaces_failed):
    state, last = stage_of(total=50, earlier=3, replaces_failed=replaces_failed), {}
    for now, (name, event) in enumerate(events):
        if event == "begin":
            state.begin(name, "", float(now))
        else:
            state.end(name, event, float(now))
        last[name] = event
    ended = [event for event in last.values() if event != "begin"]
    assert state.counts.total() == len(ended)
    assert len(state.running) == len(last) - len(ended)
    assert state.done == 3 + len([event for event in ended if not (replaces_failed and event == "failed")])


def test_plain_lines(plain, clock):
    progress, lines = plain
    with progress.stage("Sweep", 12, done=9):
        progress.started("trial 9", "beta 0.5")
        progress.started("trial 10")
        clock.now += 92
        progress.finished("trial 9", "complete", "accuracy 0.97")
        progress.best("trial 9: accuracy 0.970")
        progress.best("trial 9: accuracy 0.970")
        progress.finished("trial 10", "pruned", "control error 0.50 is above 0.25")
        progress.started("trial 11")
        progress.finished("trial 11", "failed", "its worker died")
    assert lines() == [
        "Sweep: 12 trials, 9 of them from an earlier run",
        "trial 9 started: beta 0.5",
        "trial 10 started",
        "[10/12] trial 9 complete: accuracy 0.97 (1m 32s, about 2 min left)",
        "best so far: trial 9: accuracy 0.970",
        "[11/12] trial 10 pruned: control error 0.50 is above 0.25 (1m 32s, about 2 min left)",
        "trial 11 started",
        "[12/12] trial 11 failed: its worker died (0s)",
        "✓ Sweep: 12 trials (1 complete, 1 pruned, 1 failed, 9 from an earlier run) in 1m 32s",
    ]


def test_plain_steps_are_rare_for_each_job(plain, clock):
    progress, lines = plain
    with progress.stage("Sweep", 2):
        progress.started("trial 0")
        clock.now += STEP_SECONDS - 1
        progress.started("trial 1")
        progress.step("trial 0", 1, 20, "hypernetwork")
        clock.now += 1
        progress.step("trial 0", 2, 20, "hypernetwork")
        progress.step("trial 1", 1, 20, "hypernetwork")
        clock.now += STEP_SECONDS - 1
        progress.step("trial 0", 3, 20, "hypernetwork")
        progress.step("trial 1", 2, 0)
        clock.now += 1
        progress.step("trial 0", 4, 20)
    assert [line for line in lines() if " at step " in line] == [
        "trial 0 at step 2 of 20: hypernetwork",
        "trial 1 at step 2",
        "trial 0 at step 4 of 20",
    ]


def test_a_stage_that_ends_early_says_so(plain, clock):
    progress, lines = plain
    with progress.stage("Retraining", 5, unit="network"):
        progress.started("network 1")
        progress.finished("network 1", "cached")
        progress.started("network 2")
        clock.now += 5
    assert lines()[-1] == "Retraining stopped: 1 of 5 networks (1 cached) in 5s"


def test_failed_jobs_that_are_replaced_do_not_count(plain):
    progress, lines = plain
    with progress.stage("Sweep", 1, replaces_failed=True):
        progress.finished("trial 0", "failed", "NaN")
        progress.finished("trial 1", "complete")
    assert lines()[1:] == [
        "[0/1] trial 0 failed: NaN",
        "[1/1] trial 1 complete",
        "✓ Sweep: 1 trial (1 complete, 1 failed) in 0s",
    ]


def test_a_job_begun_again_is_one_job(plain, clock):
    progress, lines = plain
    with progress.stage("Sweep", 1):
        progress.started("trial 0")
        clock.now += 40
        progress.started("trial 0", "beta 0.5")
        clock.now += 2
        progress.finished("trial 0", "complete")
        progress.step("trial 0", 3, 4)  # a late report of what has ended changes nothing
    assert lines()[1:] == [
        "trial 0 started",
        "trial 0 started again: beta 0.5",
        "[1/1] trial 0 complete (2s)",
        "✓ Sweep: 1 trial (1 complete) in 42s",
    ]


def test_an_exception_leaves_no_success_and_the_display_usable(plain):
    progress, lines = plain
    with pytest.raises(KeyboardInterrupt), progress.stage("Sweep", 1):
        progress.finished("trial 0", "complete")
        raise KeyboardInterrupt
    assert lines() == ["Sweep: 1 trial", "[1/1] trial 0 complete"]
    with progress.stage("Final", 1):
        progress.finished("ensemble", "complete")
    assert lines()[-1] == "✓ Final: 1 trial (1 complete) in 0s"


def test_plain_text_holds_no_control_characters_nor_wraps(plain):
    progress, lines = plain
    reason = "first line\n\x1b[31mred\x1b[0m\a\ttab " + "w" * 200
    with progress.stage("Sweep [bold]", 2):
        progress.started("trial 0", "setting " * 40)
        progress.finished("trial 0", "failed", reason)
        progress.say("[red]kept[/red]")
    assert len(lines()) == 5
    assert all(line.isprintable() for line in lines())
    assert len(lines()[1]) <= WIDTH and lines()[1].endswith(" ...")
    assert lines()[2].startswith("[1/2] trial 0 failed: first line red tab www")
    assert "w" * 200 in lines()[2]  # a reason is never cut
    assert lines()[0].startswith("Sweep [bold]:") and lines()[3] == "[red]kept[/red]"  # no markup


def test_plain_lines_are_flushed_at_once(clock, tmp_path):
    path = tmp_path / "log"
    with path.open("w", encoding="utf-8") as file:
        Progress(Console(file=file), clock).say("now")
        assert path.read_text() == "now\n"


def test_an_encoding_without_the_signs_is_no_error(clock):
    raw = io.BytesIO()
    progress = Progress(Console(file=io.TextIOWrapper(raw, encoding="ascii"), force_terminal=True), clock)
    with progress.stage("Sweep", 1):
        progress.best("trial 0: 0.97 ± 0.01")
        progress.finished("trial 0", "complete")
    lines = raw.getvalue().decode("ascii").splitlines()
    assert "best so far: trial 0: 0.97 ? 0.01" in lines
    assert lines[-1] == "Sweep: 1 trial (1 complete) in 0s"


def test_misuse_is_an_error(plain):
    progress, _ = plain
    with pytest.raises(ConfigError, match="13 of them done"), progress.stage("Sweep", 12, done=13):
        pass
    with pytest.raises(RuntimeError, match="belong to a stage"):
        progress.started("trial 0")
    with progress.stage("Sweep", 1):
        with pytest.raises(RuntimeError, match="begins inside of 'Sweep'"), progress.stage("Final", 1):
            pass
        with pytest.raises(ConfigError, match="complete, cached, pruned, failed, not as 'done'"):
            progress.finished("trial 0", "done")


def test_table(clock):
    progress, _ = live(clock)
    with progress.stage("Sweep", 12, done=2):
        for number in range(2, 7):
            progress.started(f"trial {number}")
        clock.now += 100
        progress.finished("trial 2", "complete")
        progress.finished("trial 3", "pruned")
        progress.finished("trial 4", "failed", "NaN")
        progress.step("trial 5", 6, 20, "hypernetwork, c 0.31, control error 0.40")
        progress.best("trial 2: accuracy 0.972 ± 0.009, control error 0.00")
        lines = table(progress)
    assert re.fullmatch(r"Sweep +1m 40s, about 2 min left", lines[0])
    assert lines[1].endswith("  5/12")
    assert lines[2] == "1 complete, 1 pruned, 1 failed, 2 running, 2 from an earlier run"
    assert re.fullmatch(r"trial 5 .*  6/20  hypernetwork, c 0\.31, control error 0\.40 *", lines[3])
    assert re.fullmatch(r"trial 6 +starting *", lines[4])
    assert lines[5] == "best so far: trial 2: accuracy 0.972 ± 0.009, control error 0.00"
    assert len(lines) == 6


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_narrow_tables_cut_notes_before_names(clock, width):
    progress, _ = live(clock, width=width, height=24)
    with progress.stage("Retraining what the best trial drew", 1000, done=10):
        progress.step("candidate 17", 100, 1000, "hypernetwork, " * 10)
        progress.best("accuracy " * 20)
        lines = table(progress, width)
    assert max(map(len, lines)) <= width - 2  # room for the terminal's echo of ^C
    assert len(lines) == 5
    assert lines[1].endswith("10/1000")
    assert lines[3].startswith("candidate 17 ") and "100/1000" in lines[3] and lines[3].rstrip().endswith("…")


def test_tables_keep_to_the_screen(clock):
    progress, _ = live(clock, height=12)
    with progress.stage("Sweep", 100):
        for number in range(40):
            progress.started(f"trial {number}")
        progress.best("trial 3")
        lines = table(progress, height=12)
    assert len(lines) <= 11
    assert "and 34 more" in lines


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_the_live_display_always_gives_the_terminal_back(clock, error):
    progress, file = live(clock)
    stdout = sys.stdout
    try:
        with progress.stage("Sweep", 2):
            progress.started("trial 0")
            progress.finished("trial 0", "failed", "its worker died")
            progress.finished("trial 1", "complete", "unremarkable")
            assert HIDE_CURSOR in file.getvalue()
            if error:
                raise error
    except (KeyboardInterrupt, ValueError) as caught:
        assert type(caught) is error
    written = file.getvalue()
    assert sys.stdout is stdout
    assert written.rindex(SHOW_CURSOR) > written.rindex(HIDE_CURSOR)
    assert "trial 0 failed: its worker died" in written and "unremarkable" not in written
    assert written.endswith("✓ Sweep: 2 trials (1 complete, 1 failed) in 0s\n") is (error is None)


def test_no_color_is_heard(clock, monkeypatch):
    def drawn():
        progress, file = live(clock, color_system="truecolor")
        with progress.stage("Sweep", 2):
            progress.finished("trial 0", "complete")
            progress._console.print(progress.render())
        return file.getvalue()

    colour = re.compile(r"\x1b\[(\d+;)*3[0-8](;\d+)*m")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colour.search(drawn())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(drawn())


def test_dumb_terminals_get_lines(clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    progress, file = live(clock)
    with progress.stage("Sweep", 1):
        progress.finished("trial 0", "complete")
    assert "\x1b" not in file.getvalue() and "[1/1] trial 0 complete" in file.getvalue()


def ray_trial(number, error_file=None, **last):
    return SimpleNamespace(config={"trial": number, "beta": 0.5}, last_result=last, error_file=error_file)


@pytest.fixture
def callback(plain):
    from tune_jobs.progress.callback import ProgressCallback

    return ProgressCallback(
        plain[0], lambda trial: f"trial {trial.config['trial']}", lambda config: f"beta {config['beta']}"
    )


def test_callback_tells_how_trials_end(callback, plain, clock, tmp_path):
    progress, lines = plain
    fault = tmp_path / "error.txt"
    fault.write_text("Failure # 1\nTraceback\nRuntimeError: out of memory\n\n")
    with progress.stage("Sweep", 5):
        trial = ray_trial(0, status="complete", note="accuracy 0.97")
        callback.on_trial_start(0, [], trial)
        clock.now += 10
        callback.on_trial_result(0, [], trial, {"stage": "hypernetwork", "step": 2, "steps": 9})
        callback.on_trial_result(0, [], trial, {"stage": "candidates", "step": 9, "steps": 9, "status": "complete"})
        callback.on_trial_complete(0, [], trial)
        callback.on_trial_complete(0, [], ray_trial(1, status="pruned", reason="infeasible", note="c 0.3"))
        callback.on_trial_complete(0, [], ray_trial(2, step=4, note="c 0.3"))  # stopped by the scheduler
        callback.on_trial_complete(0, [], ray_trial(3, status="failed", reason="NaN"))
        callback.on_trial_recover(0, [], ray_trial(4, str(fault)))
        callback.on_trial_error(0, [], ray_trial(4))
    assert lines()[1:-1] == [
        "trial 0 started: beta 0.5",
        "trial 0 at step 2 of 9: hypernetwork",
        "[1/5] trial 0 complete: accuracy 0.97 (10s, less than a minute left)",
        "[2/5] trial 1 pruned: infeasible (less than a minute left)",
        "[3/5] trial 2 pruned: c 0.3 (less than a minute left)",
        "[4/5] trial 3 failed: NaN (less than a minute left)",
        "trial 4 will be tried again: RuntimeError: out of memory",
        "[5/5] trial 4 failed: its worker died",
    ]


def test_a_job_whose_result_could_not_be_written_has_failed(plain, callback):
    progress, lines = plain
    with progress.stage("Sweep", 1):
        callback.on_trial_complete(0, [], ray_trial(0, status="unwritable", reason="no space left"))
    assert lines()[1].startswith("[1/1] trial 0 failed: no space left")


def test_a_pickled_callback_is_mute(callback):
    copy = pickle.loads(pickle.dumps(callback))
    copy.on_trial_start(0, [], ray_trial(0))
    copy.on_trial_result(0, [], ray_trial(0), {"step": 1, "steps": 2})
    copy.on_trial_recover(0, [], ray_trial(0))
    copy.on_trial_error(0, [], ray_trial(0))
    copy.on_trial_complete(0, [], ray_trial(0, status="complete"))


QUIET_RUN = """
import os, sys
from tune_jobs.quiet import quiet_ray
quiet_ray()
import ray
from ray import tune
from tune_jobs.progress import Progress
from tune_jobs.progress_callback import ProgressCallback

def trainable(config):
    tune.report({"stage": "training", "step": 1, "steps": 2})
    if config["trial"] == 1:
        os.kill(os.getpid(), 9)
    tune.report({"step": 2, "steps": 2, "status": "complete", "note": "accuracy 0.97"})

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
         logging_level="ERROR")
progress = Progress(clock=lambda: 0.0)
callback = ProgressCallback(progress, lambda trial: f"trial {trial.config['trial']}", lambda config: "")
with progress.stage("Sweep", 2):
    tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search([0, 1])},
        run_config=tune.RunConfig(storage_path=sys.argv[1], verbose=0, callbacks=[callback],
                                  failure_config=tune.FailureConfig(max_failures=1)),
    ).fit()
ray.shutdown()
"""


@pytest.mark.e2e
def test_ray_keeps_quiet(tmp_path):
    """A real sweep, one of whose workers kills itself twice: all that is printed is ours."""
    unset = ("RAY_", "TUNE_", "PYTHONWARNINGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    script = tmp_path / "sweep.py"
    script.write_text(QUIET_RUN)
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    lines = ran.stdout.splitlines()
    assert lines[0] == "Sweep: 2 trials"
    assert lines[-1] == "✓ Sweep: 2 trials (1 complete, 1 failed) in 0s"
    died = "The actor is dead because its worker process has died."
    told = [re.sub(r"\[\d/2\] |( \(0s.*)", "", line.split(" Worker exit type")[0]) for line in lines[1:-1]]
    assert sorted(told) == sorted(
        [
            "trial 0 started",
            "trial 1 started",
            "trial 0 complete: accuracy 0.97",
            f"trial 1 will be tried again: {died}",
            "trial 1 started again",
            f"trial 1 failed: {died}",
        ]
    )


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setattr(os, "environ", {"TUNE_PRINT_ALL_TRIAL_ERRORS": "1"})
    quiet_ray(local=False)
    assert os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] == "1"
    assert os.environ["RAY_AIR_NEW_OUTPUT"] == "0"
    assert "RAY_AUTH_MODE" not in os.environ
    quiet_ray()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
