"""A DNS server whose answers change, and what listens where they lead.

Runs in a network namespace of its own: `rebinding.py PUBLIC COMMAND...` answers every question for
an address with PUBLIC and 127.0.0.1 in turns, listens on port 443 of both, runs COMMAND a few times
and prints how many connections each of the two got.
"""

import socket
import subprocess
import sys
import threading

public, command = sys.argv[1], sys.argv[2:]
connections = {public: 0, "127.0.0.1": 0}
questions = 0


def answer_dns(server):
    global questions
    while True:
        question, client = server.recvfrom(512)
        # Behind twelve bytes of header: the name, then two bytes each of type and class.
        end = question.index(b"\0", 12) + 5
        kind = int.from_bytes(question[end - 4 : end - 2], "big")
        answers = b""
        if kind == 1:
            address = [public, "127.0.0.1"][questions % 2]
            questions += 1
            answers = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(address)
        head = question[:2] + b"\x81\x80\0\1" + (b"\0\1" if answers else b"\0\0") + b"\0\0\0\0"
        server.sendto(head + question[12:end] + answers, client)


def count_connections(address):
    listener = socket.create_server((address, 443))
    while True:
        connection, _ = listener.accept()
        connections[address] += 1
        connection.close()


dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.bind(("127.0.0.1", 53))
threading.Thread(target=answer_dns, args=[dns], daemon=True).start()
for address in connections:
    threading.Thread(target=count_connections, args=[address], daemon=True).start()
for _ in range(8):
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
print(questions, connections[public], connections["127.0.0.1"])
