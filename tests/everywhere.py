"""A machine that is every address there is, and every name.

Runs in a network namespace of its own, whose routes lead everything here: `everywhere.py NAMES
COMMAND...` answers DNS from NAMES (a JSON object of lists of addresses), takes connections on a few
ports of all addresses, runs COMMAND and prints, as JSON, which addresses were dialled. `/to?URL`
redirects to URL; everything else is a file of its own name.
"""

import json
import socket
import subprocess
import sys
import threading

names, command = json.loads(sys.argv[1]), sys.argv[2:]
dialled = set()


def answer_dns(server):
    while True:
        question, client = server.recvfrom(512)
        # Behind twelve bytes of header: the name, then two bytes each of type and class.
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode().lower())
            at += 1 + question[at]
        kind = int.from_bytes(question[at + 1 : at + 3], "big")
        family, wanted = (socket.AF_INET6, ":") if kind == 28 else (socket.AF_INET, ".")
        found = [it for it in names.get(".".join(labels), []) if (":" in it) == (wanted == ":")]
        packed = [socket.inet_pton(family, it) for it in found if kind in (1, 28)]
        answers = b"".join(
            b"\xc0\x0c" + question[at + 1 : at + 5] + b"\0\0\0\0" + len(it).to_bytes(2, "big") + it
            for it in packed
        )
        head = question[:2] + b"\x81\x80\0\1" + len(packed).to_bytes(2, "big") + b"\0\0\0\0"
        server.sendto(head + question[12 : at + 5] + answers, client)


def answer_http(connection):
    with connection, connection.makefile("rb") as reader:
        address, port = connection.getsockname()[:2]
        dialled.add(f"{address} {port}")
        while line := reader.readline():
            target = line.split(b" ")[1]
            while reader.readline() not in (b"\r\n", b"\n", b""):
                pass
            _, _, to = target.partition(b"/to?")
            status = b"302 Found\r\nLocation: " + to if to else b"200 OK"
            body = target.rpartition(b"/")[2]
            length = b"\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(b"HTTP/1.1 " + status + length + body)


def listen(family, port):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(("", port))
    listener.listen(256)
    while True:
        threading.Thread(target=answer_http, args=[listener.accept()[0]], daemon=True).start()


dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.bind(("127.0.0.1", 53))
threading.Thread(target=answer_dns, args=[dns], daemon=True).start()
for family in (socket.AF_INET, socket.AF_INET6):
    for port in (21, 22, 70, 80, 443, 873, 8080, 9418):
        threading.Thread(target=listen, args=[family, port], daemon=True).start()
ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
print(json.dumps({"dialled": sorted(dialled), "said": ran.stdout + ran.stderr}))
