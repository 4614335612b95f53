"""A server on this machine that sends one file, or misbehaves as a test wants it to."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Answers every question by `answer(handler)`, and notes its path in `asked`. Used in a `with` block."""

    daemon_threads = True

    def __init__(self, content=b""):
        self.asked, self.answer, self.content = [], send, content
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server_port}"
        self.url = f"{self.root}/some/file.bin"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    def __exit__(self, *error):
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.answer(self)

    def log_message(self, *words):
        pass


def send(handler, content=None, status=200, length=None):
    """The server's content or another, with a length that may be untrue."""
    content = handler.server.content if content is None else content
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)
