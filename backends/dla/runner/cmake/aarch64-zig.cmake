# aarch64 Linux with glibc, by PyPI's ziglang: CMAKE_CXX_COMPILER is a script that runs
# `python -m ziglang c++ -target aarch64-linux-gnu.2.31 "$@"` (native.py writes one).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
