"""A dashboard for tests: its process, its API, its event streams."""

import http.client
import json
import os
import pathlib
import socket
import sys
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import Process, words


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """(status, reason) of an error."""
        return self.status, self.json["error"]["reason"]

    def ok(self):
        if self.status != 200:
            raise AssertionError(f"status {self.status}: {self.body!r}")
        return self


class Served(Process):
    """`espalier dashboard` of a coordinator, on a free port."""

    def __init__(self, server, log, *arguments, listen="127.0.0.1:0", options=(), environment=None):
        super().__init__(
            "espalier",
            ["--server", server, *options, "dashboard", "--listen", listen, *arguments],
            log,
            env=os.environ | (environment or {}),
        )
        line = words(self.line())
        self.address, self.url = line["address"], line["url"]
        self.host, port = self.address.rsplit(":", 1)
        self.port = int(port)

    def request(self, method, path, body=None, **headers):
        """Underscores in the names of headers stand for hyphens."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=cluster.DEADLINE_S)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.request("GET", "/api/v1/" + path, **headers)

    @property
    def session(self):
        return self.get("session").ok().json

    def post(self, path, body=None, **headers):
        """An action as the page does it, but for what `headers` say."""
        given = {
            "Content_Type": "application/json",
            "Origin": f"http://{self.address}",
            "X_Espalier_CSRF": headers.pop("token", None) or self.session["csrf_token"],
        } | headers
        given = {name: value for name, value in given.items() if value is not None}
        return self.request("POST", "/api/v1/" + path, json.dumps(body or {}), **given)

    def stream(self, path, **headers):
        return Stream(self, path, **headers)

    def raw(self, data, half_close=False, seconds=10):
        """Sends bytes, and returns what comes until the other side closes or is silent."""
        with socket.create_connection((self.host, self.port), timeout=seconds) as connection:
            answer = b""
            try:
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            try:
                while block := connection.recv(65536):
                    answer += block
            except OSError:
                pass
            return answer


class Stream:
    """An event stream; events are (name, data, id)."""

    def __init__(self, served, path, **headers):
        self._connection = http.client.HTTPConnection(
            served.host, served.port, timeout=cluster.DEADLINE_S
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("GET", "/api/v1/" + path, headers=named)
        self._response = self._connection.getresponse()
        if self._response.status != 200:
            answer = Answer(self._response)
            raise AssertionError(f"status {answer.status}: {answer.body!r}")
        self.headers = self._response.headers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._response.close()
        self._connection.close()

    def next(self):
        """The next event; comments are events without a name. None at the end of the stream."""
        fields = {}
        while True:
            line = self._response.readline().decode()
            if not line:
                return None
            if line == "\n":
                if set(fields) == {"retry"}:
                    fields = {}
                    continue
                data = fields.get("data")
                return fields.get("event"), data and json.loads(data), fields.get("id")
            name, _, value = line.rstrip("\n").partition(":")
            fields[name] = value.removeprefix(" ")

    def until(self, wanted, seconds=cluster.DEADLINE_S):
        """All events up to the first one for which `wanted`, a name or a function, holds."""
        name = wanted
        if isinstance(name, str):
            wanted = lambda event: event[0] == name
        end = time.monotonic() + seconds * cluster.SLOWNESS
        events = []
        while time.monotonic() < end:
            event = self.next()
            if event is None:
                raise AssertionError(f"the stream ended without {name}: {events[-5:]}")
            events.append(event)
            if wanted(event):
                return events
        raise AssertionError(f"not within {seconds} s: {name}; last seen: {events[-5:]}")


def quoted(text):
    return urllib.parse.quote(text, safe="")
