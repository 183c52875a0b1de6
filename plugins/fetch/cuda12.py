"""Print where parts of CUDA 12 are, for which no package index has an nvcc.

    cuda12.py            a folder for clang's --cuda-path: headers, ptxas and libcudart_static.a of CUDA 12.9, and
                         fatbinary of CUDA 13, which is in no package of CUDA 12
    cuda12.py ptxas      ptxas of CUDA 12.4: what a driver of that time takes of a kernel's text, it takes

Fetched: NVIDIA's wheels on the Python package index, pinned (50 MB; ptxas alone 22 MB). Their licence is NVIDIA's.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import common
import nvcc

NVCC, CCCL = "nvidia-cuda-nvcc-cu12", "nvidia-cuda-cccl-cu12"
SUMS = {
    f"{NVCC}==12.4.131": "e4c9a35435c3b0e36c6397c5696334c9ea6650e524736cbd1c5d345ea099bb04",
    f"{NVCC}==12.9.86": "5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0",
    f"{CCCL}==12.9.27": "37869e17ce2e1ecec6eddf1927cca0f8c34e64fd848d40453df559091e2d7117",
    "nvidia-cuda-runtime-cu12==12.9.79": "25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3",
}


def toolkit() -> Path:
    """The folder for clang."""
    return common.kept("cuda12-clang-12.9", _lay)


def ptxas() -> Path:
    """The assembler of 12.4."""

    def lay(folder: Path) -> None:
        _unpack(f"{NVCC}==12.4.131", "nvidia/cuda_nvcc/bin/", folder)
        (folder / "nvidia/cuda_nvcc/bin/ptxas").chmod(0o755)

    return common.kept("cuda12-ptxas-12.4", lay) / "nvidia/cuda_nvcc/bin/ptxas"


def _lay(folder: Path) -> None:
    for requirement in list(SUMS)[1:]:
        _unpack(requirement, "nvidia/", folder)
    for package in (folder / "nvidia").glob("cuda_*"):
        shutil.copytree(package, folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "nvidia")
    (folder / "bin/ptxas").chmod(0o755)
    shutil.copy(nvcc.root_of(str(nvcc.find())) / "bin/fatbinary", folder / "bin")
    (folder / "lib").rename(folder / "lib64")
    # clang includes it, and a package of 60 MB is all that has it; we make no random numbers
    (folder / "include/curand_mtgp32_kernel.h").touch()


def _unpack(requirement: str, prefix: str, folder: Path) -> None:
    archive = common.wheel(requirement, SUMS[requirement], folder)
    common.unpacked(archive, prefix, folder)
    archive.unlink()


PARTS = {"toolkit": toolkit, "ptxas": ptxas}

if __name__ == "__main__":
    sys.exit(common.report(PARTS[sys.argv[1] if len(sys.argv) > 1 else "toolkit"]))
