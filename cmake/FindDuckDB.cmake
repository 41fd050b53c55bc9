# The DuckDB library and its C header, by the imported target DuckDB::DuckDB.
#
# They are looked for under DUCKDB_ROOT (DUCKDB_ROOT/include/duckdb.h and DUCKDB_ROOT/lib/libduckdb.so,
# as DuckDB's own releases unpack), else where tools/setup leaves them: the library in the npm package
# for this processor, the header in build/duckdb. Sets DuckDB_FOUND, DuckDB_VERSION (the library's
# own word) and DuckDB_LIBRARY. The C API only grows: a header older than the library is right, one
# that names functions which the library lacks is not, and that is tried.
set(DUCKDB_ROOT "" CACHE PATH "Where DuckDB's include/ and lib/ are; empty: what tools/setup fetched")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(_duckdb_npm ${CMAKE_SOURCE_DIR}/node_modules/@duckdb/node-bindings-linux-arm64)
else()
  set(_duckdb_npm ${CMAKE_SOURCE_DIR}/node_modules/@duckdb/node-bindings-linux-x64)
endif()
set(_duckdb_include ${CMAKE_SOURCE_DIR}/build/duckdb/include)
if(DUCKDB_ROOT)
  set(_duckdb_npm ${DUCKDB_ROOT}/lib ${DUCKDB_ROOT})
  set(_duckdb_include ${DUCKDB_ROOT}/include ${DUCKDB_ROOT})
endif()
# Not cached: setup may bring them, or the root may change, between two runs of CMake.
find_path(DuckDB_INCLUDE duckdb.h PATHS ${_duckdb_include} NO_DEFAULT_PATH NO_CACHE)
find_library(DuckDB_LIBRARY duckdb PATHS ${_duckdb_npm} NO_DEFAULT_PATH NO_CACHE)

set(DuckDB_VERSION "")
if(DuckDB_INCLUDE AND DuckDB_LIBRARY)
  try_run(_duckdb_ran _duckdb_built ${CMAKE_BINARY_DIR}/duckdb_version
          SOURCES ${CMAKE_CURRENT_LIST_DIR}/duckdb_version.c
          CMAKE_FLAGS -DINCLUDE_DIRECTORIES=${DuckDB_INCLUDE}
          LINK_LIBRARIES ${DuckDB_LIBRARY}
          COMPILE_OUTPUT_VARIABLE _duckdb_why
          RUN_OUTPUT_VARIABLE DuckDB_VERSION)
  unset(_duckdb_ran CACHE)
  if(NOT _duckdb_built)
    message(FATAL_ERROR "DuckDB: ${DuckDB_LIBRARY} does not fit ${DuckDB_INCLUDE}/duckdb.h:\n"
                        "${_duckdb_why}")
  endif()
  unset(_duckdb_built CACHE)
  string(REGEX REPLACE "^v" "" DuckDB_VERSION "${DuckDB_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(DuckDB REQUIRED_VARS DuckDB_LIBRARY DuckDB_INCLUDE
                                  VERSION_VAR DuckDB_VERSION HANDLE_VERSION_RANGE)
if(DuckDB_FOUND AND NOT TARGET DuckDB::DuckDB)
  add_library(DuckDB::DuckDB SHARED IMPORTED)
  set_target_properties(DuckDB::DuckDB PROPERTIES IMPORTED_LOCATION ${DuckDB_LIBRARY}
                        INTERFACE_INCLUDE_DIRECTORIES ${DuckDB_INCLUDE})
endif()
