# SPDX-License-Identifier: Apache-2.0
# The stub engine and the fixture on it, which the unit and the root tests of wasm share; a build may
# want only one of the two kinds.
if(TARGET amphora_wasm_fixture)
  return()
endif()
set(stub_dir ${CMAKE_BINARY_DIR}/tests/stub-engines)
add_library(amphora_stub_engine MODULE EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/stub_engine.c)
add_library(amphora_stub_compiler MODULE EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/stub_engine.c)
target_compile_definitions(amphora_stub_compiler PRIVATE STUB_COMPILER)
# A compiler of before there was `link`, as engine "old".
add_library(amphora_stub_old MODULE EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/stub_engine.c)
target_compile_definitions(amphora_stub_old PRIVATE STUB_COMPILER STUB_OLD)
foreach(role engine compiler old)
  set(stub_name amphora-${role}-stub)
  if(role STREQUAL old)
    set(stub_name amphora-compiler-old)
  endif()
  set_target_properties(amphora_stub_${role} PROPERTIES OUTPUT_NAME ${stub_name} PREFIX lib
    LIBRARY_OUTPUT_DIRECTORY ${stub_dir} C_VISIBILITY_PRESET hidden)
  target_compile_options(amphora_stub_${role} PRIVATE -fno-sanitize=all)
  target_link_options(amphora_stub_${role} PRIVATE -fno-sanitize=all)
  target_link_libraries(amphora_stub_${role} PRIVATE Threads::Threads)
endforeach()

add_library(amphora_wasm_fixture STATIC EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/host_fixture.cc)
target_link_libraries(amphora_wasm_fixture PUBLIC amphora_wasm)
target_compile_definitions(amphora_wasm_fixture PUBLIC AMPHORA_STUB_DIR="${stub_dir}"
  AMPHORA_WASM_HOST="$<TARGET_FILE:amphora-wasm>")
add_dependencies(amphora_wasm_fixture amphora-wasm amphora_stub_engine amphora_stub_compiler amphora_stub_old)
