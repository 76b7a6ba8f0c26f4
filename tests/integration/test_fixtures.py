# SPDX-License-Identifier: Apache-2.0
"""The fixtures themselves: what skopeo and umoci make of our images and registries."""

import json
import subprocess
import urllib.error
import urllib.request

import ociimage
import pytest
import registries


def skopeo(*args):
    return subprocess.run(
        ["skopeo", *map(str, args)], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ).stdout


def get(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read()


def test_skopeo_reads_what_we_push(registry, layout, small_image):
    reference = registry.push(layout, "fixtures/plain")
    seen = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{reference}"))
    assert seen["Layers"] == [small_image.digest]
    skopeo("copy", "--src-tls-verify=false", f"docker://{reference}", f"dir:{layout.path / 'copy'}")
    assert registry.blob_bytes() > small_image.size


def test_tls_and_password(registry_auth_tls, layout, small_image):
    r = registry_auth_tls
    reference = r.push(layout, "fixtures/tls")
    certificates = layout.path / "certs"
    certificates.mkdir()
    (certificates / "ca.crt").write_bytes(r.authority.certificate.read_bytes())
    options = ["--cert-dir", certificates]
    skopeo("inspect", *options, "--creds", f"{r.user}:{r.password}", f"docker://{reference}")
    with pytest.raises(subprocess.CalledProcessError):
        skopeo("inspect", *options, f"docker://{reference}")


def test_token_service(registry_token, layout, small_image):
    reference = registry_token.push(layout, "fixtures/token")
    skopeo("inspect", "--tls-verify=false", f"docker://{reference}")
    asked = registry_token.service.asked
    assert asked and all(a == (None, ["repository:fixtures/token:pull"]) for a in asked)
    registry_token.service.anonymous = False
    with pytest.raises(subprocess.CalledProcessError):
        skopeo("inspect", "--tls-verify=false", f"docker://{reference}")


def test_scripted_registry(scripted, layout, small_image):
    url = f"{scripted.url}/v2/image/blobs/{small_image.digest}"
    whole = get(url)
    assert len(whole) == small_image.size
    ranged = urllib.request.Request(url, headers={"Range": "bytes=10-19"})
    assert get(ranged) == whole[10:20]
    assert scripted.blob_bytes() == small_image.size + 10
    scripted.rules.append(lambda e: registries.Answer(503) if e.is_blob else None)
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(url)
    refused.value.close()
    assert scripted.log[-1].count == 2
    scripted.rules.clear()
    skopeo("inspect", "--no-tags", "--tls-verify=false", f"docker://{scripted.reference()}")


def test_umoci_unpacks_every_header_form(layout, tmp):
    long = "d/" + "x" * 120
    tar = ociimage.Tar().dir("d").file(long, "pax").file(long + "y", "gnu", long_names="gnu")
    tar.file(b"d/\xff\xfe", "not utf-8").file("d/x", "attribute", xattrs={"user.a": b"\0\xff"})
    tar.pax_sparse("d/sparse", 1 << 20, {4096: b"a" * 512, 1 << 19: b"b" * 512})
    layout.image([layout.layer(tar)])
    bundle = tmp / "bundle"
    subprocess.run(
        ["umoci", "unpack", "--image", f"{layout.path}:latest", str(bundle)],
        check=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    d = bundle / "rootfs/d"
    assert (d / ("x" * 120)).read_text() == "pax"
    assert (d / ("x" * 120 + "y")).read_text() == "gnu"
    data = (d / "sparse").read_bytes()
    assert len(data) == 1 << 20
    assert data[4096:4608] == b"a" * 512
    assert data.count(0) == len(data) - 2 * 512


def test_gnu_tar_reads_old_sparse_files(tmp):
    """umoci does not know this form."""
    archive = tmp / "sparse.tar"
    archive.write_bytes(ociimage.Tar().gnu_sparse("old", 1 << 20, {4096: b"a" * 512}).bytes())
    subprocess.run(["tar", "-xf", str(archive), "-C", str(tmp)], check=True)
    data = (tmp / "old").read_bytes()
    assert len(data) == 1 << 20 and data[4096:4608] == b"a" * 512
    assert data.count(0) == len(data) - 512
