"""A server over several nodes, by vLLM's flags: a simulated engine on each, and on the first one the URL of all.

Connections to it are dealt out to the engines in turn. `--truth FOLDER` gets each engine's truth log, by its rank.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench_tests.sim.simulator import SimSpec, Simulator


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def deal(options: argparse.Namespace, ports: list[int]) -> None:
    engines = itertools.cycle(ports)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", next(engines))
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))

    await (await asyncio.start_server(serve, options.host, options.port)).serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    for name in ("--host", "--master-addr", "--truth"):
        parser.add_argument(name, required=True)
    for name in ("--port", "--nnodes", "--node-rank", "--master-port"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--base-ms", type=float, default=5.0)
    parser.add_argument("--headless", action="store_true")
    options, _ = parser.parse_known_args()
    truth = f"{options.truth}/rank{options.node_rank}.jsonl"
    key = os.environ["VLLM_API_KEY"]
    simulator = Simulator(SimSpec(model=options.model, api_key=key, base_ms=options.base_ms, truth_log=truth))

    def stop(*_: object) -> None:
        print(f"engine {options.node_rank} stopped in order", flush=True)
        simulator.stop()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    port = int(simulator.start().rpartition(":")[2])
    if options.headless:
        for _ in range(100):
            try:
                head = socket.create_connection((options.master_addr, options.master_port), 1)
                break
            except OSError:
                signal.sigtimedwait([], 0.2)
        head.settimeout(None)
        head.sendall(f"{port}\n".encode())
        head.recv(1)  # until the first node has gone
        stop()
    meeting = socket.create_server(("", options.master_port))
    others = [meeting.accept()[0] for _ in range(options.nnodes - 1)]
    ports = [port, *(int(other.makefile().readline()) for other in others)]
    print(f"one server of {len(ports)} engines", flush=True)
    asyncio.run(deal(options, ports))


if __name__ == "__main__":
    main()
