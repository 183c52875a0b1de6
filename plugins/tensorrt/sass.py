"""Read the machine code of libapa_trt.so: what each kernel uses of each GPU, without a GPU.

python plugins/tensorrt/sass.py apa_deploy/lib/libapa_trt.so
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NVCC = Path(__file__).parents[1] / "fetch/nvcc.py"
# "/*03c0*/  @!P0 BRA 0xb00 ;"
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\s*([^;]*);")
RESOURCES = re.compile(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
PACK = 16  # bytes that a thread reads at once
BYTES = {"float": 4, "half": 2, "bfloat16": 2, "int8": 1}
_WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
_ELEMENTS = {"__half": "half", "__nv_bfloat16": "bfloat16", "signed char": "int8", "float": "float"}
FLOAT_OPERATIONS = ("FFMA", "FMUL", "FADD", "FSEL", "FSETP", "FMNMX", "FFMA2", "FMUL2", "FADD2", "FSET")


@dataclass(frozen=True)
class Instruction:
    """One machine instruction; `operation` with its modifiers, such as "LDG.E.128"."""

    address: int
    operation: str
    operands: str

    def is_a(self, *names: str) -> bool:
        """Whether the operation, without modifiers, is one of these."""
        return self.operation.split(".")[0] in names

    @property
    def width(self) -> int:
        """Bytes of a memory access."""
        return next((_WIDTHS[part] for part in self.operation.split(".") if part in _WIDTHS), 4)


@dataclass(frozen=True)
class Kernel:
    """One kernel for one architecture: `name` demangled, memory in bytes a thread (shared: a block)."""

    architecture: int
    name: str
    registers: int
    stack: int
    shared: int
    local: int
    instructions: tuple[Instruction, ...]

    @property
    def function(self) -> str:
        """The kernel's template: "apply_scalar"."""
        found = re.search(r"apa::(\w+)", self.name)
        return found[1] if found else self.name

    @property
    def element(self) -> str:
        """The type of the elements that it reads: float, half, bfloat16 or int8."""
        return self._types()[0]

    @property
    def written(self) -> str:
        """That of those it writes: the same, or int8."""
        return self._types()[-1]

    @property
    def stored(self) -> int:
        """Bytes that come of a pack."""
        return PACK // BYTES[self.element] * BYTES[self.written]

    def _types(self) -> list[str]:
        before = self.name.index("*")
        arguments = self.name[self.name.rindex("(", 0, before) :].split(",")
        pointers = [one for one in arguments[:3] if "*" in one]  # the first may be a bool
        return [next(ours for theirs, ours in _ELEMENTS.items() if theirs in one) for one in pointers]

    def count(self, *names: str, width: int = 0) -> int:
        """How many instructions are one of these (of that access width)."""
        return count(self.instructions, *names, width=width)

    def main_loop(self) -> tuple[Instruction, ...]:
        """The loop that writes most packs: most stores of one, fewest instructions; () without one."""
        loops = []
        for end, jump in enumerate(self.instructions):
            target = re.match(r"(?:\S+, )?`?\(?(0x[0-9a-f]+)", jump.operands)
            if jump.is_a("BRA") and target and int(target[1], 16) < jump.address:
                loops.append(tuple(i for i in self.instructions[: end + 1] if i.address >= int(target[1], 16)))
        return max(loops, key=lambda loop: (count(loop, "STG", width=self.stored), -len(loop)), default=())


def count(instructions: tuple[Instruction, ...], *names: str, width: int = 0) -> int:
    """How many of the instructions are one of these (of that access width, in bytes)."""
    return sum(i.is_a(*names) and width in (0, i.width) for i in instructions)


def kernels_of(library: Path, *, read_code: bool = True) -> list[Kernel]:
    """Every kernel of a library, for every architecture it holds machine code for.

    Without `read_code` their instructions are left out, and most of the time that it takes.
    """
    cuobjdump = subprocess.run([sys.executable, NVCC, "cuobjdump"], stdout=subprocess.PIPE, text=True, check=True)
    program = cuobjdump.stdout.strip()
    resources = _sections(_printed(program, "-res-usage", str(library)))
    code = _sections(_printed(program, "-sass", str(library))) if read_code else {}
    found = []
    for architecture, text in resources.items():
        blocks = {block.split()[0]: block for block in code.get(architecture, "").split("Function : ")[1:]}
        for mangled, *usage in RESOURCES.findall(text):
            instructions = _instructions(blocks[mangled]) if read_code else ()
            registers, stack, shared, local = map(int, usage)
            found.append(Kernel(architecture, mangled, registers, stack, shared, local, instructions))
    return _demangled(found)


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _sections(text: str) -> dict[int, str]:
    """cuobjdump's output by architecture."""
    sections: dict[int, str] = {}
    for part in re.split(r"Fatbin elf code:\n=+\n", text)[1:]:
        architecture = int(re.findall(r"arch = sm_(\d+)", part)[0])
        sections[architecture] = sections.get(architecture, "") + part
    return sections


def _instructions(block: str) -> tuple[Instruction, ...]:
    every = (Instruction(int(at, 16), name, rest.strip()) for at, name, rest in INSTRUCTION.findall(block))
    return tuple(i for i in every if not i.is_a("NOP"))


def _demangled(kernels: list[Kernel]) -> list[Kernel]:
    names = "\n".join(kernel.name for kernel in kernels)
    plain = subprocess.run(["c++filt"], input=names, capture_output=True, text=True, check=True).stdout
    return [
        Kernel(k.architecture, name, k.registers, k.stack, k.shared, k.local, k.instructions)
        for k, name in zip(kernels, plain.splitlines(), strict=True)
    ]


def main(library: str) -> None:
    """Print one line a kernel."""
    for k in kernels_of(Path(library)):
        loads, stores = k.count("LDG", width=PACK), k.count("STG", width=k.stored)
        mufu = k.count("MUFU")
        print(
            f"sm_{k.architecture} {k.function} {k.element} to {k.written}: {k.registers} registers, "
            f"{k.local} bytes local, {len(k.instructions)} instructions, {loads}/{stores} loads/stores of a pack, "
            f"{mufu} MUFU"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
