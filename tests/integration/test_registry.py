# SPDX-License-Identifier: Apache-2.0
"""Pulling from registries: real ones with every kind of authentication, and ones that misbehave."""

import base64
import json
import os
import pathlib
import re
import socket
import stat
import time

import faulty_registry as faulty
import node
import ociimage
import pytest
import registries

MIB = 1 << 20
QUICK = {"retries": 2, "stall_timeout": 2}


@pytest.fixture
def quick(stoker):
    """A node that gives up early."""
    stoker.configure(registries=QUICK)
    return stoker


@pytest.fixture
def big_image(layout):
    """`layout` with one layer of 24 MiB that does not compress: several chunks. Returns the layer."""
    layer = layout.layer(ociimage.Tar().file("big", os.urandom(24 * MIB)), compression="none")
    layout.image([layer])
    return layer


@pytest.fixture
def make_raw():
    servers = []

    def make(talk):
        servers.append(faulty.RawServer(talk))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def assert_has(stoker, layer):
    """The layer arrived: the store holds it under its diff id."""
    assert any(layer.diff_id.removeprefix("sha256:") in path.name for path in stoker.layers())


def assert_no_layer(stoker):
    """Nothing to be seen; parts that a later pull can use may stay."""
    assert stoker.layers() == [] and stoker.temporary_files() == []


# ---- authentication


def test_anonymous(stoker, registry, layout, small_image):
    stoker.pull(registry.push(layout, "registry/anonymous"))
    assert_has(stoker, small_image)


def test_password_over_tls(stoker, registry_auth_tls, layout, small_image):
    r = registry_auth_tls
    reference = r.push(layout, "registry/basic")
    stoker.configure(registries={"hosts": {r.address: {"ca": str(r.authority.certificate)}}})
    stoker.fails(
        "pull", reference, needles=[f"{r.address}: credentials are needed (401); run docker login"]
    )
    stoker.docker_login(r.address, r.user, "wrong")
    stoker.fails("pull", reference, needles=["were refused (401)", f"docker login {r.address}"])
    stoker.assert_store_empty()
    stoker.docker_login(r.address, r.user, r.password)
    stoker.pull(reference)
    assert_has(stoker, small_image)


def test_password_from_the_configuration(stoker, registry_auth_tls, layout, small_image, tmp):
    r = registry_auth_tls
    secret = tmp / "password"
    secret.write_text(r.password + "\n")
    host = {
        "ca": str(r.authority.certificate),
        "username": r.user,
        "password_file": str(secret),
    }
    stoker.configure(registries={"hosts": {r.address: host}})
    stoker.pull(r.push(layout, "registry/configured"))
    assert_has(stoker, small_image)


def test_credential_helper(stoker, registry_auth_tls, layout, small_image, tmp):
    r = registry_auth_tls
    reference = r.push(layout, "registry/helper")
    stoker.configure(registries={"hosts": {r.address: {"ca": str(r.authority.certificate)}}})
    folder = stoker.home / ".docker"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"credHelpers": {r.address: "tests"}}))
    path = {"PATH": f"{tmp}:{os.environ['PATH']}"}
    stoker.fails("pull", reference, env=path, needles=["(401)", "docker-credential-tests"])
    helper = tmp / "docker-credential-tests"
    answer = json.dumps({"ServerURL": r.address, "Username": r.user, "Secret": r.password})
    helper.write_text(f"#!/bin/sh\ncat > {tmp}/asked\necho '{answer}'\n")
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    stoker.pull(reference, env=path)
    assert (tmp / "asked").read_text() == r.address
    assert_has(stoker, small_image)


def test_untrusted_certificate(quick, registry_auth_tls, layout, small_image, make_scripted, tmp):
    other = make_scripted(layout, tls=True)
    r = registry_auth_tls
    quick.configure(
        registries={**QUICK, "hosts": {other.address: {"ca": str(r.authority.certificate)}}}
    )
    line = quick.fails("pull", other.reference(), needles=["certificate is not trusted", "CA"])
    assert other.requests() == [] and "retr" not in line


