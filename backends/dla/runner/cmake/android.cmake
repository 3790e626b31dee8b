# Android arm64 by the user's NDK, whose folder is in the environment as ANDROID_NDK. Never run on a device.
set(ANDROID_ABI arm64-v8a CACHE STRING "")
set(ANDROID_PLATFORM android-30 CACHE STRING "")
set(ANDROID_STL c++_static CACHE STRING "")
if(NOT DEFINED ENV{ANDROID_NDK})
  set(ENV{ANDROID_NDK} "$ENV{ANDROID_NDK_HOME}")
endif()
include("$ENV{ANDROID_NDK}/build/cmake/android.toolchain.cmake")
