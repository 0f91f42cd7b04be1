# Precompiled headers: half of the time of a source goes into headers that all of them share.
#
# There are three sets, each larger than the one before and made once for all libraries that name it
# (espalier_library(... PRECOMPILED base|messages|services)). Libraries that use OpenMP, which is a macro to the
# compiler, name base_openmp or messages_openmp. A set has what most of its libraries include anyway, and
# of the project only generated headers: a change of any header in it compiles everything again. A library names the
# largest set whose headers it may include (tests/lint/layering_rules.py). Sources still include what they use:
# clang-tidy, and a build with CMAKE_DISABLE_PRECOMPILE_HEADERS, read them without the sets.
set(ESPALIER_PRECOMPILED_BASE
  <algorithm> <array> <atomic> <chrono> <cmath> <cstdint> <cstring> <functional> <limits> <map> <memory> <mutex>
  <numeric> <optional> <span> <string> <string_view> <unordered_map> <utility> <vector>
  <absl/status/status.h> <absl/status/statusor.h> <absl/strings/str_cat.h> <absl/time/time.h> <fmt/format.h>)
set(ESPALIER_PRECOMPILED_MESSAGES ${ESPALIER_PRECOMPILED_BASE})
foreach(name ${ESPALIER_PROTO_NAMES})
  list(APPEND ESPALIER_PRECOMPILED_MESSAGES <espalier/v1/${name}.pb.h>)
endforeach()
set(ESPALIER_PRECOMPILED_SERVICES ${ESPALIER_PRECOMPILED_MESSAGES} <grpcpp/grpcpp.h>)
foreach(name ${ESPALIER_PROTO_SERVICE_NAMES})
  list(APPEND ESPALIER_PRECOMPILED_SERVICES <espalier/v1/${name}.grpc.pb.h>)
endforeach()

# espalier_precompiled(<set> <HEADERS-VARIABLE> DEPS ...): the target that makes a set.
function(espalier_precompiled set headers)
  set(source ${CMAKE_BINARY_DIR}/precompiled/${set}.cc)
  if(NOT EXISTS ${source})
    file(WRITE ${source} "// A target needs a source; this one is here for its precompiled header.\n")
  endif()
  add_library(espalier_precompiled_${set} OBJECT ${source})
  target_precompile_headers(espalier_precompiled_${set} PRIVATE ${${headers}})
  target_link_libraries(espalier_precompiled_${set} PRIVATE Espalier::flags fmt::fmt ${ARGN})
endfunction()

espalier_precompiled(base ESPALIER_PRECOMPILED_BASE absl::status absl::statusor absl::time absl::strings)
espalier_precompiled(messages ESPALIER_PRECOMPILED_MESSAGES Espalier::proto absl::statusor absl::time)
espalier_precompiled(base_openmp ESPALIER_PRECOMPILED_BASE absl::status absl::statusor absl::time absl::strings
  OpenMP::OpenMP_CXX)
espalier_precompiled(messages_openmp ESPALIER_PRECOMPILED_MESSAGES Espalier::proto absl::statusor absl::time
  OpenMP::OpenMP_CXX)
espalier_precompiled(services ESPALIER_PRECOMPILED_SERVICES Espalier::grpc absl::statusor absl::time)