def test_certificate_of_another_host(quick, layout, small_image, tmp):
    authority = registries.Authority(tmp / "ca")
    pair = authority.issue("elsewhere.example", "DNS:elsewhere.example")
    server = registries.ScriptedRegistry(layout, pair, authority)
    quick.configure(
        registries={**QUICK, "hosts": {server.address: {"ca": str(authority.certificate)}}}
    )
    quick.fails("pull", server.reference(), needles=["certificate is not trusted"])
    assert server.requests() == []
    server.stop()


def test_token(stoker, registry_token, layout, small_image):
    stoker.pull(registry_token.push(layout, "registry/token"))
    asked = registry_token.service.asked
    assert asked == [(None, ["repository:registry/token:pull"])], "one token for all requests"
    assert_has(stoker, small_image)


def test_token_with_credentials(stoker, registry_token, layout, small_image):
    r = registry_token
    r.service.anonymous = False
    reference = r.push(layout, "registry/token-login")
    stoker.fails("pull", reference, needles=["credentials are needed", "docker login"])
    stoker.docker_login(r.address, r.user, "wrong")
    stoker.fails("pull", reference, needles=["credentials were refused", "docker login"])
    stoker.docker_login(r.address, r.user, r.password)
    stoker.pull(reference)
    assert r.service.asked[-1] == (r.user, ["repository:registry/token-login:pull"])


def test_identity_token(stoker, scripted, small_image, registry_token):
    """OAuth2: a refresh token is posted, the access token comes back."""
    seen = []

    class Service:
        @staticmethod
        def talk(connection, head):
            body = head.split("\r\n\r\n", 1)[1]
            seen.append((head.split()[0], body))
            answer = b'{"access_token": "let-me-in", "expires_in": 60}'
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)
            )
            return True

    service = faulty.RawServer(Service.talk)
    challenge = f'Bearer realm="http://{service.address}/token",service="tests"'
    scripted.rules.append(
        lambda e: None
        if e.headers.get("authorization") == "Bearer let-me-in"
        else faulty.status(401, WWW_Authenticate=challenge)
    )
    folder = stoker.home / ".docker"
    folder.mkdir(exist_ok=True)
    document = {"auths": {scripted.address: {"auth": "", "identitytoken": "a b/c"}}}
    (folder / "config.json").write_text(json.dumps(document))
    stoker.pull(scripted.reference())
    assert [method for method, _ in seen] == ["POST"]
    form = dict(pair.split("=") for pair in seen[0][1].split("&"))
    assert form == {
        "grant_type": "refresh_token",
        "service": "tests",
        "scope": "repository%3Aimage%3Apull",
        "client_id": "stoker",
        "refresh_token": "a%20b%2Fc",
    }
    service.stop()


def token_rule(valid):
    """A rule: 401 unless the Bearer token is one of `valid`; and the RawServer that gives them out."""

    def talk(connection, _):
        valid.append(f"token-{len(valid)}")
        answer = json.dumps({"token": valid[-1]}).encode()
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)
        )
        return True

    service = faulty.RawServer(talk)

    def rule(exchange):
        if valid and exchange.headers.get("authorization") == f"Bearer {valid[-1]}":
            return None
        realm = f'Bearer realm="http://{service.address}/token"'
        return faulty.status(401, WWW_Authenticate=realm)

    return service, rule


def test_token_that_expires(stoker, scripted, small_image):
    """A token that was good for the manifest is refused for the blobs: one new token, no failure."""
    valid = []
    service, rule = token_rule(valid)
    scripted.rules.append(rule)
    expired = []

    def expire(exchange):
        if exchange.is_blob and not expired:
            expired.append(True)
            valid.append("nobody has this one")
        return rule(exchange)

    scripted.rules.append(expire)
    stoker.pull(scripted.reference())
    assert len(service.requests) == 2
    assert_has(stoker, small_image)
    service.stop()


def test_401_for_ever(quick, scripted, small_image):
    """Whatever token we bring is refused: an end, not a loop."""
    service, _ = token_rule([])
    realm = f'Bearer realm="http://{service.address}/token"'
    scripted.rules.append(lambda e: faulty.status(401, WWW_Authenticate=realm))
    quick.fails("pull", scripted.reference(), needles=["(401)", "docker login"])
    assert len(scripted.requests()) <= 4 and len(service.requests) <= 3
    service.stop()


