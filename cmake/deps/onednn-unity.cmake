# Makes oneDNN compile in a third of the CPU time. Given to oneDNN's configure step as CMAKE_PROJECT_INCLUDE.
#
# Two measures: sources of primitives that are switched off are left out (oneDNN compiles them all and merely does not
# register them), and the others are compiled eight to a translation unit, because most of the time goes into headers.
# onednn.sh links the whole archive afterwards, so a symbol lost here fails the set-up and not a later build.

# Sources of primitives that are not in ONEDNN_ENABLE_PRIMITIVE, and of convolutions for an instruction set above
# ONEDNN_ENABLE_PRIMITIVE_CPU_ISA.
set(ESPALIER_UNUSED_SOURCES
  "/(lrn|prelu|rnn|shuffle)/[^/]*\\.cpp$"
  "(deconv_zp_pad_str_kernel|brgemm_deconv|deconvolution|lrn|prelu|resampling|resampling_kernel|shuffle)\\.cpp$"
  "(batch|group|instance|layer)_normalization(_s8|_utils)?\\.cpp$"
  "(_pooling|_pool_kernel|_softmax|_binary|_binary_kernel|_reduction|_reduction_kernel)\\.cpp$"
  "(ref_eltwise|jit_uni_eltwise|jit_uni_eltwise_int)\\.cpp$"
  "(ref|gemm|gemm_bf16|gemm_x8s8s32x|jit_brgemm)_inner_product(_int8)?\\.cpp$"
  "jit_brgemm_inner_product_utils\\.cpp$"
  "jit_avx512_core_amx_(1x1_)?convolution\\.cpp$")
string(JOIN "|" ESPALIER_UNUSED_SOURCES ${ESPALIER_UNUSED_SOURCES})

# Sources that clash with a neighbour by a file-local name, or by a using-directive that makes a name ambiguous.
set(ESPALIER_SINGLE_SOURCES
  brgemm_matmul
  brgemm_matmul_reorders
  jit_avx512_common_1x1_conv_kernel
  jit_uni_x8s8s32x_1x1_conv_kernel
  jit_uni_xf16_sum)

# File-local functions and tables that many sources have under the same name: each source gets its own.
set(ESPALIER_LOCAL_NAMES
  get_supported_postops_bcast_strategies
  impl_list
  impl_list_map
  iterate)

# Macros that sources define for themselves and leave defined. None of them is defined in a header.
set(ESPALIER_LOCAL_MACROS
  DATA_OFF
  GET_OFF
  GET_OFF_BATCH_ELEMENT
  data_blk_off
  get_blk_off
  md_blk_off
  mem_blk_off
  ndims_pick
  src_blk_off
  wht_blk_off
  wht_blk_off_)

# Code in front of each source of a group.
function(espalier_unity_prologue out)
  # These headers do not compile after the using-directives of some sources.
  string(CONCAT code
    "#include \"cpu/cpu_inner_product_pd.hpp\"\n"
    "#include \"cpu/gemm_convolution.hpp\"\n"
    "#include \"cpu/rnn/rnn_reorders.hpp\"\n"
    "#undef ESPALIER_JOIN\n"
    "#undef ESPALIER_JOIN_\n"
    "#define ESPALIER_JOIN(a, b) ESPALIER_JOIN_(a, b)\n"
    "#define ESPALIER_JOIN_(a, b) a##_##b\n")
  foreach(macro IN LISTS ESPALIER_LOCAL_MACROS)
    string(APPEND code "#undef ${macro}\n")
  endforeach()
  foreach(name IN LISTS ESPALIER_LOCAL_NAMES)
    string(APPEND code "#undef ${name}\n#define ${name} ESPALIER_JOIN(${name}, ESPALIER_UNITY_ID)\n")
  endforeach()
  set(${out} "${code}" PARENT_SCOPE)
endfunction()

function(espalier_unity_target target)
  get_target_property(sources ${target} SOURCES)
  list(FILTER sources INCLUDE REGEX "\\.cpp$")
  # The order of a glob is the file system's; sorted groups are the same everywhere and can be found in a ccache.
  list(SORT sources)
  set(index 0)
  foreach(source IN LISTS sources)
    get_filename_component(name "${source}" NAME_WE)
    if(source MATCHES "/src/cpu/" AND source MATCHES "${ESPALIER_UNUSED_SOURCES}")
      set_source_files_properties("${source}" TARGET_DIRECTORY ${target} PROPERTIES HEADER_FILE_ONLY ON)
      continue()
    endif()
    # Sources that stay single are counted as well: one more of them leaves the other groups as they are.
    math(EXPR group "${index} / 8")
    math(EXPR index "${index} + 1")
    if(NOT name IN_LIST ESPALIER_SINGLE_SOURCES)
      set_source_files_properties("${source}" TARGET_DIRECTORY ${target} PROPERTIES UNITY_GROUP g${group})
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
endfunction()

function(espalier_unity)
  espalier_unity_target(dnnl_common)
  espalier_unity_target(dnnl_cpu)
  espalier_unity_target(dnnl_cpu_x64)
  espalier_unity_prologue(prologue)
  set_target_properties(dnnl_cpu dnnl_cpu_x64 PROPERTIES
    UNITY_BUILD_UNIQUE_ID ESPALIER_UNITY_ID
    UNITY_BUILD_CODE_BEFORE_INCLUDE "${prologue}")
endfunction()

# This file is read before oneDNN's targets exist; the call runs when they do.
cmake_language(DEFER CALL espalier_unity)
