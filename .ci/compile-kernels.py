"""Compiles every CUDA kernel as the engine does, and refuses spills and too many registers.

Usage: compile-kernels.py VENV ARCHITECTURE... ; VENV has NVRTC, which needs no GPU.
"""

import ctypes
import glob
import os
import re
import sys

# A block of 256 threads with this many leaves room for six of them on a multiprocessor of 65,536 registers.
REGISTERS = 40
KERNELS = "device/src/cuda/kernels"


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


def main():
    venv, architectures = sys.argv[1], sys.argv[2:]
    [library] = glob.glob(f"{venv}/lib/python3*/site-packages/nvidia/*/lib/libnvrtc.so.*")
    nvrtc = ctypes.CDLL(os.path.abspath(library))
    with open(f"{KERNELS}/functions.h") as file:
        functions = file.read()
    names = sorted(glob.glob(f"{KERNELS}/*.cu"))
    if not names:
        sys.exit(f"no kernels in {KERNELS}")
    for architecture in architectures:
        most = 0
        for path in names:
            name = os.path.basename(path)
            with open(path) as file:
                log = compile_kernel(nvrtc, name, functions + file.read(), architecture)
            registers = re.search(r"Used (\d+) registers", log)
            spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
            if not registers or not spills:
                sys.exit(f"{name} for {architecture}: ptxas does not tell registers and spills:\n{log}")
            if spills.groups() != ("0", "0"):
                sys.exit(f"{name} for {architecture} spills: {spills.group(0)}")
            if int(registers.group(1)) > REGISTERS:
                sys.exit(f"{name} for {architecture} uses {registers.group(1)} registers, at most {REGISTERS} allowed")
            most = max(most, int(registers.group(1)))
        print(f"{architecture}: {len(names)} kernels, no spills, at most {most} registers")


main()