@pytest.mark.parametrize(
    "challenge",
    [
        None,
        "Basic",
        "Negotiate",
        'Bearer realm="no end',
        'Bearer realm=""',
        'Bearer realm="file:///etc/passwd"',
        'Bearer realm="http://user:password@localhost/token"',
        "Bearer",
        "=,=,=",
    ],
)
def test_401_without_a_way_in(quick, scripted, small_image, challenge):
    headers = {"WWW_Authenticate": challenge} if challenge else {}
    scripted.rules.append(lambda e: faulty.status(401, **headers))
    quick.fails("pull", scripted.reference(), needles=[scripted.address])
    assert len(scripted.requests()) == 1
    quick.assert_store_empty()


@pytest.mark.parametrize(
    ("answer", "needle"),
    [
        (b"no json", "token service"),
        (b"{}", "holds no token"),
        (b'{"token": "a\\r\\nX-Injected: 1"}', "holds no token"),
        (b'{"token": 7}', "holds no token"),
        (b" " * (2 * MIB), "limit"),
    ],
)
def test_odd_token_answers(quick, scripted, small_image, make_raw, answer, needle):
    def talk(connection, _):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
        connection.sendall(head + answer)
        return True

    service = make_raw(talk)
    realm = f'Bearer realm="http://{service.address}/token"'
    scripted.rules.append(lambda e: faulty.status(401, WWW_Authenticate=realm))
    quick.fails("pull", scripted.reference(), needles=[needle])
    assert len(scripted.requests()) == 1


def test_token_service_without_tls(quick, layout, small_image, make_scripted, make_raw):
    """A registry under TLS may not send the password elsewhere in the clear."""
    service = make_raw(faulty.hang_up)
    server = make_scripted(layout, tls=True)
    realm = f'Bearer realm="http://{service.address}/token"'
    server.rules.append(lambda e: faulty.status(401, WWW_Authenticate=realm))
    quick.configure(
        registries={**QUICK, "hosts": {server.address: {"ca": str(server.authority.certificate)}}}
    )
    quick.docker_login(server.address, "alice", "secret")
    quick.fails("pull", server.reference(), needles=["has no TLS; refused"])
    assert service.requests == []


# ---- statuses


@pytest.mark.parametrize(
    ("code", "needle"),
    [
        (400, "400"),
        (403, "access is denied by localhost"),
        (404, "not found in the registry (404); check the name and the tag"),
        (405, "405"),
        (418, "418"),
        (204, "204"),
    ],
)
def test_final_statuses(quick, scripted, small_image, code, needle):
    scripted.rules.append(faulty.always(faulty.is_manifest, faulty.status(code)))
    if code == 204:
        scripted.rules[:] = [faulty.always(is_blob, faulty.status(code))]
    quick.fails("pull", scripted.reference(), needles=[needle])
    if code != 204:
        assert len(scripted.requests()) == 1, "tried again for nothing"
    assert_no_layer(quick)


def is_blob(exchange):
    return exchange.is_blob


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("of", [faulty.is_manifest, is_blob])
def test_statuses_that_pass(quick, scripted, small_image, code, of):
    scripted.rules.append(faulty.first(2, of, faulty.status(code)))
    quick.pull(scripted.reference())
    assert sum(e.status == code for e in scripted.requests()) == 2
    assert_has(quick, small_image)


def test_errors_for_ever(quick, scripted, small_image):
    scripted.rules.append(faulty.always(faulty.is_manifest, faulty.status(503)))
    started = time.monotonic()
    quick.fails("pull", scripted.reference(), needles=["503", "gave up after 3 attempts"])
    assert len(scripted.requests()) == 3
    assert time.monotonic() - started > 0.7, "no backoff"


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after(quick, scripted, small_image, form):
    times = []

    def rule(exchange):
        times.append(time.time())
        if len(times) > 1:
            return None
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(times[0] + 3))
        return faulty.status(429, Retry_After="2" if form == "seconds" else date)

    scripted.rules.append(rule)
    quick.pull(scripted.reference())
    assert 1.9 <= times[1] - times[0] < 5


