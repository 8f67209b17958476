"""What a result was computed with."""

import importlib.metadata
import os
import platform
import socket
import subprocess
from functools import cache
from pathlib import Path

import torch

PACKAGES = ("edgenes-studio", "torch", "torchvision", "ray", "optuna", "numpy", "scikit-learn", "plotly")
COMMIT = "EDGENES_COMMIT"


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


@cache
def commit() -> str | None:
    """The commit of the checkout that this code runs from, "+" added if files differ; None outside of one.

    A copy that was sent to a cluster has it in the environment variable EDGENES_COMMIT.
    """
    if COMMIT in os.environ:
        return os.environ[COMMIT] or None
    here = Path(__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", str(Path(__file__)))  # not a checkout that merely holds a .venv
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def environment() -> dict:
    """Versions, commit, and the machine's processors: `cpu` is the instruction set that decides torch's last bits."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": versions(),
        "commit": commit(),
        "platform": platform.platform(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "gpus": devices,
    }


_VARIABLES = ("ATEN_", "CUBLAS_", "CUDNN_", "DNNL_", "MKL_", "NVIDIA_TF32", "ONEDNN_")


@cache
def _processor() -> str:
    """The processor's model: libraries choose their kernels, and the order of sums, by its caches too."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def numerics(device: str) -> dict[str, str]:
    """What decides, beside code, input and seed, the last bits of what torch computes in this process on `device`."""
    found = {
        "torch": str(torch.__version__),  # a class of its own, which no checkpoint may hold
        "libc": " ".join(platform.libc_ver()),
        "processor": _processor(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "variables": " ".join(f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)),
        "gpu": "",
    }
    if device != "cpu":
        cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else ""
        found["gpu"] = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    return found


def hardware() -> dict:
    """The machine that this process runs on: host, processor, memory in GiB, GPUs."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "host": socket.gethostname(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "gpus": environment()["gpus"],
    }
