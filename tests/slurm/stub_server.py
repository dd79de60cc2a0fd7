"""The least that looks like a served model: /health, /v1/models with a key, and ways to misbehave. Standard library.

Takes what `vllm serve` takes and passes over what it does not know.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHILD = "import signal,sys,time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)  # stub-worker "


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds before it listens")
    parser.add_argument("--die-before", action="store_true", help="say 30 lines and fail before it listens")
    parser.add_argument("--die-after", type=float, default=0.0, help="seconds of life")
    parser.add_argument("--workers", type=int, default=0, help="children of their own session that ignore TERM")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--ignore-key", action="store_true", help="refuse every key")
    parser.add_argument("--headless", action="store_true", help="on another node: work, and serve nothing")
    parser.add_argument("--no-key", action="store_true", help="serve everybody")
    parser.add_argument(
        "--dump", default="", help="write the environment, and what can be written, as JSON to this file"
    )
    parser.add_argument("--marker", default="", help="shows in the workers' command lines")
    options, rest = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: stop(options.model))
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(options.workers):
        subprocess.Popen([sys.executable, "-c", CHILD + options.marker], start_new_session=True)
    if options.die_before:
        for number in range(30):
            print(f"loading shard {number}", flush=True)
        print("RuntimeError: CUDA out of memory", os.environ.get("VLLM_API_KEY"), file=sys.stderr, flush=True)
        sys.exit(3)
    time.sleep(options.slow)
    key = "nothing fits" if options.ignore_key else None if options.no_key else os.environ.get("VLLM_API_KEY")
    if options.dump:
        dump(options.dump, rest)

    if options.headless:
        time.sleep(600)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self.reply(200, {})
            elif key and self.headers.get("Authorization") != f"Bearer {key}":
                self.reply(401, {"error": "Unauthorized"})
            elif self.path == "/v1/models":
                self.reply(200, {"object": "list", "data": [{"id": options.model, "object": "model"}]})
            else:
                self.reply(404, {})

        def reply(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((options.host, options.port), Handler)
    print(f"stub serves {options.model} on {options.host}:{options.port}", flush=True)
    if options.die_after:
        threading.Timer(options.die_after, lambda: os._exit(4)).start()
    server.serve_forever()


def stop(model: str) -> None:
    print(f"stub of {model} stopped in order", flush=True)
    os._exit(0)


def dump(path: str, rest: list[str]) -> None:
    """The environment, the arguments that it does not know, and for each folder named here whether it can be written."""
    env = dict(os.environ)
    folders = {os.path.expanduser("~"), "/tmp", "/usr", *(v for k, v in env.items() if k.endswith(("_HOME", "_DIR")))}
    writable = {}
    for folder in folders:
        try:
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"written-{os.getpid()}"), "w"):
                pass
            writable[folder] = True
        except OSError:
            writable[folder] = False
    with open(f"{path}.new", "w") as file:
        json.dump({"env": env, "arguments": rest, "writable": writable, "argv": sys.argv}, file)
    os.rename(f"{path}.new", path)


if __name__ == "__main__":
    main()
