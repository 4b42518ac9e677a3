# Builds the messages under msg/ against the ROS 2 wheels of PyPI; included by each package here.
#
# A ROS wheel installs into the environment as into an ament prefix (include/, lib/, share/), and
# so does what is built here. Two things those wheels leave undone are done below, each marked.

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)

find_package(ament_cmake REQUIRED)

# The message wheels look for their type supports in the ament index, and nobody sourced a
# setup file that would say where it is.
get_filename_component(_prefix "${ament_cmake_DIR}/../../.." ABSOLUTE)
set(ENV{AMENT_PREFIX_PATH} "${_prefix}")

# The targets of the message wheels name include folders of the machine that built them, and CMake
# refuses those that do not exist here.
function(drop_missing_include_folders)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    set(existing "")
    foreach(folder IN LISTS folders)
      if(folder MATCHES "^\\$<" OR EXISTS "${folder}")
        list(APPEND existing "${folder}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${existing}")
  endforeach()
endfunction()

# ros_interface(DEPENDENCIES <interface package>...): every msg/*.msg becomes a ROS 2 message.
macro(ros_interface)
  cmake_parse_arguments(ARG "" "" "DEPENDENCIES" ${ARGN})
  find_package(rosidl_default_generators REQUIRED)
  foreach(dependency IN LISTS ARG_DEPENDENCIES)
    find_package(${dependency} REQUIRED)
  endforeach()
  drop_missing_include_folders()
  file(GLOB messages RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}" CONFIGURE_DEPENDS "msg/*.msg")
  rosidl_generate_interfaces(${PROJECT_NAME} ${messages} DEPENDENCIES ${ARG_DEPENDENCIES})
  ament_export_dependencies(rosidl_default_runtime)
  ament_package()
endmacro()
