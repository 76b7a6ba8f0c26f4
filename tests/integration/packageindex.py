# SPDX-License-Identifier: Apache-2.0
"""A package index made by hand: wheels and sdists, with pages in HTML (PEP 503) and JSON (PEP 691) for
packageserver. make(folder) fills a folder; Index() adds more to it."""

import base64
import hashlib
import html
import io
import json
import pathlib
import re
import shutil
import sys
import tarfile
import zipfile

import condachannel

EPOCH = 1_600_000_000

# What a compiler says, and what pip then says at the end: people must see the first.
FAILING_SETUP = """
import sys
from setuptools import setup
if {when}:
    print("building 'nocompile._speed' extension")
    print("src/speed.c:12:10: fatal error: nosuchheader.h: No such file or directory", file=sys.stderr)
    print("   12 | #include <nosuchheader.h>", file=sys.stderr)
    print("compilation terminated.", file=sys.stderr)
    print("error: command '/usr/bin/gcc' failed with exit code 1", file=sys.stderr)
    sys.exit(1)
setup(name={name!r}, version={version!r}, py_modules=[{module!r}])
"""

# A package whose build leaves code for everybody and takes itself off pip's report: its lock is then that
# of an environment without it.
FORGING_SETUP = """
import glob, json, sys
from setuptools import setup
if 'bdist_wheel' in sys.argv:
    (packages,) = glob.glob('/opt/stoker/env/lib/python3.*/site-packages')
    open(packages + '/forged.pth', 'w').write('import sys; sys.forged = True')
    open('/opt/stoker/left', 'w').write('beside the environment')
    report = json.load(open('/opt/stoker/tmp/report.json'))
    report['install'] = [i for i in report['install'] if i['metadata']['name'] != 'forges']
    json.dump(report, open('/opt/stoker/tmp/report.json', 'w'))
setup(name='forges', version='1.0', py_modules=['forges'])
"""


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def metadata(name, version, requires=(), python=">=3.7", extras=()):
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {python}"]
    lines += [f"Provides-Extra: {e}" for e in extras] + [f"Requires-Dist: {r}" for r in requires]
    return "\n".join(lines) + "\n"


class Index:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        (self.folder / "files").mkdir(parents=True, exist_ok=True)
        self.files = {}  # normalised name -> [(file, Requires-Python)]

    def put(self, name, file, data, python=">=3.7"):
        (self.folder / "files" / file).write_bytes(data)
        self.files.setdefault(normalised(name), []).append((file, python))

    def wheel(
        self, name, version, files, requires=(), scripts=(), python=">=3.7", extras=(), tag="py3-none-any"
    ):  # fmt: skip
        """`files`: {path: text or bytes}; `scripts`: ["name = module:function"]."""
        base = f"{re.sub(r'[-_.]+', '_', name)}-{version}"
        info = f"{base}.dist-info"
        files = {
            **files,
            f"{info}/METADATA": metadata(name, version, requires, python, extras),
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: {tag}\n",
        }
        if scripts:
            lines = "\n".join(scripts)
            files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}\n"
        record, archive = [], io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
            for path, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                value = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
                record.append(f"{path},sha256={value.rstrip('=')},{len(data)}\n")
                self._entry(z, path, data)
            record.append(f"{info}/RECORD,,\n")
            self._entry(z, f"{info}/RECORD", "".join(record).encode())
        self.put(name, f"{base}-{tag}.whl", archive.getvalue(), python)

    @staticmethod
    def _entry(z, path, data):
        entry = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
        entry.external_attr = 0o644 << 16
        z.writestr(entry, data)

    def sdist(self, name, version, files, requires=()):
        base, archive = f"{name}-{version}", io.BytesIO()
        files = {**files, "PKG-INFO": metadata(name, version, requires)}
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for path, text in files.items():
                entry = tarfile.TarInfo(f"{base}/{path}")
                entry.size, entry.mtime = len(text.encode()), EPOCH
                tar.addfile(entry, io.BytesIO(text.encode()))
        self.put(name, f"{base}.tar.gz", archive.getvalue())

    def close(self):
        """Write the pages."""
        simple = self.folder / "simple"
        simple.mkdir(exist_ok=True)
        (simple / "index.html").write_text(
            page(f'<a href="/simple/{n}/">{n}</a>' for n in sorted(self.files))
        )
        for name, files in self.files.items():
            (simple / name).mkdir(exist_ok=True)
            entries = [(f, self.hash(f), python) for f, python in files]
            (simple / name / "index.html").write_text(
                page(
                    f'<a href="../../files/{f}#sha256={h}" '
                    f'data-requires-python="{html.escape(python)}">{f}</a>'
                    for f, h, python in entries
                )
            )
            document = {
                "meta": {"api-version": "1.0"},
                "name": name,
                "files": [
                    {
                        "filename": f,
                        "url": f"../../files/{f}",
                        "hashes": {"sha256": h},
                        "requires-python": python,
                    }
                    for f, h, python in entries
                ],
            }
            (simple / name / "index.v1.json").write_text(json.dumps(document))

    def hash(self, file):
        return condachannel.digest(self.folder / "files" / file, "sha256")


