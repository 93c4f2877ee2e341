# How FAISS is compiled, for CMake (named in .cargo/config.toml): only what this crate uses, and as fast as is sensible.
#
# - A fifth of FAISS' sources, for of its kinds of index only two are used. What in FAISS knows every kind (its factory, its
#   files, its parameters) stands in `kinds.cpp` for these two. `sources.cmake` says which sources those are.
# - FAISS' own build has -O3 always, which in a development build takes three times as long as what cargo asks of every other
#   dependency there. A release build stays as it is.
# - Each function has a section of its own, for the linker leaves out what nobody calls, and what that would need.
#
# Without this file all of FAISS is compiled, and everything is as it is with it.
set(CMAKE_CXX_FLAGS_INIT "-ffunction-sections -fdata-sections")
if("$ENV{OPT_LEVEL}" MATCHES "^[01]$")
  set(CMAKE_CXX_FLAGS_RELEASE "-O1 -ftree-vectorize -DNDEBUG" CACHE STRING "")
endif()
set(CMAKE_PROJECT_faiss_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/sources.cmake")
