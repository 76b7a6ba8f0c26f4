# SPDX-License-Identifier: Apache-2.0
# The default seccomp profiles as BPF, compiled while we are (oci/runtime/seccomp_ready.h). The
# generator runs on the machine of the build, so a cross-build goes without and compiles at run time.
set(folder ${PROJECT_SOURCE_DIR}/scripts/seccomp)
if(CMAKE_CROSSCOMPILING)
	target_sources(oci_runtime PRIVATE ${folder}/none.c)
	return()
endif()
add_executable(seccomp_generate ${folder}/generate.c ${folder}/none.c
	${PROJECT_SOURCE_DIR}/oci/runtime/seccomp.c
	${PROJECT_SOURCE_DIR}/oci/runtime/seccomp_decode.c
	${PROJECT_SOURCE_DIR}/oci/runtime/seccomp_fingerprint.c
	${PROJECT_SOURCE_DIR}/oci/runtime/seccomp_profile.c)
target_link_libraries(seccomp_generate PRIVATE base)
set(output ${PROJECT_BINARY_DIR}/generated/seccomp_ready.c)
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/generated)
add_custom_command(OUTPUT ${output}
	COMMAND seccomp_generate > ${output}
	DEPENDS seccomp_generate
	COMMENT "Compiling the default seccomp profiles"
	VERBATIM)
target_sources(oci_runtime PRIVATE ${output})