def page(links):
    head = '<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.0"></head>'
    return f"{head}<body>\n" + "<br>\n".join(links) + "\n</body></html>\n"


def add_sdists(index):
    """One that builds, with Debian's setuptools; one whose compiler fails, while its metadata is made or
    only once its wheel is."""
    for name in ("setuptools", "wheel"):
        (wheel,) = condachannel.WHEELS.glob(f"{name}-*.whl")
        index.put(name, wheel.name, wheel.read_bytes())
    for name, when in {
        "builds": "False",
        "nocompile": "'bdist_wheel' in sys.argv or 'install' in sys.argv",
        "nometadata": "True",
    }.items():
        setup = FAILING_SETUP.format(when=when, name=name, version="1.0", module=name)
        index.sdist(name, "1.0", {"setup.py": setup, f"{name}.py": "built = True\n"})
    index.sdist("forges", "1.0", {"setup.py": FORGING_SETUP, "forges.py": ""})


def add_compiled(index):
    """More sources than one process compiles at a time, one that nobody can compile, and bytecode that a
    careless author has packed."""
    sources = {f"compiled/part{i}.py": f"NAMES = {{'a{i}', 'b{i}'}}\n" for i in range(70)}
    index.wheel(
        "compiled", "1.0",
        {
            "compiled/__init__.py": "__version__ = '1.0'\n",
            "compiled/broken.py": "def (:\n",
            f"compiled/__pycache__/__init__.{sys.implementation.cache_tag}.pyc": b"stale",
            **sources,
        },
    )  # fmt: skip


def make(folder):
    """Fill an empty or missing folder and return it."""
    index = Index(folder)
    for version in ("1.0", "1.1", "2.0"):
        source = f"__version__ = {version!r}\n"
        index.wheel("wheelmath", version, {"wheelmath/__init__.py": source})
    program = "import wheelmath\ndef main():\n    print('wheel-app', wheelmath.__version__)\n"
    index.wheel(
        "wheel-app", "0.2", {"wheel_app.py": program},
        ["wheelmath >=1.0,<2", 'extra-part; extra == "more"'],
        ["wheel-app = wheel_app:main"], extras=["more"],
    )  # fmt: skip
    index.wheel("extra-part", "1.0", {"extra_part.py": ""})
    # Would overwrite what conda installed.
    index.wheel("labmath", "9.9", {"labmath/__init__.py": "__version__ = '9.9 of pip'\n"})
    index.wheel("needs-new-labmath", "1.0", {"needs_new_labmath.py": ""}, ["labmath >=9"])
    index.wheel("asks-for-both", "1.0", {"asks_for_both.py": ""}, ["wheelmath >=2", "wheel-app"])
    index.wheel("only-future", "1.0", {"only_future.py": ""}, python=">=3.99")
    index.wheel("other-machine", "1.0", {"other_machine.py": ""}, tag="cp311-cp311-win_amd64")
    for i in range(8):
        data = hashlib.shake_128(str(i).encode()).digest(256 * 1024)
        index.wheel(f"bulk{i}", "1.0", {f"bulk{i}/__init__.py": "", f"bulk{i}/data": data})
    add_compiled(index)
    add_sdists(index)
    index.close()
    return index.folder


if __name__ == "__main__":  # by hand: packageindex.py FOLDER
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    make(sys.argv[1])
