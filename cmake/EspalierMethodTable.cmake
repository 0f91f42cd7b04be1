# espalier_method_table(<variable> <folder>): the sources of a folder with one method per file, and a generated one with
# Catalog(), which calls the function of each: two_words.cc has TwoWordsMethod(). Files that come and go are noticed by
# the next build.
function(espalier_method_table variable folder)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cc)
  set(declarations "")
  set(calls "")
  foreach(source ${sources})
    get_filename_component(words ${source} NAME_WE)
    string(REPLACE "_" ";" words ${words})
    set(function "")
    foreach(word ${words})
      string(SUBSTRING ${word} 0 1 first)
      string(SUBSTRING ${word} 1 -1 rest)
      string(TOUPPER ${first} first)
      string(APPEND function ${first}${rest})
    endforeach()
    string(APPEND declarations "MethodDeclaration ${function}Method(const Library& library);\n")
    string(APPEND calls "          ${function}Method(library),\n")
  endforeach()
  set(table ${CMAKE_CURRENT_BINARY_DIR}/method_table.cc)
  file(CONFIGURE OUTPUT ${table} @ONLY CONTENT [[
// Made by cmake/EspalierMethodTable.cmake.
#include "server/methods/catalog/catalog.h"

namespace espalier::server::methods {

@declarations@
std::vector<MethodDeclaration> Catalog(const Library& library) {
  return {
@calls@  };
}

}  // namespace espalier::server::methods
]])
  set(${variable} ${sources} ${table} PARENT_SCOPE)
endfunction()
