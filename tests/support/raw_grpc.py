"""A gRPC client of sockets and bytes, which does only what it is told.

Libraries answer pings, open windows and send headers in one piece. Tests of hostile peers need those that
do not. Nothing here reads unless `pump` is called, and no window is opened unless `reading` is true.
Messages are built and taken apart by field numbers (`encode`, `decode`), without generated code.
"""

import gzip
import hashlib
import pathlib
import socket
import struct
import threading

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _header(name, value):
    """A literal header that changes no table."""
    name, value = name.encode(), value.encode()
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


def headers_block(path, scheme="http"):
    return b"".join(
        _header(name, value)
        for name, value in (
            (":method", "POST"),
            (":scheme", scheme),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        )
    )


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(*fields):
    """The bytes of a message of (number, value): an int, or what has a length."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return out


def decode(data):
    """{number: [values]}: ints, or bytes."""
    fields, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or (varint() if kind == 2 else None)
            value = data[at : at + size]
            at += size
        fields.setdefault(number, []).append(value)
    return fields


def grpc_message(data):
    return b"\x00" + struct.pack(">I", len(data)) + data


class Connection:
    """One HTTP/2 connection; `tls`: an SSLContext, where the peer wants one."""

    def __init__(self, address, reading=True, timeout=20, tls=None):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self._scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0))
        self.reading = reading
        self.closed = False
        self.heard = {}  # stream -> bytes of messages
        self.ended = {}  # stream -> raw trailers: headers of streams that ended
        self.arrived = 0  # bytes of the last pump
        self.next_stream = 1
        self._bytes = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def call(self, path, *messages, half_close=False):
        """Opens a stream; its number."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.socket.sendall(frame(HEADERS, END_HEADERS, stream, headers_block(path, self._scheme)))
        for message in messages:
            self.send(stream, message)
        if half_close:
            self.socket.sendall(frame(DATA, END_STREAM, stream))
        return stream

    def send(self, stream, message):
        self.socket.sendall(frame(DATA, 0, stream, grpc_message(message)))

    def pump(self, seconds):
        """Reads what comes within so many seconds, until something came; False at the end."""
        self.arrived = 0
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(1 << 16)
        except (socket.timeout, BlockingIOError):
            return True
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        self.arrived = len(data)
        self._bytes += data
        while len(self._bytes) >= 9:
            size = int.from_bytes(self._bytes[:3], "big")
            if len(self._bytes) < 9 + size:
                break
            kind, flags, stream = self._bytes[3], self._bytes[4], int.from_bytes(self._bytes[5:9], "big")
            self._handle(kind, flags, stream, self._bytes[9 : 9 + size])
            self._bytes = self._bytes[9 + size :]
        return True

    def _handle(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & ACK:
            self.socket.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, payload))
        elif kind == DATA:
            self.heard[stream] = self.heard.get(stream, b"") + payload
            if self.reading and payload:
                step = struct.pack(">I", len(payload))
                self.socket.sendall(frame(WINDOW_UPDATE, 0, 0, step) + frame(WINDOW_UPDATE, 0, stream, step))
        elif kind == HEADERS and flags & END_STREAM:
            self.ended[stream] = payload
        elif kind == RST_STREAM:
            self.ended.setdefault(stream, payload)

    def messages(self, stream):
        """The whole messages that came on the stream, decoded."""
        data, found = self.heard.get(stream, b""), []
        while len(data) >= 5:
            size = struct.unpack(">I", data[1:5])[0]
            if len(data) < 5 + size:
                break
            found.append(decode(data[5 : 5 + size]))
            data = data[5 + size :]
        return found


def digits_digest():
    """What a worker says of the content of the digits in this repository."""
    (path,) = (pathlib.Path(__file__).parents[2] / "data/digits").glob("*.csv*")
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    return hashlib.sha256(content + f"\n{len(content)}\n".encode()).hexdigest()


class FakeWorker:
    """Registers as a worker that has the digits, sends heartbeats, and does nothing with its tasks."""

    def __init__(self, address, name, beat=0.2):
        self._connection = Connection(address)
        digits = encode((1, "digits"), (2, 64), (3, 10), (4, 1797), (6, "csv"))
        self._description = digits + encode((11, digits_digest()))
        self._described = 0
        register = encode((1, name), (2, encode((1, 1), (2, 1))), (3, "0.1.0"), (4, digits), (5, 1))
        self._stream = self._connection.call(
            "/espalier.v1.WorkerService/Session", encode((1, register))
        )
        self._beat = beat
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._connection.socket.close()

    def _run(self):
        while not self._stop.wait(self._beat) and not self._connection.closed:
            try:
                self._connection.send(self._stream, encode((2, b"")))
                self._connection.pump(0.01)
                self._describe()
            except OSError:
                return

    def _describe(self):
        asked = self._told(4)
        for question in asked[self._described :]:
            answer = encode((1, decode(question)[1][0]), (2, self._description))
            self._connection.send(self._stream, encode((5, answer)))
        self._described = len(asked)

    def _told(self, kind):
        return [m[kind][0] for m in self._connection.messages(self._stream) if kind in m]

    @property
    def session(self):
        """As the coordinator gave it, or None before it did."""
        return decode(told[0])[9][0] if (told := self._told(1)) else None

    @property
    def task(self):
        """The decoded fields of the first task, or None."""
        return decode(told[0]) if (told := self._told(2)) else None

    def header(self):
        """A header for the task's result that the coordinator admits."""
        task = self.task
        model = decode(task[8][0])
        sections = task[20]
        return encode(
            (1, task[1][0]),
            (2, b"update-" + task[1][0]),
            (3, self.session),
            (4, task[6][0]),
            (5, model[2][0]),
            (6, sum(decode(section)[5][0] for section in sections)),
            (7, "0" * 64),
            (9, 100),
            *((17, section) for section in sections),
        )

    def blob(self):
        """The digest of the model's values, which are not inside the task."""
        return decode(decode(self.task[8][0])[7][0])[1][0]