# ---- redirects


def redirect(to, code=307):
    return registries.Answer(code, b"", {"Location": to})


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirected_blobs(stoker, scripted, small_image, make_scripted, layout, code):
    storage = make_scripted(layout)
    scripted.rules.append(
        lambda e: redirect(f"{storage.url}{e.path}?signed=1", code) if e.is_blob else None
    )
    storage.rules.append(
        lambda e: registries.Answer(
            200, layout.blob_path(e.path.split("/")[-1].split("?")[0]).read_bytes()
        )
    )
    stoker.pull(scripted.reference())
    assert_has(stoker, small_image)
    assert all(e.path.endswith("?signed=1") for e in storage.requests())


def test_redirects_lose_credentials(stoker, scripted, small_image, make_scripted, layout):
    other = make_scripted(layout)
    stoker.docker_login(scripted.address, "alice", "secret")
    scripted.rules.append(
        lambda e: None
        if "authorization" in e.headers
        else faulty.status(401, WWW_Authenticate='Basic realm="tests"')
    )
    scripted.rules.append(
        lambda e: redirect(f"{other.url}{e.path}")
        if e.is_blob and "authorization" in e.headers
        else None
    )
    stoker.pull(scripted.reference())
    assert_has(stoker, small_image)
    assert other.requests() and scripted.requests()
    assert not any("authorization" in e.headers for e in other.requests())
    sent = base64.b64encode(b"alice:secret").decode()
    assert any(e.headers.get("authorization") == f"Basic {sent}" for e in scripted.requests())


def test_redirect_to_itself_keeps_credentials(stoker, scripted, small_image):
    stoker.docker_login(scripted.address, "alice", "secret")
    scripted.rules.append(
        lambda e: None
        if "authorization" in e.headers
        else faulty.status(401, WWW_Authenticate="Basic")
    )
    scripted.rules.append(
        lambda e: redirect(e.path.replace("/v2/image/", "/v2/moved/"))
        if e.path.startswith("/v2/image/") and "authorization" in e.headers
        else None
    )
    stoker.pull(scripted.reference())
    moved = [e for e in scripted.requests() if "/moved/" in e.path]
    assert moved and all("authorization" in e.headers for e in moved)


def test_redirected_401_gets_nothing(quick, scripted, small_image, make_scripted, layout):
    thief = make_scripted(layout)
    thief.rules.append(lambda e: faulty.status(401, WWW_Authenticate='Basic realm="give"'))
    quick.docker_login(scripted.address, "alice", "secret")
    quick.docker_login(thief.address, "bob", "other")
    scripted.rules.append(lambda e: redirect(f"{thief.url}{e.path}"))
    quick.fails("pull", scripted.reference(), needles=["401"])
    assert not any("authorization" in e.headers for e in thief.requests())


def test_redirect_loop(quick, scripted, small_image):
    scripted.rules.append(lambda e: redirect(e.path))
    quick.fails("pull", scripted.reference(), needles=["more than 10 redirects"])
    assert len(scripted.requests()) == 11


def test_redirect_away_from_tls(quick, scripted, layout, small_image, make_scripted):
    secure = make_scripted(layout, tls=True)
    secure.rules.append(lambda e: redirect(f"{scripted.url}{e.path}"))
    quick.configure(
        registries={**QUICK, "hosts": {secure.address: {"ca": str(secure.authority.certificate)}}}
    )
    quick.fails("pull", secure.reference(), needles=["from https to http is refused"])
    assert scripted.requests() == []


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://localhost/x", "http://u:p@localhost/x", "http://", "dict:x"]
)
def test_redirects_we_do_not_follow(quick, scripted, small_image, to):
    scripted.rules.append(lambda e: redirect(to))
    quick.fails("pull", scripted.reference(), needles=[scripted.address])
    assert len(scripted.requests()) == 1


def test_redirect_to_nowhere(quick, scripted, small_image):
    scripted.rules.append(lambda e: registries.Answer(307))
    quick.fails("pull", scripted.reference(), needles=["a redirect to nowhere (307)"])


# ---- broken bodies


