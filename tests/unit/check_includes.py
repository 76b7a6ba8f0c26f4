# SPDX-License-Identifier: Apache-2.0
"""Fails on an include that points up, or sideways past its layer.

The order of the layers is that of stoker_library() in CMakeLists.txt: a folder may include itself and
what stands above it there; of others than itself, the controller only base. The two main.c, in no library,
may include everything. Also: quoted includes are written from the root and exist, and some foreign headers
have one home (HOMES)."""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)

# Foreign header prefix -> the files that may include it.
HOMES = {
    "yajl/": r"base/(json\w*|yajl_memory)\.[ch]",
    "yaml.h": r"base/yaml\.c",
    "curl/": r"base/curl\.[ch]",
    "archive": r"(oci/layer/\w+|agent/data/unpack_archive)\.[ch]",
    "isa-l": r"oci/layer/\w+\.[ch]",
    "zstd": r"oci/layer/\w+\.[ch]",
    "sqlite3.h": r"controller/database/database_sqlite\.c",
    "postgresql/": r"controller/database/database_postgres\w*\.c",
    "libpq": r"controller/database/database_postgres\w*\.[ch]",
    "microhttpd": r"controller/http/\w+\.[ch]",
    "seccomp.h": r"((base|oci)/.*|agent/data/outputs_confine)\.[ch]",
}


def layers_of(root):
    text = (root / "CMakeLists.txt").read_text()
    return re.findall(r"^stoker_library\((\S+)\)", text, re.MULTILINE)


def check_include(name, text, layers, root):
    """Yields what is wrong with the includes of one file, `name` being its path from the root."""
    folder = str(pathlib.PurePosixPath(name).parent)
    rank = layers.index(folder) if folder in layers else len(layers)
    for match in INCLUDE.finditer(text):
        where = f"{name}:{text.count(chr(10), 0, match.start(1 if match[1] else 2)) + 1}"
        if match[2]:
            for prefix, home in HOMES.items():
                if match[2].startswith(prefix) and not re.fullmatch(home, name):
                    yield f"{where}: <{match[2]}> belongs into {home} only"
            continue
        target = match[1]
        if not (root / target).is_file():
            yield f'{where}: "{target}" is not the path of a header from the root'
            continue
        target_folder = str(pathlib.PurePosixPath(target).parent)
        if target_folder not in layers:
            yield f'{where}: "{target}" is in no layer of CMakeLists.txt'
        elif folder.startswith("controller") and not target.startswith(("base/", "controller/")):
            yield f'{where}: "{target}": the controller stands on base alone'
        elif layers.index(target_folder) > rank:
            yield f'{where}: "{target}" points up: {target_folder} stands over {folder}'


def check(root):
    layers = layers_of(root)
    complaints, files = [], 0
    for top in ("base", "oci", "agent", "controller"):
        for path in sorted((root / top).rglob("*.[ch]")):
            name = path.relative_to(root).as_posix()
            folder = path.parent.relative_to(root).as_posix()
            if folder not in layers and name not in ("agent/main.c", "controller/main.c"):
                complaints.append(f"{name}: {folder} is in no layer of CMakeLists.txt")
            files += 1
            complaints += check_include(name, path.read_text(), layers, root)
    return complaints, files


def self_test(root):
    """The check itself must be able to fail."""
    layers = ["base", "oci/image", "oci/registry"]
    cases = [
        ("base/x.c", '#include "base/error.h"', False),
        ("oci/image/x.c", '#include "base/error.h"', False),
        ("oci/image/x.c", "#include <yajl/yajl_parse.h>", True),
        ("base/x.c", '#include "oci/image/digest.h"', True),
        ("oci/image/x.c", '#include "oci/registry/config.h"', True),
        ("oci/image/x.c", '#include "digest.h"', True),
        ("agent/main.c", '#include "oci/registry/config.h"', False),
    ]
    for name, text, wrong in cases:
        found = list(check_include(name, text, layers, root))
        assert bool(found) == wrong, f"{name}: {text}: {found}"


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1]).resolve()
    self_test(root)
    complaints, files = check(root)
    for line in complaints:
        print(line)
    print(f"{files} files, {len(complaints)} complaints")
    sys.exit(1 if complaints or not files else 0)
