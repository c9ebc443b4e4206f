"""The server process of the embedded LLM: llama.cpp on loopback, until no client is left.

    python -m prompts.local_server FOLDER GGUF NAME THREADS

Writes FOLDER/server.json when ready. Four times a second it tries to have FOLDER/clients.lock alone, which every client
holds shared for as long as it lives; when it can, nobody is left, and it ends.
"""

import fcntl
import json
import os
import sys
import threading
import time
from pathlib import Path

LOOK_S = 0.25  # seconds between two looks for clients
CONTEXT = 8192  # tokens of prompt and reply together
PREFIXES_MIB = 256  # evaluated prompts kept for their prefixes


def serve(folder: Path, model: Path, name: str, threads: int) -> None:
    """Serves `model` under `name` on a free port; does not return."""
    threading.Thread(target=end_when_alone, args=(folder,), daemon=True).start()
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 1  # in turn: side by side, requests would overwrite each other's prefixes and gain nothing
    params.n_ctx = CONTEXT
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = 0
    params.no_extra_bufts = True  # weights as they lie on disk: ready sooner, a quarter of the memory, not slower
    params.cache_ram_mib = PREFIXES_MIB
    params.warmup = False
    params.ui = False
    params.verbosity = 1
    server = xllamacpp.Server(params)
    partial = folder / "server.json.partial"
    partial.write_text(json.dumps({"base_url": f"{server.listening_address}/v1", "pid": os.getpid()}))
    partial.rename(folder / "server.json")
    threading.Event().wait()


def end_when_alone(folder: Path) -> None:
    """Ends the process, whatever it does, when no client holds the lock."""
    with (folder / "clients.lock").open("a") as lock:
        while True:
            time.sleep(LOOK_S)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            (folder / "server.json").unlink(missing_ok=True)
            os._exit(0)  # the lock goes with the process: a client that waits for it finds no server


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