def test_truncated_manifest(quick, scripted, small_image):
    scripted.rules.append(faulty.first(1, faulty.is_manifest, registries.cut_after(40)))
    quick.pull(scripted.reference())
    assert_has(quick, small_image)


def test_manifest_of_another_digest(quick, scripted, layout, small_image):
    digest = layout.tagged()["digest"]
    scripted.rules.append(
        faulty.always(faulty.is_manifest, registries.Answer(200, b'{"schemaVersion": 2}'))
    )
    quick.fails(
        "pull", f"{scripted.address}/image@{digest}", needles=[digest, "has the digest sha256:"]
    )
    quick.assert_store_empty()


def test_manifest_that_is_too_large(quick, scripted, small_image, make_raw):
    big = registries.Answer(200, b" " * (5 * MIB))
    scripted.rules.append(faulty.always(faulty.is_manifest, big))
    quick.fails("pull", scripted.reference(), needles=["over the limit of 4194304 bytes"])
    endless = make_raw(faulty.unbounded_body)
    quick.fails("pull", endless.reference(), needles=["over the limit of 4194304 bytes"])


def test_truncated_blob_resumes(quick, scripted, big_image):
    """Each answer is cut; the next asks for what is missing only."""
    wanted = faulty.is_layer(big_image)
    scripted.rules.append(faulty.first(5, wanted, registries.cut_after(3 * MIB)))
    quick.pull(scripted.reference())
    assert_has(quick, big_image)
    sent = sum(e.sent for e in scripted.requests() if wanted(e))
    assert sent < big_image.size + 5 * 2 * MIB, "bytes were fetched twice"


def test_blob_that_is_always_cut(quick, scripted, big_image):
    wanted = faulty.is_layer(big_image)
    scripted.rules.append(faulty.always(wanted, registries.cut_after(100)))
    quick.fails("pull", scripted.reference(), needles=["gave up after 3 attempts"])


def test_ranges_are_used_and_resumed_after_failure(quick, scripted, big_image):
    """What one pull has fetched, the next does not fetch again."""
    wanted = faulty.is_layer(big_image)
    broken = []

    def rule(exchange):
        if not wanted(exchange) or (exchange.range or (0, 0))[0] < 8 * MIB:
            return None
        broken.append(True)
        return faulty.status(503)

    scripted.rules.append(rule)
    quick.fails("pull", scripted.reference(), needles=["503"])
    assert broken
    first = sum(e.sent for e in scripted.requests() if wanted(e))
    scripted.rules.clear()
    scripted.forget()
    quick.pull(scripted.reference())
    assert_has(quick, big_image)
    second = sum(e.sent for e in scripted.requests() if wanted(e))
    assert first >= 8 * MIB and second <= big_image.size - 8 * MIB


def test_blob_that_always_begins_anew(quick, scripted, big_image):
    """Without ranges each attempt starts at the first byte: what it brings is no progress, and a server
    that always hangs up behind it must come to an end."""
    scripted.ranges = False
    wanted = faulty.is_layer(big_image)
    scripted.rules.append(faulty.always(wanted, registries.cut_after(2 * MIB)))
    quick.fails("pull", scripted.reference(), needles=["gave up after 3 attempts"])


def test_server_that_ignores_ranges(quick, scripted, big_image):
    scripted.ranges = False
    wanted = faulty.is_layer(big_image)
    scripted.rules.append(faulty.first(1, wanted, registries.cut_after(10 * MIB)))
    quick.pull(scripted.reference())
    assert_has(quick, big_image)


@pytest.mark.parametrize("kind", ["other start", "no header", "longer", "other size"])
def test_wrong_content_range(quick, scripted, big_image, kind):
    """A server that lies about ranges is asked for the whole instead; one that lies about the size is
    not believed."""
    wanted = faulty.is_layer(big_image)

    def lie(answer):
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", ""))
        if not match:
            return answer
        start, last, size = map(int, match.groups())
        if kind == "other start":
            answer.headers["Content-Range"] = f"bytes {start + 1}-{last}/{size}"
        elif kind == "no header":
            del answer.headers["Content-Range"]
        elif kind == "longer":
            answer.headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        else:
            answer.headers["Content-Range"] = f"bytes {start}-{last}/{size + 1}"
        return answer

    scripted.rules.append(lambda e: lie if wanted(e) else None)
    if kind == "other size":
        quick.fails("pull", scripted.reference(), needles=["the manifest says"])
    else:
        quick.pull(scripted.reference())
        assert_has(quick, big_image)


