#!/usr/bin/python3 -IB
# SPDX-License-Identifier: Apache-2.0
"""What stands in the place of conda, mamba and micromamba in images of the tests: their command line, as
far as Stoker uses it, over py-rattler, which really solves and installs. It says so in --version. Behaves
as the tool that it is called as: options, output, exit codes, the names of errors.

Lies in an image as /opt/conda/lib/standin/conda_standin.py, beside py-rattler, `version-<tool>` (what it
passes for) and `channel_alias` (where channels are that have a name only)."""

import argparse
import asyncio
import hashlib
import json
import os
import pathlib
import platform
import re
import stat
import sys
import traceback
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(os.path.realpath(__file__)).parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("SSL_CERT_FILE", str(HERE.parent.parent / "ssl/cacert.pem"))

NAME = os.path.basename(sys.argv[0])
IS_CONDA = NAME == "conda"
VERSION = (HERE / f"version-{NAME}").read_text().strip()
SUBDIR = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[os.uname().machine]


class Failure(Exception):
    """`kind`: the name of conda's exception; `more`: further members of its JSON."""

    def __init__(self, kind, message, **more):
        super().__init__(message)
        self.kind, self.message, self.more = kind, message, more


def parser():
    p = argparse.ArgumentParser(NAME)
    p.add_argument("-V", "--version", action="store_true")
    verbs = p.add_subparsers(dest="verb")
    create = verbs.add_parser("create")
    create.add_argument("-p", "--prefix", required=True)
    create.add_argument("-c", "--channel", action="append", default=[])
    create.add_argument("-f", "--file", action="append", default=[])
    create.add_argument("--channel-priority", choices=["strict", "flexible", "disabled"])
    create.add_argument("--solver", choices=["classic", "libmamba"])
    for flag in (
        "--yes/-y", "--json", "--dry-run/-d", "--override-channels", "--offline", "--no-deps",
        "--copy/--always-copy", "--no-rc", "--no-default-packages", "--quiet/-q", "--no-pyc",
        "--no-extra-safety-checks", "--no-env", "--insecure/-k", "--verbose/-v",
    ):  # fmt: skip
        create.add_argument(*flag.split("/"), action="store_true")
    create.add_argument("specs", nargs="*")
    listing = verbs.add_parser("list")
    listing.add_argument("-p", "--prefix", required=True)
    for flag in ("--json", "--explicit", "--md5", "--sha256", "--no-pip"):
        listing.add_argument(flag, action="store_true")
    env = verbs.add_parser("env")
    env.add_argument("action", choices=["export"])
    env.add_argument("-p", "--prefix", required=True)
    for flag in ("--explicit", "--md5", "--sha256"):
        env.add_argument(flag, action="store_true")
    config = verbs.add_parser("config")
    for flag in ("--json", "--all", "--no-rc"):
        config.add_argument(flag, action="store_true")
    config.add_argument("--show", nargs="*")  # conda's
    config.add_argument("words", nargs="*")  # micromamba's: list channel_alias
    info = verbs.add_parser("info")
    info.add_argument("--json", action="store_true")
    return p


# ---- what a solver must know


def virtual_packages():
    """__linux and so on, by CONDA_OVERRIDE_*: "" means that there is none."""

    def value(name, detected):
        return os.environ.get(f"CONDA_OVERRIDE_{name}", detected)

    release = re.match(r"\d+(\.\d+)*", os.uname().release)[0]
    found = {
        "__unix": ("0", "0"),
        "__linux": (value("LINUX", release), "0"),
        "__glibc": (value("GLIBC", platform.libc_ver()[1]), "0"),
        "__cuda": (value("CUDA", ""), "0"),
        "__archspec": ("1", value("ARCHSPEC", os.uname().machine)),
    }
    return {n: v for n, v in found.items() if v[0] and v[1]}


def package_caches():
    named = os.environ.get("CONDA_PKGS_DIRS", "/opt/conda/pkgs").split(",")
    return [pathlib.Path(p) for p in named if p]


