# SPDX-License-Identifier: Apache-2.0
"""The node's authorities in a job: a company's own, with what the image trusts."""

import pytest
from test_other_runtime import assert_nothing_left
from test_rootless import one_at_a_time, place, ranges, single, user  # noqa: F401
from test_run import _busybox, busybox, busybox_tar, image, record, wait_for  # noqa: F401

TARGET = "/stoker/ca-certificates.crt"
VARIABLES = (
    "SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE PIP_CERT NODE_EXTRA_CA_CERTS GIT_SSL_CAINFO "
    "AWS_CA_BUNDLE"
).split()


def certificate(text):
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"


PUBLIC, COMPANY, OTHER = (
    certificate("cHVibGlj"),
    certificate("Y29tcGFueQ=="),
    certificate("b3RoZXI="),
)


@pytest.fixture
def bundle(tmp):
    """The node's: a public authority, and the company's."""
    tmp.chmod(0o755)
    path = tmp / "bundle.pem"
    path.write_text("# public\n" + PUBLIC + "# ours\n" + COMPANY)
    return path


@pytest.fixture
def trusting(image):  # noqa: F811
    """An image with a bundle of its own."""
    tar = busybox_tar().dir("etc/ssl").dir("etc/ssl/certs")
    tar.file("etc/ssl/certs/ca-certificates.crt", PUBLIC + OTHER)
    return lambda **config: image(tar, **config)


def environment(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


@pytest.mark.parametrize("network", ["private", "host", "none"])
def test_authorities_of_image_and_node(stoker, trusting, bundle, network):
    stoker.configure(sandbox={"allow_host_network": True})
    args = ["run", "--image", trusting(), "--network", network, "--"]
    env = {"SSL_CERT_FILE": str(bundle)}
    assert stoker(*args, "cat", TARGET, env=env).stdout == PUBLIC + OTHER + COMPANY
    values = environment(stoker(*args, "env", env=env).stdout)
    assert {values[v] for v in VARIABLES} == {TARGET}
    for user_id in ("0", "1000"):
        shown = stoker("run", "--image", trusting(), "--user", user_id, "cat", TARGET, env=env)
        assert COMPANY in shown.stdout


def test_image_without_authorities(stoker, busybox, bundle):  # noqa: F811
    env = {"SSL_CERT_FILE": str(bundle)}
    shown = stoker("run", "--image", busybox, "--", "cat", TARGET, env=env)
    assert shown.stdout == PUBLIC + COMPANY


def test_variables_that_are_set(stoker, trusting, bundle):
    """What the image or the job says stands."""
    reference = trusting(Env=["PATH=/bin", "CURL_CA_BUNDLE=/of/image"])
    options = ["-e", "PIP_CERT=/of/job", "-e", "AWS_CA_BUNDLE="]
    env = {"SSL_CERT_FILE": str(bundle)}
    values = environment(stoker("run", "--image", reference, *options, "env", env=env).stdout)
    assert values["CURL_CA_BUNDLE"] == "/of/image"
    assert values["PIP_CERT"] == "/of/job" and values["AWS_CA_BUNDLE"] == ""
    assert values["SSL_CERT_FILE"] == values["REQUESTS_CA_BUNDLE"] == TARGET


def test_nothing_to_add(stoker, trusting, bundle):
    """An image that trusts all that the node does is left as it is."""
    bundle.write_text(PUBLIC)
    env = {"SSL_CERT_FILE": str(bundle)}
    values = environment(stoker("run", "--image", trusting(), "env", env=env).stdout)
    assert not set(VARIABLES) & set(values)
    stoker("run", "--image", trusting(), "--", "test", "!", "-e", TARGET, env=env)


def test_bundle_of_the_image_is_not_the_nodes(stoker, image, bundle):  # noqa: F811
    """A link to the node's files counts from the image's root."""
    tar = busybox_tar().dir("etc/ssl").dir("etc/ssl/certs")
    tar.symlink("etc/ssl/certs/ca-certificates.crt", "../../../../../../../" + str(bundle)[1:])
    shown = stoker("run", "--image", image(tar), "--", "cat", TARGET,
                   env={"SSL_CERT_FILE": str(bundle)})  # fmt: skip
    assert shown.stdout == PUBLIC + COMPANY


def test_other_runtime(stoker, trusting, bundle):
    stoker.configure(sandbox={"runtime": "runc"})
    script = f'cat {TARGET}; stat -c "%u %a" {TARGET}; echo "$SSL_CERT_FILE"'
    shown = stoker("run", "--image", trusting(), "--", "sh", "-c", script,
                   env={"SSL_CERT_FILE": str(bundle)})  # fmt: skip
    assert shown.stdout == f"{PUBLIC}{OTHER}{COMPANY}0 644\n{TARGET}\n"
    assert_nothing_left(stoker)


@pytest.mark.parametrize("who", ["user", "single"])
def test_ordinary_user(request, trusting, bundle, place, who):  # noqa: F811
    """Found out by the container, and known to `exec`, too."""
    someone = request.getfixturevalue(who)
    path = place / "bundle.pem"
    path.write_text(bundle.read_text())
    env = {"SSL_CERT_FILE": str(path)}
    script = f"cat {TARGET}; env; echo ready; sleep 100"
    run = someone(
        "run", "-d", "--image", trusting(), "--", "sh", "-c", script, env=env
    ).stdout.strip()
    values = environment(someone("exec", run, "env").stdout)
    assert {values[v] for v in VARIABLES} == {TARGET}
    assert someone("exec", run, "cat", TARGET).stdout == PUBLIC + OTHER + COMPANY
    wait_for(lambda: "ready\n" in someone("logs", run).stdout, "all that it prints")
    someone("kill", run)
    someone("wait", run, check=False)
    text = someone("logs", run).stdout
    assert text.startswith(PUBLIC + OTHER + COMPANY) and f"SSL_CERT_FILE={TARGET}\n" in text