@pytest.mark.parametrize("change", [b"x", None])
def test_blob_of_another_size(quick, scripted, small_image, change):
    wanted = faulty.is_layer(small_image)

    def resize(answer):
        answer.body = answer.body + change if change else answer.body[:-1]
        return answer

    scripted.rules.append(lambda e: resize if wanted(e) else None)
    line = quick.fails("pull", scripted.reference(), needles=["bytes, the manifest says"])
    assert str(small_image.size) in line
    assert_no_layer(quick)


def test_blob_of_wrong_content(quick, scripted, small_image):
    wanted = faulty.is_layer(small_image)

    def damage(answer):
        answer.body = answer.body[:-1] + bytes([answer.body[-1] ^ 1])
        return answer

    scripted.rules.append(lambda e: damage if wanted(e) else None)
    quick.fails("pull", scripted.reference(), needles=[small_image.digest])
    assert_no_layer(quick)
    scripted.rules.clear()
    quick.pull(scripted.reference())
    assert_has(quick, small_image)


def test_wrong_content_length(quick, scripted, small_image):
    """It promises more than it sends, then closes."""
    wanted = faulty.is_layer(small_image)

    def claim(answer):
        answer.claim = len(answer.body)
        answer.body = answer.body[:10]
        return answer

    scripted.rules.append(faulty.first(1, wanted, claim))
    quick.pull(scripted.reference())
    assert_has(quick, small_image)


# ---- time


def test_stall_in_a_body(quick, scripted, big_image):
    """Silence for the stall time ends a request; it goes on where it stopped."""
    wanted = faulty.is_layer(big_image)
    scripted.rules.append(faulty.first(1, wanted, registries.cut_after(MIB, hang=30)))
    started = time.monotonic()
    quick.pull(scripted.reference())
    assert time.monotonic() - started < 15
    assert_has(quick, big_image)


def test_stall_before_an_answer(quick, make_raw):
    server = make_raw(faulty.silence)
    quick.configure(registries={"retries": 1, "stall_timeout": 1})
    started = time.monotonic()
    quick.fails("pull", server.reference(), needles=["no byte for 1 s", "gave up after 2 attempts"])
    assert 2 <= time.monotonic() - started < 10
    assert len(server.requests) == 2


def test_slow_is_not_stalled(stoker, scripted, layout):
    """More than the stall time in all, but never silent."""
    layer = layout.layer(ociimage.Tar().file("f", os.urandom(60_000)), compression="none")
    layout.image([layer])
    stoker.configure(registries={"retries": 0, "stall_timeout": 1})
    scripted.rules.append(faulty.always(faulty.is_layer(layer), registries.slowly(20_000)))
    started = time.monotonic()
    stoker.pull(scripted.reference())
    assert time.monotonic() - started > 2
    assert_has(stoker, layer)


def test_drip_is_stalled(quick, scripted, small_image):
    """A few bytes now and then are no progress, or they would hold a pull for ever."""
    quick.configure(registries={"retries": 1, "stall_timeout": 1})
    scripted.rules.append(faulty.always(faulty.is_layer(small_image), registries.slowly(40)))
    started = time.monotonic()
    quick.fails(
        "pull",
        scripted.reference(),
        needles=["fewer than 1000 bytes in 1 s", "gave up after 2 attempts"],
    )
    assert 2 <= time.monotonic() - started < 10


def test_drip_of_a_head_is_stalled(quick, make_raw):
    """Each header line in time, but no end of them."""
    quick.configure(registries={"retries": 0, "stall_timeout": 1})
    server = make_raw(faulty.dripping_head)
    started = time.monotonic()
    quick.fails("pull", server.reference(), needles=["fewer than 1000 bytes in 1 s"])
    assert time.monotonic() - started < 5


