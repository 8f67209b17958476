"""The options of the data."""

import numpy as np
from PIL import Image

from tune_jobs.config.data import DataOptions
from tune_jobs.config.sweep import SweepConfig


def test_broken_pictures_are_left_out_where_the_option_says_so(tmp_path):
    rng = np.random.default_rng(0)
    for half in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / half / name).mkdir(parents=True)
            (tmp_path / half / name / "broken.png").write_text("no picture")
            for number in range(5):
                pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / half / name / f"{number}.png")
    assert not DataOptions().skip_broken
    data = SweepConfig.of(dataset=str(tmp_path), skip_broken=True).data.load()
    assert len(data.training) + len(data.validation) == 10
