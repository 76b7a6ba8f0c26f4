# SPDX-License-Identifier: Apache-2.0
# Compiler flags of every target: the language, the warnings, the hardening.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

option(STOKER_WERROR "treat warnings as errors" OFF)
set(STOKER_SANITIZE "" CACHE STRING "sanitizers, as -fsanitize= takes them")
option(STOKER_FUZZ "build the fuzz targets with libFuzzer (clang)" OFF)
option(STOKER_WEAKEN "for tests: let STOKER_WEAKEN in the environment leave defences out" OFF)
option(STOKER_COVERAGE "instrument for coverage" OFF)

add_compile_definitions(_GNU_SOURCE STOKER_VERSION="${PROJECT_VERSION}")
include_directories(${PROJECT_SOURCE_DIR})
add_compile_options(
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings
	-Wvla -Wformat=2 -Wundef -Wno-missing-field-initializers -fno-common)
if(STOKER_WERROR)
	add_compile_options(-Werror)
endif()

if(STOKER_SANITIZE)
	add_compile_options(-fsanitize=${STOKER_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
	add_link_options(-fsanitize=${STOKER_SANITIZE})
elseif(CMAKE_BUILD_TYPE MATCHES "Release|RelWithDebInfo|MinSizeRel")
	add_compile_options(-D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection)
	if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64")
		add_compile_options(-fcf-protection=full)
	endif()
	add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
endif()
add_link_options(-Wl,--as-needed)

if(STOKER_FUZZ)
	add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(STOKER_COVERAGE)
	add_compile_options(--coverage -O0)
	add_link_options(--coverage)
endif()
if(STOKER_WEAKEN)
	add_compile_definitions(STOKER_WEAKEN)
endif()