def test_several_connections_when_slow(stoker, scripted, layout):
    """A large blob over connections of 4 MB/s each: more than one is used."""
    layer = layout.layer(ociimage.Tar().file("big", os.urandom(48 * MIB)), compression="none")
    layout.image([layer])
    scripted.rules.append(faulty.always(faulty.is_layer(layer), registries.slowly(8 * MIB)))
    started = time.monotonic()
    stoker.pull(scripted.reference())
    assert_has(stoker, layer)
    assert time.monotonic() - started < 5, "48 MiB at 8 MiB/s are 6 s"
    ranges = [e.range for e in scripted.requests() if e.range]
    assert len(ranges) > 2 and scripted.blob_bytes() < layer.size + MIB


# ---- broken HTTP


@pytest.mark.parametrize(
    ("talk", "needle"),
    [
        (faulty.endless_head, "limit"),
        (faulty.endless_line, "limit"),
        (faulty.endless_interim, "limit"),
        (faulty.no_http, "localhost"),
        (faulty.hang_up, "gave up after 3 attempts"),
        (faulty.half_a_head, "localhost"),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_broken_http(quick, make_raw, talk, needle):
    server = make_raw(talk)
    started = time.monotonic()
    quick.fails("pull", server.reference(), needles=[needle], timeout=30)
    assert time.monotonic() - started < 20
    quick.assert_store_empty()


def test_nobody_listens(quick):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"localhost:{s.getsockname()[1]}"
        quick.fails("pull", f"{address}/x", needles=[address, "gave up after 3 attempts"])


def test_unknown_host(quick):
    quick.configure(registries={"retries": 0})
    quick.fails("pull", "no-such-host.invalid/x", needles=["no-such-host.invalid"])


# ---- mirrors


def mirrored(stoker, registry, *mirrors):
    hosts = {registry.address: {"mirrors": [f"http://{m.address}" for m in mirrors]}}
    stoker.configure(registries={**QUICK, "hosts": hosts})


def test_mirror_first(stoker, scripted, small_image, layout, make_scripted):
    mirror = make_scripted(layout)
    mirrored(stoker, scripted, mirror)
    stoker.pull(scripted.reference())
    assert_has(stoker, small_image)
    assert scripted.requests() == [] and len(mirror.requests()) >= 3


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500, 503])
def test_mirror_that_fails(stoker, scripted, small_image, layout, make_scripted, code):
    mirrors = [make_scripted(layout), make_scripted(layout)]
    mirrors[0].rules.append(lambda e: faulty.status(code))
    mirrored(stoker, scripted, *mirrors)
    started = time.monotonic()
    stoker.pull(scripted.reference())
    assert time.monotonic() - started < 5
    assert mirrors[0].requests() and len(mirrors[1].requests()) >= 3
    assert scripted.requests() == []


def test_mirror_that_is_down(stoker, scripted, small_image, make_raw):
    down = make_raw(faulty.hang_up)
    down.stop()
    mirrored(stoker, scripted, down)
    stoker.pull(scripted.reference())
    assert_has(stoker, small_image)


def test_mirror_without_the_blobs(stoker, scripted, small_image, layout, make_scripted):
    mirror = make_scripted(layout)
    mirror.rules.append(faulty.always(is_blob, faulty.status(404)))
    mirrored(stoker, scripted, mirror)
    stoker.pull(scripted.reference())
    assert_has(stoker, small_image)
    assert all("/blobs/" in e.path for e in scripted.requests())


def test_mirror_that_breaks_in_the_middle(stoker, scripted, big_image, layout, make_scripted):
    mirror = make_scripted(layout)
    mirror.rules.append(faulty.always(faulty.is_layer(big_image), registries.cut_after(5 * MIB)))
    mirrored(stoker, scripted, mirror)
    stoker.pull(scripted.reference())
    assert_has(stoker, big_image)
    assert scripted.blob_bytes() + mirror.blob_bytes() < big_image.size + 2 * MIB


def test_mirrors_get_their_own_credentials(stoker, scripted, small_image, layout, make_scripted):
    mirror = make_scripted(layout)
    stoker.docker_login(scripted.address, "alice", "secret")
    for server in (mirror, scripted):
        server.rules.append(lambda e: faulty.status(401, WWW_Authenticate='Basic realm="x"'))
    mirrored(stoker, scripted, mirror)
    stoker.fails("pull", scripted.reference(), needles=["401"])
    assert mirror.requests() and not any("authorization" in e.headers for e in mirror.requests())


