# What others get of a build: the programs, the C++ client library as a CMake package, the protocol, and Debian packages
# of all of it (`make deb`).
#
#   cmake --install build/release --component programs --prefix /usr/local     the three programs
#   cmake --install build/release --component library --prefix PREFIX         find_package(Espalier), Espalier::client_lib
#   cmake --install build/release --component protocol --prefix PREFIX        the .proto files
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
# What is installed is built before; a package needs no tests.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)

install(TARGETS espalier_cli espalier_coordinator espalier_worker RUNTIME DESTINATION bin COMPONENT programs)

# Sets `result` to every library of ours that whoever links `target` links.
function(espalier_libraries_of target result)
  set(found)
  set(pending ${target})
  while(NOT pending STREQUAL "")
    list(POP_FRONT pending next)
    if(NOT TARGET ${next})
      continue()
    endif()
    get_target_property(aliased ${next} ALIASED_TARGET)
    if(aliased)
      set(next ${aliased})
    endif()
    get_target_property(imported ${next} IMPORTED)
    if(imported OR next IN_LIST found)
      continue()
    endif()
    list(APPEND found ${next})
    get_target_property(linked ${next} INTERFACE_LINK_LIBRARIES)
    if(linked)
      # Private libraries are linked all the same, since ours are static.
      string(REGEX REPLACE "\\$<LINK_ONLY:([^>]*)>" "\\1" linked "${linked}")
      list(APPEND pending ${linked})
    endif()
  endwhile()
  set(${result} ${found} PARENT_SCOPE)
endfunction()

espalier_libraries_of(espalier_client_lib client_libraries)
foreach(library ${client_libraries})
  string(REGEX REPLACE "^espalier_" "" name ${library})
  set_target_properties(${library} PROPERTIES EXPORT_NAME ${name})
endforeach()
set(config_dir lib/cmake/Espalier)
install(TARGETS ${client_libraries} EXPORT EspalierTargets ARCHIVE DESTINATION lib/espalier COMPONENT library)
install(EXPORT EspalierTargets NAMESPACE Espalier:: DESTINATION ${config_dir} COMPONENT library)
# What the headers of the library include of ours.
foreach(header client/lib/client.h common/base/status.h common/config/parameters.h)
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${header} DESTINATION include/espalier/${folder} COMPONENT library)
endforeach()
install(DIRECTORY ${ESPALIER_PROTO_OUT}/espalier DESTINATION include/espalier COMPONENT library
  FILES_MATCHING PATTERN "*.pb.h" PATTERN "*.grpc.pb.h" EXCLUDE)
configure_package_config_file(cmake/EspalierConfig.cmake.in ${CMAKE_BINARY_DIR}/EspalierConfig.cmake
  INSTALL_DESTINATION ${config_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/EspalierConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/EspalierConfig.cmake ${CMAKE_BINARY_DIR}/EspalierConfigVersion.cmake
  DESTINATION ${config_dir} COMPONENT library)

# The services as they are on machines that have the package: docs/three-machines.md has the programs elsewhere.
foreach(service coordinator worker)
  set(unit espalier-${service}.service)
  file(READ deploy/systemd/${unit} text)
  string(REPLACE /usr/local/bin /usr/bin text "${text}")
  file(CONFIGURE OUTPUT units/${unit} CONTENT "${text}" @ONLY)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS deploy/systemd/${unit})
  install(FILES ${CMAKE_BINARY_DIR}/units/${unit} DESTINATION lib/systemd/system COMPONENT services EXCLUDE_FROM_ALL)
endforeach()
install(FILES LICENSE DESTINATION share/doc/espalier COMPONENT services EXCLUDE_FROM_ALL RENAME copyright)
install(FILES LICENSE DESTINATION share/doc/libespalier-dev COMPONENT library RENAME copyright)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME espalier)
set(CPACK_PACKAGE_VENDOR "Espalier")
set(CPACK_PACKAGE_CONTACT "The Espalier maintainers <maintainers@espalier.invalid>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
set(CPACK_COMPONENTS_ALL programs services library protocol)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PROGRAMS_PACKAGE_NAME espalier)
set(CPACK_DEBIAN_PROGRAMS_DESCRIPTION "distributed training of truly sparse models
 The coordinator, the worker and the command line of Espalier, which trains
 sparse models on machines whose data stays where it is.")
set(CPACK_DEBIAN_PROGRAMS_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PROGRAMS_PACKAGE_DEPENDS "adduser, ca-certificates")
set(CPACK_DEBIAN_PROGRAMS_PACKAGE_CONTROL_EXTRA
  "${CMAKE_SOURCE_DIR}/deploy/debian/postinst;${CMAKE_SOURCE_DIR}/deploy/debian/prerm;${CMAKE_SOURCE_DIR}/deploy/debian/postrm")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libespalier-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION "C++ client library and protocol of Espalier
 Headers and static libraries for find_package(Espalier), and the .proto files
 for clients in other languages.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
  "libabsl-dev, libeigen3-dev, libfmt-dev, libgrpc++-dev, libpcre2-dev, libprotobuf-dev, libssl-dev, libyaml-cpp-dev, nlohmann-json3-dev, pkg-config, protobuf-compiler-grpc, zlib1g-dev")
include(CPack)
cpack_add_component_group(programs)
cpack_add_component_group(development)
cpack_add_component(programs GROUP programs)
cpack_add_component(services GROUP programs)
cpack_add_component(library GROUP development)
cpack_add_component(protocol GROUP development)
