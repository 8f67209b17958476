"""What a worker tells the driver, on its way through Ray Tune."""

import pytest
from ray.tune.utils.util import flatten_dict, unflatten_dict

from tune_jobs.messages import Report, Status


@pytest.mark.parametrize(
    "report",
    [
        Report(step=3, steps=15, note="a note", control_error=0.1, metrics={"loss": 0.5, "c": 1}),
        Report(status=Status.COMPLETE, value=0.9, attributes={"deep": {"er": [1, 2]}}, warnings=["one"]),
    ],
)
def test_a_report_arrives_as_it_was_beside_rays_own_entries(report):
    result = flatten_dict(report.to_dict() | {"pid": 1, "config": {"trial": 0}})
    assert Report.from_dict(unflatten_dict(result)) == report


def test_an_unknown_status_is_an_error():
    with pytest.raises(ValueError, match="done"):
        Report.from_dict({"status": "done"})


def test_the_line_of_a_curve_has_the_metrics_beside_the_rest_and_no_attributes():
    report = Report(step=3, metrics={"loss": 0.5}, attributes={"a": 1}, traceback="x", warnings=["w"])
    assert report.record() == {"step": 3, "loss": 0.5}
