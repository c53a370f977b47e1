"""Builds the two compiled modules. `pysmpc._ring` holds all of src/c and the one table of kernels;
`pysmpc._beaver` cimports that table, so both run on the CPU target that was chosen once.

Environment: CC chooses the compiler; PYSMPC_ABI3=1 builds for the stable ABI of CPython 3.10, so that one wheel serves
every later Python; PYSMPC_SANITIZE=1 builds with ASan and UBSan; PYSMPC_WERROR=1 makes every warning in src/c an error.
"""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE = sorted(glob("src/c/*.c"))
HEADERS = sorted(glob("src/c/*.h") + glob("src/*.pxi") + glob("pysmpc/*.pxd"))

CFLAGS = ["-std=gnu11", "-O3", "-g0", "-fvisibility=hidden", "-Wno-psabi"]
LDFLAGS: list[str] = []
CORE_CFLAGS: list[str] = []  # for src/c alone: Cython's generated C is not ours to keep free of warnings
if os.environ.get("PYSMPC_SANITIZE") == "1":
    LDFLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    CFLAGS[1:3] = ["-O1", "-g1"]  # lines for the reports; full -g takes three times as long
    CORE_CFLAGS += ["-fno-omit-frame-pointer", *LDFLAGS]
if os.environ.get("PYSMPC_WERROR") == "1":
    CORE_CFLAGS += ["-Wall", "-Wextra", "-Werror"]
STABLE: dict[str, Any] = {}  # of an extension for the stable ABI
if os.environ.get("PYSMPC_ABI3") == "1":
    STABLE = {"py_limited_api": True, "define_macros": [("Py_LIMITED_API", "0x030A0000")]}


class BuildExt(build_ext):
    """Compiles the files of src/c side by side, with CORE_CFLAGS, and links what comes of them into `pysmpc._ring`."""

    def build_extensions(self) -> None:
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()

    def build_extension(self, extension: Extension) -> None:
        core = [source for source in extension.sources if source in CORE]
        extension.sources = [source for source in extension.sources if source not in CORE]
        extension.depends = [*extension.depends, *core]  # linked anew when one of them has changed

        def compile_one(source: str) -> str:
            [made] = self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=extension.include_dirs,
                debug=self.debug,
                extra_postargs=[*extension.extra_compile_args, *CORE_CFLAGS],
                depends=HEADERS,
            )
            return made

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = list(pool.map(compile_one, core))
        extension.extra_objects += made
        if os.environ.get("PYSMPC_SANITIZE") != "1":  # tools/constant-time checks what was linked here
            kept = Path(self.get_finalized_command("build").build_base) / "kernels"
            kept.mkdir(parents=True, exist_ok=True)
            for each in made:
                shutil.copy2(each, kept)
        super().build_extension(extension)


def extension(name: str, sources: list[str]) -> Extension:
    return Extension(
        name,
        sources,
        include_dirs=["src/c"],
        depends=HEADERS,
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
        libraries=["pthread", "dl"],
        **STABLE,
    )


setup(
    ext_modules=cythonize(
        [
            extension("pysmpc._ring", ["src/_ring.pyx", *CORE]),
            extension("pysmpc._beaver", ["src/_beaver.pyx"]),
        ],
        build_dir="build/cython",
        compiler_directives={"language_level": 3, "autotestdict": False},
    ),
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if STABLE else {},
)
