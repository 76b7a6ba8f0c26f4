# SPDX-License-Identifier: Apache-2.0
"""As much of S3 as s3fs needs, on loopback: GET with Range, HEAD, PUT, DELETE, the list of a bucket.
Requests must be signed, with the access key that it knows; the signature itself is not computed anew."""

import email.utils
import hashlib
import http.server
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape


class S3Stub:
    def __init__(self, bucket="data", key="AKIATEST"):
        self.objects, self.bucket, self.key, self.log = {}, bucket, key, []
        self.meta = {}
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do(self):
                stub.handle(self)

            do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = do

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def reply(self, request, status, body=b"", **headers):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def fail(self, request, status, code):
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
        self.reply(request, status, body.encode(), Content_Type="application/xml")

    def handle(self, request):
        url = urllib.parse.urlsplit(request.path)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        signed = request.headers.get("Authorization", "")
        self.log.append((request.command, request.path, signed))
        if not signed.startswith("AWS"):
            return self.fail(request, 403, "AccessDenied")
        if self.key not in signed:
            return self.fail(request, 403, "InvalidAccessKeyId")
        _, bucket, *rest = urllib.parse.unquote(url.path).split("/", 2)
        if bucket != self.bucket:
            return self.fail(request, 404, "NoSuchBucket")
        name = rest[0] if rest else ""
        if not name:
            return self.list(request, dict(urllib.parse.parse_qsl(url.query)))
        return self.object(request, name, body)

    def list(self, request, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys, folders = [], set()
        for name in sorted(self.objects):
            if name.startswith(prefix):
                rest = name[len(prefix) :]
                if delimiter and delimiter in rest:
                    folders.add(prefix + rest[: rest.index(delimiter) + 1])
                else:
                    keys.append(name)
        date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        text = "".join(
            f"<Contents><Key>{escape(k)}</Key><LastModified>{date}</LastModified>"
            f'<ETag>"{hashlib.md5(self.objects[k]).hexdigest()}"</ETag>'
            f"<Size>{len(self.objects[k])}</Size></Contents>"
            for k in keys
        ) + "".join(
            f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders
        )
        body = (
            "<?xml version='1.0' encoding='UTF-8'?>"
            "<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
            f"<Name>{self.bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(keys)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{text}</ListBucketResult>"
        )
        self.reply(request, 200, body.encode(), Content_Type="application/xml")

    def object(self, request, name, body):
        if request.command == "PUT":
            source = request.headers.get("x-amz-copy-source")
            if source:
                body = self.objects[urllib.parse.unquote(source).split("/", 2)[2]]
            self.objects[name] = body
            self.meta[name] = {
                k: v for k, v in request.headers.items() if k.lower().startswith("x-amz-meta")
            }
            if source:
                return self.reply(
                    request, 200, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>"
                )
            return self.reply(request, 200, ETag=f'"{hashlib.md5(body).hexdigest()}"')
        if request.command == "DELETE":
            self.objects.pop(name, None)
            return self.reply(request, 204)
        if name not in self.objects:
            return self.fail(request, 404, "NoSuchKey")
        data = self.objects[name]
        headers = {
            "ETag": f'"{hashlib.md5(data).hexdigest()}"',
            "Last_Modified": email.utils.formatdate(usegmt=True),
            "Content_Type": "application/octet-stream",
            **self.meta.get(name, {}),
        }
        wanted = request.headers.get("Range", "")
        if request.command == "HEAD" or not wanted.startswith("bytes="):
            return self.reply(request, 200, data, Content_Length=str(len(data)), **headers)
        first, last = wanted[6:].split("-")
        part = data[int(first) : int(last) + 1 if last else None]
        headers["Content_Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        return self.reply(request, 206, part, **headers)
