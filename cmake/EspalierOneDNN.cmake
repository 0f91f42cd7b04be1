# Finds oneDNN >= 3.4 with its sparse API and defines the target Espalier::oneDNN.
#
# Searched in this order: dnnl_ROOT, dnnl_DIR and CMAKE_PREFIX_PATH; the versioned prefix that `make deps` fills
# (cmake/deps/onednn.sh); the system.
include_guard(GLOBAL)
include(CheckCXXSourceCompiles)
include(CMakePushCheckState)

find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(Threads REQUIRED)

file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/deps/onednn.version ESPALIER_ONEDNN_RELEASE LIMIT_COUNT 1)
set(ESPALIER_ONEDNN_HINTS /opt/espalier/onednn-${ESPALIER_ONEDNN_RELEASE})
if(DEFINED ENV{ESPALIER_DEPS_PREFIX})
  list(PREPEND ESPALIER_ONEDNN_HINTS $ENV{ESPALIER_DEPS_PREFIX}/onednn-${ESPALIER_ONEDNN_RELEASE})
endif()
if(DEFINED ENV{HOME})
  list(APPEND ESPALIER_ONEDNN_HINTS $ENV{HOME}/.cache/espalier/onednn-${ESPALIER_ONEDNN_RELEASE})
endif()
# A changed recipe has a new folder: do not stay with the one an earlier configure step found.
if(dnnl_DIR MATCHES "/onednn-[^/]*-r[0-9]+/" AND NOT dnnl_DIR MATCHES "/onednn-${ESPALIER_ONEDNN_RELEASE}/")
  unset(dnnl_DIR CACHE)
endif()

# A library in the system that is too old, as on Debian 12, is skipped by the version.
find_package(dnnl 3.4 CONFIG QUIET HINTS ${ESPALIER_ONEDNN_HINTS})
if(NOT dnnl_FOUND)
  list(JOIN ESPALIER_ONEDNN_HINTS ", " searched)
  message(FATAL_ERROR
    "oneDNN >= 3.4 was not found (searched CMAKE_PREFIX_PATH, ${searched} and the system). Run `make deps`, or put "
    "the prefix of a oneDNN built with ONEDNN_EXPERIMENTAL_SPARSE=ON on CMAKE_PREFIX_PATH.")
endif()

add_library(espalier_onednn INTERFACE)
add_library(Espalier::oneDNN ALIAS espalier_onednn)
target_link_libraries(espalier_onednn INTERFACE DNNL::dnnl OpenMP::OpenMP_CXX Threads::Threads ${CMAKE_DL_LIBS})

# The header of a library built with the sparse API defines DNNL_EXPERIMENTAL_SPARSE itself (dnnl_config.h), so nothing
# needs to be defined here. The result is kept per library: another one on CMAKE_PREFIX_PATH is looked at anew.
string(SHA1 key "${dnnl_DIR} ${dnnl_VERSION}")
string(SUBSTRING ${key} 0 8 key)
cmake_push_check_state(RESET)
set(CMAKE_REQUIRED_LIBRARIES DNNL::dnnl OpenMP::OpenMP_CXX Threads::Threads ${CMAKE_DL_LIBS})
set(CMAKE_REQUIRED_QUIET ON)
check_cxx_source_compiles([[
  #include <oneapi/dnnl/dnnl.hpp>
  #if DNNL_CPU_THREADING_RUNTIME != DNNL_RUNTIME_OMP
  #error "the number of threads is set through OpenMP"
  #endif
  int main() {
    using dnnl::memory;
    const auto desc = memory::desc::csr({4, 4}, memory::data_type::f32, 3, memory::data_type::s32,
                                        memory::data_type::s32);
    return desc.get_sparse_encoding() == memory::sparse_encoding::csr ? 0 : 1;
  }
]] ESPALIER_ONEDNN_SPARSE_${key})
cmake_pop_check_state()
if(NOT ESPALIER_ONEDNN_SPARSE_${key})
  message(FATAL_ERROR
    "oneDNN ${dnnl_VERSION} in ${dnnl_DIR} lacks what Espalier needs: the sparse API "
    "(ONEDNN_EXPERIMENTAL_SPARSE=ON) and the OpenMP runtime (ONEDNN_CPU_RUNTIME=OMP). Run `make deps` and take that "
    "folder off CMAKE_PREFIX_PATH, or rebuild the library with both. The compiler's messages are in "
    "${CMAKE_BINARY_DIR}/CMakeFiles.")
endif()
message(STATUS "oneDNN ${dnnl_VERSION} with sparse API: ${dnnl_DIR}")
