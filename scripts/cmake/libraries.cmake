# SPDX-License-Identifier: Apache-2.0
# The libraries we link and the two functions that every target is made with.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

# A shared library costs its load time in every helper process: libarchive alone brings libxml2 and
# ICU, 4 ms, for formats we never read. Where Debian ships an archive we link that, and only the tar
# reader comes along (docs/adr/0002-linking.md).
function(find_static_first variable name)
	find_library(${variable} NAMES lib${name}.a ${name} REQUIRED)
	set(${variable} ${${variable}} PARENT_SCOPE)
endfunction()

find_static_first(LIB_ARCHIVE archive)
find_static_first(LIB_YAML yaml)
find_static_first(LIB_SECCOMP seccomp)
find_static_first(LIB_CAP cap)
find_static_first(LIB_ZSTD zstd)
find_library(LIB_YAJL NAMES libyajl_s.a yajl REQUIRED)
find_library(LIB_ISAL NAMES libisal.a isal REQUIRED)
find_path(OPENSSL_HEADERS openssl/evp.h REQUIRED) # loaded at first use: base/sha256.c
find_path(CURL_HEADERS curl/curl.h REQUIRED) # loaded at first use: base/curl.h

# The controller's.
find_library(LIB_MICROHTTPD NAMES microhttpd REQUIRED)
find_library(LIB_SQLITE NAMES sqlite3 REQUIRED)
find_library(LIB_PQ NAMES pq REQUIRED)
find_path(PQ_HEADERS libpq-fe.h PATH_SUFFIXES postgresql REQUIRED)
include_directories(SYSTEM ${PQ_HEADERS})

set(STOKER_EXTERNAL ${LIB_ARCHIVE} ${LIB_YAML} ${LIB_YAJL} ${LIB_SECCOMP} ${LIB_CAP} ${LIB_ISAL}
	${LIB_ZSTD} Threads::Threads ${CMAKE_DL_LIBS})
set(STOKER_LIBRARIES "" CACHE INTERNAL "our libraries, lowest layer first")

# stoker_library(oci/image): every .c file of the folder becomes the static library oci_image.
function(stoker_library folder)
	string(REPLACE "/" "_" name ${folder})
	file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.c)
	if(NOT sources)
		return()
	endif()
	add_library(${name} STATIC ${sources})
	target_link_libraries(${name} PUBLIC ${STOKER_LIBRARIES} ${STOKER_EXTERNAL})
	set(STOKER_LIBRARIES ${name} ${STOKER_LIBRARIES} CACHE INTERNAL "")
endfunction()

# stoker_external(library…): libraries of what is declared from here on.
macro(stoker_external)
	list(APPEND STOKER_EXTERNAL ${ARGN})
endmacro()

# stoker_link(target): link everything; static archives give only what is used.
function(stoker_link target)
	target_link_libraries(${target} PRIVATE ${STOKER_LIBRARIES} ${STOKER_EXTERNAL})
endfunction()
