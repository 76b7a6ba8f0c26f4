# SPDX-License-Identifier: Apache-2.0
"""What a job can reach: network_probe.py PROBE… prints a JSON list with an answer for each probe.
    tcp ADDRESS PORT     connect and read
    udp ADDRESS PORT     send and read
    bound ADDRESS PORT   as tcp, from a socket bound to the interface, which passes by routes
    frame ADDRESS PORT   a SYN by packet(7), past the kernel's routes and traffic control; the answer is
                         the TCP flags that come back ("SA": it is there)
    dns RESOLV NAME      ask the first server of the file RESOLV
Answers begin with "ok ", "refused " (at once: an error) or "timeout". A "+" before the kind says that it
should answer: then it is waited for much longer, which costs nothing where all is well."""

import concurrent.futures
import ipaddress
import itertools
import json
import re
import socket
import struct
import sys
import time

TIMEOUT = 1.5
PATIENCE = 20  # a machine may stall, and takes the program that forwards with it
INTERFACE = "eth0"
PACKET_QDISC_BYPASS = 20
source_ports = itertools.count(40000)


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def exchange(timeout, kind, address, port, bound=False, data=b"?"):
    with socket.socket(family(address), kind) as s:
        s.settimeout(timeout)
        if bound:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE.encode())
        s.connect((address, int(port)))
        if kind == socket.SOCK_DGRAM:
            s.send(data)
        return s.recv(4096)


def tcp(timeout, address, port):
    return "ok " + exchange(timeout, socket.SOCK_STREAM, address, port).decode()


def udp(timeout, address, port):
    return "ok " + exchange(timeout, socket.SOCK_DGRAM, address, port).decode()


def bound(timeout, address, port):
    return "ok " + exchange(timeout, socket.SOCK_STREAM, address, port, bound=True).decode()


def dns(timeout, resolv, name):
    with open(resolv) as f:
        server = re.search(r"^nameserver (\S+)", f.read(), re.M)[1]
    question = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0\0\x01\0\x01"
    query = struct.pack("!HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + question
    answer = exchange(timeout, socket.SOCK_DGRAM, server, 53, data=query)
    return f"ok {server} {ipaddress.ip_address(answer[-4:])}"


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def own_address(six):
    peer = "fd6c:8a1e:93d5::3" if six else "198.18.0.3"
    with socket.socket(family(peer), socket.SOCK_DGRAM) as s:
        s.connect((peer, 9))
        return s.getsockname()[0]


def syn_frame(address, port, source_port, own_mac):
    six = ":" in address
    source, target = (ipaddress.ip_address(a).packed for a in (own_address(six), address))
    segment = struct.pack("!HHIIHHHH", source_port, int(port), 1, 0, 0x5002, 65535, 0, 0)
    pseudo = (
        source
        + target
        + (struct.pack("!IHBB", 20, 0, 0, 6) if six else struct.pack("!BBH", 0, 6, 20))
    )
    segment = segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]
    if six:
        packet = struct.pack("!IHBB", 6 << 28, 20, 6, 64) + source + target
    else:
        packet = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0) + source + target
        packet = packet[:10] + struct.pack("!H", checksum(packet)) + packet[12:]
    kind = b"\x86\xdd" if six else b"\x08\x00"
    return bytes.fromhex("9a559a559a55") + own_mac + kind + packet + segment


def frame(timeout, address, port):
    six = ":" in address
    source_port = next(source_ports)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as s:
        s.bind((INTERFACE, 3))
        s.setsockopt(263, PACKET_QDISC_BYPASS, 1)
        s.settimeout(timeout)
        s.send(syn_frame(address, port, source_port, s.getsockname()[4]))
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            got, where = s.recvfrom(2048)
            at = 14 + (40 if six else 20)
            if where[2] == socket.PACKET_OUTGOING or len(got) < at + 20:
                continue
            if struct.unpack("!HH", got[at : at + 4]) == (int(port), source_port):
                flags = got[at + 13]
                return "ok SA" if flags & 0x12 == 0x12 else f"refused flags {flags}"
    raise TimeoutError


def run(words):
    begin = time.monotonic()
    timeout = PATIENCE if words[0].startswith("+") else TIMEOUT
    try:
        return globals()[words[0].lstrip("+")](timeout, *words[1:])
    except TimeoutError:
        return "timeout"
    except OSError as e:
        took = time.monotonic() - begin
        return f"refused {e.strerror}" if took < 0.5 else f"late {e.strerror}"


with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(run, [probe.split() for probe in sys.argv[1:]]))))
