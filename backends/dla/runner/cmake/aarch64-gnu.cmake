# aarch64 Linux with glibc, by a distribution's cross compiler: needs that distribution's glibc, or a newer one.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