def test_mirror_with_wrong_content(stoker, scripted, small_image, layout, make_scripted):
    digest = layout.tagged()["digest"]
    mirror = make_scripted(layout)
    mirror.rules.append(faulty.always(faulty.is_manifest, registries.Answer(200, b"{}")))
    mirrored(stoker, scripted, mirror)
    stoker.pull(f"{scripted.address}/image@{digest}")
    assert_has(stoker, small_image)


# ---- proxies


def test_loopback_takes_no_proxy(stoker, scripted, small_image, make_raw):
    proxy = make_raw(faulty.hang_up)
    environment = {f"{p}_proxy": f"http://{proxy.address}" for p in ("http", "https", "all")}
    stoker.pull(scripted.reference(), env=environment)
    assert proxy.requests == []


def test_proxy_from_the_environment(quick, make_raw):
    """The proxy is asked for a host that does not exist, with its credentials and nobody else's."""

    def refuse(connection, _):
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        return True

    proxy = make_raw(refuse)
    quick.configure(registries={"retries": 0, "hosts": {"registry.invalid": {"http": True}}})
    address = f"http://user:word@{proxy.address}"
    quick.fails("pull", "registry.invalid/x", env={"http_proxy": address}, needles=["403"])
    assert proxy.requests[0].startswith("GET http://registry.invalid/v2/x/manifests/latest ")
    token = base64.b64encode(b"user:word").decode()
    assert f"Proxy-Authorization: Basic {token}" in proxy.requests[0]
    proxy.requests.clear()
    quick.fails("pull", "secure.invalid/x", env={"HTTPS_PROXY": address})
    assert proxy.requests[0].startswith("CONNECT secure.invalid:443 ")
    proxy.requests.clear()
    quick.fails(
        "pull", "secure.invalid/x", env={"HTTPS_PROXY": address, "NO_PROXY": ".invalid"},
        needles=["secure.invalid"],
    )  # fmt: skip
    assert proxy.requests == []


def test_proxy_from_the_configuration(quick, make_raw):
    proxy = make_raw(faulty.hang_up)
    hosts = {"registry.invalid": {"http": True, "proxy": f"http://{proxy.address}"}}
    quick.configure(registries={"retries": 0, "hosts": hosts})
    quick.fails("pull", "registry.invalid/x", env={"NO_PROXY": "*"})
    assert len(proxy.requests) == 1


# ---- the configuration and the helper process


def test_configuration_errors_name_their_place(stoker):
    stoker.configure(registries={"hosts": {"docker.io": {"mirrors": ["nowhere"]}}})
    stoker.fails("pull", "x", needles=["registries.hosts", "mirrors[0]", "is not a URL"])


def test_damaged_docker_configuration(stoker, scripted, small_image):
    folder = stoker.home / ".docker"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{")
    stoker.fails("pull", scripted.reference(), needles=["config.json"])
    assert scripted.requests() == []


def fetcher_of(process):
    """The pid of the fetcher process below, once it has confined itself."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for pid, (_, _, command, _) in node.processes().items():
            if command == "stoker fetcher" and pid in node.descendants(process.pid):
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
                if re.search(r"^Seccomp:\t2$", status, re.M):
                    return pid, status
        time.sleep(0.01)
    raise AssertionError("no fetcher")


def test_the_fetcher_is_confined_and_its_death_is_told(stoker, scripted, small_image):
    def wait(answer):
        answer.stall = 30
        return answer

    scripted.rules.append(faulty.always(is_blob, wait))
    with stoker.popen("pull", scripted.reference()) as process:
        pid, status = fetcher_of(process)
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == ["65534"] * 4 and fields["Gid"].split() == ["65534"] * 4
        assert fields["Groups"].strip() == ""
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(fields[name], 16) == 0, name
        assert fields["NoNewPrivs"] == "1"
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        assert environment.strip(b"\0") == b""
        os.kill(pid, 9)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "the fetcher was killed by signal 9" in err.splitlines()[-1]