def priority(options):
    from rattler import ChannelPriority

    named = options.channel_priority or os.environ.get("CONDA_CHANNEL_PRIORITY", "flexible")
    # rattler knows no "flexible", which is nearer to "strict": the first channel that has a package.
    return ChannelPriority.Disabled if named == "disabled" else ChannelPriority.Strict


def client():
    from rattler.networking import Client

    return Client(
        user_agent=f"{NAME}-standin/{VERSION}",
        timeout=int(float(os.environ.get("CONDA_REMOTE_READ_TIMEOUT_SECS", 60))),
    )


async def solve(options, http):
    import rattler
    from rattler import Gateway, GenericVirtualPackage, PackageName, SourceConfig, Version
    from rattler.package.build_string import BuildString

    machine = [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
        for name, (version, build) in virtual_packages().items()
    ]
    if not options.channel:
        raise Failure("NoBaseEnvironmentError", "no channels: name some with -c")
    config = SourceConfig(cache_action="force-cache-only") if options.offline else None
    gateway = Gateway(package_caches()[0] / "cache", default_config=config, client=http)
    return await rattler.solve(
        sources=[c if "://" in c else f"{channel_alias()}/{c}" for c in options.channel],
        specs=options.specs,
        gateway=gateway,
        virtual_packages=machine,
        channel_priority=priority(options),
    )


def explain(options, error):
    """The exception of conda for one of rattler's."""
    text = str(error)
    chain = f"{type(error).__name__}: {text}"
    if isinstance(error, Failure):
        return error
    if re.search(r"InvalidMatchSpec|InvalidVersionSpec|InvalidPackageName|ParseMatchSpec", chain):
        return Failure("InvalidSpec", text)
    if re.search(r"no space left|os error 28", text, re.I):
        return Failure("NoSpaceLeftError", f"No space left on devices. {text}")
    broken = r"invalid zip archive|corrupt|decompress|failed to extract"
    if re.search(
        rf"hash mismatch|checksum|expected (sha256|md5)|{broken}", text, re.I
    ) and not re.search(r"response body|connection", text):
        # rattler unpacks while it downloads, and may stumble before it has the hash; conda has it first.
        return Failure("ChecksumMismatchError", text)
    if type(error).__name__ == "SolverError":
        missing = re.findall(r"No candidates were found for ([\w.-]+)", text)
        asked = [
            re.split(r"[ =<>!~\[]", s.rpartition("::")[2], maxsplit=1)[0] for s in options.specs
        ]
        packages = [s for s, n in zip(options.specs, asked, strict=True) if n in missing]
        if packages and all(re.fullmatch(r"[\w.-]+", p) or p for p in packages):
            lines = "".join(f"  - {p}\n" for p in packages)
            urls = [f"{c}/{s}" for c in options.channel for s in (SUBDIR, "noarch")]
            return Failure(
                "PackagesNotFoundError",
                f"The following packages are not available from current channels:\n\n{lines}\n"
                "Current channels:\n\n" + "".join(f"  - {u}\n" for u in urls),
                packages=packages, channel_urls=urls,
            )  # fmt: skip
        kind = (
            "LibMambaUnsatisfiableError" if options.solver == "libmamba" else "UnsatisfiableError"
        )
        return Failure(kind, text)
    status = re.search(r"\b(40[13]|407)\b", text)
    if re.search(r"could not find subdir|404 Not Found", text):
        return Failure("UnavailableInvalidChannel", f"HTTP 404 NOT FOUND for channel\n{text}")
    if re.search(r"http|request|connect|timed? ?out|repodata|stream|body", text, re.I):
        kind = "AuthenticationError" if status else "CondaHTTPError"
        return Failure(kind, f"HTTP 000 CONNECTION FAILED\n{text}", reason=text)
    return None


# ---- what is installed


