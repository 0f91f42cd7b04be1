# Lists of things of which each is one file, so that a new one is added by its file alone: CMake finds the files, also
# those that come later, and writes the source that lists them.

# espalier_find_entries(<sources> <names> <folder>): the .cc files of a folder in the order of their names, and the name
# of each: FooBar of foo_bar.cc.
function(espalier_find_entries sources names folder)
  file(GLOB found CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cc)
  set(result "")
  foreach(source ${found})
    cmake_path(GET source STEM words)
    string(REPLACE "_" ";" words ${words})
    set(name "")
    foreach(word ${words})
      string(SUBSTRING ${word} 0 1 first)
      string(TOUPPER ${first} first)
      string(SUBSTRING ${word} 1 -1 rest)
      string(APPEND name ${first}${rest})
    endforeach()
    list(APPEND result ${name})
  endforeach()
  set(${sources} ${found} PARENT_SCOPE)
  set(${names} ${result} PARENT_SCOPE)
endfunction()

# espalier_table(<variable> FOLDER <folder> NAMESPACE <namespace> HEADER <header> ENTRY <type> SUFFIX <suffix>
#   TABLE <function>): objects that live as long as the program. Every <folder>/foo_bar.cc defines
# `const <type>& FooBar<suffix>()` in the namespace. The function, which the header declares as
# `std::span<const <type>* const> <function>()`, gives all of them. <variable> becomes the list of sources, the one with
# the function among them.
function(espalier_table variable)
  cmake_parse_arguments(ARG "" "FOLDER;NAMESPACE;HEADER;ENTRY;SUFFIX;TABLE" "" ${ARGN})
  espalier_find_entries(sources names ${ARG_FOLDER})
  foreach(name ${names})
    string(APPEND declarations "const ${ARG_ENTRY}& ${name}${ARG_SUFFIX}();\n")
    string(APPEND entries "      &${name}${ARG_SUFFIX}(),\n")
  endforeach()
  set(table ${CMAKE_CURRENT_BINARY_DIR}/${variable}.cc)
  # Written only when it changes.
  file(CONFIGURE OUTPUT ${table} @ONLY CONTENT [[
// Made by cmake/EspalierTables.cmake from the files of @ARG_FOLDER@.
#include "@ARG_HEADER@"

namespace @ARG_NAMESPACE@ {

@declarations@
std::span<const @ARG_ENTRY@* const> @ARG_TABLE@() {
  static const @ARG_ENTRY@* const table[] = {
@entries@  };
  return table;
}

}  // namespace @ARG_NAMESPACE@
]])
  set(${variable} ${sources} ${table} PARENT_SCOPE)
endfunction()

# espalier_method_table(<variable> <folder>): the methods, each foo_bar.cc of which has
# `MethodDeclaration FooBarMethod(const Library& library)`, and Catalog(), which calls all of them. <variable> becomes
# the list of sources.
function(espalier_method_table variable folder)
  espalier_find_entries(sources names ${folder})
  foreach(name ${names})
    string(APPEND declarations "MethodDeclaration ${name}Method(const Library& library);\n")
    string(APPEND calls "          ${name}Method(library),\n")
  endforeach()
  set(table ${CMAKE_CURRENT_BINARY_DIR}/method_table.cc)
  file(CONFIGURE OUTPUT ${table} @ONLY CONTENT [[
// Made by cmake/EspalierTables.cmake from the files of the catalog.
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
