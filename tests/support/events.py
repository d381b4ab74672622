# SPDX-License-Identifier: Apache-2.0
"""containerd's end of the events service, as a server of our own which can die and come back. What it has answered is
what it has taken; a request that came and was not answered does not count, as with a containerd that died then."""

import os
import socket
import struct
import threading

from tests.support import ttrpc


class Server:
    def __init__(self, path):
        self.path, self.taken, self.deaths = path, [], 0
        self.lock, self.connections, self.listener = threading.Lock(), set(), None
        self.live()

    @property
    def is_alive(self):
        return self.listener is not None

    def live(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(128)
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def die(self):
        """At once, with what is under way."""
        with self.lock:
            self.deaths += 1
            listener, self.listener = self.listener, None
            os.unlink(self.path)
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            for connection in self.connections:
                connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        if self.is_alive:
            self.die()

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                if self.listener is not listener:
                    connection.close()
                    return
                self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection, listener), daemon=True).start()

    def _serve(self, connection, listener):
        def read(size):
            data = b""
            while len(data) < size:
                part = connection.recv(size - len(data))
                if not part:
                    raise ConnectionError
                data += part
            return data
        try:
            while True:
                size, stream, _, _ = struct.unpack(">IIBB", read(10))
                request = ttrpc.decode(read(size))
                envelope = ttrpc.decode(ttrpc.decode(request[3][0])[1][0])
                event = ttrpc.decode(ttrpc.decode(envelope[4][0])[2][0])
                with self.lock:
                    if self.listener is not listener:
                        raise ConnectionError
                    # Answer and note in one: who dies in between has done neither.
                    connection.sendall(struct.pack(">IIBB", 0, stream, 2, 0))
                    self.taken.append((envelope[3][0].decode(), event[1][0].decode()))
        except (OSError, ConnectionError):
            pass
        finally:
            with self.lock:
                self.connections.discard(connection)
            connection.close()

    def count(self, topic):
        with self.lock:
            return sum(t == topic for t, _ in self.taken)

    def by_container(self):
        found = {}
        with self.lock:
            for topic, id in self.taken:
                found.setdefault(id, []).append(topic)
        return found