def cached_archive(url, md5, offline, say):
    """Download a package as conda does, into the first cache, checked."""
    name = urllib.parse.unquote(url.rpartition("/")[2])
    for folder in package_caches():
        if (folder / name).is_file() and (not md5 or digest(folder / name, "md5") == md5):
            return folder / name
    if offline:
        raise Failure("OfflineError", f"{url} is not in a package cache")
    target = package_caches()[0] / name
    target.parent.mkdir(parents=True, exist_ok=True)
    seconds = float(os.environ.get("CONDA_REMOTE_READ_TIMEOUT_SECS", 60))
    try:
        with (
            urllib.request.urlopen(url, timeout=seconds) as answer,
            open(f"{target}.part", "wb") as f,
        ):
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while chunk := answer.read(65536):
                f.write(chunk)
                done += len(chunk)
                say(name, done, total)
            if total and done != total:
                raise Failure("CondaHTTPError", f"{url}: the connection ended after {done} bytes")
    except (urllib.error.URLError, OSError) as e:
        if getattr(e, "errno", None) == 28:
            raise Failure("NoSpaceLeftError", f"No space left on devices. {e}") from e
        status = getattr(e, "code", "000")
        raise Failure("CondaHTTPError", f"HTTP {status} for url <{url}>: {e}") from e
    if md5 and digest(f"{target}.part", "md5") != md5:
        os.unlink(f"{target}.part")
        raise Failure(
            "ChecksumMismatchError", f"Conda detected a mismatch between the expected content and "
            f"downloaded content for url '{url}'.",
        )  # fmt: skip
    os.rename(f"{target}.part", target)
    return target


def digest(path, algorithm):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, algorithm).hexdigest()


def read_explicit(files):
    """[(url, md5)] of @EXPLICIT files; None if there is none among them."""
    packages = []
    for file in files:
        lines = [line.strip() for line in pathlib.Path(file).read_text().splitlines()]
        if "@EXPLICIT" not in lines:
            raise Failure("CondaValueError", f"{file}: only @EXPLICIT files are supported here")
        for line in lines:
            if line and line[0] not in "@#":
                url, _, md5 = line.partition("#")
                packages.append((url, md5 or None))
    return packages


async def explicit_records(options, packages, say):
    """Records of archives that are here: their addresses are those of the cache."""
    from rattler.repo_data import RepoDataRecord

    records, origin = [], {}
    for url, md5 in packages:
        archive = cached_archive(url, md5, options.offline, say)
        record = await RepoDataRecord.from_package_archive(archive)
        record.md5, record.sha256 = (bytes.fromhex(digest(archive, a)) for a in ("md5", "sha256"))
        record.size = archive.stat().st_size
        records.append(record)
        origin[record.name.normalized] = url
    return records, origin


def restore_origin(prefix, origin):
    """conda-meta names where a package came from, not where it lay."""
    for path in pathlib.Path(prefix, "conda-meta").glob("*.json"):
        document = json.loads(path.read_text())
        url = origin.get(document["name"])
        if url:
            document["url"], document["channel"] = url, url.rsplit("/", 2)[0]
            path.write_text(json.dumps(document, indent=2))


class Progress:
    def __init__(self, say):
        self.say, self.names = say, {}

    def on_populate_cache_start(self, operation, package_name):
        self.names[operation] = package_name
        return operation

    def on_download_start(self, cache_entry):
        return cache_entry

    def on_download_progress(self, download_idx, progress, total):
        self.say(self.names.get(download_idx, ""), progress, total)

    def on_post_link_complete(self, index, success):
        self.failed = getattr(self, "failed", False) or not success

    def __getattr__(self, name):
        if name.startswith("on_"):
            return lambda *args: 0
        raise AttributeError(name)


