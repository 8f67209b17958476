"""What a person sees of a running study: plain lines, or the live table."""

import io
import re
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tune_jobs.progress.display import STATES, STEP_SECONDS, WIDTH, Progress
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


def table(progress, width=80):
    """The lines of the live table."""
    console = Console(file=io.StringIO(), width=width)
    console.print(progress._stage.table.get_renderable())
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    "seconds, exact, left",
    [
        (-1, "0s", "less than a minute left"),
        (59.6, "1m 00s", "about 1 min left"),
        (190, "3m 10s", "about 3 min left"),
        (28 * 60, "28m 00s", "about 30 min left"),
        (5.2 * 3600, "5h 12m", "about 5 hours left"),
        (75 * 3600, "75h 00m", "about 3 days left"),
    ],
)
def test_durations_are_exact_and_estimates_round(seconds, exact, left):
    assert (duration(seconds), time_left(seconds)) == (exact, left)


def test_time_left_comes_from_this_run_and_the_jobs_at_once(plain, clock):
    progress, lines = plain
    with progress.stage("Sweep", 10, done=2):
        for name in "ab":
            progress.started(name)
        progress.finished("c", "cached")
        assert lines()[-1] == "[3/10] c cached"  # what was cached says nothing of the rest
        clock.now += 600
        progress.step("b", 5, 10)
        progress.finished("a", "complete")
        # 2 earlier, 1 cached, 1 complete, half a running one, 5 not begun: 5.5 jobs of 10 min, two at a time.
        assert "(10m 00s, about 30 min left)" in lines()[-1]


def test_time_left_is_no_shorter_than_the_longest_job(plain, clock):
    progress, lines = plain
    with progress.stage("Sweep", 3):
        for name in "abc":
            progress.started(name)
        clock.now += 600
        progress.finished("a", "complete")
        progress.finished("b", "complete")
        assert "about 10 min left" in lines()[-1]  # the third has no use for the places of the others
        progress.finished("c", "complete")
        assert "left" not in lines()[-1]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["begin", *STATES])), max_size=30), st.booleans())
def test_jobs_are_counted_once_whatever_happens_to_them(events, replaces_failed):
    file, last = io.StringIO(), {}
    progress = Progress(Console(file=file, width=200), lambda: 0.0)
    with progress.stage("Sweep", 50, done=3, replaces_failed=replaces_failed):
        for name, event in events:
            progress.started(name) if event == "begin" else progress.finished(name, event)
            last[name] = event
    counts = Counter(last.values())
    done = 3 + sum(count for event, count in counts.items() if event in STATES)
    done -= counts["failed"] if replaces_failed else 0
    summary = file.getvalue().splitlines()[-1]
    assert f"stopped: {done} of 50 trials" in summary
    assert all(f"{counts[state]} {state}" in summary for state in STATES if counts[state])


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


@pytest.mark.parametrize("jobs", [1, 2, 15])
def test_plain_steps_are_rare_however_many_jobs_run(plain, clock, jobs):
    progress, lines = plain
    with progress.stage("Sweep", jobs):
        for k in range(jobs):
            progress.started(f"trial {k}")
        for step in range(1, 301):
            clock.now += 1
            for k in range(jobs):
                progress.step(f"trial {k}", step, 0 if k else 2000, "hypernetwork")
    steps = [line for line in lines() if " at step " in line]
    assert jobs * (300 // (STEP_SECONDS * jobs)) == len(steps) <= 300 / STEP_SECONDS
    assert f"trial 0 at step {STEP_SECONDS * jobs:.0f} of 2000: hypernetwork" in steps
    assert jobs == 1 or f"trial 1 at step {STEP_SECONDS * jobs:.0f}: hypernetwork" in steps


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


def test_an_encoding_without_the_signs_is_no_error(clock):
    raw = io.BytesIO()
    progress = Progress(Console(file=io.TextIOWrapper(raw, encoding="ascii"), force_terminal=True), clock)
    with progress.stage("Sweep", 1):
        progress.best("trial 0: 0.97 ± 0.01")
        progress.finished("trial 0", "complete")
    lines = raw.getvalue().decode("ascii").splitlines()
    assert "best so far: trial 0: 0.97 ? 0.01" in lines
    assert lines[-1] == "Sweep: 1 trial (1 complete) in 0s"


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
        lines = [line.rstrip() for line in table(progress)]
    assert lines[0] == "Sweep: 2 running, 1 complete, 1 pruned, 1 failed, 2 from an earlier run"
    assert lines[1] == "best so far: trial 2: accuracy 0.972 ± 0.009, control error 0.00"
    assert re.fullmatch(r"trials .*  5/12 0:01:40 about 2 min left", lines[2])
    assert re.fullmatch(r"trial 5 .*  6/20 0:01:40 hypernetwork, c 0\.31, control error 0\.40", lines[3])
    assert re.fullmatch(r"trial 6 .*  0/\? 0:01:40 starting", lines[4])
    assert len(lines) == 5


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_narrow_tables_cut_notes_before_names(clock, width):
    progress, _ = live(clock, width=width)
    with progress.stage("Retraining what the best trial drew", 1000, done=10):
        progress.step("candid 17", 100, 1000, "hypernetwork, " * 10)
        progress.best("accuracy " * 20)
        lines = table(progress, width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 4
    assert "  10/1000" in lines[2]
    assert lines[3].startswith("candid 17 ") and " 100/1000 " in lines[3] and lines[3].rstrip().endswith("…")


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
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
    except KeyboardInterrupt:
        assert error
    written = file.getvalue()
    assert sys.stdout is stdout
    assert written.rindex(SHOW_CURSOR) > written.rindex(HIDE_CURSOR)
    assert "trial 0 failed: its worker died" in written and "unremarkable" not in written
    assert written.endswith("✓ Sweep: 2 trials (1 complete, 1 failed) in 0s\n") is (error is None)


def test_dumb_terminals_get_lines(clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    progress, file = live(clock)
    with progress.stage("Sweep", 1):
        progress.finished("trial 0", "complete")
    assert "\x1b" not in file.getvalue() and "[1/1] trial 0 complete" in file.getvalue()


def test_a_row_may_stand_for_several_jobs(plain, clock):
    progress, lines = plain
    with progress.stage("Survey", 7, done=2, sizes={"first and 2 more": 3, "second and 1 more": 2}, unit="retraining"):
        for name in ("first and 2 more", "second and 1 more"):
            progress.started(name)
            clock.now += 60
            progress.finished(name, "complete", failed=int(name.startswith("second")))
    assert lines()[2] == "[5/7] first and 2 more complete (1m 00s, about 1 min left)"
    assert lines()[-1] == "✓ Survey: 7 retrainings (4 complete, 1 failed, 2 from an earlier run) in 2m 00s"
