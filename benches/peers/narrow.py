"""Copies of the peers' libraries that take this processor for one with AVX2 and no more; prints their folder.

The figures that people compare with were taken on such machines, and neither onnxruntime nor OpenVINO can be told to leave AVX-512
alone. So each `cpuid` of a copy becomes `ud2`, which is as long, and `cpuid.c` answers it.
"""

import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

PACKAGES = {"onnxruntime": ["capi/onnxruntime_pybind11_state*.so"],
            "openvino": ["libs/libopenvino.so*", "libs/libopenvino_intel_cpu_plugin.so"]}


def file_offset(elf: bytes, address: int) -> int:
    """Where an address of a 64-bit ELF file lies in it, by its program headers."""
    table, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for i in range(count):
        kind, _, offset, start, _, length = struct.unpack_from("<IIQQQQ", elf, table + i * size)
        if kind == 1 and start <= address < start + length:
            return offset + address - start
    raise ValueError(f"{address:#x} is in no segment")


def narrow(library: Path) -> int:
    """Replaces each `cpuid` in place; how many there were."""
    disassemble = ["objdump", "-d", "--no-show-raw-insn", library]
    listing = subprocess.run(disassemble, check=True, capture_output=True, text=True).stdout
    elf = bytearray(library.read_bytes())
    found = [file_offset(elf, int(address, 16)) for address in re.findall(r"^ *([0-9a-f]+):\s+cpuid", listing, re.M)]
    for at in found:
        assert elf[at:at + 2] == b"\x0f\xa2"
        elf[at:at + 2] = b"\x0f\x0b"
    library.write_bytes(elf)
    return len(found)


def main() -> None:
    packages, folder = Path(sys.argv[1]), Path(sys.argv[2])
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for package, patterns in PACKAGES.items():
            shutil.copytree(packages / package, folder / package)
            for library in [path for pattern in patterns for path in (folder / package).glob(pattern)]:
                print(f"{library.name}: {narrow(library)} times cpuid", file=sys.stderr)
        trap = Path(__file__).with_name("cpuid.c")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", folder / "cpuid.so", trap], check=True)
        (folder / "done").touch()
    print(folder)


if __name__ == "__main__":
    main()
