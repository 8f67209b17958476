"""Keep Ray's own chatter off the terminal, so that what a study says can be read."""

import logging
import os

_SETTINGS = {
    # Without the new output, `RunConfig(verbose=0)` is silent; with it, a banner and two paths are still printed.
    "RAY_AIR_NEW_OUTPUT": "0",
    # A trial's fault has a line of its own, and its traceback is stored with it.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray prints this to the driver whatever its log settings are. Other notices, as of memory running out, stay.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed while executing a task by an unexpected system error",
}
_LOCAL = {
    "RAY_AUTH_MODE": "disabled",
    # What binds Ray to 127.0.0.1 on Linux too: it replaces a `_node_ip_address` of 127.0.0.1 by the outer address.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Trials did not complete")


def quiet_ray(local: bool = True) -> None:
    """Silence Ray and Tune below errors. A variable that the user has set stays as it is.

    To be called before `import ray`: the notice of a dead worker can be silenced only then, the rest up to
    `ray.init`, which needs `logging_level="ERROR"` and `log_to_driver=False`; `RunConfig` needs `verbose=0`.

    Args:
        local: the cluster is this process's own, so that it listens on the loopback only and needs no token (nor
            the warning that one was made); a shared cluster decides that itself.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    for name, value in (_LOCAL if local else {}).items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.tune", "ray.air"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Ray's own state is never read again; and what a full disk or a failed trial means, the study says itself.
    for name in ("experiment_state", "tune_controller"):
        logging.getLogger(f"ray.tune.execution.{name}").setLevel(logging.CRITICAL)
    logging.getLogger("ray.tune.tune").addFilter(_is_news)
