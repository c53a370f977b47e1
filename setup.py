"""Builds the two compiled modules. `pysmpc._ring` holds all of src/c and the one table of kernels;
`pysmpc._beaver` cimports that table, so both run on the CPU target that was chosen once.

Environment: CC chooses the compiler; PYSMPC_SANITIZE=1 builds with ASan and UBSan; PYSMPC_WERROR=1 makes every
warning in src/c an error.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from glob import glob

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


class BuildExt(build_ext):
    """Compiles the files of an extension side by side, and those of src/c with CORE_CFLAGS."""

    def build_extensions(self) -> None:
        self.parallel = self.parallel or os.cpu_count()
        self.compiler.compile = self.compile_sources
        super().build_extensions()

    def compile_sources(
        self,
        sources,
        output_dir=None,
        macros=None,
        include_dirs=None,
        debug=False,
        extra_preargs=None,
        extra_postargs=None,
        depends=None,
    ):
        compiler = self.compiler
        _, objects, postargs, pp_opts, build = compiler._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        cc_args = compiler._get_cc_args(pp_opts, debug, extra_preargs)

        def compile_one(obj: str) -> None:
            source, suffix = build[obj]
            extra = CORE_CFLAGS if source in CORE else []
            compiler._compile(obj, source, suffix, cc_args, [*postargs, *extra], pp_opts)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, objects))
        return objects


def extension(name: str, sources: list[str]) -> Extension:
    return Extension(
        name,
        sources,
        include_dirs=["src/c"],
        depends=HEADERS,
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
        libraries=["pthread", "dl"],
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
)