async def install(options, records, requested, http, say):
    import rattler
    from rattler.config import Config
    from rattler.package_cache import PackageCache

    copy = options.copy or os.environ.get("CONDA_ALWAYS_COPY", "0").lower() in ("1", "true", "yes")
    progress = Progress(say)
    caches = package_caches()
    caches[0].mkdir(parents=True, exist_ok=True)
    await rattler.install(
        records,
        options.prefix,
        package_cache=PackageCache.new_layered([str(c) for c in caches if c.is_dir()]),
        execute_link_scripts=True,
        show_progress=False,
        client=http,
        config=Config.from_toml(f"allow-hard-links = {'false' if copy else 'true'}"),
        requested_specs=[rattler.MatchSpec(s)._match_spec for s in requested],
        reporter=progress,
    )
    if getattr(progress, "failed", False):
        raise Failure("LinkError", "post-link script failed for package; see the output above")
    history = pathlib.Path(options.prefix, "conda-meta/history")
    if not history.exists():
        history.write_text(f"==> {NAME} <==\n# cmd: {' '.join(sys.argv)}\n")


# ---- verbs


def as_json(record):
    fields = {
        "name": record.name.normalized, "version": str(record.version), "channel": record.channel,
        "build_number": record.build_number, "url": record.url, "size": record.size,
        "build": str(record.build), "build_string": str(record.build), "fn": record.file_name,
        "subdir": record.subdir, "platform": record.subdir,
        "dist_name": f"{record.name.normalized}-{record.version}-{record.build}",
        "md5": record.md5.hex() if record.md5 else None,
        "sha256": record.sha256.hex() if record.sha256 else None,
    }  # fmt: skip
    return {k: v for k, v in fields.items() if v is not None}


def in_cache(record):
    stem = re.sub(r"(\.conda|\.tar\.bz2)$", "", record.file_name)
    return any((c / n).exists() for c in package_caches() for n in (stem, record.file_name))


def sayer(options):
    """Progress as conda prints it with --json: objects that end in NUL, each in a line."""
    if not (IS_CONDA and options.json and not options.quiet):
        return lambda name, done, total: None

    def say(name, done, total):
        record = {
            "fetch": f"{name} | {(total or 0) // 1024} KB | ", "finished": done == total,
            "maxval": 1, "progress": done / total if total else 0,
        }  # fmt: skip
        sys.stdout.write(json.dumps(record) + "\n\0")
        sys.stdout.flush()

    return say


async def create(options):
    say, http = sayer(options), client()
    explicit = read_explicit(options.file)
    if explicit:
        records, origin = await explicit_records(options, explicit, say)
        if not options.dry_run:
            await install(options, records, [], http, say)
            restore_origin(options.prefix, origin)
        return None if IS_CONDA else {"success": True}
    records = await solve(options, http)
    if not options.dry_run:
        if options.offline and not all(in_cache(r) for r in records):
            missing = next(r for r in records if not in_cache(r))
            raise Failure("OfflineError", f"{missing.url} is not in a package cache")
        await install(options, records, options.specs, http, say)
    return {
        "success": True,
        "prefix": options.prefix,
        "dry_run": options.dry_run,
        "actions": {
            "PREFIX": options.prefix,
            "FETCH": [as_json(r) for r in records if not in_cache(r)],
            "LINK": [as_json(r) for r in records],
        },
    }


def installed(prefix):
    folder = pathlib.Path(prefix, "conda-meta")
    if not folder.is_dir():
        raise Failure("EnvironmentLocationNotFound", f"Not a conda environment: {prefix}")
    return [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]


def print_list(options):
    records = installed(options.prefix)
    if getattr(options, "json", False):
        keys = ("name", "version", "build", "channel")
        print(json.dumps([{k: r.get(k) for k in keys} for r in records], indent=2))
    elif options.explicit:
        print(f"# platform: {SUBDIR}\n@EXPLICIT")
        for r in records:
            value = r.get("sha256") if options.sha256 else r.get("md5") if options.md5 else None
            print(r["url"] + (f"#{value}" if value else ""))
    else:
        for r in records:
            print(f"{r['name']:24} {r['version']:12} {r['build']}")


def channel_alias():
    return os.environ.get("CONDA_CHANNEL_ALIAS", (HERE / "channel_alias").read_text().strip())


