"""Serve the page for trying it: `python3 serve.py [PORT]`, with nothing but Python.

It answers this machine alone. The two headers let the page use all cores; the page's service
worker adds them on hosts that cannot send them.
"""

import argparse
import contextlib
import functools
import http.server
import sys
from pathlib import Path

# Systems differ in what they call these.
TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}


class Handler(http.server.SimpleHTTPRequestHandler):
    def guess_type(self, path):
        return TYPES.get(Path(path).suffix) or super().guess_type(path)

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *arguments):
        pass


def read_port():
    parser = argparse.ArgumentParser(description="Serve the page on this machine, for trying it.")
    parser.add_argument("port", type=int, nargs="?", default=8000, help="default: 8000")
    port = parser.parse_args().port
    if not 0 <= port < 65536:
        parser.error(f"the port must be between 0 and 65535, but got {port}")
    return port


def main():
    port = read_port()
    site = Path(__file__).resolve().parent / "site"
    handler = functools.partial(Handler, directory=str(site))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        other = port + 1 if 1024 <= port < 65535 else 8001
        reason = f"port {port} cannot be used ({error.strerror})"
        sys.exit(f"{reason}: try `python3 serve.py {other}`")
    with server:
        print(f"http://localhost:{server.server_address[1]}/ (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
