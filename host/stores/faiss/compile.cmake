# How FAISS is compiled, for CMake (named in .cargo/config.toml). Its own build has -O3 always, which in a development build
# takes three times as long as what cargo asks of every other dependency there. A release build stays as it is.
if("$ENV{OPT_LEVEL}" MATCHES "^[01]$")
  set(CMAKE_CXX_FLAGS_RELEASE "-O1 -ftree-vectorize -DNDEBUG" CACHE STRING "")
endif()
