"""Compiles every CUDA kernel as the engine does, and refuses spills and too many registers.

Usage: compile-kernels.py VENV ARCHITECTURE... ; VENV has NVRTC, which needs no GPU.
"""

import ctypes
import glob
import os
import re
import sys

# A multiprocessor's 65,536 registers are enough for six blocks of 256 threads with this many, and Turing's have no room for
# more than four.
REGISTERS = 40
REGISTERS_OF_TURING = 64
# What holds tiles of a product in registers: blocks of 128 threads, of which four and three have room.
REGISTERS_OF = {"fused_attention_64.cu": 128, "fused_attention_128.cu": 168}
# What a block may have without asking for more, on every GPU.
SHARED_BYTES = 48 << 10
KERNELS = "device/src/cuda/kernels"
HEADERS = ["functions.h", "fused_attention.h"]


def log_of(nvrtc, program):
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    return log.value.decode()


def compile_kernel(nvrtc, name, source, architecture):
    program = ctypes.c_void_p()
    created = nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
    options = [f"--gpu-architecture={architecture}", "--ptxas-options=-v"]
    array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    result = created or nvrtc.nvrtcCompileProgram(program, len(options), array)
    log = log_of(nvrtc, program)
    if result != 0:
        sys.exit(f"{name} does not compile for {architecture}:\n{log}")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return log


def number(pattern, log, name):
    found = re.search(pattern, log)
    if not found:
        sys.exit(f"{name}: ptxas does not tell `{pattern}`:\n{log}")
    return int(found.group(1))


def main():
    venv, architectures = sys.argv[1], sys.argv[2:]
    [library] = glob.glob(f"{venv}/lib/python3*/site-packages/nvidia/*/lib/libnvrtc.so.*")
    nvrtc = ctypes.CDLL(os.path.abspath(library))
    functions = "".join(open(f"{KERNELS}/{header}").read() for header in HEADERS)
    paths = sorted(glob.glob(f"{KERNELS}/*.cu"))
    if not paths:
        sys.exit(f"no kernels in {KERNELS}")
    for architecture in architectures:
        used = {}
        left_out = []
        for path in paths:
            name = os.path.basename(path)
            source = open(path).read()
            # What a kernel refuses to be compiled for, the engine does not launch it on: `Kernel::needs`.
            needed = re.search(r"#if __CUDA_ARCH__ < (\d+)\n#error", source)
            if needed and int(architecture.removeprefix("sm_")) * 10 < int(needed.group(1)):
                left_out.append(name)
                continue
            log = compile_kernel(nvrtc, name, functions + source, architecture)
            title = f"{name} for {architecture}"
            registers = number(r"Used (\d+) registers", log, title)
            spilled = number(r"(\d+) bytes spill stores", log, title) + number(r"(\d+) bytes spill loads", log, title)
            stack = number(r"(\d+) bytes stack frame", log, title)
            shared = re.search(r"(\d+) bytes smem", log)
            if spilled or stack:
                sys.exit(f"{title} spills {spilled} bytes, and has {stack} bytes of stack")
            allowed = REGISTERS_OF.get(name, REGISTERS_OF_TURING if architecture == "sm_75" else REGISTERS)
            if registers > allowed:
                sys.exit(f"{title} uses {registers} registers, at most {allowed} allowed")
            if shared and int(shared.group(1)) > SHARED_BYTES:
                sys.exit(f"{title} uses {shared.group(1)} bytes of shared memory, at most {SHARED_BYTES} allowed")
            used[name] = registers
        most = max(registers for name, registers in used.items() if name not in REGISTERS_OF)
        tiles = "".join(f", {name} {used[name]}" for name in REGISTERS_OF if name in used)
        without = f", without {' and '.join(left_out)}" if left_out else ""
        print(f"{architecture}: {len(used)} kernels{without}, no spills, at most {most} registers{tiles}")


main()
