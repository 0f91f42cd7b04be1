# Language level, warnings, sanitizers and compile-time helpers shared by every target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

option(ESPALIER_BUILD_TESTS "Build the test programs" ON)
option(ESPALIER_BUILD_FUZZ "Build the fuzz targets; needs Clang" OFF)
option(ESPALIER_BUILD_BENCH "Build the benchmark programs" OFF)
set(ESPALIER_SANITIZE "" CACHE STRING "Sanitizers, for example address,undefined or thread")

# ccache makes a second checkout, and a fresh clone in CI, cheap; mold links in a tenth of the time.
find_program(ESPALIER_CCACHE ccache)
if(ESPALIER_CCACHE)
  # Same cache entries for the same sources, whatever the checkout and build folder are called.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}
      CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${ESPALIER_CCACHE})
endif()
find_program(ESPALIER_MOLD mold)
if(ESPALIER_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# Interface target with the project's compile flags; every Espalier library links it privately.
add_library(espalier_flags INTERFACE)
add_library(Espalier::flags ALIAS espalier_flags)
# GCC 12 is Debian 12's, which checks every change. Later compilers know more warnings, some false, and a user's
# build should not stop there.
option(ESPALIER_WERROR "Warnings stop the build; always on up to GCC 12" OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  set(ESPALIER_WERROR ON)
endif()
# -Wrestrict of GCC 12 warns falsely about std::string's own operator+ (GCC bug 105651).
target_compile_options(espalier_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> -Wall -Wextra -Wpedantic -Wno-unused-parameter
  $<$<BOOL:${ESPALIER_WERROR}>:-Werror> -fno-math-errno -ffp-contract=off)
target_include_directories(espalier_flags INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}>)

if(ESPALIER_SANITIZE)
  add_compile_options(-fsanitize=${ESPALIER_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${ESPALIER_SANITIZE})
else()
  # What makes an overrun end the program instead of running what it wrote; docs/security/hardening.md says what each is for.
  add_compile_options(-fstack-protector-strong -fstack-clash-protection -fPIE)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64")
    add_compile_options(-fcf-protection)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    add_compile_options(-mbranch-protection=standard)
  endif()
  add_compile_definitions($<$<CONFIG:Release,RelWithDebInfo>:_FORTIFY_SOURCE=2>)
  add_link_options(-pie -Wl,-z,relro,-z,now,-z,noexecstack)
endif()

# espalier_use_precompiled(<target> REUSE_FROM espalier_precompiled_<set>): compiles with a set of
# EspalierPrecompiled.cmake; or with headers of its own (PRIVATE <header>...). A set and its users must agree on every
# macro that its headers look at; fmt's is the one that depends on what a target links.
function(espalier_use_precompiled target)
  target_link_libraries(${target} PRIVATE fmt::fmt)
  # With -fpch-preprocess ccache reads the preprocessed source of a miss without the headers. GCC shows warnings about
  # the insides of a system header when it comes precompiled; these are false for std::string in GCC 12.
  target_compile_options(${target} PRIVATE "$<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess;-Wno-array-bounds>"
    "$<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow;-Wno-stringop-overread>")
  target_precompile_headers(${target} ${ARGN})
endfunction()

# What computes nothing large, and moves messages and words: there -O1 is as quick and compiles in two thirds of the time.
set(ESPALIER_GLUE_OPTIONS "$<$<CONFIG:Release,RelWithDebInfo>:-O1>")

# espalier_library(<name> SOURCES ... DEPS ...): a static library with alias Espalier::<name>. With PRECOMPILED <set> it
# uses a set of precompiled headers; GLUE compiles it with ESPALIER_GLUE_OPTIONS.
function(espalier_library name)
  cmake_parse_arguments(ARG "GLUE" "PRECOMPILED" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(espalier_${name} STATIC ${ARG_SOURCES})
  add_library(Espalier::${name} ALIAS espalier_${name})
  target_link_libraries(espalier_${name} PUBLIC ${ARG_DEPS} PRIVATE Espalier::flags ${ARG_PRIVATE_DEPS})
  target_include_directories(espalier_${name} PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}> $<INSTALL_INTERFACE:include/espalier>)
  if(ARG_PRECOMPILED)
    espalier_use_precompiled(espalier_${name} REUSE_FROM espalier_precompiled_${ARG_PRECOMPILED})
  endif()
  if(ARG_GLUE)
    target_compile_options(espalier_${name} PRIVATE ${ESPALIER_GLUE_OPTIONS})
  endif()
endfunction()

# espalier_scale_timeout(<variable>): the timeout of a test whose programs are sanitized, which makes them slow.
function(espalier_scale_timeout variable)
  if(ESPALIER_SANITIZE)
    math(EXPR scaled "4 * ${${variable}}")
    set(${variable} ${scaled} PARENT_SCOPE)
  endif()
endfunction()

# espalier_test(<name> SOURCES ... DEPS ... [UNDER <command> ...]): a GoogleTest program registered with ctest, which is run
# by `command`, if there is one.
function(espalier_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;UNDER" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  espalier_scale_timeout(ARG_TIMEOUT)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE Espalier::flags ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${ARG_UNDER} $<TARGET_FILE:${name}>)
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT}
    ENVIRONMENT "ESPALIER_SOURCE_DIR=${CMAKE_SOURCE_DIR};ESPALIER_BIN_DIR=${CMAKE_BINARY_DIR}/bin")
endfunction()
