"""What a searched ensemble is measured against."""

import warnings

import numpy as np

from edgenes.data import Dataset, Part


def logistic_regression(data: Dataset, parts: list[Part]) -> list[np.ndarray]:
    """Probabilities, float32 (samples, classes), on each part, of a multinomial logistic regression on pixels.

    Fitted on W and H together, like the retrained networks; pixels are normalised by channel. 200 iterations of
    L-BFGS at most, since the last digits of its convergence change nothing here.
    """
    from sklearn.exceptions import ConvergenceWarning  # almost a second, which other uses need not pay
    from sklearn.linear_model import LogisticRegression

    def pixels(part: Part) -> np.ndarray:
        mean, std = (np.asarray(value, np.float32).reshape(1, -1, 1, 1) for value in (data.mean, data.std))
        return ((part.images / np.float32(255) - mean) / std).reshape(len(part), -1)

    model = LogisticRegression(max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(pixels(data.training), data.training.labels)
    return [model.predict_proba(pixels(part)).astype(np.float32) for part in parts]
