"""Makes seeds of what a client has sent: python3 cut.py NAME < RECORDING. How to record it is in README.md."""
import sys
from pathlib import Path

MODE_OFF, MODE_ON, TLS, WITH_PASSWORD, COM_CHANGE_USER = 0, 1, 8, 1, 0x11
corpus, name = Path(__file__).parent / "corpus", sys.argv[1]

sent, packets = sys.stdin.buffer.read(), []
while sent:
    end = 4 + int.from_bytes(sent[:3], "little")
    packets.append(sent[:end])
    # What comes after a request for TLS is no packet.
    sent = b"" if len(packets) == 1 and end == 36 else sent[end:]

# Packets of a login are numbered from 1, commands from 0.
commands = next((n for n, packet in enumerate(packets) if packet[3] == 0), len(packets))
login, session = packets[:commands], [packet[4:].replace(b"\xff", b"-") for packet in packets[commands:]]
server = TLS | MODE_ON if len(login[0]) == 36 else MODE_ON if len(login) == 1 else MODE_OFF
(corpus / "connection" / f"{name}.bin").write_bytes(bytes([server, 0, 0, 0, 0]) + b"".join(login))
if session:
    kind = WITH_PASSWORD if any(packet[0] == COM_CHANGE_USER for packet in session) else 0
    (corpus / "session" / f"{name}.bin").write_bytes(bytes([kind]) + b"\xff".join(session))
