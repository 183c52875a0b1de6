"""Print where a part of the CUDA toolkit is: nvcc, or what the argument names.

    nvcc.py             nvcc, the compiler
    nvcc.py headers     the folder that holds cuda_runtime.h
    nvcc.py cuobjdump   cuobjdump, which disassembles what nvcc made

Looked for in $CUDACXX, then PATH, then fetched: NVIDIA's own wheels on the Python package index, pinned,
laid into one toolkit folder (300 MB; the headers alone 30 MB, cuobjdump 15 MB).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import common

# name -> version, sha256 by machine
TOOLKIT = {
    "nvidia-cuda-crt": (
        "13.0.88",
        {
            "x86_64": "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
            "aarch64": "ee2ea2a97073e02ee62bb27841f437332be2c248e3eac013df07997ada39c003",
        },
    ),
    "nvidia-cuda-runtime": (
        "13.0.96",
        {
            "x86_64": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
            "aarch64": "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
        },
    ),
    "nvidia-cuda-cccl": (
        "13.0.85",
        {
            "x86_64": "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649",
            "aarch64": "6f0203e29fed809ee2b7fe9b1344df66ecab990c37d6a2e0e189b26d6c97ed7c",
        },
    ),
    "nvidia-cuda-nvcc": (
        "13.0.88",
        {
            "x86_64": "56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03",
            "aarch64": "c7ff28f86a24effdc6c034fa15230c549a273e4771b10a7fec14996f8cf3307f",
        },
    ),
    "nvidia-nvvm": (
        "13.0.88",
        {
            "x86_64": "c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0",
            "aarch64": "c4376a291d72d22a315d9d2f69bdae8f8cd83a627f75bad395cee49a0fe65dc1",
        },
    ),
    "nvidia-cuda-cuobjdump": (
        "13.2.78",
        {
            "x86_64": "394087411405b846bf43aa52ca2ff603bbe18b3b8a1257cda0903e23c17bdbf3",
            "aarch64": "c985f2ac62cc6b41cb3c612c4b8d117f4c30ff5c1a2f9e23ca3350e0090a85b6",
        },
    ),
    "nvidia-cuda-nvdisasm": (
        "13.2.78",
        {
            "x86_64": "b4ebcd3c5046bf8039ac52675b9dbefd843600969649ecaab0a42b0713a61dae",
            "aarch64": "c338282695eca43de237929c5e3963d8d04f61d578d40f01bd04aca2bc29c233",
        },
    ),
}
COMPILER = ("nvidia-cuda-crt", "nvidia-cuda-runtime", "nvidia-cuda-cccl", "nvidia-cuda-nvcc", "nvidia-nvvm")
HEADERS = COMPILER[:3]
DISASSEMBLER = ("nvidia-cuda-cuobjdump", "nvidia-cuda-nvdisasm")
INSIDE = "nvidia/cu13"
DO = (
    "Install the CUDA toolkit and set CUDACXX to its nvcc, then build again: CUDA 13; for drivers before r580 "
    "CUDA 12 (from 12.8 on its nvcc knows compute capability 10.0 and 12.0). No package index has nvcc 12: "
    "tensorrt/build_cuda12.sh, among the plugin's sources, builds with clang in its place."
)


def find() -> Path:
    """The nvcc to use: given, in PATH or fetched."""
    given = os.environ.get("CUDACXX")
    if given and not shutil.which(given):
        raise common.FetchError(f"CUDACXX={given} is not a program. {DO}")
    found = shutil.which(given or "nvcc")
    return Path(found) if found else _toolkit("nvcc", COMPILER) / "bin/nvcc"


def headers() -> Path:
    """The CUDA headers: those of the nvcc that is here, else fetched without the compiler."""
    nvcc = shutil.which(os.environ.get("CUDACXX") or "nvcc")
    folder = root_of(nvcc) / "include" if nvcc else None
    if folder and (folder / "cuda_runtime.h").is_file():
        return folder
    return _toolkit("headers", HEADERS) / "include"


def cuobjdump() -> Path:
    """The disassembler; it calls nvdisasm, which lies beside it."""
    found = shutil.which("cuobjdump")
    if found and shutil.which("nvdisasm"):
        return Path(found)
    return _toolkit("disassembler", DISASSEMBLER) / "bin/cuobjdump"


def root_of(nvcc: str) -> Path:
    """The toolkit's folder, from nvcc itself: what PATH names may be a wrapper."""
    said = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True)
    tops = [line.split("TOP=", 1)[1] for line in said.stderr.splitlines() if "TOP=" in line]
    return Path(tops[0]).resolve() if tops else Path(nvcc).resolve().parent.parent


def _toolkit(what: str, names: tuple[str, ...]) -> Path:
    machine = platform.machine()
    version = TOOLKIT[names[-1]][0]

    def lay(folder: Path) -> None:
        for name in names:
            _lay_wheel(name, machine, folder)
        if (folder / INSIDE / "lib").is_dir():
            (folder / INSIDE / "lib64").symlink_to("lib")  # where nvcc looks for libcudart_static.a

    try:
        return common.kept(f"cuda-{what}-{version}-{machine}", lay) / INSIDE
    except common.FetchError as error:
        raise common.FetchError(f"{error}. {DO}") from error


def _lay_wheel(name: str, machine: str, folder: Path) -> None:
    version, sums = TOOLKIT[name]
    if machine not in sums:
        raise common.FetchError(f"no {name} wheel is pinned for {machine}")
    archive = common.wheel(f"{name}=={version}", sums[machine], folder)
    common.unpacked(archive, f"{INSIDE}/", folder)
    archive.unlink()
    for programs in ("bin", "nvvm/bin"):  # a zip archive unpacked by zipfile forgets the execute bits
        for program in (folder / INSIDE / programs).glob("*"):
            if program.is_file():
                program.chmod(0o755)


PARTS = {"nvcc": find, "headers": headers, "cuobjdump": cuobjdump}

if __name__ == "__main__":
    sys.exit(common.report(PARTS[sys.argv[1] if len(sys.argv) > 1 else "nvcc"]))