def print_config(options):
    """channel_alias alone: conda's JSON has its parts, all else is YAML."""
    if "channel_alias" not in (options.show or []) + options.words:
        raise Failure("ArgumentError", "only channel_alias is known here")
    if not options.json:
        print(f"channel_alias: {channel_alias()}")
        return
    url = urllib.parse.urlsplit(channel_alias())
    parts = {"scheme": url.scheme, "location": url.netloc + url.path}
    nothing = dict.fromkeys(("auth", "name", "package_filename", "platform", "token"))
    print(json.dumps({"channel_alias": {**nothing, **parts}}, indent=2, sort_keys=True))


def print_version():
    import importlib.metadata

    rattler = importlib.metadata.version("py-rattler")
    print(
        f"{'conda ' if IS_CONDA else ''}{VERSION} (stand-in of Stoker's tests: py-rattler {rattler})"
    )


def report(options, failure):
    as_document = getattr(options, "json", False)
    if IS_CONDA and as_document:
        document = {
            "caused_by": "None", "error": f"{failure.kind}: {failure.message}",
            "exception_name": failure.kind,
            "exception_type": f"<class 'conda.exceptions.{failure.kind}'>",
            "message": failure.message, **failure.more,
        }  # fmt: skip
        # Conda gathers what happens to several downloads.
        if failure.kind == "ChecksumMismatchError":
            document = {
                "exception_name": "CondaMultiError", "message": failure.message,
                "error": failure.message, "errors": [document],
                "exception_type": "<class 'conda.CondaMultiError'>",
            }  # fmt: skip
        print(json.dumps(document, indent=2, sort_keys=True))
    elif IS_CONDA:
        print(f"\n{failure.kind}: {failure.message}\n", file=sys.stderr)
    else:
        solver = failure.kind in ("PackagesNotFoundError", "UnsatisfiableError")
        if as_document:
            document = {"success": False}
            if solver:
                document["solver_problems"] = failure.message.splitlines()
            print(json.dumps(document, indent=4))
        level, line = ("error", "Could not solve for environment specs") if solver else (
            "critical", failure.message.splitlines()[0])  # fmt: skip
        print(f"{level:8} libmamba {line}\n{failure.message}", file=sys.stderr)
    return 1


def run(options):
    condarc = os.environ.get("CONDARC")
    if IS_CONDA and condarc and not stat.S_ISREG(os.stat(condarc).st_mode):
        raise KeyError(stat.S_IFMT(os.stat(condarc).st_mode))  # as conda 23.3 does
    if options.verb == "create":
        document = asyncio.run(create(options))
        if document and options.json:
            print(json.dumps(document, indent=2))
    elif options.verb == "config":
        print_config(options)
    elif options.verb == "info":
        machine = [[n, *v] for n, v in virtual_packages().items()]
        print(json.dumps({f"{NAME}_version": VERSION, "platform": SUBDIR, "virtual_pkgs": machine}))
    else:
        print_list(options)
    return 0


def main():
    # CLI11 exits with 109 where argparse has 2.
    arguments = sys.argv[1:]
    if arguments[:1] == ["config"]:  # words between its options, which argparse does not take
        arguments.sort(key=lambda a: a.startswith("-"))
    try:
        options = parser().parse_args(arguments)
    except SystemExit as e:
        return e.code if IS_CONDA or not e.code else 109
    if options.version:
        return print_version()
    if not options.verb:
        parser().print_usage(sys.stderr)
        return 2 if IS_CONDA else 109
    if options.verb == "create" and not options.solver:
        options.solver = os.environ.get("CONDA_SOLVER", "classic")
    try:
        return run(options)
    except Exception as e:
        failure = explain(options, e)
        if failure is None:  # as conda: a traceback and no JSON
            traceback.print_exc()
            return 1
        return report(options, failure)


if __name__ == "__main__":
    status = main() or 0
    sys.stdout.flush()
    sys.stderr.flush()
    # rattler's own threads are still there, and what the interpreter tears down under them crashes.
    os._exit(status)
